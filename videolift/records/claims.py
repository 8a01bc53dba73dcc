"""Claims: who works on a video at this moment, on disk before the work starts.

Turns a worker's start into a file, and a file without a live owner into a count of crashes, so that a video that kills its worker,
or its supervisor, is known by name however the run ended. Judges no video; the pool and the receipts do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from videolift.processes import ProcessName, name_process
from videolift.store import read_json, write_json


@dataclass(frozen=True)
class Claim:
    """An attempt at one video of one stage.

    Attributes:
        owner: the worker's process.
        fingerprint: of the work; a claim of other work charges nothing.
        attempt: number of this attempt, from 1.
        kinds: how the attempts before it ended, e.g. ``crash``, ``hang``.
    """

    owner: ProcessName
    fingerprint: str
    attempt: int
    kinds: tuple[str, ...] = ()

    def is_alive(self) -> bool | None:
        """Whether the worker still runs; None where it cannot be known (another machine)."""
        return self.owner.is_alive()

    def charged_attempts(self) -> int:
        """Attempts that count against the video, once nobody works on it any more.

        The attempt of this claim counts, since a worker that ends in any orderly way, SIGTERM included, removes its claim; but not
        if the machine has been booted anew since.
        """
        return self.attempt - 1 if self.is_alive() or self.owner.died_with_its_machine else self.attempt


def write_claim(path: Path, *, pid: int, start_time: float, fingerprint: str, attempt: int, kinds: Sequence[str] = ()) -> Claim:
    """Records on the disk that process ``pid`` of this machine starts on a video; returns what was written.

    Raises:
        Transient: disk full, quota or I/O error.
    """
    claim = Claim(name_process(pid, start_time), fingerprint, attempt, tuple(kinds))
    row = asdict(claim)
    write_json(path, row.pop("owner") | row)
    return claim


def read_claim(path: Path) -> Claim | None:
    """The claim on disk; None where there is none, or no whole one."""
    row = read_json(path)
    if not isinstance(row, dict):
        return None
    owner = ProcessName(row["host"], row["boot_id"], row["pid"], row["start_time"])
    return Claim(owner, row["fingerprint"], row["attempt"], tuple(row["kinds"]))
