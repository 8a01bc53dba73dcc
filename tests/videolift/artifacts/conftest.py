"""One small artifact of each kind, and what it holds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from videolift.artifacts import (
    Artifact,
    ArtifactWriter,
    Clip,
    ClipWriter,
    Depth,
    DepthWriter,
    Hands,
    HandsWriter,
    Tracks,
    TracksWriter,
)
from videolift.artifacts.tracks import Window

FRAMES = 7


@dataclass(frozen=True)
class Kind:
    """How to fill a writer of this artifact, a given number of frames at a time."""

    writer: type[ArtifactWriter]
    reader: type[Artifact]
    fill: Callable[[ArtifactWriter, int, int], None]
    """``fill(writer, start, stop)`` appends those frames (windows)."""
    head: Callable[[ArtifactWriter], None]

    def write(self, path: Path, frames: int = FRAMES) -> Path:
        writer = self.writer(path)
        self.head(writer)
        self.fill(writer, 0, frames)
        return writer.publish().path


def _numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def _fill_clip(out: ArtifactWriter, start: int, stop: int) -> None:
    for k in range(start, stop):
        out.append_frames((255 * _numbers(k, 1, 12, 16, 3)).astype(np.uint8), [k / 10])
        out.append(shot=[k // 3])


def _fill_depth(out: ArtifactWriter, start: int, stop: int) -> None:
    for k in range(start, stop):
        out.append_frames(1 + _numbers(k, 1, 12, 16), np.eye(4)[None], [k != 2])


def window(k: int, points: int | None = None) -> Window:
    n = 3 + k if points is None else points
    xyz, uv = _numbers(k, 5, n, 3), _numbers(k + 100, 5, n, 2)
    return Window(k, 5, xyz, uv, uv[..., 0] > 0.5, uv[..., 0] > 0.1, np.full(n, k, np.uint8))


def _fill_tracks(out: ArtifactWriter, start: int, stop: int) -> None:
    for k in range(start, stop):
        out.append_window(window(k))


def _fill_hands(out: ArtifactWriter, start: int, stop: int) -> None:
    for k in range(start, stop):
        out.append_frames(
            valid=[[True, k != 3]],
            interpolated=[[False, k == 4]],
            score=_numbers(k, 1, 2),
            keypoints_px=_numbers(k, 1, 2, 21, 2),
            T_camera_wrist=np.broadcast_to(np.eye(4), (1, 2, 4, 4)),
            joints_camera=_numbers(k, 1, 2, 21, 3),
            mano_pose=np.broadcast_to(np.eye(3), (1, 2, 15, 3, 3)),
            method=[[1, 2]],
            side_known=[[True, k != 2]],
        )


def _head_depth(out: ArtifactWriter) -> None:
    out.put(K=np.eye(3))
    out.declare(backend="rgbd", tier="A", scale="metric", pose="given", intrinsics="given", reproj_px=0.25)


KINDS = {
    "clip": Kind(ClipWriter, Clip, _fill_clip, lambda out: out.describe(fps=10.0, source={"sha256": "ab", "size_px": [640, 480]})),
    "depth": Kind(DepthWriter, Depth, _fill_depth, _head_depth),
    "tracks": Kind(TracksWriter, Tracks, _fill_tracks, lambda out: out.describe(window_length=5, stride=1, query="grid", seed=0)),
    "hands": Kind(HandsWriter, Hands, _fill_hands, lambda out: (out.put(betas=np.zeros((2, 10))), out.describe(has_mano=True))),
}


@pytest.fixture(params=KINDS)
def kind(request) -> Kind:
    return KINDS[request.param]


def content(reader: type[Artifact], path: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """Everything an artifact says, byte for byte."""
    with reader(path) as artifact:
        arrays = {field.name: artifact.read(field.name) for field in reader.FIELDS}
        described = {name: (array.shape, str(array.dtype), array.tobytes()) for name, array in arrays.items()}
        return described, {name: repr(value) for name, value in artifact.attrs.items()}
