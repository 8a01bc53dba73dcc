"""Damaged artifacts: whatever happened to the bytes, a reader says so or reads what was written."""

import shutil

import h5py
import numpy as np
import pytest

from tests.videolift.artifacts.conftest import content
from videolift.errors import CorruptFile
from videolift.store import create_hdf5


def test_truncation_anywhere_is_noticed(kind, tmp_path):
    data = kind.write(tmp_path / "a.h5").read_bytes()
    lengths = {len(data) * percent // 100 for percent in range(100)} | {len(data) - 1}
    for length in sorted(lengths):
        (tmp_path / "cut.h5").write_bytes(data[:length])
        with pytest.raises(CorruptFile, match=r"cut\.h5"):
            content(kind.reader, tmp_path / "cut.h5")


def test_a_flipped_bit_in_any_dataset_is_noticed(kind, tmp_path):
    path = kind.write(tmp_path / "a.h5")
    rng = np.random.default_rng(0)
    for field in kind.reader.FIELDS:
        with h5py.File(path) as file:
            chunk = file[field.name].id.get_chunk_info(0)
        data = bytearray(path.read_bytes())
        data[chunk.byte_offset + int(rng.integers(chunk.size))] ^= 1 << int(rng.integers(8))
        (tmp_path / "flipped.h5").write_bytes(data)
        with pytest.raises(CorruptFile, match=field.name), kind.reader(tmp_path / "flipped.h5") as artifact:
            artifact.read(field.name)


def test_a_flipped_bit_anywhere_is_noticed_or_harmless(kind, tmp_path):
    path = kind.write(tmp_path / "a.h5")
    truth, data, rng = content(kind.reader, path), path.read_bytes(), np.random.default_rng(1)
    noticed = 0
    for offset in rng.integers(0, len(data), 150):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << int(rng.integers(8))
        (tmp_path / "flipped.h5").write_bytes(flipped)
        try:
            assert content(kind.reader, tmp_path / "flipped.h5") == truth, f"byte {offset}"
        except CorruptFile:
            noticed += 1
    assert noticed > 75


def test_zeros_at_the_end_are_noticed(kind, tmp_path):
    """What a power cut leaves of blocks that were allocated and not yet written."""
    data = kind.write(tmp_path / "a.h5").read_bytes()
    for share in (0.1, 0.5, 0.9):
        keep = int(len(data) * share)
        (tmp_path / "zeros.h5").write_bytes(data[:keep] + bytes(len(data) - keep))
        with pytest.raises(CorruptFile):
            content(kind.reader, tmp_path / "zeros.h5")


def test_an_artifact_of_another_kind_or_version_is_refused(kind, tmp_path):
    path = kind.write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(CorruptFile, match="version is 99, this videolift reads 1"):
        kind.reader(path)
    with create_hdf5(tmp_path / "other.h5", "videolift.other", 1):
        pass
    with pytest.raises(CorruptFile, match="format is 'videolift.other'"):
        kind.reader(tmp_path / "other.h5")


def test_an_artifact_that_is_not_complete_is_refused(kind, tmp_path):
    path = kind.write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["complete"]
    with pytest.raises(CorruptFile, match="not complete: its writer was stopped"):
        kind.reader(path)


def test_an_artifact_without_one_of_its_fields_is_refused(kind, tmp_path):
    path = kind.write(tmp_path / "a.h5")
    name = kind.reader.FIELDS[0].name
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(CorruptFile, match=f"without {name}"):
        kind.reader(path)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.touch(), lambda p: p.write_text("text"), lambda p: p.mkdir()])
def test_what_is_no_artifact_at_all_is_refused(kind, tmp_path, make):
    make(tmp_path / "a.h5")
    with pytest.raises(CorruptFile, match=r"a\.h5"):
        kind.reader(tmp_path / "a.h5")


def test_an_open_artifact_survives_its_replacement(kind, tmp_path):
    path = kind.write(tmp_path / "a.h5")
    truth = content(kind.reader, path)
    with kind.reader(path) as held:
        kind.write(path, frames=3)
        assert held.read(kind.writer.ROWS).tobytes() == truth[0][kind.writer.ROWS][2]
    assert content(kind.reader, path) != truth


def test_a_copied_artifact_reads_the_same(kind, tmp_path):
    path = kind.write(tmp_path / "a.h5")
    shutil.copy(path, tmp_path / "b.h5")
    assert content(kind.reader, tmp_path / "b.h5") == content(kind.reader, path)
