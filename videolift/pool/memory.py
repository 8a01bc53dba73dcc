"""Memory in use, as numbers: of the host, of a card, and of a worker's whole process tree on either.

On the CPU a tree's memory is its proportional set size, so that pages shared between workers count once; on a card it is what
NVML lists for the tree's pids. `Gauge` is what the pool asks; tests put a card of their own behind it. This module decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from videolift.pool.devices import Cards, Nvml
from videolift.pool.interface import Device

_UNLIMITED = 1 << 60


@dataclass(frozen=True)
class Memory:
    """Of a card or of the host, in bytes; ``free`` is what a new process could get."""

    total: int
    free: int


class Gauge(Protocol):
    """What the pool asks about memory; of a card that has vanished it raises `DeviceLost`."""

    def host(self) -> Memory:
        """The machine's, or the smaller share that a control group allows us."""

    def device(self, device: Device) -> Memory:
        """A card's; the host's for the CPU."""

    def tree(self, device: Device, pids: Iterable[int]) -> int | None:
        """In use on ``device`` by these processes together; None where it cannot be told apart (a container hides the pids)."""

    def host_tree(self, pids: Iterable[int]) -> int:
        """Host memory in use by these processes together."""

    def cpu_seconds(self, pids: Iterable[int]) -> float:
        """CPU time that these processes have used so far."""

    def busy_share(self, device: Device) -> float | None:
        """Share of the last moment for which a card was busy, None where it does not say."""

    def holders(self, device: Device) -> dict[int, int] | None:
        """Bytes per pid on a card, None where the driver does not say; empty for the CPU."""

    def oom_kills(self) -> int:
        """How often the kernel's OOM killer has struck on this machine since boot, 0 where it does not say."""


class SystemGauge:
    """The real figures: /proc and control groups for the host, NVML for cards."""

    def __init__(self, cards: Cards | None = None) -> None:
        self._cards = cards

    @property
    def cards(self) -> Cards:
        """NVML, opened when first needed."""
        if self._cards is None:
            self._cards = Nvml()
        return self._cards

    def host(self) -> Memory:
        """See `Gauge.host`."""
        memory = psutil.virtual_memory()
        limit, headroom = cgroup_memory()
        return Memory(min(memory.total, limit), min(memory.available, headroom))

    def device(self, device: Device) -> Memory:
        """See `Gauge.device`."""
        if device.kind == "cpu":
            return self.host()
        total, free = self.cards.memory(device.id)
        return Memory(total, free)

    def tree(self, device: Device, pids: Iterable[int]) -> int | None:
        """See `Gauge.tree`."""
        if device.kind == "cpu":
            return self.host_tree(pids)
        holders = self.holders(device)
        found = [holders[pid] for pid in pids if pid in holders] if holders else []
        return sum(found) if found else None

    def host_tree(self, pids: Iterable[int]) -> int:
        """See `Gauge.host_tree`."""
        return sum(pss_bytes(pid) for pid in pids)

    def cpu_seconds(self, pids: Iterable[int]) -> float:
        """See `Gauge.cpu_seconds`."""
        seconds = 0.0
        for pid in pids:
            with suppress(psutil.Error):  # it ended since it was listed
                times = psutil.Process(pid).cpu_times()
                seconds += float(times.user + times.system)
        return seconds

    def busy_share(self, device: Device) -> float | None:
        """See `Gauge.busy_share`."""
        return None if device.kind == "cpu" else self.cards.busy_share(device.id)

    def holders(self, device: Device) -> dict[int, int] | None:
        """See `Gauge.holders`."""
        return {} if device.kind == "cpu" else self.cards.processes(device.id)

    def oom_kills(self) -> int:
        """See `Gauge.oom_kills`."""
        try:
            lines = Path("/proc/vmstat").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def pss_bytes(pid: int) -> int:
    """Proportional set size of one process: shared pages divided among those that share them. 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            # Workers share the pages of libraries; resident sizes would count them once per worker.
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def cgroup_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> tuple[int, int]:
    """(limit, headroom) in bytes of the tightest control group above this process; huge numbers where there is none."""
    limit = headroom = _UNLIMITED
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return limit, headroom
    # Version 2 has one line with no controller, version 1 one per controller; a machine may show both.
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = base / path.lstrip("/")
        # Any group above ours may be the tightest: SLURM limits the job, not the step.
        for group in (folder, *folder.parents):
            found = _group(group, *names)
            if found is not None:
                limit, headroom = min(limit, found[0]), min(headroom, found[1])
            if group == base:
                break
    return limit, headroom


def _group(folder: Path, limit_name: str, usage_name: str) -> tuple[int, int] | None:
    try:
        limit = int((folder / limit_name).read_text())
        usage = int((folder / usage_name).read_text())
    except (OSError, ValueError):
        return None
    # The kernel writes a huge number, rounded to pages, where there is no limit.
    if limit >= _UNLIMITED:
        return None
    # Page cache counts as used in the group's figure, but the kernel would drop the inactive part before it kills anybody.
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        lines = []
    figures = dict(line.split(maxsplit=1) for line in lines)
    reclaimable = int(figures.get("total_inactive_file", figures.get("inactive_file", 0)))
    return limit, max(0, limit - usage + reclaimable)
