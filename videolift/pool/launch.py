"""`run_pool`: items, a worker factory, devices and a ledger go in, one outcome per item comes out.

Checks what it was given, then hands over to the supervisor. Nothing is started before every item is known.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from videolift.pool.decisions.figures import WorkerFigures, load_figures, save_figures
from videolift.pool.decisions.policy import RetryRules, Task
from videolift.pool.decisions.sizing import UNBOUNDED, SizingRules
from videolift.pool.device_workers import DeviceWorkers
from videolift.pool.events import EventSink
from videolift.pool.interface import Device, Item, Ledger, PoolReport, Worker
from videolift.pool.memory import Gauge, SystemGauge
from videolift.pool.pool_state import PoolPlan, PoolState
from videolift.pool.stopping import StopRequests
from videolift.pool.supervisor import supervise
from videolift.pool.workers import child
from videolift.pool.workers.child import IN_WORKER
from videolift.pool.workers.handle import Timing
from videolift.pool.workers.machine import LocalMachine
from videolift.pool.workers.reaper import OrphanReaper
from videolift.pool.workers.worker_process import pickled_factory

if TYPE_CHECKING:  # workers import this package too, and need no pydantic for it
    from videolift.config import PoolSettings


def run_pool(
    factory: Callable[[], Worker],
    items: Iterable[Item],
    *,
    devices: Sequence[Device],
    settings: PoolSettings,
    ledger: Ledger,
    events: EventSink | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    log_folder: Path | None = None,
    history: Path | None = None,
    label: str = "",
    gauge: Gauge | None = None,
    timing: Timing | None = None,
) -> PoolReport:
    """Works on every item, each in one of several worker processes, and says what became of each.

    Must be called on the main thread (workers die with the thread that started them). SIGINT, SIGTERM, SIGUSR1 and SIGHUP are taken
    over for the time of the call: the first stops claiming and gives running items ``settings.grace_s``, the second ends
    everything within 3 s; both show in `PoolReport.stopped` and `PoolReport.signal`, nothing is raised.

    Args:
        factory: makes the `Worker` in the child; a function or class at the top of a module, or functools.partial of one.
        items: read to the end before anything starts; unique keys.
        devices: from `find_devices` or `cpu_device`; at least one.
        settings: see `PoolSettings`.
        ledger: told of every claim before work starts, and of every outcome.
        events: where events go; they are closed by whoever made them.
        environment: variables set for the workers, stronger than ours.
        log_folder: receives ``worker-NNNN.log`` with all that a worker prints; None: a temporary folder, removed at the end.
        history: a small file that remembers memory and speed between runs; None: nothing is remembered.
        label: what the figures in it depend on besides the device: backend, version, resolution.
        gauge: what measures memory.
        timing: delays, for tests.

    Raises:
        ValueError: two items with one key, or no device.
        TypeError: the factory cannot be sent to a new process.
        RuntimeError: not on the main thread, or called again by a worker that imports a script without a ``__main__`` guard.
        Exception: whatever ``items`` or ``ledger`` raise (but `Transient`, which stops politely); no worker lives on.
    """
    if child.importing_the_users_script:
        raise RuntimeError('run_pool was reached while a worker imported the script: put the call under if __name__ == "__main__":')
    # All items first: an iterator that breaks midway must not leave workers, and the longest must be known.
    tasks = [Task(item, crashes=item.attempts) for item in items]
    seen: set[str] = set()
    for task in tasks:
        if task.item.key in seen:
            raise ValueError(f"two items have the key {task.item.key!r}: keys must be unique")
        seen.add(task.item.key)
    if not devices:
        raise ValueError("run_pool was given no device: use find_devices or cpu_device")
    body, preparation = pickled_factory(factory)
    timing, gauge = timing or Timing(), gauge or SystemGauge()
    with ExitStack() as stack:
        signals = stack.enter_context(StopRequests())
        temporary = None if log_folder else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="videolift-pool-")))
        folder = log_folder or temporary or Path()
        folder.mkdir(parents=True, exist_ok=True)
        machine = stack.enter_context(
            LocalMachine(body, preparation, environment, folder, progress_every_s=timing.progress, signals=signals)
        )
        stack.enter_context(OrphanReaper(IN_WORKER, machine.mark, temporary))
        # By name: cards of one kind share what is learnt, so that the second needs no probe of its own.
        figures: dict[str, WorkerFigures] = {}
        groups = []
        for device in devices:
            slots = UNBOUNDED if device.kind == "cuda" else max(1, device.cores // device.threads)
            known = figures.setdefault(device.name, WorkerFigures())
            groups.append(DeviceWorkers(device, slots, known, gauge=gauge, now=machine.now))
        if history is not None:
            for name, known in figures.items():
                load_figures(history, label, name, known)
        plan = PoolPlan(
            rules=RetryRules(settings.attempts, settings.allow_shrink, settings.transient_retries, settings.backoff_s),
            sizing=SizingRules(settings.margin, int(settings.reserve_gb * 2**30), settings.max_workers),
            load_timeout_s=settings.load_timeout_s,
            item_timeout_s=settings.item_timeout_s,
            grace_s=settings.grace_s,
            timing=timing,
            log_folder=folder,
        )
        sink = events or EventSink(stream=None)
        state = PoolState(plan, tasks, groups, ledger=ledger, events=sink, gauge=gauge, machine=machine, signals=signals)
        report = supervise(state)
        if history is not None:
            save_figures(history, label, figures, busy_share=all(device.kind == "cuda" for device in devices))
        return report
