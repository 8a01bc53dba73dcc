"""Export to the predecessor's layout: one HDF5 per video with a group per frame, and its ``normalization_stats.yaml``.

Its readers open the result as they are. It differs from ours in conventions, converted here and nowhere else: K counts pixels from
the corner (+0.5), ``poses`` map camera 0 to camera k, hands are present only where valid at every step, depth is clipped float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import h5py
import numpy as np
import yaml

from videolift.artifacts import SIDES, Depth
from videolift.dataset.file import PackagedFile
from videolift.dataset.index import read_index
from videolift.dataset.layout import METRE_SCALES, PackagedView
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.dataset.statistics.groups import GroupParts
from videolift.dataset.statistics.merging import Member, merge_members
from videolift.dataset.statistics.normalization_table import normalization_table
from videolift.dataset.windows import window_poses
from videolift.errors import ConfigError
from videolift.geometry import invert_pose, pose_9d
from videolift.hdf5_output import HDF5Output
from videolift.store import atomic_file, write_text

HAND_NAMES = {
    "query_uvd": "window_query_uvd",
    "uvd_displacements": "window_displacement_uvd",
    "query_rot_6d": "window_query_rot6d",
    "rot_displacements": "window_displacement_rot6d",
}
"""Suffix of the predecessor's ``{side}_wrist_...`` datasets to our array."""
_TABLE_KEYS = (
    *("imagenet_mean", "imagenet_std", "track_type", "track_dim", "displacement_mean", "displacement_std"),
    *("displacement_num_samples", "depth_mean", "depth_std", "depth_num_samples", "pose_mean", "pose_std", "pose_num_samples"),
    *("hand_uvd_disp_mean", "hand_uvd_disp_std", "hand_rot_disp_mean", "hand_rot_disp_std", "hand_pose_num_samples"),
)
_FRAMES = 64
"""Held in memory at a time."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote. ``left_out``: video to the reason why it has no file."""

    files: tuple[Path, ...]
    left_out: dict[str, str]


def export_y2r(
    folder: Path,
    out: Path,
    *,
    split: str | None = None,
    group: str | None = None,
    nearest: Literal["exact", "floor"] = "exact",
    depth_artifacts: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Writes the videos of a published dataset, and their statistics, into ``out``.

    Args:
        folder: of the dataset.
        out: new files appear here; existing ones of the same name are replaced.
        split: only this one.
        group: the one to export; None for the group of ``normalization_stats.yaml``. The predecessor knows no groups.
        nearest: ``floor`` samples depth half a pixel off, as the predecessor did; needs ``depth_artifacts``.
        depth_artifacts: the output folder's ``depth/``.
        progress: (done, total) videos.

    Raises:
        ConfigError: no such dataset, split or group; ``floor`` without the depth artifacts.
    """
    if nearest == "floor" and depth_artifacts is None:
        raise ConfigError("nearest is floor, which needs the depth at its own resolution: name the output folder's depth/")
    index = read_index(folder)
    entries, chosen = index.select(split=split, group=group)
    written, left_out, counted = [], {}, Accumulators()
    for done, entry in enumerate(entries, 1):
        if {"depth", "tracks"} <= set(entry.parts):
            target = out / f"{entry.video}.hdf5"
            with PackagedFile(folder / entry.path) as file, atomic_file(target) as temporary:
                floor = None if depth_artifacts is None or nearest == "exact" else depth_artifacts / f"{entry.video}.h5"
                _write_video(file, temporary, floor=floor, text=entry.text, counted=counted)
            written.append(target)
        else:
            left_out[entry.video] = f"it has only {', '.join(entry.parts) or 'RGB'}"
        progress(done, len(entries))
    members = [Member(e.video, folder / e.path, e.sha256, e.split) for e in entries if e.video not in left_out]
    statistics = merge_members(folder, members).of_group(chosen)
    # Ours count visible steps and poses the other way round; the rest is the same in both layouts.
    for name in ("pose", "displacement"):
        statistics.parts.pop(name, None)
    statistics.merge(counted)
    table = normalization_table(statistics, {}, group=chosen, videos=0, left_out=0)
    wanted: dict[str, Any] = {key: table[key] for key in _TABLE_KEYS if key in table}
    if GroupParts.parse(chosen).scale not in METRE_SCALES:
        wanted["depth_unit"] = "median depth of each clip"
    write_text(out / "normalization_stats.yaml", yaml.safe_dump(wanted, sort_keys=True))
    return Exported(tuple(written), left_out)


def _write_video(file: PackagedFile, path: Path, floor: Path | None, text: str | None, counted: Accumulators) -> None:
    frames = len(file)
    with HDF5Output(path, ("earliest", "v110")) as target:
        width, height = file.size_px
        video = target.create_dataset("root/video", (frames, 3, height, width), "u1")
        depth = target.create_dataset("root/depth", (frames, height, width), "f4")
        for start in range(0, frames, _FRAMES):
            part = slice(start, min(start + _FRAMES, frames))
            video[part] = file.rgb(part)
            if floor is None:
                depth[part] = file.depth(part)
                continue
            view = PackagedView.from_attribute(file.attribute("view"))
            with Depth(floor) as artifact:
                square = view.cut(artifact[part]).astype(np.float32)
            scale = np.float32((file.attribute("hand_scale") or {}).get("factor") or 1.0)
            # OpenCV's INTER_NEAREST takes the pixel at floor(x * scale), which is the half pixel off.
            z = np.stack([cv2.resize(image, view.size_px, interpolation=cv2.INTER_NEAREST) for image in square]) * scale
            if file.depth_range_m is not None:
                np.copyto(z, np.clip(z, *file.depth_range_m), where=z > 0)
            depth[part] = z
        K = file.array("camera/intrinsics").astype(np.float64)
        K[:2, 2] += 0.5
        target["root/intrinsics"] = K.astype(np.float32)
        for window, start in enumerate(file.window_start):
            group = target.create_group(f"root/tracks/frame_{start:04d}")
            query, displacement, _ = file.tracks(window)
            group["query_coords"], group["displacements"] = query, displacement
            E = file.array("camera/T_camera_world", slice(int(start), int(start) + file.window_length))
            pose9d = pose_9d(invert_pose(window_poses(E)[0])).astype(np.float32)
            group["poses"] = pose9d
            # Statistics of what its readers find: inverse poses, and every step, since its layout does not say which are visible.
            counted.add("pose", pose9d[np.isfinite(pose9d).all(-1)])
            counted.add("displacement", displacement)
            # Its readers take a hand that is there as valid at every step.
            for side, name in enumerate(SIDES if file.has("hands/window_query_uvd") else ()):
                arrays = {theirs: file.array(f"hands/{ours}", (window, side)) for theirs, ours in HAND_NAMES.items()}
                if file.hands_whole[window, side] and all(np.isfinite(array).all() for array in arrays.values()):
                    for theirs, array in arrays.items():
                        group[f"{name}_wrist_{theirs}"] = array
        target["root/num_frames"], target["root/num_track_ts"], target["root/track_type"] = frames, file.window_length, "3d"
        if text:
            target.create_dataset("root/text", data=text, dtype=h5py.string_dtype())
