"""`run_pool`: items, a worker factory, devices and a ledger go in, one outcome per item comes out.

Checks what it was given, then hands over to the supervisor. Nothing is started before every item is known.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from videolift.pool import worker as child
from videolift.pool.crew import Crew
from videolift.pool.events import EventSink
from videolift.pool.figures import Figures
from videolift.pool.handle import Timing, pickled_factory
from videolift.pool.history import recall, record
from videolift.pool.memory import Gauge, SystemGauge
from videolift.pool.policy import Rules
from videolift.pool.queue import Task
from videolift.pool.signals import StopRequests
from videolift.pool.sizing import UNBOUNDED, SizingRules
from videolift.pool.staffing import Plan
from videolift.pool.supervisor import Supervisor
from videolift.pool.types import Device, Item, Ledger, PoolReport, Worker

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
    tasks = _tasks(items)
    if not devices:
        raise ValueError("run_pool was given no device: use find_devices or cpu_device")
    pickled = pickled_factory(factory)
    with ExitStack() as stack:
        signals = stack.enter_context(StopRequests())
        folder = log_folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="videolift-pool-")))
        folder.mkdir(parents=True, exist_ok=True)
        plan = _plan(pickled, environment, folder, settings, timing or Timing())
        figures: dict[str, Figures] = {}
        crews = [Crew(device, _slots(device), figures.setdefault(device.name, Figures())) for device in devices]
        if history is not None:
            for name, known in figures.items():
                recall(history, label, name, known)
        sink = events or EventSink(stream=None)
        report = Supervisor(plan, tasks, crews, ledger, sink, gauge or SystemGauge(), signals).run()
        if history is not None:
            record(history, label, figures, busy_share=all(device.kind == "cuda" for device in devices))
        return report


def _plan(
    factory: tuple[bytes, dict[str, Any]], environment: Mapping[str, str], log_folder: Path, settings: PoolSettings, timing: Timing
) -> Plan:
    return Plan(
        *factory,
        environment=environment,
        log_folder=log_folder,
        rules=Rules(settings.attempts, settings.allow_shrink, settings.transient_retries, settings.backoff_s),
        sizing=SizingRules(settings.margin, int(settings.reserve_gb * 2**30), settings.max_workers),
        load_timeout_s=settings.load_timeout_s,
        item_timeout_s=settings.item_timeout_s,
        grace_s=settings.grace_s,
        timing=timing,
    )


def _tasks(items: Iterable[Item]) -> list[Task]:
    tasks = [Task(item, crashes=item.attempts) for item in items]
    seen: set[str] = set()
    for task in tasks:
        if task.item.key in seen:
            raise ValueError(f"two items have the key {task.item.key!r}: keys must be unique")
        seen.add(task.item.key)
    return tasks


def _slots(device: Device) -> int:
    return UNBOUNDED if device.kind == "cuda" else max(1, device.cores // device.threads)
