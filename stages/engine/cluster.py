"""What the jobs of a stage ask a cluster for: cores, memory, minutes, a turn; and whether the cluster was told what it must know.

Turns what past work took and the videos of a batch into minutes, in the head process; jobs read them in the run's plan. Starts
nothing. How a job then divides its cards and memory among workers is the pool's business.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stages.engine.costs.run_cost import PastWork
from videolift.errors import ConfigError
from videolift.records.leases import slurm_job
from videolift.records.runs import Entry

CORES = 8
"""Of a job, where nobody said otherwise (``--set-threads tracks_batch=32``)."""
FIRST_MINUTES = 240
"""Of a stage of which nothing has been measured yet."""
# On top of the work: a node that starts, imports from a shared disk, a model that loads.
MIN_MINUTES = 15
MARGIN = 2.0
"""On the measured work of a batch: nodes differ, and what runs out of time is begun again, at twice the minutes."""
_MB_PER_CORE = 2000
"""Our own stages stay under 1.5 GB per worker, and there is no more than one worker per core."""
_MB_PER_CARD = 32_000
"""Host memory of a model and its workers; the pool starts no more of them than fit."""
EXTRA = "--signal=TERM@120"
"""SIGTERM two minutes before the limit, so that a pool finishes its video or segment and ends by itself."""


def memory_mb(cores: int, cards: int, attempt: int) -> int:
    """Host memory of a job; each attempt asks for more, since the one before may have been killed for want of it."""
    return max(_MB_PER_CORE * cores, _MB_PER_CARD * cards) * attempt


def minutes(measured: PastWork | None, videos: Sequence[Entry], workers: int = 1) -> int:
    """Minutes that a job over ``videos`` asks for at its first attempt.

    Long videos go into the first batches, so seconds per byte of source tell as much as seconds per video; the larger counts.

    Args:
        workers: videos that a job is sure to work on at a time.
    """
    if measured is None:
        return FIRST_MINUTES
    size = sum(entry.video.bytes for entry in videos)
    seconds = max(len(videos) * measured.mean_s, size * measured.seconds_per_byte) / min(workers, len(videos) or 1)
    return MIN_MINUTES + round(MARGIN * seconds / 60)


def statistics_minutes(videos: int) -> int:
    """Minutes for the statistics over ``videos``: six times what reading each new file takes, and all may be new."""
    return MIN_MINUTES + videos // 1000


def sure_workers(cores: int, *, on_card: bool) -> int:
    """Videos that a job is sure to work on at a time: on a card the memory decides, which nobody knows before; on a CPU half the
    cores, since decoders and BLAS take some."""
    return 1 if on_card else max(1, cores // 2)


@dataclass(frozen=True)
class AskedOfCluster:
    """What the user has set for the jobs, as Snakemake hands it over.

    Attributes:
        defaults: resource to its value, for all rules.
        by_rule: rule to resource to value.
    """

    defaults: Mapping[str, Any]
    by_rule: Mapping[str, Mapping[str, Any]]

    @classmethod
    def from_snakemake(cls, settings: Any) -> AskedOfCluster:
        """From Snakemake's resource settings, with each value as the user typed it: there a text is a function of the job."""

        def typed(resources: Mapping[str, Any]) -> dict[str, Any]:
            return {name: getattr(value, "raw", value) for name, value in resources.items()}

        by_rule = {rule: typed(of) for rule, of in (settings.overwrite_resources or {}).items()}
        return cls(typed(settings.default_resources or {}), by_rule)

    @property
    def names(self) -> frozenset[str]:
        """Resources set for all rules or for some."""
        return frozenset(self.defaults).union(*self.by_rule.values())

    def partition(self, rule: str) -> str | None:
        """The partition that a rule's jobs go to; None for the cluster's default one."""
        value = self.by_rule.get(rule, {}).get("slurm_partition", self.defaults.get("slurm_partition"))
        return None if value is None else str(value).strip("'\"")


@cache
def time_limits() -> Mapping[str | None, int]:
    """Longest job in minutes by partition, that of the default one under None too; partitions without a limit are not named."""
    # Asked once: Snakemake wants the minutes of every job, and a controller has others to answer.
    limits: dict[str | None, int] = {}
    for line in _ask("sinfo", "-h", "-o", "%P|%l").splitlines():
        name, _, text = line.strip().partition("|")
        # days-hours:minutes:seconds, hours:minutes:seconds, minutes:seconds or minutes; `infinite` where there is no limit.
        days, _, clock = text.rpartition("-")
        parts = clock.split(":")
        if not all(part.isdigit() for part in parts) or len(parts) > 3:
            continue
        hours, full, _ = ([0] * (3 - len(parts)) + [int(part) for part in parts]) if len(parts) > 1 else (0, int(parts[0]), 0)
        limits[name.rstrip("*")] = (int(days or 0) * 24 + hours) * 60 + full
        # sinfo marks the default partition by a star.
        if name.endswith("*"):
            limits[None] = limits[name.rstrip("*")]
    return limits


def turn(lease: Path) -> str:
    """The option of ``sbatch`` that lets a job start when the one that works on its batch has ended; empty where none does.

    So a batch that a job of an earlier head process, or of another run, still holds waits in the queue and holds no card.
    """
    job = slurm_job(lease)
    # afterany on a job that the queue has forgotten is refused by sbatch.
    if job is None or not _ask("squeue", "-h", "-j", job, "-o", "%i").strip():
        return ""
    name = f"{lease.parent.name}/{lease.name}"
    print(f"batch {name} is being worked on by SLURM job {job}: the new job waits in the queue until that ends", file=sys.stderr)
    return f" --dependency=afterany:{job}"


def refuse_unnamed(resources: frozenset[str]) -> None:
    """Stops a run on SLURM that does not say where it may compute, where the cluster does not know by itself.

    Args:
        resources: names of those that the user has set.

    Raises:
        ConfigError: no partition and no default one, or no account on a cluster that accounts for its use.
    """
    missing = []
    if "slurm_partition" not in resources and "*" not in _ask("sinfo", "-h", "-o", "%P"):
        missing.append("slurm_partition")
    # Where accounting is not enforced, jobs without an account are run.
    enforced = [line for line in _ask("scontrol", "show", "config").splitlines() if line.startswith("AccountingStorageEnforce ")]
    if "slurm_account" not in resources and any("associations" in line for line in enforced):
        missing.append("slurm_account")
    if missing:
        wanted = " ".join(f"{name}=..." for name in missing)
        raise ConfigError(
            f"this cluster requires {' and '.join(missing)}: add --default-resources {wanted} to the command, or to a"
            " profile of yours. What there is: sinfo -o '%P %G %l' and sacctmgr show user $USER withassoc"
        )


def _ask(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {command[0]} here: start profiles/slurm on a login node, or use snakemake --cores N"
        ) from error
