"""What passes between the pool and its user: items, workers, devices, outcomes, the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Device:
    """One card, or the CPU.

    Attributes:
        kind: ``cuda`` or ``cpu``.
        id: what CUDA_VISIBLE_DEVICES is set to for the worker (index, UUID or MIG UUID); ``cpu`` for the CPU.
        name: the card's product name, for people and for remembered figures.
        memory_bytes: total memory of the card or of the host.
        threads: CPU threads that a worker on it gets at least; on the CPU a worker gets more when there are fewer items than cores.
        cores: CPU cores that all workers of the device may use together; on the CPU there are never more than cores // threads.
    """

    kind: Literal["cuda", "cpu"]
    id: str
    name: str
    memory_bytes: int
    threads: int = 1
    cores: int = 1


@dataclass(frozen=True)
class Item:
    """One unit of work; never split, claimed by one worker at a time.

    Attributes:
        key: unique name, e.g. the video's id.
        size: any measure of length; longest first, and memory figures are kept by it. Frames or bytes, as long as it is one unit.
            None, not known, counts as 1.
        payload: small picklable value handed to the worker.
        attempts: crashes already charged to it by earlier runs, from the claim file.
    """

    key: str
    size: float | None = 1.0
    payload: Any = None
    attempts: int = 0


OutcomeKind = Literal["done", "bad_input", "oom", "crash", "hang", "error", "transient", "backend"]


@dataclass(frozen=True)
class Outcome:
    """How one attempt at an item, or the item itself, ended.

    Attributes:
        kind: done; bad_input (`BadInput`, at once); oom (alone and fully shrunk); crash or hang (``attempts`` times); error (an
            exception of any other class); transient (disk: nobody's fault, stays pending); backend (load failed everywhere).
        code, text, remedy: for people and scripts; empty when done.
        traceback: as raised in the worker, with the last lines of the worker's stderr after a crash.
        value: what `Worker.process` returned.
        seconds: wall time of the last attempt.
        peak_bytes: most memory of the worker's process tree during it, None if not measured.
        attempts: how many attempts were charged.
        shrink: the share the last attempt ran with.
    """

    kind: OutcomeKind
    code: str = ""
    text: str = ""
    remedy: str = ""
    traceback: str = ""
    value: Any = None
    seconds: float = 0.0
    peak_bytes: int | None = None
    attempts: int = 1
    shrink: float = 1.0


class Worker(Protocol):
    """User code, built in the child process by the factory. Errors are told apart by type (`videolift.errors`)."""

    @property
    def shrinks(self) -> tuple[float, ...]:
        """Shares to try after out of memory, starting with 1; a plain attribute will do."""

    def load(self, device: Device) -> None:
        """Called once, before the worker says it is ready."""

    def process(self, item: Item, *, shrink: float, progress: Callable[[int, int], None]) -> Any:
        """Does one item and records its result itself; returns a small picklable value, never arrays."""

    def close(self) -> None:
        """Called once at the end."""


class Ledger(Protocol):
    """Durable record kept by the pool's user; called in the supervisor, on its main thread.

    `Transient` raised here stops the pool politely; any other exception ends it, with every worker dead before the caller sees it.
    """

    def claimed(self, item: Item, *, attempt: int, pid: int, start_time: float) -> None:
        """Written and fsynced before the worker may start on ``item``.

        Args:
            item: what is claimed.
            attempt: crashes charged so far, plus one; what `Item.attempts` must be in the next run if nobody lives to say more.
            pid: the worker's process.
            start_time: when that process began, seconds since the epoch (``psutil.Process.create_time``): a pid alone is reused.
        """

    def recorded(self, item: Item) -> Outcome | None:
        """What the worker had already recorded durably for this claim when it died, None if nothing.

        Asked after each death with a claim, before anybody is blamed: a worker killed between publishing its result and saying so
        has done its item.
        """
        return None

    def finished(self, item: Item, outcome: Outcome) -> None:
        """The item's final outcome (done or quarantined); or transient, when it stays pending. Removes the claim; once per item.

        A transient outcome's ``attempts`` are the crashes charged so far, 0 for most; keep them where they are not 0.
        """


@dataclass(frozen=True)
class PoolReport:
    """What a run of the pool came to.

    Attributes:
        outcomes: final outcome per key; items not named are pending.
        stopped: why the pool stopped early (``signal``, ``transient``, ``backend``), None when all items have an outcome.
        signal: the signal number that stopped it, if one did.
        text: for people, when stopped.
        ready_seconds: from start to the first ready worker.
        seconds: whole run, less any time for which it was suspended.
        workers: most workers alive at once, per device id.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    stopped: Literal["signal", "transient", "backend"] | None = None
    signal: int | None = None
    text: str = ""
    ready_seconds: float = 0.0
    seconds: float = 0.0
    workers: dict[str, int] = field(default_factory=dict)
