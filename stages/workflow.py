"""What the Snakefile asks: the plan in the head process, the recorded plan in a job's own parse.

`Session.start` decides which of the two it is. In the head process it also refuses what must not start (too much finished work
to be redone, backends that cannot run) and, under ``-n``, prints our own summary at the end.
"""

from __future__ import annotations

import atexit
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.registry import ROOT
from videolift.config import UPSTREAM, Config, parse_config
from videolift.errors import VideoliftError
from videolift.manifests import Target
from videolift.paths import Layout
from videolift.runs import read_run
from videolift.status import reach


@dataclass
class Session:
    """One parse of the workflow."""

    config: Config
    layout: Layout
    run: Path
    _targets: Mapping[str, Mapping[str, Target]]
    environments: Mapping[str, tuple[str, ...]]
    gpu: frozenset[str]
    _plan: Any = None

    @classmethod
    def start(cls, settings: Mapping[str, Any], workflow: Any) -> Session:
        """The session of this process; a clear error and no traceback where the configuration is wrong."""
        with _plain_errors():
            config = parse_config(settings)
            return cls._head(config, workflow) if workflow.is_main_process else cls._job(config)

    @classmethod
    def _head(cls, config: Config, workflow: Any) -> Session:
        from stages.forecast import Forecast
        from stages.plan import make_plan

        plan = make_plan(config, Path.cwd())
        # Only when all is over does Snakemake tell whether this was a dry run.
        atexit.register(lambda: workflow.dryrun and print("\n".join(Forecast.of(plan).lines()), file=sys.stderr))
        return cls(config, plan.layout, plan.run, plan.targets, plan.environments, plan.gpu, plan)

    @classmethod
    def _job(cls, config: Config) -> Session:
        layout = Layout(Path.cwd() / Path(config.output).expanduser())
        run = read_run(layout.run(config.digest()))
        targets = {
            stage: {batch: Target(stage, batch, token, generation) for batch, (token, generation) in batches.items()}
            for stage, batches in run.plan["targets"].items()
        }
        environments = {stage: tuple(names) for stage, names in run.plan["environments"].items()}
        return cls(config, layout, run.folder, targets, environments, frozenset(run.plan["gpu"]))

    def begin(self) -> None:
        """Refuses surprises, then records the run for its jobs; called in the head process before the first job, never under -n."""
        from stages.forecast import Forecast

        if self._plan is not None:
            with _plain_errors():
                Forecast.of(self._plan).refuse()
                self._plan.write()

    def report(self) -> None:
        """After a failed run: where everything stands."""
        from stages.forecast import Forecast

        if self._plan is not None:
            print("\n".join(Forecast.of(self._plan).lines()), file=sys.stderr)

    def targets(self, *stages: str) -> list[str]:
        """The manifests that some stages should have."""
        return [str(target.path(self.layout.manifests(stage))) for stage in stages for target in self._targets[stage].values()]

    def reach(self, stage: str) -> list[str]:
        """The manifests of a stage and of all it needs.

        All are demanded by name: Snakemake makes no missing file whose consumers it believes to be up to date.
        """
        return self.targets(*reach(stage))

    def upstream(self, stage: str, batch: str) -> list[str]:
        """The manifests of one batch that a stage reads."""
        return [str(self._targets[name][batch].path(self.layout.manifests(name))) for name in UPSTREAM[stage]]

    def prerequisites(self, stage: str) -> list[str]:
        """Files besides manifests that a stage's jobs wait for: the rendered sample, environments built here."""
        from stages.environments import read_environment

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


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turns our errors into Snakemake's, which it prints without a traceback."""
    try:
        yield
    except VideoliftError as error:
        from snakemake.exceptions import WorkflowError

        raise WorkflowError(str(error)) from None


BUILT_HERE = ("mediapipe",)
"""Environments built on first use; the others need a licence click or a compiler and are installed by hand."""
