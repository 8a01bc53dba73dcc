"""SAM 2: frames per second through our worker in the backend's chunks, memory there and back, against one call of upstream's.

Upstream's ``base-plus``, random weights, two objects. ``python -m benchmarks.gpu.sam2 --checkouts FOLDER`` on a card.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.measure import BARE, ROOT, arguments, beside_upstream, child, paths

WORKER = ROOT / "stages" / "masks" / "sam2_worker.py"
CALL_CHUNK_FRAMES = 32
PROMPTS: list[dict[str, Any]] = [
    {"id": 1, "kind": "click", "uv_px": [[60.0, 50.0]]},
    {"id": 2, "kind": "box", "uv_px": [[20.0, 20.0], [90.0, 80.0]]},
]
FULL, SMALL = "configs/sam2.1/sam2.1_hiera_b+.yaml", "configs/sam2.1/sam2.1_hiera_t.yaml"
SMALLER = ["model.image_size=256", "model.memory_attention.num_layers=2"]


def main() -> None:
    parser = arguments(__doc__ or "", "sam2")
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--small", action="store_true", help="the smallest network at a quarter of its image, for a CPU")
    options = parser.parse_args()
    height, width = (96, 128) if options.small else (384, 512)
    shared = {"paths": paths(options, "sam2"), "device": options.device, "config": SMALL if options.small else FULL}
    shared["overrides"] = SMALLER if options.small else []
    with tempfile.TemporaryDirectory() as folder, child(options, "sam2", BARE) as bare, child(options, "sam2", WORKER) as ours:
        weights = str(Path(folder) / "random.pt")
        print(bare.load({"model": "sam2", "file": weights, **shared}))
        ours.load({"weights": weights, **shared})
        for frames in options.frames:
            rgb = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)

            def alone(rgb: np.ndarray = rgb) -> float:
                meta, _ = bare.call({"run": "sam2", "prompts": PROMPTS}, {"rgb": rgb})
                return float(meta["seconds"])

            def piped(rgb: np.ndarray = rgb) -> float:
                memory: dict[str, np.ndarray] = {}
                began = time.perf_counter()
                for first in range(0, len(rgb), CALL_CHUNK_FRAMES):
                    meta = {"first": first, "total": len(rgb), "ids": [1, 2], "prompts": PROMPTS}
                    _, memory = ours.call(meta, {"rgb": rgb[first : first + CALL_CHUNK_FRAMES], **memory})
                    memory.pop("instance")
                return time.perf_counter() - began

            beside_upstream(frames, (bare, ours), (alone, piped), options.repeats)


if __name__ == "__main__":
    main()
