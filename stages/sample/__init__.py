"""The sample: four short clips of a hand at work, rendered, with everything about them exactly known."""

from stages.sample.clips import CLIPS, ClipSpec, render
from stages.sample.truth import Truth

__all__ = ["CLIPS", "ClipSpec", "Truth", "render"]
