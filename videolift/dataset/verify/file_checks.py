"""The checks of one packaged file: each takes a `FileUnderCheck` and gives findings. `CHECKS` lists them in order.

A check reads arrays in parts and holds little. What cannot be read or has the wrong shape is a finding of the first checks, and the
checks after them leave that array alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.dataset.file import PackagedFile
from videolift.dataset.layout import FIELDS, HAND_FRAME_FIELDS, HAND_WINDOW_FIELDS, STATISTICS_OF, expected_shape, promised_arrays
from videolift.dataset.quality import SCORES
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.dataset.statistics.file_summary import packed_statistics
from videolift.dataset.windows import hand_windows, window_poses
from videolift.errors import CorruptFile
from videolift.geometry import is_rotation, project

WRIST_KEYPOINT_SHARE = 0.05
"""A wrist should project this near its keypoint, as a share of the image size, in half of its frames."""
WRIST_DEPTH_M = 0.3
"""And lie this near the depth at its pixel, metres, in half of the frames that have depth there."""
MEASURED_SCALES = ("metric", "hand")
"""Where depth may be compared with something: an assumed distance contradicts every hand that is placed by its size."""
REDO = "Delete it and run the same command again; report it if it comes back."
LOOK = "Its labels contradict each other, and packaging it again gives the same: look at it, then exclude the video or its part."
_FRAMES, _POINTS = 64, 1 << 16
"""Read at a time."""


@dataclass(frozen=True)
class Finding:
    """Something wrong. ``check`` is a short stable name; scripts may compare it."""

    file: str
    check: str
    text: str
    remedy: str = REDO


class FileUnderCheck(PackagedFile):
    """A packaged file under verification: what turned out to be broken counts as absent."""

    checks_shapes = False  # `check_shapes` names every array of another shape

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.broken: set[str] = set()
        """Arrays that cannot be read, or not be compared with the others."""

    def has(self, name: str) -> bool:
        """As `PackagedFile.has`, of what is not broken."""
        return name not in self.broken and super().has(name)

    def has_all(self, *names: str) -> bool:
        """True if it holds all of them."""
        return all(self.has(name) for name in names)

    def finding(self, check: str, text: str, remedy: str = REDO) -> Finding:
        """A finding about this file."""
        return Finding(self.path.name, check, text, remedy)

    @cached_property
    def window_frames(self) -> NDArray[np.int64]:
        """(L, W) frame numbers."""
        return self.window_start[None, :] + np.arange(self.window_length)[:, None]

    def by_frames(self, name: str) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first frame, rows) of an array over frames."""
        for start in range(0, len(self) if self.has(name) else 0, _FRAMES):
            yield start, self.array(name, slice(start, start + _FRAMES))

    def displacement(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Displacements in parts (L, n, 3)."""
        for start in range(0, (self.shape("tracks/displacement") or (0, 0))[1], _POINTS):
            part = slice(start, start + _POINTS)
            yield part, self.array("tracks/displacement", (slice(None), part))


FileCheck = Callable[[FileUnderCheck], Iterator[Finding]]


def check_content(file: FileUnderCheck) -> Iterator[Finding]:
    """Nothing leads outside the file, nothing is in it that does not belong there, and every byte fits its checksum."""
    try:
        for text in file.stored.unexpected():
            yield file.finding("content", text)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        yield file.finding("content", f"it cannot be listed: {error}")
    for name in file.stored.fields:
        try:
            if file.stored.shape(name) is None or file.stored.matches_checksum(name):
                continue
            text = f"{name}: its bytes do not match their checksum"
        except CorruptFile as error:
            text = str(error).removeprefix(f"{file.path}: ")
        file.broken.add(name)
        yield file.finding("checksum", text)


def check_shapes(file: FileUnderCheck) -> Iterator[Finding]:
    """Every modality has as many frames, windows, steps and points as the others."""
    points = (file.shape("tracks/query") or (0,))[0] if file.has("tracks/query") else 0
    lengths = {"frames": len(file), "windows": len(file.window_start), "points": points, "window_length": file.window_length}
    for field in FIELDS:
        if not file.has(field.name) or field.name.startswith("stats/"):
            continue
        shape = file.shape(field.name)
        expected = expected_shape(field.name, size_px=file.size_px, **lengths)
        if shape != expected:
            file.broken.add(field.name)
            yield file.finding("shape", f"{field.name} is {shape}, expected {expected}")
    parts = [str(part) for part in file.attribute_of_type("parts", list)]
    promised = promised_arrays(parts, older=file.attribute("size_px") is None)
    scores = file.attribute("quality", {})
    for name, score in scores.items() if isinstance(scores, dict) else ():
        if name in SCORES and SCORES[name].per_frame and isinstance(score, dict) and score.get("value") is not None:
            promised.add(f"quality/{name}")
    for name in sorted(promised - file.broken):
        if not file.has(name):
            yield file.finding("parts", f"it should hold {name}")


def check_camera(file: FileUnderCheck) -> Iterator[Finding]:
    """Times increase; K is a camera; poses are rotations where valid and NaN where not."""
    if file.has("timestamps"):
        times = file.array("timestamps")
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            yield file.finding("timestamps", "times do not increase")
    if file.has("camera/intrinsics"):
        K = file.array("camera/intrinsics")
        if not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0 or (K[2] != [0, 0, 1]).any():
            file.broken.add("camera/intrinsics")
            yield file.finding("intrinsics", f"K is not a camera: {K.tolist()}")
    if file.has_all("camera/T_camera_world", "camera/pose_valid"):
        E, valid = file.array("camera/T_camera_world"), file.array("camera/pose_valid")
        bad = np.flatnonzero(valid & ~(is_rotation(E[:, :3, :3], 1e-3) & np.isfinite(E).all((1, 2))))
        if len(bad):
            yield file.finding("rotation", f"T_camera_world is not a rigid motion in {len(bad)} frames, first {bad[0]}")
        if np.isfinite(E[~valid]).any():
            yield file.finding("camera", "T_camera_world has numbers where pose_valid says unknown")


def check_depth(file: FileUnderCheck) -> Iterator[Finding]:
    """Depth is finite and not negative."""
    for start, depth in file.by_frames("depth"):
        if not (depth >= 0).all() or np.isinf(depth).any():
            yield file.finding("depth", f"depth is negative or not finite between frames {start} and {start + len(depth)}")
            return


def check_tracks(file: FileUnderCheck) -> Iterator[Finding]:
    """Offsets are monotone; u, v stay in the first image, d ahead of it; step 0 moves nothing; poses are those of the camera."""
    if file.has_all("tracks/offsets", "tracks/query"):
        try:
            total = int(file.offsets[-1])
        except CorruptFile:
            total = -1
        if total != len(file.array("tracks/query")):
            yield file.finding("offsets", f"offsets are not monotone from 0 to {len(file.array('tracks/query'))}")
    if file.has("tracks/window_start") and not np.array_equal(file.array("tracks/window_start"), file.window_start):
        yield file.finding("windows", f"window_start is not every window of {len(file)} frames")
    if file.has_all("tracks/query", "tracks/displacement"):
        query = file.array("tracks/query")
        if not np.isfinite(query).all() or (query[:, :2] < 0).any() or (query[:, :2] >= 1).any() or (query[:, 2] <= 0).any():
            yield file.finding("query", "query points lie outside their image, behind it or nowhere")
        # Sums of float32 are off by some 1e-7; a lossy profile states by how much it may be off.
        slack = 1e-5 + file.profile.tolerance(file.stored, "tracks/displacement")
        for part, displacement in file.displacement():
            at = query[part] + displacement
            inside = (at[..., :2] >= -slack).all() and (at[..., :2] < 1 + slack).all() and (at[..., 2] > -slack).all()
            if not (np.isfinite(displacement).all() and (displacement[0] == 0).all() and inside):
                yield file.finding("displacement", "points leave the first image or pass the camera, or step 0 moves")
                break
    if file.has_all("tracks/pose9d", "camera/T_camera_world"):
        expected = window_poses(file.array("camera/T_camera_world")[file.window_frames])[1]
        if not np.allclose(file.array("tracks/pose9d"), expected, atol=1e-5, equal_nan=True):
            yield file.finding("pose9d", "pose9d is not camera k in camera 0 of T_camera_world")


def check_hands(file: FileUnderCheck) -> Iterator[Finding]:
    """Rotations are rotations; windows are those of the frames; wrists project to their keypoints and lie near the depth."""
    if not file.has_all(*(f"hands/{name}" for name in HAND_FRAME_FIELDS)):
        return
    valid, T = file.array("hands/valid"), file.array("hands/T_camera_wrist")
    if not is_rotation(T[valid][:, :3, :3], 1e-3).all():
        yield file.finding("rotation", "T_camera_wrist holds what is not a rotation in valid frames")
    mano = file.array("hands/mano_pose")
    # Backends that give no MANO pose leave NaN, also in valid frames.
    mano = mano[np.isfinite(mano).all((-2, -1))]
    if not is_rotation(mano, 1e-3).all():
        yield file.finding("rotation", "mano_pose holds what is not a rotation (interpolated linearly?)")
    if file.array("hands/interpolated")[~valid].any():
        yield file.finding("hands", "interpolated says filled where valid says unknown")
    windows = (f"hands/{name}" for name in HAND_WINDOW_FIELDS)
    if not file.has_all(*windows, "camera/T_camera_world", "camera/intrinsics"):
        return
    frames, K = file.window_frames, file.array("camera/intrinsics")
    T_cam0_camk, _ = window_poses(file.array("camera/T_camera_world")[frames])
    computed = hand_windows(T[frames], valid[frames], T_cam0_camk, K=K, size=file.size_px)
    for name in HAND_WINDOW_FIELDS:
        expected = getattr(computed, name.removeprefix("window_"))
        if not np.allclose(file.array(f"hands/{name}"), expected, rtol=1e-3, atol=1e-4, equal_nan=True):
            yield file.finding("hand_windows", f"{name} is not what T_camera_wrist and the camera give")

    wrist = T[..., :3, 3]
    where = valid & np.isfinite(wrist).all(-1)
    wrist_px = project(wrist, K)
    off_px = np.linalg.norm(wrist_px - file.array("hands/keypoints_px")[..., 0, :], axis=-1)[where]
    off_px = off_px[np.isfinite(off_px)]
    if len(off_px) and np.median(off_px) > WRIST_KEYPOINT_SHARE * min(file.size_px):
        text = f"wrists project {np.median(off_px):.0f} px from their keypoints (median)"
        yield file.finding("wrist_keypoint", f"{text}, {WRIST_KEYPOINT_SHARE * min(file.size_px):.0f} are allowed", LOOK)
    if not file.has("depth") or file.scale not in MEASURED_SCALES:
        return
    gaps_m = []
    # A wrist beside the camera projects to numbers that no integer holds.
    for t, side in np.argwhere(where & (np.abs(np.nan_to_num(wrist_px, nan=-1e6)) < 1e6).all(-1)):
        u, v = np.rint(wrist_px[t, side])
        if 0 <= u < file.size_px[0] and 0 <= v < file.size_px[1]:
            z = float(file.array("depth", (int(t), int(v), int(u))))
            gaps_m += [abs(z - float(wrist[t, side, 2]))] if z > 0 else []
    if gaps_m and np.median(gaps_m) > WRIST_DEPTH_M:
        text = f"wrists lie {np.median(gaps_m):.2f} m off the depth (median), {WRIST_DEPTH_M} are allowed"
        yield file.finding("wrist_depth", text, LOOK)


def check_statistics(file: FileUnderCheck) -> Iterator[Finding]:
    """The accumulators in the file are those of its own arrays."""
    # Statistics over a broken array would differ for that reason alone.
    if file.broken:
        return
    stored, counted = packed_statistics(file), recount(file).pack()
    if any(not np.array_equal(counted[name], stored[name]) for name in stored):
        yield file.finding("statistics", "statistics in the file are not those of its arrays")


def recount(file: FileUnderCheck) -> Accumulators:
    """Accumulators of a file's arrays, as packaging counted them."""
    # Sums are exact: parts of any size, in any order, give the numbers that packaging stored.
    out = Accumulators()
    for _, rgb in file.by_frames("rgb"):
        out.add_rgb(rgb)
    for _, depth in file.by_frames("depth"):
        out.add_depth(depth, file.depth_range_m)
    if file.has_all("tracks/query", "tracks/displacement", "tracks/visible", "tracks/pose9d"):
        out.add("query_depth", file.array("tracks/query")[:, 2:])
        # Files of older releases counted hidden steps too.
        only_visible = file.attribute("statistics_of") == STATISTICS_OF
        for part, displacement in file.displacement():
            visible = file.array("tracks/visible", (slice(None), part))
            out.add("displacement", displacement[visible] if only_visible else displacement)
        pose9d = file.array("tracks/pose9d")
        out.add("pose", pose9d[np.isfinite(pose9d).all(-1)])
    if file.has_all("hands/valid", "hands/interpolated"):
        out.add("hand_frames", file.array("hands/interpolated")[file.array("hands/valid")].astype(np.uint8)[:, None])
    for name, key in (("uvd", "hand_uvd_displacement"), ("rot6d", "hand_rot_displacement")):
        if file.has(f"hands/window_displacement_{name}"):
            rows = file.array(f"hands/window_displacement_{name}")
            out.add(key, rows[np.isfinite(rows).all((-2, -1))])
    return out


CHECKS: tuple[FileCheck, ...] = (
    check_content,
    check_shapes,
    check_camera,
    check_depth,
    check_tracks,
    check_hands,
    check_statistics,
)
