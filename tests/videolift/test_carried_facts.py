"""Facts behind a file's content: read back exactly, no part of the content's hash, invisible to HDF5."""

import h5py
import numpy as np
import pytest

from videolift.carried_facts import append_facts, content_sha256, read_facts
from videolift.store import complete_hdf5, create_hdf5, open_hdf5, sha256_file

FACTS = {"fingerprint": "f" * 64, "checks": ["a sentence — with a dash"], "shrink": 0.5}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.h5"
    out = create_hdf5(path, "videolift.test", 1)
    out.create_dataset("x", data=np.arange(1000), fletcher32=True, chunks=(100,))
    complete_hdf5(out)
    return path


def test_facts_come_back_and_hdf5_does_not_see_them(file):
    append_facts(file, FACTS)
    assert read_facts(file) == FACTS
    with open_hdf5(file, "videolift.test", 1) as opened:
        assert np.array_equal(opened["x"][:], np.arange(1000))
    with h5py.File(file, "r") as opened:
        assert list(opened) == ["x"]


def test_facts_are_no_part_of_the_contents_hash(file):
    before = sha256_file(file)
    assert content_sha256(file) == before
    append_facts(file, FACTS)
    assert content_sha256(file) == before != sha256_file(file)


def test_a_file_without_facts_has_none(file, tmp_path):
    assert read_facts(file) is None
    (tmp_path / "empty").touch()
    assert read_facts(tmp_path / "empty") is None
    assert content_sha256(tmp_path / "empty") == sha256_file(tmp_path / "empty")


@pytest.mark.parametrize("from_end", [1, 10, 20, 40])
def test_damaged_facts_are_none(file, from_end):
    append_facts(file, FACTS)
    data = bytearray(file.read_bytes())
    data[-from_end] ^= 0xFF
    file.write_bytes(data)
    assert read_facts(file) is None


def test_equal_facts_give_equal_bytes(file, tmp_path):
    other = tmp_path / "b.h5"
    other.write_bytes(file.read_bytes())
    append_facts(file, FACTS)
    append_facts(other, dict(reversed(FACTS.items())))
    assert file.read_bytes() == other.read_bytes()
