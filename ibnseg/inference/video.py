"""Videos through OpenCV: their frames, writing one whole or not at all, flicker."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError


def length(path: Path) -> int:
    """Return how many frames a video says it has, 0 where it does not say."""
    capture = cv2.VideoCapture(str(path))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def rate(path: Path) -> float:
    """Return a video's frames a second, 25 where it does not say."""
    capture = cv2.VideoCapture(str(path))
    try:
        found = capture.get(cv2.CAP_PROP_FPS)
        return found if math.isfinite(found) and 0 < found <= 1000 else 25.0
    finally:
        capture.release()


def frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames, uint8 BGR (H, W, 3).

    Raises DataError: no frame can be read, or, after those that can, fewer than the video says.
    """
    if not path.is_file():
        raise FileNotFoundError(2, 'no such video', str(path))
    number = 0
    for frame in _read(path):
        number += 1
        yield frame
    if not number:
        raise DataError(f'{path}: OpenCV can read no frame of this video')
    if (said := length(path)) > number + 1:  # many containers count one too many
        raise DataError(f'{path}: the video ends after {number} of {said} frames')


def _read(path: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    try:
        while True:
            there, frame = capture.read()
            if not there:
                return
            yield frame
    finally:
        capture.release()


@contextlib.contextmanager
def writer(path: Path, frames_a_second: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield `write(frame)`, uint8 RGB (H, W, 3) of one size; the MP4 is there once all are written.

    Raises OSError where OpenCV cannot write it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.stem}.part{path.suffix}')
    out = None

    def write(frame: np.ndarray) -> None:
        nonlocal out
        height, width = (side + side % 2 for side in frame.shape[:2])  # MP4 takes even sides
        grown = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
        if out is None:
            code = cv2.VideoWriter.fourcc(*'mp4v')
            out = cv2.VideoWriter(str(part), code, frames_a_second, (width, height))
            if not out.isOpened():
                raise OSError(f'{path}: OpenCV cannot write this video ({width}x{height})')
        out.write(cv2.cvtColor(np.pad(frame, grown, 'edge'), cv2.COLOR_RGB2BGR))

    try:
        yield write
        if out is not None:
            out.release()
            part.replace(path)
    finally:
        if out is not None:
            out.release()
        part.unlink(missing_ok=True)


class Flicker:
    """The share of pixels whose class changes from a frame to the next.

    Once at the same place, where what moves changes, too; once along the motion of the frame (dense
    optical flow, OpenCV's DIS): what then changes is the network's own unrest, and what came into
    view.
    """

    def __init__(self) -> None:
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self._in_place: list[float] = []
        self._along: list[float] = []
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def add(self, frame: np.ndarray, labels: np.ndarray) -> None:
        """Add a frame, uint8 RGB (H, W, 3), with its label map, uint8 (H, W)."""
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if self._before is not None and self._before[0].shape == grey.shape:
            old, seen = self._before
            self._in_place.append(float((labels != seen).mean()))
            back = self._flow.calc(grey, old, None)
            y, x = np.indices(grey.shape, np.float32)
            x, y = x + back[..., 0], y + back[..., 1]
            height, width = grey.shape
            inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
            moved = cv2.remap(seen, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            if inside.any():
                self._along.append(float((labels != moved)[inside].mean()))
        self._before = grey, labels

    def shares(self) -> tuple[float, float] | None:
        """Return (at the same place, along the motion), means over frames; None of one frame."""
        if not self._along:
            return None
        return float(np.mean(self._in_place)), float(np.mean(self._along))
