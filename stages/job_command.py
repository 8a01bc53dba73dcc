"""The program of a job: one stage over one batch, the statistics, or the verdict."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from pathlib import Path

from videolift.errors import ExitCode, VideoliftError
from videolift.records.manifests import Target
from videolift.records.runs import read_run
from videolift.stage_table import PACKAGING, STAGES, STATISTICS, judged

log = logging.getLogger("videolift")


def main(arguments: list[str] | None = None) -> int:
    """Parses, runs, and turns errors into exit codes; see `videolift.errors.ExitCode`."""
    parser = argparse.ArgumentParser(prog="python -m stages", description="Runs one stage over one batch.")
    commands = parser.add_subparsers(required=True, metavar="STAGE")
    for stage in (*STAGES, STATISTICS):
        command = commands.add_parser(stage, help=f"the {stage} stage over one batch")
        command.add_argument("--run", type=Path, required=True, help="the run's folder, {output}/runs/...")
        command.add_argument("--batch", required=True)
        command.add_argument("--token", required=True)
        command.add_argument("--generation", type=int, required=True)
        command.add_argument("--manifest", type=Path, required=True, help="written last, when nothing is pending")
        command.add_argument("--cores", type=int, required=True)
        command.add_argument("--log", type=Path, help="details; the terminal gets a short line now and then")
        command.set_defaults(function=_stage, stage=stage)
    command = commands.add_parser("verdict", help="what became of every video")
    command.add_argument("--run", type=Path, required=True)
    command.add_argument("--stage", choices=STAGES, default=PACKAGING)
    command.set_defaults(function=_verdict)
    options = parser.parse_args(arguments)
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(terminal)
    log.setLevel(logging.INFO)
    if (path := getattr(options, "log", None)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        details = logging.FileHandler(path, mode="w", encoding="utf-8")
        details.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(details)
    try:
        return int(options.function(options))
    except VideoliftError as error:
        log.error("%s", error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)


def _stage(options: argparse.Namespace) -> ExitCode:
    # imported here, so that a batch of statistics does not wait for what backends need, nor a batch for matplotlib
    run = read_run(options.run)
    target = Target(options.stage, options.batch, options.token, options.generation)
    if options.stage == STATISTICS:
        from stages.engine.garbage import collect_seldom
        from stages.engine.statistics import run_statistics

        collect_seldom()
        return run_statistics(run, target, options.manifest)
    from stages.engine.batch import run_batch

    return run_batch(run, target, options.manifest, cores=options.cores)


def _verdict(options: argparse.Namespace) -> ExitCode:
    from stages.engine.garbage import collect_seldom
    from videolift.records.seen import still_settled
    from videolift.records.settled import recorded_targets
    from videolift.records.status import collect, write_quarantine

    collect_seldom()
    run = read_run(options.run)
    # What has changed since the plan is looked at again: the verdict speaks of what is there now.
    settled = still_settled(run, recorded_targets(run, judged(options.stage)))
    status = collect(run, options.stage, only_chosen=True, settled=settled)
    path = write_quarantine(run.layout, status.videos)
    print("\n".join(["", *status.lines()]))
    if options.stage == PACKAGING:
        from videolift.report.page import MAX_ROWS, is_report_fresh, write_report

        try:
            fresh = is_report_fresh(run.layout)
            # With more rows it takes longer than all else in a run that adds ten videos, so it is written only when asked for.
            if not fresh and sum(status.counts.values()) > MAX_ROWS:
                print(f"a page about them: videolift report --output {shlex.quote(str(run.layout.output))}")
            else:
                if not fresh:
                    write_report(run.layout.output)
                print(f"report: {run.layout.report}")
        # The page is about the run: an error in it must not fail the run.
        except VideoliftError as error:
            log.warning("no report: %s", error)
    if status.exit_code != ExitCode.OK:
        print(f"reasons and remedies: {path}; then run the same command again")
    return status.exit_code
