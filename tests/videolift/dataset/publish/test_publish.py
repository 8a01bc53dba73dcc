"""Publication: always over exactly the given files, whatever happened before, and the same bytes every time."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from tests.videolift.dataset.conftest import write_packaged
from videolift.dataset import publish_dataset
from videolift.dataset.index import index_writer, read_index
from videolift.dataset.publish import packaged_videos
from videolift.dataset.splits import SplitRule
from videolift.dataset.statistics.file_summary import describe_file
from videolift.dataset.statistics.merging import Member, merge_members
from videolift.errors import ConfigError, CorruptFile


def published_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file() and path.suffix != ".hdf5"}


def table(folder: Path, name: str = "normalization_stats.yaml") -> dict:
    return yaml.safe_load((folder / name).read_text())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "h5_dataset"


def test_statistics_cover_all_videos_and_equal_those_of_the_arrays(make_packaged, folder):
    rows = make_packaged()
    publish_dataset(folder, rows, left_out={})
    displacement, depth, rgb = [], [], []
    for row in rows:
        with h5py.File(row.path) as file:
            displacement.append(file["tracks/displacement"][...].reshape(-1, 3).astype(np.float64))
            depth += [file["depth"][...].ravel().astype(np.float64), file["tracks/query"][:, 2].astype(np.float64)]
            rgb.append(file["rgb"][...].transpose(1, 0, 2, 3).reshape(3, -1))
    found, displacement, depth, rgb = table(folder), np.concatenate(displacement), np.concatenate(depth), np.concatenate(rgb, 1)
    np.testing.assert_allclose(found["displacement_mean"], displacement.mean(0), atol=1e-6)
    np.testing.assert_allclose(found["displacement_std"], displacement.std(0), rtol=1e-5)
    assert found["displacement_num_samples"] == len(displacement)
    assert found["depth_num_samples"] == len(depth)
    np.testing.assert_allclose([found["depth_mean"], found["depth_std"]], [depth.mean(), depth.std()], rtol=1e-6)
    np.testing.assert_allclose(found["rgb_mean"], rgb.mean(1), rtol=1e-12)
    assert (found["track_type"], found["track_dim"], found["imagenet_mean"]) == ("3d", 3, [0.485, 0.456, 0.406])
    assert (found["pose_mean"], found["pose_std"]) == ([1, 0, 0, 0, 1, 0, 0, 0, 0], [0] * 9)
    assert found["max"]["displacement"] == pytest.approx(displacement.max(0).astype(np.float32))
    median = np.quantile(displacement[:, 0], 0.5, method="inverted_cdf")
    assert found["quantiles"]["displacement"][0][3] == pytest.approx(median, abs=2**-13 + 2**-20)


def test_adding_deleting_resuming_and_any_order_give_the_bytes_of_a_fresh_publication(make_packaged, folder, tmp_path):
    rows = make_packaged(8)
    publish_dataset(folder, rows[:3], left_out={})
    publish_dataset(folder, rows[::-1], left_out={})
    publish_dataset(folder, [*rows[:2], *rows[4:]], left_out={})
    wanted = [rows[i] for i in (0, 1, 4, 5, 6, 7)]
    random.Random(1).shuffle(wanted)
    publish_dataset(folder, wanted, left_out={})
    after = published_bytes(folder)
    fresh = tmp_path / "fresh"
    again = [write_packaged(fresh / row.path.name, int(row.video[-1])) for row in wanted]
    publish_dataset(fresh, again, left_out={})
    assert published_bytes(fresh) == after
    assert [entry.video for entry in read_index(folder).entries] == sorted(row.video for row in wanted)


@pytest.mark.parametrize(
    "before",
    [[0, 1, 2, 3, 4, 5, 6], [0, 2, 4, 6], [1, 2, 3, 4], [5, 6, 7, 8], [0, 1, 7, 8], []],
    ids=["the same", "some between", "some around", "others after them", "few in common", "none"],
)
def test_rows_that_are_copied_from_the_old_index_give_the_bytes_of_rows_that_are_read(make_packaged, folder, monkeypatch, before):
    monkeypatch.setattr(index_writer, "_ROWS_AT_ONCE", 3)
    rows = make_packaged(9)
    wanted = [replace(row, metadata={"camera": "left"}) if row.video == "video3" else row for row in rows[:7]]
    publish_dataset(folder, wanted, left_out={})
    fresh = published_bytes(folder)
    publish_dataset(folder, [rows[i] for i in before], left_out={})
    published_again(folder, wanted, opened=7 - len({*before} & {*range(7)}), monkeypatch=monkeypatch)
    assert published_bytes(folder) == fresh


def published_again(folder, rows, *, opened, monkeypatch):
    """Publishes ``rows``, of which the index opens so many files."""
    names = []
    with monkeypatch.context() as patch:
        patch.setattr(packaged_videos, "describe_file", lambda file: names.append(file) or describe_file(file))
        publish_dataset(folder, rows, left_out={})
    assert len(names) == opened


@pytest.mark.parametrize("split", ["val", None])
def test_a_row_of_the_same_file_under_another_split_or_of_another_file_is_not_copied(make_packaged, folder, monkeypatch, split):
    rows = make_packaged(5)
    publish_dataset(folder, rows, left_out={})
    if split is None:
        rows[2] = write_packaged(rows[2].path, 77)
    else:
        rows[2] = replace(rows[2], metadata={"split": split})
    published_again(folder, rows, opened=int(split is None), monkeypatch=monkeypatch)
    (entry,) = (entry for entry in read_index(folder).entries if entry.video == "video2")
    assert (entry.sha256, entry.bytes) == (rows[2].sha256, rows[2].bytes)
    assert split is None or entry.split == split


def test_statistics_are_not_those_of_this_run_s_videos_only(make_packaged, folder):
    """The predecessor wrote mean 0 and deviation 1 when a resumed run found everything done."""
    rows = make_packaged(4)
    publish_dataset(folder, rows[:2], left_out={})
    few = table(folder)
    summary = publish_dataset(folder, rows, left_out={})
    assert summary.read_again <= 4
    assert table(folder)["displacement_num_samples"] > few["displacement_num_samples"]
    first = published_bytes(folder)
    assert publish_dataset(folder, rows, left_out={}).read_again == 0
    assert published_bytes(folder) == first


def test_only_changed_videos_are_read_again(make_packaged, folder):
    rows = make_packaged(20)
    assert publish_dataset(folder, rows, left_out={}).read_again == 20
    rows[7] = write_packaged(rows[7].path, 99)
    summary = publish_dataset(folder, rows, left_out={})
    assert 1 <= summary.read_again <= 3, "one changed video and those that share its bucket"
    rows.append(write_packaged(rows[0].path.with_name("another.hdf5"), 100))
    assert publish_dataset(folder, rows, left_out={}).read_again == 1, "an added video alone"


def test_readers_take_statistics_from_the_cache_where_it_holds_and_else_from_files(make_packaged, folder):
    rows = make_packaged(9)
    publish_dataset(folder, rows, left_out={})
    members = [Member(e.video, folder / e.path, e.sha256, e.split) for e in read_index(folder).entries]
    from_cache, from_files = merge_members(folder, members), merge_members(folder / "elsewhere", members)
    assert (from_cache.read_again, from_files.read_again) == (0, 9)
    assert from_cache.of_group("A-metric").summaries() == from_files.of_group("A-metric").summaries()
    assert merge_members(folder, members[:4]).read_again <= 4


def test_a_dataset_has_one_file_per_video_and_what_older_releases_kept_beside_them_goes(make_packaged, folder):
    rows = make_packaged(3)
    (folder / "stats").mkdir()
    (folder / "stats" / "video0.npz").write_bytes(b"a sidecar")
    publish_dataset(folder, rows, left_out={})
    assert len(list(folder.glob("*.hdf5"))) == 3
    assert [path.name for path in (folder / "stats").iterdir()] == [".merged"]


def test_a_torn_cache_changes_no_result(make_packaged, folder):
    rows = make_packaged(6)
    publish_dataset(folder, rows, left_out={})
    wanted = published_bytes(folder)
    for i, cached in enumerate(sorted((folder / "stats" / ".merged").iterdir())):
        cached.write_bytes(cached.read_bytes()[: 40 * i])
    publish_dataset(folder, rows, left_out={})
    assert published_bytes(folder) == wanted


def test_a_packaged_file_that_cannot_be_read_is_named(make_packaged, folder):
    rows = make_packaged(2)
    rows[1].path.write_bytes(rows[1].path.read_bytes()[:3000])
    with pytest.raises(CorruptFile, match="video1.hdf5"):
        publish_dataset(folder, rows, left_out={})


def test_groups_are_kept_apart_and_the_best_tier_is_the_main_one(folder):
    kinds = [("C", "hand"), ("A", "metric"), ("A", "metric"), ("C", "arbitrary"), ("D", "assumed")]
    rows = [write_packaged(folder / f"v{i}.hdf5", i, tier=tier, scale=scale) for i, (tier, scale) in enumerate(kinds)]
    summary = publish_dataset(folder, rows, left_out={"broken": "audio only"})
    assert summary.group == "A-metric"
    assert dict(summary.groups) == {"A-metric": 2, "C-hand": 1, "C-arbitrary": 1, "D-assumed": 1}
    main = table(folder)
    assert (main["group"], main["videos"], main["left_out"]) == ("A-metric", 2, 3 + 1)
    assert read_index(folder).left_out == {"broken": "audio only"}
    assert {entry.video: entry.group for entry in read_index(folder).entries}["v0"] == "C-hand"
    for group in summary.groups:
        assert table(folder, f"normalization_stats.{group}.yaml")["group"] == group
    assert {path.name for path in summary.files} >= {"dataset.json", "README.md", "normalization_stats.D-assumed.yaml"}
    card = (folder / "README.md").read_text()
    assert "`broken`: audio only" in card
    assert "D-assumed" in card


def test_wrists_by_a_guessed_focal_length_are_counted_apart_from_those_of_a_known_camera(folder):
    rows = [
        write_packaged(folder / f"v{i}.hdf5", i, tier="D", scale="assumed", intrinsics=how)
        for i, how in enumerate(["assumed", "given", "named", "assumed"])
    ]
    summary = publish_dataset(folder, rows, left_out={})
    assert dict(summary.groups) == {"D-assumed": 2, "D-assumed-assumed_K": 2}
    assert summary.group == "D-assumed"
    alone = table(folder, "normalization_stats.D-assumed-assumed_K.yaml")
    with h5py.File(rows[0].path) as first, h5py.File(rows[3].path) as last:
        assert alone["displacement_num_samples"] == sum(file["tracks/displacement"][..., 0].size for file in (first, last))
    assert [entry.group for entry in read_index(folder).entries][0] == "D-assumed-assumed_K"
    assert "by a guessed focal length" in (folder / "README.md").read_text()


def test_a_named_group_becomes_the_main_one_and_an_absent_one_is_refused(folder):
    rows = [write_packaged(folder / f"v{i}.hdf5", i, tier=tier) for i, tier in enumerate("AC")]
    assert publish_dataset(folder, rows, left_out={}, group="C-metric").group == "C-metric"
    assert (table(folder)["group"], table(folder)["videos"]) == ("C-metric", 1)
    with pytest.raises(ConfigError, match="'B-metric', the dataset holds A-metric, C-metric"):
        publish_dataset(folder, rows, left_out={}, group="B-metric")


def test_statistics_of_a_group_that_is_gone_are_removed(folder):
    rows = [write_packaged(folder / f"v{i}.hdf5", i, tier=tier) for i, tier in enumerate("AC")]
    publish_dataset(folder, rows, left_out={})
    assert (folder / "normalization_stats.C-metric.yaml").exists()
    publish_dataset(folder, rows[:1], left_out={})
    assert sorted(path.name for path in folder.glob("*.yaml")) == ["normalization_stats.yaml"]


def test_index_lists_files_splits_and_shared_backends_without_paths(make_packaged, folder, tmp_path):
    rows = [replace(row, metadata={"task": "lift", "split": "train", "note": None}) for row in make_packaged(6)]
    publish_dataset(folder, rows, left_out={}, card={"title": "Boxes", "license": "cc-by-4.0"})
    summary, index = json.loads((folder / "dataset.json").read_text()), read_index(folder)
    assert [entry.file for entry in index.entries] == [f"video{i}.hdf5" for i in range(6)]
    assert summary["splits"] == {"train": 6}
    first = index.descriptions()["video0"]
    assert (first["metadata"], first["split"]) == ({"task": "lift"}, "train")
    ((backend, identity),) = summary["backends"].items()
    assert (first["lineage"]["depth"]["backend"], identity) == (backend, {"name": "rgbd", "version": 1})
    assert str(tmp_path).encode() not in b"".join(published_bytes(folder).values())
    header = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert header["license"] == "cc-by-4.0"
    assert header["size_categories"] == ["n<1K"]


def test_parts_of_one_source_and_videos_of_one_subject_share_a_split(folder):
    parts = [write_packaged(folder / f"part{i}.hdf5", i, source="one recording") for i in range(6)]
    people = [write_packaged(folder / f"take{i}.hdf5", 10 + i) for i in range(6)]
    rows = parts + [replace(row, metadata={"subject": "p1"}) for row in people]
    publish_dataset(folder, rows, left_out={})
    split = {entry.video: entry.split for entry in read_index(folder).entries}
    assert len({split[row.video] for row in parts}) == 1
    assert len({split[row.video] for row in people}) == 1


def test_another_seed_or_other_shares_draw_other_splits_and_the_old_ones_come_back(make_packaged, folder):
    rows = make_packaged(20)
    rows[0] = replace(rows[0], metadata={"split": "val"})
    rules = [SplitRule(), SplitRule(seed=1), SplitRule(shares=(("train", 0.0), ("val", 0.0), ("test", 1.0))), SplitRule()]
    found = []
    for rule in rules:
        publish_dataset(folder, rows, left_out={}, splits=rule)
        found.append({entry.video: entry.split for entry in read_index(folder).entries})
    assert found[0] == found[3] != found[1]
    assert found[2] == {row.video: "test" for row in rows} | {"video0": "val"}
    assert sum(part["depth_num_samples"] for part in table(folder)["splits"].values()) == table(folder)["depth_num_samples"]


def test_an_empty_dataset_is_published_as_such(folder):
    folder.mkdir(parents=True)
    summary = publish_dataset(folder, [], left_out={"a": "broken"})
    assert (summary.videos, summary.group, summary.left_out) == (0, None, 1)
    assert read_index(folder).left_out == {"a": "broken"}
    assert not list(folder.glob("*.yaml"))
    assert "`a`: broken" in (folder / "README.md").read_text()
