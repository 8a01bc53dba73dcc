"""Where a run stands, in words."""

from videolift.records.status import Loss, Status, VideoStatus, excluded


def test_a_video_taken_out_by_decision_is_named_with_its_reason_alone():
    assert Status((excluded("v000123", "test"),)).lines()[0] == "  excluded    v000123: test"


def test_a_lost_video_is_named_with_stage_reason_and_remedy():
    lost = VideoStatus("a", "quarantined", loss=Loss("depth", "flat", "depth is flat", "Use another backend."))
    assert Status((lost,)).lines()[0] == "  quarantined a: depth: depth is flat. Use another backend."


def test_the_table_counts_what_is_in_the_files():
    videos = (
        VideoStatus("a", "done", content=(90, 5000, 40)),
        VideoStatus("b", "done", content=(10, 0, 0)),
        VideoStatus("c", "pending"),
    )
    assert Status(videos).table()[-1] == "packaged   100 windows, 5000 points; of 2 videos 1 have points, 1 hands"
    assert "packaged" not in Status(videos[2:]).table()[-1]
