"""MapAnything: frames per second through our worker, process border included, against upstream's call in one process.

Upstream's own configuration at full size, random weights. ``python -m benchmarks.gpu.mapanything --checkouts FOLDER`` on a card.
"""

from __future__ import annotations

import tempfile
import time

import numpy as np

from benchmarks.gpu.measure import BARE, ROOT, arguments, beside_upstream, child, paths

WORKER = ROOT / "stages" / "depth" / "mapanything_worker.py"


def main() -> None:
    parser = arguments(__doc__ or "", "mapanything")
    parser.add_argument("--frames", type=int, nargs="+", default=[60, 100], help="seen together")
    parser.add_argument("--small", action="store_true", help="ViT-S and few layers, for a CPU")
    options = parser.parse_args()
    folders, dinov2 = paths(options, "map-anything", "UniCeption"), str(options.checkouts / "dinov2")
    height, width, side_px = (84, 112, 112) if options.small else (384, 512, 518)
    with (
        tempfile.TemporaryDirectory() as folder,
        child(options, "mapanything", BARE) as bare,
        child(options, "mapanything", WORKER) as ours,
    ):
        shared = {"paths": folders, "device": options.device, "dinov2": dinov2}
        print(bare.load({"model": "mapanything", "file": folder, "small": options.small, **shared}))
        ours.load({"weights": folder, **shared})
        for frames in options.frames:
            rgb = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)

            def alone(rgb: np.ndarray = rgb) -> float:
                meta, _ = bare.call({"run": "mapanything", "side_px": side_px}, {"rgb": rgb})
                return float(meta["seconds"])

            def piped(rgb: np.ndarray = rgb) -> float:
                began = time.perf_counter()
                ours.call({"K": None, "side_px": side_px}, {"rgb": rgb})
                return time.perf_counter() - began

            beside_upstream(frames, (bare, ours), (alone, piped), options.repeats)


if __name__ == "__main__":
    main()
