"""What the Snakefile asks: the plan in the head process, the recorded plan in a job's own parse.

`Session.start` decides which of the two it is. In the head process it also refuses what must not start (too much finished work
to be redone, backends that cannot run) and, under ``-n``, prints our own summary at the end.
"""

from __future__ import annotations

import atexit
import gc
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from stages.registry import ROOT
from videolift.config import UPSTREAM, Config, parse_config
from videolift.errors import BackendUnavailable, VideoliftError
from videolift.paths import Layout
from videolift.records.leases import Lease, patience_s
from videolift.records.manifests import Target
from videolift.records.runs import read_run
from videolift.records.status import reach
from videolift.store import sha256_of


@dataclass
class Session:
    """One parse of the workflow."""

    config: Config
    layout: Layout
    run: Path
    _targets: Mapping[str, Mapping[str, Target]]
    environments: Mapping[str, tuple[str, ...]]
    gpu: frozenset[str]
    cores: int
    _minutes: Callable[[str, str], int]
    _plan: Any = None
    _cluster: frozenset[str] | None = None
    _folders: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(cls, settings: Mapping[str, Any], workflow: Any) -> Session:
        """The session of this process; a clear error and no traceback where the configuration is wrong."""
        with _plain_errors():
            if not workflow.is_main_process and RUN in os.environ:
                return cls._job(Path(os.environ[RUN]))
            return cls._head(parse_config(settings), workflow)

    @classmethod
    def _head(cls, config: Config, workflow: Any) -> Session:
        from stages.engine.cluster import CORES
        from stages.engine.plan import make_plan
        from stages.engine.plan_report import Forecast

        # Plan and jobs stay to the end; looking through all of them for garbage, again and again, took a third of the time.
        gc.set_threshold(200_000, 50, 100)
        plan = make_plan(config, Path.cwd())
        gc.freeze()
        if "--unlock" in sys.argv:
            _take_the_head(plan.layout).release()
        asked = workflow.resource_settings
        on_cluster = asked.nodes is not None
        # Only when all is over does Snakemake tell whether this was a dry run.
        atexit.register(lambda: workflow.dryrun and print("\n".join(Forecast.of(plan).lines()), file=sys.stderr))
        cores = asked.cores or CORES
        cluster = _named_resources(asked) if on_cluster else None
        return cls(config, plan.layout, plan.run, plan.targets, plan.environments, plan.gpu, cores, plan.minutes, plan, cluster)

    @classmethod
    def _job(cls, folder: Path) -> Session:
        from stages.engine.cluster import FIRST_MINUTES

        run = read_run(folder)
        targets = {
            stage: {batch: Target(stage, batch, token, generation) for batch, (token, generation) in batches.items()}
            for stage, batches in run.plan["targets"].items()
        }
        environments = {stage: tuple(names) for stage, names in run.plan["environments"].items()}
        gpu, minutes = frozenset(run.plan["gpu"]), run.plan["minutes"]
        return cls(
            run.config,
            run.layout,
            run.folder,
            targets,
            environments,
            gpu,
            run.plan["cores"],
            lambda stage, batch: int(minutes[stage].get(batch, FIRST_MINUTES)),
        )

    def begin(self) -> None:
        """Refuses surprises, then records the run for its jobs; called in the head process before the first job, never under -n."""
        from stages.engine.cluster import refuse_unnamed
        from stages.engine.plan_report import Forecast

        if self._plan is not None:
            with _plain_errors():
                if self._cluster is not None:
                    refuse_unnamed(self._cluster)
                self._refuse_missing()
                Forecast.of(self._plan).refuse()
                atexit.register(_take_the_head(self.layout).release)
                self._plan.write(cores=self.cores, with_minutes=self._cluster is not None)
                os.environ[RUN] = str(self.run)

    def _refuse_missing(self) -> None:
        """Stops before any work where a backend that has something to do cannot start; on a cluster the head needs no card."""
        from stages.models.preflight import missing

        busy = [stage for stage in self._plan.blocks[0] if self._plan.open_targets(stage)]
        blocks = [(stage, blocks[stage]) for stage in busy for blocks in self._plan.blocks]
        lines = missing(blocks, cards=self._cluster is None, built_later=BUILT_HERE)
        if lines:
            raise BackendUnavailable("this run cannot start:\n" + "\n".join(f"  {line}" for line in lines))

    def report(self) -> None:
        """After a failed run: where everything stands."""
        from stages.engine.plan_report import Forecast

        if self._plan is not None:
            print("\n".join(Forecast.of(self._plan).lines()), file=sys.stderr)

    def targets(self, *stages: str) -> list[str]:
        """The manifests that some stages should have; none in a job's own parse, which knows what it is to make."""
        return [self._manifest(stage, batch) for stage in stages for batch in self._targets[stage]] if self._plan else []

    def _manifest(self, stage: str, batch: str) -> str:
        if stage not in self._folders:
            self._folders[stage] = f"{self.layout.manifests(stage)}{os.sep}"
        return self._folders[stage] + self._targets[stage][batch].name

    def reach(self, stage: str) -> Callable[[Any], list[str]]:
        """Input function of a target: the manifests of a stage, which bring with them those that it reads.

        Some are demanded by name besides: Snakemake makes no missing file whose consumer is there.
        """
        return lambda wildcards: self.targets(stage) + self._missing_above(stage)

    def _missing_above(self, stage: str) -> list[str]:
        if self._plan is None:
            return []
        gone = {name: {target.batch for target in self._plan.open_targets(name)} for name in reach(stage)}
        readers = {name: [reader for reader in gone if name in _nearest(reader)] for name in gone}
        return [
            self._manifest(name, batch)
            for name in gone
            for batch in gone[name]
            if any(batch not in gone[reader] for reader in readers[name])
        ]

    def upstream(self, stage: str, batch: str) -> list[str]:
        """The manifests of one batch that a stage waits for; those they wait for themselves are not repeated."""
        return [self._manifest(name, batch) for name in _nearest(stage)]

    def threads(self, stage: str) -> int:
        """Cores of a stage's job.

        Here a CPU stage takes all, the pool inside; a stage on cards takes one, so that CPU batches go on beside it. On a cluster
        both take what a job is given.
        """
        return 1 if stage in self.gpu and self._cluster is None and self._plan is not None else self.cores

    def resources(self, stage: str) -> dict[str, Any]:
        """What a stage's job asks for: cards, and on a cluster memory, minutes, an early warning and its turn."""
        from stages.engine.cluster import EXTRA, memory_mb, turn

        cards = 1 if stage in self.gpu else 0
        if self._plan is not None and self._cluster is None:
            return {"gpu": cards}
        return {
            "gpu": cards,
            "mem_mb": lambda wildcards, threads, attempt: memory_mb(threads, cards, attempt),
            "runtime": lambda wildcards, attempt: attempt * self._minutes(stage, wildcards.batch),
            "slurm_extra": lambda wildcards: EXTRA + (turn(self.layout.lease(stage, wildcards.batch)) if self._plan else ""),
        }

    def prerequisites(self, stage: str) -> list[str]:
        """Files besides manifests that a stage's jobs wait for: the rendered sample, environments built here."""
        from stages.models.environments import read_environment

        wanted = [
            read_environment(name).folder(self.envs_dir) / ".ok" for name in self.environments.get(stage, ()) if name in BUILT_HERE
        ]
        if stage == "ingest" and self.config.videos == "sample":
            wanted.append(self.layout.output / "sample" / "videos.csv")
        return [str(path) for path in wanted]

    @property
    def envs_dir(self) -> Path:
        """Where the models' environments are."""
        return ROOT / Path(self.config.envs_dir).expanduser()

    @property
    def quoted_root(self) -> str:
        """The checkout, for a shell."""
        return shlex.quote(str(ROOT))

    @property
    def quoted_python(self) -> str:
        """This interpreter, for a shell."""
        return shlex.quote(sys.executable)

    @property
    def quoted_run(self) -> str:
        """The run's folder, for a shell."""
        return shlex.quote(str(self.run))

    @property
    def quoted_output(self) -> str:
        """The output folder, for a shell."""
        return shlex.quote(str(self.layout.output))

    @property
    def quoted_envs_dir(self) -> str:
        """`envs_dir`, for a shell."""
        return shlex.quote(str(self.envs_dir))


@cache
def _nearest(stage: str) -> tuple[str, ...]:
    """What a stage reads that nothing else it reads has read before it."""
    return tuple(name for name in UPSTREAM[stage] if not any(name in UPSTREAM[other] for other in UPSTREAM[stage]))


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turns our errors into Snakemake's, which it prints without a traceback."""
    try:
        yield
    except VideoliftError as error:
        from snakemake.exceptions import WorkflowError

        raise WorkflowError(str(error)) from None


def _take_the_head(layout: Layout) -> Lease:
    """The lease of the one head process in this folder: Snakemake's own lock does not know whether its owner lives.

    Raises:
        LeaseHeld: another one lives, although the lock was removed, or is about to be.
    """
    path = layout.lease("head", sha256_of(str(Path.cwd()))[:12])
    return Lease.acquire(path, wait_s=patience_s(path), what=f"{Path.cwd()} with output {layout.output}")


def _named_resources(asked: Any) -> frozenset[str]:
    """Names of the resources that the user has set, for all rules or for some."""
    return frozenset(asked.default_resources or ()).union(*(asked.overwrite_resources or {}).values())


RUN = "VIDEOLIFT_RUN"
"""Variable naming the run's folder, for jobs that parse the workflow again: they take what the head process has recorded."""
BUILT_HERE = ("mediapipe",)
"""Environments built on first use; the others need a licence click or a compiler and are installed by hand."""
