"""Interleaved repeats, medians, ratios with their 90 % interval; arguments that the benchmarks of this folder share."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from videolift.isolation import Isolated

ROOT = Path(__file__).resolve().parents[2]
BARE = Path(__file__).with_name("bare.py")


def arguments(text: str, model: str | None) -> argparse.ArgumentParser:
    """A parser with what all of them take; without a model no checkouts."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--checkouts", type=Path, required=model is not None, help="folder with upstream's checkouts")
    parser.add_argument("--python", help="interpreter, instead of the model's built environment")
    parser.add_argument("--site", type=Path, help="folder of more packages for that interpreter")
    parser.add_argument("--device", default="cuda:0", help="cuda:0 or cpu")
    parser.add_argument("--repeats", type=int, default=7)
    return parser


def child(options: argparse.Namespace, env: str | None, worker: Path) -> Isolated:
    """A process of a model's interpreter, not started."""
    python = options.python or _built(env)
    card = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} if options.device == "cpu" else {}
    return Isolated(python, worker, env={"HF_HUB_OFFLINE": "1", "YOLO_OFFLINE": "true", **card})


def paths(options: argparse.Namespace, *names: str) -> list[str]:
    """What goes on the interpreter's path: checkouts, then more packages."""
    return [str(options.checkouts / name) for name in names] + ([str(options.site)] if options.site is not None else [])


def _built(env: str | None) -> Path:
    from stages.models.environments import interpreter  # a bundle's machine has no uv, and names its interpreter

    assert env is not None
    return interpreter(env, envs_dir=ROOT / "thirdparty" / "envs")


def seconds_of(process: Isolated, device: str, work: Callable[[], object]) -> float:
    """Wall seconds on a card; without one the CPU seconds of the child, which a busy machine does not change."""
    assert process.pid is not None
    before, began = psutil.Process(process.pid).cpu_times(), time.perf_counter()
    work()
    after = psutil.Process(process.pid).cpu_times()
    return sum(after[:2]) - sum(before[:2]) if device == "cpu" else time.perf_counter() - began


def interleaved(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, measured in turns, after one turn to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            seconds = way()
            if turn:
                taken[name].append(seconds)
    return taken


def compare(slow: list[float], fast: list[float]) -> str:
    """How many times faster, with the 90 % interval over the pairs of one turn."""
    ratios = np.array(slow) / np.array(fast)
    low, high = np.quantile(ratios, [0.05, 0.95])
    return f"{statistics.median(ratios):.2f}x [{low:.2f}, {high:.2f}]"
