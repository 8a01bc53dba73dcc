"""The laptop's depth: which of its two methods a clip gets, and that depth carried between looked-at frames is right or absent."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.backend import Inputs
from stages.depth import laptop
from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.dense_flow import FlowMatch, pixel_grid
from stages.depth.networks.carrying import CarriedDepth, carry_depth, seen_frames
from stages.sample import render
from stages.settings import stage_block
from videolift.artifacts import Depth, DepthWriter
from videolift.errors import BadInput
from videolift.evaluation import depth_errors
from videolift.geometry import pinhole
from videolift.inputs.video import Video
from videolift.pool import Device

STANDIN = Path(__file__).parents[1] / "standins" / "moge_worker.py"
EVERY = 4


@pytest.fixture(scope="module")
def tripod():
    return render("tripod_rgbd", frames=24, width=192, height=144)


def run_laptop(clip, truth, folder, monkeypatch, *, segments=None, flickers=0.05, progress=lambda done, total: None):
    """Depth of a clip by the backend, with the truth, each frame off by a factor of its own, in place of the network's depth."""
    flicker = np.exp(flickers * np.random.default_rng(0).standard_normal(len(truth.rgb)))
    hfov = np.degrees(2 * np.arctan(truth.rgb.shape[2] / 2 / truth.K[0, 0]))
    np.savez(folder / "moge.npz", rgb=truth.rgb, depth=truth.depth_m, hfov_deg=hfov, flicker=flicker / np.median(flicker))
    monkeypatch.setattr(laptop, "MOGE_WORKER", STANDIN)
    own = {"python": sys.executable, "weights": str(folder / "moge.npz"), "checkout": str(folder), "utils3d": str(folder)}
    settings = stage_block("depth", backend="laptop", seed=0, segment_s=0.8, laptop={**own, "every": EVERY})
    backend = laptop.BACKEND(settings, root=Path(__file__).parents[3])
    backend.load(Device("cpu", "cpu", "a processor", 1 << 33))
    writer = DepthWriter(folder / "depth.h5", segments=segments)
    try:
        quality = backend.process(Inputs(Video("clip", "clip.mp4"), clip=clip), writer, shrink=1.0, progress=progress)
        writer.publish()
    finally:
        writer.discard()
        backend.close()
    return Depth(writer.final), quality


def test_a_tripods_clip_gets_metres_from_the_network_also_between_the_frames_it_saw(tripod, make_clip, tmp_path, monkeypatch):
    depth, quality = run_laptop(make_clip(tripod.rgb), tripod, tmp_path, monkeypatch)
    assert (depth.tier, depth.scale, depth.attrs["intrinsics"]) == ("B", "metric", "estimated")
    assert (depth.attrs["backend"], depth.attrs["quality"]["method"]) == ("laptop", "moge")
    between = np.array([k for k in range(24) if k not in seen_frames(24, EVERY)])
    errors = depth_errors(depth[:][between], tripod.depth_m[between], align=False)
    assert errors.abs_rel < 0.03
    assert errors.valid_share > 0.6
    assert quality.figures["valid_share"] == pytest.approx(np.mean(depth[:] > 0), abs=1e-3)


def test_a_moving_cameras_clip_gets_structure_from_motion_and_says_so(make_clip, tmp_path, monkeypatch):
    orbit = render("orbit", frames=24, width=320, height=240)
    depth, _ = run_laptop(make_clip(orbit.rgb, K_given=orbit.K.tolist()), orbit, tmp_path, monkeypatch)
    assert (depth.tier, depth.scale) == ("C", "arbitrary")
    assert (depth.attrs["backend"], depth.attrs["quality"]["method"]) == ("laptop", "sfm")


def test_a_clip_of_which_the_network_knows_no_depth_is_refused(tripod, make_clip, tmp_path, monkeypatch):
    blind = replace(tripod, depth_m=np.zeros_like(tripod.depth_m))
    with pytest.raises(BadInput, match="no depth in any of the 7 frames") as error:
        run_laptop(make_clip(tripod.rgb), blind, tmp_path, monkeypatch)
    assert error.value.code == "no_depth"


def test_depth_of_another_scene_in_every_frame_is_refused(tripod, make_clip, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="off from the others' by a factor of") as error:
        run_laptop(make_clip(tripod.rgb), tripod, tmp_path, monkeypatch, flickers=2.0)
    assert error.value.code == "unsteady_depth"


def test_a_field_of_view_that_no_lens_has_is_refused(tripod, make_clip, tmp_path, monkeypatch):
    absurd = replace(tripod, K=pinhole(2.0, 192, 144))
    with pytest.raises(BadInput, match="a field of view of 178 degrees along the long side, plausible is 35 to 115") as error:
        run_laptop(make_clip(tripod.rgb), absurd, tmp_path, monkeypatch)
    assert error.value.code == "field_of_view"


def test_every_frame_that_the_network_looks_at_is_a_sign_of_life(tripod, make_clip, tmp_path, monkeypatch):
    """One takes 12 s and more on a processor: ten minutes without a word would count as a hang."""
    told = []
    run_laptop(make_clip(tripod.rgb), tripod, tmp_path, monkeypatch, progress=lambda done, total: told.append(done))
    # Five frames for the field of view, then those whose depth is wanted.
    looks = [0] * 5 + seen_frames(24, EVERY)
    assert any(told[k : k + len(looks)] == looks for k in range(len(told)))


def test_a_killed_run_goes_on_with_equal_depth(tripod, make_clip, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    def kill(done, total):
        if done >= 2 * 24 + 16:
            raise KilledError

    clip = make_clip(tripod.rgb)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, _ = run_laptop(clip, tripod, tmp_path / "whole", monkeypatch)
    with pytest.raises(KilledError):
        run_laptop(clip, tripod, tmp_path / "killed", monkeypatch, segments=tmp_path / "parts", progress=kill)
    told, killed = [], tmp_path / "killed"
    again, _ = run_laptop(
        clip, tripod, killed, monkeypatch, segments=tmp_path / "parts", progress=lambda done, total: told.append(done)
    )
    assert min(told) > 0, "the network was asked for the field of view again"
    assert np.array_equal(again[:], whole[:])
    assert np.array_equal(again.T_camera_world, whole.T_camera_world)


def test_depth_is_carried_through_a_moving_camera(small_truth):
    frames = len(small_truth.rgb)
    T, valid = small_truth.T_camera_world, np.ones(frames, bool)
    seen = seen_frames(frames, EVERY)
    path = CameraPath(T, valid, small_truth.K, "given", "given")
    carried = CarriedDepth(small_truth.rgb, path, seen, (small_truth.depth_m[k] for k in seen))
    depth = np.stack([carried[k] for k in range(frames)])
    assert np.array_equal(depth[seen], small_truth.depth_m[seen])
    between = [k for k in range(frames) if k not in seen]
    errors = depth_errors(depth[between], small_truth.depth_m[between], align=False)
    assert errors.abs_rel < 0.02
    assert errors.valid_share > 0.5


K = pinhole(50.0, 32, 24)
STILL = FlowMatch(pixel_grid(24, 32), np.ones((24, 32), bool), np.ones((24, 32), bool))


def test_a_camera_that_goes_forward_brings_depth_nearer():
    forward = np.eye(4)
    forward[2, 3] = -0.2
    assert np.allclose(carry_depth(STILL, np.full((24, 32), 1.5, np.float32), forward, K), 1.3)


def test_at_an_edge_of_depth_and_where_flow_is_lost_nothing_is_carried():
    depth = np.full((24, 32), 1.0, np.float32)
    depth[:, 16:] = 2.0
    lost = FlowMatch(STILL.uv_px, STILL.inside, STILL.trusted & (np.arange(24)[:, None] > 5))
    carried = carry_depth(lost, depth, np.eye(4), K)
    assert (carried[:6] == 0).all()
    assert (carried[:, 15:17] == 0).all()
    assert (carried[6:, :15] == 1).all()


def test_where_before_and_after_disagree_depth_is_invalid(tripod):
    """A plane that comes nearer by a tenth within the gap."""
    rgb = np.repeat(tripod.rgb[:1], 5, axis=0)
    far, near = (np.full(rgb.shape[1:3], z, np.float32) for z in (1.0, 0.9))
    path = CameraPath.standing(5, tripod.K, "given")
    assert (CarriedDepth(rgb, path, [0, 4], iter([far, near]))[2] == 0).all()
    assert (CarriedDepth(rgb, path, [0, 4], iter([far, far * np.float32(0.98)]))[2] > 0).mean() > 0.8


@pytest.mark.parametrize(("frames", "every", "seen"), [(1, 5, [0]), (6, 5, [0, 5]), (8, 5, [0, 5, 7]), (3, 1, [0, 1, 2])])
def test_the_first_and_the_last_frame_are_always_seen(frames, every, seen):
    assert seen_frames(frames, every) == seen
