"""Where a hand is, from its pixels, its size and the depth it lies in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.hands.hand_depth import SKIN_TO_JOINT_M
from stages.hands.placement import locate_wrist, wrist_translation, wrists_by_one_method
from videolift.geometry import pinhole, project

K = pinhole(400.0, 512, 384)
JOINTS = np.random.default_rng(0).uniform(-0.08, 0.08, (21, 3))
JOINTS[0] = 0


@given(st.floats(-0.3, 0.3), st.floats(-0.2, 0.2), st.floats(0.25, 2.0))
def test_a_hand_is_found_where_it_projects_from_far_off_the_image_centre_too(x, y, z):
    wrist = np.array([x, y, z])
    uv = project(JOINTS + wrist, K)
    assert wrist_translation(JOINTS, uv, K) == pytest.approx(wrist, abs=1e-9)
    assert wrist_translation(JOINTS, uv, K, z_m=z) == pytest.approx(wrist, abs=1e-9)


def test_a_wrist_outside_the_image_is_not_clamped_into_it():
    wrist = np.array([-0.5, 0.0, 0.6])
    uv = project(JOINTS + wrist, K)
    assert uv[0, 0] < -50
    assert locate_wrist(JOINTS, uv, K, np.ones((384, 512))).by_size_m == pytest.approx(wrist)


def test_the_object_in_front_and_the_table_behind_do_not_move_the_hand():
    wrist = np.array([0.0, 0.0, 0.6])
    uv = project(JOINTS + wrist, K)
    depth = np.zeros((384, 512))
    for (u, v), z in zip(np.rint(uv).astype(int), (JOINTS + wrist)[:, 2], strict=True):
        depth[v - 3 : v + 4, u - 3 : u + 4] = z - SKIN_TO_JOINT_M
    for i, z in ((3, 0.2), (7, 0.3), (12, 1.5), (16, 1.5)):
        u, v = np.rint(uv[i]).astype(int)
        depth[v - 3 : v + 4, u - 3 : u + 4] = z
    assert locate_wrist(JOINTS, uv, K, depth).depth_z_m == pytest.approx(0.6, abs=0.03)


def test_infinite_depth_is_no_depth():
    uv = project(JOINTS + [0, 0, 0.6], K)
    assert np.isnan(locate_wrist(JOINTS, uv, K, np.full((384, 512), np.inf)).depth_z_m)


def test_a_hand_behind_the_camera_has_no_place():
    assert locate_wrist(JOINTS, -project(JOINTS + [0, 0, 0.6], K), K, None) is None


def test_one_method_per_hand_and_frames_without_depth_follow_the_others():
    """The model's hand is 10 % too large: every frame is corrected alike, also the one whose depth is missing."""
    wrists = [np.array([0.0, 0.0, z]) for z in (0.5, 0.55, 0.6)]
    uv = [project(JOINTS + wrist, K) for wrist in wrists]
    large = [1.1 * JOINTS] * 3
    depth = [np.full((384, 512), wrist[2] - SKIN_TO_JOINT_M) for wrist in wrists]
    places = [locate_wrist(j, u, K, z) for j, u, z in zip(large, uv, [depth[0], None, depth[2]], strict=True)]
    found, method = wrists_by_one_method(places, large, uv, K)
    assert method == "hand_depth"
    off = [abs(f[2] - wrist[2]) for f, wrist in zip(found, wrists, strict=True)]
    assert max(off) < 0.025
    _, method = wrists_by_one_method([locate_wrist(j, u, K, None) for j, u in zip(large, uv, strict=True)], large, uv, K)
    assert method == "hand_size"
