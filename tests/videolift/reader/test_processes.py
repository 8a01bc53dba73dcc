"""Many processes, files that are replaced meanwhile, files that break: every value right, every fault said."""

from __future__ import annotations

import multiprocessing
import os
import shutil

import h5py
import numpy as np
import pytest

from videolift.errors import CorruptFile
from videolift.reader import Draw, Handles, Selection, WindowDataset
from videolift.reader.skips import Skipped, open_or_skip

SELECTION = Selection(points=6, rgb=True, depth=False, hand_windows=False)


def _digests(windows, indices):
    """What was read, as a few numbers, and how many descriptors were open at most."""
    out, most, inherited = [], 0, len(os.listdir("/proc/self/fd"))
    for index in indices:
        sample = windows.open(int(index))
        out.append((float(sample["displacement"].sum()), int(sample["rgb"].astype(np.int64).sum()), sample["frame"]))
        most = max(most, len(os.listdir("/proc/self/fd")) - inherited)
    return out, most


def _republish(paths, stop):
    """Replaces files by equal copies, over and over, as a run that packages videos again does."""
    while not stop.is_set():
        for path in paths:
            copy = path.with_suffix(".tmp")
            shutil.copyfile(path, copy)
            os.replace(copy, path)
            stop.wait(0.02)


READS = [("fork", 400), ("spawn", 400)]
READS += [pytest.param(method, 10_000, marks=pytest.mark.slow) for method in ("fork", "spawn")]


@pytest.mark.parametrize(("method", "reads"), READS)
def test_random_reads_while_files_are_republished_are_all_right(profiles, tmp_path, method, reads):
    paths = [tmp_path / f"v{i}.hdf5" for i in range(6)]
    for path in paths:
        shutil.copyfile(profiles["default"], path)
    windows = WindowDataset(paths, SELECTION, Handles(limit=3))
    wanted, _ = _digests(windows, range(len(windows)))
    context = multiprocessing.get_context(method)
    stop = context.Event()
    publisher = context.Process(target=_republish, args=(paths, stop))
    publisher.start()
    try:
        draws = [np.random.default_rng(worker).integers(0, len(windows), reads // 4) for worker in range(4)]
        with context.Pool(4) as pool:
            results = pool.starmap(_digests, [(windows, indices) for indices in draws])
    finally:
        stop.set()
        publisher.join()
    for indices, (found, most) in zip(draws, results, strict=True):
        assert found == [wanted[i] for i in indices]
        assert most < 10


def _flip(path, name):
    """Flips one bit in the stored bytes of an array."""
    with h5py.File(path, locking=False) as file:
        dataset = file[name]
        at = dataset.id.get_chunk_info(dataset.id.get_num_chunks() // 2).byte_offset if dataset.chunks else dataset.id.get_offset()
    content = bytearray(path.read_bytes())
    content[at + 40] ^= 4
    path.write_bytes(content)


def test_truncated_flipped_and_missing_files_are_raised_or_skipped_exactly(profiles, tmp_path):
    paths = [tmp_path / f"v{i}.hdf5" for i in range(4)]
    for path in paths:
        shutil.copyfile(profiles["default"], path)
    windows = WindowDataset(paths, SELECTION)
    per_file = len(windows) // 4
    paths[0].write_bytes(paths[0].read_bytes()[:3000])
    _flip(paths[1], "rgb")
    paths[2].unlink()
    skipped, read = list[Skipped](), 0
    for index in range(len(windows)):
        sample = open_or_skip(windows, Draw(index), "skip")
        if isinstance(sample, Skipped):
            skipped.append(sample)
        else:
            read += 1
            assert sample["video"] in ("v1", "v3")
    by_file = [sum(1 for skip in skipped if f"v{i}.hdf5" in skip.reason) for i in range(4)]
    assert by_file == [per_file, per_file, per_file, 0]  # small arrays are read whole, so one bit costs all of v1
    assert read == 4 * per_file - sum(by_file)
    with pytest.raises(CorruptFile, match=r"v2\.hdf5"):
        open_or_skip(windows, Draw(2 * per_file), "raise")
