"""What ingest costs: size and speed of stored frames against PNG.

    python benchmarks/ingest.py                     # stored frames of the rendered sample; about half a minute
    python benchmarks/ingest.py VIDEO ...           # of your own videos

Times are CPU milliseconds per frame: medians of 7 repeats in random order within one run; a ratio's interval is the 90 % bootstrap
interval over the repeats. PNG is OpenCV's default level, decoded from memory; the clip is read through HDF5, checksums included.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.timing import cpu_ms, parser, ratio
from stages.backend import Inputs
from stages.ingest import IngestSettings
from stages.ingest.pyav import BACKEND
from stages.sample import CLIPS, render
from videolift.artifacts import Clip, ClipWriter
from videolift.h264 import H264Writer
from videolift.inputs.video import Video
from videolift.pool import cpu_device

FRAMES = 30


def ingest(path: Path, final: Path, settings: IngestSettings | None = None) -> ClipWriter:
    """Ingests one video, by default with the default settings; the writer of its clip, not published yet."""
    backend = BACKEND(settings or IngestSettings(), root=Path())
    backend.load(cpu_device(2, threads=2))
    writer = ClipWriter(final)
    backend.process(Inputs(Video(path.stem, str(path))), writer, shrink=1, progress=lambda done, total: None)
    return writer


def storage(path: Path, folder: Path) -> None:
    """Prints size and reading time of one video's clip against PNG."""
    ingest(path, folder / "clip.h5").publish()
    with Clip(folder / "clip.h5") as clip:
        rows = np.random.default_rng(0).permutation(len(clip))[:FRAMES]
        frames = {int(row): clip[int(row)] for row in rows}
        pngs = {row: cv2.imencode(".png", frame[..., ::-1])[1] for row, frame in frames.items()}
        raw = len(clip) * clip.height * clip.width * 3
        stored = clip.array("rgb_residual").id.get_storage_size()
        times = cpu_ms(
            {
                "clip": lambda: [clip[row] for row in frames],
                "png": lambda: [cv2.imdecode(png, cv2.IMREAD_COLOR) for png in pngs.values()],
            },
            per=len(frames),
        )
    png_share = sum(map(len, pngs.values())) / sum(frame.nbytes for frame in frames.values())
    low, value, high = ratio(times["png"], times["clip"])
    print(f"{path.name}: {len(rows)} random frames of {frame_size(frames)}")
    print(f"  size of raw     clip {stored / raw:.3f}   png {png_share:.3f}")
    print(f"  read ms/frame   clip {np.median(times['clip']):.2f}    png {np.median(times['png']):.2f}")
    print(f"  png / clip      {value:.2f} [{low:.2f}, {high:.2f}]")


def frame_size(frames: dict[int, np.ndarray]) -> str:
    height, width = next(iter(frames.values())).shape[:2]
    return f"{width}x{height} px"


def write_sample(path: Path, rgb: np.ndarray) -> None:
    with H264Writer(path, (rgb.shape[2], rgb.shape[1]), 10, crf=12) as file:
        for frame in rgb:
            file.write(frame)


def main() -> None:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("videos", nargs="*", type=Path)
    options = command.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = options.videos
        if not videos:
            videos = [folder / f"{clip}.mp4" for clip in CLIPS]
            for clip, path in zip(CLIPS, videos, strict=True):
                write_sample(path, render(clip, frames=30).rgb)
        for path in videos:
            storage(path, folder)


if __name__ == "__main__":
    main()
