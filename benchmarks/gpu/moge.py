"""MoGe v2: frames per second through our worker, process border included, against a bare loop in one process (at least 90 %).

ViT-L as upstream's configs/train/v2.json, random weights. ``python -m benchmarks.gpu.moge --checkouts FOLDER`` on a card.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.gpu.measure import BARE, ROOT, arguments, beside_upstream, child, paths

WORKER = ROOT / "stages" / "depth" / "moge_worker.py"


def main() -> None:
    parser = arguments(__doc__ or "", "moge")
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--small", action="store_true", help="ViT-S and few tokens, for a CPU")
    options = parser.parse_args()
    folders = paths(options, "MoGe", "utils3d")
    with tempfile.TemporaryDirectory() as folder, child(options, "moge", BARE) as bare, child(options, "moge", WORKER) as ours:
        file, config = str(Path(folder) / "random.pt"), str(options.checkouts / "MoGe" / "configs" / "train" / "v2.json")
        print(
            bare.load(
                {
                    "model": "moge",
                    "paths": folders,
                    "device": options.device,
                    "file": file,
                    "config": config,
                    "small": options.small,
                }
            )
        )
        ours.load({"paths": folders, "weights": file, "device": options.device})
        for frames in options.frames:
            rgb = np.random.default_rng(0).integers(0, 256, (frames, *((96, 128) if options.small else (384, 512)), 3), np.uint8)

            def alone(rgb: np.ndarray = rgb) -> float:
                meta, _ = bare.call({"run": "moge", "batch": options.batch, "level": 0 if options.small else 9}, {"rgb": rgb})
                return float(meta["seconds"])

            def piped(rgb: np.ndarray = rgb) -> float:
                began = time.perf_counter()
                for start in range(0, len(rgb), 32):
                    meta = {"hfov_deg": 60.0, "resolution_level": 0 if options.small else 9, "batch_frames": options.batch}
                    ours.call(meta, {"rgb": rgb[start : start + 32]})
                return time.perf_counter() - began

            beside_upstream(frames, (bare, ours), (alone, piped), options.repeats)


if __name__ == "__main__":
    main()
