"""Which devices a pool may use: the cards that the environment shows us, or the CPU.

CUDA_VISIBLE_DEVICES is respected as CUDA reads it: indices, UUIDs or their beginnings, MIG UUIDs; everything from the first unknown
entry on is invisible. Workers get UUIDs, which mean the same card in every process: unless CUDA_DEVICE_ORDER says otherwise, CUDA
numbers the fastest card first and NVML goes by PCI slots. Nothing here decides numbers of workers.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import psutil

from videolift.errors import BackendUnavailable
from videolift.pool.interface import Device

MASK = "CUDA_VISIBLE_DEVICES"
_THREADS_PER_CARD_WORKER = 4
_ASK_TIMES, _ASK_AGAIN_S = 3, 0.05
"""One odd answer of the driver must not cost a card."""
_log = logging.getLogger("videolift.pool")


class DeviceLost(Exception):
    """The driver no longer answers for a card."""


@dataclass(frozen=True)
class Card:
    """A card, or one MIG instance of it (then ``parent`` is the card's UUID).

    ``index`` is NVML's, by PCI slot. ``fault`` says why the card cannot be used, and is empty when it can; such a card may lack a
    UUID and a name.
    """

    uuid: str
    index: int
    name: str
    memory_bytes: int
    parent: str | None = None
    fault: str = ""


class Cards(Protocol):
    """What we ask of NVML; tests bring their own. Of a card that has vanished, all but `cards` raise `DeviceLost`."""

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
                f"no NVIDIA driver answers ({error}). Check with: nvidia-smi; "
                "without a card use: preset: laptop or cpu, and no backend that needs one"
            ) from error

    def cards(self) -> list[Card]:
        """See `Cards.cards`; a card that does not answer is among them, with its fault, since the mask may hide it anyway."""
        found: list[Card] = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                found += self._instances(handle, index) or [self._card(handle, index, None)]
            except self._nvml.NVMLError as error:
                found.append(Card("", index, "", 0, fault=str(error)))
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
        name, uuid = self._nvml.nvmlDeviceGetName(handle), self._nvml.nvmlDeviceGetUUID(handle)
        return Card(_text(uuid), index, _text(name), self._memory(handle)[0], parent)

    def _memory(self, handle: object) -> tuple[int, int]:
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        except self._nvml.NVMLError_NotSupported:  # it shares the host's memory and has no figure of its own
            host = psutil.virtual_memory()
            return int(host.total), int(host.available)
        return int(memory.total), int(memory.free)

    def memory(self, uuid: str) -> tuple[int, int]:
        """See `Cards.memory`."""
        for left in reversed(range(_ASK_TIMES)):
            try:
                return self._memory(self._nvml.nvmlDeviceGetHandleByUUID(uuid))
            except self._nvml.NVMLError as error:
                if isinstance(error, self._nvml.NVMLError_GpuIsLost) or not left:
                    raise DeviceLost(f"the driver no longer answers for card {uuid}: {error}") from error
            time.sleep(_ASK_AGAIN_S)
        raise AssertionError("not reached")

    def busy_share(self, uuid: str) -> float | None:
        """See `Cards.busy_share`."""
        try:
            return float(self._nvml.nvmlDeviceGetUtilizationRates(self._nvml.nvmlDeviceGetHandleByUUID(uuid)).gpu) / 100.0
        except self._nvml.NVMLError:
            return None

    def processes(self, uuid: str) -> dict[int, int] | None:
        """See `Cards.processes`."""
        try:
            handle = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except self._nvml.NVMLError:
            return None
        # In containers and under MIG the driver lists pids without their memory.
        if any(process.usedGpuMemory is None for process in running):
            return None
        return {int(process.pid): int(process.usedGpuMemory) for process in running}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


_CUDA_ORDER = """
import ctypes
cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
for number in range(count.value):
    device, uuid = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    assert cuda.cuDeviceGet(ctypes.byref(device), number) == 0 and cuda.cuDeviceGetUuid(uuid, device) == 0
    print(bytes(uuid).hex())
"""


def cuda_order(environment: Mapping[str, str]) -> list[str]:
    """UUIDs of all cards as CUDA numbers them, asked in a process of its own: CUDA must not start in this one. Empty: not known."""
    unmasked = {name: value for name, value in environment.items() if name != MASK}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _CUDA_ORDER], env=unmasked, capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [f"GPU-{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in done.stdout.split()]


def find_devices(
    kind: Literal["cuda", "cpu"],
    *,
    cards: Cards | None = None,
    environment: Mapping[str, str] | None = None,
    order: Callable[[Mapping[str, str]], Sequence[str]] = cuda_order,
) -> list[Device]:
    """The devices of one kind that this process may use.

    Args:
        kind: ``cuda`` for every visible card, ``cpu`` for one device of all cores that this process may run on.
        cards: what answers for NVML.
        environment: where mask and order are read, os.environ by default.
        order: says how CUDA numbers the cards; asked where that matters.

    Raises:
        BackendUnavailable: ``cuda`` was asked for and there is no driver, or the mask leaves no card that works.
    """
    if kind == "cpu":
        return [cpu_device()]
    environment = os.environ if environment is None else environment
    mask = environment.get(MASK)
    all_cards = (cards or Nvml()).cards()
    shown = all_cards if mask is None else visible_cards(_as_cuda_numbers(all_cards, mask, environment, order), mask)
    visible = [card for card in shown if not card.fault]
    for card in shown:
        if card.fault:
            _log.warning("card %d %s is not used: %s", card.index, card.name, card.fault)
    if not visible:
        known = ", ".join(f"{c.index}: {c.name} {c.uuid}{' ' + c.fault if c.fault else ''}" for c in all_cards) or "none"
        said = "is not set" if mask is None else f"is {mask!r}"
        raise BackendUnavailable(
            f"no card may be used: {MASK} {said}, this machine has {known}. Change {MASK}, or use: preset: cpu"
        )
    # An equal part of the cores per card, so that workers on different cards do not push each other off.
    threads = max(1, min(_THREADS_PER_CARD_WORKER, usable_cores() // len(visible)))
    return [Device("cuda", c.uuid, c.name, c.memory_bytes, threads=threads, cores=usable_cores()) for c in visible]


def devices_for(kind: Literal["cpu", "cuda", "any"], cores: int | None = None) -> list[Device]:
    """The devices that a backend's workers run on; ``any`` is the CPU where no card may be used.

    Raises:
        BackendUnavailable: ``cuda``, and there is none.
    """
    if kind != "cpu":
        try:
            return find_devices("cuda")
        except BackendUnavailable:
            if kind == "cuda":
                raise
    return [cpu_device(cores)]


def _as_cuda_numbers(
    cards: list[Card], mask: str, environment: Mapping[str, str], order: Callable[[Mapping[str, str]], Sequence[str]]
) -> list[Card]:
    """The cards with CUDA's numbers; NVML's where both agree: cards of one kind, or numbered by PCI slot by order of the user."""
    numbered = any(part.strip().isdigit() for part in mask.split(","))
    # In MIG mode CUDA shows instances in a numbering of their own; there SLURM and people give UUIDs.
    mixed = len({card.name for card in cards if not card.fault}) > 1 and not any(card.parent for card in cards)
    if not numbered or not mixed or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return cards
    numbers = {uuid: number for number, uuid in enumerate(order(environment))}
    if any(card.uuid not in numbers for card in cards if not card.fault):
        _log.warning(
            "%s is %r on a machine with several kinds of cards, and how CUDA numbers them is not known: taken by PCI slot. "
            "Set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name cards by UUID",
            MASK,
            mask,
        )
        return cards
    broken = len(numbers)  # CUDA gives no number to a card that it does not see
    return [replace(card, index=numbers.get(card.uuid, broken + card.index)) for card in cards]


def visible_cards(cards: list[Card], mask: str) -> list[Card]:
    """The cards that ``mask`` shows, in its order; a card in MIG mode stands for its instances."""
    found: list[Card] = []
    for entry in (part.strip() for part in mask.split(",")):
        matching: list[Card] = []
        if entry.isdigit():
            matching = [c for c in cards if c.index == int(entry)]
        elif entry.startswith(("GPU-", "MIG-")):
            begins = [c for c in cards if c.uuid.startswith(entry)]
            # As CUDA does: the beginning of a UUID counts only where it fits one card.
            matching = [c for c in cards if entry in (c.uuid, c.parent)] or (begins if len(begins) == 1 else [])
        if not matching:
            break
        # CUDA refuses a mask that names a card twice; we take it once.
        found += [card for card in matching if card not in found]
    return found


def cpu_device(cores: int | None = None, *, threads: int = 1) -> Device:
    """The CPU as a device.

    Args:
        cores: how many all workers may use together; None: those that this process may run on.
        threads: the least that one worker gets; there are never more workers than ``cores // threads``.
    """
    cores = usable_cores() if cores is None else max(1, cores)
    return Device(
        kind="cpu",
        id="cpu",
        name=f"CPU {cores} cores",
        memory_bytes=int(psutil.virtual_memory().total),
        threads=min(threads, cores),
        cores=cores,
    )


def usable_cores() -> int:
    """Cores that this process may run on: affinity, and the control group's quota where there is one."""
    # The quota of a container limits time, not which cores are seen; the smaller one holds.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    group = Path("/sys/fs/cgroup")
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):  # version 1 of control groups, or none
        try:
            quota, period = ((group / "cpu" / name).read_text() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        except OSError:
            return max(1, allowed)
    unlimited = quota.strip() in ("max", "-1")
    return max(1, allowed if unlimited else min(allowed, int(quota) // int(period)))
