"""TAPIP3D: windows per second with every frame encoded once, against upstream's inference window by window on the same inputs.

Also: how far the tracks differ (fp32, without TF32), peak memory, and what 10 real frames padded to 16 change against 16 real ones.
``python -m benchmarks.gpu.tapip3d --checkouts FOLDER`` on a card; ``--device cpu --size 192 256 --points 256 --windows 4
--iterations 1 --repeats 2`` gives the shares of the work without one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.gpu.measure import BARE, ROOT, arguments, child, paths, seconds_of
from benchmarks.timing import in_turns, times_faster
from videolift.geometry import T_camk_cam0
from videolift.isolation import Isolated

WORKER = ROOT / "stages" / "tracks" / "tapip3d_worker.py"
BATCH = 16
"""Frames sent at a time, as the backend does; it is not imported, because it brings OpenCV and HDF5."""


def scene(frames: int, size: tuple[int, int], points: int) -> dict[str, np.ndarray]:
    """A noisy plane with a step, seen by a camera that moves sideways."""
    height, width = size
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (frames, height // 8, width // 8, 3)).astype(np.uint8)
    depth = np.tile(
        0.6 + 0.4 * np.linspace(1, 0, height, dtype=np.float32)[:, None] + np.zeros((1, width), np.float32), (frames, 1, 1)
    )
    depth[:, height // 3 : height // 2, width // 3 : width // 2] -= 0.1
    E = np.tile(np.eye(4), (frames, 1, 1))
    E[:, 0, 3] = 0.004 * np.arange(frames)
    K = np.array([[width * 0.85, 0, (width - 1) / 2], [0, width * 0.85, (height - 1) / 2], [0, 0, 1]])
    uv = np.stack([random.integers(0, width, points), random.integers(0, height, points)], 1).astype(float)
    return {"rgb": coarse.repeat(8, 1).repeat(8, 2), "depth": depth, "T_camera_world": E, "K": K, "uv_px": uv}


def main() -> None:
    parser = arguments(__doc__ or "", "tapip3d")
    parser.add_argument("--size", type=int, nargs=2, default=(384, 512))
    parser.add_argument("--points", type=int, default=3000)
    parser.add_argument("--windows", type=int, nargs="+", default=[32, 128], help="ascending: a peak holds from then on")
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        child(options, "tapip3d", BARE) as bare,
        child(options, "tapip3d", WORKER) as ours,
    ):
        common = {"paths": paths(options, "TAPIP3D"), "device": options.device}
        file = str(Path(folder) / "random.pth")
        about = bare.load({"model": "tapip3d", "size": list(options.size), "file": file, "knn_file": str(WORKER), **common})
        print(about, ours.load({"weights": file, "precision": options.precision, **common}))
        for windows in options.windows:
            _measure(bare, ours, windows, options)


def _measure(bare: Isolated, ours: Isolated, windows: int, options: argparse.Namespace) -> None:
    inputs = scene(windows + 16, tuple(options.size), options.points)
    last: dict[str, np.ndarray] = {}

    def sequential(real: int = 16) -> float:
        asked = {"run": "tapip3d", "starts": list(range(windows)), "real": real, "iterations": options.iterations}

        def work() -> None:
            last["sequential"] = bare.call(asked, inputs)[1]["xyz_cam0"]

        return seconds_of(bare, options.device, work)

    def once() -> float:
        def work() -> None:
            last["once"] = np.stack(list(_windows(ours, inputs, windows, options)))

        return seconds_of(ours, options.device, work)

    taken = in_turns({"window by window": sequential, "encoded once": once}, options.repeats)
    peaks = {"window by window": bare.peak_bytes, "encoded once": ours.peak_bytes}
    print(f"{windows} windows:")
    for name, seconds in taken.items():
        print(f"  {name:18} {windows / np.median(seconds):8.2f} windows/s, peak {(peaks[name] or 0) / 2**30:.2f} GiB")
    print("  ratio", times_faster(taken["window by window"], taken["encoded once"]))
    off = np.abs(last["once"] - last["sequential"]).max() / np.median(inputs["depth"])
    print(f"  max difference {off:.1e} of the median depth")
    whole = last["sequential"]
    sequential(real=10)
    change = np.linalg.norm(last["sequential"][:, :10] - whole[:, :10], axis=-1)
    p99 = np.quantile(change, 0.99)
    print(f"  10 real frames padded to 16, against 16 real ones: median {np.median(change):.2e} m, p99 {p99:.2e} m")


def _windows(ours: Isolated, inputs: dict[str, np.ndarray], windows: int, options: argparse.Namespace) -> Iterator[np.ndarray]:
    ours.call({"do": "begin", "size": list(options.size), "K": inputs["K"].tolist()}, {})
    sent = 0
    for start in range(windows):
        for a in range(sent, min(start + 16 + BATCH, len(inputs["rgb"])), BATCH):
            part = slice(a, min(a + BATCH, len(inputs["rgb"])))
            meta = {"do": "frames", "first": a, "keep_from": start, "batch": BATCH}
            ours.call(meta, {"rgb": inputs["rgb"][part], "depth": inputs["depth"][part]})
            sent = a + BATCH
        k = np.arange(start, start + 16)
        meta = {"do": "track", "indices": k.tolist(), "iterations": options.iterations, "support_grid": 0}
        yield ours.call(meta, {"uv_px": inputs["uv_px"], "T_camk_cam0": T_camk_cam0(inputs["T_camera_world"][k])})[1]["xyz_cam0"]


if __name__ == "__main__":
    main()
