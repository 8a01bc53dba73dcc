"""The pool's one loop: looks around, acts, waits, hears what workers say; and leaves nothing behind.

Everything that decides is elsewhere and pure (`decisions`). The loop runs on the caller's main thread and never blocks on a worker.
"""

from __future__ import annotations

import time
from dataclasses import asdict

from videolift.pool.exits import judge_exits
from videolift.pool.inbox import hear
from videolift.pool.interface import PoolReport
from videolift.pool.pool_state import PoolState
from videolift.pool.staffing import fence, staff
from videolift.processes import this_process

_END_WITHIN_S = 10.0
"""Killed processes end at once, on a machine that is not busy."""
COST_OF_LOOKING = 0.02
"""Share of one core that may go into measuring memory."""


def supervise(state: PoolState) -> PoolReport:
    """Works until every item has an outcome or the pool is stopped; no process of ours is left when it returns or raises."""
    devices = [group.device.id for group in state.groups]
    state.events.emit("started", items=state.items.total, devices=devices, supervisor=asdict(this_process()))
    try:
        state.items.quarantine_exhausted()
        # Deaths not judged yet hold items that may have to be done again.
        while state.workers or state.deaths.unjudged or (state.stopping.stop is None and len(state.items.queue)):
            state.stopping.obey_signals()
            _look_around(state)
            # Before staffing: what is judged now can be given out in the same round.
            judge_exits(state)
            busy = any(group.busy for group in state.groups)
            if state.stopping.stop is None and (len(state.items.queue) or state.deaths.unjudged or busy):
                staff(state)
            else:
                for worker in state.workers:
                    if worker.state == "idle":
                        worker.tell_to_end()
                    elif worker.state == "loading":  # it reads no message before its model is loaded, minutes from now
                        worker.kill()
            begun = sum(worker.progress for worker in state.workers if worker.task is not None)
            state.events.line(len(state.items.outcomes), state.items.total, lambda: _state_text(state), begun=begun)
            plan, now, stop = state.plan, state.machine.now(), state.stopping.stop
            times = [now + plan.timing.tick, state.next_sample]
            times += [worker.deadline(plan.load_timeout_s, plan.item_timeout_s) for worker in state.workers]
            # Times that have passed wait for some other event: waking for them would make a busy loop.
            later = [group.spawn_not_before for group in state.groups] + [state.items.queue.next_time() or 0.0]
            later += [stop.deadline] if stop is not None else []
            times += [time_s for time_s in later if time_s > now]
            state.machine.wait(min(times) - now)
            for group in state.groups:
                for worker in list(group.workers):
                    hear(state, worker, group)
        state.items.release_claims(state.stopping.stop.text if state.stopping.stop else "")
    finally:
        _end_everything(state)
    stop, now, done = state.stopping.stop, state.machine.now(), len(state.items.outcomes)
    # A stop that came after the last outcome has stopped nothing; a signal is still a signal.
    if stop is not None and done == state.items.total and stop.why != "signal":
        stop = None
    report = PoolReport(
        outcomes=state.items.outcomes,
        stopped=stop.why if stop else None,
        signal=stop.signal if stop else None,
        text=stop.text if stop else "",
        ready_seconds=(state.first_ready or now) - state.began,
        seconds=now - state.began,
        workers={group.device.id: group.most for group in state.groups},
    )
    state.events.line(done, state.items.total, lambda: _state_text(state), final=True)
    state.events.emit("finished", stopped=report.stopped, text=report.text, done=done, seconds=round(report.seconds, 3))
    return report


def _look_around(state: PoolState) -> None:
    """Ends workers that are late, measures where it is time, and fences what is lost."""
    for group in state.groups:
        for worker in group.workers:
            # Killed ones are watched by `exits.finish_cleanup`, which gives them up when they do not end.
            if worker.state == "killed":
                continue
            late = worker.overdue(state.plan.load_timeout_s, state.plan.item_timeout_s)
            if late is not None and worker.state != "closing":
                worker.hung = late
                state.events.emit("hung", worker=worker.serial, device=group.device.id, item=worker.key, text=late)
            if late is None and (fault := worker.speech_fault()) is not None:
                worker.faulty = late = fault
            if late is not None or state.stopping.is_due:
                worker.kill()
    now = state.machine.now()
    if now >= state.next_sample:
        cpu_before = state.machine.cpu_seconds()
        for group in state.groups:
            group.sample()
            for worker in group.workers:
                worker.process.bound_log()
        # The kernel walks every page of a process to say its proportional set size: of a large one that takes long.
        cost_s = state.machine.cpu_seconds() - cpu_before
        state.next_sample = now + max(state.plan.timing.sample, cost_s / COST_OF_LOOKING)
    # After measuring, which is what notices, and before anybody is given work there.
    for group in state.groups:
        if group.lost is not None:
            fence(state, group, group.lost)


def _state_text(state: PoolState) -> str:
    parts = []
    for group in state.groups:
        reason = "fenced" if group.fenced else group.decision.reason if group.decision else "starting"
        parts.append(f"{group.device.id}: {len(group.living)} workers ({reason})")
    return ", ".join(parts) + (f", {state.items.quarantined} quarantined" if state.items.quarantined else "")


def _end_everything(state: PoolState) -> None:
    """Whatever happened, no process of ours outlives the run."""
    left = state.workers
    for worker in left:
        worker.kill()
    # Real time, whatever clock the machine has: this must end, also after an exception.
    give_up = time.monotonic() + _END_WITHIN_S
    while left and time.monotonic() < give_up:
        for worker in left:
            if worker.process.exit_status is None and worker.process.has_ended():
                worker.process.reap()
        left = [worker for worker in left if worker.process.exit_status is None or worker.process.leftovers()]
        if left:
            time.sleep(0.01)
    for group in state.groups:
        for worker in group.workers:
            state.machine.forget(worker.serial)
            worker.forget()
        group.workers.clear()
