"""What adding ten videos to a finished dataset of many costs as a whole: one run of the workflow, every process counted.

    python -m benchmarks.adding [--videos 100000] [--folder /tmp/adding]      # 100,000: ten minutes, mostly to make the dataset

The stages are the quick ones of the tests, which do no work worth the name, so what is measured is all that a run does besides it.
The videos that are there are links to four packaged files of a run of these stages, under digests of their own. They are published
as a run does it, but that each of the four files is read once: what reading costs is measured by `benchmarks.many_videos`.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache
from pathlib import Path
from unittest.mock import patch

from benchmarks.scale import ROOT, finish, make_videos, measure
from stages.engine.plan import ALL, make_plan
from stages.engine.statistics import run_statistics
from stages.settings import load_config
from tests.resume.harness import FIXTURES, STAGES, make_project
from videolift.dataset.file import PackagedFile
from videolift.dataset.publish import packaged_videos
from videolift.dataset.statistics import merging
from videolift.records.runs import read_run
from videolift.stage_table import STATISTICS

SNAKEMAKE = ("-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-q", "--cores", "2")
SEEDS, ADDED = 4, 10


def make_dataset(folder: Path, count: int) -> None:
    """All stages done for ``count`` videos, and published."""
    seed = make_project(folder / "seed", videos=SEEDS, seconds=0)
    if seed.run(timeout=600) != 0:
        sys.exit(seed.terminal())
    packaged = sorted((seed.output / "h5_dataset").glob("*.hdf5"))
    quick = {stage: {"backend": str(FIXTURES / f"quick_{stage}.py")} for stage in STAGES}
    make_videos(folder / "whole", count, **quick)
    finish(folder / "whole", packaged)
    publish(folder / "whole")


def publish(project: Path) -> None:
    """Makes statistics and index as their job does, and reads every file once, however many names it has."""
    plan = make_plan(load_config(project / "config.yaml"), project)
    with ExitStack() as stack:

        @cache
        def opened(inode: int, path: Path) -> PackagedFile:
            return stack.enter_context(PackagedFile(path))

        names: dict[int, Path] = {}

        def kept_open(path: Path) -> AbstractContextManager[PackagedFile]:
            inode = path.stat().st_ino
            return nullcontext(opened(inode, names.setdefault(inode, path)))

        for module, reads in ((packaged_videos, "describe_file"), (merging, "packed_statistics")):
            stack.enter_context(patch.object(module, "PackagedFile", kept_open))
            stack.enter_context(patch.object(module, reads, cache(getattr(module, reads))))
        run_statistics(read_run(plan.run), plan.targets[STATISTICS][ALL], plan.manifest(STATISTICS, ALL))


def report(what: str, folder: Path) -> None:
    found = measure(folder, *SNAKEMAKE)
    print(f"| {what} | {found['cpu_s']:.1f} | {found['wall_s']:.1f} | {found['peak_mb']:.0f} | {found['code']:.0f} |", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="kept, and used again where it is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        print(
            f"{options.videos} videos\n\n| | CPU s | wall s | peak MB of a process | exit code |\n|---|---|---|---|---|", flush=True
        )
        if not (folder / "whole").exists():
            make_dataset(folder, options.videos)
        report("nothing to do", folder / "whole")
        first = len(list((folder / "whole" / "videos").glob("new*.mp4")))
        for i in range(first, first + ADDED):
            (folder / "whole" / "videos" / f"new{i}.mp4").write_bytes(random.Random(i).randbytes(5000))
        report(f"{ADDED} videos added", folder / "whole")


if __name__ == "__main__":
    main()
