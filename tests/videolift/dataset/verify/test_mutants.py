"""Files that nobody of ours wrote: damaged, malformed, hostile. A finding for each, and never another file's bytes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor

import h5py
import numpy as np
import pytest

from tests.videolift.dataset.verify import mutants
from tests.videolift.reader.conftest import artifacts, dataset_folder, profiles  # noqa: F401
from videolift.dataset.file import PackagedFile
from videolift.dataset.verify import verify_file, verify_path
from videolift.errors import CorruptFile


def treat(profiles, folder, seeds):  # noqa: F811
    """In a process with bounded memory: one that dies, by whatever file, fails the test."""
    originals = {name: str(path) for name, path in profiles.items()}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=mutants.limit_memory) as processes:
        tried = {seed: processes.submit(mutants.try_mutant, originals, str(folder), seed) for seed in seeds}
        crashed = {seed: future.exception() for seed, future in tried.items()}
        return [
            f"mutant {seed}: {crashed[seed]!r}" if crashed[seed] else future.result()
            for seed, future in tried.items()
            if crashed[seed] or future.result()
        ]


def test_sixty_mutants_crash_nothing_and_nothing_wrong_is_read(profiles, tmp_path):  # noqa: F811
    assert treat(profiles, tmp_path, range(60)) == []


@pytest.mark.slow
def test_five_hundred_mutants_crash_nothing_and_nothing_wrong_is_read(profiles, tmp_path):  # noqa: F811
    assert treat(profiles, tmp_path, range(1000, 1500)) == []


@pytest.fixture
def other(tmp_path):
    """Somebody's own file beside the dataset."""
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["secret"] = np.full((12, 3, 64, 64), 42, np.uint8)
    return path


def external_link(file, other):
    file["rgb"] = h5py.ExternalLink(str(other), "/secret")


def external_storage(file, other):
    file.create_dataset("rgb", (12, 3, 64, 64), "u1", external=[(str(other), 0, 12 * 3 * 64 * 64)])


def virtual_array(file, other):
    layout = h5py.VirtualLayout((12, 3, 64, 64), "u1")
    layout[:] = h5py.VirtualSource(str(other), "secret", (12, 3, 64, 64))
    file.create_virtual_dataset("rgb", layout)


@pytest.mark.parametrize("way", [external_link, external_storage, virtual_array])
def test_nothing_outside_the_file_is_read(profiles, tmp_path, other, way):  # noqa: F811
    path = tmp_path / "hostile.hdf5"
    shutil.copy(profiles["default"], path)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        del file["rgb"]
        way(file, other)
        file["tracks/more"] = h5py.ExternalLink(str(other), "/secret")
    with PackagedFile(path) as file, pytest.raises(CorruptFile):
        file.rgb(slice(0, 1))
    texts = " ".join(finding.text for finding in verify_file(path))
    assert "tracks/more is a link" in texts
    assert "rgb is a link" in texts or "outside the file" in texts


def test_a_flipped_bit_in_fast_is_refused_on_first_read_where_that_is_asked_for(profiles, tmp_path):  # noqa: F811
    with h5py.File(profiles["fast"], locking=False) as file:
        place = file["rgb"].id.get_offset() + 1000
    content = bytearray(profiles["fast"].read_bytes())
    content[place] ^= 4
    path = tmp_path / "flipped.hdf5"
    path.write_bytes(content)
    with PackagedFile(path) as trusting, PackagedFile(profiles["fast"]) as original:
        assert (trusting.rgb(slice(0, 1)) != original.rgb(slice(0, 1))).any()
    with PackagedFile(path, checked=True) as careful, pytest.raises(CorruptFile, match="rgb does not match its checksum"):
        careful.rgb(slice(0, 1))
    with PackagedFile(path, checked=True) as careful:
        careful.depth(slice(0, 1))


def test_a_jpeg_that_claims_more_pixels_than_there_is_memory_is_refused(profiles, tmp_path):  # noqa: F811
    path = tmp_path / "bomb.hdf5"
    shutil.copy(profiles["tiny"], path)
    with h5py.File(path, "r+") as file:
        code = file["rgb_jpeg/bytes"][...]
        at = bytes(code).index(b"\xff\xc0")
        code[at + 5 : at + 9] = 0xFF
        file["rgb_jpeg/bytes"][...] = code
    with PackagedFile(path) as file, pytest.raises(CorruptFile, match="not a JPEG of 64 x 64"):
        file.rgb(slice(0, 1))


def test_an_index_that_points_outside_its_folder_is_refused(profiles, tmp_path):  # noqa: F811
    (tmp_path / "d").mkdir()
    shutil.copy(profiles["default"], tmp_path / "other.hdf5")
    entry = '{"video": "v", "file": "../other.hdf5", "sha256": "", "split": "train", "tier": "A", "scale": "metric"}'
    head = '{"format": "videolift.dataset", "version": 1, "statistics": [], "statistics_group": null, "groups": {}, "files": ['
    (tmp_path / "d" / "dataset.json").write_text(head + entry + "]}")
    assert [finding.check for finding in verify_path(tmp_path / "d")] == ["index"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": "videolift.dataset", "version": 1}', '{"files": 3}', "nothing"])
def test_an_index_of_another_shape_is_a_finding(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    assert [finding.check for finding in verify_path(tmp_path)] == ["index"]


def test_one_malformed_file_does_not_end_the_verification_of_a_folder(dataset_folder, tmp_path):  # noqa: F811
    folder = tmp_path / "d"
    shutil.copytree(dataset_folder, folder)
    with h5py.File(folder / "v0.hdf5", "r+") as file:
        del file.attrs["window_length"]
    with h5py.File(folder / "v2.hdf5", "r+") as file:
        del file["timestamps"]
    found = verify_path(folder)
    assert {"v0.hdf5", "v2.hdf5"} == {finding.file for finding in found}
    assert os.fspath(folder) not in " ".join(finding.text for finding in found)
