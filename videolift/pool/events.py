"""What a pool did, as it happens: a JSON-lines file, the log, and one plain progress line now and then.

An event is a dict with ``kind``, ``time`` (UTC, ISO 8601), ``t`` (seconds since the pool began) and fields of its own. Kinds:
started, spawned, ready, claimed, progress, resized (with the numbers behind the decision), gone (a worker's processes have ended),
fenced (a device is no longer used), stopping, finished; failed, oom, died, hung for one attempt; done and quarantined for an item's
outcome. `read_events` and `summarize_events` give `videolift status` what it shows. Nothing here decides anything.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from videolift.pool.sentences import event_sentence
from videolift.processes import ProcessName

_log = logging.getLogger("videolift.pool")

_LOUD = {"failed", "oom", "died", "hung", "fenced", "stopping", "quarantined", "leftover"}
_ENDS = {"done", "quarantined", "failed", "oom", "died", "hung"}
# A log file is read by people later; a terminal is watched.
_LINE_EVERY_S = 30.0
_LINE_EVERY_S_TERMINAL = 2.0
_PROGRESS_EVERY_S = 5.0
_RECENT_S = 900.0


class EventSink:
    """Takes the events of one run.

    Args:
        path: JSON-lines file to append to; None for none.
        name: what is worked on, for the progress line, e.g. the stage.
        stream: where the progress line goes; None for none.
    """

    def __init__(self, path: Path | None = None, *, name: str = "pool", stream: IO[str] | None = sys.stderr) -> None:
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        self._name, self._stream = name, stream
        self._terminal = stream is not None and stream.isatty()
        self._began = self._last_line = time.monotonic()
        self._last_progress: dict[str, float] = {}
        self.line_every_s = _LINE_EVERY_S_TERMINAL if self._terminal else _LINE_EVERY_S

    def emit(self, kind: str, **fields: Any) -> None:
        """Records one event; a full disk loses events, never work."""
        now = time.monotonic()
        if kind == "progress":
            # A video may report each frame: the file would grow by a hundred bytes per frame.
            if now - self._last_progress.get(fields["item"], float("-inf")) < _PROGRESS_EVERY_S:
                return
            self._last_progress[fields["item"]] = now
        elif kind in _ENDS:
            self._last_progress.pop(fields.get("item") or "", None)
        _log.log(
            logging.WARNING if kind in _LOUD else logging.DEBUG, "%s: %s", self._name, event_sentence({"kind": kind, **fields})
        )
        if self._file is not None:
            stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
            event = {"kind": kind, "time": stamp, "t": round(now - self._began, 3), **fields}
            try:
                self._file.write(json.dumps(event, ensure_ascii=False, default=str) + "\n")
                self._file.flush()
            except OSError as error:
                _log.warning("events are no longer written: %s", error)
                self._file = None

    def line(self, done: int, total: int, text: Callable[[], str], *, begun: float = 0.0, final: bool = False) -> None:
        """The progress line, at least every 30 s also when nobody looks: done of total, rate, time left, and ``text()``.

        ``begun`` is what of the items in work is already done, in items; long videos would else show nothing for hours.
        """
        now = time.monotonic()
        if self._stream is None or (now - self._last_line < self.line_every_s and not final):
            return
        # Also when nobody looks: a job's log is often all there is to see.
        self._last_line = now
        elapsed = now - self._began
        rate = (done + begun) / elapsed if elapsed > 0 else 0.0
        left = _duration((total - done - begun) / rate) if rate > 0 else "unknown"
        share = f" (+ {begun:.2f} in work)" if begun >= 0.005 else ""
        hourly = rate * 3600
        state = f"in {_duration(elapsed)}" if final else f"left {left}"
        end = "\n" if final or not self._terminal else "\r"
        try:
            self._stream.write(
                f"{self._name}: {done}/{total}{share}, {hourly:.{0 if hourly >= 10 else 1}f}/h, {state}, {text()}   {end}"
            )
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone; a closed stream raises ValueError
            self._stream = None

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a file, in order; an unfinished last line is left out, a missing file has none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    events = []
    # The writer may be in the middle of a line, or have died there.
    for line in text.splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


@dataclass
class PoolSummary:
    """Where a pool stands.

    Attributes:
        done, failed, total: items with an outcome, those of them that are not done, all items.
        workers: alive now, per device id.
        running: item key to (worker, done, total of its progress).
        decisions: the latest `resized` event per device id, with the numbers behind it.
        fenced: device id to why it is no longer used.
        troubles: the latest failures, oldest first.
        finished: the pool has ended.
        supervisor: names its process (`videolift.processes.ProcessName`), empty where the events do not say.
        last: UTC time of the last event.
    """

    done: int = 0
    failed: int = 0
    total: int = 0
    workers: dict[str, int] = field(default_factory=dict)
    running: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    fenced: dict[str, str] = field(default_factory=dict)
    troubles: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    supervisor: dict[str, Any] = field(default_factory=dict)
    last: str = ""


def pools_at_work(folder: Path) -> dict[str, PoolSummary]:
    """The pools that run now, by the name of their event file below ``folder``: not finished, and their supervisor lives.

    Whether one of another machine lives cannot be known; it counts when its file was written within the last quarter of an hour.
    """
    found = {}
    for path in sorted(folder.glob("*/*.events.jsonl")):
        state = summarize_events(read_events(path))
        if state.finished or not state.supervisor:
            continue
        alive = ProcessName(**state.supervisor).is_alive()
        if alive or (alive is None and time.time() - path.stat().st_mtime < _RECENT_S):
            found[f"{path.parent.name}/{path.name.removesuffix('.events.jsonl')}"] = state
    return found


def summary_lines(state: PoolSummary) -> list[str]:
    """A pool's state for people: where it stands, the numbers behind each device's workers, what runs, the latest trouble."""
    rows = [f"{state.done}/{state.total} items, {state.failed} quarantined" + (", ended" if state.finished else "")]
    for device, event in sorted(state.decisions.items()):
        figures = ", ".join(f"{name} {event[name]:g}" for name in _FIGURES if event.get(name))
        rows.append(
            f"{device}: {state.workers.get(device, 0)} workers alive, {event['busy']} may work ({event['reason']}); {figures}"
        )
    rows += [f"{device}: no longer used: {text.splitlines()[0]}" for device, text in sorted(state.fenced.items())]
    for item, (worker, done, of) in sorted(state.running.items()):
        rows.append(f"worker {worker}: {item}" + (f", {done}/{of}" if of else ""))
    if state.troubles:
        last = state.troubles[-1]
        rows.append(f"last trouble: {last['kind']} {last.get('item') or ''} {str(last.get('text') or ' ').splitlines()[0]}")
    return rows


_FIGURES = ("free_gib", "own_gib", "peak_gib", "host_free_gib", "host_peak_gib", "samples", "busy_share", "waiting")
_TROUBLES = {"failed", "oom", "died", "hung", "fenced", "quarantined", "leftover"}
_KEPT_TROUBLES = 20


def summarize_events(events: list[dict[str, Any]]) -> PoolSummary:
    """What the events of the last run in ``events`` come to."""
    state = PoolSummary()
    for event in events:
        kind, device, item = event["kind"], event.get("device", ""), event.get("item")
        if kind == "started":
            state = PoolSummary(total=event["items"], supervisor=event.get("supervisor") or {})
        elif kind == "spawned":
            state.workers[device] = state.workers.get(device, 0) + 1
        elif kind == "gone":
            state.workers[device] = max(0, state.workers.get(device, 0) - 1)
        elif kind == "claimed":
            state.running[str(item)] = (event["worker"], 0, 0)
        elif kind == "progress":
            state.running[str(item)] = (event["worker"], event["done"], event["of"])
        elif kind == "resized":
            state.decisions[device] = event
        elif kind == "fenced":
            state.fenced[device] = event["text"]
        elif kind == "finished":
            state.finished = True
        elif kind in ("done", "quarantined"):
            state.done += 1
            state.failed += kind == "quarantined"
        if kind in _ENDS:
            state.running.pop(str(item), None)
        if kind in _TROUBLES:
            state.troubles = [*state.troubles, event][-_KEPT_TROUBLES:]
        state.last = event["time"]
    return state
