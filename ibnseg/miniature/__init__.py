"""Miniature datasets: procedural street scenes in the layouts of the real ones.

A *scene* is content alone: what stands where, seen through a pinhole camera, with Cityscapes ids.
A *world* is appearance alone: light, sky, colour cast, contrast, texture, lens and sensor. All
worlds show the same distribution of scenes, so what a network loses between two of them it loses
to appearance. Scenes make the demo and the tests; no number measured on them says anything about
the real datasets.

From a seed to files: street (a scene, of fronts and things) -> photo (as a world shows it) ->
layouts (as a dataset is downloaded) -> sets.
"""

from .layouts import LAYOUTS, Layout
from .photo import drivable, render
from .sets import DEFAULT, RECORD, counts, write
from .worlds import WORLDS, World

__all__ = ['DEFAULT', 'LAYOUTS', 'RECORD', 'WORLDS', 'Layout', 'World', 'counts', 'drivable',
           'render', 'write']  # fmt: skip
