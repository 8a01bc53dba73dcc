"""The sample: four short clips of a hand at work, rendered, with everything about them exactly known."""

from stages.sample.clips import CLIPS, ClipSpec, render
from stages.sample.files import VERSION, sample_rows, write_sample
from stages.sample.truth import Truth

__all__ = ["CLIPS", "VERSION", "ClipSpec", "Truth", "render", "sample_rows", "write_sample"]
