"""Which devices a pool may use: the cards that the environment shows us, or the CPU.

CUDA_VISIBLE_DEVICES is respected as CUDA reads it: indices, UUIDs or their beginnings, MIG UUIDs; everything from the first unknown
entry on is invisible. Workers get UUIDs, which mean the same card in every process. Nothing here measures use or decides numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import psutil

from videolift.errors import BackendUnavailable
from videolift.pool.types import Device

MASK = "CUDA_VISIBLE_DEVICES"
_THREADS_PER_CARD_WORKER = 4


@dataclass(frozen=True)
class Card:
    """A card, or one MIG instance of it (then ``parent`` is the card's UUID)."""

    uuid: str
    index: int
    name: str
    memory_bytes: int
    parent: str | None = None


class Cards(Protocol):
    """What we ask of NVML; tests bring their own."""

    def cards(self) -> list[Card]:
        """Every card, then for cards in MIG mode their instances instead of them, by PCI order."""

    def memory(self, uuid: str) -> tuple[int, int]:
        """(total, free) in bytes."""

    def busy_share(self, uuid: str) -> float | None:
        """Share of the last sampling period for which a kernel ran, None where the card does not say (MIG)."""

    def processes(self, uuid: str) -> dict[int, int] | None:
        """Bytes per pid that computes on the card, None where the driver does not say."""


class Nvml:
    """The real cards.

    Raises:
        BackendUnavailable: no NVIDIA driver, or it does not answer.
    """

    def __init__(self) -> None:
        import pynvml

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise BackendUnavailable(
                f"no NVIDIA driver answers ({error}). Check with: nvidia-smi; without a card use: preset: cpu"
            ) from error

    def cards(self) -> list[Card]:
        """See `Cards.cards`."""
        found: list[Card] = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            instances = self._instances(handle, index)
            found += instances or [self._card(handle, index, None)]
        return found

    def _instances(self, handle: object, index: int) -> list[Card]:
        try:
            if self._nvml.nvmlDeviceGetMigMode(handle)[0] != self._nvml.NVML_DEVICE_MIG_ENABLE:
                return []
            parent = _text(self._nvml.nvmlDeviceGetUUID(handle))
            slots = range(self._nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
        except self._nvml.NVMLError:
            return []
        found = []
        for slot in slots:
            try:
                found.append(self._card(self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot), index, parent))
            except self._nvml.NVMLError:
                continue
        return found

    def _card(self, handle: object, index: int, parent: str | None) -> Card:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        name, uuid = self._nvml.nvmlDeviceGetName(handle), self._nvml.nvmlDeviceGetUUID(handle)
        return Card(_text(uuid), index, _text(name), int(memory.total), parent)

    def memory(self, uuid: str) -> tuple[int, int]:
        """See `Cards.memory`."""
        memory = self._nvml.nvmlDeviceGetMemoryInfo(self._nvml.nvmlDeviceGetHandleByUUID(uuid))
        return int(memory.total), int(memory.free)

    def busy_share(self, uuid: str) -> float | None:
        """See `Cards.busy_share`."""
        try:
            return float(self._nvml.nvmlDeviceGetUtilizationRates(self._nvml.nvmlDeviceGetHandleByUUID(uuid)).gpu) / 100.0
        except self._nvml.NVMLError:
            return None

    def processes(self, uuid: str) -> dict[int, int] | None:
        """See `Cards.processes`."""
        handle = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        try:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except self._nvml.NVMLError:
            return None
        if any(process.usedGpuMemory is None for process in running):
            return None
        return {int(process.pid): int(process.usedGpuMemory) for process in running}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def find_devices(
    kind: Literal["cuda", "cpu"], *, cards: Cards | None = None, environment: Mapping[str, str] | None = None
) -> list[Device]:
    """The devices of one kind that this process may use.

    Args:
        kind: ``cuda`` for every visible card, ``cpu`` for one device of all cores that this process may run on.
        cards: what answers for NVML.
        environment: where the mask is read, os.environ by default.

    Raises:
        BackendUnavailable: ``cuda`` was asked for and there is no driver, or the mask leaves no card.
    """
    if kind == "cpu":
        return [cpu_device()]
    mask = (os.environ if environment is None else environment).get(MASK)
    all_cards = (cards or Nvml()).cards()
    visible = all_cards if mask is None else visible_cards(all_cards, mask)
    if not visible:
        known = ", ".join(f"{c.index}: {c.name} {c.uuid}" for c in all_cards) or "none"
        shown = "is not set" if mask is None else f"is {mask!r}"
        raise BackendUnavailable(
            f"no card may be used: {MASK} {shown}, this machine has {known}. Change {MASK}, or use: preset: cpu"
        )
    threads = max(1, min(_THREADS_PER_CARD_WORKER, usable_cores() // len(visible)))
    return [Device("cuda", c.uuid, c.name, c.memory_bytes, threads, usable_cores()) for c in visible]


def visible_cards(cards: list[Card], mask: str) -> list[Card]:
    """The cards that ``mask`` shows, in its order; a card in MIG mode stands for its instances."""
    found: list[Card] = []
    for entry in (part.strip() for part in mask.split(",")):
        matching = _matching(cards, entry)
        if not matching:
            break
        found += [card for card in matching if card not in found]
    return found


def _matching(cards: list[Card], entry: str) -> list[Card]:
    if entry.isdigit():
        return [c for c in cards if c.index == int(entry)]
    if not entry.startswith(("GPU-", "MIG-")):
        return []
    exact = [c for c in cards if entry in (c.uuid, c.parent)]
    begins = [c for c in cards if c.uuid.startswith(entry)]
    return exact or (begins if len(begins) == 1 else [])


def cpu_device(cores: int | None = None, *, threads: int = 1) -> Device:
    """The CPU as a device.

    Args:
        cores: how many all workers may use together; None: those that this process may run on.
        threads: the least that one worker gets; there are never more workers than ``cores // threads``.
    """
    cores = usable_cores() if cores is None else max(1, cores)
    return Device("cpu", "cpu", f"CPU {cores} cores", int(psutil.virtual_memory().total), min(threads, cores), cores)


def usable_cores() -> int:
    """Cores that this process may run on: affinity, and the control group's quota where there is one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(allowed, _quota_cores()))


def _quota_cores(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Whole cores of the CPU quota of our own group, a large number without one."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return 1 << 20
    return 1 << 20 if quota.strip() in ("max", "-1") else max(1, int(quota) // int(period))
