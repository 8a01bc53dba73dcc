"""Truth in place of the networks: fed through each adapter, it is packaged as truth. No frame, axis, pixel or mirror is lost.

Stand-ins keep the interface of the real workers and run in an interpreter of their own, as the models do.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from stages.backend import Inputs
from stages.create_h5.hdf5 import BACKEND as PACKAGING
from stages.depth import moge, vipe
from stages.hands import wilor
from stages.sample import render
from stages.sample.artifacts import true_window, write_truth_artifacts
from stages.tracks import tapip3d
from stages.tracks.queries import window_queries
from tests.blocks import blocks_of
from videolift.artifacts import Clip, Depth, Hands, Tracks, TracksWriter
from videolift.errors import BackendUnavailable, BadInput
from videolift.evaluation import pose_errors
from videolift.geometry import T_camk_cam0, invert_pose, mirror_points, mirror_rotation
from videolift.inputs.catalog import Video
from videolift.isolation import Isolated
from videolift.pool import Device

STANDINS = Path(__file__).parent / "standins"
CPU = Device("cpu", "cpu", "CPU", 1 << 33)
FOLDERS = {"clip": ("frames", Clip), "depth": ("depth", Depth), "tracks": ("tracks_3d", Tracks), "hands": ("hand_poses", Hands)}
L, STRIDE = 10, 3


def quiet(done, total):
    pass


@pytest.fixture(scope="module")
def truth(small_truth):
    return small_truth


@pytest.fixture(scope="module")
def tripod():
    return render("tripod_rgbd", frames=24, width=144, height=192)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, truth, tripod):
    out = {}
    for name, clip in (("handheld", truth), ("tripod", tripod)):
        out[name] = tmp_path_factory.mktemp(name)
        write_truth_artifacts(out[name], "clip", clip, window_length=L, stride=STRIDE, grid_px=12)
    return out


def read(folder):
    return {name: kind(folder / place / "clip.h5") for name, (place, kind) in FOLDERS.items()}


def inputs(folder, **changes):
    return Inputs(Video("clip", "/nowhere/clip.mp4"), **(read(folder) | changes))


def put_standin(module, monkeypatch):
    """Its stand-in in place of the backend's worker."""
    (name,) = [name for name in vars(module) if name.endswith("WORKER")]
    monkeypatch.setattr(module, name, STANDINS / getattr(module, name).name)


def run(module, monkeypatch, tmp_path, stage, block, given, *, segments=None):
    """The adapter's artifact, with a stand-in in place of its worker; a backend that was stopped may go on in ``segments``."""
    put_standin(module, monkeypatch)
    kind = {"depth": Depth, "tracks": Tracks, "hands": Hands}[stage]
    backend = module.BACKEND(block, root=Path(__file__).parents[2])
    backend.load(CPU)
    try:
        out = backend.writer(tmp_path / f"{stage}.h5", segments=segments)
        quality = backend.process(given, out, shrink=1.0, progress=quiet)
        return kind(out.publish().path), quality
    finally:
        backend.close()


def settings(stage, **changes):
    return blocks_of("clip", **{"preset": "gpu", stage: changes})[stage]


def packaged(tmp_path, given, name):
    """Every dataset of the packaged file."""
    block = blocks_of("clip")["create_h5"].model_copy(update={"window_length": L, "stride": STRIDE, "size": 96})
    backend = PACKAGING(block, root=Path())
    out = backend.writer(tmp_path / f"{name}.hdf5")
    backend.process(given, out, shrink=1.0, progress=quiet)
    found = {}
    with h5py.File(out.publish().path) as file:
        file.visititems(lambda key, item: found.update({key: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def same(a, b, atol, without=()):
    assert set(a) == set(b)
    for key in sorted(set(a) - set(without)):
        if key.startswith("stats/") or a[key].dtype.kind not in "fbui":
            continue
        assert a[key].shape == b[key].shape, key
        np.testing.assert_allclose(a[key].astype(np.float64), b[key].astype(np.float64), rtol=0, atol=atol, err_msg=key)


def test_vipe_in_stretches_with_worlds_and_units_of_their_own_is_packaged_as_truth(truth, folders, tmp_path, monkeypatch):
    from scipy.spatial.transform import Rotation

    monkeypatch.setattr("stages.depth.networks.joining.OVERLAP_FRAMES", 4)
    worlds = np.tile(np.eye(4), (4, 1, 1))
    worlds[1:, :3, :3] = Rotation.random(3, random_state=0).as_matrix()
    worlds[1:, :3, 3] = [[1, 2, 3], [-2, 0, 1], [0.5, 0.1, 4]]
    T_world_camera = invert_pose(truth.T_camera_world)
    frozen = {"depth": truth.depth_m.astype(np.float16).astype(np.float32), "T_world_camera": T_world_camera, "K": truth.K}
    np.savez(tmp_path / "frozen.npz", rgb=truth.rgb, T_own_world=worlds, unit=np.array([1.0, 1.3, 0.7, 2.0]), **frozen)
    own = {"python": sys.executable, "torch_home": str(tmp_path)}
    monkeypatch.setattr(vipe, "require_weights", lambda store, names: [])
    block = settings("depth", segment_s=1.0, vipe=own)
    depth, quality = run(vipe, monkeypatch, tmp_path, "depth", block, inputs(folders["handheld"]))
    assert quality.figures["stretches"] == 3
    assert (depth.tier, depth.scale, depth.attrs["intrinsics"]) == ("B", "metric", "estimated")
    np.testing.assert_allclose(depth.T_camera_world, truth.T_camera_world, atol=2e-4)
    want = packaged(tmp_path, inputs(folders["handheld"]), "want")
    got = packaged(tmp_path, inputs(folders["handheld"], depth=depth), "got")
    same({**got, "depth": got["depth"] * 0}, {**want, "depth": want["depth"] * 0}, 1e-3, without=["tracks/label"])
    assert np.abs(got["depth"].astype(float) - want["depth"]).max() < 2e-3  # float16 twice


def test_vipe_refuses_a_camera_that_stood_still_and_names_moge(tripod, folders, tmp_path, monkeypatch):
    frozen = {"rgb": tripod.rgb, "depth": tripod.depth_m, "T_world_camera": invert_pose(tripod.T_camera_world), "K": tripod.K}
    np.savez(tmp_path / "frozen.npz", T_own_world=np.eye(4)[None], unit=np.ones(1), **frozen)
    monkeypatch.setattr(vipe, "require_weights", lambda store, names: [])
    block = settings("depth", vipe={"python": sys.executable, "torch_home": str(tmp_path)})
    with pytest.raises(BadInput, match="overrides.*depth: {backend: moge}") as error:
        run(vipe, monkeypatch, tmp_path, "depth", block, inputs(folders["tripod"]))
    assert error.value.code == "static_camera"


def test_vipe_without_a_scale_has_a_median_depth_of_one(truth, folders, tmp_path, monkeypatch):
    frozen = {"rgb": truth.rgb, "depth": truth.depth_m, "T_world_camera": invert_pose(truth.T_camera_world), "K": truth.K}
    np.savez(tmp_path / "frozen.npz", T_own_world=np.eye(4)[None], unit=np.full(1, 7.0), **frozen)
    monkeypatch.setattr(vipe, "require_weights", lambda store, names: [])
    block = settings("depth", vipe={"python": sys.executable, "torch_home": str(tmp_path), "pipeline": "lyra"})
    depth, _ = run(vipe, monkeypatch, tmp_path, "depth", block, inputs(folders["handheld"]))
    z = depth[:].astype(float)
    assert depth.scale == "arbitrary"
    assert np.median(z[z > 0]) == pytest.approx(1.0, rel=0.02)
    unit = np.median(truth.depth_m[truth.depth_m > 0])
    moved = np.linalg.norm(invert_pose(depth.T_camera_world)[-1, :3, 3] - invert_pose(depth.T_camera_world)[0, :3, 3])
    true = np.linalg.norm(invert_pose(truth.T_camera_world)[-1, :3, 3] - invert_pose(truth.T_camera_world)[0, :3, 3])
    assert moved * unit == pytest.approx(true, rel=0.03)


def _frozen_moge(clip, tmp_path):
    flicker = np.exp(0.05 * np.random.default_rng(0).standard_normal(len(clip.rgb)))
    flicker /= np.median(flicker)
    hfov = np.degrees(2 * np.arctan(clip.rgb.shape[2] / 2 / clip.K[0, 0]))
    np.savez(tmp_path / "moge.npz", rgb=clip.rgb, depth=clip.depth_m, hfov_deg=hfov, flicker=flicker)
    own = {"python": sys.executable, "weights": str(tmp_path / "moge.npz"), "checkout": str(tmp_path), "utils3d": str(tmp_path)}
    return settings("depth", backend="moge", moge=own), flicker


def test_moge_on_a_tripod_is_packaged_as_truth_without_the_flicker(tripod, folders, tmp_path, monkeypatch):
    block, flicker = _frozen_moge(tripod, tmp_path)
    depth, quality = run(moge, monkeypatch, tmp_path, "depth", block, inputs(folders["tripod"]), segments=tmp_path / "segments")
    assert depth.attrs["pose"] == "static"
    assert depth.pose_valid.all()
    assert np.abs(depth.K - tripod.K).max() < 1e-3
    assert quality.figures["flicker"] == pytest.approx(np.std(np.log(flicker)), rel=0.2)
    seen = tripod.depth_m > 0
    off = depth[:].astype(float)[seen] / tripod.depth_m[seen]
    assert np.abs(off - 1).max() < 0.01
    want = packaged(tmp_path, inputs(folders["tripod"]), "want")
    got = packaged(tmp_path, inputs(folders["tripod"], depth=depth), "got")
    drop = ("depth", "camera/T_camera_world")  # depth within 1 % (above); the world of a tripod is its camera
    same(got, want, 1e-3, without=[*drop, "hands/T_world_wrist"])  # worlds differ


def test_tapip3d_is_packaged_as_truth(truth, folders, tmp_path, monkeypatch):
    height, width = truth.rgb.shape[1:3]
    block = settings("tracks", window_length=L, stride=STRIDE, points=300, tapip3d={"weights": str(tmp_path / "tracks.npz")})
    queries = window_queries(block, video="clip", window_start=0, size_px=(width, height), mask=None)
    frames, uv = len(truth.rgb), queries.uv_px.astype(np.float64)
    windows = range(0, frames - L + 1, STRIDE)
    xyz = np.full((frames, 16, len(uv), 3), np.nan, np.float32)
    visible, E = np.zeros(xyz.shape[:3], bool), np.full((frames, 16, 4, 4), np.nan)
    for start in windows:
        n = min(16, frames - start)
        xyz[start, :n], _, visible[start, :n] = truth.tracks(start, uv, n)
        E[start, :n] = T_camk_cam0(truth.T_camera_world[start : start + n])
    about = {"size": (height, width), "K": truth.K, "rgb": truth.rgb, "uv_px": uv, "astray": 0.01}
    np.savez(tmp_path / "tracks.npz", xyz=xyz, visible=visible, T_camk_cam0=E, **about)
    own = block.tapip3d.model_copy(update={"python": sys.executable, "checkout": str(tmp_path)})
    block = block.model_copy(update={"tapip3d": own})
    tracks, _ = run(tapip3d, monkeypatch, tmp_path, "tracks", block, inputs(folders["handheld"]))

    first, last = tracks[0], tracks[len(tracks) - 1]
    assert (first.frames_tracked, last.frames_tracked) == (16, frames - windows[-1])
    assert np.isnan(last.xyz_cam0[last.frames_tracked :]).all()
    assert not last.visible[last.frames_tracked :].any()
    writer = TracksWriter(tmp_path / "true.h5")
    writer.describe(backend="truth", window_length=L, stride=STRIDE, query="grid", seed=0)
    for start in windows:
        z = truth.depth_m[start][uv[:, 1].astype(int), uv[:, 0].astype(int)].astype(np.float16)
        whole = true_window(truth, start, L, uv[z > 0])
        writer.append_window(whole)
    true = Tracks(writer.publish().path)
    label = {"tracks/label"}  # the adapter was given no mask
    want = packaged(tmp_path, inputs(folders["handheld"], tracks=true), "want")
    got = packaged(tmp_path, inputs(folders["handheld"], tracks=tracks), "got")
    missed_px = got.pop("quality/forward_backward_px")
    same(got, want, 1e-5, without=label)
    assert np.flatnonzero(np.isfinite(missed_px)).tolist() == [0]  # one window in 30
    astray_px = 0.01 * truth.K[0, 0] / np.median(first.xyz_cam0[0, first.visible[L - 1], 2])
    assert tracks.forward_backward_px[0] == pytest.approx(astray_px, rel=0.03)
    assert missed_px[0] == pytest.approx(tracks.forward_backward_px[0] * 96 / height)


def test_tapip3d_refuses_windows_that_would_come_back_without_motion(truth, tmp_path, monkeypatch):
    put_standin(tapip3d, monkeypatch)
    np.savez(tmp_path / "tracks.npz", size=(144, 192))
    own = {"python": sys.executable, "weights": str(tmp_path / "tracks.npz"), "checkout": str(tmp_path)}
    backend = tapip3d.BACKEND(settings("tracks", window_length=8, tapip3d=own), root=Path())
    with pytest.raises(BackendUnavailable, match="needs at least 9"):
        backend.load(CPU)
    backend.close()


@pytest.fixture(scope="module", params=["left", "right"])
def hand(request, truth, tripod):
    """A truth of either side."""
    return {clip.side: (name, clip) for name, clip in (("handheld", truth), ("tripod", tripod))}[request.param]


def _frozen_wilor(clip, path):
    """What a perfect WiLoR would say: a right hand, whatever the side."""
    uv, T = clip.keypoints_px, clip.T_camera_wrist
    joints, R = clip.joints_camera - T[:, None, :3, 3], T[:, :3, :3]
    if clip.side == "left":
        joints, R = mirror_points(joints), mirror_rotation(R)
    box = np.concatenate([uv.min(1), uv.max(1)], axis=1)
    frames = len(clip.rgb)
    mano = {"hand_pose": np.tile(np.eye(3), (frames, 15, 1, 1)), "betas": np.full((frames, 10), 0.25)}
    side = float(clip.side == "right")
    np.savez(path, rgb=clip.rgb, right=side, box=box, joints=joints, global_orient=R, keypoints_px=uv, **mano)


def test_wilor_is_packaged_as_truth_for_either_hand(hand, folders, tmp_path, monkeypatch):
    name, clip = hand
    _frozen_wilor(clip, tmp_path / "wilor.npz")
    file = str(tmp_path / "wilor.npz")
    own = {"python": sys.executable, "weights": file, "detector": file, "mano": file, "checkout": str(tmp_path)}
    block = settings("hands", max_gap=0, wilor=own)
    given = inputs(folders[name])
    monkeypatch.setattr(wilor, "clip_camera", lambda clip, depth: wilor.ClipCamera(depth.K.astype(float), "depth", None))
    hands, _ = run(wilor, monkeypatch, tmp_path, "hands", block, given)
    side, other = (0, 1) if clip.side == "left" else (1, 0)
    assert hands.valid[:, side].all()
    assert not hands.valid[:, other].any()
    np.testing.assert_allclose(hands.T_camera_wrist[:, side], clip.T_camera_wrist, atol=1e-4)
    np.testing.assert_allclose(hands.joints_camera[:, side], clip.joints_camera, atol=1e-4)
    assert hands.betas[side] == pytest.approx(0.25)
    assert np.isnan(hands.betas[other]).all()
    want = packaged(tmp_path, inputs(folders[name]), "want")
    got = packaged(tmp_path, inputs(folders[name], hands=hands), "got")
    same(got, want, 1e-4, without=("hands/score", "hands/mano_pose", "hands/betas", "hands/method"))


def test_wilor_takes_the_wrist_from_metric_depth_over_the_whole_hand(hand, folders, tmp_path, monkeypatch):
    """Depth lies on the skin, not in the joints; a hand 15 % too large in the model is where depth says all the same."""
    name, clip = hand
    _frozen_wilor(clip, tmp_path / "wilor.npz")
    frozen = dict(np.load(tmp_path / "wilor.npz"))
    np.savez(tmp_path / "wilor.npz", **{**frozen, "joints": frozen["joints"] * 1.15})
    file = str(tmp_path / "wilor.npz")
    own = {"python": sys.executable, "weights": file, "detector": file, "mano": file, "checkout": str(tmp_path)}
    hands, _ = run(wilor, monkeypatch, tmp_path, "hands", settings("hands", wilor=own), inputs(folders[name]))
    side = 0 if clip.side == "left" else 1
    assert hands.attrs["wrist_method"][clip.side] == "hand_depth"
    off = np.linalg.norm(hands.T_camera_wrist[:, side, :3, 3] - clip.T_camera_wrist[:, :3, 3], axis=1)
    by_size = 0.15 * clip.T_camera_wrist[:, 2, 3]
    assert np.median(off) < 0.025
    assert np.median(off) < 0.4 * np.median(by_size)


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A clip whose camera moves enough for structure from motion, and its artifacts."""
    clip, folder = render("orbit", frames=24, width=320, height=240), tmp_path_factory.mktemp("orbit")
    write_truth_artifacts(folder, "clip", clip, window_length=L, stride=STRIDE, grid_px=12)
    return clip, folder


def test_moge_with_a_moving_camera_brings_its_path_to_metres(moving, tmp_path, monkeypatch):
    clip, folder = moving
    block, _ = _frozen_moge(clip, tmp_path)
    depth, quality = run(moge, monkeypatch, tmp_path, "depth", block, inputs(folder))
    assert depth.attrs["pose"] == "sfm"
    assert depth.pose_valid.all()
    assert "24 of 24 frames placed" in quality.checks[0]
    assert quality.figures["metres_per_unit"] > 0.0
    # no scale is forgiven: the path, found in an unknown unit, is in metres
    assert pose_errors(depth.T_camera_world, clip.T_camera_world, scale_known=True).ate < 2e-3
    seen = clip.depth_m > 0
    assert np.abs(depth[:].astype(float)[seen] / clip.depth_m[seen] - 1).max() < 0.02


def test_moge_keeps_depth_but_no_pose_where_the_path_is_not_believed(moving, tmp_path, monkeypatch):
    clip, folder = moving
    block, _ = _frozen_moge(clip, tmp_path)
    block = block.model_copy(update={"sfm": block.sfm.model_copy(update={"max_reprojection_px": 0.01})})
    depth, quality = run(moge, monkeypatch, tmp_path, "depth", block, inputs(folder))
    assert not depth.pose_valid.any()
    assert (depth[:] > 0).any()
    assert "no reconstruction is believed" in quality.checks[0]
    assert "reprojection error" in quality.checks[1]


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("model", "then"), [("vipe", 1.0), ("vipe", 0.5), ("vipe/lyra", 1.0), ("moge", 1.0), ("tapip3d", 1.0), ("wilor", 1.0)]
)
def test_a_killed_attempt_goes_on_where_it_was_and_ends_the_same(model, then, truth, tripod, folders, tmp_path, monkeypatch):
    (tmp_path / "files").mkdir()
    module, stage, block, folder = _frozen(model, truth, tripod, tmp_path / "files", monkeypatch)
    put_standin(module, monkeypatch)
    given, calls = inputs(folders[folder]), []
    real_call = Isolated.call

    def dying(self, meta, arrays, on_progress=None):
        calls.append(meta.get("do"))
        if len(calls) == dying.after:
            raise Killed
        return real_call(self, meta, arrays, on_progress)

    def attempt(name, after, segments, shrink=1.0):
        calls.clear()
        dying.after = after
        backend = module.BACKEND(block, root=Path(__file__).parents[2])
        backend.load(CPU)
        out = backend.writer(tmp_path / name / f"{stage}.h5", segments=segments)
        try:
            quality = backend.process(given, out, shrink=shrink, progress=quiet)
            out.publish()
            return len(calls), quality
        finally:
            out.discard()
            backend.close()

    monkeypatch.setattr(Isolated, "call", dying)
    whole, whole_quality = attempt("whole", 10**6, tmp_path / "segments-a")
    with pytest.raises(Killed):
        attempt("killed", whole if then == 1.0 else 2, tmp_path / "segments-b")
    again, again_quality = attempt("killed", 10**6, tmp_path / "segments-b", then)
    assert again < whole / then
    if then == 1.0:
        assert again_quality == whole_quality
    with h5py.File(tmp_path / "whole" / f"{stage}.h5") as a, h5py.File(tmp_path / "killed" / f"{stage}.h5") as b:
        assert set(a) == set(b)
        for name in a:
            x, y = a[name][()], b[name][()]
            np.testing.assert_allclose(x.astype(float), y.astype(float), atol=1e-3, err_msg=name)


def _frozen(model, truth, tripod, folder, monkeypatch):
    """Module, stage, settings with short segments, and which clip, for the stand-in of one model."""
    own = {"python": sys.executable}
    if model.startswith("vipe"):
        monkeypatch.setattr("stages.depth.networks.joining.OVERLAP_FRAMES", 4)
        monkeypatch.setattr(vipe, "require_weights", lambda store, names: [])
        frozen = {"rgb": truth.rgb, "depth": truth.depth_m, "T_world_camera": invert_pose(truth.T_camera_world), "K": truth.K}
        np.savez(folder / "frozen.npz", T_own_world=np.tile(np.eye(4), (4, 1, 1)), unit=np.array([1, 1.5, 0.5, 1]), **frozen)
        own |= {"torch_home": str(folder)} | ({"pipeline": "lyra"} if model == "vipe/lyra" else {})
        return vipe, "depth", settings("depth", segment_s=1.0, vipe=own), "handheld"
    if model == "moge":
        block, _ = _frozen_moge(tripod, folder)
        return moge, "depth", block.model_copy(update={"segment_s": 1.0}), "tripod"
    if model == "wilor":
        _frozen_wilor(truth, folder / "wilor.npz")
        files = dict.fromkeys(("weights", "detector", "mano"), str(folder / "wilor.npz"))
        return wilor, "hands", settings("hands", segment_s=1.0, wilor={**own, **files, "checkout": str(folder)}), "handheld"
    height, width = truth.rgb.shape[1:3]
    files = {"weights": str(folder / "tracks.npz"), "checkout": str(folder)}
    block = settings("tracks", window_length=L, stride=STRIDE, points=60, segment_s=0.6, tapip3d={**own, **files})
    uv = window_queries(block, video="clip", window_start=0, size_px=(width, height), mask=None).uv_px.astype(np.float64)
    frames = len(truth.rgb)
    E = np.full((frames, 16, 4, 4), np.nan)
    for start in range(frames):
        n = min(16, frames - start)
        E[start, :n] = T_camk_cam0(truth.T_camera_world[start : start + n])
    xyz = np.random.default_rng(0).uniform(0.3, 1.0, (frames, 16, len(uv), 3)).astype(np.float32)
    about = {"size": (height, width), "K": truth.K, "rgb": truth.rgb, "uv_px": uv, "T_camk_cam0": E, "astray": 0.0}
    np.savez(folder / "tracks.npz", xyz=xyz, visible=np.ones(xyz.shape[:3], bool), **about)
    return tapip3d, "tracks", block, "handheld"
