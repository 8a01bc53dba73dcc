"""Rendered clips with their truth, rendered once for all tests of the stages."""

from __future__ import annotations

import pytest

from stages.sample import Truth, render


@pytest.fixture(scope="session")
def orbit_truth() -> Truth:
    """The sample's orbit clip, whole: 60 frames at 512 x 384, right hand."""
    return render("orbit_rgbd")


@pytest.fixture(scope="session")
def small_truth() -> Truth:
    """24 frames at 192 x 144 from a hand-held camera, left hand."""
    return render("handheld_rgbd", frames=24, width=192, height=144)
