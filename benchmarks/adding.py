"""What adding ten videos to a finished dataset of many costs as a whole: one run of the workflow, every process counted.

    python -m benchmarks.adding [--videos 100000] [--folder /tmp/adding]      # 100,000: half an hour, mostly to make the dataset

The stages are the quick ones of the tests, which do no work worth the name, so what is measured is all that a run does besides it.
The videos that are there are links to four packaged files of a run of these stages, under digests of their own, and are published
once by a run of the same workflow.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.scale import ROOT, finish, make_videos, measure
from tests.resume.harness import FIXTURES, STAGES, make_project

SNAKEMAKE = ("-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-q", "--cores", "2")
SEEDS, ADDED = 4, 10


def make_dataset(folder: Path, count: int) -> None:
    """All stages done for ``count`` videos, nothing published yet."""
    seed = make_project(folder / "seed", videos=SEEDS, seconds=0)
    if seed.run(timeout=600) != 0:
        sys.exit(seed.terminal())
    packaged = sorted((seed.output / "h5_dataset").glob("*.hdf5"))
    quick = {stage: {"backend": str(FIXTURES / f"quick_{stage}.py")} for stage in STAGES}
    make_videos(folder / "whole", count, **quick)
    finish(folder / "whole", packaged)


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
            report("publishing all", folder / "whole")
        report("nothing to do", folder / "whole")
        first = len(list((folder / "whole" / "videos").glob("new*.mp4")))
        for i in range(first, first + ADDED):
            (folder / "whole" / "videos" / f"new{i}.mp4").write_bytes(random.Random(i).randbytes(5000))
        report(f"{ADDED} videos added", folder / "whole")


if __name__ == "__main__":
    main()
