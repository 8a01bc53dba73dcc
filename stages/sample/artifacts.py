"""Artifacts that are exactly the truth: what perfect backends would have written for a rendered clip.

Turns a `Truth` into the four files of an output folder, through the same writers as the stages. For tests and benchmarks.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from stages.sample.truth import Truth
from videolift.artifacts import SIDES, ClipWriter, DepthWriter, HandsWriter, TracksWriter
from videolift.artifacts.tracks import Window
from videolift.geometry import Float

TRUTH_BACKEND = "truth"


def write_truth_artifacts(
    output: Path, video: str, truth: Truth, *, window_length: int = 10, stride: int = 1, grid_px: int = 12
) -> None:
    """Publishes ``frames/``, ``depth/``, ``tracks_3d/`` and ``hand_poses/{video}.h5`` under ``output``.

    Args:
        output: an output folder; existing files of that video are replaced.
        video: its id.
        truth: what to write.
        window_length, stride: of the windows, frames.
        grid_px: distance between the points that start in each window's first image.
    """
    _write_clip(output / "frames" / f"{video}.h5", truth)
    depth = DepthWriter(output / "depth" / f"{video}.h5")
    depth.append_frames(truth.depth_m, truth.T_camera_world, np.ones(len(truth.rgb), bool))
    depth.put(K=truth.K)
    still = np.allclose(truth.T_camera_world, truth.T_camera_world[0])
    depth.declare(backend=TRUTH_BACKEND, tier="A", scale="metric", pose="static" if still else "given", intrinsics="given")
    depth.publish()
    height, width = truth.rgb.shape[1:3]
    tracks = TracksWriter(output / "tracks_3d" / f"{video}.h5")
    tracks.describe(backend=TRUTH_BACKEND, window_length=window_length, stride=stride, query="grid", seed=0)
    # Whole windows alone, as the stage has them.
    for start in range(0, len(truth.rgb) - window_length + 1, stride):
        tracks.append_window(true_window(truth, start, window_length, grid(width, height, grid_px)))
    tracks.publish()
    frames, side = len(truth.rgb), SIDES.index(truth.side)
    # Both sides have a place in every frame; the hand that is not there is NaN.
    arrays = {
        "score": np.full((frames, 2), np.nan),
        "keypoints_px": np.full((frames, 2, 21, 2), np.nan),
        "T_camera_wrist": np.full((frames, 2, 4, 4), np.nan),
        "joints_camera": np.full((frames, 2, 21, 3), np.nan),
    }
    arrays["score"][:, side], arrays["keypoints_px"][:, side] = 1.0, truth.keypoints_px
    arrays["T_camera_wrist"][:, side], arrays["joints_camera"][:, side] = truth.T_camera_wrist, truth.joints_camera
    valid = np.zeros((frames, 2), bool)
    valid[:, side] = True
    hands = HandsWriter(output / "hand_poses" / f"{video}.h5")
    mano_pose = np.full((frames, 2, 15, 3, 3), np.nan)
    hands.append_frames(valid=valid, interpolated=np.zeros_like(valid), mano_pose=mano_pose, **arrays)
    hands.put(betas=np.full((2, 10), np.nan))
    hands.describe(backend=TRUTH_BACKEND, wrist_method="truth", joint_order="OpenPose 21", has_mano=False, has_joints=True)
    hands.publish()


def grid(width: int, height: int, step_px: int) -> Float:
    """Pixel centres (N, 2) on a grid that is centred in the image."""
    axes = [np.arange((length - 1) % step_px // 2, length, step_px, dtype=np.float64) for length in (width, height)]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def true_window(truth: Truth, start: int, length: int, uv_px: Float) -> Window:
    """The window that begins at frame ``start`` with points at ``uv_px`` (N, 2); labels are the instance ids."""
    xyz, uv, visible = truth.tracks(start, uv_px, length)
    column, row = np.rint(uv_px).astype(int).T
    return Window(
        start=start,
        frames_tracked=length,
        xyz_cam0=xyz.astype(np.float32),
        uv_px=uv.astype(np.float32),
        visible=visible,
        valid3d=np.asarray(np.isfinite(xyz).all(-1)),
        label=truth.instance[start, row, column],
    )


def _write_clip(path: Path, truth: Truth) -> None:
    height, width = truth.rgb.shape[1:3]
    writer = ClipWriter(path)
    writer.append_frames(truth.rgb, truth.pts_seconds)
    rate = float(1.0 / np.median(np.diff(truth.pts_seconds)))
    source = {
        # There is no file: the pictures stand for it.
        "sha256": hashlib.sha256(truth.rgb.tobytes()).hexdigest(),
        "bytes": truth.rgb.nbytes,
        "rotation_deg": 0,
        "vfr": False,
        "fps_header": rate,
        "fps_measured": rate,
        "size_px": [width, height],
        "crop_px": [0, 0, width, height],
        "colour": "bt709",
        "start_s": 0.0,
        "end_s": float(truth.pts_seconds[-1]),
    }
    writer.describe(fps=rate, source=source)
    writer.publish()
