"""Claims of videos: whoever takes up a dead worker's video takes away what it left half written."""

from __future__ import annotations

import os

import psutil
import pytest

from stages.engine.budget import Budget
from stages.engine.ledger import ReceiptLedger
from stages.engine.worker import Job
from videolift.inputs.video import Video
from videolift.paths import Layout
from videolift.pool import Item, Outcome
from videolift.store import temporary_beside


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path)
    layout.artifact("tracks", "clip").parent.mkdir(parents=True)
    return layout


@pytest.fixture
def ledger(layout):
    job = Job(Video("clip", layout.output / "clip.mp4"), "f" * 64, {}, {}, {})
    return ReceiptLedger(layout, "tracks", {"clip": job}, {}, Budget(layout, None))


ITEM = Item("clip", None)


def claim(ledger, attempt):
    ledger.claimed(ITEM, attempt=attempt, pid=os.getpid(), start_time=psutil.Process().create_time())


def test_a_dead_workers_half_written_files_go_when_its_video_is_taken_up(layout, ledger):
    claim(ledger, 1)
    left = temporary_beside(layout.artifact("tracks", "clip"))
    left.touch()
    claim(ledger, 2)
    assert not left.exists()


def test_an_orderly_end_leaves_no_claim_and_so_nothing_to_look_for(layout, ledger):
    claim(ledger, 1)
    ledger.finished(ITEM, Outcome("done"))
    foreign = temporary_beside(layout.artifact("tracks", "clip"))
    foreign.touch()
    claim(ledger, 1)
    assert foreign.exists()


def test_a_video_given_up_leaves_nothing_half_written(layout, ledger):
    claim(ledger, 3)
    left = temporary_beside(layout.artifact("tracks", "clip"))
    left.touch()
    ledger.finished(ITEM, Outcome("crash", "crash", "its worker died, 3 times in all"))
    assert not left.exists()
    assert layout.receipt("tracks", "clip").exists()
