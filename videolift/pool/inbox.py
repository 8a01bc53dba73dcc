"""What workers say, and what follows for the pool's state.

A message is believed only where it fits what its worker was given: user code can fork, and the copy would answer for an
earlier item. What does not fit is ignored, and its sender ended; the item that it has now is not charged the first two times.
"""

from __future__ import annotations

import pickle
from dataclasses import replace

from videolift.pool import exits
from videolift.pool.decisions.policy import in_context
from videolift.pool.device_workers import DeviceWorkers
from videolift.pool.interface import Outcome
from videolift.pool.pool_state import PoolState
from videolift.pool.staffing import fence, note_load_failure
from videolift.pool.workers.handle import WorkerHandle
from videolift.pool.workers.messages import AttemptFailed, ItemDone, ItemProgress, WorkerReady


def hear(state: PoolState, worker: WorkerHandle, group: DeviceWorkers) -> None:
    """Everything that has happened to a worker since the last round: first its messages, then its end."""
    # Asked before reading: a worker that has ended by now has sent all that it will, so nothing said is lost.
    ended = worker.process.exit_status is None and worker.process.has_ended()
    if worker.process.is_open:
        for message in worker.process.receive():
            if isinstance(message, WorkerReady):
                if worker.state == "loading":  # a copy of it, made by a fork, may say so again
                    worker.shrinks = message.shrinks
                    worker.enter("idle")
                    group.worker_loaded(worker)
                    now = state.machine.now()
                    state.first_ready = state.first_ready or now
                    state.invalidate_decisions()
                    seconds = round(now - worker.spawned, 3)
                    state.events.emit("ready", worker=worker.serial, device=group.device.id, seconds=seconds)
            elif isinstance(message, AttemptFailed) and not message.claim:
                worker.kill()
                text = message.text + (f"\n{message.traceback}" if message.kind == "error" else "")
                hopeless = message.device_lost or message.kind == "backend"
                note_load_failure(state, group, text, hopeless=hopeless, out_of_memory=message.kind == "oom")
            elif message.claim != worker.claim or (not isinstance(message, ItemProgress) and message.key != worker.key):
                # Progress of a thread that outlived its item, or of a worker that is ended already, is no fault.
                if not isinstance(message, ItemProgress) and worker.living:
                    text = "answered for an item that it was not given; was it forked?"
                    state.events.emit(
                        "failed", worker=worker.serial, device=group.device.id, code="stray", text=text, item=worker.key
                    )
                    worker.stray = text
                    worker.kill()
            elif isinstance(message, ItemProgress):
                worker.last_sign = state.machine.now()
                worker.progress = min(1.0, max(0.0, message.done / message.total)) if message.total > 0 else 0.0
                state.events.emit("progress", worker=worker.serial, item=worker.key, done=message.done, of=message.total)
            elif isinstance(message, ItemDone):
                _on_done(state, message, worker, group)
            else:
                _on_failed(state, message, worker, group)
    if ended:
        state.invalidate_decisions()
        exits.handle_exit(state, worker, group)
    elif worker.state == "killed":
        exits.finish_cleanup(state, worker, group)


def _on_done(state: PoolState, message: ItemDone, worker: WorkerHandle, group: DeviceWorkers) -> None:
    shrink, task = worker.shrink, worker.task
    if task is None:
        return
    # Before the worker's state changes: the item's company includes itself.
    group.note_company()
    seconds = worker.busy_seconds
    peak = group.item_ended(worker, task.size, message.peak_rss_bytes)
    worker.take_task()
    worker.items_done += 1
    group.item_done(worker, task.size)
    if worker.state == "busy":
        worker.enter("idle")
        if group.is_leaking(worker, message.rest_rss_bytes):
            worker.tell_to_end()
    exits.reset_death_streak(state)
    try:
        value = pickle.loads(message.value)
    except BaseException as error:  # noqa: BLE001  unpickling a user's class may even exit; it concerns this item alone
        text = f"its result cannot be read in the supervisor: {error}"
        outcome = Outcome("error", type(error).__name__, text, seconds=seconds)
    else:
        outcome = Outcome("done", value=value, seconds=seconds, peak_bytes=peak, attempts=task.crashes + 1, shrink=shrink)
    state.items.finish(task, outcome, worker)


def _on_failed(state: PoolState, message: AttemptFailed, worker: WorkerHandle, group: DeviceWorkers) -> None:
    task = worker.task
    if task is None:
        return
    group.note_company()
    peak = group.item_ended(worker, task.size, message.peak_rss_bytes)
    seen = exits.circumstances(state, worker, group, peak)
    failure = in_context(message, seen)
    if group.lost is not None:  # the driver has just said so: whatever was raised, the card is why
        failure = replace(failure, kind="backend", device_lost=True, text=group.lost)
    worker.take_task()
    worker.items_done += 1
    out_of_memory = failure.kind == "oom"
    fields = {"worker": worker.serial, "device": group.device.id, "item": task.item.key, "peak_bytes": seen.peak_bytes}
    state.events.emit("oom" if out_of_memory else "failed", code=failure.code, text=failure.text, **fields)
    if out_of_memory and not seen.alone:
        group.cap_workers(group.busy)
    # After out of memory as well: what the allocator keeps of the failed attempt is lost to everybody.
    if failure.poisoned or out_of_memory or failure.kind == "backend":
        worker.kill()
    elif worker.state == "busy":
        worker.enter("idle")
    if failure.kind == "crash":
        exits.count_model_crash(state, task)
    if failure.device_lost:
        fence(state, group, failure.text)
    state.invalidate_decisions()
    state.items.judge(task, failure, seen)
