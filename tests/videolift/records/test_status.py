"""Where a run stands, in words."""

from videolift.records.status import Loss, Status, VideoStatus, excluded


def test_a_video_taken_out_by_decision_is_named_with_its_reason_alone():
    assert Status((excluded("v000123", "test"),)).lines()[0] == "  excluded    v000123: test"


def test_a_lost_video_is_named_with_stage_reason_and_remedy():
    lost = VideoStatus("a", "quarantined", loss=Loss("depth", "flat", "depth is flat", "Use another backend."))
    assert Status((lost,)).lines()[0] == "  quarantined a: depth: depth is flat. Use another backend."
