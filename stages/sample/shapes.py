"""Solids and their exact intersection with rays from the origin: box, room (a box seen from inside), round cone.

Everything is in the camera's frame. Rays are ``(u, v, 1)`` with ``u``, ``v`` any two arrays that broadcast, so the ray parameter at
a hit is the z-depth itself; a miss is inf. A shape also gives the outward normal at a point of its surface, in its own frame.
Knows no colour, no motion and no image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from videolift.geometry import Float, invert_pose

NEAR_M = 0.02
"""Hits closer than this are behind the lens and do not count."""


def _dot(u: Float, v: Float, w: Float) -> Float:
    """Scalar products of the rays (u, v, 1) with the vector ``w`` (3); sums of a row and a column where u and v are such."""
    products: Float = u * w[0] + (v * w[1] + w[2])
    return products


@dataclass(frozen=True)
class Box:
    """A box around its frame's origin; ``half_m`` (3) are half its edge lengths."""

    half_m: tuple[float, float, float]

    def _slabs(self, u: Float, v: Float, T_camera_part: Float) -> tuple[Float, Float]:
        origin = invert_pose(T_camera_part)[:3, 3]
        enter: Float = np.array(-np.inf)
        leave: Float = np.array(np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            for axis in range(3):
                inverse = 1.0 / _dot(u, v, T_camera_part[:3, axis])
                middle, half = -origin[axis] * inverse, self.half_m[axis] * np.abs(inverse)
                # fmax and fmin leave NaN out, which 0 times infinity gives for a ray along a face.
                enter, leave = np.fmax(enter, middle - half), np.fmin(leave, middle + half)
        return enter, leave

    def depth(self, u: Float, v: Float, T_camera_part: Float) -> Float:
        """z of the first hit, inf where the ray misses."""
        enter, leave = self._slabs(u, v, T_camera_part)
        return np.where((enter <= leave) & (enter > NEAR_M), enter, np.inf)

    def normal(self, points_part: Float) -> Float:
        """Outward unit normals (n, 3) at surface points (n, 3)."""
        ratio = points_part / np.array(self.half_m, points_part.dtype)
        face = np.abs(ratio).argmax(-1)
        out = np.zeros_like(points_part)
        rows = np.arange(len(face))
        out[rows, face] = np.sign(ratio[rows, face])
        return out

    def bounds(self) -> tuple[Float, float]:
        """Points (n, 3) and a radius: the shape lies within the hull of spheres of that radius around them."""
        signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
        return signs * np.array(self.half_m), 0.0


@dataclass(frozen=True)
class Room(Box):
    """A box seen from inside: walls, floor and ceiling."""

    def depth(self, u: Float, v: Float, T_camera_part: Float) -> Float:
        """z of the wall that the ray leaves through."""
        _, leave = self._slabs(u, v, T_camera_part)
        return np.where(leave > NEAR_M, leave, np.inf)

    def normal(self, points_part: Float) -> Float:
        """Unit normals (n, 3) that point into the room."""
        return -super().normal(points_part)


@dataclass(frozen=True)
class RoundCone:
    """The hull of two spheres: a finger bone with its flesh.

    Its profile: with x along the axis from ``start`` and rho from the axis, the side is x sin(b) + rho cos(b) = start_radius, where
    sin(b) = (start_radius - end_radius) / length; it meets the spheres at x = start_radius sin(b) and length + end_radius sin(b).
    """

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    start_radius_m: float
    end_radius_m: float

    @property
    def axis(self) -> tuple[Float, float, float]:
        """Unit vector, length and sin(b)."""
        along = np.subtract(self.end, self.start)
        length = float(np.linalg.norm(along))
        return along / length, length, (self.start_radius_m - self.end_radius_m) / length

    def depth(self, u: Float, v: Float, T_camera_part: Float) -> Float:
        """z of the first hit, inf where the ray misses; the camera is outside."""
        axis_part, length, sine = self.axis
        R, t = T_camera_part[:3, :3], T_camera_part[:3, 3]
        axis, start, end = R @ axis_part, R @ self.start + t, R @ self.end + t
        low, high = self.start_radius_m * sine, length + self.end_radius_m * sine
        dd = u * u + (v * v + 1.0)
        d_axis, d_start = _dot(u, v, axis), _dot(u, v, start)
        x0 = -(axis @ start)
        # Quadratic in z from the profile above, squared: x sin(b) + rho cos(b) = start_radius.
        cos2, reach = 1.0 - sine * sine, self.start_radius_m - sine * x0
        a = cos2 * (dd - d_axis * d_axis) - sine * sine * d_axis * d_axis
        b = cos2 * (-d_start - x0 * d_axis) + sine * reach * d_axis
        c = cos2 * (start @ start - x0 * x0) - reach * reach
        with np.errstate(invalid="ignore", divide="ignore"):
            # The smaller root: the near side of the cone.
            side = (-b - np.sqrt(b * b - a * c)) / a
            x = x0 + side * d_axis
            side = np.where((x >= low) & (x <= high), side, np.inf)
        caps = (_sphere(dd, d_start, start, self.start_radius_m), _sphere(dd, _dot(u, v, end), end, self.end_radius_m))
        z = np.fmin(side, np.fmin(*caps))
        return np.where(z > NEAR_M, z, np.inf)

    def normal(self, points_part: Float) -> Float:
        """Outward unit normals (n, 3) at surface points (n, 3)."""
        axis, length, sine = self.axis
        axis = axis.astype(points_part.dtype)
        relative = points_part - np.array(self.start, points_part.dtype)
        x = relative @ axis
        # the sphere that touches the point from inside: its centre lies where the normal meets the axis
        radial = np.linalg.norm(relative - x[:, None] * axis, axis=1)
        centre = np.clip(x - radial * sine / np.sqrt(1.0 - sine * sine), 0.0, length)
        normal = relative - centre[:, None] * axis
        unit: Float = normal / np.linalg.norm(normal, axis=1, keepdims=True)
        return unit

    def bounds(self) -> tuple[Float, float]:
        """As `Box.bounds`."""
        return np.array([self.start, self.end]), max(self.start_radius_m, self.end_radius_m)


Shape = Box | RoundCone


def _sphere(dd: Float, d_centre: Float, centre: Float, radius_m: float) -> Float:
    with np.errstate(invalid="ignore"):
        z = (d_centre - np.sqrt(d_centre * d_centre - dd * (centre @ centre - radius_m * radius_m))) / dd
    return np.where(np.isnan(z), np.inf, z)
