"""Why jobs in a SLURM queue do not start: asks `squeue` now and then and says, once per job and reason, what to type.

A job that can never start (it asks for more time than its partition allows, or was held after its launch failed) would otherwise
be waited for in silence. Runs as a thread of the head process; starts, ends and changes nothing.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("videolift")

ASK_EVERY_S = 20.0
"""So that a reason is said within a minute, and a busy controller is not asked more often than Snakemake's own status checks."""
ORDINARY_REASONS = frozenset({"None", "Priority", "Resources", "Dependency", "BeginTime", "Prolog", "Reservation"})
"""Reasons of jobs that will start by themselves."""
_FIELDS = "%i|%P|%l|%c|%m|%k|%r"
_REMEDIES = {
    "PartitionTimeLimit": "it asks for {time}, more than partition {partition} allows: scancel {job}, then the same command with"
    " --set-resources {rule}:runtime=MINUTES or {rule}:slurm_partition=OTHER (sinfo -o '%P %l' lists limits)",
    "PartitionNodeLimit": "it asks for more nodes than partition {partition} allows: scancel {job}, then the same command with"
    " --set-resources {rule}:slurm_partition=OTHER",
    "JobHeldUser": "somebody held it: scontrol release {job}",
    "JobHeldAdmin": "an administrator, or SLURM after its launch failed, held it: ask them, or scontrol release {job}",
    "BadConstraints": "no node offers what it asks for ({cores} cores, {memory}): scancel {job}, then the same command with"
    " --set-threads {rule}=FEWER or --set-resources {rule}:mem_mb=LESS (sinfo -o '%P %c %m %G' lists nodes)",
    "ReqNodeNotAvail": "the nodes that it may use are down or reserved: sinfo -R says why",
}
_HELD = "its launch failed, and SLURM holds it: look at the node (sinfo -R), then scontrol release {job}"
_LIMIT = "a limit of your account or of its quality of service holds it back until others of your jobs end ({reason})"
_OTHER = "SLURM says {reason}: scontrol show job {job} tells more"


@dataclass(frozen=True)
class WaitingJob:
    """A pending job as `squeue` shows it; texts as SLURM writes them."""

    job: str
    partition: str
    time: str
    cores: str
    memory: str
    rule: str
    reason: str

    def remedy(self) -> str | None:
        """Why the job does not start and what to type; None where it only waits for its turn."""
        word = self.reason.split(",")[0].strip()
        if word in ORDINARY_REASONS:
            return None
        limit = word.startswith(("QOS", "Assoc", "MaxSubmit"))
        text = _HELD if "launch failed" in self.reason else _LIMIT if limit else _REMEDIES.get(word, _OTHER)
        return text.format(**vars(self))


def waiting_jobs(squeue_output: str, folder: Path) -> list[WaitingJob]:
    """Pending jobs that Snakemake submitted from ``folder``, from lines of `squeue_command`."""
    found = []
    for line in squeue_output.splitlines():
        job, partition, time, cores, memory, comment, rest = line.split("|", 6)
        # A reason may hold any text, so the folder is split off from the right.
        reason, _, work_dir = rest.rpartition("|")
        # The executor writes the rule into the comment; the folder tells our run from another one of this user.
        if comment.startswith("rule_") and work_dir == str(folder):
            rule = comment.removeprefix("rule_").split("_wildcards_")[0]
            found.append(WaitingJob(job, partition, time, cores, memory, rule=rule, reason=reason))
    return found


def squeue_command() -> tuple[str, ...]:
    """Lists this user's pending jobs, a line each."""
    return ("squeue", "--me", "-h", "-t", "PENDING", "-o", f"{_FIELDS}|%Z")


class QueueWatch:
    """The thread; `start` it once, `stop` it when the run ends.

    Args:
        folder: the working directory that jobs are submitted from.
        ask: what runs `squeue_command`.
    """

    def __init__(self, folder: Path, ask: Callable[[], str] | None = None) -> None:
        self._folder = folder
        self._ask = ask or _squeue
        self._said: set[tuple[str, str]] = set()
        self._ended = threading.Event()

    def start(self) -> None:
        """Begins to ask."""

        def watch() -> None:
            while not self._ended.wait(ASK_EVERY_S):
                self.look()

        # A daemon: a head process that ends in an error must not wait for it.
        threading.Thread(target=watch, name="queue watch", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread; safe to call twice."""
        self._ended.set()

    def look(self) -> list[str]:
        """Asks once; returns and logs what has not been said before."""
        lines = []
        for job in waiting_jobs(self._ask(), self._folder):
            remedy = job.remedy()
            if remedy is not None and (job.job, job.reason) not in self._said:
                self._said.add((job.job, job.reason))
                lines.append(f"job {job.job} ({job.rule}) does not start: {remedy}")
        for line in lines:
            log.warning("%s", line)
        return lines


def _squeue() -> str:
    """Nothing where SLURM does not answer: the next time may go better, and Snakemake says so itself if it matters."""
    try:
        return subprocess.run(squeue_command(), capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
