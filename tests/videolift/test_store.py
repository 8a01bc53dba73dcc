"""Files that are whole or absent: JSON and HDF5 under kills, on full disks, with odd contents."""

import fcntl
import json
import math
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SMALL_DISK_BYTES
from tests.killing import kill_at, leftovers, moments
from videolift import store
from videolift.errors import CorruptFile, Transient
from videolift.hdf5_output import HDF5Output

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), json_values, max_size=3))
def test_what_was_written_as_json_is_read_back(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    store.write_json(path, value)
    assert store.read_json(path) == value


def test_file_names_that_are_not_utf8_survive_json(tmp_path):
    value = {"path": os.fsdecode(b"/caf\xe9.mp4"), "text": "café"}
    store.write_json(tmp_path / "a.json", value)
    assert store.read_json(tmp_path / "a.json") == value
    assert json.loads((tmp_path / "a.json").read_bytes()) == value


def test_equal_values_give_equal_bytes_whatever_their_order(tmp_path):
    store.write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, "ü"]})
    store.write_json(tmp_path / "b.json", {"a": [1.5, "ü"], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert store.sha256_of({"b": 1, "a": 2}) == store.sha256_of({"a": 2, "b": 1})
    assert store.sha256_of([1, 2]) != store.sha256_of([2, 1])


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [math.nan]}])
def test_numbers_that_json_does_not_know_are_refused_and_nothing_is_written(tmp_path, value):
    with pytest.raises(ValueError, match="Out of range float"):
        store.write_json(tmp_path / "a.json", value)
    with pytest.raises(ValueError, match="Out of range float"):
        store.sha256_of(value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b'{"a": ', b"\xff\xfe", bytes(200)], ids=["empty", "torn", "not utf-8", "zeros"])
def test_a_torn_json_file_counts_as_missing(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    assert store.read_json(tmp_path / "a.json") is None
    assert store.read_json(tmp_path / "none.json") is None
    assert store.read_json(tmp_path / "a.json" / "below.json") is None


def test_an_error_while_writing_leaves_the_old_file_and_no_temporary(tmp_path):
    store.write_text(tmp_path / "a.txt", "old")

    def fail():
        with store.atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("half of the n")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_folders_are_made_on_the_way(tmp_path):
    store.write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def test_temporaries_are_hidden_lie_beside_their_file_and_never_meet(tmp_path):
    names = {store.temporary_beside(tmp_path / "a.h5") for _ in range(100)}
    assert len(names) == 100
    assert {path.parent for path in names} == {tmp_path}
    assert all(path.name.startswith(".a.h5.") for path in names)


def test_a_name_as_long_as_the_longest_id_has_room_for_its_temporary(tmp_path):
    store.write_text(tmp_path / ("x" * 100 + ".normalization.json"), "x")


def test_a_killed_writer_leaves_the_old_json_or_the_new(tmp_path):
    path, values, found = tmp_path / "a.json", ["old", "new"], []
    for moment in moments(lambda: store.write_json(path, {"is": "new"}), 40):
        store.write_json(path, {"is": "old"})
        assert not kill_at(moment, lambda: store.write_json(path, {"is": "new"}))
        found.append((store.read_json(path) or {})["is"])
    assert set(found) == set(values)
    assert found == sorted(found, reverse=True), "old until a moment, new from then on"
    assert leftovers(tmp_path)


WRITE_WHILE_FULL = """
import sys
from pathlib import Path
from videolift import store
from videolift.errors import Transient
folder, size = Path(sys.argv[1]), int(sys.argv[2])
for free in (0, 4096, 20_000, 60_000, 120_000):
    (folder / "full").write_bytes(bytes(size - free))
    for write in (lambda path: store.write_json(path, ["x" * 50_000]), lambda path: write_hdf5(path)):
        path = folder / "a"
        try:
            write(path)
            print("written")
        except Transient as error:
            assert "writing a: [Errno 28] No space left on device" in str(error), error
            print("transient")
            assert not path.exists()
        path.unlink(missing_ok=True)
        assert [p.name for p in folder.iterdir()] == ["full"]
    (folder / "full").unlink()
"""

WRITE_HDF5 = """
import numpy as np
def write_hdf5(path):
    with store.atomic_file(path) as temporary:
        file = store.create_hdf5(temporary, "x", 1)
        file["a"] = np.random.default_rng(0).random(5_000)
        store.complete_hdf5(file)
"""


def test_a_full_disk_is_transient_and_leaves_nothing(small_disk):
    command = [sys.executable, "-c", WRITE_HDF5 + WRITE_WHILE_FULL, str(small_disk), str(SMALL_DISK_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split()
    assert lines[0] == lines[1] == "transient"
    assert lines[-2:] == ["written", "written"]


def test_a_full_disk_leaves_the_old_file(small_disk):
    store.write_json(small_disk / "a.json", {"old": True})
    (small_disk / "full").write_bytes(bytes(SMALL_DISK_BYTES - 3 * 4096))
    with pytest.raises(Transient, match=r"writing a\.json"):
        store.write_json(small_disk / "a.json", ["x" * 100_000])
    assert store.read_json(small_disk / "a.json") == {"old": True}


@pytest.mark.parametrize("when", ["check", "flush", "close"])
def test_hdf5_on_a_full_disk_says_so_from_python_and_is_closed(small_disk, when):
    (small_disk / "full").write_bytes(bytes(SMALL_DISK_BYTES - 8192))
    file = HDF5Output(small_disk / "a.h5", store.LIBVER)
    file["x"] = np.random.default_rng(0).random(2_000_000)  # beyond what HDF5 keeps to itself until the end
    with pytest.raises(OSError, match="No space left"):
        getattr(file, when)()
    assert not file
    file.close()


def test_files_left_open_are_closed_before_python_ends(tmp_path):
    code = (
        "import sys; from pathlib import Path; from videolift import store\n"
        "file = store.create_hdf5(Path(sys.argv[1]), 'x', 1); file['x'] = range(1000); file.itself = file; raise SystemExit(3)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.h5")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")


def test_an_hdf5_file_of_ours_opens_in_plain_h5py(tmp_path):
    file = store.create_hdf5(tmp_path / "a.h5", "videolift.x", 3)
    file["data"] = np.arange(5)
    store.complete_hdf5(file)
    with h5py.File(tmp_path / "a.h5") as plain:
        assert (plain.attrs["format"], plain.attrs["version"], plain.attrs["complete"]) == (b"videolift.x", 3, 1)
        assert plain["data"][:].tolist() == [0, 1, 2, 3, 4]
        assert plain.libver == ("v110", "v110") or plain.libver[0] == "earliest"


def test_a_file_whose_writer_was_stopped_is_refused(tmp_path):
    file = store.create_hdf5(tmp_path / "a.h5", "x", 1)
    file["data"] = np.arange(5)
    file.close()
    with pytest.raises(CorruptFile, match="not complete: its writer was stopped"):
        store.open_hdf5(tmp_path / "a.h5", "x", 1)


def test_a_file_that_is_being_written_is_refused(tmp_path):
    file = store.create_hdf5(tmp_path / "a.h5", "x", 1)
    file["data"] = np.arange(5)
    file.flush()
    with pytest.raises(CorruptFile):
        store.open_hdf5(tmp_path / "a.h5", "x", 1)
    file.close()


def test_published_files_are_read_without_locks(tmp_path):
    file = store.create_hdf5(tmp_path / "a.h5", "x", 1)
    store.complete_hdf5(file)
    with (tmp_path / "a.h5").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store.open_hdf5(tmp_path / "a.h5", "x", 1).close()


def test_text_attributes_hold_no_text_outside_the_checksums(tmp_path):
    file = store.create_hdf5(tmp_path / "a.h5", "x", 1)
    store.write_attribute(file, "text", "some words")
    store.write_attribute(file, "map", {"b": [1, None]})
    store.complete_hdf5(file)
    assert b"GCOL" not in (tmp_path / "a.h5").read_bytes()  # HDF5's heap of texts of variable length


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert store.sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_a_killed_process_left_of_a_file_is_removed_and_nothing_else(tmp_path):
    final = tmp_path / "clip.h5"
    store.temporary_beside(final).touch()
    scratch = store.temporary_beside(final.with_suffix(".scratch"))
    (scratch / "inside").mkdir(parents=True)
    others = [store.temporary_beside(tmp_path / name) for name in ("clip.b.h5", "other.h5", "clip.json")]
    for path in (final, *others, tmp_path / ".clip.h5.tmp"):
        path.touch()
    store.remove_leftovers(final)
    assert set(tmp_path.iterdir()) == {final, *others, tmp_path / ".clip.h5.tmp"}
    store.remove_leftovers(tmp_path / "no folder" / "clip.h5")
