"""The checks of one packaged file: each takes an `OpenFile` and gives findings. `CHECKS` lists them in order.

A check reads arrays in parts and holds little; what HDF5's checksums refuse is a finding of `check_checksums`, and the checks after
it leave that array alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from videolift.dataset.layout import FIELDS, HAND_FRAME_FIELDS, HAND_WINDOW_FIELDS, METRE_SCALES
from videolift.dataset.profiles import CRC32, JPEG_BYTES, JPEG_OFFSETS, UNIT, crc32_of, decode_16_bit, decode_jpeg
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.dataset.windows import hand_windows, window_poses, window_starts
from videolift.errors import CorruptFile
from videolift.geometry import is_rotation, project
from videolift.store import from_attribute, read_hdf5

WRIST_KEYPOINT_SHARE = 0.05
"""A wrist should project this near its keypoint, as a share of the image size, in half of its frames."""
WRIST_DEPTH_M = 0.3
"""And lie this near the depth at its pixel, metres, in half of the frames that have depth there."""
_ROWS = 64
_REDO = "Delete it and run the same command again; report it if it comes back."


@dataclass(frozen=True)
class Finding:
    """Something wrong. ``check`` is a short stable name; scripts may compare it."""

    file: str
    check: str
    text: str
    remedy: str = _REDO


class OpenFile:
    """A packaged file under verification, with its small arrays read once."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self.file = path, file
        self.broken: set[str] = set()
        """Datasets that cannot be read."""

    def __contains__(self, name: str) -> bool:
        return name in self.file and name not in self.broken

    def attribute(self, name: str) -> Any:
        """One attribute, decoded."""
        return from_attribute(self.file.attrs[name])

    def read(self, name: str, where: Any = ...) -> NDArray[Any]:
        """Part of an array."""
        return read_hdf5(self.file[name], where)

    def finding(self, check: str, text: str) -> Finding:
        """A finding about this file."""
        return Finding(self.path.name, check, text)

    @cached_property
    def frames(self) -> int:
        """T."""
        return int(self.file["timestamps"].shape[0])

    @cached_property
    def window_length(self) -> int:
        """L."""
        return int(self.attribute("window_length"))

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First frames (W) that the windows should have."""
        return window_starts(self.frames, self.window_length, int(self.attribute("stride")))

    @cached_property
    def window_frames(self) -> NDArray[np.int64]:
        """(L, W) frame numbers."""
        return self.starts[None, :] + np.arange(self.window_length)[:, None]

    def rgb(self) -> Iterator[NDArray[np.uint8]]:
        """Images in parts (n, 3, S, S), decoded."""
        if "rgb" in self:
            for start in range(0, self.frames, _ROWS):
                yield self.read("rgb", slice(start, start + _ROWS))
        elif JPEG_BYTES in self and JPEG_OFFSETS in self:
            offsets = self.read(JPEG_OFFSETS)
            for t in range(len(offsets) - 1):
                yield decode_jpeg(self.read(JPEG_BYTES, slice(offsets[t], offsets[t + 1])))[None]

    def displacement(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Displacements in parts (L, n, 3), decoded."""
        dataset = self.file["tracks/displacement"]
        for start in range(0, dataset.shape[1], 1 << 16):
            part = slice(start, start + (1 << 16))
            values = read_hdf5(dataset, (slice(None), part))
            yield part, decode_16_bit(values, dataset.attrs[UNIT]) if values.dtype == np.int16 else values


Check = Callable[[OpenFile], Iterator[Finding]]


def check_checksums(opened: OpenFile) -> Iterator[Finding]:
    """Every chunk's checksum, or the CRC of an array in one piece."""
    names: list[str] = []
    opened.file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    for name in names:
        dataset = opened.file[name]
        try:
            crc32 = crc32_of(dataset) if dataset.shape else 0
            bad = CRC32 in dataset.attrs and int(dataset.attrs[CRC32]) != crc32
        except CorruptFile:
            bad = True
        if bad:
            opened.broken.add(name)
            yield opened.finding("checksum", f"{name}: its bytes do not match their checksum")


def check_shapes(opened: OpenFile) -> Iterator[Finding]:
    """Every modality has as many frames, windows, steps and points as the others."""
    lengths = {"-frames": opened.frames, "-windows": len(opened.starts)}
    size, length = int(opened.attribute("size")), opened.window_length
    lengths["-points"] = opened.file["tracks/query"].shape[0] if "tracks/query" in opened.file else 0
    for field in FIELDS:
        if field.name not in opened.file or field.name.startswith("stats/"):
            continue
        shape, wanted = opened.file[field.name].shape, list(field.shape)
        if field.axis is not None:
            wanted[field.axis] = lengths[_grows_with(field.name)] + (field.name == "tracks/offsets")
        free = {"rgb": size, "depth": size, "masks/instance": size}.get(field.name, length)
        expected = tuple(free if n is None else n for n in wanted)
        if shape != expected:
            yield opened.finding("shape", f"{field.name} is {shape}, expected {expected}")
    if JPEG_OFFSETS in opened.file and opened.file[JPEG_OFFSETS].shape != (opened.frames + 1,):
        yield opened.finding("shape", f"{JPEG_OFFSETS} does not have {opened.frames} frames")
    for part in opened.attribute("parts"):
        if {"mask": "masks"}.get(part, part) not in opened.file:
            yield opened.finding("parts", f"it should hold {part}")


def _grows_with(name: str) -> str:
    if name in ("tracks/query", "tracks/displacement", "tracks/visible", "tracks/label"):
        return "-points"
    return "-windows" if name.startswith(("tracks/", "hands/window_")) else "-frames"


def check_camera(opened: OpenFile) -> Iterator[Finding]:
    """Times increase; K is a camera; poses are rotations where valid and NaN where not."""
    if "timestamps" in opened:
        times = opened.read("timestamps")
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            yield opened.finding("timestamps", "times do not increase")
    if "camera/intrinsics" in opened:
        K = opened.read("camera/intrinsics")
        if not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0 or (K[2] != [0, 0, 1]).any():
            yield opened.finding("intrinsics", f"K is no camera: {K.tolist()}")
    if "camera/T_camera_world" in opened and "camera/pose_valid" in opened:
        E, valid = opened.read("camera/T_camera_world"), opened.read("camera/pose_valid")
        bad = np.flatnonzero(valid & ~(is_rotation(E[:, :3, :3], 1e-3) & np.isfinite(E).all((1, 2))))
        if len(bad):
            yield opened.finding("rotation", f"T_camera_world is no rigid motion in {len(bad)} frames, first {bad[0]}")
        if np.isfinite(E[~valid]).any():
            yield opened.finding("camera", "T_camera_world has numbers where pose_valid says unknown")


def check_depth(opened: OpenFile) -> Iterator[Finding]:
    """Depth is finite and not negative."""
    for start in range(0, opened.frames if "depth" in opened else 0, _ROWS):
        depth = opened.read("depth", slice(start, start + _ROWS))
        if not (depth >= 0).all() or np.isinf(depth).any():
            yield opened.finding("depth", f"depth is negative or not finite between frames {start} and {start + len(depth)}")
            return


def check_tracks(opened: OpenFile) -> Iterator[Finding]:
    """Offsets are monotone; u, v stay in the first image, d ahead of it; step 0 moves nothing; poses are those of the camera."""
    if "tracks/offsets" not in opened or "tracks/query" not in opened or "tracks/displacement" not in opened:
        return
    offsets, query = opened.read("tracks/offsets"), opened.read("tracks/query")
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(query):
        yield opened.finding("offsets", f"offsets are not monotone from 0 to {len(query)}")
    if "tracks/window_start" in opened and not np.array_equal(opened.read("tracks/window_start"), opened.starts):
        yield opened.finding("windows", f"window_start is not every window of {opened.frames} frames")
    if not np.isfinite(query).all() or (query[:, :2] < 0).any() or (query[:, :2] >= 1).any() or (query[:, 2] <= 0).any():
        yield opened.finding("query", "query points lie outside their image, behind it or nowhere")
    for part, displacement in opened.displacement():
        at = query[part] + displacement
        slack = 1e-5 + float(np.max(opened.file["tracks/displacement"].attrs.get(UNIT, 0.0)))
        inside = (at[..., :2] >= -slack).all() and (at[..., :2] < 1 + slack).all() and (at[..., 2] > -slack).all()
        if not (np.isfinite(displacement).all() and (displacement[0] == 0).all() and inside):
            yield opened.finding("displacement", "points leave the first image or pass the camera, or step 0 moves")
            break
    if "tracks/pose9d" in opened and "camera/T_camera_world" in opened:
        expected = window_poses(opened.read("camera/T_camera_world")[opened.window_frames])[1]
        if not np.allclose(opened.read("tracks/pose9d"), expected, atol=1e-5, equal_nan=True):
            yield opened.finding("pose9d", "pose9d is not camera k in camera 0 of T_camera_world")


def check_hands(opened: OpenFile) -> Iterator[Finding]:
    """Rotations are rotations; windows are those of the frames; wrists project to their keypoints and lie near the depth."""
    if not all(f"hands/{name}" in opened for name in HAND_FRAME_FIELDS):
        return
    valid, T = opened.read("hands/valid"), opened.read("hands/T_camera_wrist")
    if not is_rotation(T[valid][:, :3, :3], 1e-3).all():
        yield opened.finding("rotation", "T_camera_wrist holds what is no rotation in valid frames")
    mano = opened.read("hands/mano_pose")
    mano = mano[np.isfinite(mano).all((-2, -1))]
    if not is_rotation(mano, 1e-3).all():
        yield opened.finding("rotation", "mano_pose holds what is no rotation (interpolated linearly?)")
    if opened.read("hands/interpolated")[~valid].any():
        yield opened.finding("hands", "interpolated says filled where valid says unknown")
    if not all(f"hands/{name}" in opened for name in HAND_WINDOW_FIELDS) or "camera/T_camera_world" not in opened:
        return
    frames, K, size = opened.window_frames, opened.read("camera/intrinsics"), int(opened.attribute("size"))
    T_cam0_camk, _ = window_poses(opened.read("camera/T_camera_world")[frames])
    seen = hand_windows(T[frames], valid[frames], T_cam0_camk, K, size)
    for name in HAND_WINDOW_FIELDS:
        expected = getattr(seen, name.removeprefix("window_"))
        if not np.allclose(opened.read(f"hands/{name}"), expected, rtol=1e-3, atol=1e-4, equal_nan=True):
            yield opened.finding("hand_windows", f"{name} is not what T_camera_wrist and the camera give")
    yield from _check_wrists(opened, T, valid, K, size)


def _check_wrists(opened: OpenFile, T: NDArray[Any], valid: NDArray[np.bool_], K: NDArray[Any], size: int) -> Iterator[Finding]:
    wrist = T[..., :3, 3]
    where = valid & np.isfinite(wrist).all(-1)
    off_px = np.linalg.norm(project(wrist, K) - opened.read("hands/keypoints_px")[..., 0, :], axis=-1)[where]
    off_px = off_px[np.isfinite(off_px)]
    if len(off_px) and np.median(off_px) > WRIST_KEYPOINT_SHARE * size:
        text = f"wrists project {np.median(off_px):.0f} px from their keypoints (median)"
        yield opened.finding("wrist_keypoint", f"{text}, {WRIST_KEYPOINT_SHARE * size:.0f} are allowed")
    if "depth" not in opened or opened.attribute("scale") not in METRE_SCALES:
        return
    gaps = []
    for t, side in np.argwhere(where):
        u, v = np.rint(project(wrist[t, side], K))
        if 0 <= u < size and 0 <= v < size:
            z = float(opened.read("depth", (int(t), int(v), int(u))))
            gaps += [abs(z - float(wrist[t, side, 2]))] if z > 0 else []
    if gaps and np.median(gaps) > WRIST_DEPTH_M:
        yield opened.finding(
            "wrist_depth", f"wrists lie {np.median(gaps):.2f} m off the depth (median), {WRIST_DEPTH_M} are allowed"
        )


def check_statistics(opened: OpenFile) -> Iterator[Finding]:
    """The accumulators in the file are those of its own arrays."""
    if opened.broken:
        return
    stored = Accumulators.unpack({name: opened.read(f"stats/{name}") for name in opened.file["stats"]})
    again, expected = recount(opened).pack(), stored.pack()
    if any(not np.array_equal(again[name], expected[name]) for name in expected):
        yield opened.finding("statistics", "statistics in the file are not those of its arrays")


def recount(opened: OpenFile) -> Accumulators:
    """Accumulators of a file's arrays, as packaging counted them."""
    out = Accumulators()
    limits = (float(opened.attribute("depth_min_m")), float(opened.attribute("depth_max_m")))
    for rgb in opened.rgb():
        out.add_rgb(rgb)
    for start in range(0, opened.frames if "depth" in opened else 0, _ROWS):
        in_metres = opened.attribute("scale") in METRE_SCALES
        out.add_depth(opened.read("depth", slice(start, start + _ROWS)), limits if in_metres else None)
    if "tracks/query" in opened:
        out.add("query_depth", opened.read("tracks/query")[:, 2:])
        for _, displacement in opened.displacement():
            out.add("displacement", displacement)
        pose9d = opened.read("tracks/pose9d")
        out.add("pose", pose9d[np.isfinite(pose9d).all(-1)])
    if "hands/valid" in opened:
        out.add("hand_frames", opened.read("hands/interpolated")[opened.read("hands/valid")].astype(np.uint8)[:, None])
    if "hands/window_query_uvd" in opened:
        for name, key in (("uvd", "hand_uvd_displacement"), ("rot6d", "hand_rot_displacement")):
            rows = opened.read(f"hands/window_displacement_{name}")
            out.add(key, rows[np.isfinite(rows).all((-2, -1))])
    return out


CHECKS: tuple[Check, ...] = (
    check_checksums,
    check_shapes,
    check_camera,
    check_depth,
    check_tracks,
    check_hands,
    check_statistics,
)
