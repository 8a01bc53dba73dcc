"""Standing, turning, moving: asked first, because structure from motion fails silently where the camera does not move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.features import FeatureTracks
from stages.depth.motion.motion_gates import Motion, fit_rotation, measure_motion
from stages.depth.sfm_settings import SfmSettings
from videolift.geometry import Float

_MIN_SHARED, _MIN_SURVIVORS = 60, 0.5


def observe_camera(
    tracks: FeatureTracks,
    standing: CameraPath,
    cameras: Sequence[Float],
    settings: SfmSettings,
    *,
    solve: Callable[[Motion], CameraPath] | None = None,
    follow: Callable[[], CameraPath] | None = None,
) -> CameraPath:
    """How the camera moved, by the first of three answers that fits.

    Args:
        tracks: corners of the whole clip.
        standing: the answer for a camera that stands still; its K and where that is from go into the others.
        cameras: the one known K (3, 3), or several to choose from; see `measure_motion`.
        settings: of structure from motion.
        solve: for a camera that moves, where only motion shows depth. One that turns is followed by its rotation alone.
        follow: instead of ``solve`` where depth is measured: places any camera that does not stand still, also one that turns.
    """
    motion = measure_motion(tracks, cameras, settings)
    kind = "unknown" if motion is None else motion.kind(settings)
    if motion is not None and kind == "static":
        return replace(standing, notes=(f"the camera stands still ({motion.motion_px:.2f} px in {motion.gap} frames)",))
    # Sensor depth places a camera that only turns as well, so nothing else is asked.
    if follow is not None:
        return follow()
    if motion is None:
        return standing.without_poses("too few corners to follow (a blank or blurred view), so poses are unknown")
    if kind == "rotation":
        K = standing.K.copy()
        # Of all focal lengths the one by which pure rotations explain most: turning shows it without parallax.
        K[(0, 1), (0, 1)] *= motion.focal_px / K[0, 0]
        T_camera_world, valid = follow_rotations(tracks, K)
        note = f"the camera only turns ({motion.rotation_px:.2f} px are left after the best rotation)"
        return replace(standing, T_camera_world=T_camera_world, valid=valid, K=K, pose="rotation", notes=(note,))
    assert solve is not None
    return solve(motion)


def follow_rotations(tracks: FeatureTracks, K: ArrayLike) -> tuple[Float, NDArray[np.bool_]]:
    """``T_camera_world`` (T, 4, 4) of a camera that only turns, world = first camera, and which frames could be reached (T).

    Each frame is compared with a reference frame that moves on when half of its corners are lost, so that errors add up slowly.
    """
    T_camera_world, valid = np.tile(np.eye(4), (len(tracks), 1, 1)), np.zeros(len(tracks), bool)
    valid[0] = True
    # Compared with a far frame, not with the last one: errors add up per reference, not per frame.
    reference = latest = 0
    for k in range(1, len(tracks)):
        uv_reference, uv = tracks.shared(reference, k)
        if len(uv) < max(_MIN_SHARED, _MIN_SURVIVORS * len(tracks.frame(reference)[0])):
            reference = latest
            uv_reference, uv = tracks.shared(reference, k)
        if len(uv) < _MIN_SHARED:
            continue
        R_k_reference, _ = fit_rotation(uv_reference, uv, K)
        T_camera_world[k, :3, :3] = R_k_reference @ T_camera_world[reference, :3, :3]
        valid[k], latest = True, k
    return T_camera_world, valid
