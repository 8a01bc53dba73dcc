"""Datasets made apart become the one that a single run would have made, in any order, after anything."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.videolift.dataset.conftest import write_packaged
from tests.videolift.dataset.publish.test_publish import published_bytes, table
from videolift.dataset import publish_dataset
from videolift.dataset.index import INDEX_FILE, read_index
from videolift.dataset.publish import merge_datasets
from videolift.dataset.splits import SplitRule
from videolift.dataset.verify import verify_path
from videolift.errors import ConfigError
from videolift.reader import open_dataset

ROWS = [("mediapipe, code", "Apache-2.0"), ("WiLoR, weights", "CC BY-NC-ND 4.0"), ("MoGe, code", "MIT")]
SUBJECTS = ("ann", "bob", None)


def licences(*numbers):
    return {"licences": [{"name": ROWS[i][0], "licence": ROWS[i][1], "of": "hands"} for i in numbers], "models": []}


def write_shard(folder: Path, seeds, *, left_out=None, card=None) -> Path:
    """A published dataset of videos v{seed}."""
    rows = []
    for seed in seeds:
        row = write_packaged(folder / f"v{seed:02d}.hdf5", seed, tier="C" if seed % 5 == 4 else "A")
        rows.append(replace(row, metadata={"subject": SUBJECTS[seed % 3], "session": f"s{seed % 2}"}))
    publish_dataset(folder, rows, left_out=left_out or {}, card=card or licences(2))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Four datasets, of which two share v03 and one lost v90, which another has; and what one run over all of them publishes."""
    top = tmp_path_factory.mktemp("made")
    write_shard(top / "a" / "h5_dataset", [0, 1, 2, 3], left_out={"v90": "quarantined: dark"}, card=licences(0))
    write_shard(top / "b" / "h5_dataset", [3, 4, 5, 6], left_out={"v91": "excluded: test"}, card=licences(0, 1))
    write_shard(top / "c" / "h5_dataset", [7, 8, 90])
    write_shard(top / "d" / "h5_dataset", [9])
    card = {"licences": sorted(licences(0, 1, 2)["licences"], key=lambda row: row["name"]), "models": []}
    write_shard(top / "whole", [*range(10), 90], left_out={"v91": "excluded: test"}, card=card)
    return top


@pytest.fixture
def shards(made, tmp_path):
    """The four datasets, for this test to change."""
    for name in "abcd":
        shutil.copytree(made / name, tmp_path / name)
    return [tmp_path / name / "h5_dataset" for name in "abcd"]


@pytest.fixture
def whole(made):
    return made / "whole"


def merged_bytes(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in published_bytes(folder).items() if name != "merged.json"}


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_shards_in_any_order_give_the_bytes_of_one_run(shards, whole, tmp_path, seed):
    order = shards if seed is None else random.Random(seed).sample(shards, 4)
    summary = merge_datasets(tmp_path / "out", order)
    assert merged_bytes(tmp_path / "out") == published_bytes(whole)
    assert summary.videos == 11
    assert (tmp_path / "out" / "v07.hdf5").samefile(shards[2] / "v07.hdf5")
    assert verify_path(tmp_path / "out") == []


def test_what_shards_have_counted_is_not_read_again(shards, tmp_path):
    assert merge_datasets(tmp_path / "out", shards).read_again <= 4, "the bucket of the video that two shards share"
    assert merge_datasets(tmp_path / "out", []).read_again == 0


def test_a_merge_by_reference_differs_in_the_folders_alone(shards, whole, tmp_path):
    out = tmp_path / "out"
    merge_datasets(out, shards, how="reference")
    assert list(out.glob("*.hdf5")) == []
    assert {name: data for name, data in merged_bytes(out).items() if name != INDEX_FILE} == {
        name: data for name, data in published_bytes(whole).items() if name != INDEX_FILE
    }
    found = read_index(out)
    assert {entry.folder for entry in found.entries} == {f"../{name}/h5_dataset" for name in "abcd"}
    assert [entry._replace(folder="") for entry in found.entries] == list(read_index(whole).entries)
    assert found.descriptions()["v05"] | {"folder": ""} == read_index(whole).descriptions()["v05"]
    assert verify_path(out) == []
    ours, theirs = (open_dataset(folder, group="all") for folder in (out, whole))
    assert len(ours) == len(theirs)
    assert (ours[5]["rgb"] == theirs[5]["rgb"]).all()


def test_a_merge_of_merges_is_the_merge_of_all(shards, whole, tmp_path):
    merge_datasets(tmp_path / "left", shards[:2], how="reference")
    merge_datasets(tmp_path / "right", shards[2:])
    merge_datasets(tmp_path / "out", [tmp_path / "right", tmp_path / "left"])
    assert merged_bytes(tmp_path / "out") == published_bytes(whole)


def test_many_videos_are_linked_into_sub_folders_and_few_of_them_moved_there(shards, tmp_path, monkeypatch):
    out = tmp_path / "out"
    merge_datasets(out, shards[:2])
    monkeypatch.setattr("videolift.dataset.publish.merge.FLAT_VIDEOS", 8)
    merge_datasets(out, shards)
    assert list(out.glob("*.hdf5")) == []
    assert {entry.file for entry in read_index(out).entries} == {str(path.relative_to(out)) for path in out.glob("??/*.hdf5")}
    assert len(list(out.glob("??/*.hdf5"))) == 11
    assert verify_path(out) == []


KILL = """
import os, signal, sys
from pathlib import Path
from videolift.dataset.publish import merge_datasets
left = [int(sys.argv[1])]
def deadly(call):
    def wrapper(*arguments, **named):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return wrapper
os.link, os.replace = deadly(os.link), deadly(os.replace)
merge_datasets(Path(sys.argv[2]), [Path(text) for text in sys.argv[3:]])
"""


@pytest.mark.parametrize("calls", [0, 1, 2, 9, 24, 30, 34, 37])
def test_a_killed_merge_is_finished_by_the_same_command(shards, whole, tmp_path, calls):
    """Killed before its n-th link or renaming: of the record, of videos, index, statistics, summary, card, the record again."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILL, str(calls), str(out), *map(str, shards)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[4], check=False)
    assert killed.returncode == -signal.SIGKILL
    if (out / INDEX_FILE).exists():
        assert any(f.check == "shard" and "not merged to the end" in f.text for f in verify_path(out))
    merge_datasets(out, shards)
    assert merged_bytes(out) == published_bytes(whole)
    assert verify_path(out) == []
    assert not list(out.rglob("*.tmp"))


def test_a_shard_that_grew_is_noticed_and_merged_again(shards, tmp_path):
    out = tmp_path / "out"
    merge_datasets(out, shards[:3])
    write_shard(shards[2], [7, 8, 90, 11])
    assert [(f.check, f.text) for f in verify_path(out)] == [("shard", "../c/h5_dataset has changed since it was merged")]
    assert merge_datasets(out, []).videos == 11
    merge_datasets(out, shards)
    merge_datasets(tmp_path / "fresh", shards)
    assert merged_bytes(out) == merged_bytes(tmp_path / "fresh")
    assert verify_path(out) == []


def test_a_shard_that_lost_and_changed_videos_is_followed(shards, tmp_path):
    out = tmp_path / "out"
    merge_datasets(out, shards)
    (shards[2] / "v08.hdf5").unlink()
    other = write_packaged(shards[2] / "v07.hdf5", 70)
    publish_dataset(shards[2], [other], left_out={"v08": "excluded: test"}, card=licences(2))
    merge_datasets(out, shards)
    assert not (out / "v08.hdf5").exists()
    assert (out / "v07.hdf5").samefile(shards[2] / "v07.hdf5")
    assert read_index(out).left_out["v08"] == "excluded: test"
    assert verify_path(out) == []


def test_a_referenced_shard_that_is_gone_is_noticed(shards, tmp_path):
    merge_datasets(tmp_path / "links", shards)
    merge_datasets(tmp_path / "references", shards, how="reference")
    shutil.rmtree(shards[3])
    assert verify_path(tmp_path / "links") == []
    found = {(f.check, f.text.split(": ")[0]) for f in verify_path(tmp_path / "references")}
    assert found == {("file", "is not there"), ("shard", "../d/h5_dataset is not there")}


def test_different_videos_of_one_name_are_refused_before_anything_is_written(shards, tmp_path):
    other = write_packaged(shards[3] / "v00.hdf5", 50, source="another recording")
    publish_dataset(shards[3], [other], left_out={}, card=licences(2))
    with pytest.raises(ConfigError, match=r"v00 in .*a/h5_dataset and .*d/h5_dataset: different sources"):
        merge_datasets(tmp_path / "out", shards)
    assert not (tmp_path / "out").exists()


def test_one_source_packaged_in_two_ways_is_refused(shards, tmp_path):
    publish_dataset(shards[3], [write_packaged(shards[3] / "v00.hdf5", 51)], left_out={}, card=licences(2))
    with pytest.raises(ConfigError, match="v00 in .*: one source, packaged with different settings"):
        merge_datasets(tmp_path / "out", shards)


def test_one_video_of_two_splits_is_refused(shards, tmp_path):
    row = write_packaged(shards[3] / "v00.hdf5", 0)
    publish_dataset(shards[3], [replace(row, metadata={"split": "mine"})], left_out={}, card=licences(2))
    with pytest.raises(ConfigError, match="v00 in .*: split is '.*' and 'mine'"):
        merge_datasets(tmp_path / "out", shards)


def test_names_that_differ_in_case_alone_are_refused(shards, tmp_path):
    publish_dataset(shards[3], [write_packaged(shards[3] / "V00.hdf5", 9)], left_out={}, card=licences(2))
    with pytest.raises(ConfigError, match="V00 and v00 differ only in upper and lower case"):
        merge_datasets(tmp_path / "out", shards)


def test_other_refusals_say_what_to_type(shards, tmp_path, make_packaged):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="nothing to merge"):
        merge_datasets(out, [])
    with pytest.raises(ConfigError, match="holds no published dataset"):
        merge_datasets(out, [tmp_path])
    with pytest.raises(ConfigError, match="holds something that no merge has made"):
        merge_datasets(shards[0], shards[1:])
    publish_dataset(tmp_path / "e", [write_packaged(tmp_path / "e" / "e.hdf5", 1)], left_out={}, splits=SplitRule(seed=3))
    with pytest.raises(ConfigError, match="splits are drawn by .*seed=0.* and by .*seed=3"):
        merge_datasets(out, [*shards, tmp_path / "e"])
    merge_datasets(out, shards)
    with pytest.raises(ConfigError, match=r"also holds videos of ../d/h5_dataset: name every shard"):
        merge_datasets(out, shards[:3])
    with pytest.raises(ConfigError, match="was merged by link"):
        merge_datasets(out, shards, how="reference")
    (shards[0] / INDEX_FILE).unlink()
    with pytest.raises(ConfigError, match="published by an older videolift: run `snakemake statistics`"):
        merge_datasets(out, shards)


def test_another_file_system_cannot_be_linked_to(shards, tmp_path, monkeypatch):
    def refused(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(ConfigError, match="cannot be hard-linked .*Merge with --reference"):
        merge_datasets(tmp_path / "out", shards)


def test_the_main_group_can_be_named(shards, tmp_path):
    assert merge_datasets(tmp_path / "out", shards, group="C-metric").group == "C-metric"
    assert table(tmp_path / "out")["videos"] == 2


def test_a_torn_cache_of_a_shard_changes_nothing(shards, whole, tmp_path):
    for path in (shards[0] / "stats" / ".merged").iterdir():
        path.write_bytes(b"torn")
    merge_datasets(tmp_path / "out", shards)
    assert merged_bytes(tmp_path / "out") == published_bytes(whole)
    with closing(sqlite3.connect(tmp_path / "out" / INDEX_FILE)) as index:
        assert index.execute("PRAGMA integrity_check").fetchone() == ("ok",)
