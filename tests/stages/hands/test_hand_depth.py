"""What of a depth map is the hand, and how far it is."""

import cv2
import numpy as np
import pytest

from stages.hands.hand_depth import SKIN_TO_JOINT_M, depth_under, joints_on_depth, palm_depth, surface_z
from stages.hands.palm import Palm
from stages.hands.wrist import WristFit
from tests.stages.hands.test_wrist import K, frontal, keypoints
from videolift.artifacts import PALM_JOINTS
from videolift.geometry import transform

PALM = Palm.of("right")


def flat_scene(distance_m, T, hand_m):
    """Depth of a table at ``distance_m`` with the hull of a hand at pose ``T`` in front, all of it at ``hand_m``."""
    depth = np.full((384, 512), distance_m, np.float32)
    hull = cv2.convexHull(np.rint(keypoints(T)).astype(np.int32))
    cv2.fillConvexPoly(depth, hull, hand_m)
    return depth


def test_joints_are_where_the_depth_is_and_not_turned_again(orbit_truth):
    truth = orbit_truth
    for k in range(0, 60, 7):
        joints = joints_on_depth(truth.keypoints_px[k], truth.depth_m[k], truth.K, float(truth.joints_camera[k, 9, 2]))
        error = np.linalg.norm(joints - truth.joints_camera[k], axis=1)[list(PALM_JOINTS)]
        assert np.nanmedian(error) < 0.015


def test_a_keypoint_outside_the_image_has_no_depth_instead_of_the_borders():
    depth = np.full((384, 512), 0.5, np.float32)
    uv = np.array([[-0.6, 100], [511.6, 100], [100, -2], [100, 383.6], [560, 100], [100, 100], [-0.5, 383.4]])
    outside = [True, True, True, True, True, False, False]
    assert np.isnan(depth_under(depth, uv)).tolist() == outside
    assert np.isnan(surface_z(depth, uv, 0.5, 0.1, 80.0)).tolist() == outside


@pytest.mark.parametrize("hole", [0.0, np.inf, np.nan, -1.0])
def test_depth_that_is_none_is_not_taken_for_depth(hole):
    depth = np.full((40, 40), hole, np.float32)
    depth[19:22, 21:23] = 0.6
    assert depth_under(depth, [[20, 20], [5, 5]])[0] == pytest.approx(0.6)
    assert np.isnan(depth_under(depth, [[5, 5]])[0])
    assert np.isnan(surface_z(depth, [[5, 5]], 0.6, 0.1, 40.0)[0])


def test_depth_behind_the_hand_is_not_the_hands():
    """Under most of a joint's pixels the table shines through; what there is of the finger counts, and without any nothing."""
    depth = np.full((60, 60), 1.6, np.float32)
    depth[28:33, 28:30] = 0.5
    assert surface_z(depth, [[30, 30]], 0.52, 0.1, 80.0)[0] == pytest.approx(0.5 + SKIN_TO_JOINT_M)
    assert np.isnan(surface_z(np.full((60, 60), 1.6, np.float32), [[30, 30]], 0.52, 0.1, 80.0)[0])


def test_of_two_surfaces_within_reach_the_nearer_one_is_the_hand():
    depth = np.full((60, 60), 0.58, np.float32)
    depth[27:34, 27:30] = 0.5
    assert surface_z(depth, [[30, 30]], 0.53, 0.1, 80.0)[0] == pytest.approx(0.5 + SKIN_TO_JOINT_M)


def test_the_palms_distance_is_what_its_pixels_agree_on():
    T = frontal()
    found = palm_depth(WristFit(T, 1.0, 0.0), keypoints(T), flat_scene(0.9, T, 0.6), K, PALM)
    expected = 0.61 / np.median(transform(T, PALM.points_m())[:, 2])
    assert found.ratio == pytest.approx(expected, rel=0.05)
    assert found.share > 0.5


def test_a_palm_that_the_table_shines_through_has_the_nearer_distance():
    T = frontal()
    depth = flat_scene(0.7, T, 0.5)
    depth[::2] = 0.7  # every second line is the table's
    found = palm_depth(WristFit(T, 1.0, 0.0), keypoints(T), depth, K, PALM)
    assert found.ratio < 0.6 / 0.5


@pytest.mark.parametrize("depth_m", [0.0, 2.5])
def test_without_the_palm_in_it_depth_says_nothing(depth_m):
    T = frontal()
    depth = np.full((384, 512), depth_m, np.float32)
    assert palm_depth(WristFit(T, 1.0, 0.0), keypoints(T), depth, K, PALM) is None
