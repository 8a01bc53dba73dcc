"""Starts, feeds and ends workers as sizing decides, spread over the devices, and fences a device on which nothing will load.

The one place where workers begin. It judges no item.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from videolift.errors import Transient, storage_errors_are_transient
from videolift.pool.decisions.sizing import Decision
from videolift.pool.device_workers import DeviceWorkers
from videolift.pool.pool_state import PoolState
from videolift.pool.workers.handle import WorkerHandle

MAX_LOAD_FAILURES = 3
"""Loads that may fail in a row on a device before it is fenced."""
_LONGEST_WAIT_S = 60.0
"""Between two loads on a device that others hold: what they give back is seen within a minute."""
_DECIDE_EVERY_S = 0.05
"""Workers' messages wake the loop far more often than this, and each decision sorts up to 200 peaks."""


def staff(state: PoolState) -> None:
    """One round: how many workers each device should have, who ends, who gets an item, who begins."""
    used = [group for group in state.groups if group.fenced is None]
    decisions = {group.device.id: _decision(state, group) for group in used}
    living = [(worker, group) for group in state.groups for worker in group.living]
    # The machine is about to run out of memory: the youngest goes, and what it was doing is done again later. One must stay, or
    # nothing is ever done; and nothing is decided on memory of a killed one, which is about to come free.
    critical = any(decision.give_up for decision in decisions.values())
    if critical and len(living) > 1 and not any(worker.state == "killed" for worker in state.workers):
        youngest, group = max(living, key=lambda pair: pair[0].serial)
        group.cap_workers(len(group.living) - 1)
        youngest.taken_back = True
        text = "host memory is about to run out: its youngest worker was ended"
        state.events.emit(
            "failed", worker=youngest.serial, device=group.device.id, code="host_memory", text=text, item=youngest.key
        )
        youngest.kill()
    for group in used:
        # The youngest of those that rest. Loading ones are not counted: a ready worker is not given up for one of them.
        idle = sorted((w for w in group.workers if w.state == "idle"), key=lambda w: -w.serial)
        for worker in idle[: max(0, len(idle) + group.busy - decisions[group.device.id].keep)]:
            worker.tell_to_end()
    # Fed before others begin: a worker that could take an item must not be counted as lacking.
    _feed(state, used, decisions)
    _start_workers(state, used, decisions)
    for group in used:
        group.most = max(group.most, len(group.living))


def _decision(state: PoolState, group: DeviceWorkers) -> Decision:
    now, before = state.machine.now(), group.decision
    if before is not None and now - state.decided_at.get(group.device.id, float("-inf")) < _DECIDE_EVERY_S:
        return before
    state.decided_at[group.device.id] = now
    decision = state.plan.decide(group.snapshot(state.items.queue, state.living), state.plan.sizing)
    group.decision = decision
    if before is None or (before.busy, before.start, before.reason) != (decision.busy, decision.start, decision.reason):
        state.events.emit(
            "resized",
            device=group.device.id,
            workers=decision.start,
            busy=decision.busy,
            reason=decision.reason,
            now=len(group.living),
            **decision.figures,
        )
    return decision


def soonest_done(groups: Iterable[DeviceWorkers], workers: dict[str, int]) -> DeviceWorkers:
    """The device on which one more worker would be done with an item first; the first of equals.

    Without this the first card takes all of a small set, while the others stand idle. Where one device's speed is not known yet,
    the numbers of workers alone are compared.

    Args:
        groups: to choose from.
        workers: how many there are now, per device id.
    """
    choices = list(groups)
    seconds = [group.seconds_beside(workers[group.device.id] + 1) for group in choices]
    known = [one for one in seconds if one is not None]
    costs = known if len(known) == len(choices) else [float(workers[group.device.id]) for group in choices]
    # of equal cost, e.g. below saturation, the device with fewer workers
    return min(zip(costs, choices, strict=True), key=lambda pair: (pair[0], workers[pair[1].device.id]))[1]


def _feed(state: PoolState, groups: list[DeviceWorkers], decisions: dict[str, Decision]) -> None:
    resting = {group.device.id: [w for w in group.workers if w.state == "idle"] for group in groups}
    others = state.living > 1
    while state.items.queue.shared:
        open_groups = [g for g in groups if resting[g.device.id] and g.busy < decisions[g.device.id].busy]
        if not open_groups:
            break
        group = soonest_done(open_groups, {g.device.id: g.busy for g in open_groups})
        worker = resting[group.device.id].pop(0)
        # None where what waits backs off, or has failed on this very worker.
        task = state.items.queue.take(worker.serial, state.machine.now(), others=others)
        if task is not None:
            group.note_company()
            if state.items.claim(task, worker, alone=len(group.living) == 1):
                group.item_started(worker)
    # Last, the tasks that need a device to themselves: the others on it are sent away first.
    for group in groups:
        if (
            state.items.queue.shared
            or not state.items.queue.alone
            or group.busy
            or any(w.state == "loading" for w in group.workers)
        ):
            continue
        # The one that has done least stays: in a process that has worked before, fragments take memory too.
        idle = sorted((w for w in group.workers if w.state == "idle"), key=lambda w: w.items_done)
        for worker in idle[1:]:
            worker.tell_to_end()
        if len(group.workers) == 1 and idle:
            task = state.items.queue.take_alone(idle[0].serial, state.machine.now())
            if task is not None and state.items.claim(task, idle[0], alone=True):
                group.item_started(idle[0])


def _start_workers(state: PoolState, groups: list[DeviceWorkers], decisions: dict[str, Decision]) -> None:
    def wants_worker(group: DeviceWorkers) -> bool:
        decision, queue = decisions[group.device.id], state.items.queue
        if group.fenced is not None or state.machine.now() < group.spawn_not_before:
            return False
        if any(w.state == "killed" for w in group.workers):
            return False  # its memory is not yet proven free
        loading = sum(w.state == "loading" for w in group.living)
        if len(group.living) >= decision.start or loading >= decision.loads_at_once:
            return False
        if not queue.shared:
            return bool(queue.alone) and not group.workers
        # Workers that are free or soon will be, on any device: with one for each item, another would find nothing to do.
        unused = sum(w.state in ("loading", "idle") for g in state.groups if g.fenced is None for w in g.living)
        return unused < queue.shared

    while state.stopping.stop is None:
        wanting = [group for group in groups if wants_worker(group)]
        if not wanting:
            return
        group = soonest_done(wanting, {g.device.id: len(g.living) for g in wanting})
        try:
            with storage_errors_are_transient("starting a worker"):
                state.last_serial += 1
                serial, device = state.last_serial, group.device
                if device.kind == "cpu":  # its cores are divided by how many workers it will probably have
                    expected = group.decision.start if group.decision is not None and group.figures.samples else group.slots
                    most = min(group.slots, state.items.total, state.plan.sizing.max_workers or group.slots, expected)
                    device = replace(device, threads=max(device.threads, device.cores // max(1, most)))
                process = state.machine.start_worker(serial, device)
                group.workers.append(WorkerHandle(serial, device, process, state.plan.timing, state.machine.now))
                state.events.emit("spawned", worker=serial, device=device.id, pid=process.pid, log=f"worker-{serial:04d}.log")
        except Transient as error:
            state.stopping.request("transient", str(error))
        except OSError as error:  # out of processes, descriptors or memory: as if it had not loaded
            note_load_failure(state, group, f"no process can be started: {error}")
            return


def note_load_failure(
    state: PoolState, group: DeviceWorkers, text: str, *, hopeless: bool = False, out_of_memory: bool = False
) -> None:
    """A worker did not get ready: with others at work the device stays as it is, else it has few tries.

    More of them where memory ran out and somebody else, e.g. the pool of another stage, holds a good part of it: that comes back.
    """
    others = [w for w in group.living if w.state != "loading"]
    state.events.emit("failed", device=group.device.id, text=f"loading failed: {text}", code="load")
    if others:
        group.cap_workers(len(others))
        return
    now = state.machine.now()
    if group.load_failures == 0:
        group.first_load_failure = now
    group.load_failures += 1
    # Others may hold the card or the file for a moment; three failures at once would fence it for that.
    wait_s = min(_LONGEST_WAIT_S, state.plan.rules.backoff_s * 2 ** (group.load_failures - 1))
    group.spawn_not_before = now + wait_s
    waits_for_others = out_of_memory and group.held_by_others and now - group.first_load_failure < state.plan.load_timeout_s
    if hopeless or (group.load_failures >= MAX_LOAD_FAILURES and not waits_for_others):
        fence(state, group, (f"out of memory while loading{group.held_by_others}: " if out_of_memory else "") + text)


def fence(state: PoolState, group: DeviceWorkers, text: str) -> None:
    """Nothing more is started on this device; without any device left the pool stops."""
    if group.fenced is not None:
        return
    group.fenced = text
    state.events.emit("fenced", device=group.device.id, name=group.device.name, text=text)
    # Their items did no wrong, and a context on a lost card can block for minutes.
    for worker in group.living:
        worker.taken_back = True
        worker.kill()
    if all(g.fenced is not None for g in state.groups):
        reasons = "; ".join(f"{g.device.name} ({g.device.id}): {g.fenced}" for g in state.groups)
        state.stopping.request("backend", reasons, at_once=True)
