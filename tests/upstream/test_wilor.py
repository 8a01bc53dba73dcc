"""The WiLoR worker against upstream's demo, and left hands against the mirror."""

import numpy as np
import pytest

from stages.hands.wilor import WORKER, HandPoses
from videolift.geometry import mirror_points, mirror_rotation
from videolift.isolation import isolation_child as wire

POSE = {"do": "pose", "rescale": 2.0, "batch_crops": 3}


def _scene():
    """Two frames of smooth noise with three boxes, of either side."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (2, 12, 16, 3)).astype(np.uint8)
    rgb = np.ascontiguousarray(coarse.repeat(16, 1).repeat(16, 2))
    box = np.array([[30.0, 20, 110, 120], [120, 60, 190, 170], [60, 40, 150, 150]], np.float32)
    return {"rgb": rgb, "frame": np.array([0, 0, 1], np.int32), "box": box, "right": np.array([1, 0, 1], np.float32)}


@pytest.fixture(scope="module")
def direct(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wilor")
    np.savez(folder / "input.npz", **_scene())
    run("direct_wilor.py", folder)
    return folder, dict(np.load(folder / "direct.npz"))


@pytest.fixture(scope="module")
def worker(start, direct):
    folder = direct[0]
    files = {"weights": folder / "wilor.ckpt", "detector": folder / "detector.pt", "mano": folder / "MANO_RIGHT.pkl"}
    meta = {"paths": [str(folder / "WiLoR")], "device": "cpu"}
    return start("hands/wilor_worker.py", meta | {name: str(path) for name, path in files.items()})


def test_the_worker_returns_what_upstreams_demo_returns(worker, direct):
    wanted, scene = direct[1], _scene()
    _, out = worker.call(POSE, scene)
    worst = max(float(np.abs(out[name] - wanted[name]).max()) for name in ("joints", "global_orient", "hand_pose", "betas"))
    sign = (2 * scene["right"] - 1)[:, None]
    uv = wanted["keypoints_2d"] * wanted["size"][:, None, None]
    uv[..., 0] *= sign
    print(f"WiLoR: worker against upstream, max difference {worst:.1e}")
    assert worst <= 1e-4
    assert np.abs(out["keypoints_px"] - (uv + wanted["center"][:, None])).max() < 1e-2
    assert np.abs(out["joints"][0] - out["joints"][2]).max() > 1e-4  # hands differ

    _, found = worker.call({"do": "detect", "min_confidence": 0.001, "batch_frames": 2}, {"rgb": scene["rgb"]})
    for k in range(2):
        mine, theirs = found["frame"] == k, wanted[f"boxes_{k}"]
        assert mine.sum() == len(theirs)
        assert np.abs(found["box"][mine] - theirs[:, :4]).max(initial=0) < 1e-2
        assert np.array_equal(found["right"][mine], theirs[:, 5])


def test_a_left_hand_is_the_exact_mirror_of_a_right_one(worker):
    scene = _scene()
    width = scene["rgb"].shape[2]
    mirrored = scene["box"].copy()
    mirrored[:, [0, 2]] = (width - 1) - scene["box"][:, [2, 0]]
    seen = {"rgb": np.ascontiguousarray(scene["rgb"][:, :, ::-1]), "frame": scene["frame"], "box": mirrored}
    _, right = worker.call(POSE, {**scene, "right": np.ones(3, np.float32)})
    _, left = worker.call(POSE, {**seen, "right": np.zeros(3, np.float32)})
    a, b = HandPoses.of(right, np.arange(3), "right"), HandPoses.of(left, np.arange(3), "left")
    assert np.array_equal(a.joints_m, mirror_points(b.joints_m))
    assert np.array_equal(a.R_camera_wrist, mirror_rotation(b.R_camera_wrist))
    assert np.array_equal(a.mano_pose, mirror_rotation(b.mano_pose))
    assert a.keypoints_px[..., 0] == pytest.approx((width - 1) - b.keypoints_px[..., 0], abs=1e-3)
    assert a.keypoints_px[..., 1] == pytest.approx(b.keypoints_px[..., 1], abs=1e-3)


def test_the_joints_already_contain_the_global_rotation(worker, direct):
    _, out = worker.call(POSE, _scene())
    pose = HandPoses.of(out, np.arange(3), "right")
    unturned = direct[1]["unturned"] - direct[1]["unturned"][:, :1]
    turned = unturned @ np.swapaxes(pose.R_camera_wrist, 1, 2)
    assert pose.joints_m == pytest.approx(turned, abs=1e-6)
    assert np.abs(unturned - turned).max() > 1e-3


def test_a_detector_is_read_and_what_it_would_run_is_not(run, tmp_path):
    assert "ok" in run("direct_detector.py", tmp_path, WORKER, wire.__file__)
