"""Cameras, poses and rotations by their properties: round trips, group laws, and what a resized picture really shows."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from videolift import geometry as g

small = st.floats(-3, 3, allow_nan=False, width=32)
vectors = st.tuples(small, small, small).map(np.array)
rotations = vectors.map(lambda v: Rotation.from_rotvec(v).as_matrix())


def pose(R, t):
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T


poses = st.builds(pose, rotations, vectors)
paths = st.lists(poses, min_size=2, max_size=5).map(np.stack)
points = st.lists(vectors, min_size=1, max_size=6).map(np.stack)
in_front = st.lists(st.tuples(small, small, st.floats(0.125, 5, width=32)).map(np.array), min_size=1, max_size=6).map(np.stack)
sides = st.integers(8, 400)
sizes = st.tuples(sides, sides)
cameras = st.builds(
    lambda fx, fy, cx, cy: np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]),
    st.floats(20, 900),
    st.floats(20, 900),
    st.floats(-20, 400),
    st.floats(-20, 400),
)


def same(a, b, tolerance=1e-9):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@given(poses)
def test_inverse_pose_undoes_a_pose(T_a_b):
    same(g.invert_pose(T_a_b) @ T_a_b, np.eye(4))
    same(g.invert_pose(g.invert_pose(T_a_b)), T_a_b)
    same(g.invert_pose(T_a_b), np.linalg.inv(T_a_b))


@given(poses, poses, points)
def test_poses_compose_as_their_names_read(T_a_b, T_b_c, points_c):
    same(g.transform(T_a_b @ T_b_c, points_c), g.transform(T_a_b, g.transform(T_b_c, points_c)))


@given(paths)
def test_many_poses_at_once_are_each_pose(T):
    same(g.invert_pose(T), [g.invert_pose(one) for one in T])


@given(paths, points)
def test_T_cam0_camk_takes_a_point_seen_by_camera_k_to_camera_0(T_camera_world, points_world):
    seen = g.transform(T_camera_world, points_world)
    for k, T in enumerate(g.T_cam0_camk(T_camera_world)):
        same(g.transform(T, seen[k]), seen[0], 1e-8)


@given(paths, points)
def test_T_camk_cam0_are_extrinsics_of_a_world_that_is_camera_0(T_camera_world, points_world):
    seen = g.transform(T_camera_world, points_world)
    for k, T in enumerate(g.T_camk_cam0(T_camera_world)):
        same(g.transform(T, seen[0]), seen[k], 1e-8)


@given(paths)
def test_the_first_camera_of_a_window_is_its_own_frame(T_camera_world):
    same(g.T_cam0_camk(T_camera_world)[0], np.eye(4))
    same(g.T_cam0_camk(T_camera_world) @ g.T_camk_cam0(T_camera_world), np.broadcast_to(np.eye(4), T_camera_world.shape))


@given(paths, poses)
def test_relative_poses_do_not_depend_on_where_the_world_is(T_camera_world, T_world_other):
    same(g.T_cam0_camk(T_camera_world @ T_world_other), g.T_cam0_camk(T_camera_world), 1e-8)


@given(in_front, cameras)
def test_unprojecting_a_projected_point_gives_it_back(points_camera, K):
    same(g.unproject(g.project(points_camera, K), points_camera[:, 2], K), points_camera)


@pytest.mark.parametrize("z", [0.0, -1.0, np.nan])
def test_what_is_not_in_front_of_the_camera_has_no_pixel(z):
    assert np.isnan(g.project([[0.1, 0.2, z]], g.pinhole(100, 64, 48))).all()


@given(in_front, cameras, sizes, sizes)
def test_resizing_the_camera_moves_pixels_as_resizing_the_picture_does(points_camera, K, size_from, size_to):
    resized = g.project(points_camera, g.resize_intrinsics(K, size_from, size_to))
    same(resized, g.resize_pixels(g.project(points_camera, K), size_from, size_to), 1e-6)


@given(cameras, sizes, sizes, sizes)
def test_resizing_twice_is_resizing_once(K, a, b, c):
    same(g.resize_intrinsics(g.resize_intrinsics(K, a, b), b, c), g.resize_intrinsics(K, a, c), 1e-7)
    same(g.resize_intrinsics(K, a, a), K)


@given(sizes, sizes)
def test_the_corners_of_a_picture_stay_its_corners(size_from, size_to):
    corners = [(-0.5, -0.5), (size_from[0] - 0.5, size_from[1] - 0.5)]
    same(g.resize_pixels(corners, size_from, size_to), [(-0.5, -0.5), (size_to[0] - 0.5, size_to[1] - 0.5)])


@given(in_front, cameras, st.integers(0, 50), st.integers(0, 50))
def test_cropping_moves_pixels_by_what_was_cut_away(points_camera, K, left, top):
    same(g.project(points_camera, g.crop_intrinsics(K, left, top)), g.project(points_camera, K) - [left, top], 1e-6)


@given(in_front, st.integers(8, 400))
def test_a_mirrored_scene_in_a_centred_camera_is_the_flipped_picture(points_camera, width):
    K = g.pinhole(100, width, 64)
    uv, flipped = g.project(points_camera, K), g.project(g.mirror_points(points_camera), K)
    same(flipped, np.stack([width - 1 - uv[:, 0], uv[:, 1]], 1), 1e-6)


def test_arguments_are_left_as_they_were():
    K = g.pinhole(100, 64, 48)
    before = K.copy()
    g.resize_intrinsics(K, (64, 48), (32, 24)), g.crop_intrinsics(K, 3, 4)
    same(K, before)


def dot(u: float, v: float, width: int, height: int, radius: float) -> np.ndarray:
    """A soft dot centred at (u, v), integer coordinates being pixel centres."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * radius**2)).astype(np.float32)


def centre(image: np.ndarray) -> np.ndarray:
    y, x = np.indices(image.shape)
    return np.array([(x * image).sum(), (y * image).sum()]) / image.sum()


@pytest.mark.parametrize(
    ("size_to", "how"), [((256, 192), cv2.INTER_AREA), ((171, 128), cv2.INTER_LINEAR), ((700, 480), cv2.INTER_CUBIC)]
)
def test_a_dot_lands_where_the_half_pixel_rule_says(size_to, how):
    uv = np.array([101.3, 200.8])
    picture = cv2.resize(dot(*uv, 512, 384, 6.0), size_to, interpolation=how)
    np.testing.assert_allclose(centre(picture), g.resize_pixels(uv, (512, 384), size_to), atol=0.01)


def test_a_dot_lands_where_the_crop_says():
    uv, K = np.array([101.3, 200.8]), g.pinhole(300, 512, 384)
    ray = g.unproject(uv, np.array(2.0), K)
    picture = dot(*uv, 512, 384, 6.0)
    np.testing.assert_allclose(centre(picture[40:, 30:]), g.project(ray, g.crop_intrinsics(K, 30, 40)), atol=1e-3)


def test_a_pinhole_looks_at_the_middle_of_its_picture():
    K = g.pinhole(100, 512, 384)
    same(g.project([[0, 0, 1.0]], K), [[255.5, 191.5]])


def test_a_field_of_view_is_the_angle_between_the_outer_edges_of_the_image():
    assert g.field_of_view_deg(256, 512) == pytest.approx(90)
    edges = g.unproject([[-0.5, 191.5], [511.5, 191.5]], [1.0, 1.0], g.pinhole(256, 512, 384))
    same(edges[:, :2], [[-1, 0], [1, 0]])
    assert g.focal_of_field_of_view(g.field_of_view_deg(430, 512), 512) == pytest.approx(430)


def test_6d_is_the_first_two_columns_and_not_rows():
    R = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    same(g.rotation_6d(R), [0, 1, 0, -1, 0, 0])
    same(g.pose_9d(pose(R, [7, 8, 9])), [0, 1, 0, -1, 0, 0, 7, 8, 9])


@given(rotations)
def test_6d_and_back_is_the_same_rotation(R):
    same(g.rotation_from_6d(g.rotation_6d(R)), R)


@given(rotations, vectors, st.floats(0.5, 2))
def test_any_six_numbers_become_a_rotation(R, noise, factor):
    six = g.rotation_6d(R) * factor + 0.03 * np.tile(noise, 2)
    assert g.is_rotation(g.rotation_from_6d(six))


@given(rotations, points)
def test_mirroring_a_rotation_is_rotating_the_mirror_image(R, x):
    same(g.mirror_points(x @ R.T), g.mirror_points(x) @ g.mirror_rotation(R).T)


@given(rotations, rotations)
def test_mirroring_keeps_products_angles_and_handedness(R, Q):
    same(g.mirror_rotation(R @ Q), g.mirror_rotation(R) @ g.mirror_rotation(Q))
    same(g.mirror_rotation(g.mirror_rotation(R)), R)
    assert g.is_rotation(g.mirror_rotation(R))
    same(g.rotation_angle(g.mirror_rotation(R), np.eye(3)), g.rotation_angle(R, np.eye(3)), 1e-6)


def test_left_hand_rotation_is_mirrored():
    half_turn_of_fingers = Rotation.from_euler("z", 40, degrees=True).as_matrix()
    same(g.mirror_rotation(half_turn_of_fingers), half_turn_of_fingers.T)  # about y and z the sense turns round
    about_fingers = Rotation.from_euler("x", 40, degrees=True).as_matrix()
    same(g.mirror_rotation(about_fingers), about_fingers)  # about the mirrored axis it stays


@pytest.mark.parametrize(
    "wrong",
    [np.diag([-1.0, 1, 1]), 1.01 * np.eye(3), np.full((3, 3), np.nan), np.zeros((3, 3)), np.full((3, 3), np.inf)],
    ids=["mirror", "scaled", "nan", "zero", "inf"],
)
def test_what_is_no_rotation_is_told(wrong):
    assert g.is_rotation(np.stack([np.eye(3), wrong])).tolist() == [True, False]


@given(rotations, rotations)
def test_angle_is_a_distance_between_rotations(R, Q):
    assert 0 <= g.rotation_angle(R, Q) <= np.pi + 1e-9
    same(g.rotation_angle(R, Q), g.rotation_angle(Q, R), 1e-6)
    same(g.rotation_angle(R @ Q, Q), Rotation.from_matrix(R).magnitude(), 1e-6)


@given(rotations, rotations, st.floats(0, 1))
def test_between_two_rotations_lies_a_rotation_at_the_same_share_of_the_angle(R, Q, share):
    angle = g.rotation_angle(R, Q)
    assume(angle < 3.1)
    between = g.slerp([2.0, 4.0], [R, Q], [2 + 2 * share])[0]
    assert g.is_rotation(between)
    same(g.rotation_angle(R, between), share * angle, 1e-6)


def test_interpolated_rotations_are_rotations_where_averaged_matrices_are_not():
    quarter = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    assert not g.is_rotation((np.eye(3) + quarter) / 2)
    same(g.slerp([0, 1], [np.eye(3), quarter], [0.5])[0], Rotation.from_euler("y", 45, degrees=True).as_matrix())


@given(poses, st.integers(0, 2**32 - 1), st.booleans())
def test_kabsch_finds_the_motion_of_a_cloud(T, seed, flat):
    cloud = np.random.default_rng(seed).normal(size=(12, 3)) * [1, 1, 0 if flat else 1]  # a palm is flat
    found, residual = g.kabsch(cloud, g.transform(T, cloud))
    same(found, T, 1e-7)
    assert residual < 1e-7


def test_kabsch_never_returns_a_reflection():
    cloud = np.random.default_rng(0).normal(size=(20, 3))
    found, residual = g.kabsch(cloud, g.mirror_points(cloud))
    assert g.is_rotation(found[:3, :3])
    assert residual > 0.1


def test_kabsch_listens_to_its_weights():
    cloud = np.random.default_rng(1).normal(size=(20, 3))
    T = pose(Rotation.from_rotvec([0.1, 0.4, -0.2]).as_matrix(), [1, 2, 3])
    moved = g.transform(T, cloud)
    moved[0] += 50
    weights = np.ones(20)
    weights[0] = 0
    same(g.kabsch(cloud, moved, weights)[0], T, 1e-7)
    assert np.abs(g.kabsch(cloud, moved)[0] - T).max() > 0.1
