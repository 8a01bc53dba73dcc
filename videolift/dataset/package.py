"""One video's artifacts as one packaged file: `package` streams them through the view into a `DatasetWriter`.

What is written follows `videolift.dataset.layout`; the geometry is `videolift.dataset.windows`. Whether a video is good enough to
be packaged is the caller's decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import JOINTS, MANO_JOINTS, Clip, Depth, Hands, Tracks
from videolift.artifacts.tracks import Window
from videolift.dataset.layout import (
    HAND_FRAME_FIELDS,
    HAND_ORIGIN_FIELDS,
    HAND_WINDOW_FIELDS,
    METRE_SCALES,
    STATISTICS_OF,
    PackagedView,
)
from videolift.dataset.quality import QualityMeter
from videolift.dataset.shot_gates import (
    Gates,
    ShotDepth,
    ShotWorth,
    depth_of_shot,
    judge_content,
    no_shot_left,
    shot_with_windows,
    shots_by_kind,
)
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
from videolift.inputs.framing import Framing
from videolift.shot_ranges import NO_SHOT, shots_of

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
    gates: Gates = field(default_factory=Gates)


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
    """The packaged camera: its view, K (3, 3), poses (T, 4, 4) and units of the file per unit of the depth artifact (T).

    Of frames whose depth the file does not hold the factor is 0 and the pose NaN.
    """

    view: PackagedView
    K: Float
    T_camera_world: Float
    factor: Float
    depth_range_m: tuple[float, float] | None

    @classmethod
    def of(cls, depth: Depth, view: PackagedView, worths: Sequence[ShotWorth], *, scale: str, settings: Packaging) -> _Geometry:
        # 0 where a shot is refused: its depth is in another unit than the file's, so its frames get none.
        factor = np.zeros(len(depth))
        for worth in worths:
            if worth.refused is None:
                factor[worth.shot.first : worth.shot.end] = worth.factor
        poses = depth.T_camera_world.astype(np.float64)
        poses[:, :3, 3] *= factor[:, None]
        poses[factor == 0] = np.nan
        limits = (settings.depth_min_m, settings.depth_max_m) if scale in METRE_SCALES else None
        return cls(view, view.intrinsics(depth.K), poses, factor=factor, depth_range_m=limits)


@dataclass(frozen=True)
class PackageCounts:
    """What `package` wrote: counts for people."""

    frames: int
    windows: int
    points: int
    scale: str
    checks: tuple[str, ...] = ()
    hand_frames: int | None = None
    """With a valid hand; None where no hands were looked for."""


def package(sources: Sources, settings: Packaging, out: DatasetWriter, progress: Callable[[int, int], None]) -> PackageCounts:
    """Writes everything but the publication.

    Raises:
        BadInput: no shot of the video is good enough by `Packaging.gates`.
        CorruptFile: artifacts that do not belong together.
    """
    clip, depth, hands, tracks = sources.clip, sources.depth, sources.hands, sources.tracks
    _check_lengths(sources, settings)
    gates, length, stride = settings.gates, settings.window_length, settings.stride
    shots = shots_by_kind(clip, depth, hands, tracks, gates=gates, window_length=length, stride=stride)
    usable = [one for one in shots if one.worth.refused is None]
    if not usable:
        raise no_shot_left([one.worth for one in shots])
    longest = max(usable, key=lambda one: len(one.worth.shot))
    scale = longest.worth.scale
    view = PackagedView.of((clip.width, clip.height), settings.size, settings.view, padded=clip.attrs.get("fit") == "pad")
    out.profile = settings.profile
    geometry = None if depth is None else _Geometry.of(depth, view, [one.worth for one in shots], scale=scale, settings=settings)
    if geometry is not None:
        out.put(**{"camera/intrinsics": geometry.K})
        known = np.isfinite(geometry.T_camera_world).all((-2, -1))
        out.append(**{"camera/T_camera_world": geometry.T_camera_world, "camera/pose_valid": known})
    out.append(timestamps=clip.pts_seconds, shot=clip.shot)
    meter = QualityMeter(len(clip), shot=clip.shot)
    if geometry is not None:
        # Before the frames: each one is compared with the next as they go by.
        meter.K, meter.T_camera_world = geometry.K, geometry.T_camera_world
    in_view = None if hands is None else _HandArrays.of(hands, clip, view, scale)
    packing = _Packing(sources, settings, view=view, geometry=geometry, out=out, meter=meter, progress=progress)
    packing.write_frames(in_view)
    # Only now: what share of the pixels has depth is known once the frames are written, and they are read but once.
    worths = packing.judged([one.worth for one in shots])
    if all(worth.refused is not None for worth in worths):
        raise no_shot_left(worths)
    starts = window_starts(len(clip), length, stride, shot_with_windows(clip.shot, worths))
    points = packing.write_tracks(starts)
    if in_view is not None:
        in_view.write(settings, geometry, starts, out)
        meter.hands(in_view.arrays | in_view.origin, view.size_px, in_view.in_picture, sources.known_length_m)
        meter.agreement(sources.hands.attrs if sources.hands is not None else {})
    out.append(**{f"quality/{name}": series for name, series in meter.per_frame.items()})
    out.describe(**packing.attributes(worths, longest), quality=meter.table())
    checks = [f"{worth.name} gives no windows: {worth.refused.text}" for worth in worths if worth.refused is not None]
    found = longest.hand_scale
    if found is not None and found.factor is None:
        checks.append(f"hand translations are unknown: no scale, {found.reason}")
    cut_away = meter.per_video.get("lost_wrists", 0.0)
    if in_view is not None and cut_away > MAX_CUT_AWAY:
        helps = ["ingest.fit: pad"] * in_view.beyond_clip + ["create_h5.view: full"] * (settings.view == "square")
        text = f"{cut_away:.0%} of the wrists found in the picture lie outside the packaged image"
        checks.append(f"{text}: {' with '.join(helps)} keeps them")
    hand_frames = None if in_view is None else int(in_view.arrays["valid"].any(1).sum())
    return PackageCounts(len(clip), len(starts), points, scale, checks=tuple(checks), hand_frames=hand_frames)


def _check_lengths(sources: Sources, settings: Packaging) -> None:
    frames = len(sources.clip)
    for name, part in (("depth", sources.depth), ("hands", sources.hands)):
        if part is not None and len(part) != frames:
            raise CorruptFile(f"{part.path}: {name} has {len(part)} frames, the clip has {frames}")
    if sources.tracks is not None:
        tracks, length = sources.tracks, settings.window_length
        # Windows lie within shots, and a shot that could not be tracked has none.
        failed = {int(about["first"]) for about in tracks.attrs.get("shots", []) if "refused" in about}
        shot = sources.clip.shot
        with_tracks = np.where(np.isin(shot, [one.number for one in shots_of(shot) if one.first in failed]), NO_SHOT, shot)
        expected = window_starts(frames, length, settings.stride, with_tracks)
        if tracks.attrs["window_length"] != length or not np.array_equal(tracks.window_start, expected):
            raise CorruptFile(
                f"{tracks.path}: {len(tracks)} windows of {tracks.attrs['window_length']} frames, but {frames} frames with "
                f"window_length {length} and stride {settings.stride} make {len(expected)}"
            )


@dataclass
class _Packing:
    """One video on its way into its file: what is written, and the meter that sees all of it."""

    sources: Sources
    settings: Packaging
    view: PackagedView
    geometry: _Geometry | None
    out: DatasetWriter
    meter: QualityMeter
    progress: Callable[[int, int], None]
    _done: int = 0

    def write_frames(self, hands: _HandArrays | None) -> None:
        """Images, depth and masks, chunk by chunk; ``hands`` are measured against the depth as it goes by."""
        sources, view, geometry, out = self.sources, self.view, self.geometry, self.out
        for part in _slices(len(sources.clip), FRAMES_PER_CHUNK):
            rgb = np.empty((part.stop - part.start, 3, *view.size_px[::-1]), np.uint8)
            for i, image in enumerate(view.cut(sources.clip[part])):
                # As the predecessor resizes, so that its models see images as sharp as those they were trained on.
                resized = cv2.resize(np.ascontiguousarray(image), view.size_px, interpolation=cv2.INTER_LANCZOS4)
                rgb[i] = resized.transpose(2, 0, 1)
            out.append(rgb=rgb)
            out.statistics.add_rgb(rgb)
            if geometry is not None and sources.depth is not None:
                depth = resize_nearest(view.cut(sources.depth[part]), view.size_px)
                if (geometry.factor[part] != 1.0).any():
                    # Beyond what float16 holds, 65504, depth is no longer known: 0.
                    with np.errstate(over="ignore"):
                        factor = geometry.factor[part].astype(np.float32)[:, None, None]
                        depth = (depth.astype(np.float32) * factor).astype(np.float16)
                    depth[~np.isfinite(depth)] = 0
                out.append(depth=depth)
                out.statistics.add_depth(depth, geometry.depth_range_m)
                self.meter.depth(part.start, depth)
                if hands is not None and geometry.depth_range_m is not None:
                    for frame, z in enumerate(depth, part.start):
                        wrist = hands.arrays["T_camera_wrist"][frame, :, :3, 3]
                        self.meter.wrist(frame, wrist[:, 2], z, project(wrist, geometry.K))
            if sources.mask is not None:
                masks = np.stack([sources.mask[frame] for frame in range(part.start, part.stop)])
                out.append(**{"masks/instance": resize_nearest(view.cut(masks), view.size_px)})
            self._advance(part)

    def judged(self, worths: Sequence[ShotWorth]) -> list[ShotWorth]:
        """Every shot with what was measured of it, by the gates."""
        tracks, geometry, settings = self.sources.tracks, self.geometry, self.settings
        judged = []
        pose_valid = None if geometry is None else np.asarray(np.isfinite(geometry.T_camera_world).all((-2, -1)))

        def points(starts: Sequence[int]) -> float:
            assert tracks is not None
            assert geometry is not None
            # Packaged as they will be, so that the gate counts what a trainer gets and not what was tracked.
            index = np.searchsorted(tracks.window_start, starts)
            return float(np.mean([len(_packaged_window(tracks[int(w)], settings, geometry)["query"]) for w in index]))

        for worth in worths:
            shot = worth.shot
            judged.append(
                judge_content(
                    worth,
                    settings.gates,
                    valid_depth=self.meter.per_frame.get("valid_depth"),
                    pose_valid=pose_valid,
                    points=None if tracks is None or geometry is None else points,
                    starts=shot.first + window_starts(len(shot), settings.window_length, settings.stride),
                )
            )
        return judged

    def write_tracks(self, starts: NDArray[np.int64]) -> int:
        """Writes the windows that begin at ``starts``, and returns how many points they hold; 0 without tracks and depth."""
        tracks, settings, geometry, out = self.sources.tracks, self.settings, self.geometry, self.out
        if tracks is None or geometry is None:
            return 0
        length, total = settings.window_length, 0
        out.append(**{"tracks/window_start": starts, "tracks/offsets": np.zeros(1)})
        # Runs of neighbours among the windows that are packaged: those of a refused shot are tracked and skipped.
        edges = np.flatnonzero(np.diff(np.concatenate([[False], np.isin(tracks.window_start, starts), [False]]).astype(np.int8)))
        runs = edges.reshape(-1, 2).tolist()
        parts = [slice(a + few.start, a + few.stop) for a, end in runs for few in _slices(end - a, WINDOWS_PER_CHUNK)]
        for part in parts:
            windows = [_packaged_window(window, settings, geometry) for window in tracks.windows(part.start, part.stop)]
            missed = tracks.forward_backward_px[part] * (geometry.view.size_px[0] / geometry.view.width_px)
            for start, window, missed_px in zip(tracks.window_start[part], windows, missed, strict=True):
                moved, visible = window["displacement"], window["visible"]
                self.meter.window(int(start), moved, visible, size_px=geometry.view.size_px, forward_backward_px=missed_px)
            joined = {name: np.concatenate([window[name] for window in windows], axis) for name, axis in _POINT_AXIS.items()}
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
            self._advance(part)
        return total

    def attributes(self, worths: Sequence[ShotWorth], longest: ShotDepth) -> dict[str, Any]:
        """What the file says of itself, without its quality."""
        sources, settings, view = self.sources, self.settings, self.view
        clip, depth, tracks, hands = sources.clip, sources.depth, sources.tracks, sources.hands
        scale = longest.worth.scale
        parts = [name for name in ("depth", "tracks", "hands", "mask") if getattr(sources, name) is not None]
        values: dict[str, Any] = {n: v for n, v in asdict(settings).items() if n != "gates"}
        values |= {"parts": parts, "missing": dict(sources.missing), **sources.about}
        values |= {"view": asdict(view), "size_px": list(view.size_px), "clip_size_px": [clip.width, clip.height], "fps": clip.fps}
        values |= {
            "source": clip.attrs.get("source", {}),
            "framing": clip.attrs.get("framing"),
            "scale": scale,
            # The worst that is in it: letters rise from A, the best.
            "tier": max(worth.tier for worth in worths if worth.refused is None),
            "shots": [worth.describe() for worth in worths],
        }
        values["statistics_of"] = STATISTICS_OF
        values["length_unit"] = "metre" if scale in METRE_SCALES else "median depth of the clip"
        if depth is not None:
            about = depth_of_shot(depth, longest.worth.shot)
            values |= {name: about[name] for name in ("pose", "intrinsics")}
            values["depth_quality"] = {"backend": depth.attrs["backend"], **about.get("quality", {})}
        if tracks is not None:
            values["tracks"] = {name: tracks.attrs[name] for name in ("backend", "query", "seed") if name in tracks.attrs}
        if hands is not None:
            names = ("backend", "wrist_method", "has_mano", "has_joints")
            values["hands"] = {name: hands.attrs[name] for name in names if name in hands.attrs}
            values |= {"joint_order": list(JOINTS), "mano_order": list(MANO_JOINTS)}
            if depth is None:
                values["intrinsics"] = hands.attrs.get("K_source")
        if longest.hand_scale is not None:
            values["hand_scale"] = longest.hand_scale.describe()
        return {name: value for name, value in values.items() if value is not None}

    def _advance(self, part: slice) -> None:
        """Reports frames or windows as done."""
        tracks = self.sources.tracks
        self._done += part.stop - part.start
        self.progress(self._done, len(self.sources.clip) + (0 if tracks is None else len(tracks)))


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def resize_nearest(images: NDArray[Any], size_px: tuple[int, int]) -> NDArray[Any]:
    """Depth or ids (n, h, w) at ``size_px`` (W, H), each pixel taken from the source pixel nearest its centre."""
    codes = {1: np.uint8, 2: np.int16}[images.dtype.itemsize]  # OpenCV moves f16 as the integers of the same bits
    out = np.empty((len(images), *size_px[::-1]), images.dtype)
    for i, image in enumerate(images):
        bits = np.ascontiguousarray(image).view(codes)
        out[i] = cv2.resize(bits, size_px, interpolation=cv2.INTER_NEAREST_EXACT).view(images.dtype)
    return out


_POINT_AXIS = {"query": 0, "displacement": 1, "visible": 1, "label": 0}


def _packaged_window(window: Window, settings: Packaging, geometry: _Geometry) -> dict[str, NDArray[Any]]:
    length = settings.window_length
    visible, valid3d = window.visible[:length], window.valid3d[:length]
    candidates = np.flatnonzero(visible[0] & valid3d.all(0))  # the cheap part of the rule first
    xyz_cam0, uv_clip = (np.take(array[:length], candidates, 1) for array in (window.xyz_cam0, window.uv_px))
    factor = float(geometry.factor[window.start])  # one for the window, which lies within one shot
    uvd = to_uvd(xyz_cam0 if factor == 1.0 else xyz_cam0.astype(np.float64) * factor, geometry.K, geometry.view.size_px)
    passed = np.ones((1, len(candidates)), bool)
    kept = kept_points(
        uvd,
        geometry.view.pixels(uv_clip),
        valid3d=passed,
        visible=passed,
        size=geometry.view.size_px,
        depth_range_m=geometry.depth_range_m,
    )
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
    in_picture: NDArray[np.bool_]
    """(T, 2) wrists that the video's own picture holds; ``beyond_clip`` where the clip cuts some of them away."""
    beyond_clip: bool

    @classmethod
    def of(cls, hands: Hands, clip: Clip, view: PackagedView, scale: str) -> _HandArrays:
        size_px, wrists = (clip.width, clip.height), hands.keypoints_px[..., 0, :]
        whole = Framing(size_px, size_px, (0, 0), size_px)
        in_picture = (Framing.from_attrs(clip.attrs) if "framing" in clip.attrs else whole).holds(wrists)
        arrays: dict[str, NDArray[Any]] = {name: getattr(hands, name) for name in HAND_FRAME_FIELDS}
        arrays["keypoints_px"] = view.pixels(arrays["keypoints_px"])
        if scale == "arbitrary":  # metres of the hand and units of the depth cannot stand in one frame
            arrays["joints_camera"] = np.full_like(arrays["joints_camera"], np.nan)
            arrays["T_camera_wrist"] = arrays["T_camera_wrist"].copy()
            arrays["T_camera_wrist"][..., :3, 3] = np.nan
        origin = {name: getattr(hands, name) for name in HAND_ORIGIN_FIELDS}
        beyond_clip = bool((hands.valid & in_picture & ~whole.holds(wrists)).any())
        return cls(arrays, origin, hands.betas, in_picture, beyond_clip)

    def write(self, settings: Packaging, geometry: _Geometry | None, starts: NDArray[np.int64], out: DatasetWriter) -> None:
        arrays = self.arrays
        out.append(**{f"hands/{name}": array for name, array in (arrays | self.origin).items()})
        out.put(**{"hands/betas": self.betas})
        out.statistics.add("hand_frames", arrays["interpolated"][arrays["valid"]].astype(np.uint8)[:, None])
        if geometry is None:
            return
        # Only with depth: without it nobody knows where the camera is, nor what a window sees from its first one.
        T_world_wrist = world_wrists(arrays["T_camera_wrist"], arrays["valid"], geometry.T_camera_world)
        known = np.isfinite(T_world_wrist).all((-2, -1))
        out.append(**{"hands/T_world_wrist": T_world_wrist, "hands/world_valid": known})
        for part in _slices(len(starts), HAND_WINDOWS_PER_CHUNK):
            frames = starts[part][None, :] + np.arange(settings.window_length)[:, None]
            T_cam0_camk, _ = window_poses(geometry.T_camera_world[frames])
            seen = hand_windows(
                arrays["T_camera_wrist"][frames], arrays["valid"][frames], T_cam0_camk, K=geometry.K, size=geometry.view.size_px
            )
            out.append(**{f"hands/{name}": getattr(seen, name.removeprefix("window_")) for name in HAND_WINDOW_FIELDS})
            for name, rows in (("uvd", seen.displacement_uvd), ("rot", seen.displacement_rot6d)):
                out.statistics.add(f"hand_{name}_displacement", rows[np.isfinite(rows).all((-2, -1))])
