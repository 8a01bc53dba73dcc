"""The journal of one stage and batch: what became of each video, as lines that are only ever appended.

Turns claims, crashes, receipts and lifted quarantines into one file per batch, and that file back into a `VideoRecord` per video.
Each line carries its checksum, so a torn or flipped line is dropped and every other one counts. Whoever takes the batch's lease
rewrites the journal in short under the next number and appends to that file alone; lines that a former holder still writes go
to a file that nobody reads. Decides nothing: `videolift.records.freshness` judges what a receipt is worth.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from videolift.errors import CorruptFile, storage_errors_are_transient
from videolift.fast_json import parse_json
from videolift.processes import ProcessName, this_process
from videolift.records.receipts import Receipt, receipt_from_json, receipt_to_json
from videolift.store import atomic_file

JOURNAL_FORMAT = "videolift.journal/1"
_NAME = re.compile(r"(?P<batch>[a-z0-9]+)\.(?P<number>\d{6})\.jsonl")
_CHECKSUM_DIGITS = 8
DEATHS_PER_CRASH = 2
"""With `pool.attempts` of 3 a video that takes its run with it each time ends after seven runs, and one that is preempted again
and again goes on as long as each run saves a segment."""


@dataclass(frozen=True)
class OpenClaim:
    """An attempt that was begun and has not ended.

    Attributes:
        fingerprint: of the work; a claim of other work says nothing about this one.
        attempt: its number, from 1: the attempts already charged, plus one.
        progress: how much of the work was saved when it began; only to be compared with a later figure.
    """

    fingerprint: str
    attempt: int
    progress: int = 0


@dataclass(frozen=True)
class Blame:
    """What earlier attempts hold against a video.

    Attributes:
        fingerprint: of the work that they were of.
        crashes: attempts charged to it.
        deaths: runs that died as a whole while it was in work, one after the other and without progress.
    """

    fingerprint: str
    crashes: int = 0
    deaths: int = 0


@dataclass(frozen=True)
class VideoRecord:
    """What a journal says of one video.

    Attributes:
        receipt: how its work ended last; None before that.
        claim: the attempt under way, or the one that its run's death cut off.
        blame: None where nothing is held against it.
        verified_sha256: content of its artifact that was read again from the disk and found right.
        released: in the packaging stage: stage to the content of its artifact that was deleted, since nothing was left to read it.
        is_lifted: a person threw the record away, so nothing that other files say of the work brings it back.
    """

    receipt: Receipt | None = None
    claim: OpenClaim | None = None
    blame: Blame | None = None
    verified_sha256: str = ""
    released: Mapping[str, str] = field(default_factory=dict)
    is_lifted: bool = False

    @property
    def is_lost(self) -> bool:
        """True if the journal does not say how the video ended and nobody threw that away, so that what other files say counts."""
        return self.receipt is None and not self.is_lifted

    def crashes_for(self, fingerprint: str) -> int:
        """Attempts charged to this very work."""
        return self.blame.crashes if self.blame is not None and self.blame.fingerprint == fingerprint else 0

    def is_suspect(self, fingerprint: str) -> bool:
        """True if a run died while it was at this very work: it is to be done last and alone."""
        return self.blame is not None and self.blame.fingerprint == fingerprint and self.blame.deaths > 0

    def after(self, event: Mapping[str, Any]) -> VideoRecord:
        """The record once ``event`` has happened."""
        kind = event["event"]
        if kind == "claimed":
            return replace(self, claim=OpenClaim(event["fingerprint"], event["attempt"], event["progress"]))
        if kind == "blamed":
            return replace(self, claim=None, blame=Blame(event["fingerprint"], event["crashes"], event["deaths"]))
        if kind == "unclaimed":
            return replace(self, claim=None)
        if kind == "receipt":
            # Work that ended, well or not, clears what was held against its video.
            receipt = receipt_from_json(event["receipt"])
            return VideoRecord(receipt, verified_sha256=self.verified_sha256, released=self.released)
        if kind == "verified":
            return replace(self, verified_sha256=event["sha256"])
        if kind == "released":
            return replace(self, released=dict(event["artifacts"]))
        if kind == "lifted":
            return VideoRecord(is_lifted=True)
        raise ValueError(f"a journal has no event {kind!r}")

    def after_death_of_run(self, progress: int) -> VideoRecord:
        """The record once its whole run is known to have died.

        A run dies of a power cut, of preemption, or because a video filled the memory; nobody can say which of several videos in
        work that was. So each is suspected, and worked on last and alone. Only deaths that go on while it is alone, without any
        progress, count against it, and `DEATHS_PER_CRASH` of them as one crash: even then the next signal may have been chance.

        Args:
            progress: how much of its work is saved now.
        """
        if self.claim is None:
            return self
        deaths = 1 if progress > self.claim.progress else self.deaths_at(self.claim) + 1
        is_charged = deaths > 1 and (deaths - 1) % DEATHS_PER_CRASH == 0
        return replace(self, claim=None, blame=Blame(self.claim.fingerprint, self.claim.attempt - 1 + is_charged, deaths))

    def deaths_at(self, claim: OpenClaim) -> int:
        """Deaths of whole runs counted against the work of ``claim``."""
        return self.blame.deaths if self.blame is not None and self.blame.fingerprint == claim.fingerprint else 0

    def events(self, video: str) -> Iterator[dict[str, Any]]:
        """The fewest events that lead to this record."""
        if self.is_lifted:
            yield {"event": "lifted", "video": video}
        if self.receipt is not None:
            yield {"event": "receipt", "video": video, "receipt": receipt_to_json(self.receipt)}
        if self.verified_sha256:
            yield {"event": "verified", "video": video, "sha256": self.verified_sha256}
        if self.released:
            yield {"event": "released", "video": video, "artifacts": dict(self.released)}
        if self.blame is not None:
            yield {"event": "blamed", "video": video, **vars(self.blame)}
        if self.claim is not None:
            yield {"event": "claimed", "video": video, **vars(self.claim)}


@dataclass(frozen=True)
class JournalContent:
    """A journal as read from the disk.

    Attributes:
        path: its file.
        number: rises with every holder of the lease.
        holder: the process that wrote it; None where the first line is damaged.
        records: by video id.
        damaged: numbers, from 1, of lines that do not match their checksum. A torn last line is what every kill leaves, and not
            among them.
    """

    path: Path
    number: int
    holder: ProcessName | None
    records: Mapping[str, VideoRecord]
    damaged: tuple[int, ...] = ()


def read_journal(folder: Path, batch: str) -> JournalContent | None:
    """The newest journal of a batch; None where there is none.

    Args:
        folder: of one stage's journals.

    Raises:
        CorruptFile: written by a newer videolift; nothing may be made anew over it.
    """
    numbers = journal_numbers(folder).get(batch, ())
    if not numbers:
        return None
    path = _path(folder, batch, numbers[-1])
    *lines, _ = path.read_bytes().split(
        b"\n"
    )  # a last line without its end was torn by a kill: what it was about to record did not happen
    head: dict[str, Any] = {}
    with suppress(ValueError):
        head = _parse(lines[0]) if lines else {}
    # Refused rather than read in part: what a newer videolift has written would be made anew over it.
    if head.get("format", JOURNAL_FORMAT) != JOURNAL_FORMAT:
        raise CorruptFile(
            f"{path}: its format is {head['format']!r}, this videolift reads {JOURNAL_FORMAT!r}: "
            "update videolift, or use another output folder"
        )
    # Who wrote it stays None where its first line is damaged or lost.
    holder = None
    with suppress(KeyError, TypeError):
        holder = ProcessName(**head["holder"])
    records: dict[str, VideoRecord] = {}
    damaged = [] if holder is not None else [1]
    for line_number, line in enumerate(lines, 1):
        if line_number == 1 and holder is not None:
            continue
        try:
            # Where the head itself is lost, the first line is an event like any other.
            event = _parse(line)
            video = event["video"]
            records[video] = records.get(video, VideoRecord()).after(event)
        except (ValueError, KeyError, TypeError, CorruptFile):
            damaged.append(line_number)
    return JournalContent(path, numbers[-1], holder, records=records, damaged=tuple(sorted(set(damaged))))


def journal_numbers(folder: Path) -> dict[str, list[int]]:
    """Numbers of the journals there are, rising, by batch; one listing of the folder."""
    found: dict[str, list[int]] = {}
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return found
    for match in filter(None, map(_NAME.fullmatch, names)):
        found.setdefault(match["batch"], []).append(int(match["number"]))
    for numbers in found.values():
        numbers.sort()
    return found


class Journal:
    """A journal being written by the holder of its batch's lease; a context manager that closes it.

    Attributes:
        path: its file.
        records: what it says so far, by video id.
        damaged: line numbers that were dropped when it was taken over.
    """

    def __init__(self, path: Path, records: Mapping[str, VideoRecord], damaged: tuple[int, ...] = ()) -> None:
        self.path, self.damaged = path, damaged
        self._records = dict(records)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)

    @property
    def records(self) -> Mapping[str, VideoRecord]:
        """What the journal says so far."""
        return self._records

    @classmethod
    def take_over(
        cls,
        folder: Path,
        batch: str,
        *,
        handed_over: Iterable[Receipt] = (),
        progress: Callable[[str, str], int] = lambda video, fingerprint: 0,
    ) -> Journal:
        """Starts the next journal of a batch with what the last one says; call it only while holding the batch's lease.

        Args:
            folder: of one stage's journals.
            handed_over: receipts from elsewhere (an import, a folder made by an older videolift); they go before the journal.
            progress: how much of a video's work is saved, by video and fingerprint; asked for those that a dead run was at.

        Raises:
            CorruptFile: written by a newer videolift.
            Transient: disk full, quota or I/O error.
        """
        with storage_errors_are_transient(f"reading the journal of batch {batch}"):
            before = read_journal(folder, batch)
        records = dict(before.records) if before is not None else {}
        for video, record in list(records.items()):
            if before is None or record.claim is None:
                continue
            # A reboot, or a power cut, says nothing of the video: only a run that died by itself casts suspicion.
            if before.holder is not None and before.holder.died_with_its_machine:
                records[video] = replace(record, claim=None)
            else:
                records[video] = record.after_death_of_run(progress(video, record.claim.fingerprint))
        # What was handed over was made elsewhere since, so it replaces what is recorded.
        records |= {receipt.video: VideoRecord(receipt) for receipt in handed_over}
        path = _path(folder, batch, before.number + 1 if before else 0)
        head = {"format": JOURNAL_FORMAT, "holder": vars(this_process())}
        events = (event for video, record in sorted(records.items()) for event in record.events(video))
        with atomic_file(path) as temporary:
            temporary.write_bytes(b"".join(map(_line, [head, *events])))
        # The new file is on the disk before the old ones go: a kill in between leaves both, and the higher number counts.
        for number in journal_numbers(folder)[batch][:-1]:
            _path(folder, batch, number).unlink(missing_ok=True)
        return cls(path, records, before.damaged if before else ())

    def claim(self, video: str, claim: OpenClaim) -> None:
        """Says that an attempt begins; before anything of it is done."""
        self._append({"event": "claimed", "video": video, **vars(claim)}, durable=False)

    def release(self, video: str, crashes: int) -> None:
        """Says that an attempt ended without an outcome; ``crashes`` are charged to the video so far, 0 for most."""
        claim = self._records.get(video, VideoRecord()).claim
        if claim is not None and crashes:
            deaths = self._records[video].deaths_at(claim)
            self._append({"event": "blamed", "video": video, **vars(Blame(claim.fingerprint, crashes, deaths))})
        elif claim is not None:
            self._append({"event": "unclaimed", "video": video}, durable=False)

    def write(self, receipt: Receipt) -> None:
        """Says how a video's work ended. It is on the disk when this returns."""
        self._append({"event": "receipt", "video": receipt.video, "receipt": receipt_to_json(receipt)})

    def verified(self, video: str, sha256: str) -> None:
        """Says that a video's artifact was read again from the disk and found right."""
        self._append({"event": "verified", "video": video, "sha256": sha256}, durable=False)

    def released(self, video: str, artifacts: Mapping[str, str]) -> None:
        """Says which artifacts of a video are let go of, by stage and content; before they are deleted."""
        self._append({"event": "released", "video": video, "artifacts": dict(artifacts)})

    def lift(self, video: str) -> None:
        """Throws away what became of a video: its next run starts afresh."""
        self._append({"event": "lifted", "video": video})

    def close(self) -> None:
        """Ends the journal; safe to call twice.

        A claim that is still open stays so: a run that stops in order has released it, and any other end is the run's death.
        """
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _append(self, event: dict[str, Any], *, durable: bool = True) -> None:
        data = _line(event)
        with storage_errors_are_transient(f"writing {self.path.name}"):
            # A full disk may take half a line; what is added later must not continue it.
            size = os.fstat(self._descriptor).st_size
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                os.ftruncate(self._descriptor, size)
                raise
            # Claims are not flushed: only a power cut loses them, and a power cut blames nobody.
            if durable:
                os.fsync(self._descriptor)
        video = event["video"]
        self._records[video] = self._records.get(video, VideoRecord()).after(event)


def _path(folder: Path, batch: str, number: int) -> Path:
    return folder / f"{batch}.{number:06d}.jsonl"


def _line(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> dict[str, Any]:
    """The value of a line.

    Raises:
        ValueError: it does not match its checksum, or is not a mapping.
    """
    checksum, _, text = line.partition(b" ")
    if len(checksum) != _CHECKSUM_DIGITS or b"%08x" % zlib.crc32(text) != checksum:
        raise ValueError("checksum does not match")
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    return value
