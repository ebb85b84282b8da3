"""Everything of ibnseg that MMSegmentation's registries hold; importing this registers it."""

from . import backbones, measure, pipeline, train  # noqa: F401
from .measure import metric  # noqa: F401
