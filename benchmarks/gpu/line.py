"""The whole line with random weights: a rendered clip through MoGe, TAPIP3D, WiLoR and packaging, by the backends of production.

Tracks and hands are given the true depth, because a random network's is nonsense; what is measured is that each stage runs on this
device with the others beside it, and how long it takes. ``python -m benchmarks.gpu.line --checkouts FOLDER`` on a card.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.measure import BARE, ROOT, arguments, child, paths
from benchmarks.gpu.wilor import one_block
from stages.backend import Inputs
from stages.registry import make_backend
from stages.sample import render
from stages.sample.artifacts import write_truth_artifacts
from stages.settings import stage_block
from videolift.artifacts import Clip, Depth, Hands, Tracks
from videolift.errors import BadInput
from videolift.inputs.video import Video
from videolift.pool import Device, cpu_device, devices_for

KINDS = {"depth": Depth, "tracks": Tracks, "hands": Hands}


def main() -> None:
    parser = arguments(__doc__ or "", "line")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--small", action="store_true", help="small networks and frames, for a CPU")
    options = parser.parse_args()
    width, height = (160, 128) if options.small else (512, 384)
    device = cpu_device() if options.device == "cpu" else devices_for("cuda")[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_truth_artifacts(folder, "clip", render("tripod_rgbd", frames=options.frames, width=width, height=height))
        given: dict[str, Any] = {"clip": Clip(folder / "frames" / "clip.h5"), "depth": Depth(folder / "depth" / "clip.h5")}
        for stage, (backend, own) in models(options, folder, (height, width)).items():
            block: dict[str, Any] = {"backend": backend, backend: {"python": options.python, **own}}
            block |= {"window_length": 10, "points": 32 if options.small else 3000} if stage == "tracks" else {}
            made = timed(stage, block, device, given, folder)
            if made is not None and stage != "depth":
                given[stage] = KINDS[stage](made)
        packaging: dict[str, Any] = {"backend": "hdf5", "min_tier": "D", "required": [], "min_points": 0}
        timed("create_h5", packaging, cpu_device(), given, folder)


def models(options: argparse.Namespace, folder: Path, size: tuple[int, int]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Stage to its backend and that backend's settings; random weights are made for each."""
    wilor = one_block(options.checkouts / "WiLoR", folder) if options.small else options.checkouts / "WiLoR"
    file = {name: str(folder / name) for name in ("moge.pt", "tapip3d.pth", "wilor.ckpt", "MANO_RIGHT.pkl", "detector.pt")}
    config = str(options.checkouts / "MoGe" / "configs" / "train" / "v2.json")
    knn_file = str(ROOT / "stages" / "tracks" / "tapip3d_worker.py")
    wanted = {
        "moge": {"file": file["moge.pt"], "config": config, "small": options.small, "paths": paths(options, "MoGe", "utils3d")},
        "tapip3d": {"file": file["tapip3d.pth"], "size": size, "knn_file": knn_file, "paths": paths(options, "TAPIP3D")},
        "wilor": {
            "file": file["wilor.ckpt"],
            "mano": file["MANO_RIGHT.pkl"],
            "detector": file["detector.pt"],
            "paths": [str(wilor), *paths(options)],
        },
    }
    for name, meta in wanted.items():
        with child(options, name, BARE) as bare:
            bare.load({"model": name, "device": "cpu", **meta})
    checkouts = {name: str(options.checkouts / name) for name in ("MoGe", "utils3d", "TAPIP3D")}
    moge = {"weights": file["moge.pt"], "checkout": checkouts["MoGe"], "utils3d": checkouts["utils3d"]}
    tapip3d = {"weights": file["tapip3d.pth"], "checkout": checkouts["TAPIP3D"], "iterations": 1 if options.small else 6}
    hands = {"weights": file["wilor.ckpt"], "detector": file["detector.pt"], "mano": file["MANO_RIGHT.pkl"], "checkout": str(wilor)}
    return {
        "depth": ("moge", moge | {"resolution_level": 0 if options.small else 9}),
        "tracks": ("tapip3d", tapip3d | {"check_every": 0}),
        "hands": ("wilor", hands | {"min_confidence": 0.001}),
    }


def timed(stage: str, settings: dict[str, Any], device: Device, given: dict[str, Any], folder: Path) -> Path | None:
    """Runs one stage and prints what it took; where its artifact lies, None where it refuses what random weights gave."""
    backend = make_backend(stage, stage_block(stage, seed=0, **settings))
    out = backend.writer(folder / f"{stage}.h5")
    began = time.perf_counter()
    try:
        backend.load(device)
        loaded, frames = time.perf_counter(), len(given["clip"])
        parts = {name: part for name, part in given.items() if stage != "depth" or name == "clip"}
        missing = {} if stage != "create_h5" else {name: "not made" for name in KINDS if name not in given}
        quality = backend.process(
            Inputs(Video("clip", "clip.mp4"), **parts, missing=missing), out, shrink=1.0, progress=lambda done, total: None
        )
        seconds = time.perf_counter() - loaded
        print(f"{stage}: loaded in {loaded - began:.1f} s, {frames / seconds:.1f} frames/s; {'; '.join(quality.checks)}")
        return out.publish().path
    except BadInput as error:
        print(f"{stage}: ran, and refuses what random weights gave: {error}")
        return None
    finally:
        out.discard()
        backend.close()


if __name__ == "__main__":
    main()
