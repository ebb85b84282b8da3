"""SWAD's choice of the part of a training whose weights are averaged, from validation losses."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

Weights = Mapping[str, Tensor]


def drawn_in(mean: Weights, new: Weights, count: int) -> dict[str, Tensor]:
    """Return the mean of `count` + 1 weights, of that of `count` and of a further one."""
    if not count:
        return {key: value.clone() for key, value in new.items()}
    return {key: mean[key].lerp(value, 1 / (count + 1)) for key, value in new.items()}


class LossValley:
    """The mean of the weights of those segments of a training that lie in the loss's valley.

    It is told of each segment the mean weights and the validation loss at its end. The valley is
    found when the first of `converge` losses is the least of them; a loss is high from there on
    where it is above 1 + `ratio` times their mean. Of the last `tolerance` segments it begins
    with the one after the last high one. It ends before the first of `tolerance` losses in turn
    that are all high, or before the high ones with which the training ends.

    Attributes:
        found, ended: indices of the segment whose loss is the least, and of that at whose end the
            valley was known to have ended; -1 as long as there is none.
        threshold: losses above are high.
        count, first, last: how many segments are in the average, and their indices.

    Source: Cha et al., "SWAD: Domain Generalization by Seeking Flat Minima", NeurIPS 2021.
    """

    def __init__(self, converge: int = 3, tolerance: int = 6, ratio: float = 0.3):
        for name, value in (('converge', converge), ('tolerance', tolerance)):
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f'SWAD: {name} is {value!r}; expected a whole number from 1')
        if not ratio >= 0:
            raise ValueError(f'SWAD: ratio is {ratio!r}; expected 0 or more')
        self.converge, self.tolerance, self.ratio = converge, tolerance, ratio
        self.seen = self.count = 0
        self.found = self.ended = self.first = self.last = -1
        self.begins, self.threshold = 0, float('inf')
        self.average: dict[str, Tensor] = {}
        #: The newest segments: index, loss, mean weights.
        self.segments: list[tuple[int, float, Weights]] = []

    def end(self, mean: Weights, loss: float) -> None:
        """Take in a segment: its mean weights, which are kept, and the loss at its end."""
        index, self.seen = self.seen, self.seen + 1
        if self.ended >= 0:
            return
        kept = max(self.converge, self.tolerance)
        self.segments = [*self.segments, (index, float(loss), mean)][-kept:]
        self._go_on(index)
        if self.ended >= 0:
            self.segments = []

    def _go_on(self, index: int) -> None:
        if self.found < 0 and self._finds(index):
            self.begins = self._begin()
        if self.found < 0:
            return
        recent = self.segments[-self.tolerance :]
        over = len(recent) == self.tolerance and self._high(recent)
        self.ended = index if over else -1
        for segment in self.segments:
            if self.begins <= segment[0] <= index - self.tolerance + (not over):
                self._add(segment)
                self.begins = segment[0] + 1

    def _finds(self, index: int) -> bool:
        losses = [loss for _, loss, _ in self.segments[-self.converge :]]
        if len(losses) < self.converge or min(losses) < losses[0]:
            return False
        self.found = index - self.converge + 1
        self.threshold = sum(losses) / len(losses) * (1 + self.ratio)
        return True

    def _begin(self) -> int:
        begin = self.found
        for index, loss, _ in reversed(self.segments[-self.tolerance :]):
            if index >= self.found:
                continue
            if loss > self.threshold:
                break
            begin = index
        return begin

    def _high(self, segments: list[tuple[int, float, Weights]]) -> bool:
        return all(loss > self.threshold for _, loss, _ in segments)

    def _add(self, segment: tuple[int, float, Weights]) -> None:
        index, _, mean = segment
        self.first = index if self.first < 0 else self.first
        self.average, self.last = drawn_in(self.average, mean, self.count), index
        self.count += 1

    def finish(self) -> Weights:
        """Return the average; of a valley never found, the last segment's mean.

        Raises ValueError where there was no segment.
        """
        if not self.seen:
            raise ValueError('SWAD: the training has ended before its first segment')
        if self.found < 0:
            return self.segments[-1][2]
        if self.ended < 0:
            rest = self._rest()
            while rest and not self._high(rest):
                self._add(rest.pop(0))
        return self.average

    def _rest(self) -> list[tuple[int, float, Weights]]:
        return [segment for segment in self.segments if segment[0] >= self.begins]

    def state_dict(self) -> dict[str, Any]:
        """Return its state as plain values and tensors."""
        return dict(vars(self), segments=[list(segment) for segment in self.segments])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, segments=[tuple(segment) for segment in state['segments']])


class ReleasedValley(LossValley):
    """As the released code finds and averages it.

    The segment of the least loss counts twice, of those before it the first does not count, and
    segments that came after it before the valley was found may count twice.
    """

    def _go_on(self, index: int) -> None:
        recent = self.segments[-self.tolerance :]
        if self.found < 0:
            if self._finds(index):
                self.average = dict(self.segments[-self.converge][2])  # the first one replaces it
                for segment in self._looked_back(recent):
                    self._add(segment)
        elif recent[0][0] >= self.found:
            if self._high(recent):
                self.ended = index
            else:
                self._add(recent[0])

    def _looked_back(self, recent: list) -> list:
        before = self.tolerance - self.converge
        if before <= 0:
            return self.segments[-self.converge :][1 : 1 - before]
        earlier = recent[: before + 1]
        high = [i for i, (_, loss, _) in enumerate(earlier) if loss > self.threshold]
        return earlier[(high[-1] + 1 if high else 0) + 1 :]

    def _rest(self) -> list:
        return self.segments[-self.tolerance :][1:]
