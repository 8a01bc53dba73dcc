"""Triangulation, resection, joining and the plane prior on exact input: every composition and every half pixel shows."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stages.depth.motion.dense_flow import FlowMatch, pixel_grid
from stages.depth.motion.keyframe_chunks import (
    CHUNK_OVERLAP,
    MappedChunk,
    choose_keyframes,
    join_reconstructions,
    longest_run,
    split_into_chunks,
)
from stages.depth.motion.mapping import Reconstruction
from stages.depth.motion.motion_gates import ReconstructionFigures
from stages.depth.motion.observing import follow_rotations
from stages.depth.motion.odometry import lift_smooth
from stages.depth.motion.resection import resect
from stages.depth.motion.triangulation import choose_partners, triangulate_depth
from stages.depth.plane import plane_depth
from tests.stages.depth.synthetic import path, tracks_of
from videolift.geometry import invert_pose, pinhole, project, transform, unproject

SIZE = (64, 48)
K = pinhole(55, *SIZE)


def general_motion(seed, frames=5):
    """Cameras that turn and shift; frame 0 is not the world's origin."""
    rng = np.random.default_rng(seed)
    T = np.tile(np.eye(4), (frames, 1, 1))
    T[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.03, (frames, 3))).as_matrix()
    T[:, :3, 3] = rng.normal(0, 0.08, (frames, 3))
    return T


def matches_of(frame, depth, T_camera_world, partners, K=K, off_px=0.0):
    """Exact flow of a static scene; ``off_px`` (H, W) is added to its columns in every second partner."""
    grid = pixel_grid(*depth.shape).astype(np.float64)
    points = unproject(grid, depth, K)
    out = []
    for number, j in enumerate(partners):
        uv = project(transform(T_camera_world[j] @ invert_pose(T_camera_world[frame]), points.reshape(-1, 3)), K).reshape(
            *depth.shape, 2
        )
        uv[..., 0] += off_px * (number % 2)
        inside = ((uv > 1) & (uv < [depth.shape[1] - 2, depth.shape[0] - 2])).all(-1)
        out.append((j, FlowMatch(uv.astype(np.float32), inside, inside)))
    return out


@pytest.fixture
def relief():
    """Depth (48, 64) of a wavy surface."""
    v, u = np.mgrid[: SIZE[1], : SIZE[0]]
    return 1.0 + 0.2 * np.sin(u / 9) * np.cos(v / 7)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_exact_flow_gives_exact_depth(seed):
    """Fails with poses composed the wrong way round: E_j inv(E_k), not inv(E_k) E_j."""
    v, u = np.mgrid[: SIZE[1], : SIZE[0]]
    relief = 1.0 + 0.2 * np.sin(u / 9) * np.cos(v / 7)
    T = general_motion(seed)
    depth = triangulate_depth(matches_of(2, relief, T, [0, 1, 3, 4]), 2, T, K, 0.3)
    valid = depth > 0
    assert valid.mean() > 0.3
    assert np.abs(depth[valid] / relief[valid] - 1).max() < 2e-3


def test_two_focal_lengths_are_respected(relief):
    stretched = K.copy()
    stretched[1, 1] *= 1.2
    T = general_motion(1)
    depth = triangulate_depth(matches_of(2, relief, T, [0, 1, 3, 4], stretched), 2, T, stretched, 0.3)
    assert np.abs(depth[depth > 0] / relief[depth > 0] - 1).max() < 2e-3


def test_what_moves_by_itself_is_invalid(relief):
    moves = np.zeros(SIZE[::-1], bool)
    moves[15:35, 20:45] = True
    T = general_motion(1)
    depth = triangulate_depth(matches_of(2, relief, T, [0, 1, 3, 4], off_px=6.0 * moves), 2, T, K, 0.3)
    assert (depth[moves] > 0).mean() < 0.02
    assert (depth[~moves] > 0).mean() > 0.5


def test_depth_too_uncertain_is_invalid_and_not_filled_in(relief):
    """With a hundredth of the motion the same flow says nothing."""
    T = general_motion(1)
    T[:, :3, 3] = T[2, :3, 3] + 0.01 * (T[:, :3, 3] - T[2, :3, 3])
    assert (triangulate_depth(matches_of(2, relief, T, [0, 1, 3, 4]), 2, T, K, 0.08) == 0).all()


def test_one_view_is_no_triangulation(relief):
    T = general_motion(1)
    assert triangulate_depth(matches_of(2, relief, T, [0]), 2, T, K, 0.3) is None


def test_partners_are_the_nearest_in_time_that_are_far_enough_apart():
    centres = np.stack([0.0101 * np.arange(60), np.zeros(60), np.zeros(60)], axis=1)
    assert choose_partners(30, centres, np.ones(60, bool), 1.0, 30) == [16, 22, 26, 34, 38, 44]
    known = np.ones(60, bool)
    known[[26, 34]] = False
    assert choose_partners(30, centres, known, 1.0, 30) == [16, 22, 25, 35, 38, 44]
    assert choose_partners(30, 0 * centres, np.zeros(60, bool), 1.0, 30) == []


def test_a_slow_camera_takes_the_farthest_partner_there_is():
    centres = np.stack([1e-3 * np.arange(60), np.zeros(60), np.zeros(60)], axis=1)
    assert choose_partners(30, centres, np.ones(60, bool), 1.0, 20) == [10, 50]


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_resection_finds_world_to_camera(seed):
    T = general_motion(seed)[1]
    rng = np.random.default_rng(seed)
    points = transform(invert_pose(T), unproject(rng.uniform(0, 47, (60, 2)), rng.uniform(0.5, 2, 60), K))
    uv = project(transform(T, points), K)
    uv[:12] += rng.uniform(5, 20, (12, 2))  # what moves by itself
    assert np.allclose(resect(points, uv, K, np.eye(4)), T, atol=1e-4)


def test_points_that_agree_on_nothing_give_no_pose():
    rng = np.random.default_rng(0)
    assert resect(rng.normal(size=(50, 3)) + [0, 0, 3], rng.uniform(0, 48, (50, 2)), K, np.eye(4)) is None
    assert resect(np.zeros((5, 3)), np.zeros((5, 2)), K, np.eye(4)) is None


def stretch(T_camera_world, keyframes, points, ids):
    """A stretch of a clip as a mapper gives it."""
    figures = ReconstructionFigures(1.0, 0.4, 60.0, len(ids), 50.0)
    model = Reconstruction(
        np.array(keyframes),
        T_camera_world[keyframes],
        K,
        np.array(ids, np.int32),
        points[ids],
        figures,
        "global",
        pycolmap.Reconstruction(),
    )
    return MappedChunk(list(keyframes), model)


def moved(part, seed):
    """The same stretch in another world and unit."""
    rng = np.random.default_rng(seed)
    scale, T_new_old = float(rng.uniform(0.3, 3)), np.eye(4)
    T_new_old[:3, :3], T_new_old[:3, 3] = Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3)
    poses = part.model.T_camera_world.copy()
    poses[:, :3, 3] *= scale
    model = part.model
    changed = Reconstruction(
        model.frames,
        poses @ invert_pose(T_new_old),
        model.K,
        model.point_ids,
        transform(T_new_old, scale * model.points_world),
        model.figures,
        model.mapper,
        model.solved,
    )
    return MappedChunk(part.keyframes, changed)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_stretches_are_joined_in_one_world_and_one_unit(seed):
    rng = np.random.default_rng(seed)
    T, points = general_motion(seed, 30), rng.normal(size=(200, 3))
    first = stretch(T, range(18), points, range(120))
    second = stretch(T, range(12, 30), points, range(60, 200))
    joined = join_reconstructions(first.model, moved(second, seed).model)
    assert np.allclose(joined.T_camera_world, T[12:30], atol=1e-6)
    assert np.allclose(joined.points_world, points[60:200], atol=1e-6)


def test_stretches_that_share_too_little_or_disagree_stay_apart():
    rng = np.random.default_rng(0)
    T, points = general_motion(0, 30), rng.normal(size=(200, 3))
    first, second = stretch(T, range(18), points, range(120)), stretch(T, range(12, 30), points, range(60, 200))
    assert join_reconstructions(first.model, stretch(T, range(12, 30), points, range(100, 200)).model) is None
    assert join_reconstructions(first.model, stretch(T, range(12, 30), rng.normal(size=(200, 3)), range(60, 200)).model) is None
    assert len(longest_run([first, second])) == 2
    gap = stretch(T, range(20, 30), points, range(60, 200))
    assert [part.keyframes[0] for part in longest_run([first, gap])] == [0]


def test_keyframes_follow_motion_and_not_the_clock():
    slow, fast = (choose_keyframes(tracks_of(path(shift=shift))) for shift in (0.002, 0.02))
    assert slow[0] == fast[0] == 0
    assert slow[-1] == fast[-1] == 39
    assert len(fast) > 2 * len(slow)


def test_chunks_overlap_and_cover_everything():
    for count in (1, 30, 200, 375, 376, 2500):
        chunks = split_into_chunks(list(range(count)))
        assert sorted({k for chunk in chunks for k in chunk}) == list(range(count))
        assert all(len(set(a) & set(b)) >= min(CHUNK_OVERLAP, count) for a, b in zip(chunks[:-1], chunks[1:], strict=True))
        assert max(len(chunk) for chunk in chunks) < 300


def test_the_plane_lies_where_its_settings_say():
    big = pinhole(430, 512, 384)
    depth = plane_depth(big, (512, 384), np.eye(3), pitch_deg=40, depth_m=0.6)
    points = unproject(pixel_grid(384, 512).astype(np.float64), depth, big).reshape(-1, 3)
    down = np.array([0, np.cos(np.radians(40)), np.sin(np.radians(40))])
    assert np.allclose(points @ down, 0.6 * np.sin(np.radians(40)), atol=1e-6)
    assert depth[191:193, 255:257].mean() == pytest.approx(0.6, rel=1e-3)
    assert depth[0, 0] > depth[-1, 0]


def test_the_plane_ends_before_its_horizon():
    depth = plane_depth(pinhole(200, 512, 384), (512, 384), np.eye(3), pitch_deg=20, depth_m=0.6)
    assert (depth[0] == 0).all()
    assert depth.max() <= 5 * 0.6


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_a_turning_camera_sees_the_same_plane(seed):
    """All that a turned camera sees of the plane lies, turned back, on the plane of frame 0."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(np.random.default_rng(seed).normal(0, 0.1, 3)).as_matrix()
    depth = plane_depth(K, SIZE, T[:3, :3], pitch_deg=40, depth_m=0.6)
    seen = depth > 0
    points = transform(invert_pose(T), unproject(pixel_grid(*depth.shape)[seen], depth[seen], K))
    down = np.array([0, np.cos(np.radians(40)), np.sin(np.radians(40))])
    assert seen.any()
    assert np.allclose(points @ down, 0.6 * np.sin(np.radians(40)), atol=1e-5)


def test_rotations_are_world_to_camera_and_do_not_drift():
    camera = path(120, turn=0.002)
    T, valid = follow_rotations(tracks_of(camera, noise_px=0.2), pinhole(430, 512, 384))
    assert valid.all()
    off = T[:, :3, :3] @ np.swapaxes(camera[:, :3, :3], 1, 2)
    assert np.degrees(Rotation.from_matrix(off).magnitude()).max() < 0.05
    assert (T[:, :3, 3] == 0).all()


def test_a_corner_on_an_edge_of_depth_is_not_lifted():
    depth = np.full((48, 64), 1.0, np.float32)
    depth[:, 32:] = 2.0
    depth[:10] = 0
    uv = np.array([[10, 20], [31, 20], [33, 20], [40, 20], [10, 5]], np.float32)
    points, smooth = lift_smooth(uv, depth, K)
    assert smooth.tolist() == [True, False, True, True, False]
    assert np.allclose(project(points[smooth], K), uv[smooth], atol=1e-4)
    assert points[3, 2] == 2.0
