"""A run of the pool in a made-up world, as fast as it computes: the real supervisor over a `VirtualMachine`.

`simulate` plays a `World` under the sizing rules or under a fixed number of workers, and says how long it took, what was chosen and
whether a promise was broken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.videolift.pool.simulator.virtual import Deadlock, VirtualGauge, VirtualMachine
from tests.videolift.pool.simulator.worlds import GIB, World
from videolift.pool import EventSink, Item, Ledger, Outcome
from videolift.pool.decisions.figures import WorkerFigures
from videolift.pool.decisions.policy import RetryRules, Task
from videolift.pool.decisions.sizing import UNBOUNDED, Decision, SizingRules, Snapshot, decide
from videolift.pool.device_workers import DeviceWorkers
from videolift.pool.pool_state import PoolPlan, PoolState
from videolift.pool.stopping import StopRequests
from videolift.pool.supervisor import supervise
from videolift.pool.workers.handle import Timing

RETRIES = RetryRules(attempts=3, allow_shrink=True, transient_retries=3, backoff_s=2.0)
SIZING = SizingRules(margin=0.15, reserve_bytes=1 * GIB, max_workers=None)
_NEVER_S = 1e9
_MAX_RUNS = 50


@dataclass(frozen=True)
class Played:
    """How a simulated run went.

    Attributes:
        seconds: from start to the last outcome.
        chosen: per device, the number under which most work was done.
        done, lost: items by outcome.
        out_of_memory: how often an item or a load ran out of memory.
        broken_promises: decisions whose workers, at the peak they were sized for, would not have fitted the device.
        spawned: workers started.
    """

    seconds: float
    chosen: tuple[int, ...]
    done: int
    lost: int
    out_of_memory: int
    broken_promises: int
    spawned: int


class _NoLedger(Ledger):
    def claimed(self, item: Item, *, attempt: int, pid: int, start_time: float) -> None:
        pass

    def finished(self, item: Item, outcome: Outcome) -> None:
        pass


class _Promises(EventSink):
    """Checks each decision as it is taken."""

    def __init__(self, machine: VirtualMachine) -> None:
        super().__init__(None, stream=None)
        self._machine, self.broken = machine, 0

    def emit(self, kind: str, **fields: Any) -> None:
        """Counts the decisions that cannot be kept."""
        if kind == "resized" and fields["busy"] > 1 and "peak_gib" in fields:
            card = self._machine.cards[fields["device"]]
            promised = fields["busy"] * fields["peak_gib"] * GIB
            self.broken += promised + SIZING.reserve_bytes > (card.bytes - card.tenant_bytes) * 1.001


def true_fit(world: World, card: int) -> int:
    """How many workers a device really holds at the largest item, tenants aside."""
    most = world.loaded_bytes + max(item.peak_bytes for item in world.items)
    fit = int((world.card_bytes[card] - SIZING.reserve_bytes) // most)
    host = int(
        (world.host_bytes - SIZING.reserve_bytes) // (most if world.on_cpu else world.host_loaded_bytes * len(world.card_bytes))
    )
    return max(1, min(fit, host, world.cores if world.on_cpu else fit))


def _always(number: int) -> Callable[[Snapshot, SizingRules], Decision]:
    def fixed(now: Snapshot, rules: SizingRules) -> Decision:
        count = min(number, now.slots)
        return Decision(count, count, count, UNBOUNDED, "fixed", False, {})

    return fixed


def simulate(world: World, fixed: int | None = None) -> Played:
    """Plays ``world`` under the sizing rules, or with ``fixed`` workers per device, at most what fits there.

    Raises:
        Deadlock: the pool stood still with work left.
    """
    machine = VirtualMachine(world)
    gauge, events = VirtualGauge(machine), _Promises(machine)
    look_s = Timing().sample if fixed is None else _NEVER_S  # a fixed number needs no figures
    plan = PoolPlan(
        RETRIES,
        SIZING,
        load_timeout_s=_NEVER_S,
        item_timeout_s=_NEVER_S,
        grace_s=_NEVER_S,
        timing=Timing(sample=look_s, tick=_NEVER_S),
        log_folder=Path(),
        decide=decide if fixed is None else _always(fixed),
    )
    figures: dict[str, WorkerFigures] = {}
    outcomes: dict[str, Outcome] = {}
    for _ in range(_MAX_RUNS):  # one that stops politely, while a tenant holds the card, is begun again
        groups = [
            DeviceWorkers(
                device, _slots(world, number, fixed), figures.setdefault(device.name, WorkerFigures()), gauge, machine.now
            )
            for number, device in enumerate(machine.devices())
        ]
        tasks = [Task(item) for item in machine.pool_items() if item.key not in outcomes]
        report = supervise(PoolState(plan, tasks, groups, _NoLedger(), events, gauge, machine, StopRequests()))
        outcomes |= report.outcomes
        if len(outcomes) == len(world.items):
            break
    else:
        raise Deadlock(f"seed {world.seed}: after {_MAX_RUNS} runs {len(world.items) - len(outcomes)} items are pending")
    chosen = tuple(max(c.work_by_count, key=lambda n: c.work_by_count[n], default=0) for c in machine.cards.values())
    done = sum(outcome.kind == "done" for outcome in outcomes.values())
    return Played(machine.now(), chosen, done, len(outcomes) - done, machine.out_of_memory, events.broken, machine.started)


def _slots(world: World, card: int, fixed: int | None) -> int:
    if fixed is not None:
        return true_fit(world, card)
    return world.cores if world.on_cpu else UNBOUNDED
