"""What is thrown away on request, and what stays."""

from videolift.inputs.video import Video
from videolift.paths import Layout
from videolift.records.batches import Assignment
from videolift.records.maintenance import everything_of


def test_removing_a_video_leaves_one_whose_name_begins_alike(tmp_path):
    layout = Layout(tmp_path)
    layout.assignment.parent.mkdir(parents=True)
    Assignment().extended([Video(id, "/x") for id in ("clip", "clip-2")], 2).append_new(layout.assignment)
    for video in ("clip", "clip-2"):
        layout.segments("depth", video, "0123456789abcdef").mkdir(parents=True)
    assert everything_of(layout, ["clip"]).paths == (layout.segments("depth", "clip", "0123456789abcdef"),)
