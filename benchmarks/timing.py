"""What the benchmarks share: ways measured in turns, ratios with their 90 % interval, the parser of a module's command line."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

REPEATS = 7
"""Odd, so that a median is one of the repeats."""

Taken = NDArray[np.float64]


def parser(text: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's text as it stands, with the commands in it."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process, all its threads: a busy machine changes them less than wall time."""
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turns(ways: Mapping[str, Callable[[], float]], repeats: int = REPEATS) -> dict[str, Taken]:
    """What each way says it took, (repeats), after one turn to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        # In random order: what runs after something heavy finds other caches and another clock rate.
        for name in random.sample(list(ways), len(ways)):
            seconds = ways[name]()
            if turn:
                taken[name].append(seconds)
    return {name: np.array(values) for name, values in taken.items()}


def cpu_ms(ways: Mapping[str, Callable[[], object]], per: float, repeats: int = REPEATS) -> dict[str, Taken]:
    """CPU milliseconds per unit of each way, (repeats), when each of its calls does ``per`` units."""
    timed = {name: lambda way=way: cpu_seconds(way) for name, way in ways.items()}
    return {name: 1000 * seconds / per for name, seconds in in_turns(timed, repeats).items()}


def ratio(top: ArrayLike, bottom: ArrayLike) -> tuple[float, float, float]:
    """How many times ``bottom`` goes into ``top``, by medians of as many repeats: 5th percentile, value, 95th percentile."""
    above, below = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    # Repeats of one turn are drawn together, since they had the same neighbours on the machine.
    draws = np.random.default_rng(0).integers(0, len(above), (2000, len(above)))
    low, high = np.percentile(np.median(above[draws], axis=1) / np.median(below[draws], axis=1), [5, 95])
    return float(low), float(np.median(above) / np.median(below)), float(high)


def times_faster(slow: ArrayLike, fast: ArrayLike) -> str:
    """`ratio` for people."""
    low, value, high = ratio(slow, fast)
    return f"{value:.2f}x [{low:.2f}, {high:.2f}]"
