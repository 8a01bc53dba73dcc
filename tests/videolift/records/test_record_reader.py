"""The one answer to "what is done": journals, and receipts that were handed over beside them."""

from __future__ import annotations

import json

import pytest

from tests.videolift.records.test_journal import receipt
from videolift.paths import Layout
from videolift.records.batches import Assignment
from videolift.records.receipts import receipt_to_json
from videolift.records.record_reader import RecordReader, hold_journal


@pytest.fixture
def layout(tmp_path) -> Layout:
    layout = Layout(tmp_path)
    Assignment({"a": 0}).append_new(layout.assignment)
    return layout


def test_a_torn_receipt_that_was_handed_over_does_not_hide_the_journal(layout):
    with hold_journal(layout, "ingest", "0000") as journal:
        journal.write(receipt("a"))
    path = layout.receipt("ingest", "a")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(receipt_to_json(receipt("a")))[:40])
    found = RecordReader(layout)("ingest", "a")
    assert found is not None
    assert found.state == "done"
