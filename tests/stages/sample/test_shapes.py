"""Rays meet solids where the solids' own definitions say that their surface is."""

import numpy as np
import pytest

from stages.sample.shapes import Box, Room, RoundCone
from videolift.geometry import invert_pose, transform

SHAPES = [
    Box((0.1, 0.2, 0.05)),
    RoundCone((0, 0, 0), (0.15, 0, 0), 0.05, 0.02),
    RoundCone((0.02, -0.03, 0), (-0.05, 0.06, 0.04), 0.02, 0.035),
    RoundCone((0, 0, 0), (0, 0.1, 0), 0.03, 0.03),
]


def distance(shape, points):
    """Signed distance to the surface, by definition: a round cone is the union of spheres along its axis."""
    if isinstance(shape, Box):
        return (np.abs(points) - shape.half_m).max(-1)
    share = np.linspace(0, 1, 2001)
    centres = np.array(shape.start) + share[:, None] * np.subtract(shape.end, shape.start)
    radii = shape.start_radius_m + share * (shape.end_radius_m - shape.start_radius_m)
    return (np.linalg.norm(points[:, None] - centres, axis=-1) - radii).min(1)


def poses(count):
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(3)
    for _ in range(count):
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = Rotation.random(random_state=rng).as_matrix(), [*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.5, 1)]
        yield T


@pytest.mark.parametrize("shape", SHAPES)
def test_hits_lie_on_the_surface_and_nothing_of_the_solid_lies_before_them(shape):
    u, v = (a.ravel() for a in np.meshgrid(np.linspace(-0.3, 0.3, 31), np.linspace(-0.3, 0.3, 31)))
    for T_camera_part in poses(3):
        z = shape.depth(u, v, T_camera_part)
        hit = np.isfinite(z)
        assert 20 < hit.sum() < len(u)
        rays = np.stack([u, v, np.ones_like(u)], axis=-1)
        T_part_camera = invert_pose(T_camera_part)
        np.testing.assert_allclose(distance(shape, transform(T_part_camera, rays[hit] * z[hit, None])), 0, atol=5e-7)
        before = rays[hit] * (z[hit, None] - 1e-4)
        assert (distance(shape, transform(T_part_camera, before)) > 0).all()
        along = np.concatenate([rays[~hit] * t for t in np.linspace(0.3, 1.3, 60)])
        some = np.random.default_rng(0).choice(len(along), 1500)
        assert (distance(shape, transform(T_part_camera, along[some])) > -1e-6).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_normals_are_the_gradient_of_the_distance(shape):
    u, v = (a.ravel() for a in np.meshgrid(np.linspace(-0.3, 0.3, 31), np.linspace(-0.3, 0.3, 31)))
    T_camera_part = next(poses(1))
    z = shape.depth(u, v, T_camera_part)
    hit = np.isfinite(z)
    points = transform(invert_pose(T_camera_part), np.stack([u, v, np.ones_like(u)], -1)[hit] * z[hit, None])
    normals = shape.normal(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(distance(shape, points + 1e-3 * normals), 1e-3, atol=2e-6)


def test_a_room_is_met_at_its_walls_from_inside():
    z = Room((1, 2, 3)).depth(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0]), np.eye(4))
    np.testing.assert_allclose(z, [3, 1, 2])
    np.testing.assert_allclose(Room((1, 2, 3)).normal(np.array([[1.0, 0, 0]])), [[-1, 0, 0]])
