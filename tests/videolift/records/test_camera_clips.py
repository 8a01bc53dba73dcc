"""`videolift calibrate`: curves of finished clips in, rows of cameras.yaml out, which the same table then reads."""

import pytest
from typer.testing import CliRunner

from videolift.cli import app
from videolift.config import Config
from videolift.inputs.focal_curves import FOCAL_FACTORS, FocalCurve
from videolift.inputs.table import read_table
from videolift.paths import Layout
from videolift.records.freshness import Variant
from videolift.records.receipts import Receipt, write_receipt
from videolift.records.runs import Entry, write_run


def calibrate(folder, curves):
    """Calibrates clips of (camera, focal length over the width, rise 10 % away) as a run in ``folder`` left them."""
    rows = "".join(f"v{number}.mp4,{camera}\n" for number, (camera, *_) in enumerate(curves))
    (folder / "list.csv").write_text(f"path,camera\n{rows}")
    for number in range(len(curves)):
        (folder / f"v{number}.mp4").write_bytes(b"12345")
    layout = Layout(folder / "output")
    videos = read_table(folder / "list.csv")
    entries = [Entry(video, "b0") for video in videos]
    write_run(layout.run("abc"), Config(videos=str(folder / "list.csv")), [Variant({})], entries, {})
    for video, (_, focal, rise) in zip(videos, curves, strict=True):
        told = FocalCurve(focal * 683, (683, 384), tuple(rise * ((factor - 1) / 0.1) ** 2 for factor in FOCAL_FACTORS))
        receipt = Receipt(video.id, "depth", "done", "f", {}, {}, figures=told.figures() | {"valid_share": 0.0})
        write_receipt(layout.receipt("depth", video.id), receipt)
    return CliRunner().invoke(app, ["calibrate", "--output", str(layout.output)])


def test_clips_of_one_camera_give_one_focal_length_which_the_table_then_reads(tmp_path):
    result = calibrate(tmp_path, [("helmet", 0.38, 0.06), ("helmet", 0.41, 0.006), ("helmet", 0.39, 0.008)])
    assert result.exit_code == 0, result.output
    assert "helmet: focal length 0.38" in result.output
    for video in read_table(tmp_path / "list.csv"):
        assert video.camera["how"] == "estimated"
        assert video.camera["K"][0][0] / video.camera["size"][0] == pytest.approx(0.384, rel=0.02)


def test_a_camera_that_no_clip_shows_is_not_written_and_said(tmp_path):
    result = calibrate(tmp_path, [("helmet", 0.38, 0.06), ("tripod", 0.9, 0.004)])
    assert result.exit_code == 1
    assert "tripod: focal length 0.90" in result.output
    assert "by 1 clip, error up by 0.3% within 10 %; not known" in result.output
    assert [video.camera is None for video in read_table(tmp_path / "list.csv")] == [False, True]


def test_without_any_curve_it_says_what_to_run_first(tmp_path):
    result = calibrate(tmp_path, [("", 0.5, 0.05)])
    assert result.exit_code != 0
    assert "column `camera`" in str(result.exception)
