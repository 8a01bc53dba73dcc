"""What manifests settle is answered without a journal; whatever changes since sends the question back to the journals."""

from __future__ import annotations

import pytest

from benchmarks.scale import finish, make_videos
from videolift.paths import Layout
from videolift.records import record_reader
from videolift.records.batches import Assignment
from videolift.records.manifests import standing_manifest
from videolift.records.record_reader import hold_journal
from videolift.records.runs import latest_run
from videolift.records.status import collect

VIDEOS = 5


@pytest.fixture
def layout(tmp_path):
    """An output folder in which every stage is done, as the stages leave it, of empty artifacts."""
    make_videos(tmp_path, VIDEOS)
    finish(tmp_path)
    return Layout(tmp_path / "output")


def counts(layout: Layout) -> dict[str, int]:
    return dict(collect(latest_run(layout.output)).counts)


def some_manifest(layout: Layout, stage: str):
    (path,) = layout.manifests(stage).iterdir()
    return path


def test_a_done_run_is_answered_from_its_manifests_as_from_its_journals(layout, monkeypatch):
    def opened(folder, batch):
        raise AssertionError(f"the journal {folder.name}/{batch} was opened")

    with monkeypatch.context() as patch:
        patch.setattr(record_reader, "read_journal", opened)
        by_manifests = collect(latest_run(layout.output))
    for stage in ("ingest", "depth", "tracks", "hands", "create_h5"):
        some_manifest(layout, stage).unlink()
    by_journals = collect(latest_run(layout.output))
    assert by_manifests.videos == by_journals.videos
    assert by_manifests.counts["done"] == VIDEOS
    assert by_manifests.table() == by_journals.table()


def test_a_lifted_record_is_noticed(layout):
    video = next(iter(Assignment.load(layout.assignment).batches))
    with hold_journal(layout, "depth", "0000") as journal:
        journal.lift(video)
    assert counts(layout) == {"done": VIDEOS - 1, "quarantined": 0, "excluded": 0, "pending": 1}


def test_a_deleted_artifact_is_noticed_unless_artifacts_have_just_been_seen(layout):
    next(layout.all_artifacts("tracks")).unlink()
    assert counts(layout)["pending"] == 1
    manifest = some_manifest(layout, "tracks")
    assert standing_manifest(manifest, layout.output) is None
    assert standing_manifest(manifest, layout.output, artifacts_seen=True) is not None


@pytest.mark.parametrize("damage", ["flipped", "torn", "emptied"])
def test_a_damaged_manifest_is_not_believed(layout, damage):
    path = some_manifest(layout, "create_h5")
    data = bytearray(path.read_bytes())
    at = data.index(b'"sha256":["') + 13
    if damage == "flipped":
        data[at] = ord("0") if data[at] != ord("0") else ord("1")
    path.write_bytes(data if damage == "flipped" else data[:at] if damage == "torn" else b"")
    assert counts(layout)["done"] == VIDEOS
    assert standing_manifest(path, layout.output) is None
