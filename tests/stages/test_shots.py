"""A stage over a video with cuts: its backend meets every shot alone, and what it makes is joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.backend import Backend, Inputs, Quality
from stages.depth.motion.camera_path import CameraPath
from stages.depth.writing import finish_depth, write_frames
from stages.sample import render
from stages.sample.artifacts import write_truth_artifacts
from stages.shots import MIN_SHOT_FRAMES, has_cuts, process_by_shot
from stages.tracks import TracksSettings
from stages.tracks.flow import BACKEND as FLOW
from videolift.artifacts import Clip, ClipWriter, Depth, DepthWriter, Hands, HandsWriter, Tracks, TracksWriter
from videolift.errors import BadInput
from videolift.geometry import pinhole
from videolift.inputs.video import Video

SHOT = np.array([0] * 12 + [-1] * 2 + [1] * 8 + [2] * 2, np.int32)
T = len(SHOT)
ROW = Video("cut", "/nowhere/cut.mp4")


@pytest.fixture(scope="module")
def truth():
    return render("orbit", frames=T, width=64, height=48)


@pytest.fixture
def clip(tmp_path, truth):
    writer = ClipWriter(tmp_path / "clip.h5")
    writer.append_frames(truth.rgb, truth.pts_seconds)
    writer.append(shot=SHOT)
    writer.describe(fps=10.0, source={"sha256": "ab"})
    writer.publish()
    with Clip(tmp_path / "clip.h5") as opened:
        yield opened


class Solver(Backend):
    """Depth that is the shot's number of frames; notes what it was asked, fails where told."""

    name, version, writer = "solver", 1, DepthWriter

    def __init__(self, *, fail: tuple[int, ...] = (), die: int | None = None, finds_camera: bool = True) -> None:
        self.fail, self.die, self.finds_camera = fail, die, finds_camera
        self.asked: list[tuple[int, int]] = []
        self.K_given: list[bool] = []

    def process(self, inputs, out, *, shrink, progress):
        clip = inputs.clip
        frames = len(clip)
        if frames == self.die:
            raise KeyboardInterrupt
        self.asked.append(clip.cut_from)
        self.K_given.append("K_given" in clip.attrs)
        if frames in self.fail:
            raise BadInput("dark", f"nothing in {frames} frames", "Light it.")
        focal = 40.0 + frames
        K = np.array(clip.attrs["K_given"]) if "K_given" in clip.attrs else pinhole(focal, clip.width, clip.height)
        intrinsics = (
            clip.known_camera()[1] if "K_given" in clip.attrs else "estimated" if self.finds_camera and frames > 10 else "assumed"
        )
        T_camera_world = np.tile(np.eye(4), (frames, 1, 1))
        path = CameraPath(T_camera_world, np.ones(frames, bool), K, "sfm", intrinsics)
        image = np.full((clip.height, clip.width), frames, np.float32)
        share = write_frames(out, lambda k: image, path, segment=100, report=lambda done: progress(done, frames))
        figures = {"valid_share": share, "keyframes": float(frames)}
        return finish_depth(out, path, ("solved",), backend="solver", tier="C", scale="metric", figures=figures)


def solve(tmp_path, clip, backend, name="depth") -> tuple[Depth, Quality]:
    out = DepthWriter(tmp_path / f"{name}.h5", segments=tmp_path / f"{name}.segments")
    seen: list[tuple[int, int]] = []
    try:
        quality = process_by_shot(
            backend, Inputs(ROW, clip), out, shrink=1.0, progress=lambda done, total: seen.append((done, total))
        )
        out.publish()
    finally:
        out.discard()
    assert all(0 <= done <= total == T for done, total in seen)
    return Depth(tmp_path / f"{name}.h5"), quality


def test_every_shot_is_solved_alone_and_frames_between_are_unknown(tmp_path, clip):
    assert has_cuts(clip)
    backend = Solver()
    depth, quality = solve(tmp_path, clip, backend)
    assert sorted(backend.asked) == [(0, T), (14, T)]
    assert depth[:].max((1, 2)).tolist() == [12] * 12 + [0] * 2 + [8] * 8 + [0] * 2
    assert depth.pose_valid.tolist() == (SHOT >= 0).tolist()[:22] + [False] * 2
    assert quality.frames == T
    assert quality.figures["keyframes"] == 20
    assert quality.figures["valid_share"] == pytest.approx(1.0)
    assert quality.checks == (
        "shot 0 (frames 0 to 11): solved",
        "shot 1 (frames 14 to 21): solved",
        f"shot 2 (frames 22 to 23): nothing: it has 2 frames, {MIN_SHOT_FRAMES} are needed",
    )
    assert [about["first"] for about in depth.attrs["shots"]] == [0, 14, 22]
    assert "refused" in depth.attrs["shots"][2]
    assert not (tmp_path / "depth.segments").exists()


def test_a_video_has_one_camera_that_of_the_longest_shot_that_shows_it(tmp_path, clip):
    backend = Solver()
    depth, _ = solve(tmp_path, clip, backend)
    assert backend.K_given == [False, True]
    assert depth.K[0, 0] == 52
    assert [about.get("intrinsics") for about in depth.attrs["shots"]] == ["estimated", "estimated", None]


def test_a_shot_that_cannot_be_solved_leaves_the_others(tmp_path, clip):
    depth, quality = solve(tmp_path, clip, Solver(fail=(12,)))
    assert depth[:].max((1, 2)).tolist() == [0] * 14 + [8] * 8 + [0] * 2
    assert depth.attrs["shots"][0]["refused"] == "nothing in 12 frames"
    assert "shot 0 (frames 0 to 11): nothing: nothing in 12 frames" in quality.checks


def test_a_video_none_of_whose_shots_can_be_solved_is_refused(tmp_path, clip):
    with pytest.raises(BadInput, match="none of its 3 shots can be used, the longest because nothing in 12 frames") as caught:
        solve(tmp_path, clip, Solver(fail=(12, 8)))
    assert (caught.value.code, caught.value.remedy) == ("dark", "Light it.")


def test_shots_that_a_killed_attempt_had_finished_are_not_solved_again(tmp_path, clip):
    with pytest.raises(KeyboardInterrupt):
        solve(tmp_path, clip, Solver(die=8))
    again = Solver()
    depth, _ = solve(tmp_path, clip, again)
    assert again.asked == [(14, T)]
    whole, _ = solve(tmp_path, clip, Solver(), "whole")
    assert Path(depth.path).read_bytes() == Path(whole.path).read_bytes()


def test_tracks_of_a_shot_are_those_of_the_shot_filmed_alone(tmp_path, clip, truth):
    write_truth_artifacts(tmp_path, "v", truth, window_length=5, stride=2, grid_px=8)
    backend = FLOW(TracksSettings(window_length=5, stride=2, points=100), root=Path())
    out = TracksWriter(tmp_path / "tracks.h5")
    with Depth(tmp_path / "depth/v.h5") as depth:
        process_by_shot(backend, Inputs(ROW, clip, depth), out, shrink=1.0, progress=lambda *_: None)
    out.publish()
    tracks = Tracks(tmp_path / "tracks.h5")
    assert tracks.window_start.tolist() == [0, 2, 4, 6, 14, 16]
    assert "refused" in tracks.attrs["shots"][2]
    first = TracksWriter(tmp_path / "first.h5")
    part = render("orbit", frames=12, width=64, height=48)
    write_truth_artifacts(tmp_path / "part", "v", part, window_length=5, stride=2, grid_px=8)
    with Clip(tmp_path / "part/frames/v.h5") as alone, Depth(tmp_path / "part/depth/v.h5") as depth:
        backend.process(Inputs(ROW, alone, depth), first, shrink=1.0, progress=lambda *_: None)
    first.publish()
    for joined, own in zip(tracks.windows(0, 4), Tracks(tmp_path / "first.h5").windows(0, 4), strict=True):
        assert np.array_equal(joined.xyz_cam0, own.xyz_cam0, equal_nan=True)
        assert np.array_equal(joined.visible, own.visible)


class Finder(Backend):
    """One hand in every frame; its side is known."""

    name, version, writer = "finder", 1, HandsWriter

    def __init__(self) -> None:
        pass

    def process(self, inputs, out, *, shrink, progress):
        n = len(inputs.clip)
        pose = np.tile(np.eye(4), (n, 2, 1, 1))
        out.append_frames(
            valid=np.ones((n, 2), bool),
            interpolated=np.zeros((n, 2), bool),
            score=np.ones((n, 2)),
            keypoints_px=np.ones((n, 2, 21, 2)),
            T_camera_wrist=pose,
            joints_camera=np.ones((n, 2, 21, 3)),
            mano_pose=np.full((n, 2, 15, 3, 3), np.nan),
            method=np.ones((n, 2)),
            side_known=np.ones((n, 2), bool),
        )
        out.put(betas=np.zeros((2, 10)))
        out.describe(backend="finder", has_mano=False, wrist_method={"left": "depth", "right": "depth"})
        return Quality(n, (), {"left_valid_share": 1.0})


def test_no_hand_lies_between_shots(tmp_path, clip):
    out = HandsWriter(tmp_path / "hands.h5")
    process_by_shot(Finder(), Inputs(ROW, clip), out, shrink=1.0, progress=lambda *_: None)
    out.publish()
    hands = Hands(tmp_path / "hands.h5")
    known = np.array([True] * 12 + [False] * 2 + [True] * 8 + [False] * 2)
    assert np.array_equal(hands.valid, np.stack([known, known], 1))
    assert np.isnan(hands.T_camera_wrist[~known]).all()
    assert hands.side_known.all()
    assert hands.attrs["wrist_method"]["left"] == "depth"


def test_depth_that_failed_in_a_shot_is_no_metres_there(tmp_path, clip):
    depth, _ = solve(tmp_path, clip, Solver(fail=(8,)))
    scales = {}

    class Looker(Finder):
        def process(self, inputs, out, *, shrink, progress):
            scales[len(inputs.clip)] = inputs.depth.scale, inputs.depth.attrs.get("backend"), len(inputs.depth)
            return super().process(inputs, out, shrink=shrink, progress=progress)

    out = HandsWriter(tmp_path / "h.h5")
    process_by_shot(Looker(), Inputs(ROW, clip, depth), out, shrink=1.0, progress=lambda *_: None)
    out.discard()
    assert scales == {12: ("metric", "solver", 12), 8: ("arbitrary", "solver", 8)}
