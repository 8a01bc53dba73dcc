"""Cameras, rigid motions and rotations in the project's one convention.

Camera axes are OpenCV (x right, y down, z forward). An integer pixel coordinate is a pixel's centre, so the image spans
[-0.5, W - 0.5). ``T_a_b`` maps points of frame b to frame a: ``x_a = T_a_b @ x_b``; ``E`` is short for ``T_camera_world``.
Adapters convert to this at their border and nowhere else. Nothing here knows a file or a model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.floating]
Float32 = NDArray[np.float32]

MIRROR_X = np.diag([-1.0, 1.0, 1.0])
"""M of the design: a left hand is the mirror image, in x, of a right one."""


def invert_pose(T: ArrayLike) -> Float:
    """Inverse of rigid transforms: ``T_a_b`` (..., 4, 4) to ``T_b_a`` (..., 4, 4), without a general matrix inverse."""
    T = np.asarray(T)
    R_inverse = np.swapaxes(T[..., :3, :3], -1, -2)
    out = np.zeros_like(T)
    out[..., :3, :3] = R_inverse
    # By the transpose: exact for rotations, which a general inverse is only nearly.
    out[..., :3, 3] = -(R_inverse @ T[..., :3, 3:])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def transform(T_a_b: ArrayLike, points_b: ArrayLike) -> Float:
    """``points_b`` (..., N, 3) seen from frame a (..., N, 3), for ``T_a_b`` (..., 4, 4)."""
    T, points = np.asarray(T_a_b), np.asarray(points_b)
    moved: Float = points @ np.swapaxes(T[..., :3, :3], -1, -2) + T[..., None, :3, 3]
    return moved


def T_cam0_camk(T_camera_world: ArrayLike) -> Float:
    """Poses of a window's cameras in its first camera: ``E_0 @ inv(E_k)`` for ``T_camera_world`` (L, 4, 4)."""
    E = np.asarray(T_camera_world, dtype=np.float64)
    return np.asarray(E[0] @ invert_pose(E))


def T_camk_cam0(T_camera_world: ArrayLike) -> Float:
    """The inverse of `T_cam0_camk`, ``E_k @ inv(E_0)``: extrinsics of a window whose world is its first camera."""
    E = np.asarray(T_camera_world, dtype=np.float64)
    return np.asarray(E @ invert_pose(E[0]))


def resize_intrinsics(K: ArrayLike, size_from: tuple[int, int], size_to: tuple[int, int]) -> Float:
    """``K`` (..., 3, 3) after resizing from ``size_from`` = (W, H) to ``size_to`` = (W, H) pixels.

    The ratio is taken per axis after rounding of the sizes: f' = s f, c' = (c + 0.5) s - 0.5.
    """
    out = np.array(K, dtype=np.float64)
    for axis in (0, 1):
        s = size_to[axis] / size_from[axis]
        out[..., axis, axis] *= s
        out[..., axis, 2] = (out[..., axis, 2] + 0.5) * s - 0.5
    return out


def crop_intrinsics(K: ArrayLike, left_px: float, top_px: float) -> Float:
    """``K`` (..., 3, 3) after cutting away ``left_px`` columns and ``top_px`` rows."""
    out = np.array(K, dtype=np.float64)
    out[..., 0, 2] -= left_px
    out[..., 1, 2] -= top_px
    return out


def resize_pixels(uv_px: ArrayLike, size_from: tuple[int, int], size_to: tuple[int, int]) -> Float:
    """Pixel coordinates (..., 2) after resizing from (W, H) to (W, H); the rule of `resize_intrinsics`."""
    scale = np.array(size_to, np.float64) / np.array(size_from, np.float64)
    return (np.asarray(uv_px, np.float64) + 0.5) * scale - 0.5


def project(points_camera: ArrayLike, K: ArrayLike) -> Float:
    """Pixels (..., 2) of camera-frame points (..., 3). NaN where z <= 0."""
    points, K = np.asarray(points_camera, np.float64), np.asarray(K, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = points[..., :2] / np.where(points[..., 2:] > 0, points[..., 2:], np.nan)
    return np.stack([xy[..., 0] * K[0, 0] + K[0, 2], xy[..., 1] * K[1, 1] + K[1, 2]], axis=-1)


def unproject(uv_px: ArrayLike, z: ArrayLike, K: ArrayLike) -> Float:
    """Camera-frame points (..., 3) at depth ``z`` (...) behind pixels (..., 2)."""
    uv, z, K = np.asarray(uv_px, np.float64), np.asarray(z, np.float64), np.asarray(K, np.float64)
    return np.stack([(uv[..., 0] - K[0, 2]) / K[0, 0] * z, (uv[..., 1] - K[1, 2]) / K[1, 1] * z, z], axis=-1)


def pinhole(focal_px: float, width_px: int, height_px: int) -> Float:
    """``K`` (3, 3) of a camera whose principal point is the image centre, (W - 1) / 2."""
    return np.array([[focal_px, 0, (width_px - 1) / 2], [0, focal_px, (height_px - 1) / 2], [0, 0, 1]], np.float64)


def field_of_view_deg(focal_px: float, side_px: int) -> float:
    """Field of view along a side of ``side_px`` pixels, degrees."""
    return float(np.degrees(2 * np.arctan(side_px / 2 / focal_px)))


def focal_of_field_of_view(fov_deg: float, side_px: float) -> float:
    """Focal length in pixels; the inverse of `field_of_view_deg`."""
    return float(side_px / 2 / np.tan(np.radians(fov_deg / 2)))


def rotation_6d(R: ArrayLike) -> Float:
    """First two columns of rotations (..., 3, 3), concatenated (..., 6) (Zhou et al. 2019, columns, not rows)."""
    R = np.asarray(R)
    return np.concatenate([R[..., :, 0], R[..., :, 1]], axis=-1)


def pose_9d(T: ArrayLike) -> Float:
    """`rotation_6d`, then translation: (..., 4, 4) to (..., 9)."""
    T = np.asarray(T)
    return np.concatenate([rotation_6d(T[..., :3, :3]), T[..., :3, 3]], axis=-1)


def rotation_from_6d(six: ArrayLike) -> Float:
    """Rotations (..., 3, 3) from (..., 6) by Gram-Schmidt; inverse of `rotation_6d`."""
    six = np.asarray(six, np.float64)
    a, b = six[..., :3], six[..., 3:]
    x = a / np.linalg.norm(a, axis=-1, keepdims=True)
    y = b - (x * b).sum(-1, keepdims=True) * x
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def mirror_rotation(R: ArrayLike) -> Float:
    """``M R M`` for rotations (..., 3, 3): a right hand's rotation as that of its mirror image, a left hand, and back."""
    return np.asarray(MIRROR_X @ np.asarray(R, np.float64) @ MIRROR_X)


def mirror_points(points: ArrayLike) -> Float:
    """``M x`` for points (..., 3)."""
    return np.asarray(np.asarray(points, np.float64) * np.array([-1.0, 1.0, 1.0]))


def is_rotation(R: ArrayLike, tolerance: float = 1e-4) -> NDArray[np.bool_]:
    """True per matrix (..., 3, 3) where R Rᵀ = 1 and det R = +1 within ``tolerance``; False where not finite."""
    R = np.asarray(R, np.float64)
    finite = np.isfinite(R).all((-1, -2))
    # Determinants of NaN warn, once per frame.
    safe = np.where(finite[..., None, None], R, 0.0)
    off = np.abs(safe @ np.swapaxes(safe, -1, -2) - np.eye(3)).max((-1, -2))
    rotation: NDArray[np.bool_] = finite & (off < tolerance) & (np.abs(np.linalg.det(safe) - 1.0) < tolerance)
    return rotation


def rotation_angle(R_a: ArrayLike, R_b: ArrayLike) -> Float:
    """Angle in radians between rotations (..., 3, 3)."""
    from scipy.spatial.transform import Rotation  # half a second to import, and a plan or `status` rotates nothing

    relative = np.asarray(R_a, np.float64) @ np.swapaxes(np.asarray(R_b, np.float64), -1, -2)
    # By quaternions: the arccosine of the trace loses half of its digits near 0.
    return np.asarray(Rotation.from_matrix(relative.reshape(-1, 3, 3)).magnitude().reshape(relative.shape[:-2]))


def slerp(times: ArrayLike, rotations: ArrayLike, at: ArrayLike) -> Float:
    """Spherical interpolation of rotations (n, 3, 3) at ``times`` (n) to (m, 3, 3) at ``at`` (m) within their range."""
    from scipy.spatial.transform import Rotation, Slerp

    times, at = np.asarray(times, np.float64), np.asarray(at, np.float64)
    return np.asarray(Slerp(times, Rotation.from_matrix(np.asarray(rotations, np.float64)))(at).as_matrix())


def kabsch(points_from: ArrayLike, points_to: ArrayLike, weights: ArrayLike | None = None) -> tuple[Float, float]:
    """Rigid ``T_to_from`` (4, 4) that best maps points (n, 3) onto points (n, 3), without scale, and its rms residual.

    Source: Kabsch 1976; the determinant is corrected so that the result is a rotation. Needs n >= 3 points not on a line.
    """
    P, Q = np.asarray(points_from, np.float64), np.asarray(points_to, np.float64)
    w = np.ones(len(P)) if weights is None else np.asarray(weights, np.float64)
    w = w / w.sum()
    p, q = w @ P, w @ Q
    U, _, Vt = np.linalg.svd((Q - q).T @ ((P - p) * w[:, None]))
    # Without the sign the best fit to noisy points in a plane may be a reflection.
    R = U @ np.diag([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))]) @ Vt
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, q - R @ p
    residual = float(np.sqrt(w @ ((transform(T, P) - Q) ** 2).sum(1)))
    return T, residual


def umeyama(points_from: ArrayLike, points_to: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, Float]:
    """Similarity that best maps points (n, 3) onto points (n, 3): scale and rigid part, ``x_to = T (scale x_from)``.

    Returns:
        ``scale`` > 0 and ``T_to_from`` (4, 4), to be applied to the scaled points.

    Source: Umeyama 1991, with the rotation of `kabsch`. Needs n >= 3 points not on a line.
    """
    P, Q = np.asarray(points_from, np.float64), np.asarray(points_to, np.float64)
    w = np.ones(len(P)) if weights is None else np.asarray(weights, np.float64)
    w = w / w.sum()
    R = kabsch(P, Q, w)[0][:3, :3]
    p, q = w @ P, w @ Q
    # Against the spread of the points it is applied to: noise in them makes it too small, as in every regression.
    scale = float(w @ ((Q - q) * ((P - p) @ R.T)).sum(1)) / float(w @ ((P - p) ** 2).sum(1))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, q - scale * R @ p
    return scale, T
