"""Clips and depth files for the tests of the depth backends."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from stages.backend import Inputs
from stages.sample import render
from stages.settings import stage_block
from videolift.artifacts import Clip, ClipWriter, Depth, DepthWriter
from videolift.inputs.catalog import Video
from videolift.inputs.framing import Framing

FPS = 10.0


def as_is(size_px):
    """The framing of a clip that is its source."""
    return Framing(size_px, size_px, (0, 0), size_px)


@pytest.fixture
def make_clip(tmp_path):
    """Publishes frames (T, H, W, 3) as an open clip."""
    opened = []

    def make(rgb, *, framing=None, pts_seconds=None, **attrs):
        path = tmp_path / f"clip-{len(opened)}.h5"
        times = np.arange(len(rgb)) / FPS if pts_seconds is None else pts_seconds
        writer = ClipWriter(path)
        writer.append_frames(rgb, times)
        writer.describe(fps=FPS, framing=(framing or as_is((rgb.shape[2], rgb.shape[1]))).to_attrs(), **attrs)
        writer.publish()
        opened.append(Clip(path))
        return opened[-1]

    yield make
    for clip in opened:
        clip.close()


@pytest.fixture
def run(tmp_path):
    """Runs a depth backend on a clip; gives the published depth and the backend's quality."""
    opened = []

    def process(backend, clip, *, depth=None, source=Path("video.mp4"), segments=None, progress=None, **settings):
        writer = DepthWriter(tmp_path / f"depth-{len(opened)}.h5", segments=segments)
        worker = backend(stage_block("depth", seed=0, **settings), root=Path())
        inputs = Inputs(Video("clip", str(source), depth=depth), clip=clip)
        try:
            quality = worker.process(inputs, writer, shrink=1.0, progress=progress or (lambda done, total: None))
            writer.publish()
        finally:
            writer.discard()
        opened.append(Depth(writer.final))
        return opened[-1], quality

    yield process
    for depth in opened:
        depth.close()


@pytest.fixture
def save_depth(tmp_path):
    """Writes a depth file of a truth, with keys replaced, or removed where None."""

    def save(truth, **changes):
        frames = len(truth.rgb)
        arrays = {
            "depths": truth.depth_m,
            "intrinsics": np.repeat(truth.K[None], frames, axis=0),
            "extrinsics": truth.T_camera_world,
        }
        arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
        path = tmp_path / f"sensor-{len(list(tmp_path.glob('sensor-*')))}.npz"
        np.savez(path, **arrays)
        return path

    return save


@pytest.fixture(scope="session")
def tripod():
    """24 frames at 256 x 192 from a camera that stands still."""
    return render("tripod_rgbd", frames=24, width=256, height=192)


@pytest.fixture
def write_video(tmp_path):
    """A grey H.264 video of a number of frames."""

    def write(frames, fps):
        path = tmp_path / "video.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = 192, 144, "yuv420p"
            for k in range(frames):
                image = np.full((144, 192, 3), k, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        return path

    return write
