"""Depth, poses, tracks and joints of a rendered clip agree with each other, each checked by another way than it was made."""

import numpy as np
import pytest

from stages.sample import CLIPS, render
from stages.sample.artifacts import grid
from stages.sample.scene import FOREARM, HAND, HELD_BOX, TABLE
from videolift.geometry import T_camk_cam0, invert_pose, is_rotation, mirror_rotation, project, transform, unproject

TABLE_HALF_M = np.array([0.62, 0.42])


def world_points(truth, frame):
    height, width = truth.depth_m.shape[1:]
    uv = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    points = unproject(uv, truth.depth_m[frame], truth.K)
    return transform(invert_pose(truth.T_camera_world[frame]), points.reshape(-1, 3)).reshape(points.shape)


def still_grid(truth, start, step_px=6):
    uv = grid(*truth.depth_m.shape[:0:-1], step_px)
    column, row = uv.astype(int).T
    moving = truth.moving[start, row, column]
    return uv[~moving], uv[moving]


@pytest.mark.parametrize("side", ["left", "right"])
def test_depth_behind_pixel_centres_puts_the_table_on_its_plane(side, request):
    truth = request.getfixturevalue(side)
    for frame in (0, 20, 37):
        table = world_points(truth, frame)[truth.instance[frame] == TABLE]
        on_top = np.abs(table[:, 2]) < 2e-6
        beside = (np.abs(np.abs(table[:, :2] - [0, 0.12]) - TABLE_HALF_M) < 2e-6).any(1)
        assert (on_top | beside).all()
        assert on_top.mean() > 0.9


def test_half_a_pixel_off_the_table_would_not_be_a_plane(right):
    height, width = right.depth_m.shape[1:]
    uv = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    points = transform(invert_pose(right.T_camera_world[0]), unproject(uv, right.depth_m[0], right.K).reshape(-1, 3))
    assert np.abs(points[(right.instance[0] == TABLE).ravel(), 2]).max() > 5e-4


@pytest.mark.parametrize("side", ["left", "right"])
def test_still_points_stay_put_between_frames(side, request):
    truth = request.getfixturevalue(side)
    height, width = truth.depth_m.shape[1:]
    world = world_points(truth, 3)[~truth.moving[3]]
    seen = transform(truth.T_camera_world[15], world)
    uv = np.rint(project(seen, truth.K)).astype(int)
    inside = ((uv >= 0) & (uv < [width, height])).all(1)
    z = truth.depth_m[15][uv[inside, 1], uv[inside, 0]]
    nearer = z < seen[inside, 2] - 0.02  # something came in between
    assert nearer.mean() < 0.15
    assert np.median(np.abs(z - seen[inside, 2])) < 2e-3
    assert np.mean(z > seen[inside, 2] + 0.02) < 0.02


def test_the_principal_point_is_the_middle_of_the_pixel_grid():
    for name, spec in CLIPS.items():
        K = render(name, frames=1).K
        assert K[0, 2] == (spec.width - 1) / 2
        assert K[1, 2] == (spec.height - 1) / 2
        assert K[0, 0] == K[1, 1]


@pytest.mark.parametrize("side", ["left", "right"])
def test_tracks_start_where_they_were_asked_and_reproject(side, request):
    truth = request.getfixturevalue(side)
    uv = np.random.default_rng(0).uniform([0, 0], np.subtract(truth.depth_m.shape[:0:-1], 1), (300, 2))
    xyz_cam0, uv_k, visible = truth.tracks(20, uv, 12)
    assert visible[0].all()
    np.testing.assert_allclose(uv_k[0], uv, atol=1e-9)
    points_k = transform(T_camk_cam0(truth.T_camera_world[20:32]), xyz_cam0)
    np.testing.assert_allclose(project(points_k, truth.K), uv_k, atol=1e-9)


def test_tracks_of_what_stands_still_do_not_move_in_the_world(right):
    still, moving = still_grid(right, 20)
    T_world_cam0 = invert_pose(right.T_camera_world[20])
    world = transform(T_world_cam0, right.tracks(20, still, 15)[0])
    np.testing.assert_allclose(world, np.broadcast_to(world[0], world.shape), atol=1e-12)
    moved = transform(T_world_cam0, right.tracks(20, moving, 15)[0])
    assert np.linalg.norm(moved[-1] - moved[0], axis=1).max() > 0.02


@pytest.mark.parametrize("side", ["left", "right"])
def test_points_on_the_held_box_move_with_the_wrist_that_holds_it(side, request):
    truth, start = request.getfixturevalue(side), 27
    uv = grid(*truth.depth_m.shape[:0:-1], 2)
    column, row = uv.astype(int).T
    uv = uv[truth.instance[start, row, column] == HELD_BOX]
    assert len(uv) > 30
    world = transform(invert_pose(truth.T_camera_world[start]), truth.tracks(start, uv, 11)[0])
    motion = truth.T_world_wrist[start : start + 11] @ invert_pose(truth.T_world_wrist[start])
    np.testing.assert_allclose(world, transform(motion, np.broadcast_to(world[0], world.shape)), atol=1e-12)
    assert np.linalg.norm(world[-1] - world[0], axis=1).min() > 0.005


def test_visible_points_lie_at_the_depth_of_their_pixel_and_hidden_ones_behind_it(right):
    uv = grid(*right.depth_m.shape[:0:-1], 3)
    height, width = right.depth_m.shape[1:]
    xyz_cam0, uv_k, visible = right.tracks(10, uv, 20)
    z = transform(T_camk_cam0(right.T_camera_world[10:30]), xyz_cam0)[..., 2]
    pixel = np.rint(uv_k[19]).astype(int)
    inside = ((pixel >= 0) & (pixel < [width, height])).all(1)
    assert not visible[19, ~inside].any()
    depth = right.depth_m[29][pixel[inside, 1], pixel[inside, 0]]
    z, visible = z[19, inside], visible[19, inside]
    assert (~visible).sum() > 100  # the arm has come in between
    assert np.mean(np.abs(depth - z)[visible] < 0.01) > 0.97
    assert np.mean(z[~visible] > depth[~visible]) > 0.95


def test_a_point_may_come_back_into_view(right):
    _, _, visible = right.tracks(0, grid(*right.depth_m.shape[:0:-1], 2), 38)
    gone = ~visible & (np.cumsum(~visible, axis=0) > 0)
    assert (gone[:-1] & visible[1:]).any()


def test_tracks_beyond_the_clip_are_refused(right):
    with pytest.raises(ValueError, match="frames 30 to 40 of a clip of 38"):
        right.tracks(30, np.zeros((1, 2)), 10)


@pytest.mark.parametrize("side", ["left", "right"])
def test_joints_project_into_the_hand_and_lie_inside_the_flesh(side, request):
    truth = request.getfixturevalue(side)
    height, width = truth.depth_m.shape[1:]
    pixel = np.rint(truth.keypoints_px).astype(int)
    inside = ((pixel >= 0) & (pixel < [width, height])).all(-1)
    assert inside.mean() > 0.95
    frame = np.broadcast_to(np.arange(len(pixel))[:, None], pixel.shape[:2])[inside]
    seen, surface = (a[frame, pixel[inside][:, 1], pixel[inside][:, 0]] for a in (truth.instance, truth.depth_m))
    assert np.mean(np.isin(seen, (HAND, FOREARM, HELD_BOX))) > 0.98
    assert np.mean(np.isin(seen, (HAND, FOREARM))) > 0.75
    z = truth.joints_camera[inside][:, 2]
    on_hand = seen == HAND
    assert np.mean(surface[on_hand] < z[on_hand] - 0.002) > 0.98
    assert np.quantile(z[on_hand] - surface[on_hand], 0.5) < 0.03


@pytest.mark.parametrize(("side", "fingers_x"), [("right", -1), ("left", 1)])
def test_the_hand_frame_has_fingers_back_and_thumb_where_the_contract_says(side, fingers_x, request):
    truth = request.getfixturevalue(side)
    assert is_rotation(truth.T_world_wrist[:, :3, :3], 1e-9).all()
    joints = transform(invert_pose(truth.T_world_wrist), truth.joints_world)
    np.testing.assert_allclose(joints[:, 0], 0, atol=1e-12)
    assert (fingers_x * joints[:, [5, 9, 13, 17], 0] > 0.06).all()
    assert (joints[:, 1:5, 2] > 0.02).all(), "the thumb lies on +z"
    assert joints[-1, 12, 1] < joints[0, 12, 1] - 0.02, "closing bends the fingers away from the back, to -y"


def test_a_left_hand_is_the_mirror_image_of_a_right_one(left, right):
    np.testing.assert_array_equal(left.rgb, right.rgb[:, :, ::-1])
    np.testing.assert_array_equal(left.depth_m, right.depth_m[:, :, ::-1])
    np.testing.assert_allclose(left.T_camera_wrist[:, :3, :3], mirror_rotation(right.T_camera_wrist[:, :3, :3]), atol=1e-12)
    np.testing.assert_allclose(left.joints_camera, right.joints_camera * [-1, 1, 1], atol=1e-12)
    uv = np.array([[40.25, 61.5], [100, 70], [120, 90]])
    there = [191, 0] - uv * [1, -1]
    for got, expected, mirror in zip(left.tracks(5, there, 20), right.tracks(5, uv, 20), ([-1, 1, 1], [-1, 1], 1), strict=True):
        shift = [191, 0] if got.shape[-1] == 2 and got.dtype != bool else 0
        np.testing.assert_allclose(got, expected * np.array(mirror) + shift, atol=1e-9)
