"""Single-frame hands to two steady series."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stages.hands.temporal import PARENTS, Series, consistent, median_betas, steady
from videolift.geometry import invert_pose, is_rotation, rotation_angle, transform

LEFT, RIGHT = 0, 1
HAND = np.random.default_rng(3).uniform(-50, 50, (21, 2))


def moving(frames=20, speed=1.0, fps=10.0):
    times = np.arange(frames) / fps
    return np.stack([speed * times, 0 * times, 0.5 + 0 * times], 1), times


def kept(P, t, frames=None, **limits):
    frames = np.arange(len(P)) if frames is None else frames
    return np.flatnonzero(consistent(P, t, frames, **({"max_burst": 5, "max_speed": 3.0} | limits))).tolist()


@pytest.mark.parametrize("bad", [[0], [19], [7], [0, 1], [8, 9, 10], [0, 12, 19]])
def test_an_outlier_costs_its_own_frames_and_no_good_one(bad):
    P, t = moving()
    P[bad] += [0.0, 1.5, 0.0]
    assert kept(P, t) == [k for k in range(20) if k not in bad]


def test_an_outlier_in_the_first_frame_does_not_delete_the_good_ones():
    P, t = moving(frames=6)
    P[0] = [5.0, 5.0, 5.0]
    assert kept(P, t) == [1, 2, 3, 4, 5]


def test_fast_motion_below_the_limit_is_no_outlier():
    P, t = moving(speed=2.9)
    assert len(kept(P, t)) == 20


def test_a_jump_between_two_long_stretches_deletes_neither():
    P, t = moving()
    P[10:] += [0.0, 2.0, 0.0]
    assert len(kept(P, t)) == 20


def test_speed_is_per_second_not_per_frame():
    P, t = moving(frames=6)
    P[3:] += [0.0, 1.0, 0.0]
    t[3:] += 1.0  # a second without detections: a metre is no jump
    assert len(kept(P, t, frames=np.array([0, 1, 2, 13, 14, 15]))) == 6


@given(st.lists(st.floats(-1, 1, width=32), max_size=12))
def test_positions_alone_never_fail(values):
    P = np.array([[v, 0, 0] for v in values]).reshape(-1, 3)
    assert len(consistent(P, np.arange(len(P)) / 10, np.arange(len(P)), max_burst=3, max_speed=1.0)) == len(P)


def chain_of_bones(curl):
    """Joints (21, 3) in the wrist frame of a hand whose fingers are bent by ``curl`` radians per joint."""
    joints = np.zeros((21, 3))
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            depth = (joint - 1) % 4
            turn = Rotation.from_euler("z", curl * depth).as_matrix()
            joints[joint] = joints[parent] + turn @ [-0.03, 0.0, 0.01 * ((joint - 1) // 4 - 2)]
    return joints


AXIS = np.array([0.6, 0.64, 0.48])
"""Of the hand's turn; askew, so that a bone that took its own shortest way would leave its wrist."""


def bone_lengths(joints):
    children = [j for j, parent in enumerate(PARENTS) if parent >= 0]
    return np.linalg.norm(joints[..., children, :] - joints[..., [PARENTS[j] for j in children], :], axis=-1)


def measured(turns_deg, curls, seen, frames=9):
    """A right hand that turns by ``turns_deg`` and bends its fingers by ``curls`` from frame to frame, seen in some of them."""
    series = Series.empty(frames)
    for k in seen:
        T = np.eye(4)
        T[:3, :3] = Rotation.from_rotvec(np.radians(turns_deg) * k * AXIS).as_matrix()
        T[:3, 3] = [0.01 * k, 0.0, 0.5]
        series.valid[k, RIGHT], series.score[k, RIGHT] = True, 0.9
        series.T_camera_wrist[k, RIGHT] = T
        series.joints_camera[k, RIGHT] = transform(T, chain_of_bones(curls * k))
        series.keypoints_px[k, RIGHT] = HAND + 10 * k
        series.mano_pose[k, RIGHT] = Rotation.from_euler("z", np.full((15, 1), curls * k)).as_matrix()
    return series


def fill(series, max_gap=5, pts=None, max_speed=3.0):
    pts = np.arange(len(series.valid)) / 10 if pts is None else pts
    return steady(series, pts, max_gap=max_gap, max_speed_m_s=max_speed)


def test_interpolated_rotations_are_rotations():
    out = fill(measured(30.0, 0.5, seen=[0, 4, 8], frames=9))
    filled = [1, 2, 3, 5, 6, 7]
    assert is_rotation(out.T_camera_wrist[filled, RIGHT, :3, :3]).all()
    assert is_rotation(out.mano_pose[filled, RIGHT]).all()
    for k in filled:
        assert np.degrees(
            rotation_angle(out.T_camera_wrist[0, RIGHT, :3, :3], out.T_camera_wrist[k, RIGHT, :3, :3])
        ) == pytest.approx(min(30.0 * k, 360 - 30.0 * k))
        assert np.allclose(out.mano_pose[k, RIGHT, 3], Rotation.from_euler("z", 0.5 * k).as_matrix())


def test_interpolated_bones_keep_their_length():
    out = fill(measured(40.0, 0.3, seen=[0, 4]))
    assert np.allclose(bone_lengths(out.joints_camera[1:4, RIGHT]), bone_lengths(chain_of_bones(0.0)), rtol=1e-6)


def test_interpolated_joints_stay_on_their_wrist():
    out = fill(measured(40.0, 0.0, seen=[0, 4]))
    for k in (1, 2, 3):
        local = transform(invert_pose(out.T_camera_wrist[k, RIGHT]), out.joints_camera[k, RIGHT])
        assert np.allclose(local, chain_of_bones(0.0), atol=1e-9)


def test_a_joint_unseen_at_one_end_stays_unknown_and_the_others_are_filled():
    series = measured(20.0, 0.1, seen=[0, 3])
    series.joints_camera[3, RIGHT, 6] = np.nan
    out = fill(series)
    assert np.isnan(out.joints_camera[1, RIGHT, 6]).all()
    assert np.isfinite(out.joints_camera[1, RIGHT, [5, 7, 8, 20]]).all()


def test_what_is_filled_is_flagged_and_what_is_measured_is_not():
    out = fill(measured(10.0, 0.0, seen=[1, 2, 5, 8]))
    assert out.valid[:, RIGHT].tolist() == [False] + [True] * 8
    assert np.flatnonzero(out.interpolated[:, RIGHT]).tolist() == [3, 4, 6, 7]
    assert not out.valid[:, LEFT].any()
    assert np.isnan(out.score[[3, 4, 6, 7], RIGHT]).all()
    assert np.allclose(out.keypoints_px[3, RIGHT], HAND + 30)


@pytest.mark.parametrize(("max_gap", "filled"), [(0, 0), (2, 0), (3, 3), (9, 3)])
def test_only_gaps_up_to_max_gap_are_filled_and_nothing_beyond_the_ends(max_gap, filled):
    out = fill(measured(10.0, 0.0, seen=[2, 6]), max_gap=max_gap)
    assert out.interpolated.sum() == filled
    assert not out.valid[[0, 1, 7, 8], RIGHT].any()


def test_interpolation_goes_by_time_not_by_frame_number():
    pts = np.array([0.0, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6])
    out = fill(measured(10.0, 0.0, seen=[0, 2]), pts=pts)
    assert out.T_camera_wrist[1, RIGHT, 0, 3] == pytest.approx(0.018)
    assert np.degrees(rotation_angle(out.T_camera_wrist[1, RIGHT, :3, :3], np.eye(3))) == pytest.approx(18.0)


def test_an_outlier_is_forgotten_whole_then_filled_between_good_frames():
    series = measured(5.0, 0.0, seen=range(9))
    series.T_camera_wrist[4, RIGHT, :3, 3] += [0.0, 2.0, 0.0]
    series.keypoints_px[4, RIGHT] += 300
    out = fill(series)
    assert np.flatnonzero(out.interpolated[:, RIGHT]).tolist() == [4]
    assert np.allclose(out.T_camera_wrist[4, RIGHT, :3, 3], [0.04, 0.0, 0.5])
    assert np.allclose(out.keypoints_px[4, RIGHT], HAND + 40)


def test_the_measured_series_is_not_changed():
    series = measured(10.0, 0.0, seen=[0, 3])
    fill(series)
    assert series.valid.sum() == 2
    assert np.isnan(series.T_camera_wrist[1, RIGHT]).all()


def test_hands_without_joints_or_mano_are_filled_all_the_same():
    series = measured(10.0, 0.0, seen=[0, 3])
    series.joints_camera[:], series.mano_pose[:] = np.nan, np.nan
    out = fill(series)
    assert out.valid[:4, RIGHT].all()
    assert np.isnan(out.joints_camera).all()
    assert np.isnan(out.mano_pose).all()


def test_betas_are_the_median_of_measured_frames():
    betas, valid = np.zeros((5, 2, 10)), np.zeros((5, 2), bool)
    betas[:, RIGHT] = np.array([1.0, 2.0, 3.0, 500.0, np.nan])[:, None]
    valid[[0, 1, 2, 4], RIGHT] = True
    found = median_betas(betas, valid)
    assert np.allclose(found[RIGHT], 2.0)
    assert np.isnan(found[LEFT]).all()
