"""One video's artifacts as one packaged file: `package` streams them through the view into a `DatasetWriter`.

What is written follows `videolift.dataset.layout`; the geometry is `videolift.dataset.windows`. Whether a video is good enough to
be packaged is the caller's decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import JOINTS, MANO_JOINTS, Clip, Depth, Hands, Tracks
from videolift.artifacts.tracks import Window
from videolift.dataset.hand_scale import HandScale, hand_scale
from videolift.dataset.layout import (
    HAND_FRAME_FIELDS,
    HAND_ORIGIN_FIELDS,
    HAND_WINDOW_FIELDS,
    METRE_SCALES,
    STATISTICS_OF,
    PackagedView,
)
from videolift.dataset.quality import QualityMeter
from videolift.dataset.windows import (
    displacements,
    hand_windows,
    kept_points,
    point_order,
    to_uvd,
    window_poses,
    window_starts,
    world_wrists,
)
from videolift.dataset.writer import DatasetWriter
from videolift.errors import CorruptFile
from videolift.geometry import Float, project

FRAMES_PER_CHUNK, WINDOWS_PER_CHUNK, HAND_WINDOWS_PER_CHUNK = 16, 16, 512
MAX_CUT_AWAY = 0.1
"""Share of a clip's wrists that the view may cut away before packaging says so."""


class MaskFrames(Protocol):
    """The user's instance ids at the clip's size."""

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        """Ids u8 (H, W) in one frame; 0 is none."""


@dataclass(frozen=True)
class Packaging:
    """Settings of `package`; see `videolift.config.CreateH5Settings`."""

    size: int = 256
    view: Literal["square", "full"] = "square"
    window_length: int = 10
    stride: int = 1
    seed: int = 0
    depth_min_m: float = 0.1
    depth_max_m: float = 2.5
    profile: str = "default"


@dataclass(frozen=True)
class Sources:
    """What one video's file is made of; parts it does not have are None.

    Attributes:
        missing: part to the reason why it is absent.
        about: further attributes for the file: text, subject, metadata, lineage.
        known_length_m: from the person's wrist to the knuckle of the middle finger, to judge the scale by; None where not given.
    """

    clip: Clip
    depth: Depth | None = None
    tracks: Tracks | None = None
    hands: Hands | None = None
    mask: MaskFrames | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    known_length_m: float | None = None


@dataclass(frozen=True)
class _Geometry:
    """The packaged camera: its view, K (3, 3), poses (T, 4, 4) and metres per unit of the depth artifact."""

    view: PackagedView
    K: Float
    T_camera_world: Float
    factor: float
    depth_range_m: tuple[float, float] | None


@dataclass(frozen=True)
class PackageCounts:
    """What `package` wrote: counts for people."""

    frames: int
    windows: int
    points: int
    scale: str
    checks: tuple[str, ...] = ()


def package(sources: Sources, settings: Packaging, out: DatasetWriter, progress: Callable[[int, int], None]) -> PackageCounts:
    """Writes everything but the publication.

    Raises:
        CorruptFile: artifacts that do not belong together.
    """
    clip, depth, hands = sources.clip, sources.depth, sources.hands
    _check_lengths(sources, settings)
    starts = window_starts(len(clip), settings.window_length, settings.stride)
    steps = _Steps(progress, len(clip) + (len(starts) if sources.tracks is not None else 0))
    view = PackagedView.of((clip.width, clip.height), settings.size, settings.view, padded=clip.attrs.get("fit") == "pad")
    found = hand_scale(depth, hands) if depth is not None and hands is not None and depth.scale == "arbitrary" else None
    scale = "hand" if found is not None and found.factor is not None else depth.scale if depth is not None else "none"
    out.profile = settings.profile
    out.describe(**_attributes(sources, settings, view, scale, found))
    geometry = None
    if depth is not None:
        factor = 1.0 if found is None or found.factor is None else found.factor
        limits = (settings.depth_min_m, settings.depth_max_m) if scale in METRE_SCALES else None
        geometry = _Geometry(view, view.intrinsics(depth.K), _scaled_poses(depth, factor), factor, limits)
        out.put(**{"camera/intrinsics": geometry.K})
        out.append(**{"camera/T_camera_world": geometry.T_camera_world, "camera/pose_valid": depth.pose_valid})
    out.append(timestamps=clip.pts_seconds)
    meter = QualityMeter(len(clip))
    if geometry is not None:
        meter.K, meter.T_camera_world = geometry.K, geometry.T_camera_world
    in_view = None if hands is None else _HandArrays.of(hands, view, scale)
    _write_frames(sources, settings, view, geometry, in_view, out, meter, steps)
    points = 0
    if sources.tracks is not None and geometry is not None:
        points = _write_tracks(sources.tracks, settings, geometry, out, meter, steps)
    if in_view is not None:
        _write_hands(in_view, settings, geometry, starts, out)
        meter.hands(in_view.arrays | in_view.origin, view.size_px, sources.known_length_m)
        meter.agreement(sources.hands.attrs if sources.hands is not None else {})
    out.append(**{f"quality/{name}": series for name, series in meter.per_frame.items()})
    out.describe(quality=meter.table())
    checks = [] if found is None or found.factor is not None else [f"hand translations are unknown: no scale, {found.reason}"]
    cut_away = meter.per_video.get("lost_wrists", 0.0)
    if cut_away > MAX_CUT_AWAY:
        remedy = "create_h5.view: full keeps them" if settings.view == "square" else "ingest.fit: pad may keep them"
        checks.append(f"{cut_away:.0%} of the wrists found in the clip lie outside the packaged image: {remedy}")
    return PackageCounts(len(clip), len(starts), points, scale, tuple(checks))


class _Steps:
    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def advance(self, steps: int) -> None:
        self._done += steps
        self._progress(self._done, self._total)


def _check_lengths(sources: Sources, settings: Packaging) -> None:
    frames = len(sources.clip)
    for name, part in (("depth", sources.depth), ("hands", sources.hands)):
        if part is not None and len(part) != frames:
            raise CorruptFile(f"{part.path}: {name} has {len(part)} frames, the clip has {frames}")
    if sources.tracks is not None:
        tracks, length = sources.tracks, settings.window_length
        expected = window_starts(frames, length, settings.stride)
        if tracks.attrs["window_length"] != length or not np.array_equal(tracks.window_start, expected):
            raise CorruptFile(
                f"{tracks.path}: {len(tracks)} windows of {tracks.attrs['window_length']} frames, but {frames} frames with "
                f"window_length {length} and stride {settings.stride} make {len(expected)}"
            )


def _scaled_poses(depth: Depth, factor: float) -> Float:
    poses = depth.T_camera_world.astype(np.float64)
    poses[:, :3, 3] *= factor
    return poses


def _attributes(sources: Sources, settings: Packaging, view: PackagedView, scale: str, found: HandScale | None) -> dict[str, Any]:
    clip, depth, tracks, hands = sources.clip, sources.depth, sources.tracks, sources.hands
    parts = [name for name in ("depth", "tracks", "hands", "mask") if getattr(sources, name) is not None]
    values: dict[str, Any] = asdict(settings) | {"parts": parts, "missing": dict(sources.missing), **sources.about}
    values |= {"view": asdict(view), "size_px": list(view.size_px), "clip_size_px": [clip.width, clip.height], "fps": clip.fps}
    values |= {
        "source": clip.attrs.get("source", {}),
        "framing": clip.attrs.get("framing"),
        "scale": scale,
        "tier": "none" if depth is None else depth.tier,
    }
    values["statistics_of"] = STATISTICS_OF
    values["length_unit"] = "metre" if scale in METRE_SCALES else "median depth of the clip"
    if depth is not None:
        values |= {name: depth.attrs[name] for name in ("pose", "intrinsics")}
        values["depth_quality"] = {"backend": depth.attrs["backend"], **depth.attrs.get("quality", {})}
    if tracks is not None:
        values["tracks"] = {name: tracks.attrs[name] for name in ("backend", "query", "seed") if name in tracks.attrs}
    if hands is not None:
        names = ("backend", "wrist_method", "has_mano", "has_joints")
        values["hands"] = {name: hands.attrs[name] for name in names if name in hands.attrs}
        values |= {"joint_order": list(JOINTS), "mano_order": list(MANO_JOINTS)}
    if found is not None:
        values["hand_scale"] = found.describe()
    return {name: value for name, value in values.items() if value is not None}


def _write_frames(
    sources: Sources,
    settings: Packaging,
    view: PackagedView,
    geometry: _Geometry | None,
    hands: _HandArrays | None,
    out: DatasetWriter,
    meter: QualityMeter,
    steps: _Steps,
) -> None:
    frames = len(sources.clip)
    for part in _slices(frames, FRAMES_PER_CHUNK):
        rgb = _resized_rgb(view.cut(sources.clip[part]), view.size_px)
        out.append(rgb=rgb)
        out.statistics.add_rgb(rgb)
        if geometry is not None and sources.depth is not None:
            depth = resize_nearest(view.cut(sources.depth[part]), view.size_px)
            if geometry.factor != 1.0:
                depth = _multiplied(depth, geometry.factor)
            out.append(depth=depth)
            out.statistics.add_depth(depth, geometry.depth_range_m)
            meter.depth(part.start, depth)
            if hands is not None and geometry.depth_range_m is not None:
                for frame, z in enumerate(depth, part.start):
                    wrist = hands.arrays["T_camera_wrist"][frame, :, :3, 3]
                    meter.wrist(frame, wrist[:, 2], z, project(wrist, geometry.K))
        if sources.mask is not None:
            masks = np.stack([sources.mask[frame] for frame in range(part.start, part.stop)])
            out.append(**{"masks/instance": resize_nearest(view.cut(masks), view.size_px)})
        steps.advance(part.stop - part.start)


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _resized_rgb(rgb: NDArray[np.uint8], size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """Images (n, h, w, 3) as planes (n, 3, H, W) of ``size_px`` (W, H)."""
    out = np.empty((len(rgb), 3, *size_px[::-1]), np.uint8)
    for i, image in enumerate(rgb):
        resized = cv2.resize(np.ascontiguousarray(image), size_px, interpolation=cv2.INTER_LANCZOS4)
        out[i] = resized.transpose(2, 0, 1)
    return out


def resize_nearest(images: NDArray[Any], size_px: tuple[int, int]) -> NDArray[Any]:
    """Depth or ids (n, h, w) at ``size_px`` (W, H), each pixel taken from the source pixel nearest its centre."""
    codes = {1: np.uint8, 2: np.int16}[images.dtype.itemsize]  # OpenCV moves f16 as the integers of the same bits
    out = np.empty((len(images), *size_px[::-1]), images.dtype)
    for i, image in enumerate(images):
        bits = np.ascontiguousarray(image).view(codes)
        out[i] = cv2.resize(bits, size_px, interpolation=cv2.INTER_NEAREST_EXACT).view(images.dtype)
    return out


def _multiplied(depth: NDArray[np.float16], factor: float) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        scaled = (depth.astype(np.float32) * np.float32(factor)).astype(np.float16)
    scaled[~np.isfinite(scaled)] = 0
    return scaled


def _write_tracks(
    tracks: Tracks, settings: Packaging, geometry: _Geometry, out: DatasetWriter, meter: QualityMeter, steps: _Steps
) -> int:
    length, total = settings.window_length, 0
    out.append(**{"tracks/window_start": tracks.window_start, "tracks/offsets": np.zeros(1)})
    for part in _slices(len(tracks), WINDOWS_PER_CHUNK):
        windows = [_packaged_window(window, settings, geometry) for window in tracks.windows(part.start, part.stop)]
        missed = tracks.forward_backward_px[part] * (geometry.view.size_px[0] / geometry.view.width_px)
        for start, window, missed_px in zip(tracks.window_start[part], windows, missed, strict=True):
            meter.window(int(start), window["displacement"], window["visible"], geometry.view.size_px, missed_px)
        joined = {name: _joined([window[name] for window in windows], axis) for name, axis in _POINT_AXIS.items()}
        ends = total + np.cumsum([len(w["query"]) for w in windows])
        frames = tracks.window_start[part][None, :] + np.arange(length)[:, None]
        _, pose9d = window_poses(geometry.T_camera_world[frames])
        out.append(**{f"tracks/{name}": array for name, array in joined.items()})
        out.append(**{"tracks/pose9d": pose9d})
        out.append(**{"tracks/offsets": ends})
        # Where a point is hidden its place is a guess; guesses would set the deviation that motion is normalized with.
        out.statistics.add("displacement", joined["displacement"][joined["visible"]])
        out.statistics.add("query_depth", joined["query"][:, 2:])
        out.statistics.add("pose", pose9d[np.isfinite(pose9d).all(-1)])
        total = int(ends[-1])
        steps.advance(part.stop - part.start)
    if not len(tracks):
        empty: dict[str, tuple[int, ...]] = {
            "query": (0, 3),
            "displacement": (length, 0, 3),
            "visible": (length, 0),
            "label": (0,),
            "pose9d": (0, length, 9),
        }
        for name, shape in empty.items():
            out.append(**{f"tracks/{name}": np.zeros(shape, np.float32)})
    return total


def _joined(arrays: list[NDArray[Any]], axis: int) -> NDArray[Any]:
    return np.concatenate(arrays, axis=axis)


_POINT_AXIS = {"query": 0, "displacement": 1, "visible": 1, "label": 0}


def _packaged_window(window: Window, settings: Packaging, geometry: _Geometry) -> dict[str, NDArray[Any]]:
    length = settings.window_length
    visible, valid3d = window.visible[:length], window.valid3d[:length]
    candidates = np.flatnonzero(visible[0] & valid3d.all(0))  # the cheap part of the rule first
    xyz_cam0, uv_clip = (np.take(array[:length], candidates, 1) for array in (window.xyz_cam0, window.uv_px))
    uvd = to_uvd(
        xyz_cam0 if geometry.factor == 1.0 else xyz_cam0.astype(np.float64) * geometry.factor, geometry.K, geometry.view.size_px
    )
    passed = np.ones((1, len(candidates)), bool)
    kept = kept_points(uvd, geometry.view.pixels(uv_clip), passed, passed, geometry.view.size_px, geometry.depth_range_m)
    chosen = np.flatnonzero(kept)
    chosen = chosen[point_order(settings.seed, window.start, len(chosen))]
    uvd, chosen = np.take(uvd, chosen, 1), candidates[chosen]
    return {
        "query": uvd[0],
        "displacement": displacements(uvd),
        "visible": np.take(visible, chosen, 1),
        "label": window.label[chosen],
    }


@dataclass(frozen=True)
class _HandArrays:
    """Hands as they are packaged: keypoints in packaged pixels, translations NaN where the file's lengths are not metres."""

    arrays: dict[str, NDArray[Any]]
    origin: dict[str, NDArray[Any]]
    betas: NDArray[np.float32]

    @classmethod
    def of(cls, hands: Hands, view: PackagedView, scale: str) -> _HandArrays:
        arrays: dict[str, NDArray[Any]] = {name: getattr(hands, name) for name in HAND_FRAME_FIELDS}
        arrays["keypoints_px"] = view.pixels(arrays["keypoints_px"])
        if scale == "arbitrary":  # metres of the hand and units of the depth cannot stand in one frame
            arrays["joints_camera"] = np.full_like(arrays["joints_camera"], np.nan)
            arrays["T_camera_wrist"] = arrays["T_camera_wrist"].copy()
            arrays["T_camera_wrist"][..., :3, 3] = np.nan
        return cls(arrays, {name: getattr(hands, name) for name in HAND_ORIGIN_FIELDS}, hands.betas)


def _write_hands(
    hands: _HandArrays, settings: Packaging, geometry: _Geometry | None, starts: NDArray[np.int64], out: DatasetWriter
) -> None:
    arrays = hands.arrays
    out.append(**{f"hands/{name}": array for name, array in (arrays | hands.origin).items()})
    out.put(**{"hands/betas": hands.betas})
    out.statistics.add("hand_frames", arrays["interpolated"][arrays["valid"]].astype(np.uint8)[:, None])
    if geometry is None:
        return
    T_world_wrist = world_wrists(arrays["T_camera_wrist"], arrays["valid"], geometry.T_camera_world)
    known = np.isfinite(T_world_wrist).all((-2, -1))
    out.append(**{"hands/T_world_wrist": T_world_wrist, "hands/world_valid": known})
    for part in _slices(len(starts), HAND_WINDOWS_PER_CHUNK):
        frames = starts[part][None, :] + np.arange(settings.window_length)[:, None]
        T_cam0_camk, _ = window_poses(geometry.T_camera_world[frames])
        seen = hand_windows(
            arrays["T_camera_wrist"][frames], arrays["valid"][frames], T_cam0_camk, geometry.K, geometry.view.size_px
        )
        out.append(**{f"hands/{name}": getattr(seen, name.removeprefix("window_")) for name in HAND_WINDOW_FIELDS})
        for name, rows in (("uvd", seen.displacement_uvd), ("rot", seen.displacement_rot6d)):
            out.statistics.add(f"hand_{name}_displacement", rows[np.isfinite(rows).all((-2, -1))])
