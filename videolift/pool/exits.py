"""What happens when a worker ends: its tree is reaped, its item is charged or not, and it is forgotten once it is gone.

Blame is exact: only the claimed item, and not when it was already recorded, when we ended the worker ourselves for another
reason, or when all workers were killed within one moment. `decisions.policy` says what a charge means for the item.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from videolift.pool.decisions.policy import Circumstances, Task, WorkerDeath
from videolift.pool.device_workers import DeviceWorkers
from videolift.pool.interface import Outcome
from videolift.pool.pool_state import PoolState, UnjudgedExit
from videolift.pool.staffing import fence, note_load_failure
from videolift.pool.workers.handle import WorkerHandle, WorkerState

MAX_DEATHS_IN_A_ROW = 30
"""Workers that may die, each on an item new to it, without one item done in between; then something is wrong with all of them."""


def circumstances(state: PoolState, worker: WorkerHandle, group: DeviceWorkers, peak_bytes: int | None) -> Circumstances:
    """How the worker's attempt ran."""
    memory = group.measured()
    others = [w for w in group.living if w is not worker]
    cuda = group.device.kind == "cuda"
    return Circumstances(
        serial=worker.serial,
        shrinks=worker.shrinks,
        alone=worker.alone and not others,
        fresh=worker.items_done == 0,
        seconds=worker.busy_seconds,
        peak_bytes=peak_bytes,
        device=group.device.name,
        total_bytes=memory.total,
        free_bytes=memory.free,
        foreign_bytes=group.foreign_bytes if cuda else 0,
        usual_foreign_bytes=(group.usual_foreign_bytes or 0) if cuda else 0,
        now=state.machine.now(),
    )


def handle_exit(state: PoolState, worker: WorkerHandle, group: DeviceWorkers) -> None:
    """A worker's process has ended: reap its tree, and say whose fault it was."""
    before, task = worker.state, worker.take_task()
    # The mark in the environment is looked for while the pid is still ours: after the reaping it may be anybody's.
    how = worker.process.reap()
    worker.kill()
    state.machine.forget(worker.serial)
    if task is not None:
        _settle_item(state, worker, group, task, before=before, how=how)
    elif before == "loading" or (before == "killed" and worker.hung):
        state.deaths.in_a_row += 1
        note_load_failure(state, group, f"the worker {worker.hung or how}\n{worker.process.tail()}")
    elif before == "idle":
        state.deaths.in_a_row += 1
        state.events.emit("died", worker=worker.serial, device=group.device.id, item=None, text=how)
    _stop_if_hopeless(state)
    finish_cleanup(state, worker, group)


def reset_death_streak(state: PoolState) -> None:
    """An item was done, so not all workers are broken."""
    state.deaths.in_a_row = 0


def count_model_crash(state: PoolState, task: Task) -> None:
    """A process of the worker's own ended with an item, and the worker lived to say so."""
    state.deaths.in_a_row += task.crashes == 0
    _stop_if_hopeless(state)


def _stop_if_hopeless(state: PoolState) -> None:
    count = state.deaths.in_a_row
    if count >= MAX_DEATHS_IN_A_ROW:
        text = f"{count} workers died one after another without finishing an item; the logs are in {state.plan.log_folder}"
        state.stopping.request("backend", text, at_once=True)


def _settle_item(
    state: PoolState, worker: WorkerHandle, group: DeviceWorkers, task: Task, *, before: WorkerState, how: str
) -> None:
    # Asked first: a worker killed between publishing its result and saying so has done its item, whoever killed it.
    recorded = state.items.recorded(task)
    if recorded is not None:
        state.items.finish(task, recorded, worker)
        return
    stop = state.stopping.stop
    # Killed by us at the end of the grace, so the item stays to be done.
    if stop is not None and before == "killed" and not worker.hung and not worker.faulty:
        state.items.leave_pending(task, Outcome("transient", "interrupted", stop.text, attempts=task.crashes))
        return
    seen, now = circumstances(state, worker, group, worker.peak_bytes), state.machine.now()
    worker.taken_back |= group.lost is not None  # the card has vanished under it
    killed, tail = worker.process.exit_status == -signal.SIGKILL, worker.process.tail()
    # The kernel's counter is the machine's, not ours: somebody else's process may have been meant. Such a death is then
    # retried alone instead of charged, which errs on the item's side.
    kills_before, state.deaths.oom_kills = state.deaths.oom_kills, state.gauge.oom_kills()
    if worker.taken_back:
        death = WorkerDeath("taken_back", how)
    elif worker.hung:
        death = WorkerDeath("hang", worker.hung, tail)
    elif worker.stray:  # not simply taken back: an item whose code does this each time would be tried for ever
        death = WorkerDeath("excused", worker.stray, tail)
    elif worker.faulty:
        death = WorkerDeath("crash", worker.faulty, tail)
    else:
        death = WorkerDeath("oom_kill" if killed and state.deaths.oom_kills > kills_before else "crash", how, tail)
    if not worker.taken_back:
        state.events.emit(
            "died", worker=worker.serial, device=group.device.id, item=task.item.key, text=death.text, cause=death.cause
        )
    if death.cause == "crash":
        state.deaths.in_a_row += task.crashes == 0  # a second death on one item says more of the item than of the workers
        if killed and not worker.faulty:
            state.deaths.kill_times.append(now)
            state.deaths.unjudged.append(UnjudgedExit(task, death, seen, now))
            return
    if death.cause == "oom_kill" and not seen.alone:
        group.cap_workers(len(group.living))
    state.items.judge(task, death, seen)


def judge_exits(state: PoolState) -> None:
    """Once the moment has passed: if all workers were killed within it, it was the machine's doing and nobody is charged."""
    now, window = state.machine.now(), state.plan.timing.hiccup
    stopping = state.stopping.stop is not None
    due = [one for one in state.deaths.unjudged if now - one.at >= window or stopping]
    state.deaths.unjudged = [one for one in state.deaths.unjudged if one not in due]
    for one in due:
        together = sum(abs(t - one.at) <= window for t in state.deaths.kill_times)
        # One that began later was not there to be killed.
        survivors = any(w.living and w.spawned < one.at for w in state.workers)
        everybody = together >= 2 and not survivors
        state.items.judge(one.task, replace(one.death, cause="excused") if everybody else one.death, one.seen)
    # Kept for longer than one window: a death that is not judged yet is compared with those before it.
    state.deaths.kill_times = [t for t in state.deaths.kill_times if now - t < 4 * window]


def finish_cleanup(state: PoolState, worker: WorkerHandle, group: DeviceWorkers) -> None:
    """Forgets a killed worker once its tree has ended and its memory is free, or gives it up when that takes too long."""
    left = worker.process.leftovers()
    waited = state.machine.now() - worker.since
    if left and waited < state.plan.timing.kill:
        return
    # The driver frees a dead process's memory a moment after the process; a new worker would find the card full.
    if not left and waited < state.plan.timing.settle and _still_holds(worker, group):
        return
    if left:  # they survive SIGKILL, so they are blocked in the kernel: their card is no longer used
        text = f"processes {left} cannot be killed (blocked in the kernel?)"
        state.events.emit("leftover", worker=worker.serial, device=group.device.id, text=text)
        task = worker.take_task()
        if task is not None:
            death = WorkerDeath("hang", worker.hung or text, worker.process.tail())
            state.items.judge(task, death, circumstances(state, worker, group, worker.peak_bytes))
        if group.device.kind == "cuda":
            fence(state, group, text)
    elif _still_holds(worker, group):
        text = f"the driver still lists memory of worker {worker.serial}, whose processes have ended"
        state.events.emit("leftover", worker=worker.serial, device=group.device.id, text=text)
    state.machine.forget(worker.serial)
    group.workers.remove(worker)
    worker.forget()
    state.next_sample = 0.0  # memory has come free: the next decision must know
    state.invalidate_decisions()
    state.events.emit("gone", worker=worker.serial, device=group.device.id)


def _still_holds(worker: WorkerHandle, group: DeviceWorkers) -> bool:
    holders = group.holders()
    return any(pid in holders for pid in worker.process.pids)
