"""The flow backend: windows against the renderer's truth, and what must not go wrong silently."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.tracks import path_shares
from stages.backend import Inputs
from stages.sample import render
from stages.sample.artifacts import write_truth_artifacts
from stages.settings import stage_block
from stages.tracks.chain import DenseFlow, FlowPair, FlowSettings
from stages.tracks.flow import BACKEND, track_windows
from stages.tracks.queries import Queries, window_queries
from stages.tracks.windowed import LiftingScene, tracked_starts
from videolift.artifacts import Clip, Depth, DepthWriter, Tracks
from videolift.errors import BadInput, CorruptFile
from videolift.inputs.catalog import Video

L = 10


def quiet(done, total):
    pass


def settings(**changes):
    return stage_block("tracks", **({"backend": "flow", "seed": 0, "points": 300} | changes))


def windows_of(truth, starts, *, points=3000, E=None, depth=None):
    block, size = settings(points=points), (truth.rgb.shape[2], truth.rgb.shape[1])
    scene = LiftingScene(truth.depth_m if depth is None else depth, truth.K, truth.T_camera_world if E is None else E)

    def queries(start):
        return window_queries(block, video="v", window_start=start, size_px=size, mask=truth.instance[start])

    return list(track_windows(truth.rgb, starts, L, DenseFlow(FlowSettings(), size), scene, queries))


def errors(truth, windows):
    """Per true visible point and step after the first: 3D error in metres, and whether the point moves in the world."""
    found, moving = [], []
    for window in windows:
        xyz, _, seen = truth.tracks(window.start, window.uv_px[0].astype(float), L)
        error = np.where(window.valid3d, np.linalg.norm(window.xyz_cam0 - xyz, axis=-1), np.inf)[1:]
        found.append(error[seen[1:]])
        moving.append(np.broadcast_to(np.isin(window.label, truth.moving_ids), seen[1:].shape)[seen[1:]])
    return np.concatenate(found), np.concatenate(moving)


@pytest.fixture(scope="module")
def orbit_windows(orbit_truth):
    """Four windows of the orbit clip: before, during and after the grasp."""
    return windows_of(orbit_truth, range(2, 51, 16))


@pytest.fixture(scope="module")
def tripod_truth():
    """The first 12 frames of the tripod clip, small."""
    return render("tripod_rgbd", frames=12, width=144, height=192)


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_truth):
    folder = tmp_path_factory.mktemp("small")
    write_truth_artifacts(folder, "clip", small_truth, grid_px=48)
    return folder


def run(folder, out, block, *, segments=None, progress=quiet, **inputs):
    with Clip(folder / "frames/clip.h5") as clip, Depth(folder / "depth/clip.h5") as depth:
        backend = BACKEND(block, root=Path())
        writer = backend.writer(out, segments=segments)
        row = Video("clip", "clip.mp4")
        try:
            quality = backend.process(
                Inputs(row, **({"clip": clip, "depth": depth} | inputs)), writer, shrink=1.0, progress=progress
            )
            writer.publish()
        finally:
            writer.discard()
    return quality


def test_points_of_an_rgbd_clip_are_within_a_centimetre(orbit_truth, orbit_windows, record_property):
    error, moving = errors(orbit_truth, orbit_windows)
    record_property("share_within_1cm", float((error < 0.01).mean()))
    record_property("moving_share_within_1cm", float((error[moving] < 0.01).mean()))
    assert (error < 0.01).mean() >= 0.95
    assert (error[moving] < 0.01).mean() >= 0.85
    assert np.median(error) < 0.0015


def test_right_flow_returns_to_where_it_began_and_flow_that_drifts_does_not(small_truth, monkeypatch):
    starts = range(4, 14, 3)
    right_px = [window.forward_backward_px for window in windows_of(small_truth, starts, points=800)]
    assert max(right_px) < 0.5
    between, drift_px = DenseFlow.between, 0.4  # too little for any single step to be mistrusted

    def drifting(self, first, second):
        pair = between(self, first, second)
        return FlowPair(pair.forward + np.float32([drift_px, 0]), pair.backward)

    monkeypatch.setattr(DenseFlow, "between", drifting)
    drifted = windows_of(small_truth, starts, points=800)
    assert np.mean([window.visible[-1].mean() for window in drifted]) > 0.5
    assert [window.forward_backward_px for window in drifted] == pytest.approx([drift_px * (L - 1)] * 4, rel=0.15)


def test_a_window_whose_points_are_all_lost_at_once_has_no_error(small_truth, monkeypatch):
    monkeypatch.setattr(DenseFlow, "follow", lambda self, pair, uv_px: (uv_px, np.zeros(len(uv_px), bool)))
    (window,) = windows_of(small_truth, range(4, 5), points=100)
    assert np.isnan(window.forward_backward_px)


def test_visibility_agrees_with_the_truth(orbit_truth, orbit_windows):
    same = []
    for window in orbit_windows:
        _, _, seen = orbit_truth.tracks(window.start, window.uv_px[0].astype(float), L)
        same.append((window.visible == seen)[1:])
    assert np.mean(same) > 0.94


def test_extrinsics_are_composed_on_the_right(orbit_truth):
    # E_0 inv(E_k), not inv(E_0) E_k: they agree for a first camera at the origin, so the window starts elsewhere
    turned = np.eye(4)
    turned[:3, :3], turned[:3, 3] = [[0, 0, 1], [1, 0, 0], [0, 1, 0]], [3.0, -2.0, 1.0]
    (window,) = windows_of(orbit_truth, range(20, 21), E=orbit_truth.T_camera_world @ turned)
    error, moving = errors(orbit_truth, [window])
    assert np.median(error[~moving]) < 0.002


def test_a_static_point_stands_still_in_the_first_camera(orbit_truth):
    (window,) = windows_of(orbit_truth, range(40, 41))
    static = ~np.isin(window.label, orbit_truth.moving_ids) & window.visible.all(0) & window.valid3d.all(0)
    moved = np.linalg.norm(window.xyz_cam0[-1] - window.xyz_cam0[0], axis=-1)[static]
    assert np.median(moved) < 0.002


def test_point_n_is_the_same_point_at_every_step(small_truth):
    (window,) = windows_of(small_truth, range(8, 9), points=800)
    _, uv, seen = small_truth.tracks(8, window.uv_px[0].astype(float), L)
    assert window.uv_px.shape[1] == len(window.label)
    near = np.linalg.norm(window.uv_px - uv, axis=-1)
    assert not window.visible.all()  # some points are lost on the way, and lose their place to nobody
    assert np.median(near[seen]) < 0.5


def test_a_standing_point_is_right_while_it_is_hidden_and_visible_again_afterwards(orbit_truth, orbit_windows):
    right, back = [], []
    for window in orbit_windows:
        assert window.visible[0].all()
        xyz, _, seen = orbit_truth.tracks(window.start, window.uv_px[0].astype(float), L)
        stands = ~np.isin(window.label, orbit_truth.moving_ids)
        hidden = (~seen[1:-1]).any(0) & seen[0] & seen[-1] & stands
        right.append(np.linalg.norm(window.xyz_cam0[:, hidden] - xyz[:, hidden], axis=-1).max(0))
        back.append(window.visible[-1, hidden])
    assert len(np.concatenate(back)) > 20
    assert np.mean(np.concatenate(right) < 0.01) > 0.9
    assert np.mean(np.concatenate(back)) > 0.9


def test_whole_paths_are_right_and_say_where_they_are_seen(orbit_truth, orbit_windows):
    """Shares of points, by the worst step of their window, as `benchmarks.tracks --unseen` prints them."""
    standing, moving = path_shares(orbit_truth, orbit_windows)
    assert standing.where_seen >= 0.95
    assert standing.where_flagged >= 0.97
    assert standing.flag_right >= 0.97
    assert moving.where_seen >= 0.80
    assert moving.where_flagged >= 0.93
    assert moving.flag_right >= 0.85


def test_depth_that_jumps_while_the_image_stands_still_is_not_seen_and_moves_nothing(tripod_truth):
    depth = tripod_truth.depth_m[:12].copy()
    depth[4, 20:70, 20:70] += 3.0  # the sensor sees through the table for one frame
    window, flickering = (windows_of(tripod_truth, range(1), points=800, depth=z)[0] for z in (tripod_truth.depth_m, depth))
    u, v = window.uv_px[0].T
    hit = (u > 22) & (u < 68) & (v > 22) & (v < 68) & ~np.isin(window.label, tripod_truth.moving_ids)
    assert hit.sum() > 30
    assert window.visible[:, hit].all()
    assert not flickering.visible[4, hit].any()
    assert flickering.visible[[0, 1, 2, 3, 5, 6, 7, 8, 9]][:, hit].all()
    assert np.abs(flickering.xyz_cam0[:, hit] - window.xyz_cam0[:, hit]).max() < 1e-3


@pytest.mark.parametrize(
    ("frames", "length", "stride", "starts"),
    [
        (25, 10, 10, [0, 10]),
        (30, 10, 10, [0, 10, 20]),
        (12, 10, 1, [0, 1, 2]),
        (10, 10, 5, [0]),
        (24, 10, 4, [0, 4, 8, 12]),
        (24, 4, 7, [0, 7, 14]),
    ],
)
def test_windows_start_every_stride_and_a_short_tail_is_none(frames, length, stride, starts):
    assert list(tracked_starts(frames, length, stride)) == starts


def test_a_clip_shorter_than_a_window_is_refused_with_what_to_do():
    with pytest.raises(BadInput, match="9 frames, a window needs 10.*ingest.fps"):
        tracked_starts(9, 10, 1)


@pytest.mark.parametrize("stride", [1, 3, 10, 13])
def test_every_frame_is_read_once_in_order(small_truth, stride):
    read = []

    class Counting:
        def __getitem__(self, k):
            read.append(k)
            return small_truth.rgb[k]

    size = (192, 144)
    queries = Queries(np.array([[90, 70]], np.float32), np.zeros(1, np.uint8))
    scene = LiftingScene(small_truth.depth_m, small_truth.K, small_truth.T_camera_world)
    starts = tracked_starts(24, 6, stride)
    found = list(track_windows(Counting(), starts, 6, DenseFlow(FlowSettings(), size), scene, lambda start: queries))
    assert [window.start for window in found] == list(starts)
    assert read == sorted({k for start in starts for k in range(start, start + 6)})


def test_a_window_is_the_same_alone_and_among_others(small_truth):
    alone = windows_of(small_truth, range(5, 6), points=200)[0]
    among = windows_of(small_truth, range(3, 8), points=200)[2]
    assert np.array_equal(alone.uv_px, among.uv_px)
    assert np.array_equal(alone.xyz_cam0, among.xyz_cam0, equal_nan=True)
    assert alone.forward_backward_px == among.forward_backward_px


def test_pixels_without_depth_and_frames_without_pose_are_invalid_not_wrong(small_truth):
    E, depth = small_truth.T_camera_world.copy(), small_truth.depth_m.copy()
    E[12] = np.nan
    depth[:, :72] = 0
    (window,) = windows_of(small_truth, range(9, 10), points=200, E=E, depth=depth)
    assert not window.valid3d[3].any()
    assert np.isnan(window.xyz_cam0[~window.valid3d]).all()
    assert np.isfinite(window.xyz_cam0[window.valid3d]).all()
    upper = window.uv_px[0, :, 1] < 71
    assert not window.valid3d[0, upper].any()
    assert window.valid3d[0, ~upper].all()


def test_a_first_frame_without_pose_leaves_a_window_without_3d(small_truth):
    E = small_truth.T_camera_world.copy()
    E[9] = np.nan
    (window,) = windows_of(small_truth, range(9, 10), points=200, E=E)
    assert not window.valid3d.any()
    assert window.visible.any()


def test_the_artifact_holds_every_point_with_its_flags(tmp_path, files, small_truth):
    quality = run(files, tmp_path / "tracks.h5", settings(stride=5))
    with Tracks(tmp_path / "tracks.h5") as tracks:
        assert tracks.window_start.tolist() == [0, 5, 10]
        assert {tracks.attrs[key] for key in ("backend", "query")} == {"flow", "grid"}
        assert (tracks.attrs["window_length"], tracks.attrs["stride"], tracks.attrs["seed"]) == (10, 5, 0)
        asked = len(window_queries(settings(), video="clip", window_start=0, size_px=(192, 144), mask=None))
        window = tracks[1]
        assert window.xyz_cam0.shape == (10, asked, 3)
        assert window.frames_tracked == 10
        assert not window.visible.all()
        assert quality.figures["windows"] == 3
        error, _ = errors(small_truth, [tracks[w] for w in range(3)])
    assert np.median(error) < 0.003


def test_a_killed_video_goes_on_at_its_last_segment_and_ends_the_same(tmp_path, files):
    block = settings(segment_s=0.4)  # four windows

    def stop(done, total):
        if done == 9:
            raise KeyboardInterrupt

    run(files, tmp_path / "whole.h5", block)
    with pytest.raises(KeyboardInterrupt):
        run(files, tmp_path / "cut.h5", block, segments=tmp_path / "segments", progress=stop)
    seen = []
    quality = run(
        files, tmp_path / "cut.h5", block, segments=tmp_path / "segments", progress=lambda done, total: seen.append((done, total))
    )
    with Tracks(tmp_path / "whole.h5") as whole, Tracks(tmp_path / "cut.h5") as cut:
        for name in ("window_start", "points", "xyz_cam0", "uv_px", "visible", "valid3d", "label", "forward_backward_px"):
            assert np.array_equal(whole.read(name), cut.read(name), equal_nan=name == "xyz_cam0"), name
        assert quality.figures["visible_share"] == whole.read("visible").mean()
    assert seen[-1] == (15, 15)


def test_work_that_was_committed_is_not_done_again(tmp_path, files, monkeypatch):
    block, pairs = settings(segment_s=0.4), []
    between = DenseFlow.between
    monkeypatch.setattr(DenseFlow, "between", lambda self, a, b: pairs.append(1) or between(self, a, b))

    def stop(done, total):
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(files, tmp_path / "cut.h5", block, segments=tmp_path / "segments", progress=stop)
    pairs.clear()
    run(files, tmp_path / "cut.h5", block, segments=tmp_path / "segments")
    assert len(pairs) == 23 - 8  # windows 8 to 14 are left, and they begin at frame 8


def test_without_depth_tracks_are_in_the_image_only(tmp_path, files):
    quality = run(files, tmp_path / "tracks.h5", settings(), depth=None)
    with Tracks(tmp_path / "tracks.h5") as tracks:
        assert not tracks[0].valid3d.any()
        assert tracks[0].visible.any()
    assert "no depth" in quality.checks[0]


def test_depth_of_another_length_is_refused(tmp_path, files, small_truth):
    writer = DepthWriter(tmp_path / "short.h5")
    writer.append_frames(small_truth.depth_m[:20], small_truth.T_camera_world[:20], np.ones(20, bool))
    writer.put(K=small_truth.K)
    writer.declare(backend="truth", tier="A", scale="metric", pose="given", intrinsics="given")
    writer.publish()
    with Depth(tmp_path / "short.h5") as depth, pytest.raises(CorruptFile, match="20 frames, the clip 24"):
        run(files, tmp_path / "tracks.h5", settings(), depth=depth)


def test_points_start_in_the_users_masks(tmp_path, files, small_truth, monkeypatch):
    hand = np.where(small_truth.instance == small_truth.hand_id, 5, 0).astype(np.uint8)
    np.savez(tmp_path / "masks.npz", masks=hand)
    source = {"fps_measured": 10.0, "vfr": False, "first_pts_s": 0.0}
    framing = {"source_px": [192, 144], "resized_px": [192, 144], "offset_px": [0, 0], "clip_px": [192, 144]}
    with Clip(files / "frames/clip.h5") as clip, Depth(files / "depth/clip.h5") as depth:
        monkeypatch.setattr(clip, "attrs", {**clip.attrs, "framing": framing, "source": source})
        backend = BACKEND(settings(query="mask", mask_erode_px=1), root=Path())
        writer = backend.writer(tmp_path / "tracks.h5")
        row = Video("clip", "clip.mp4", mask=tmp_path / "masks.npz")
        backend.process(Inputs(row, clip=clip, depth=depth), writer, shrink=1.0, progress=quiet)
        writer.publish()
    with Tracks(tmp_path / "tracks.h5") as tracks:
        assert set(tracks.read("label")) == {5}
        for w in range(len(tracks)):
            column, row_px = tracks[w].uv_px[0].astype(int).T
            assert (hand[tracks[w].start, row_px, column] == 5).all()


def test_settings_that_change_no_result_are_not_part_of_the_identity():
    plain = BACKEND(settings(), root=Path()).identity()
    assert plain == BACKEND(settings(segment_s=5.0), root=Path()).identity()
    for change in ({"points": 400}, {"stride": 2}, {"seed": 1}, {"flow": {"occlusion_px": 1.0}}):
        assert plain != BACKEND(settings(**change), root=Path()).identity(), change
