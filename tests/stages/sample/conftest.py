"""Short, small clips of the sample, rendered once per module run."""

import pytest

from stages.sample import Truth, render

SIZE = {"width": 192, "height": 144}


@pytest.fixture(scope="session")
def right() -> Truth:
    """Long enough to hold the grasp (2.5 s) and the first of the lift."""
    return render("orbit_rgbd", frames=38, **SIZE)


@pytest.fixture(scope="session")
def left() -> Truth:
    """The same with the other hand."""
    return render("orbit_rgbd", frames=38, side="left", **SIZE)
