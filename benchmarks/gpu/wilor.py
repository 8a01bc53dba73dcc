"""WiLoR: hands per second through our worker, process border included, against a bare loop in one process (at least 90 %).

Upstream's full size (641 M parameters), random weights, a stand-in for MANO. ``python -m benchmarks.gpu.wilor --checkouts FOLDER``.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.gpu.measure import BARE, ROOT, arguments, beside_upstream, child, paths

WORKER = ROOT / "stages" / "hands" / "wilor_worker.py"
CALL_FRAMES = 16


def main() -> None:
    parser = arguments(__doc__ or "", "wilor")
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--small", action="store_true", help="one block instead of 32, for a CPU")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, child(options, "wilor", BARE) as bare, child(options, "wilor", WORKER) as ours:
        folders = paths(options, "WiLoR")
        if options.small:
            folders[0] = str(one_block(options.checkouts / "WiLoR", Path(folder)))
        files = {"file": str(Path(folder) / "random.ckpt"), "mano": str(Path(folder) / "MANO_RIGHT.pkl")}
        print(bare.load({"model": "wilor", "paths": folders, "device": options.device, **files}))
        ours.load({"paths": folders, "device": options.device, "weights": files["file"], "detector": None, "mano": files["mano"]})
        for frames in options.frames:
            inputs = two_hands(frames)

            def alone(inputs: dict[str, np.ndarray] = inputs) -> float:
                meta, _ = bare.call({"run": "wilor", "batch": options.batch}, inputs)
                return float(meta["seconds"])

            def piped(inputs: dict[str, np.ndarray] = inputs) -> float:
                began = time.perf_counter()
                for start in range(0, len(inputs["rgb"]), CALL_FRAMES):
                    rows = (inputs["frame"] >= start) & (inputs["frame"] < start + CALL_FRAMES)
                    part = {name: inputs[name][rows] for name in ("box", "right")} | {"frame": inputs["frame"][rows] - start}
                    meta = {"do": "pose", "rescale": 2.0, "batch_crops": options.batch}
                    ours.call(meta, {"rgb": inputs["rgb"][start : start + CALL_FRAMES], **part})
                return time.perf_counter() - began

            beside_upstream(frames, (bare, ours), (alone, piped), options.repeats, per_frame=2)


def one_block(checkout: Path, folder: Path) -> Path:
    """A copy of upstream's checkout whose network has one block."""
    copy = folder / "WiLoR"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git", "demo_img", "assets"))
    network = copy / "wilor" / "models" / "backbones" / "vit.py"
    network.write_text(network.read_text().replace("depth=32", "depth=1"))
    return copy


def two_hands(frames: int) -> dict[str, np.ndarray]:
    """Noise with a left and a right box in every frame."""
    rgb = np.random.default_rng(0).integers(0, 256, (frames, 384, 512, 3), np.uint8)
    box = np.tile(np.array([[60, 120, 180, 260], [300, 140, 430, 280]], np.float32), (frames, 1))
    return {
        "rgb": rgb,
        "frame": np.repeat(np.arange(frames, dtype=np.int32), 2),
        "box": box,
        "right": np.tile(np.array([0, 1], np.float32), frames),
    }


if __name__ == "__main__":
    main()
