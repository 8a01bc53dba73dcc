"""Chunks read without HDF5 having the file open: the same values, every fault said, and files that rest."""

from __future__ import annotations

import os
import pickle

import h5py
import hdf5plugin
import numpy as np
import pytest

from tests.videolift.reader.conftest import artifacts, profiles  # noqa: F401
from videolift.dataset.chunk_table import NO_CHUNK_CACHE, ChunkTable, index_bounds
from videolift.errors import CorruptFile
from videolift.reader import Handles, PackagedFile

LARGE = "videolift.dataset.stored._CACHED_BYTES"
"""Arrays above this size are read chunk by chunk; the fixture's are all smaller."""


def opened(file, name):
    return h5py.h5d.open(file.id, name.encode(), NO_CHUNK_CACHE)


@pytest.fixture
def random_file(tmp_path):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5", "w", libver=("v110", "v110")) as file:
        kinds = {"plain": {}, "bitshuffle": dict(hdf5plugin.Bitshuffle(cname="lz4")), "zstd": dict(hdf5plugin.Zstd(clevel=1))}
        for name, codec in kinds.items():
            data = rng.normal(size=(9, 50, 3)).astype(np.float32)
            file.create_dataset(name, data=data, chunks=(4, 16, 3), fletcher32=True, shuffle=name == "zstd", **codec)
        file.create_dataset("flags", data=rng.random((9, 50)) < 0.5, chunks=(9, 7), fletcher32=True)
    return tmp_path / "a.h5"


INDICES = [
    ...,
    3,
    -1,
    slice(2, 7),
    slice(5, 5),
    slice(None, None, -2),
    (slice(1, 8, 3), 4),
    (slice(None), slice(15, 33)),
    (slice(8), slice(32)),
    slice(4, 8),
    (..., slice(10, 40)),
    (np.int64(8), slice(np.int64(48), 99)),
]


@pytest.mark.parametrize("where", INDICES, ids=str)
def test_any_part_is_what_hdf5_reads(random_file, where):
    descriptor = os.open(random_file, os.O_RDONLY)
    with h5py.File(random_file) as file:
        for name, dataset in file.items():
            table = ChunkTable.of(opened(file, name), random_file.stat().st_size)
            box, rest = index_bounds(where, table.shape)
            for again in (False, False, True):  # checksums are compared, known to match, and compared again
                np.testing.assert_array_equal(table.read(descriptor, box, compare_again=again)[rest], dataset[...][where])
    os.close(descriptor)


@pytest.mark.parametrize("where", [9, (0, 50), (0, 0, 0, 0)], ids=str)
def test_an_index_beyond_the_array_is_refused(where):
    with pytest.raises(IndexError):
        index_bounds(where, (9, 50, 3))


def test_every_flipped_bit_of_a_chunk_is_seen_and_spoils_no_other(random_file):
    with h5py.File(random_file) as file:
        tables = {name: ChunkTable.of(opened(file, name), random_file.stat().st_size) for name in file}
        truth = {name: file[name][...] for name in file}
    content = bytearray(random_file.read_bytes())
    for table in tables.values():
        content[int(table.offsets[1]) + 20] ^= 4
    random_file.write_bytes(content)
    descriptor = os.open(random_file, os.O_RDONLY)
    for name, table in tables.items():
        first_row = tuple((0, min(step, length)) for step, length in zip(table.chunk, table.shape, strict=True))
        whole = tuple((0, length) for length in table.shape)
        for _ in range(2):
            with pytest.raises((OSError, RuntimeError)):
                table.read(descriptor, whole)
            part = tuple(slice(*run) for run in first_row)
            np.testing.assert_array_equal(table.read(descriptor, first_row), truth[name][part])
    os.close(descriptor)


def test_a_checksum_that_matched_is_compared_again_only_where_asked(random_file):
    with h5py.File(random_file) as file:
        table, whole = ChunkTable.of(opened(file, "plain"), random_file.stat().st_size), ((0, 9), (0, 50), (0, 3))
    descriptor = os.open(random_file, os.O_RDWR)
    before = table.read(descriptor, whole)
    os.pwrite(descriptor, b"spoilt", int(table.offsets[1]))  # under the same name, and behind the reader's back
    assert (table.read(descriptor, whole) != before).any()
    with pytest.raises((OSError, RuntimeError)):
        table.read(descriptor, whole, compare_again=True)
    os.close(descriptor)


@pytest.mark.parametrize("checked", [False, True])
def test_handles_open_files_as_strictly_as_they_are_told(profiles, checked):  # noqa: F811
    handles = pickle.loads(pickle.dumps(Handles(limit=1, checked=checked)))
    assert handles.get(profiles["fast"]).stored.checked is checked


def refused(path, message):
    with h5py.File(path) as file, pytest.raises(ValueError, match=message):
        ChunkTable.of(opened(file, "a"), path.stat().st_size)


def test_missing_chunks_and_foreign_filters_are_refused(tmp_path):
    with h5py.File(tmp_path / "holes.h5", "w") as file:
        file.create_dataset("a", (8, 8), "f4", chunks=(4, 8))[:4] = 1
    refused(tmp_path / "holes.h5", "needs 2 chunks, 1 are there")
    with h5py.File(tmp_path / "gzip.h5", "w") as file:
        file.create_dataset("a", data=np.ones((8, 8)), chunks=(4, 8), compression="gzip")
    refused(tmp_path / "gzip.h5", "HDF5's filter 1, which no file of ours uses")


def test_a_file_cut_off_after_it_was_opened_is_said(random_file):
    with h5py.File(random_file) as file:
        table = ChunkTable.of(opened(file, "plain"), random_file.stat().st_size)
    os.truncate(random_file, int(table.offsets[-1]) + 5)
    descriptor = os.open(random_file, os.O_RDONLY)
    with pytest.raises(OSError, match="ends within chunk"):
        table.read(descriptor, ((0, 9), (0, 50), (0, 3)))
    os.close(descriptor)


def test_an_open_file_keeps_no_chunks(profiles):  # noqa: F811
    with PackagedFile(profiles["default"]) as file:
        file.rgb(slice(0, 2))
        assert file.stored._opened("rgb").get_access_plist().get_chunk_cache()[1] == 0


@pytest.mark.parametrize("profile", ["default", "fast", "tiny"])
def test_a_file_that_rested_is_read_without_opening_it_again(profiles, profile, monkeypatch):  # noqa: F811
    monkeypatch.setattr(LARGE, 100)
    handles, path = Handles(limit=1), profiles[profile]
    before, descriptors = [a.copy() for a in handles.get(path).tracks(2)], len(os.listdir("/proc/self/fd"))
    image = handles.get(path).rgb(slice(2, 4))
    handles.get(profiles["default" if profile == "fast" else "fast"])
    assert len(handles) == 1
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    monkeypatch.setattr("videolift.dataset.stored.open_hdf5", None)
    file = handles.get(path)
    np.testing.assert_array_equal(file.rgb(slice(2, 4)), image)
    for array, again in zip(before, file.tracks(2), strict=True):
        np.testing.assert_array_equal(array, again)


def test_a_file_replaced_while_it_rests_is_read_anew(profiles, tmp_path):  # noqa: F811
    path = tmp_path / "clip.hdf5"
    path.write_bytes(profiles["default"].read_bytes())
    handles = Handles(limit=1)
    handles.get(path).rgb(slice(0, 2))
    handles.get(profiles["fast"])
    (tmp_path / "new").write_bytes(path.read_bytes())
    with h5py.File(tmp_path / "new", "r+") as file:
        file["rgb"][1] = 7
    os.replace(tmp_path / "new", path)
    assert (handles.get(path).rgb(slice(1, 2)) == 7).all()
    handles.get(profiles["fast"])
    path.unlink()
    with pytest.raises(CorruptFile, match="no such file"):
        handles.get(path)


def test_an_open_file_stays_itself_when_it_is_replaced(profiles, tmp_path):  # noqa: F811
    path = tmp_path / "clip.hdf5"
    path.write_bytes(profiles["default"].read_bytes())
    handles = Handles(limit=1)
    handles.get(path)
    handles.get(profiles["fast"])
    file = handles.get(path)  # open again, and HDF5 has not seen it since
    (tmp_path / "new").write_bytes(profiles["tiny"].read_bytes())
    os.replace(tmp_path / "new", path)
    with h5py.File(profiles["default"]) as reference:
        np.testing.assert_array_equal(file.array("rgb"), reference["rgb"][...])


def test_what_is_known_of_files_at_rest_is_bounded(profiles):  # noqa: F811
    handles = Handles(limit=1, resting_bytes=0)
    first = handles.get(profiles["default"])
    handles.get(profiles["fast"])
    assert handles.get(profiles["default"]) is not first
    roomy = Handles(limit=1)
    first = roomy.get(profiles["default"])
    roomy.get(profiles["fast"])
    assert roomy.get(profiles["default"]) is first


def test_a_closed_file_is_not_read(profiles, monkeypatch):  # noqa: F811
    monkeypatch.setattr(LARGE, 100)
    for profile in ("default", "fast"):
        file = PackagedFile(profiles[profile])
        file.rgb(slice(0, 1))
        file.close()
        with pytest.raises(CorruptFile, match="closed"):
            file.rgb(slice(0, 1))
