"""Figures of past pools in a small JSON file: advice for the first minutes of the next one, never needed and not trusted for long.

One entry per (label, device name); the label names backend, version and resolution. Per power of two of the item's size the largest
peaks are kept. A missing, torn or old file is an empty one, and a file that cannot be written costs nothing but the advice.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from videolift.errors import Transient
from videolift.pool.figures import Figures, Peak

log = logging.getLogger("videolift.pool")
FORMAT = 1
_PEAKS_PER_BUCKET = 3


def recall(path: Path, label: str, device_name: str, figures: Figures) -> bool:
    """Adds what is known of ``label`` on such a device to ``figures``; False where nothing is."""
    entry = _entries(path).get(_key(label, device_name))
    try:
        if entry is None:
            return False
        peaks = [Peak(float(size), int(device), int(host)) for size, device, host in entry["peaks"]]
        figures.remember(peaks, entry["load_s"], entry["seconds_per_size"], entry["busy_share"])
    except (KeyError, TypeError, ValueError):
        return False
    return bool(peaks)


def record(path: Path, label: str, figures: dict[str, Figures], *, busy_share: bool) -> None:
    """Replaces the entries of ``label`` for each device name by what is known now.

    ``busy_share`` is kept for cards only: on the CPU it depends on the threads that a worker happened to get.
    """
    from videolift.store import write_json  # it brings h5py, which a worker that imports this package need not have

    entries = _entries(path)
    for device_name, known in figures.items():
        if known.peaks:
            peaks = [[p.size, p.device_bytes, p.host_bytes] for p in _largest(known.peaks)]
            entries[_key(label, device_name)] = {
                "peaks": peaks,
                "load_s": known.load_s,
                "seconds_per_size": known.seconds_per_size,
                "busy_share": known.busy_share if busy_share else None,
            }
    try:
        write_json(path, {"format": FORMAT, "figures": entries})
    except (Transient, OSError) as error:
        log.warning("the pool's figures are not remembered: %s", error)


def _key(label: str, device_name: str) -> str:
    return f"{label} | {device_name}"


def _entries(path: Path) -> dict[str, Any]:
    from videolift.store import read_json

    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT or not isinstance(value.get("figures"), dict):
        return {}
    return dict(value["figures"])


def _largest(peaks: tuple[Peak, ...]) -> list[Peak]:
    buckets: dict[int, list[Peak]] = {}
    for peak in peaks:
        buckets.setdefault(math.floor(math.log2(max(peak.size, 1e-9))), []).append(peak)
    kept = [sorted(bucket, key=lambda p: -max(p.device_bytes, p.host_bytes))[:_PEAKS_PER_BUCKET] for bucket in buckets.values()]
    return sorted((p for bucket in kept for p in bucket), key=lambda p: -p.size)
