"""Leases: one run at a time works on a batch, on any file system and across machines, without locks.

Turns a path into the right to work, held by a file that its owner touches. A lease whose owner is gone is free: at once where the
process is known to be dead, after two minutes without a touch where it cannot be known. An owner that was merely stopped finds out
by `Lease.still_ours` before it publishes. A waiting run logs who holds the lease. Holds no work and knows no batch.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from videolift.errors import LeaseHeld, Transient, storage_errors_are_transient
from videolift.processes import ProcessName, this_process
from videolift.store import read_json

log = logging.getLogger("videolift")

TOUCH_S = 15.0
FREE_AFTER_S = 120.0
"""Without a touch, for an owner that cannot be asked: eight touches missed."""
SAY_EVERY_S = 30.0
"""How often a waiting run logs who holds the lease."""
_POLL_S = 0.5
_CONTEST_S = 2.0
"""For several runs that find the same lease dead at once to settle who takes it, even if none of them would wait."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        process: the owner's process; None where the file was torn when its writer died.
        slurm_job_id: the SLURM job it runs in, or None.
        nonce: drawn at random for this lease alone.
    """

    process: ProcessName | None
    slurm_job_id: str | None
    nonce: str

    def __str__(self) -> str:
        if self.process is None:
            return "a run that did not say who it is"
        job = f", SLURM job {self.slurm_job_id}" if self.slurm_job_id else ""
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.process.start_time))
        return f"pid {self.process.pid} on {self.process.host}{job}, since {since}"


class Lease:
    """A held lease; a context manager that releases it."""

    def __init__(self, path: Path, nonce: str) -> None:
        self.path, self.nonce = path, nonce
        self._ended = threading.Event()

        def touch() -> None:
            while not self._ended.wait(TOUCH_S):
                try:
                    if not self.still_ours():
                        return
                    os.utime(self.path)
                except (OSError, Transient):
                    continue  # a file system in trouble: the work itself will meet it, and say so

        # A daemon: a process that ends by an error must not be kept alive by its lease.
        self._heart = threading.Thread(target=touch, name="lease", daemon=True)
        self._heart.start()

    @classmethod
    def acquire(cls, path: Path, *, wait_s: float, what: str = "") -> Self:
        """Takes the lease at ``path``, waiting up to ``wait_s`` for the run that holds it, which is logged now and then.

        Args:
            path: of its file.
            wait_s: seconds.
            what: is leased, for people; none: a batch, by the path.

        Raises:
            LeaseHeld: it is held by a live run; the text says by whom.
            Transient: disk full, quota or I/O error.
        """
        started = say_at = time.monotonic()
        what = what or f"batch {path.parent.name}/{path.name}"
        with storage_errors_are_transient(f"taking the lease {path.name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                nonce = secrets.token_hex(8)
                if _create(path, nonce):
                    return cls(path, nonce)
                holder = _read(path)
                if holder is None:
                    continue  # released meanwhile
                is_free = _is_free(path, holder)
                if is_free and _remove_dead(path, holder):
                    continue  # however long that took: who gave up now would leave it to nobody
                left_s = (max(wait_s, _CONTEST_S) if is_free else wait_s) - (time.monotonic() - started)
                if left_s <= 0:
                    raise LeaseHeld(f"{what} is being worked on by {holder}: let it finish, or stop it")
                if not is_free and time.monotonic() >= say_at:
                    log.warning("%s is being worked on by %s: waiting for it", what, holder)
                    say_at = time.monotonic() + SAY_EVERY_S
                # Several runs contest a dead lease at this very moment; a live one is held for minutes.
                time.sleep(min(left_s, 0.02 if is_free else _POLL_S))

    def still_ours(self) -> bool:
        """Reads the file again: False once another run has taken over. Ask before every publication."""
        with storage_errors_are_transient(f"reading the lease {self.path.name}"):
            return read_nonce(self.path) == self.nonce

    def release(self) -> None:
        """Ends the lease; safe to call twice."""
        self._ended.set()
        # After a pause of more than two minutes another run may hold it by now.
        if self.still_ours():
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def patience_s(path: Path) -> float:
    """How long to wait for the lease at ``path`` where waiting costs a card: until it is known whether its owner lives."""
    holder = _read(path)
    knows = holder is None or (holder.process is not None and holder.process.is_alive() is not None)
    return 0.0 if knows else FREE_AFTER_S + TOUCH_S


def slurm_job(path: Path) -> str | None:
    """The SLURM job that holds the lease at ``path``; None where no run does, or one outside of any job."""
    holder = _read(path)
    return holder.slurm_job_id if holder is not None else None


def read_nonce(path: Path) -> str | None:
    """Nonce of the lease at ``path``, for workers of the run that holds it; None where there is none."""
    holder = _read(path)
    return holder.nonce if holder is not None else None


def _create(path: Path, nonce: str) -> bool:
    row = asdict(this_process())
    row["create_time"] = row.pop("start_time")
    row |= {"slurm_job_id": os.environ.get("SLURM_JOB_ID"), "nonce": nonce}
    try:
        # Exclusive: of several runs exactly one creates the file, on network file systems too.
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, json.dumps(row).encode())
        os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return True


def _read(path: Path) -> Holder | None:
    """None where there is no lease. One caught between creation and writing, or damaged, has no process and an empty nonce."""
    row = read_json(path)
    if row is None:
        return Holder(None, None, "") if path.exists() else None
    try:
        process = ProcessName(str(row["host"]), str(row["boot_id"]), int(row["pid"]), float(row["create_time"]))
        return Holder(process, row["slurm_job_id"], str(row["nonce"]))
    except (KeyError, TypeError, ValueError):
        return Holder(None, None, "")


def _is_free(path: Path, holder: Holder) -> bool:
    alive = None if holder.process is None else holder.process.is_alive()
    if alive is not None:
        return not alive
    # The file system's clock may differ from every machine's own, so it is asked for the time by touching a file beside.
    probe = path.with_name(f".{path.name}.{secrets.token_hex(8)}.now")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime > FREE_AFTER_S
    except FileNotFoundError:
        return False  # released meanwhile
    finally:
        probe.unlink(missing_ok=True)


def _remove_dead(path: Path, dead: Holder) -> bool:
    """Removes the lease of ``dead`` and no other: only the process that creates the takeover file may delete it.

    True if it was removed here.
    """
    heir = path.with_name(f".{path.name}.{dead.nonce or 'torn'}.heir")
    if not _create(heir, dead.nonce):
        rival = _read(heir)
        if rival is not None and _is_free(heir, rival):
            heir.unlink(missing_ok=True)  # killed in the act
        return False
    try:
        # Asked again: another run may have taken the lease, or its owner touched it, since it was found dead.
        if _read(path) == dead and _is_free(path, dead):
            grave = path.with_name(f".{path.name}.{secrets.token_hex(8)}.dead")
            path.rename(grave)
            grave.unlink()
            return True
        return False
    finally:
        heir.unlink(missing_ok=True)
