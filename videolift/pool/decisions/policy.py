"""What a failure means for its item, as a pure function: again (how?), final (with which outcome?), or pending and stop.

Blame is exact: a worker has one claimed item, and only that one is charged. Memory is retried alone before anything is shrunk,
because what a crowded card refuses is no fault of the item, and a result must not depend on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from videolift.pool.interface import Item, Outcome, OutcomeKind
from videolift.pool.workers.messages import AttemptFailed

_MAX_EXCUSED = 2
"""Deaths of all workers at once that are forgiven per item; the third is charged, so that this ends."""
FOREIGN_SHARE = 0.1
"""Of a device's memory: what others hold above this (for an item: have taken since the pool began) is why something did not fit."""

_FULL_BYTES, _FULL_SHARE = 512 << 20, 0.05
"""Less than this is free: a handle of cuBLAS with its workspace takes up to about 100 MB, an engine of cuDNN some hundreds."""


@dataclass(frozen=True)
class Task:
    """An item and its history.

    Attributes:
        item: as given.
        crashes: deaths and hangs charged to it, earlier runs included.
        errors: exceptions of user code so far.
        transients: storage errors so far.
        excused: deaths that were nobody's fault.
        level: which of the worker's ``shrinks`` is next.
        alone: it ran out of memory; it needs the device to itself.
        avoid: serials of workers that it has failed on.
        not_before: monotonic seconds.
    """

    item: Item
    crashes: int = 0
    errors: int = 0
    transients: int = 0
    excused: int = 0
    level: int = 0
    alone: bool = False
    avoid: frozenset[int] = frozenset()
    not_before: float = 0.0

    @property
    def size(self) -> float:
        """The item's size, 1 where it is not known."""
        return 1.0 if self.item.size is None else float(self.item.size)


@dataclass(frozen=True)
class RetryRules:
    """The settings that matter here (`videolift.config.PoolSettings`)."""

    attempts: int
    allow_shrink: bool
    transient_retries: int
    backoff_s: float


@dataclass(frozen=True)
class WorkerDeath:
    """A worker ended with a claim.

    Attributes:
        cause: crash; hang (killed by us after its deadline); oom_kill (by the kernel); excused (all workers died at once);
            taken_back (ended by us for a reason that has nothing to do with its item).
        text: exit code or deadline, for people.
        tail: last lines that the worker printed.
    """

    cause: Literal["crash", "hang", "oom_kill", "excused", "taken_back"]
    text: str
    tail: str = ""


@dataclass(frozen=True)
class Circumstances:
    """How the attempt ran.

    Attributes:
        serial: the worker's number.
        shrinks: the worker's shares.
        alone, fresh: nobody else on the device; the worker's first item.
        seconds, peak_bytes: of the attempt.
        device: its name, for people.
        total_bytes, free_bytes, foreign_bytes: the device's memory, what of it was free, and how much of it others held.
        usual_foreign_bytes: how much others held when the pool began.
        now: monotonic seconds.
    """

    serial: int
    shrinks: tuple[float, ...] = (1.0,)
    alone: bool = False
    fresh: bool = False
    seconds: float = 0.0
    peak_bytes: int | None = None
    device: str = ""
    total_bytes: int = 0
    free_bytes: int = 0
    foreign_bytes: int = 0
    usual_foreign_bytes: int = 0
    now: float = 0.0

    @property
    def is_full(self) -> bool:
        """The device has no room for what a library's handle or engine needs."""
        return self.free_bytes < max(_FULL_BYTES, _FULL_SHARE * self.total_bytes) and self.total_bytes > 0


@dataclass(frozen=True)
class Retry:
    """Try once more."""

    task: Task


@dataclass(frozen=True)
class Final:
    """The item has its outcome."""

    outcome: Outcome


@dataclass(frozen=True)
class Pending:
    """The item stays to be done and the pool stops: nobody's fault, and trying on would not help."""

    outcome: Outcome
    why: Literal["transient", "backend"] = "transient"


Verdict = Retry | Final | Pending


def in_context(failure: AttemptFailed, seen: Circumstances) -> AttemptFailed:
    """``failure`` as what it means on a device in that state: some texts say out of memory on a full card only."""
    return replace(failure, kind="oom", device_lost=False) if failure.oom_if_full and seen.is_full else failure


def judge_failure(task: Task, failure: AttemptFailed | WorkerDeath, seen: Circumstances, rules: RetryRules) -> Verdict:
    """What ``failure`` means for ``task``."""
    if isinstance(failure, WorkerDeath):
        if failure.cause == "oom_kill":
            text = "the kernel's out-of-memory killer ended the worker"
            return _after_out_of_memory(task, AttemptFailed("oom", "OomKill", text, traceback=failure.tail), seen, rules)
        if failure.cause == "taken_back":
            return Retry(task)
        # The machine's hiccup is forgiven, but not for ever: an item that brings the machine down looks just like it.
        if failure.cause == "excused" and task.excused < _MAX_EXCUSED:
            return Retry(replace(task, excused=task.excused + 1, avoid=task.avoid | {seen.serial}))
        return _charge(task, replace(failure, text=f"its worker {failure.text}"), seen, rules)
    failure = in_context(failure, seen)
    if failure.kind == "oom":
        return _after_out_of_memory(task, failure, seen, rules)
    if failure.kind == "transient":
        return _after_transient(task, failure, seen, rules)
    if failure.kind == "bad_input":
        return Final(_outcome("bad_input", task, failure, seen))
    if failure.device_lost:
        return Retry(task)  # elsewhere: the device is fenced; without any left the pool stops and the item is pending
    if failure.kind == "crash":
        return _charge(task, WorkerDeath("crash", failure.text, failure.traceback), seen, rules)
    if failure.kind == "descriptors" and not seen.fresh:
        return Retry(task)  # leaked by the items before it: the worker is replaced, and this item is its first one there
    # Once more on another worker: the first one may have been left in a bad state by the items before.
    if task.errors == 0:
        return Retry(replace(task, errors=1, avoid=task.avoid | {seen.serial}))
    if failure.kind == "backend":
        return Pending(replace(_outcome("transient", task, failure, seen), attempts=task.crashes), "backend")
    return Final(replace(_outcome("error", task, failure, seen), attempts=task.crashes + task.errors + 1))


def _charge(task: Task, death: WorkerDeath, seen: Circumstances, rules: RetryRules) -> Verdict:
    charged = replace(task, crashes=task.crashes + 1, avoid=task.avoid | {seen.serial})
    if charged.crashes < rules.attempts:
        return Retry(charged)
    kind: OutcomeKind = "hang" if death.cause == "hang" else "crash"
    text = f"{death.text}, {charged.crashes} times in all"
    remedy = "See the traceback for the last lines that it printed; after a change use: videolift retry"
    outcome = Outcome(
        kind,
        code=kind,
        text=text,
        remedy=remedy,
        traceback=death.tail,
        seconds=seen.seconds,
        peak_bytes=seen.peak_bytes,
        attempts=charged.crashes,
        shrink=_shrink(task, seen),
    )
    return Final(outcome)


def _after_out_of_memory(task: Task, failure: AttemptFailed, seen: Circumstances, rules: RetryRules) -> Verdict:
    # In company, or in a process that has worked before, fragments and neighbours may be why.
    if not (seen.alone and seen.fresh):
        return Retry(replace(task, alone=True))
    if seen.foreign_bytes - seen.usual_foreign_bytes > FOREIGN_SHARE * seen.total_bytes:
        busy = replace(failure, kind="transient", text=f"{failure.text}; others hold {_gib(seen.foreign_bytes)} of {seen.device}")
        return _after_transient(task, busy, seen, rules)
    # Only now, alone and fresh and with nobody else on the device, is the item itself too large for it.
    if rules.allow_shrink and task.level + 1 < len(seen.shrinks):
        return Retry(replace(task, alone=True, level=task.level + 1))
    peak = seen.peak_bytes
    others = f" of which others hold {_gib(seen.foreign_bytes)}" if seen.foreign_bytes > FOREIGN_SHARE * seen.total_bytes else ""
    needs = f"alone on {seen.device} with {_gib(seen.total_bytes)}{others} it ran out of memory"
    needs += "" if peak is None else f" at {_gib(peak)}"
    remedy = f"Use a device with more than {_gib(max(seen.total_bytes, peak or 0))}, a smaller picture or a shorter clip"
    if not rules.allow_shrink and len(seen.shrinks) > 1:
        remedy += ", or set pool.allow_shrink: true"
    outcome = _outcome("oom", task, replace(failure, text=f"{needs}: {failure.text}", remedy=remedy + "."), seen)
    return Final(outcome)


def _after_transient(task: Task, failure: AttemptFailed, seen: Circumstances, rules: RetryRules) -> Verdict:
    # Trying again would compute the whole item anew for a disk that stays full until a person makes room.
    if failure.no_room or task.transients >= rules.transient_retries:
        return Pending(replace(_outcome("transient", task, failure, seen), attempts=task.crashes))
    # Doubled, since a quota or a server that is down comes back in minutes rather than seconds.
    wait_s = rules.backoff_s * 2**task.transients
    return Retry(replace(task, transients=task.transients + 1, not_before=seen.now + wait_s))


def _outcome(kind: OutcomeKind, task: Task, failure: AttemptFailed, seen: Circumstances) -> Outcome:
    return Outcome(
        kind=kind,
        code=failure.code,
        text=failure.text,
        remedy=failure.remedy,
        traceback=failure.traceback,
        seconds=seen.seconds,
        peak_bytes=failure.peak_bytes if seen.peak_bytes is None else seen.peak_bytes,
        attempts=task.crashes + 1,
        shrink=_shrink(task, seen),
    )


def _shrink(task: Task, seen: Circumstances) -> float:
    return seen.shrinks[min(task.level, len(seen.shrinks) - 1)]


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
