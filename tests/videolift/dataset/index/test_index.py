"""The index is one SQLite file that any tool reads, equal for equal content, and trusted no further than its types."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.videolift.dataset.conftest import write_packaged
from videolift.dataset import publish_dataset
from videolift.dataset.index import INDEX_FILE, read_index
from videolift.dataset.index.columns import TABLES
from videolift.errors import ConfigError


@pytest.fixture
def folder(make_packaged, tmp_path):
    rows = make_packaged(4)
    rows[0] = replace(rows[0], metadata={"text": "lift", "session": "s1", "camera": "left", "license": "CC0", "task": "t"})
    publish_dataset(tmp_path / "h5_dataset", rows, left_out={"gone": "excluded: blurred"})
    return tmp_path / "h5_dataset"


def query(folder, text):
    with closing(sqlite3.connect(folder / INDEX_FILE)) as index, index:
        return index.execute(text).fetchall()


def test_every_column_is_described_in_the_file_itself_and_on_the_page(folder):
    described = set(query(folder, "SELECT table_name, column_name FROM column_info WHERE meaning <> ''"))
    present = {
        (table, column)
        for (table,) in query(folder, "SELECT name FROM sqlite_master")
        for _, column, *_ in query(folder, f"PRAGMA table_info({table})")
    }
    page = (Path(__file__).parents[4] / "docs" / "format.md").read_text(encoding="utf-8")
    assert [column for _, column in described if f"{column}`" not in page] == []
    assert described == present == {(table, column.name) for table, columns in TABLES.items() for column in columns}


def test_sql_alone_finds_files_by_split_score_and_column_of_the_table(folder):
    assert query(folder, "SELECT file, session, camera, licence FROM video WHERE session IS NOT NULL") == [
        ("video0.hdf5", "s1", "left", "CC0")
    ]
    assert query(folder, "SELECT json_extract(metadata, '$.task') FROM detail WHERE metadata IS NOT NULL") == [("t",)]
    by_split = dict(query(folder, "SELECT split, sum(frames) FROM video GROUP BY split"))
    assert sum(by_split.values()) == 4 * 6
    backends = (
        "SELECT DISTINCT json_extract(identity, '$.name') FROM detail, backend WHERE id = json_extract(lineage, '$.depth.backend')"
    )
    assert query(folder, backends) == [("rgbd",)]


def test_what_the_index_says_of_a_video_comes_back_whole(folder):
    first = read_index(folder).descriptions()["video0"]
    assert (first["tier"], first["scale"], first["parts"], first["missing"]) == ("A", "metric", ["depth", "tracks"], {})
    assert (first["fps"], first["size"], first["size_px"], first["windows"]) == (10.0, 8, [8, 8], 4)
    assert first["lineage"]["depth"]["figures"] == {"x": None}
    assert first["metadata"] == {"session": "s1", "camera": "left", "license": "CC0", "task": "t"}


def test_equal_content_is_equal_bytes_whichever_way_it_came_about(make_packaged, tmp_path):
    rows, folder, fresh = make_packaged(6), tmp_path / "h5_dataset", tmp_path / "fresh"
    publish_dataset(folder, rows[:4], left_out={"video4": "pending"})
    publish_dataset(folder, rows[::-1], left_out={})
    publish_dataset(fresh, [write_packaged(fresh / row.path.name, i) for i, row in enumerate(rows)], left_out={})
    assert (folder / INDEX_FILE).read_bytes() == (fresh / INDEX_FILE).read_bytes()


def test_only_changed_videos_are_described_again(make_packaged, tmp_path, monkeypatch):
    rows, folder, described = make_packaged(6), tmp_path / "h5_dataset", []
    publish_dataset(folder, rows, left_out={})
    import videolift.dataset.publish.packaged_videos as packaged_videos

    inner = packaged_videos.describe_file
    monkeypatch.setattr(packaged_videos, "describe_file", lambda file: described.append(file.path.stem) or inner(file))
    publish_dataset(folder, [*rows[:5], write_packaged(rows[5].path, 99)], left_out={})
    assert described == ["video5"]


def test_a_flipped_bit_in_the_old_index_does_not_go_on_into_the_new_one(make_packaged, tmp_path):
    rows, folder = make_packaged(3), tmp_path / "h5_dataset"
    publish_dataset(folder, rows, left_out={})
    good = (folder / INDEX_FILE).read_bytes()
    (folder / INDEX_FILE).write_bytes(good.replace(b"rgbd", b"rgbe"))
    assert (folder / INDEX_FILE).read_bytes() != good
    publish_dataset(folder, rows, left_out={})
    assert (folder / INDEX_FILE).read_bytes() == good


def test_a_publication_that_fails_leaves_the_index_as_it_was(make_packaged, tmp_path):
    rows, folder = make_packaged(3), tmp_path / "h5_dataset"
    publish_dataset(folder, rows, left_out={})
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="B-metric"):
        publish_dataset(folder, rows[:2], left_out={}, group="B-metric")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE video SET frames = 'many'", "another type"),
        ("UPDATE video SET file = '../other.hdf5'", "not in the dataset's folder"),
        ("UPDATE video SET file = '/etc/other.hdf5'", "not in the dataset's folder"),
        ("ALTER TABLE video RENAME TO v; CREATE VIEW video AS SELECT * FROM v", "not a plain table"),
        ("UPDATE dataset SET value = '3' WHERE name = 'groups'", "table dataset"),
        ("DELETE FROM dataset", "statistics"),
        ("DROP TABLE left_out", "left_out"),
        ("PRAGMA user_version = 9", "version 9"),
    ],
)
def test_a_hostile_or_damaged_index_is_refused_with_a_reason(folder, statement, why):
    with closing(sqlite3.connect(folder / INDEX_FILE)) as index:
        index.executescript(statement)
    with pytest.raises(ConfigError, match=why):
        read_index(folder)


@pytest.mark.parametrize("content", [b"", b"nothing", "torn"])
def test_a_torn_index_is_refused(folder, content):
    path = folder / INDEX_FILE
    path.write_bytes(path.read_bytes()[:9000] if content == "torn" else content)
    with pytest.raises(ConfigError, match="damaged|version 0"):
        read_index(folder)


def test_an_index_that_was_not_copied_along_is_named(folder):
    (folder / INDEX_FILE).unlink()
    with pytest.raises(ConfigError, match=r"holds no index.sqlite, which belongs beside its dataset.json"):
        read_index(folder)


def test_a_dataset_json_of_the_first_version_is_still_read(folder, tmp_path):
    """As commit ae58e19 wrote it: every file listed, backends numbered."""
    index = read_index(folder)
    files = []
    for video, about in index.descriptions().items():
        lineage = {stage: {**done, "backend": 0} for stage, done in about["lineage"].items()}
        gone = ("folder", "size_px")
        files.append({k: v for k, v in about.items() if k not in gone} | {"video": video, "lineage": lineage})
    content = {
        "format": "videolift.dataset",
        "version": 1,
        "files": files,
        "backends": [{"name": "rgbd", "version": 1}],
        "groups": {"A-metric": [file["video"] for file in files]},
        "splits": {},
        "left_out": dict(index.left_out),
        "totals": index.summary["totals"],
        "statistics": ["normalization_stats.yaml"],
        "statistics_group": "A-metric",
    }
    old = tmp_path / "old"
    old.mkdir()
    (old / "dataset.json").write_text(json.dumps(content))
    found = read_index(old)
    assert found.entries == tuple(entry._replace(intrinsics=None) for entry in index.entries)
    assert found.left_out == {"gone": "excluded: blurred"}
    assert found.summary["groups"] == {"A-metric": 4}
    assert found.descriptions()["video1"]["parts"] == ["depth", "tracks"]
