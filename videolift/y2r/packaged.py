"""The predecessor's packaged files (h5_dataset/), where nothing else of a video is left: what can be taken back out of them.

Camera poses were stored per window only, as ``inv(E_s) E_k``; chained from the first frame on they give every pose if the first
camera was the world's origin, as its SLAM had it. Whether that holds is measured on the depth maps, not assumed. Wrists were stored
in each frame's own camera and come back exactly; joints and fingers were not stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import JOINTS, MANO_JOINTS, SIDES
from videolift.artifacts.tracks import Window
from videolift.dataset.quality import SCORES, QualityMeter
from videolift.errors import CorruptFile
from videolift.geometry import Float, mirror_rotation, rotation_from_6d, unproject
from videolift.y2r.repairs import Imported, repair_window

_KEY = "frame_{:04d}"
_WRIST_KEYS = ("query_uvd", "uvd_displacements", "rot_displacements", "query_rot_6d")


@dataclass(frozen=True)
class Unpacked:
    """One file's content as our artifacts want it, at its packaged size.

    Attributes:
        rgb: (T, S, S, 3); depth: (T, S, S) f16, as clipped by the predecessor; K: (3, 3) in our convention.
        T_camera_world: (T, 4, 4), None where the chained poses do not agree with the depth.
        windows: by start, None without poses.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float16]
    K: Float
    T_camera_world: Float | None
    window_length: int
    stride: int
    windows: dict[int, Window] | None
    hands: Imported | None
    text: str
    notes: tuple[str, ...]


def unpack(path: Path, *, metric: bool) -> Unpacked:
    """Reads one file of 3D tracks.

    Raises:
        CorruptFile: unreadable, 2D tracks, or without windows.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:  # it may lie on a file system without locks, and is only read
            return _unpack(file["root"], metric)
    except (OSError, KeyError) as error:
        raise CorruptFile(f"{path.name} is not one of the predecessor's files: {error}") from error


def _unpack(root: h5py.Group, metric: bool) -> Unpacked:
    kind = root["track_type"][()]
    starts = sorted(int(name.removeprefix("frame_")) for name in root["tracks"])
    if kind not in (b"3d", "3d") or not starts:
        raise CorruptFile(f"holds {kind!r} tracks in {len(starts)} windows; only 3D tracks can be imported")
    rgb, depth, K = root["video"][...], root["depth"][...].astype(np.float16), root["intrinsics"][...].astype(np.float64)
    K[:2, 2] -= 0.5  # its pixels begin at integers, ours are centred on them
    size, length = rgb.shape[-1], int(root["num_track_ts"][()])
    # Windows that the predecessor left out leave larger steps.
    stride = min(np.diff(starts), default=1)
    notes = ["depth: beyond the predecessor's limits it was clipped, what it was is lost"]
    stored = _StoredWindows(root["tracks"], starts, len(rgb))
    E = stored.chained_poses(length)
    residual: float | None = None
    if E is not None:
        # Over most of a window: from one frame to the next, even wrong poses move little.
        gap = max(1, min(length - 1, len(rgb) // 2))
        meter = QualityMeter(len(depth[::gap]), K, E[::gap])
        meter.depth(0, depth[::gap])
        residual = meter.table()["depth_residual"]["value"]
    windows: dict[int, Window] | None = None
    if E is None or residual is None or residual > SCORES["depth_residual"].threshold:
        why = "windows do not overlap" if E is None else f"depth moved by them is off by {residual or np.nan:.1%}"
        notes.append(f"camera and tracks: left out, poses cannot be taken back out of the windows ({why})")
        E = None
    else:
        notes.append("camera: poses chained from the windows, the first camera being the world's origin; depth agrees")
        notes.append("tracks: taken out of wrongly composed window poses; points whose depth was clipped are gone")
        windows = {}
        for start in starts:
            group, E_window = stored.window(start), E[start : start + length]
            query, displacement = group["query_coords"][...].astype(np.float64), group["displacements"][...].astype(np.float64)
            low, high = (query[:, 2].min(), query[:, 2].max()) if len(query) else (0.0, 0.0)
            # A depth that several points share to the last bit is a limit they were cut off at, not a measurement.
            clipped = np.isin(query[:, 2], [value for value in (low, high) if (query[:, 2] == value).sum() > 1])
            uvd = (query[None] + displacement)[:, ~clipped]
            xyz = unproject(uvd[..., :2] * size - 0.5, uvd[..., 2], K)
            wrong = np.linalg.inv(E_window[0]) @ E_window
            windows[start] = repair_window(xyz, wrong, E_window, K=K, start=start)[0]
    hands = stored.hands(K, size, metric=metric)
    text = root["text"][()] if "text" in root else b""
    plain = text.decode() if isinstance(text, bytes) else str(text)
    rgb = np.ascontiguousarray(rgb.transpose(0, 2, 3, 1))
    return Unpacked(
        rgb,
        depth,
        K,
        T_camera_world=E,
        window_length=length,
        stride=int(stride),
        windows=windows,
        hands=hands,
        text=plain,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _StoredWindows:
    """The windows of a file of so many frames, sorted by start; everything in one is relative to its first camera."""

    group: h5py.Group
    starts: list[int]
    frames: int

    def window(self, start: int) -> h5py.Group:
        return self.group[_KEY.format(start)]

    def chained_poses(self, length: int) -> Float | None:
        """E of every frame from ``P_k = inv(E_s) E_(s+k)``: each window continues from a frame that an earlier one reached."""
        E = np.full((self.frames, 4, 4), np.nan)
        E[self.starts[0]] = np.eye(4)
        for start in self.starts:
            if not np.isfinite(E[start]).all():  # no earlier window reaches it, so its world is not theirs
                return None
            P = np.tile(np.eye(4), (length, 1, 1))
            nine = self.window(start)["poses"][...].astype(np.float64)
            P[:, :3, :3], P[:, :3, 3] = rotation_from_6d(nine[:, :6]), nine[:, 6:]
            E[start : start + length] = E[start] @ P
        return E

    def hands(self, K: Float, size: int, *, metric: bool) -> Imported | None:
        """Wrists of every frame that lies in a window with hands; None where none does."""
        frames = self.frames
        valid, T = np.zeros((frames, 2), bool), np.full((frames, 2, 4, 4), np.nan)
        for start in self.starts:
            group = self.window(start)
            for side, name in enumerate(SIDES):
                if f"{name}_wrist_query_uvd" not in group:
                    continue
                stored = {key: np.asarray(group[f"{name}_wrist_{key}"][...], np.float64) for key in _WRIST_KEYS}
                # Step k of a window is in camera k, where the predecessor left it: no pose is needed to take it back out.
                uvd = stored["query_uvd"] + stored["uvd_displacements"]
                R = rotation_from_6d(stored["rot_displacements"]) @ rotation_from_6d(stored["query_rot_6d"])
                steps = slice(start, start + len(group["poses"]))
                T[steps, side] = np.eye(4)
                T[steps, side, :3, :3] = mirror_rotation(R) if name == "left" else R
                T[steps, side, :3, 3] = unproject(uvd[:, :2] * size - 0.5, uvd[:, 2], K)
                valid[steps, side] = True
        if not valid.any():
            return None
        # Half a pixel further: wrists were lifted from a pixel's corner.
        T[valid, 0, 3] += 0.5 * T[valid, 2, 3] / K[0, 0]
        T[valid, 1, 3] += 0.5 * T[valid, 2, 3] / K[1, 1]
        if not metric:  # wrists stood in the depth's unknown unit, fingers in metres
            T[..., :3, 3] = np.nan
        empty = {
            "score": (),
            "keypoints_px": (len(JOINTS), 2),
            "joints_camera": (len(JOINTS), 3),
            "mano_pose": (len(MANO_JOINTS), 3, 3),
        }
        arrays: dict[str, NDArray[Any]] = {name: np.full((frames, 2, *shape), np.nan) for name, shape in empty.items()}
        arrays |= {"valid": valid, "interpolated": np.zeros_like(valid), "T_camera_wrist": T}
        notes = ["hands: wrists alone, in frames that lie in a window where they are valid throughout; joints were not stored"]
        notes += ["hands: left wrists mirrored, they were those of a right hand"] if valid[:, 0].any() else []
        notes += [] if metric else ["hands: translations given up, they stood in the depth's unknown unit"]
        return Imported(arrays, np.full((2, 10), np.nan, np.float32), tuple(notes))
