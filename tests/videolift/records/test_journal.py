"""Journals: what is appended is what is read, a takeover keeps it all, and damage costs only the lines that it hits."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolift.errors import CorruptFile, Transient
from videolift.processes import this_process
from videolift.records import journal as module
from videolift.records.journal import Blame, Journal, OpenClaim, VideoRecord, read_journal
from videolift.records.receipts import ArtifactRecord, Reason, Receipt

FINGERPRINT = "f" * 64


def receipt(video, state="done", fingerprint=FINGERPRINT):
    artifact = ArtifactRecord(f"depth/{video}.h5", 10, 5, "a" * 64) if state != "quarantined" else None
    reason = Reason("crash", "crash", "its worker died", "look at the log") if state == "quarantined" else None
    return Receipt(
        video, "depth", state, fingerprint, {"name": "sfm"}, {"path": "b" * 64}, {"path": (3, 4)}, artifact, reason=reason
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journals" / "depth"


def journal_of(folder, *receipts):
    with Journal.take_over(folder, "0000") as journal:
        for one in receipts:
            journal.claim(one.video, OpenClaim(FINGERPRINT, 1))
            journal.write(one)
    return journal.path


def test_what_is_written_is_what_is_read(folder):
    done, lost = receipt("a"), receipt("b", "quarantined")
    journal_of(folder, done, lost)
    content = read_journal(folder, "0000")
    assert {video: record.receipt for video, record in content.records.items()} == {"a": done, "b": lost}
    assert content.damaged == ()
    assert content.holder == this_process()


def test_no_journal_is_none(folder):
    assert read_journal(folder, "0000") is None


def test_a_takeover_keeps_every_record_in_one_file(folder):
    journal_of(folder, receipt("a"), receipt("b"))
    with Journal.take_over(folder, "0000") as journal:
        journal.write(receipt("c"))
        journal.verified("a", "e" * 64)
    content = read_journal(folder, "0000")
    assert (content.number, set(content.records)) == (1, {"a", "b", "c"})
    assert content.records["a"].verified_sha256 == "e" * 64
    assert [path.name for path in folder.iterdir()] == ["0000.000001.jsonl"]


def test_a_former_holder_writes_where_nobody_reads(folder):
    former = Journal.take_over(folder, "0000")
    with Journal.take_over(folder, "0000") as journal:
        journal.write(receipt("a"))
        former.write(receipt("stolen"))
    former.close()
    assert set(read_journal(folder, "0000").records) == {"a"}


def test_two_journals_after_a_kill_in_between_count_as_the_newer(folder):
    older = journal_of(folder, receipt("a")).read_bytes()
    with Journal.take_over(folder, "0000") as journal:
        journal.write(receipt("b"))
    (folder / "0000.000000.jsonl").write_bytes(older)
    assert set(read_journal(folder, "0000").records) == {"a", "b"}
    Journal.take_over(folder, "0000").close()
    assert [path.name for path in folder.iterdir()] == ["0000.000002.jsonl"]


def test_a_lifted_quarantine_starts_afresh(folder):
    journal_of(folder, receipt("a", "quarantined"))
    with Journal.take_over(folder, "0000") as journal:
        journal.lift("a")
    assert read_journal(folder, "0000").records["a"] == VideoRecord(is_lifted=True)
    Journal.take_over(folder, "0000").close()
    assert not read_journal(folder, "0000").records["a"].is_lost, "what a person threw away was not lost"
    journal_of(folder, receipt("a"))
    assert not read_journal(folder, "0000").records["a"].is_lifted


def died(folder, claims, progress=lambda video, fingerprint: 0):
    """The records that the next holder finds when a run died with ``claims`` open."""
    journal = Journal.take_over(folder, "0000")
    for video, claim in claims.items():
        journal.claim(video, claim)
    os.close(journal._descriptor)
    journal._descriptor = -1
    with Journal.take_over(folder, "0000", progress=progress) as after:
        return dict(after.records)


def test_a_run_that_dies_suspects_all_that_were_in_work_and_charges_none(folder):
    claim = OpenClaim(FINGERPRINT, 1)
    records = died(folder, {"a": claim, "b": claim})
    for record in records.values():
        assert record.is_suspect(FINGERPRINT)
        assert record.crashes_for(FINGERPRINT) == 0
        assert not record.is_suspect("another fingerprint")


def test_a_video_that_takes_its_run_with_it_each_time_ends_after_seven_runs(folder):
    charged = []
    for _ in range(7):
        so_far = charged[-1] if charged else 0
        charged.append(died(folder, {"a": OpenClaim(FINGERPRINT, so_far + 1)})["a"].crashes_for(FINGERPRINT))
    assert charged == [0, 0, 1, 1, 2, 2, 3]


def test_a_video_that_gets_on_is_never_charged_for_its_runs_deaths(folder):
    for saved in range(20):
        record = died(folder, {"a": OpenClaim(FINGERPRINT, 1, saved)}, progress=lambda video, fingerprint, n=saved: n + 1)["a"]
        assert (record.crashes_for(FINGERPRINT), record.is_suspect(FINGERPRINT)) == (0, True)


def test_a_power_cut_charges_and_suspects_nobody(folder, monkeypatch):
    journal = Journal.take_over(folder, "0000")
    journal.claim("a", OpenClaim(FINGERPRINT, 1))
    monkeypatch.setattr("videolift.processes.this_boot", lambda: "a later boot+1")
    assert Journal.take_over(folder, "0000").records["a"] == VideoRecord()


def test_a_worker_that_died_while_its_run_lived_stays_charged(folder):
    with Journal.take_over(folder, "0000") as journal:
        journal.claim("a", OpenClaim(FINGERPRINT, 2))
        journal.release("a", 2)
    record = read_journal(folder, "0000").records["a"]
    assert (record.crashes_for(FINGERPRINT), record.is_suspect(FINGERPRINT)) == (2, False)
    assert record.crashes_for("another fingerprint") == 0


def test_a_run_that_ends_with_an_error_charges_nobody(folder):
    with contextlib.suppress(RuntimeError), Journal.take_over(folder, "0000") as journal:
        journal.claim("a", OpenClaim(FINGERPRINT, 1))
        raise RuntimeError("the disk is full, or the supervisor has a fault")
    with Journal.take_over(folder, "0000") as after:
        assert after.records["a"].crashes_for(FINGERPRINT) == 0


def test_an_orderly_stop_blames_nobody_and_keeps_what_was_charged(folder):
    with Journal.take_over(folder, "0000") as journal:
        journal.claim("a", OpenClaim(FINGERPRINT, 1))
        journal.release("a", 0)
        journal.claim("b", OpenClaim(FINGERPRINT, 3))
        journal.release("b", 2)
    records = read_journal(folder, "0000").records
    assert records["a"] == VideoRecord()
    assert records["b"].crashes_for(FINGERPRINT) == 2


def test_work_that_ended_clears_the_blame(folder):
    died(folder, {"a": OpenClaim(FINGERPRINT, 1)})
    journal_of(folder, receipt("a"))
    assert read_journal(folder, "0000").records["a"].blame is None


def test_a_torn_last_line_is_dropped_without_a_word(folder):
    path = journal_of(folder, receipt("a"), receipt("b"))
    data = path.read_bytes()
    path.write_bytes(data[:-7])
    content = read_journal(folder, "0000")
    assert ({video for video, record in content.records.items() if record.receipt}, content.damaged) == ({"a"}, ())


@given(st.integers(0, 10_000), st.sampled_from(["flip", "cut", "drop"]))
def test_damage_costs_only_the_lines_that_it_hits(seed, kind):
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = [f"v{i}" for i in range(6)]
        path = journal_of(folder, *map(receipt, videos))
        lines = path.read_bytes().splitlines(keepends=True)
        hit = rng.randrange(len(lines))
        line = bytearray(lines[hit])
        if kind == "flip":
            line[rng.randrange(len(line) - 1)] ^= 1 << rng.randrange(7)
        elif kind == "cut":
            line = line[: rng.randrange(len(line) - 1)] + b"\n"
        else:
            line = bytearray()
        path.write_bytes(b"".join([*lines[:hit], bytes(line), *lines[hit + 1 :]]))
        found = {video: record.receipt for video, record in read_journal(folder, "0000").records.items() if record.receipt}
        # The head is one line, then every video has a claim and a receipt.
        lost = {videos[(hit - 1) // 2]} if hit and hit % 2 == 0 else set()
        if kind == "flip" and b"\n" in bytes(line[:-1]):  # a flipped byte that ends the line early hits nothing else
            assert set(videos) - set(found) <= lost
        else:
            assert set(found) == set(videos) - lost
        assert all(found[video] == receipt(video) for video in found)


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 300, b"[]\n{}\n", b"no journal at all"])
def test_a_file_that_holds_no_journal_vouches_for_nothing(folder, content):
    path = journal_of(folder, receipt("a"))
    path.write_bytes(content)
    found = read_journal(folder, "0000")
    assert found.records == {}
    assert found.damaged
    with Journal.take_over(folder, "0000") as journal:
        assert journal.damaged


def test_a_journal_of_a_newer_videolift_is_refused_and_kept(folder, monkeypatch):
    monkeypatch.setattr(module, "JOURNAL_FORMAT", "videolift.journal/9")
    path = journal_of(folder, receipt("a"))
    monkeypatch.undo()
    with pytest.raises(CorruptFile, match="update videolift"):
        Journal.take_over(folder, "0000")
    assert path.exists()


def test_a_receipt_that_is_handed_over_goes_before_the_journal(folder):
    journal_of(folder, receipt("a"), receipt("b"))
    newer = receipt("a", fingerprint="e" * 64)
    Journal.take_over(folder, "0000", handed_over=[newer]).close()
    records = read_journal(folder, "0000").records
    assert (records["a"].receipt, records["b"].receipt) == (newer, receipt("b"))


def test_a_full_disk_tears_no_line(small_disk):
    folder = small_disk / "journals"
    journal = Journal.take_over(folder, "0000")
    (small_disk / "filler").write_bytes(b"\0" * (3_900 << 10))
    written: list[str] = []

    def write_until_full():
        for i in range(10_000):
            journal.write(receipt(f"v{i}"))
            written.append(f"v{i}")

    with pytest.raises(Transient):
        write_until_full()
    (small_disk / "filler").unlink()
    journal.write(receipt("last"))
    journal.close()
    content = read_journal(folder, "0000")
    assert set(content.records) == {*written, "last"}
    assert content.damaged == ()


def write_and_report(folder, begin, report):
    """Writes, compacts and reports without an end."""
    for number in itertools.count(begin, 3):
        with Journal.take_over(folder, "0000") as journal:
            for video in (f"v{number + i}" for i in range(3)):
                journal.claim(video, OpenClaim(FINGERPRINT, 1))
                journal.write(receipt(video))
                os.write(report, f"{video}\n".encode())


def test_kills_at_any_moment_lose_nothing_that_was_reported(folder):
    """Forty processes are killed at seeded moments: everything that they reported is there."""
    rng, reported = random.Random(0), set()
    for kill in range(40):
        told, report = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                write_and_report(folder, kill * 10_000, report)
            finally:
                os._exit(1)
        os.close(report)
        with open(told, encoding="utf-8") as lines:
            reported |= {lines.readline().strip() for _ in range(rng.randrange(1, 12))}
            os.kill(pid, signal.SIGKILL)
            reported |= set(lines.read().split())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        content = read_journal(folder, "0000")
        assert reported <= {video for video, record in content.records.items() if record.receipt}
        assert content.damaged == ()


def test_a_record_is_the_fold_of_its_own_events():
    record = VideoRecord(receipt("a"), OpenClaim(FINGERPRINT, 2, 7), Blame(FINGERPRINT, 1, 3), "e", {"depth": "d"})
    folded = VideoRecord()
    for event in record.events("a"):
        folded = folded.after(event)
    assert folded == record
