"""``disk_budget_gb``: no video is started that might not fit."""

import pytest

from stages.engine import budget
from stages.engine.budget import Budget
from videolift.errors import Transient
from videolift.paths import Layout

KB = 1e-6  # in GB


@pytest.fixture
def layout(tmp_path):
    """6 kB of artifacts, the largest of depth 2 kB; a segment of 1 kB is among them."""
    layout = Layout(tmp_path)
    for name, size in (("frames/a.h5", 3000), ("depth/a.h5", 2000), ("depth/.segments/b-123/0.h5", 1000)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    return layout


def test_a_video_is_started_while_the_largest_so_far_would_fit(layout):
    Budget(layout, 8 * KB).admit("depth", running=0)


def test_no_video_is_started_when_the_largest_so_far_would_not_fit(layout):
    with pytest.raises(Transient, match=r"disk_budget_gb \(7e-06\).*Raise it"):
        Budget(layout, 7 * KB).admit("depth", running=0)


def test_what_is_being_written_counts(layout):
    with pytest.raises(Transient):
        Budget(layout, 9 * KB).admit("depth", running=1)


def test_videos_started_since_the_last_look_count(layout):
    room = Budget(layout, 10.5 * KB)
    room.admit("depth", running=0)
    room.admit("depth", running=0)
    with pytest.raises(Transient):
        room.admit("depth", running=0)


def test_without_a_budget_nothing_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "_sizes", lambda folder: pytest.fail("it looked"))
    Budget(Layout(tmp_path / "missing"), None).admit("depth", running=99)
