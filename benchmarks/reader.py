"""What the reader costs: opening large datasets, normalized samples from more files than are kept open, and a worker's memory.

``python -m benchmarks.reader DATASET [--files 40] [--reads 200]``. Each layout holds the same windows, read in one random order,
interleaved, with the same number of open files; CPU time of this process, medians over rounds. The mp4 layout is what LeRobot's
video datasets are, read by PyAV; LeRobot's own loader adds its own cost to that.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Sized
from pathlib import Path

import numpy as np

from benchmarks.dataset import arrays_of, make_artifacts, pack, sources
from benchmarks.dataset_stores import Mp4Parquet, Npy, Y2r
from benchmarks.timing import parser
from videolift.dataset.index import read_index
from videolift.dataset.index.index_reader import read_index_rows
from videolift.dataset.index.index_writer import draft_index
from videolift.reader import Handles, Normalization, Selection, WindowDataset, open_dataset
from videolift.reader.opening import DatasetFile
from videolift.reader.pairs import Spacing, open_pairs
from videolift.reader.policies.policy_dataset import open_policy

SELECTION = Selection(points=64, camera=False, hand_windows=False)
FRAMES = 40


def synthetic_index(dataset: Path, videos: int, out: Path) -> None:
    """An index of ``videos`` files, whose files need not be there."""
    index = read_index(dataset)
    summary = index.summary
    video = next(entry.video for entry in index.entries if entry.group == summary["statistics_group"])
    row = next(row for row in read_index_rows(dataset) if row.text("video") == video)
    names = (f"v{i:08d}" for i in range(videos))
    with draft_index(out) as draft:
        draft.add_videos(row.with_values({"video": name, "file": f"{name}.hdf5"}) for name in names)
        draft.describe(summary)


def opening(dataset: Path, work: Path) -> None:
    asked: dict[str, Callable[[Path], Sized]] = {
        "windows": lambda folder: open_dataset(folder, selection=SELECTION),
        "pairs": lambda folder: open_pairs(folder, Spacing(frames=(1, 8))),
        "policy": lambda folder: open_policy(folder, 16),
    }
    for videos in (5_000, 100_000):
        folder = work / f"index{videos}"
        synthetic_index(dataset, videos, folder)
        for name, ask in asked.items():
            wall, cpu = time.perf_counter(), time.process_time()
            source = ask(folder)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(f"{name} of {videos:>7} videos: {wall:6.2f} s wall, {cpu:6.2f} s CPU, {len(source)} samples")


class Layout:
    """Files of one layout behind the same number of handles as ours; samples normalized by the same figures."""

    def __init__(self, store: Y2r | Npy | Mp4Parquet, paths: list[Path], limit: int, table: Normalization) -> None:
        self.store, self.paths, self.limit, self.table = store, paths, limit, table
        self.open: OrderedDict[int, object] = OrderedDict()

    def read(self, number: int, window: int) -> None:
        if number not in self.open:
            if len(self.open) >= self.limit:
                _, handle = self.open.popitem(last=False)
                getattr(handle, "close", lambda: None)()
            self.open[number] = self.store.open(self.paths[number])
        self.open.move_to_end(number)
        rgb, depth, query, displacement, pose, *_ = self.store.sample(self.open[number], window, 64)
        rgb = rgb if rgb.shape[0] == 3 else rgb.transpose(2, 0, 1)
        names = ("rgb", "depth", "query", "displacement", "pose9d")
        self.table.apply(
            dict(zip(names, (rgb, np.asarray(depth, np.float32), query, displacement, pose.reshape(-1, 9)), strict=True))
        )


def samples(dataset: Path, work: Path, files: int, reads: int, limit: int) -> None:
    make_artifacts(work, FRAMES, None)
    parts, table = sources(work), Normalization.load(dataset)
    readers: dict[str, Callable[[int, int], object]] = {}
    for name in ("default", "fast"):
        paths = copies(pack(parts, work / f"{name}.hdf5", name), files)
        windows = WindowDataset([DatasetFile.look(p) for p in paths], SELECTION, Handles(limit=limit))
        per = len(windows) // files

        def read(number: int, window: int, windows: WindowDataset = windows, per: int = per) -> object:
            return table.apply(windows.open(number * per + window, epoch=window))

        readers[f"videolift {name}"] = read
    arrays = arrays_of(work / "default.hdf5")
    for store in (Y2r(), Npy(), Mp4Parquet()):
        first = work / f"{type(store).__name__}0"
        store.write(first, arrays)
        readers[store.name] = Layout(store, copies(first, files), limit, table).read
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in readers}
    order = [(int(rng.integers(files)), int(rng.integers(per))) for _ in range(reads)]
    for round_of in np.array_split(np.array(order), 10):
        for name in rng.permutation(list(readers)):
            began = time.process_time()
            for number, window in round_of:
                readers[name](int(number), int(window))
            times[name].append((time.process_time() - began) / len(round_of))
    base = np.median(times["videolift default"])
    for name, taken in times.items():
        print(f"{name:34} {1e3 * np.median(taken):8.2f} ms CPU per sample, {base / np.median(taken):5.2f} x the speed of default")


def worker_memory(work: Path, files: int, reads: int) -> None:
    """What one worker holds after random reads of many files: with few of them open, and with all."""
    paths = copies(work / "default.hdf5", files)
    for limit in (8, files):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            before, after = pool.apply(_resident_mb, (paths, limit, reads))
        print(f"a worker with {limit} of {files} files open: {after:.0f} MB, of which {before:.0f} MB before its first read")


def _resident_mb(paths: list[Path], limit: int, reads: int) -> tuple[float, float]:
    """Resident memory before the reads, and at most until their end."""
    before = _peak_mb()
    windows = WindowDataset([DatasetFile.look(path) for path in paths], SELECTION, Handles(limit=limit))
    for index in np.random.default_rng(0).integers(0, len(windows), reads):
        windows.open(int(index))
    return before, _peak_mb()


def _peak_mb() -> float:
    # Not `getrusage`: it goes on counting from the parent's peak, even in a process that was spawned.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def copies(first: Path, count: int) -> list[Path]:
    """The first and copies of it: HDF5 would open links to one file only once."""
    paths = [first]
    for i in range(1, count):
        path = first.with_name(f"{first.stem}-{i}{first.suffix}")
        (shutil.copytree if first.is_dir() else shutil.copyfile)(first, path)
        paths.append(path)
    return paths


def main() -> None:
    command = parser(__doc__)
    command.add_argument("dataset", type=Path)
    command.add_argument("--files", type=int, default=40)
    command.add_argument("--reads", type=int, default=400)
    command.add_argument("--open-files", type=int, default=16)
    given = command.parse_args()
    with tempfile.TemporaryDirectory() as work:
        opening(given.dataset, Path(work))
        samples(given.dataset, Path(work), given.files, given.reads, given.open_files)
        worker_memory(Path(work), 60, 480)


if __name__ == "__main__":
    main()
