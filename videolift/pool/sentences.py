"""Events for people: one sentence each, for the log and for people who watch a run."""

from __future__ import annotations

from collections.abc import Mapping

_SENTENCES = {
    "started": "starts with {items} to do",
    "spawned": "worker {worker} starts on {device}",
    "ready": "worker {worker} is ready on {device} after {seconds} s",
    "claimed": "{item} goes to worker {worker}, attempt {attempt}",
    "progress": "{item}: {done} of {of}",
    "gone": "worker {worker} has ended",
    "done": "{item} is done after {seconds} s",
    "quarantined": "{item} is quarantined: {text}",
    "failed": "{subject} failed: {text}",
    "oom": "{item} ran out of memory: {text}",
    "died": "{subject} died: {text}",
    "hung": "{item} hangs: {text}",
    "fenced": "{device} is no longer used: {text}",
    "leftover": "worker {worker} left processes behind: {text}",
    "finished": "ended after {seconds} s, {done} done",
}


def event_sentence(event: Mapping[str, object]) -> str:
    """One line about an event of a pool; long texts are cut at their first line."""
    kind = str(event.get("kind", ""))
    if kind == "stopping":
        why = str(event.get("text") or event.get("why") or "asked to").splitlines()[0]
        grace_s = event.get("grace_s")
        has_grace = isinstance(grace_s, (int, float)) and grace_s > 0
        return f"stopping: {why}" + (f"; running videos get {grace_s:g} s to save what they have" if has_grace else "")
    if kind == "resized":
        return f"{event.get('busy')} workers may work on {event.get('device')}: {event.get('reason')}"
    item, worker, device = event.get("item"), event.get("worker"), event.get("device")
    subject = item or (f"worker {worker}" if worker is not None else device) or "the pool"
    text = str(event.get("text") or "").strip().splitlines()
    known = {**event, "text": text[0] if text else "no reason was given", "subject": subject, "item": item or subject}
    return _SENTENCES.get(kind, kind).format_map(_Known(known))


class _Known(dict[str, object]):
    """An event written by another version may lack a field: it is left blank."""

    def __missing__(self, name: str) -> str:
        return "?"
