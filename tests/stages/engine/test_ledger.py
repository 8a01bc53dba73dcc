"""The ledger: what the pool reports is in the journal, and what a killed worker left half written goes."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import psutil
import pytest

from stages.engine.budget import Budget
from stages.engine.ledger import JournalLedger
from stages.engine.worker import Done, Job
from videolift.artifacts import Depth, DepthWriter
from videolift.geometry import pinhole
from videolift.inputs.video import Video
from videolift.paths import Layout
from videolift.pool import Item, Outcome
from videolift.records.journal import Journal, read_journal
from videolift.records.receipts import Receipt, carried_facts, record
from videolift.store import temporary_beside

ITEM = Item("clip", None)
FINGERPRINT = "f" * 64


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path)
    layout.artifact("depth", "clip").parent.mkdir(parents=True)
    return layout


@pytest.fixture
def journal(layout):
    with Journal.take_over(layout.journals("depth"), "0000") as journal:
        yield journal


@pytest.fixture
def ledger(layout, journal):
    job = Job(Video("clip", f"{layout.output}/clip.mp4"), FINGERPRINT, {"ingest": "a" * 64}, {}, {})
    return JournalLedger(layout, "depth", journal, {"clip": job}, {"name": "toy"}, Budget(layout, None))


def claim(ledger, attempt):
    ledger.claimed(ITEM, attempt=attempt, pid=os.getpid(), start_time=psutil.Process().create_time())


def publish(layout, fingerprint=FINGERPRINT) -> Receipt:
    """A real artifact that carries what its receipt says."""
    receipt = Receipt("clip", "depth", "done", fingerprint, {"name": "toy"}, {"ingest": "a" * 64}, checks=("look",), frames=2)
    with_out = DepthWriter(layout.artifact("depth", "clip"))
    with_out.append_frames(np.ones((2, 4, 6), np.float32), np.tile(np.eye(4), (2, 1, 1)), np.ones(2, bool))
    with_out.put(K=pinhole(6, 6, 4))
    with_out.declare(backend="toy", tier="A", scale="metric", pose="static", intrinsics="given")
    with_out.carry(carried_facts(receipt))
    published = with_out.publish()
    Depth(published.path).close()
    return Receipt(**{**vars(receipt), "artifact": record(published, layout.output)})


def test_a_finished_video_is_in_the_journal_on_the_disk(layout, ledger):
    claim(ledger, 1)
    receipt = publish(layout)
    ledger.finished(ITEM, Outcome("done", value=Done(receipt), seconds=2.5))
    found = read_journal(layout.journals("depth"), "0000").records["clip"].receipt
    assert found == replace(receipt, seconds=2.5), "the seconds are the pool's, which knows when a job was suspended"


def test_a_worker_that_died_after_publishing_has_done_its_video(layout, ledger):
    claim(ledger, 1)
    receipt = publish(layout)
    outcome = ledger.recorded(ITEM)
    assert outcome.kind == "done"
    found = outcome.value.receipt
    assert (found.artifact, found.checks, found.frames) == (receipt.artifact, receipt.checks, receipt.frames)


def test_an_artifact_of_other_work_is_not_taken_for_this_one(layout, ledger):
    publish(layout, "e" * 64)
    assert ledger.recorded(ITEM) is None


def test_a_dead_workers_half_written_files_go_when_its_video_is_taken_up(layout, ledger):
    claim(ledger, 1)
    left = temporary_beside(layout.artifact("depth", "clip"))
    left.touch()
    claim(ledger, 2)
    assert not left.exists()


def test_what_a_dead_run_left_half_written_goes_when_its_video_is_taken_up(layout, journal, ledger):
    claim(ledger, 1)
    left = temporary_beside(layout.artifact("depth", "clip"))
    left.touch()
    with Journal.take_over(layout.journals("depth"), "0000") as later:
        assert later.records["clip"].is_suspect(FINGERPRINT)
        again = JournalLedger(layout, "depth", later, ledger._jobs, {}, Budget(layout, None))
        claim(again, 1)
    assert not left.exists()


def test_an_orderly_stop_charges_nothing(layout, ledger, journal):
    claim(ledger, 1)
    ledger.finished(ITEM, Outcome("transient", attempts=0))
    assert journal.records["clip"].claim is None
    assert journal.records["clip"].crashes_for(FINGERPRINT) == 0


def test_a_video_given_up_leaves_nothing_half_written_and_a_reason(layout, ledger, journal):
    claim(ledger, 3)
    left = temporary_beside(layout.artifact("depth", "clip"))
    left.touch()
    ledger.finished(ITEM, Outcome("crash", "crash", "its worker died, 3 times in all"))
    assert not left.exists()
    assert journal.records["clip"].receipt.reason.text == "its worker died, 3 times in all"


def test_what_an_interrupted_worker_left_half_written_goes_and_its_video_stays_to_be_done(layout, ledger):
    claim(ledger, 1)
    left = temporary_beside(layout.artifact("depth", "clip"))
    left.touch()
    ledger.finished(ITEM, Outcome("transient", "interrupted", "stopped"))
    assert not left.exists()
    record = read_journal(layout.journals("depth"), "0000").records["clip"]
    assert record.receipt is None
    assert not record.is_suspect(FINGERPRINT)
