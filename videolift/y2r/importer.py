"""Import of the predecessor's folders (frames/, vipe/, tracks_3d/, hand_poses/): artifacts and a dataset, nothing computed again.

Its known mistakes are repaired where its files still hold what that needs, and named where they do not. The repairs are pure
functions of its arrays, in `videolift.y2r.repairs`; here files are read and artifacts written. Its ``.pt`` files are opened with
torch's restricted loader, never as plain pickles.
"""

from __future__ import annotations

import hashlib
import importlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import ClipWriter, DepthWriter, HandsWriter, Published, TracksWriter
from videolift.artifacts.clip import Clip
from videolift.artifacts.depth import Depth
from videolift.artifacts.hands import Hands
from videolift.artifacts.tracks import Tracks
from videolift.dataset.package import Packaging, Sources, package
from videolift.dataset.publish import PackagedVideo, publish_dataset
from videolift.dataset.writer import DatasetWriter
from videolift.errors import ConfigError, CorruptFile
from videolift.inputs.video import video_id
from videolift.paths import Layout
from videolift.y2r.adoption import STAGES_IMPORTED, ImportedVideo, write_imported_run, write_receipts
from videolift.y2r.packaged import unpack
from videolift.y2r.repairs import Imported, repair_hands, repair_window

_Scale = Literal["metric", "arbitrary"]
IMPORTED_BY = "imported from y2r"
MIN_TRACKED = 9
"""TAPIP3D returned motionless tracks for windows of 8 frames or fewer."""
_FRAMES = 32
"""Held in memory at a time."""
_STAGE_OF_NOTE = {"times": "ingest", "tracks": "tracks", "hands": "hands"}
_COMMON = (
    "intrinsics: moved by half a pixel, they counted from the corner",
    "times: frame number over the rate given, the sources' own times are not kept",
    "hands: keypoints in the image and scores were not stored",
)


@dataclass(frozen=True)
class ImportReport:
    """What became of every video.

    Attributes:
        imported: video to what was repaired and what could not be.
        left_out: video to the reason why it was not imported at all.
        settings: for a run that goes on from here (`videolift.y2r.adoption.write_imported_run`); None where nothing was imported.
    """

    imported: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    settings: Path | None = None


@dataclass
class _Taken:
    """What one video's files came to, as they are written: artifacts by stage, notes, settings to package with."""

    layout: Layout
    video: str
    packaging: Packaging
    artifacts: dict[str, Published] = field(default_factory=dict)
    notes: list[str] = field(default_factory=lambda: list(_COMMON))
    frames: int = 0
    text: str = ""

    def path(self, stage: str) -> Path:
        return self.layout.artifact(stage, self.video)

    def changed(self, **packaging: Any) -> None:
        self.packaging = replace(self.packaging, **packaging)

    def write_clip(self, images: Iterator[NDArray[np.uint8]], fps: float) -> None:
        writer, digest, size = ClipWriter(self.path("ingest")), hashlib.sha256(), (0, 0)
        for self.frames, rgb in enumerate(images, 1):
            # The source itself is gone: its frames stand for it.
            digest.update(rgb.tobytes())
            size = rgb.shape[1], rgb.shape[0]
            writer.append_frames(rgb[None], [(self.frames - 1) / fps])
        source = {"sha256": digest.hexdigest(), "rotation_deg": 0, "vfr": False, "fps_header": fps, "fps_measured": fps}
        writer.describe(fps=fps, source={**source, "size_px": list(size), "crop_px": [0, 0, *size]})
        self.artifacts["ingest"] = writer.publish()

    def write_depth(self, depths: NDArray[Any], E: NDArray[Any], K: NDArray[Any], scale: _Scale, unit: float) -> None:
        writer = DepthWriter(self.path("depth"))
        for start in range(0, len(depths), _FRAMES):
            part = slice(start, start + _FRAMES)
            z = depths[part] if unit == 1.0 else depths[part].astype(np.float32) / np.float32(unit)
            writer.append_frames(z, E[part], np.isfinite(E[part]).all((1, 2)))
        writer.put(K=K)
        writer.declare(backend=IMPORTED_BY, tier="B", scale=scale, pose="slam", intrinsics="estimated")
        self.artifacts["depth"] = writer.publish()

    def tracks_writer(self) -> TracksWriter:
        writer, packaging = TracksWriter(self.path("tracks")), self.packaging
        writer.describe(
            backend=IMPORTED_BY, window_length=packaging.window_length, stride=packaging.stride, query="unknown", seed=0
        )
        return writer

    def write_tracks(self, found: Mapping[str, Any], E: NDArray[Any], K: NDArray[Any], unit: float) -> None:
        length, stride = self.packaging.window_length, self.packaging.stride
        by_start = {int(window[0]): i for i, window in enumerate(found["windows"])}
        writer, moved, missing = self.tracks_writer(), 0.0, 0
        for start in range(0, self.frames - length + 1, stride):
            # A window that the predecessor left out becomes an empty one: ours are every `stride` frames, without gaps.
            i = by_start.get(start)
            xyz = np.zeros((length, 0, 3)) if i is None else np.asarray(found["tracks"][i])[0][:length] / unit
            poses = np.tile(np.eye(4), (length, 1, 1)) if i is None else _in_units(found["window_poses"][i][:length], unit)
            missing += i is None
            window, shift = repair_window(xyz, poses, E[start : start + length], K=K, start=start)
            moved = max(moved, shift)
            writer.append_window(window)
        self.artifacts["tracks"] = writer.publish()
        self.notes.append(f"tracks: taken out of wrongly composed window poses (points moved by up to {moved:.3g})")
        self.notes.append("tracks: visibility was not stored, every kept point counts as visible")
        self.notes += [f"tracks: {missing} windows were missing and hold no points"] if missing else []

    def write_hands(self, hands: Imported) -> None:
        writer = HandsWriter(self.path("hands"))
        writer.append_frames(**hands.arrays)
        writer.put(betas=hands.betas)
        writer.describe(backend=IMPORTED_BY, wrist_method="depth at the wrist", has_mano=True, has_joints=True)
        self.artifacts["hands"] = writer.publish()
        self.notes += hands.notes

    def package(self) -> PackagedVideo:
        kinds: dict[str, type[Any]] = {"depth": Depth, "tracks": Tracks, "hands": Hands}
        parts = {name: kind(self.path(name)) for name, kind in kinds.items() if name in self.artifacts}
        lineage = {"import": {"backend": {"name": IMPORTED_BY}, "shrink": 1.0, "checks": self.notes}}
        writer = DatasetWriter(self.path("create_h5"))
        try:
            missing = {name: "the predecessor has none" for name in kinds if name not in parts}
            with Clip(self.path("ingest")) as clip:
                sources = Sources(clip, **parts, missing=missing, about={"lineage": lineage, "text": self.text or None})
                package(sources, self.packaging, writer, lambda done, total: None)
            published = writer.publish()
        finally:
            writer.discard()
            for part in parts.values():
                part.close()
        return PackagedVideo(self.video, published.path, published.sha256, published.bytes)

    def for_a_run(self) -> ImportedVideo:
        packaging: dict[str, dict[str, int]] = {"create_h5": {"size": self.packaging.size}}
        if "tracks" in self.artifacts:
            own = {"window_length": self.packaging.window_length, "stride": self.packaging.stride}
            packaging = {"tracks": own, **packaging}
        by_stage: dict[str, list[str]] = {}
        for note in self.notes:
            by_stage.setdefault(_STAGE_OF_NOTE.get(note.partition(":")[0], "depth"), []).append(note)
        return ImportedVideo(self.video, self.artifacts, self.frames, self.text, notes=by_stage, packaging=packaging)


def import_y2r(
    source: Path,
    out: Path,
    *,
    fps: float = 10.0,
    scale: _Scale = "arbitrary",
    packaging: Packaging | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportReport:
    """Writes artifacts (``frames/``, ``depth/``, ``tracks_3d/``, ``hand_poses/``) with receipts, and ``h5_dataset/``, into ``out``.

    Args:
        source: the predecessor's data folder. A video without ``frames/`` is taken out of its packaged file, as far as that goes
            (`videolift.y2r.packaged`).
        out: an output folder; videos of the same name are replaced.
        fps: its ``target_fps``.
        scale: ``metric`` only if its ViPE ran with a metric preset; its own default, ``lyra``, has no metres.
        packaging: window_length and stride are taken from its tracks.
        progress: (done, total) videos.

    Raises:
        ConfigError: no videos there, or torch is missing.
    """
    folders = {path.name for path in source.glob("frames/*") if path.is_dir()}
    videos = sorted(folders | {path.stem for path in source.glob("h5_dataset/*.hdf5")})
    if not videos:
        raise ConfigError(f"{source} has no frames/ and no h5_dataset/: name the predecessor's data folder")
    report, rows, imported, layout = ImportReport(), [], [], Layout(out)
    layout.make_room(len(videos))
    for done, name in enumerate(videos, 1):
        take = _import_video if name in folders else _import_packaged
        taken = _Taken(layout, video_id(f"{name}.mp4"), packaging or Packaging())
        for stage in STAGES_IMPORTED:
            # The receipt goes first: without one, an artifact that outlives a kill here is not taken for the new one.
            layout.receipt(stage, taken.video).unlink(missing_ok=True)
            taken.path(stage).unlink(missing_ok=True)
        try:
            take(source, name, taken, fps=fps, scale=scale)
            rows.append(taken.package())
            imported.append(taken.for_a_run())
            write_receipts(layout, imported[-1])
            report.imported[taken.video] = tuple(taken.notes)
        # A bad video is named and left out; the others are imported all the same.
        except (CorruptFile, FileNotFoundError, KeyError, ValueError) as error:
            report.left_out[taken.video] = f"{type(error).__name__}: {error}".replace(str(source), "").strip()
        progress(done, len(videos))
    publish_dataset(layout.dataset, rows, left_out=report.left_out)
    return replace(report, settings=write_imported_run(out, imported) if imported else None)


def load_pt(path: Path) -> dict[str, Any]:
    """A ``.pt`` file of tensors, arrays and plain values; anything else in it is refused.

    Raises:
        ConfigError: torch is missing.
        CorruptFile: it holds something else.
    """
    try:
        import torch
    except ImportError as error:
        raise ConfigError("reading the predecessor's .pt files needs torch: pip install 'videolift[train]'") from error
    names = ["_reconstruct", "scalar"]
    safe: list[Any] = [np.ndarray, np.dtype, *(getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith("DType"))]
    core = importlib.import_module("numpy._core.multiarray")  # two functions that pickled arrays and numpy scalars need
    safe += [getattr(core, name) for name in names] + [(getattr(core, n), f"numpy.core.multiarray.{n}") for n in names]
    try:
        with torch.serialization.safe_globals(safe):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, TypeError) as error:
        raise CorruptFile(f"{path.name} cannot be read safely: {str(error).splitlines()[0]}") from error
    except pickle.UnpicklingError as error:
        raise CorruptFile(f"{path.name} holds what is neither tensors nor arrays: {str(error).splitlines()[0]}") from error
    return {name: _plain(value) for name, value in loaded.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.numpy() if hasattr(value, "numpy") else value


def _import_video(source: Path, name: str, taken: _Taken, fps: float, scale: _Scale) -> None:
    taken.write_clip(_images(source / "frames" / name), fps)
    with np.load(source / "vipe" / f"{name}.npz", allow_pickle=False) as vipe:
        E, K = vipe["extrinsics"].astype(np.float64), vipe["intrinsics"].astype(np.float64)
        K = (K[0] if K.ndim == 3 else K).copy()
        K[:2, 2] -= 0.5  # its pixels begin at integers, ours are centred on them
        depths = vipe["depths"]
    if not len(depths) == len(E) == taken.frames:
        raise ValueError(f"{taken.frames} frames, but {len(depths)} depth maps and {len(E)} poses")
    unit = _unit(depths, scale)
    E = _in_units(E, unit)
    taken.write_depth(depths, E, K, scale=scale, unit=unit)
    tracks = source / "tracks_3d" / f"{name}.pt"
    if tracks.exists():
        found = load_pt(tracks)
        taken.changed(window_length=int(found["window_length"]), stride=int(found["stride"]))
        if taken.packaging.window_length >= MIN_TRACKED:
            taken.write_tracks(found, E, K, unit)
        else:
            why = f"windows of {taken.packaging.window_length} frames came out motionless (TAPIP3D needs at least {MIN_TRACKED})"
            taken.notes.append(f"tracks: left out, {why}")
    hands = source / "hand_poses" / f"{name}.pt"
    if hands.exists():
        taken.write_hands(repair_hands(load_pt(hands), K, metric=scale == "metric"))


def _import_packaged(source: Path, name: str, taken: _Taken, fps: float, scale: _Scale) -> None:
    """As `_import_video`, from the packaged file alone."""
    found = unpack(source / "h5_dataset" / f"{name}.hdf5", metric=scale == "metric")
    taken.changed(size=found.rgb.shape[1], window_length=found.window_length, stride=found.stride)
    taken.text = found.text
    taken.notes += found.notes
    taken.write_clip(iter(found.rgb), fps)
    unit = _unit(found.depth, scale)
    E = np.full((len(found.rgb), 4, 4), np.nan) if found.T_camera_world is None else _in_units(found.T_camera_world, unit)
    taken.write_depth(found.depth, E, found.K, scale=scale, unit=unit)
    if found.windows is not None:
        writer = taken.tracks_writer()
        nothing = np.zeros((found.window_length, 0, 3))
        for start in range(0, len(found.rgb) - found.window_length + 1, found.stride):
            E_window = E[start : start + found.window_length]
            window = found.windows.get(start) or repair_window(nothing, E_window, E_window, K=found.K, start=start)[0]
            writer.append_window(replace(window, xyz_cam0=(window.xyz_cam0 / unit).astype(np.float32)))
        taken.artifacts["tracks"] = writer.publish()
    if found.hands is not None:
        taken.write_hands(found.hands)


def _images(folder: Path) -> Iterator[NDArray[np.uint8]]:
    files = sorted([*folder.glob("*.png"), *folder.glob("*.jpg")])
    if not files:
        raise FileNotFoundError(f"no images in frames/{folder.name}")
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise CorruptFile(f"frames/{folder.name}/{file.name} is not an image")
        yield np.ascontiguousarray(image[..., ::-1], np.uint8)


def _unit(depths: NDArray[Any], scale: _Scale) -> float:
    """What depth, poses and tracks are divided by: where lengths are not in metres, the median valid depth of the clip."""
    # Some frames stand for all: a median over every pixel of a video would take more memory than the video.
    some = depths[:: max(1, len(depths) // _FRAMES)].astype(np.float32)
    known = some[np.isfinite(some) & (some > 0)]
    return float(np.median(known)) if scale == "arbitrary" and len(known) else 1.0


def _in_units(T: NDArray[Any], unit: float) -> NDArray[np.float64]:
    out = np.array(T, np.float64)
    out[..., :3, 3] /= unit
    return out
