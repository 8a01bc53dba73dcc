"""Packaging of videos with cuts, and of shots that hold too little: no window across a cut, none of what is refused, all named."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from videolift.artifacts import Clip, ClipWriter, Depth, DepthWriter, Tracks, TracksWriter
from videolift.dataset.file import PackagedFile
from videolift.dataset.shot_gates import Gates, ShotWorth, common_scale, content_refusal
from videolift.dataset.verify import verify_file
from videolift.errors import BadInput, CorruptFile
from videolift.shot_ranges import Shot
from videolift.store import write_attribute

ONE, TWO = (0, 6), (8, 14)
SHOT = np.array([0] * 6 + [-1] * 2 + [1] * 6, np.int32)
STARTS = [0, 8]  # windows of 5 frames, stride 2: one per shot of 6


def remade_depth(path, source, shots=(), **changes):
    """Depth of the whole clip with what ``shots`` says of each, images and poses changed by ``changes`` (functions of arrays)."""
    with Depth(source) as depth:
        image, valid = depth[:].copy(), depth.pose_valid.copy()
        image[6:8], valid[6:8] = 0, False
        for change in changes.values():
            change(image, valid)
        out = DepthWriter(path)
        out.put(K=depth.K)
        out.append_frames(image, depth.T_camera_world, valid)
        about = {name: depth.attrs[name] for name in ("tier", "scale", "pose", "intrinsics")}
        stated = [
            about | {"first": first, "end": end} | said for (first, end), said in zip((ONE, TWO), shots or ({}, {}), strict=True)
        ]
        out.declare(backend="test", **about)
        out.describe(shots=stated)
    out.publish()
    return Depth(path)


@pytest.fixture
def cut(tmp_path, truth, truth_folder):
    """Clip, depth and tracks of two shots with a dissolve between."""
    writer = ClipWriter(tmp_path / "clip.h5")
    writer.append_frames(truth.rgb, truth.pts_seconds)
    writer.append(shot=SHOT)
    writer.describe(fps=10.0, source={"sha256": "ab"})
    writer.publish()
    tracks = TracksWriter(tmp_path / "tracks.h5")
    with Tracks(truth_folder / "tracks_3d/clip.h5") as known:
        for window in known.windows(0, len(known)):
            if window.start in STARTS:
                tracks.append_window(window)
        tracks.describe(**{name: known.attrs[name] for name in ("backend", "window_length", "stride", "query", "seed")})
    tracks.publish()

    def parts(shots=(), **changes):
        depth = remade_depth(tmp_path / "depth.h5", truth_folder / "depth/clip.h5", shots, **changes)
        return {"clip": Clip(tmp_path / "clip.h5"), "depth": depth, "tracks": Tracks(tmp_path / "tracks.h5")}

    return parts


def test_no_window_crosses_a_cut(package_clip, cut):
    published, quality = package_clip(**cut())
    with PackagedFile(published.path) as file:
        assert file.window_start.tolist() == STARTS
        assert file.array("tracks/window_start").tolist() == STARTS
        assert file.shot.tolist() == SHOT.tolist()
        assert file.unbroken == [ONE, TWO]
        assert not np.isfinite(file.array("camera/T_camera_world")[6:8]).any()
        assert [one["windows"] for one in file.attribute("shots")] == [1, 1]
    assert quality.figures["windows"] == 2
    assert verify_file(published.path) == []


def test_a_shot_of_a_worse_tier_gives_no_windows_and_is_named(package_clip, cut):
    published, quality = package_clip(**cut(({}, {"tier": "D", "pose": "static"})))
    assert any(check.startswith("shot 1 (frames 8 to 13) gives no windows: depth cannot be observed") for check in quality.checks)
    with PackagedFile(published.path) as file:
        assert file.window_start.tolist() == [0]
        assert file.attribute("tier") == "A"
        assert "refused" in file.attribute("shots")[1]
        assert not file.array("depth")[8:].any()
        assert not file.array("camera/pose_valid")[8:].any()
    assert verify_file(published.path) == []


def test_a_shot_in_another_unit_gives_no_windows(package_clip, cut):
    _, quality = package_clip(**cut(({}, {"scale": "arbitrary"})), hands=None)
    assert any("shot 1 (frames 8 to 13) gives no windows: the scale" in check for check in quality.checks)


def test_an_assumed_plane_does_not_drive_out_what_was_measured():
    def shot(number, frames, **kind):
        return ShotWorth(Shot(number, 0, frames), 1, **kind)

    measured, assumed = shot(0, 20, tier="C", scale="arbitrary"), shot(1, 90, tier="D", scale="assumed")
    assert common_scale([measured, assumed]) == "arbitrary"
    assert common_scale([measured, shot(2, 30, tier="C", scale="hand")]) == "hand"
    assert common_scale([measured, shot(2, 20, tier="C", scale="hand")]) == "hand"
    assert common_scale([]) is None


def test_a_shot_that_holds_too_little_gives_no_windows_and_says_what_would_help(package_clip, cut):
    def empty(image, valid):
        image[8:] = 0

    _, quality = package_clip(**cut(empty=empty))
    (named,) = [check for check in quality.checks if check.startswith("shot 1")]
    assert "0.0% of the pixels have depth, create_h5.min_valid_depth is 10%" in named


def test_a_file_whose_every_shot_is_refused_is_quarantined_with_the_longest_ones_reason(package_clip, cut):
    with pytest.raises(BadInput, match="none of its 2 shots can be packaged") as caught:
        package_clip(**cut(({"tier": "D"}, {"tier": "D"})))
    assert caught.value.code == "tier_below_minimum"


def test_a_shot_that_another_stage_could_not_do_is_named(package_clip, cut):
    _, quality = package_clip(**cut(({"refused": "nothing moves"}, {})))
    assert "shot 0 (frames 0 to 5) gives no windows: depth: nothing moves" in quality.checks


@pytest.mark.parametrize(
    ("change", "settings", "named"),
    [
        (lambda image, valid: image.__setitem__(slice(None), 0), {}, "0.0% of the pixels have depth"),
        (lambda image, valid: valid.__setitem__(slice(4, None), False), {}, "camera pose, create_h5.min_valid_poses is 50%"),
        (lambda image, valid: None, {"min_points": 5000}, "points in the mean, create_h5.min_points is 5000"),
    ],
)
def test_an_empty_video_is_refused_with_figures_and_what_would_help(package_clip, truth_folder, tmp_path, change, settings, named):
    with Depth(truth_folder / "depth/clip.h5") as depth:
        image, valid = depth[:].copy(), depth.pose_valid.copy()
        change(image, valid)
        out = DepthWriter(tmp_path / "d.h5")
        out.put(K=depth.K)
        out.append_frames(image, depth.T_camera_world, valid)
        out.declare(backend="test", **{name: depth.attrs[name] for name in ("tier", "scale", "pose", "intrinsics")})
    out.publish()
    with pytest.raises(BadInput, match=named) as caught:
        package_clip(depth=Depth(tmp_path / "d.h5"), settings=settings)
    assert caught.value.code == "too_little"
    assert "lower what is named here" in caught.value.remedy


@pytest.mark.parametrize(("tier", "helps"), [("C", "set preset: laptop"), ("B", "take another depth backend")])
def test_nobody_is_sent_to_the_preset_that_the_depth_came_from(tier, helps):
    short = {"valid_depth": 0.05, "valid_poses": 0.1, "points": 2.0}
    refused = content_refusal(ShotWorth(Shot(0, 0, 20), 11, tier=tier, **short), Gates("C", 10, 0.1, 0.5))
    assert refused.remedy.count(helps) == 3
    assert ("laptop" in refused.remedy) == (tier == "C")


def test_a_file_with_shots_that_it_does_not_state_is_not_read(package_clip, cut):
    published, _ = package_clip(**cut())
    with h5py.File(published.path, "a") as file:
        write_attribute(file, "shots", [{}])
    with PackagedFile(published.path) as file, pytest.raises(CorruptFile, match="frames are of shot 1, there are 1"):
        _ = file.window_start
