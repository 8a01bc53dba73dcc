"""MapAnything's adapter: stretches with worlds of their own become one, one camera per video, and a kill changes nothing."""

import importlib
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stages.depth import mapanything
from stages.depth.mapanything import MapAnythingSettings, median_camera
from stages.sample.artifacts import write_truth_artifacts
from videolift.artifacts import Clip, Depth, DepthWriter
from videolift.errors import BadInput
from videolift.geometry import invert_pose, pinhole
from videolift.isolation import checkpoints, isolation_child


class Killed(Exception):
    pass


class Model:
    """Answers with the truth, each stretch in a world and unit of its own; may be killed at its n-th call."""

    def __init__(self, truth, killed_at=None):
        self.truth, self.killed_at, self.calls, self.given = truth, killed_at, 0, []

    def __call__(self, meta, arrays, progress):
        self.calls += 1
        if self.calls == self.killed_at:
            raise Killed
        n = len(arrays["rgb"])
        start = next(k for k in range(len(self.truth.rgb)) if np.array_equal(self.truth.rgb[k], arrays["rgb"][0]))
        self.given.append(meta["K"])
        world = np.eye(4)
        unit = 1.0 if start == 0 else 1.0 + start / 100
        if start:
            world[:3, :3], world[:3, 3] = Rotation.random(random_state=start).as_matrix(), [1, 2, 3]
        poses = world @ invert_pose(self.truth.T_camera_world[start : start + n])
        poses[:, :3, 3] *= unit
        K = self.truth.K
        progress(0, n)
        return {
            "depth": (self.truth.depth_m[start : start + n] * unit).astype(np.float32),
            "T_world_camera": poses.astype(np.float32),
            "intrinsics": np.tile([K[0, 0], K[1, 1], K[0, 2], K[1, 2]], (n, 1)) * np.linspace(0.9, 1.1, n)[:, None],
        }


@pytest.fixture
def clip(small_truth, tmp_path, monkeypatch):
    monkeypatch.setattr("stages.depth.networks.joining.OVERLAP_FRAMES", 4)
    write_truth_artifacts(tmp_path / "true", "clip", small_truth)
    return Clip(tmp_path / "true" / "frames" / "clip.h5")


def made(clip, model, tmp_path, name):
    """The artifact; with what a killed attempt of the same name kept."""
    own = MapAnythingSettings().model_copy(update={"stretch_frames": 10})
    out = DepthWriter(tmp_path / f"{name}.h5", segments=tmp_path / f"{name}-segments")
    try:
        mapanything._MapAnythingClip(model, clip, out, own, 1.0, lambda done, total: None).run()
        return Depth(out.publish().path)
    except Killed:
        out.discard()
        return None


def test_stretches_become_one_video_in_metres_with_one_camera(clip, small_truth, tmp_path):
    model = Model(small_truth)
    depth = made(clip, model, tmp_path, "whole")
    assert model.calls > 2
    known = "K_given" in clip.attrs
    assert (depth.scale, depth.attrs["pose"], depth.attrs["intrinsics"]) == ("metric", "slam", "given" if known else "estimated")
    np.testing.assert_allclose(depth.T_camera_world, small_truth.T_camera_world, atol=2e-3)
    valid = small_truth.depth_m > 0
    assert np.abs(depth[:] - small_truth.depth_m)[valid].max() < 0.02
    assert all(np.allclose(K, model.given[1]) for K in model.given[1:]), "later stretches keep the first one's camera"


@pytest.mark.parametrize("killed_at", [2, 3])
def test_a_killed_attempt_is_gone_on_with_to_the_same_result(clip, small_truth, tmp_path, killed_at):
    first = Model(small_truth)
    whole = made(clip, first, tmp_path, "whole")
    assert made(clip, Model(small_truth, killed_at), tmp_path, "cut") is None
    again = Model(small_truth)
    resumed = made(clip, again, tmp_path, "cut")
    assert again.calls == first.calls - (killed_at - 1), "what was done is not done again"
    np.testing.assert_array_equal(resumed.T_camera_world, whole.T_camera_world)
    np.testing.assert_array_equal(resumed[:], whole[:])
    np.testing.assert_array_equal(resumed.K, whole.K)


def test_a_camera_that_is_none_is_refused_with_what_to_do():
    with pytest.raises(BadInput, match="Name a calibration") as error:
        median_camera(np.array([[-13.9, 28.1, 48.4, 59.3]] * 3), 126)
    assert error.value.code == "field_of_view"


def test_a_camera_survives_the_way_into_the_network_and_back(monkeypatch):
    monkeypatch.setitem(sys.modules, "videolift_child", isolation_child)
    monkeypatch.setitem(sys.modules, "videolift_checkpoints", checkpoints)
    worker = importlib.import_module("stages.depth.mapanything_worker")
    size = worker.network_size(480, 640, 518)
    assert size == (392, 518)
    K = pinhole(500.0, 640, 480)
    inside = worker.scaled_camera(K, (480, 640), size)
    assert inside[0, 2] == pytest.approx((518 - 1) / 2)
    np.testing.assert_allclose(worker.scaled_camera(inside, size, (480, 640)), K, atol=1e-9)
