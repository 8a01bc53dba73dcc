"""All that one run of a pool knows, in one object; `staffing`, `exits` and `inbox` are functions on it.

An item is in exactly one place at any time: the queue, one worker, `unjudged` (a death whose cause shows only a moment later), or
the outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from videolift.pool.decisions.policy import Circumstances, RetryRules, Task, WorkerDeath
from videolift.pool.decisions.sizing import Decision, SizingRules, Snapshot, decide
from videolift.pool.device_workers import DeviceWorkers
from videolift.pool.events import EventSink
from videolift.pool.interface import Ledger
from videolift.pool.items import ItemTracker
from videolift.pool.memory import Gauge
from videolift.pool.stopping import StopRequests, StopState
from videolift.pool.workers.handle import Timing, WorkerHandle
from videolift.pool.workers.machine import PoolMachine


@dataclass(frozen=True)
class PoolPlan:
    """What a run needs besides its items.

    Attributes:
        rules, sizing: settings for failures and for numbers.
        load_timeout_s, item_timeout_s, grace_s: see `PoolSettings`.
        timing: everything else in seconds.
        log_folder: where the workers' output goes, for texts.
        decide: says how many workers a device should have.
    """

    rules: RetryRules
    sizing: SizingRules
    load_timeout_s: float
    item_timeout_s: float
    grace_s: float
    timing: Timing
    log_folder: Path
    decide: Callable[[Snapshot, SizingRules], Decision] = decide


@dataclass(frozen=True)
class UnjudgedExit:
    """A worker that was killed with a claim: whether all were killed at once shows only a moment later."""

    task: Task
    death: WorkerDeath
    seen: Circumstances
    at: float


@dataclass
class DeathRecord:
    """What has been seen of workers' deaths.

    Attributes:
        unjudged: deaths with a claim that are not judged yet.
        kill_times: of late, monotonic seconds.
        in_a_row: workers that died, each on an item new to it, without one item done in between.
        oom_kills: of the kernel, as counted at the last death.
    """

    unjudged: list[UnjudgedExit] = field(default_factory=list)
    kill_times: list[float] = field(default_factory=list)
    in_a_row: int = 0
    oom_kills: int = 0


class PoolState:
    """See the module.

    Attributes:
        groups: the workers of each device.
        items: where every item is.
        deaths: see there.
        stopping: whether and why the pool stops.
        machine, gauge: the world: processes and time, and measured memory.
        next_sample: when memory is looked at again, monotonic seconds.
        decided_at: per device id, when its `Decision` was taken; none: decide afresh.
    """

    def __init__(
        self,
        plan: PoolPlan,
        tasks: Sequence[Task],
        groups: Sequence[DeviceWorkers],
        ledger: Ledger,
        events: EventSink,
        gauge: Gauge,
        machine: PoolMachine,
        signals: StopRequests,
    ) -> None:
        self.plan, self.groups, self.events, self.gauge, self.machine = plan, list(groups), events, gauge, machine
        self.stopping = StopState(signals, events, plan.grace_s, machine.now)
        self.items = ItemTracker(tasks, ledger, events, self.stopping, rules=plan.rules, now=machine.now)
        # Counted from here: what the kernel killed before was not ours.
        self.deaths = DeathRecord(oom_kills=gauge.oom_kills())
        self.began = machine.now()
        self.first_ready: float | None = None
        self.next_sample = 0.0
        self.last_serial = 0
        self.decided_at: dict[str, float] = {}

    @property
    def workers(self) -> list[WorkerHandle]:
        """Of all devices, those that are not gone."""
        return [worker for group in self.groups for worker in group.workers]

    @property
    def living(self) -> int:
        """Workers that load, rest or work, on all devices together."""
        return sum(len(group.living) for group in self.groups)

    def invalidate_decisions(self) -> None:
        """Something has changed: the next round decides afresh."""
        self.decided_at.clear()
