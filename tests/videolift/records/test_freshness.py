"""Freshness: a stage that was added later and is switched off leaves finished work finished."""

from videolift.inputs.video import Video
from videolift.records.freshness import Variant, judge
from videolift.stage_table import SPECS, STAGES

VIDEO = Video("v", "/nowhere/v.mp4", missing=True)
ADDITIONS = {stage for stage in STAGES if SPECS[stage].addition}


def test_an_addition_that_is_off_is_no_input_while_another_stage_that_is_off_is_one(tmp_path):
    identities = {name: {"name": name} for name in STAGES if name not in ADDITIONS} | {"hands": None}
    packaging = judge(VIDEO, Variant(identities), lambda stage, video: None, tmp_path)["create_h5"]
    assert not ADDITIONS & packaging.inputs.keys()
    assert packaging.inputs["hands"] == "none"


def test_an_addition_that_is_on_is_waited_for():
    assert Variant({"masks": {"name": "sam2"}}).reads("tracks") == ("ingest", "depth", "masks")
    assert Variant({"masks": None}).reads("tracks") == ("ingest", "depth")
