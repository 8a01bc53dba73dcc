"""The predecessor's adaptive pool, rewritten from its description for comparison, faults included.

Workers are added one after another and count as good when they live half a second after their start, while models load longer; a
killed worker takes its item with it; a failed item counts as handled; nobody notices a hang. Not for use.
"""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Callable, Iterable
from typing import Any

_ALIVE_AFTER_S = 0.5
_FAILURES = (MemoryError, OSError)
"""What the loads of benchmarks/pool.py can raise; the predecessor caught everything."""


def _work(make: Callable[[], Callable[[Any], Any]], items: Any, results: Any) -> None:
    try:
        process = make()
    except _FAILURES as error:
        results.put((None, str(error)))
        return
    while True:
        item = items.get()
        if item is None:
            results.put(("finished", None))
            return
        try:
            results.put((item, process(item)))
        except _FAILURES:  # as it did: a failed item is handled
            results.put((item, None))


def run(make: Callable[[], Callable[[Any], Any]], items: Iterable[Any], workers: int) -> dict[Any, Any]:
    """Works on all items; returns what came back. Ends when no worker lives, whatever is left."""
    context = multiprocessing.get_context("spawn")
    waiting, results = context.Queue(), context.Queue()
    for item in items:
        waiting.put(item)
    processes = []
    for _ in range(workers):
        process = context.Process(target=_work, args=(make, waiting, results), daemon=True)
        process.start()
        time.sleep(_ALIVE_AFTER_S)
        if not process.is_alive():
            break
        processes.append(process)
        waiting.put(None)
    done: dict[Any, Any] = {}
    finished = 0
    while finished < len(processes):
        try:
            key, value = results.get(timeout=0.2)
        except queue.Empty:
            if not any(process.is_alive() for process in processes):
                break
            continue
        if key == "finished":
            finished += 1
        elif key is not None:
            done[key] = value
    for process in processes:
        process.kill()
    return done
