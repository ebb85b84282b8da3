"""The pass over the training photos in which layers observe what they need to know of them."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.dist import get_dist_info, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmseg.registry import HOOKS
from torch import nn

from .. import progress
from ..errors import DataError
from .recorder import recording, with_loss

#: RobustNet's change of a photo for ISW: all of it always.
JITTER = (
    dict(type='ColorJitter', brightness=0.8, contrast=0.8, saturation=0.8, hue=0.3, prob=1),
    dict(type='RandomGaussianBlur', sigma=(0.15, 1.3), prob=1),
)


@HOOKS.register_module()
class StatisticsPass(Hook):
    """In a training, have the layers that can `observe` see pairs of a photo and its change.

    Before iteration `at` the network, in evaluation mode and without gradients, sees the pairs,
    whole photos in their own size, and each such layer gets its own output, (2, C, H, W), the
    changed photo first: `layer.observe(y)`. After each trial, `layer.settle(trial)`, in which
    processes sum what they saw. Photos and changes follow from (seed, iteration, trial) alone, and
    the training's own random numbers are left as they were.

    A resumed run makes the pass where the uninterrupted one did. One that finds a layer not
    settled after that, by its buffer `settled`, makes it at once. A run that is asked to end within
    a pass saves itself as it was before the pass.

    Args:
        at: iteration, or a share of the run (below 1). RobustNet's is after 6 of 51.7 epochs.
        images: photos of a trial; None: all, as where there are fewer.
        trials: each over photos in a new random order.
        change: transforms of the second picture; None: photos come one by one, (1, C, H, W), as the
            training cuts and changes them.
        every: iterations from one pass to the next, or a share of the run (below 1); None: a single
            one.
        until: share of the run after which no pass begins.

    Raises:
        ValueError: a wrong argument, or a network without layers that observe.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        at: float = 0.116,
        images: int | None = 500,
        trials: int = 10,
        change: Sequence[Mapping[str, Any]] | None = JITTER,
        every: float | None = None,
        until: float = 1,
    ):
        if at < 0 or (at >= 1 and at != int(at)):
            raise ValueError(f'StatisticsPass: at is {at!r}; expected an iteration or a share < 1')
        whole = dict(images=images, trials=trials)
        if not (isinstance(every, float) and 0 < every < 1):
            whole['every'] = every
        for name, value in whole.items():
            if not (isinstance(value, int) and value >= 1) and (value, name) not in _NONE:
                raise ValueError(
                    f'StatisticsPass: {name} is {value!r}; expected a whole number from 1'
                )
        self.at, self.images, self.trials, self.every, self.until = at, images, trials, every, until
        self.change = None if change is None else [dict(step) for step in change]

    def before_train(self, runner: Any) -> None:
        if not with_loss(_bare(runner.model), 'observe'):
            raise ValueError(
                'custom_hooks has a StatisticsPass, and no layer of model.backbone observes '
                "anything. Leave it away, or choose a placement such as 'isw'"
            )

        if self._iteration(runner) >= runner.max_iters:
            raise ValueError(
                f'StatisticsPass: at is {self.at}, and the training ends after {runner.max_iters} '
                'iterations. Choose an earlier one, or a share of the run, as 0.116'
            )

    def _iteration(self, runner: Any) -> int:
        return int(self.at if self.at >= 1 else self.at * runner.max_iters)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        layers = with_loss(_bare(runner.model), 'observe')
        at = self._iteration(runner)
        late = runner.iter > at and not all(layer.settled for layer in layers)
        every = self.every
        if every and every < 1:
            every = max(1, round(every * runner.max_iters))
        again = every and runner.iter > at and (runner.iter - at) % every == 0
        if runner.iter == at or late or (again and runner.iter < self.until * runner.max_iters):
            what = 'pairs of photos' if self.change is not None else 'photos'
            runner.logger.info(f'pass over {self.trials} x {self.images or "all"} {what}')
            # Lines: the training shows a bar already.
            step = progress.Lines('statistics pass') if is_main_process() else _silent
            before = [copy.deepcopy(layer.state_dict()) for layer in layers]
            # None in others' trainings, which end as they do.
            saver = next((hook for hook in runner.hooks if hasattr(hook, 'end_before')), None)
            with torch.random.fork_rng():
                asked = self.run(runner, layers, step, saver)
            if asked:
                for layer, state in zip(layers, before, strict=True):
                    layer.load_state_dict(state)
                saver.end_before(runner, asked)

    @torch.no_grad()
    def run(
        self,
        runner: Any,
        layers: Sequence[nn.Module],
        step: Callable[[int, int], None],
        saver: Any = None,
    ) -> int:
        """Make the pass now; `step` is told how many of how many trials are done.

        Returns the signal that asked the run to end within it, as `saver` finds it now and then; 0
        where it came to its end.
        """
        model, dataset = _bare(runner.model), runner.train_dataloader.dataset
        seed = runner.train_dataloader.sampler.seed
        # Only where each process has a pair: all of them have to ask at once.
        everywhere = min(len(dataset), self.images or len(dataset)) // get_world_size()
        asks = range(0, everywhere if saver else 0, _ASK_EVERY)
        with evaluating(model):
            for trial in range(self.trials):
                for number, pair in enumerate(self._pairs(dataset, (seed, runner.iter, trial))):
                    if number in asks and (asked := saver.asked_before(runner)):
                        return asked
                    data = model.data_preprocessor(pair, training=False)
                    with recording(model.backbone, 'observe') as seen:
                        model.extract_feat(data['inputs'])
                    for layer, y in seen:
                        layer.observe(y)
                for layer in layers:
                    layer.settle(trial)
                step(trial + 1, self.trials)
        return 0

    def _pairs(self, dataset: Any, entropy: tuple[int, int, int]) -> Iterator[dict[str, list]]:
        """Yield the pairs of a trial that are this process's."""
        views = self._views(dataset)
        rank, size = get_dist_info()
        order = np.random.default_rng(entropy).permutation(len(dataset))[: self.images]
        for place in range(rank, len(order), size):
            index, where = int(order[place]), (*entropy, place)
            try:
                pair = [view[where, index] for view in views]
            except DataError as error:
                error.args = (f'{error}. The statistics pass reads whole photos', *error.args[1:])
                raise
            yield {key: [one[key] for one in pair] for key in ('inputs', 'data_samples')}

    def _views(self, dataset: Any) -> list[Any]:
        """Return the dataset as the pass sees it, once for each picture of a photo."""
        if self.change is None:
            return [dataset]
        load, pack = dict(type='LoadPhoto'), dict(type='PackSegInputs')
        plain, changed = copy.copy(dataset), copy.copy(dataset)
        plain.pipeline = Compose([load, pack])
        changed.pipeline = Compose([load, *self.change, pack])
        return [changed, plain]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Have a network in evaluation mode, and each of its modules in its former one after that."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


#: Pairs of a process after which it looks whether the run is asked to end.
_ASK_EVERY = 8

#: What may be None.
_NONE = ((None, 'images'), (None, 'every'))


def _silent(done: int, total: int) -> None:
    pass


def check_observed(model: nn.Module, hooks: Sequence[Hook]) -> None:
    """Raise ValueError where layers of a model have to observe, and no pass lets them."""
    kinds = sorted({layer.abbr for layer in with_loss(model, 'observe')})
    if kinds and not any(isinstance(hook, StatisticsPass) for hook in hooks):
        raise ValueError(
            f'model.backbone has layers that do nothing until a pass over the photos '
            f"({', '.join(kinds)}). Add dict(type='StatisticsPass') to custom_hooks"
        )


def _bare(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
