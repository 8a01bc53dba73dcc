"""What a dataset of many videos costs as a whole: packaging, verification, publication, opening, merging of shards.

    python -m benchmarks.many_videos [--videos 10000]      # some minutes; links take no disk

Every video is a hard link to one real packaged file under a digest of its own, so that all is read as it would be; files are warm
in the page cache. Each figure is a process of its own: seconds, CPU seconds, and its peak of memory above what it held before.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.dataset import make_artifacts, pack, sources
from benchmarks.timing import parser
from videolift.dataset import PackagedVideo, publish_dataset
from videolift.dataset.index import INDEX_FILE
from videolift.dataset.publish import merge_datasets
from videolift.dataset.verify import verify_file
from videolift.paths import subfolder_of
from videolift.reader import Selection, open_dataset

SHARDS = 4
FRAMES = 40
REPEATS = 5


def linked_videos(one: Path, folder: Path, numbers: Sequence[int]) -> list[PackagedVideo]:
    """Videos of these numbers in ``folder``."""
    found = []
    for number in numbers:
        file = folder / subfolder_of(f"video{number:08d}") / f"video{number:08d}.hdf5"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            os.link(one, file)
        found.append(PackagedVideo(file.stem, file, f"{number:064d}", one.stat().st_size))
    return found


def package_again(artifacts: Path) -> str:
    """Says how many frames were packaged."""
    for repeat in range(REPEATS):
        pack(sources(artifacts), artifacts / f"again{repeat}.hdf5")
    return f"{REPEATS * FRAMES} frames"


def verify_again(packaged: Path) -> str:
    """As the job that has written a file does; says how many frames were verified."""
    for _ in range(REPEATS):
        assert not verify_file(packaged)
    return f"{REPEATS * FRAMES} frames"


def publish(folder: Path, rows: list[PackagedVideo]) -> str:
    """Says how many files were read."""
    return f"{publish_dataset(folder, rows, left_out={}).read_again} files read"


def merge(out: Path, shards: list[Path], how: str) -> str:
    """Says how many files were read."""
    summary = merge_datasets(out, shards, how="link" if how == "link" else "reference")
    return f"{summary.read_again} files read"


def open_windows(folder: Path) -> str:
    """Says how many windows there are."""
    selection = Selection(points=64, camera=False, hand_windows=False)
    return f"{len(open_dataset(folder, selection=selection))} windows"


def measured(work: Callable[[], str]) -> tuple[str, float, float, float]:
    """What ``work`` says, its CPU seconds, wall seconds, MB added at the peak."""
    before_kb, cpu, wall = _memory_kb("VmRSS"), time.process_time(), time.monotonic()
    said = work()
    return said, time.process_time() - cpu, time.monotonic() - wall, (_memory_kb("VmHWM") - before_kb) / 1024


def _memory_kb(name: str) -> int:
    """Of this process, as the kernel counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def report(what: str, work: Callable[[], str]) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        said, cpu_s, wall_s, peak_mb = pool.apply(measured, (work,))
    print(f"| {what} | {said} | {cpu_s:.1f} | {wall_s:.1f} | {peak_mb:.0f} |", flush=True)


def main() -> None:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--videos", type=int, default=10_000)
    videos = command.parse_args().videos
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        make_artifacts(top, FRAMES, None)
        one = pack(sources(top), top / "one.hdf5")
        whole = linked_videos(one, top / "whole", range(videos))
        print(f"{videos} videos\n\n| | | CPU s | wall s | MB added |\n|---|---|---|---|---|")
        report("package", partial(package_again, top))
        report("verify", partial(verify_again, one))
        report("publish, all new", partial(publish, top / "whole", whole))
        report("publish, nothing changed", partial(publish, top / "whole", whole))
        added = [*whole, *linked_videos(one, top / "whole", range(videos, videos + 10))]
        report("publish, 10 added", partial(publish, top / "whole", added))
        report("open_dataset", partial(open_windows, top / "whole"))
        print(f"| index | {(top / 'whole' / INDEX_FILE).stat().st_size / len(added):.0f} bytes per video | | | |", flush=True)
        shards = [top / f"shard{number}" for number in range(SHARDS)]
        for number, shard in enumerate(shards):
            publish(shard, linked_videos(one, shard, range(number, videos, SHARDS)))
        for how in ("link", "reference"):
            report(f"merge {SHARDS} shards, {how}", partial(merge, top / how, shards, how))
            report(f"merge again, {how}", partial(merge, top / how, shards, how))


if __name__ == "__main__":
    main()
