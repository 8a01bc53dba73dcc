"""Everything known of one video, frame by frame, for drawing and viewing: image, depth, camera, tracks, hands, scores.

`open_scene` takes the packaged file, which is what is trained on, and where there is none the stages' artifacts, of which only the
clip must be there. Both look alike to the code that draws.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import SIDES, Artifact, Clip, Depth, Hands, Tracks
from videolift.artifacts.tracks import Window
from videolift.dataset.file import PackagedFile
from videolift.dataset.quality import SCORES
from videolift.errors import ConfigError
from videolift.geometry import Float, invert_pose, project, transform, unproject
from videolift.paths import Layout

TIERS = {"A": "A (sensor)", "B": "B (learned)", "C": "C (structure from motion)", "D": "D (prior, not measured)"}
UNITS = {"metric": "m", "hand": "m by hand size", "assumed": "m assumed", "arbitrary": "arbitrary units"}
"""How lengths are labelled, by the scale of the depth."""
_Kind = TypeVar("_Kind", bound=Artifact)


@dataclass(frozen=True)
class SceneHands:
    """Hands of all frames (T), sides left and right; NaN where not known. Pixels are the scene's.

    Attributes:
        valid, interpolated: (T, 2).
        keypoints_px: (T, 2, 21, 2).
        T_camera_wrist: (T, 2, 4, 4).
        joints_camera: (T, 2, 21, 3).
        method: side to how its wrist was measured, empty where it never was.
    """

    valid: NDArray[np.bool_]
    interpolated: NDArray[np.bool_]
    keypoints_px: NDArray[np.float32]
    T_camera_wrist: NDArray[np.float32]
    joints_camera: NDArray[np.float32]
    method: Mapping[str, str]


@dataclass
class VideoScene(ABC):
    """One video; a context manager, leaving it closes the files.

    Attributes:
        video: its id.
        size_px: (W, H) of images.
        pts_seconds: (T) times in the source.
        fps: frames per second.
        K: (3, 3), None without depth.
        T_camera_world: (T, 4, 4), NaN where the pose is not known; None without depth.
        worth: tier, scale, pose and intrinsics of the depth; empty without.
        backends: stage to backend.
        hands: None without.
        window_start: (W) first frames of the windows of tracks; empty without.
        window_length: frames per window.
        quality: score to its values (T) per frame, NaN where not measured.
        shot: (T) number of each frame's shot, -1 within a fade or dissolve.
    """

    video: str
    size_px: tuple[int, int]
    pts_seconds: NDArray[np.float64]
    fps: float
    K: Float | None
    T_camera_world: Float | None
    worth: Mapping[str, str]
    backends: Mapping[str, str]
    hands: SceneHands | None
    window_start: NDArray[np.int64]
    window_length: int
    quality: Mapping[str, NDArray[np.float32]]
    shot: NDArray[np.int32]
    _stack: ExitStack = field(repr=False)

    def __len__(self) -> int:
        return len(self.pts_seconds)

    @property
    def has_depth(self) -> bool:
        """True where `depth` gives something."""
        return self.K is not None

    @property
    def unit(self) -> str:
        """Of lengths, for people; empty without depth."""
        return UNITS[self.worth["scale"]] if self.worth else ""

    @abstractmethod
    def rgb(self, frame: int) -> NDArray[np.uint8]:
        """Image (H, W, 3)."""

    @abstractmethod
    def depth(self, frame: int) -> NDArray[np.float32]:
        """z (H, W), 0 invalid; only where `has_depth`."""

    @abstractmethod
    def window(self, number: int) -> Window:
        """The tracks of one window."""

    def window_of(self, frame: int) -> int | None:
        """Number of the window with the longest past that still holds ``frame``; None where no window does."""
        # Windows are in order, so the first that holds the frame began longest ago.
        inside = np.flatnonzero((self.window_start <= frame) & (frame < self.window_start + self.window_length))
        return int(inside[0]) if len(inside) else None

    def close(self) -> None:
        """Closes the files."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_scene(output: Path, video: str) -> VideoScene:
    """Opens what an output folder holds of ``video``.

    Raises:
        ConfigError: neither packaged file nor clip is there, or the name is not an id.
        CorruptFile: a file is there and fails its checks.
    """
    layout = Layout(output)
    if layout.artifact("create_h5", video).exists():
        return PackagedScene.open(layout.artifact("create_h5", video))
    return ArtifactScene.open(layout, video)


@dataclass
class PackagedScene(VideoScene):
    """A scene from a packaged file: only the points that are packaged."""

    file: PackagedFile = field(kw_only=True)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a packaged file; raises CorruptFile."""
        with ExitStack() as stack:
            file = stack.enter_context(PackagedFile(path))
            has_depth = file.has("depth")
            lineage: Mapping[str, Mapping[str, Mapping[str, str]]] = file.attribute("lineage", {})
            names = ("tier", "scale", "pose", "intrinsics")
            hands: SceneHands | None = None
            if file.has("hands/valid"):
                of_hands = ("valid", "interpolated", "keypoints_px", "T_camera_wrist", "joints_camera")
                arrays = {name: file.array(f"hands/{name}") for name in of_hands}
                hands = SceneHands(**arrays, method=_methods(file.attribute("hands", {}).get("wrist_method")))
            return cls(
                video=path.stem,
                size_px=file.size_px,
                pts_seconds=file.array("timestamps"),
                fps=float(file.attribute("fps")),
                K=file.array("camera/intrinsics").astype(np.float64) if has_depth else None,
                T_camera_world=file.array("camera/T_camera_world").astype(np.float64) if has_depth else None,
                worth={name: str(file.attribute(name)) for name in names} if has_depth else {},
                backends={stage: str(made["backend"]["name"]) for stage, made in lineage.items() if stage != "ingest"},
                hands=hands,
                window_start=file.window_start if file.has("tracks/offsets") else np.empty(0, np.int64),
                window_length=file.window_length,
                quality={name: file.array(f"quality/{name}") for name in SCORES if file.has(f"quality/{name}")},
                shot=file.shot,
                file=file,
                _stack=stack.pop_all(),  # from here on the scene closes the files; until here an error does
            )

    def rgb(self, frame: int) -> NDArray[np.uint8]:
        """Image (S, S, 3)."""
        return np.ascontiguousarray(self.file.rgb(slice(frame, frame + 1))[0].transpose(1, 2, 0))

    def depth(self, frame: int) -> NDArray[np.float32]:
        """z (S, S), 0 invalid."""
        return np.asarray(self.file.depth(slice(frame, frame + 1))[0])

    def window(self, number: int) -> Window:
        """The tracks of one window, from (u, v, d) in its first image."""
        assert self.K is not None
        assert self.T_camera_world is not None
        start = int(self.window_start[number])
        query, displacement, visible = self.file.tracks(number)
        uvd = (query + displacement).astype(np.float64)
        xyz_cam0 = unproject(uvd[..., :2] * self.size_px - 0.5, uvd[..., 2], self.K)
        poses = self.T_camera_world[start : start + len(uvd)]
        T_camk_cam0 = poses @ invert_pose(poses[0])
        uv_px = np.stack([project(transform(T, xyz), self.K) for T, xyz in zip(T_camk_cam0, xyz_cam0, strict=True)])
        label = np.zeros(len(query), np.uint8)
        return Window(
            start,
            frames_tracked=len(uvd),
            xyz_cam0=xyz_cam0.astype(np.float32),
            uv_px=uv_px.astype(np.float32),
            visible=visible,
            valid3d=np.ones_like(visible),
            label=label,
        )


@dataclass
class ArtifactScene(VideoScene):
    """A scene from the stages' artifacts, at the clip's size."""

    clip: Clip = field(kw_only=True)
    depth_artifact: Depth | None = field(kw_only=True)
    tracks: Tracks | None = field(kw_only=True)

    @classmethod
    def open(cls, layout: Layout, video: str) -> Self:
        """Opens the artifacts of ``video``; raises as `open_scene`."""
        path = layout.artifact("ingest", video)
        if not path.exists():
            hint = "`videolift status` says what became of it; where keep lets frames go, name ingest there"
            raise ConfigError(f"{video}: neither a packaged file nor frames at {path}. {hint}")

        with ExitStack() as stack:

            def opened(stage: str, kind: type[_Kind]) -> _Kind | None:
                there = layout.artifact(stage, video)
                if not there.exists():
                    return None
                artifact = kind(there)
                stack.callback(artifact.close)
                return artifact

            clip = stack.enter_context(Clip(path))
            depth, tracks, hands = opened("depth", Depth), opened("tracks", Tracks), opened("hands", Hands)
            hand_arrays: SceneHands | None = None
            if hands is not None:
                arrays = (hands.valid, hands.interpolated, hands.keypoints_px, hands.T_camera_wrist, hands.joints_camera)
                hand_arrays = SceneHands(*arrays, method=_methods(hands.attrs.get("wrist_method")))
            parts: dict[str, Artifact | None] = {"depth": depth, "tracks": tracks, "hands": hands}
            names = ("tier", "scale", "pose", "intrinsics")
            return cls(
                video=video,
                size_px=(clip.width, clip.height),
                pts_seconds=clip.pts_seconds,
                fps=clip.fps,
                K=None if depth is None else depth.K.astype(np.float64),
                T_camera_world=None if depth is None else depth.T_camera_world.astype(np.float64),
                worth={} if depth is None else {name: str(depth.attrs[name]) for name in names},
                backends={stage: str(part.attrs["backend"]) for stage, part in parts.items() if part is not None},
                hands=hand_arrays,
                window_start=np.empty(0, np.int64) if tracks is None else tracks.window_start,
                window_length=1 if tracks is None else int(tracks.attrs["window_length"]),
                # Scores are measured when a file is packaged.
                quality={},
                shot=clip.shot,
                clip=clip,
                depth_artifact=depth,
                tracks=tracks,
                _stack=stack.pop_all(),  # from here on the scene closes the files; until here an error does
            )

    def rgb(self, frame: int) -> NDArray[np.uint8]:
        """Image (H, W, 3)."""
        return np.ascontiguousarray(self.clip[frame])

    def depth(self, frame: int) -> NDArray[np.float32]:
        """z (H, W), 0 invalid."""
        assert self.depth_artifact is not None
        return self.depth_artifact[frame].astype(np.float32)

    def window(self, number: int) -> Window:
        """The tracks of one window, points without depth included."""
        assert self.tracks is not None
        return self.tracks[number]


def _methods(given: Mapping[str, str | None] | str | None) -> dict[str, str]:
    """Side to method; a backend that has one for both sides gives it as text."""
    if isinstance(given, Mapping):
        return {side: given.get(side) or "" for side in SIDES}
    return dict.fromkeys(SIDES, given or "")
