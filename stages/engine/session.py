"""What the Snakefile asks: the plan in the head process, the recorded plan in a job's own parse.

`Session.start` decides which of the two it is. In the head process it also refuses what must not start (too much finished work
to be redone, backends that cannot run) and, under ``-n``, prints our own summary at the end.
"""

from __future__ import annotations

import atexit
import gc
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stages.registry import MODELS_ROOT, ROOT
from videolift.config import Config, user_path
from videolift.errors import BackendUnavailable, ConfigError, ExitCode, VideoliftError
from videolift.interrupts import take_interrupts
from videolift.paths import Layout
from videolift.records.leases import Lease, patience_s
from videolift.records.manifests import Target
from videolift.records.runs import read_run
from videolift.stage_table import SOURCE, SPECS, STATISTICS, StageSpec, with_upstream

if TYPE_CHECKING:  # a job that parses the workflow needs none of them
    from stages.engine.cluster import AskedOfCluster
    from stages.engine.plan import Plan
    from stages.engine.plan_report import PlanReport


@dataclass
class Session:
    """One parse of the workflow.

    Attributes:
        run: the run's folder.
        targets_by_stage: stage to batch to the manifest it should have.
        environments: stage to the environments that the workflow builds before its jobs.
        gpu: stages whose jobs ask for a card.
        cores: of a job.
        minutes: (stage, batch) to what a cluster's job asks for.
        plan: None in a job's own parse.
        cluster: what the user has set for the jobs; None where work is done here.
    """

    config: Config
    layout: Layout
    run: Path
    targets_by_stage: Mapping[str, Mapping[str, Target]]
    environments: Mapping[str, Sequence[str]]
    gpu: frozenset[str]
    cores: int
    minutes: Callable[[str, str], int]
    plan: Plan | None = None
    cluster: AskedOfCluster | None = None

    @classmethod
    def start(cls, settings: Mapping[str, Any], workflow: Any) -> Session:
        """The session of this process; a clear error and no traceback where the configuration is wrong."""
        with _plain_errors():
            if workflow.is_main_process or RUN not in os.environ:

                def stop(signum: int, frame: object) -> NoReturn:
                    print("interrupted before anything was started; run the same command again", file=sys.stderr)
                    raise SystemExit(ExitCode.INTERRUPTED)

                # Until `begin` nothing runs: an interruption ends in one sentence, not in a traceback.
                signal.signal(signal.SIGINT, stop)
                take_interrupts()
                return cls._head(settings, workflow)
            from stages.engine.cluster import FIRST_MINUTES

            # A job takes what the head has recorded: its own plan might differ by what happened since.
            run = read_run(Path(os.environ[RUN]))
            targets = {
                stage: {batch: Target(stage, batch, token, generation) for batch, (token, generation) in batches.items()}
                for stage, batches in run.plan["targets"].items()
            }
            return cls(
                config=run.config,
                layout=run.layout,
                run=run.folder,
                targets_by_stage=targets,
                environments=run.plan["environments"],
                gpu=frozenset(run.plan["gpu"]),
                cores=run.plan["cores"],
                minutes=lambda stage, batch: int(run.plan["minutes"].get(stage, {}).get(batch, FIRST_MINUTES)),
            )

    @classmethod
    def _head(cls, settings: Mapping[str, Any], workflow: Any) -> Session:
        from stages.engine.cluster import CORES, AskedOfCluster
        from stages.engine.garbage import collect_seldom
        from stages.engine.plan import make_plan
        from stages.engine.plan_report import PlanReport
        from stages.settings import parse_config, read_settings

        collect_seldom()
        for path in workflow.configfiles:  # Snakemake has read them, but not as strictly
            read_settings(Path(path))
        asked = workflow.resource_settings
        plan = make_plan(parse_config(settings), Path.cwd(), on_cluster=asked.nodes is not None)
        # What is alive now stays: no later collection looks through it.
        gc.freeze()
        if "--unlock" in sys.argv:
            _take_the_head(plan.layout).release()
        cores = asked.cores or CORES
        # Only when all is over does Snakemake tell whether this was a dry run.
        atexit.register(lambda: workflow.dryrun and print("\n".join(PlanReport.of(plan).lines()), file=sys.stderr))
        return cls(
            config=plan.config,
            layout=plan.layout,
            run=plan.run,
            targets_by_stage=plan.targets,
            environments=plan.environments,
            gpu=plan.gpu,
            cores=cores,
            minutes=lambda stage, batch: plan.minutes(stage, batch, cores),
            plan=plan,
            cluster=AskedOfCluster.from_snakemake(asked) if asked.nodes is not None else None,
        )

    def begin(self) -> None:
        """Refuses surprises, then records the run for its jobs; called in the head process before the first job, never under -n."""
        from stages.engine.cluster import refuse_unnamed
        from stages.engine.queue_watch import QueueWatch
        from stages.models.preflight import missing

        if self.plan is None:
            return
        with _plain_errors():
            if self.cluster is not None:
                refuse_unnamed(self.cluster.names)
            # Only for backends that have something to do; on a cluster the head process needs no card.
            blocks = [(stage, blocks[stage]) for stage in self._report_at_start.busy for blocks in self.plan.blocks]
            lines = missing(blocks, cards=self.cluster is None, built_later=True)
            if lines:
                raise BackendUnavailable("this run cannot start:\n" + "\n".join(f"  {line}" for line in lines))
            self._report_at_start.refuse()
            output = self.layout.output
            try:
                output.mkdir(parents=True, exist_ok=True)
                is_writable = os.access(output, os.W_OK | os.X_OK)
            except OSError as error:
                raise ConfigError(f"output {output} cannot be made ({error.strerror}): choose another folder") from error
            if not is_writable:
                raise ConfigError(f"output {output} cannot be written in: change its permissions, or choose another folder")
            atexit.register(_take_the_head(self.layout).release)
            if self.cluster is not None:
                # Ours stands before the true sbatch: it waits where SLURM takes no more jobs for now, while this process lives.
                os.environ["PATH"] = os.pathsep.join([str(ROOT / "stages" / "engine" / "slurm_bin"), os.environ["PATH"]])
                os.environ["VIDEOLIFT_HEAD"] = str(os.getpid())
                QueueWatch(Path.cwd()).start()
            self.plan.write(cores=self.cores, with_minutes=self.cluster is not None)
            os.environ[RUN] = str(self.run)
        # From here on an interruption is Snakemake's to handle.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    @cached_property
    def _report_at_start(self) -> PlanReport:
        """What there is to do before anything is done."""
        from stages.engine.plan_report import PlanReport

        assert self.plan is not None
        return PlanReport.of(self.plan)

    def report(self) -> None:
        """After a failed run: where everything stands."""
        from stages.engine.plan_report import PlanReport

        if self.plan is not None:
            print("\n".join(PlanReport.of(self.plan).lines()), file=sys.stderr)

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        """The rows that rules are made from."""
        return tuple(SPECS.values())

    def targets(self, *stages: str) -> list[str]:
        """The manifests that some stages should have, of the batches that Snakemake is shown.

        None in a job's own parse, which knows what it is to make.
        """
        if self.plan is None:
            return []
        return [
            self._manifest(stage, batch)
            for stage in stages
            for batch in self.targets_by_stage[stage]
            if batch in self._shown_batches
        ]

    @cached_property
    def _shown_batches(self) -> frozenset[str]:
        from stages.engine.job_graph import shown_batches

        return shown_batches(self.layout, self.targets_by_stage, self._waits_for)

    def _manifest(self, stage: str, batch: str) -> str:
        return self._folders[stage] + self.targets_by_stage[stage][batch].name

    @cached_property
    def _folders(self) -> Mapping[str, str]:
        return {stage: f"{self.layout.manifests(stage)}{os.sep}" for stage in self.targets_by_stage}

    def reach(self, *stages: str) -> Callable[[Any], list[str]]:
        """Input function of a target: the manifests of some stages, which bring with them those that they read.

        Missing upstream manifests are requested explicitly: Snakemake does not rebuild an input whose consumer exists.
        """

        def manifests(wildcards: Any) -> list[str]:
            if self.plan is None:
                return []
            open_batches = {name: {target.batch for target in self.plan.open_targets(name)} for name in with_upstream(*stages)}
            missing_above = [
                self._manifest(name, batch)
                for name, batches in open_batches.items()
                for batch in batches
                if any(batch not in open_batches[reader] and name in self._waits_for(reader, batch) for reader in open_batches)
            ]
            return self.targets(*stages) + missing_above

        return manifests

    def upstream(self, stage: str, batch: str) -> list[str]:
        """The manifests of one batch that a stage waits for; those they wait for themselves are not repeated."""
        return [self._manifest(name, batch) for name in self._waits_for(stage, batch)]

    def _waits_for(self, stage: str, batch: str) -> tuple[str, ...]:
        """Stages that this one waits for in a batch: of those above it that do something there, the nearest."""
        return _nearest(stage, frozenset(name for name, targets in self.targets_by_stage.items() if batch in targets))

    def threads(self, stage: str) -> int:
        """Cores of a stage's job.

        Here a CPU stage takes all, the pool inside; a stage on cards takes one, so that CPU batches go on beside it. On a cluster
        both take what a job is given.
        """
        return 1 if stage in self.gpu and self.works_here else self.cores

    @property
    def works_here(self) -> bool:
        """Whether this is the head process of a run without a cluster; with one, nothing heavy is done where the head runs."""
        return self.plan is not None and self.cluster is None

    def resources(self, stage: str) -> dict[str, Any]:
        """What a job asks for: cards, and on a cluster memory, minutes, an early warning and its turn."""
        from stages.engine.cluster import EXTRA, memory_mb, time_limits, turn

        cards = 1 if stage in self.gpu else 0
        if self.works_here:
            return {"gpu": cards}

        def runtime(wildcards: Any, attempt: int) -> int:
            minutes = attempt * self.minutes(stage, wildcards.batch)
            if self.cluster is None:
                return minutes
            # A job that asks for more than its partition allows never starts; one that runs out of time goes on later.
            limit = time_limits().get(self.cluster.partition(stage if stage == STATISTICS else f"{stage}_batch"))
            return minutes if limit is None else min(minutes, limit)

        return {
            "gpu": cards,
            # Functions, since Snakemake asks again for every attempt.
            "mem_mb": lambda wildcards, threads, attempt: memory_mb(threads, cards, attempt),
            "runtime": runtime,
            "slurm_extra": lambda wildcards: EXTRA + (turn(self.layout.lease(stage, wildcards.batch)) if self.plan else ""),
        }

    def prerequisites(self, stage: str) -> list[str]:
        """Files besides manifests that a stage's jobs wait for: the rendered sample, environments that the workflow builds."""
        from stages.models.environments import read_environment

        marks = [read_environment(name).folder(self.envs_dir) / ".ok" for name in self.environments.get(stage, ())]
        # An environment is built for work that the head process sees; what was imported, for one, needs no model. Asked last: the
        # answer needs the state of every video.
        wanted = [p for p in marks if p.exists() or (self.plan is not None and stage in self._report_at_start.busy)]
        if stage == SOURCE and self.config.videos == "sample":
            wanted.append(self.layout.output / "sample" / "videos.csv")
        return [str(path) for path in wanted]

    @property
    def envs_dir(self) -> Path:
        """Where the models' environments are."""
        return MODELS_ROOT / user_path(self.config.envs_dir)

    def python(self, module: str, *arguments: object) -> str:
        """``python -m MODULE ...`` of this checkout and interpreter, for a shell."""
        command = shlex.join([sys.executable, "-m", module, *map(str, arguments)])
        return f"PYTHONPATH={shlex.quote(str(ROOT))} {command}"


@cache
def _nearest(stage: str, active: frozenset[str]) -> tuple[str, ...]:
    """What a stage reads, directly or through stages that are not ``active``, less what those read that it waits for anyway."""
    # Only the nearest: what those wait for themselves Snakemake knows already.
    above = [name for name in with_upstream(stage) if name != stage and name in active]
    return tuple(name for name in above if not any(name in with_upstream(other) for other in above if other != name))


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Ends with the sentence alone: under an error of its own Snakemake prints the lines of code that it came through."""
    try:
        yield
    except VideoliftError as error:
        print(f"videolift: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _take_the_head(layout: Layout) -> Lease:
    """The lease of the one head process for this output folder, whatever its working directory.

    Snakemake's own lock knows only its working directory, and not whether its owner lives.

    Raises:
        LeaseHeld: another one lives.
    """
    return Lease.acquire(layout.head_lease, wait_s=patience_s(layout.head_lease), what=f"output {layout.output}")


RUN = "VIDEOLIFT_RUN"
"""Variable naming the run's folder, for jobs that parse the workflow again: they take what the head process has recorded."""
