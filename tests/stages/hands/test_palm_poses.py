"""How each frame earns its wrist."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stages.hands.clip_camera import ClipCamera
from stages.hands.hand_depth import SKIN_TO_JOINT_M
from stages.hands.identity import Detection
from stages.hands.palm import Palm
from stages.hands.palm_poses import palm_poses
from tests.stages.hands.test_hand_depth import flat_scene
from tests.stages.hands.test_wrist import K, frontal, keypoints, pose
from videolift.artifacts import PALM_JOINTS
from videolift.geometry import project, rotation_angle, transform

FRAMES = 24


def hands(spread=0.01, size=1.0, T=None):
    true = [pose((10 + k, 5, 0), at=(0.0, 0.0, 0.5)) for k in range(FRAMES)] if T is None else [T] * FRAMES
    return true, [Detection(k, keypoints(pose_k, size=size), 0.9, 0.9, spread) for k, pose_k in enumerate(true)]


def solved(detections, depth=None, side="right", K=K):
    return palm_poses(detections, ClipCamera(K, "given", depth), side, fingers_away=True)


def test_without_depth_the_palms_size_places_every_frame():
    true, detections = hands()
    poses = solved(detections)
    assert [pose.method for pose in poses] == ["palm_pnp"] * FRAMES
    off = [np.linalg.norm(p.T_camera_wrist[:3, 3] - T[:3, 3]) for p, T in zip(poses, true, strict=True)]
    assert np.median(off) < 0.01


def test_measured_depth_places_the_frames_that_show_it_and_tells_the_hands_size_to_the_others():
    """A hand a fifth larger than usual stands at 60 cm; the table shines through in every third frame."""
    T = frontal(at=(0.0, 0.0, 0.6))
    _, detections = hands(size=1.2, T=T)
    seen = flat_scene(1.4, T, float(np.median(transform(T, Palm.of("right").points_m(1.2))[:, 2])) - SKIN_TO_JOINT_M)
    depth = [np.full_like(seen, 1.4) if k % 3 == 0 else seen for k in range(FRAMES)]
    poses = solved(detections, depth)
    assert [pose.method for pose in poses] == ["palm_pnp" if k % 3 == 0 else "depth" for k in range(FRAMES)]
    distance = np.array([pose.T_camera_wrist[2, 3] for pose in poses])
    assert np.ptp(distance) < 0.03
    assert np.median(distance) == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("spoil", ["spread", "misfit"])
def test_a_frame_whose_looks_disagree_or_that_no_palm_fits_has_no_pose(spoil):
    _, detections = hands()
    bad = detections[7]
    uv = bad.keypoints_px.copy()
    if spoil == "misfit":
        uv[5], uv[17] = uv[17].copy(), uv[5].copy()
        uv[[1, 13]] += [[60, 0], [0, 60]]
    detections[7] = Detection(7, uv, 0.9, 0.9, 0.2 if spoil == "spread" else 0.01)
    assert [pose.frame for pose in solved(detections)] == [k for k in range(FRAMES) if k != 7]


def test_a_left_hands_poses_are_those_of_the_left_palm():
    T = pose((20, 10, 0), at=(0.05, 0.0, 0.5))
    detections = [Detection(k, keypoints(T, "left"), 0.9, 0.1, 0.01) for k in range(5)]
    for found in solved(detections, side="left"):
        assert np.allclose(found.T_camera_wrist[:3, 3], T[:3, 3], atol=5e-3)
    assert Palm.of("left").seen_m[3, 0] > 0


def test_exact_depth_gives_the_rotation_where_keypoints_are_those_of_a_hand_turned_otherwise(orbit_truth):
    """A detector errs so on a palm seen at a slant; weighed against pixels as if those were right, depth lost."""
    truth, frames = orbit_truth, range(0, 60, 4)
    detections = []
    for k in frames:
        joints = truth.joints_camera[k]
        centre = joints[list(PALM_JOINTS)].mean(0)
        lean = Rotation.from_rotvec(np.radians(15) * truth.T_camera_wrist[k, :3, 0])
        detections.append(Detection(k, project(centre + lean.apply(joints - centre), truth.K), 0.9, 0.9, 0.01))
    poses = solved(detections, truth.depth_m, K=truth.K)
    off = [np.degrees(rotation_angle(p.T_camera_wrist[:3, :3], truth.T_camera_wrist[p.frame, :3, :3])) for p in poses]
    assert len(poses) >= 0.9 * len(frames)
    assert np.median(off) < 10


def test_what_the_detector_takes_for_the_other_side_has_no_pose():
    _, detections = hands()
    detections[7] = Detection(7, detections[7].keypoints_px, 0.9, 0.2, 0.01)
    assert [pose.frame for pose in solved(detections)] == [k for k in range(FRAMES) if k != 7]
