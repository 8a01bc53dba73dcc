"""Batches: lines that never move, files torn by a kill, two runs that append at once."""

import errno
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolift.errors import Transient
from videolift.inputs.video import Video
from videolift.records.batches import Assignment, usual_size


def videos(*sizes: int, prefix: str = "v") -> list[Video]:
    return [Video(f"{prefix}{i}", f"/{prefix}{i}.mp4", bytes=size) for i, size in enumerate(sizes)]


def test_the_largest_videos_come_first_and_equal_ones_by_id():
    found = Assignment().extended(videos(10, 30, 20, 30), 2).batches
    assert dict(found) == {"v1": 0, "v3": 0, "v2": 1, "v0": 1}


def test_new_videos_open_new_batches_and_nobody_moves():
    first = Assignment().extended(videos(1, 2, 3), 2)
    second = first.extended(videos(1, 2, 3) + videos(9, prefix="new"), 2)
    assert second.batches == {**first.batches, "new0": 2}


def test_a_huge_catalog_is_cut_into_500_batches_and_a_usual_one_into_64_videos_each():
    assert max(Assignment().extended(videos(*range(200)), None).batches.values()) == 3
    assert [usual_size(n) for n in (0, 32_000, 100_000)] == [64, 64, 200]


def test_videos_no_longer_listed_keep_their_line():
    first = Assignment().extended(videos(1, 2), 2)
    assert first.extended([], 2) == first


@given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 99)), max_size=12), max_size=4), st.integers(1, 5))
def test_whatever_is_listed_lines_never_move_and_batches_never_overflow(rounds, size):
    now = Assignment()
    for listed in rounds:
        before, now = now, now.extended({i: Video(f"v{i}", "/x", bytes=b) for i, b in listed}.values(), size)
        assert before.batches.items() <= now.batches.items()
    counts = [list(now.batches.values()).count(batch) for batch in set(now.batches.values())]
    assert all(count <= size for count in counts)
    assert sorted(set(now.batches.values())) == list(range(len(counts)))


def test_file_and_value_agree(tmp_path):
    path = tmp_path / "batches" / "assignment.jsonl"
    assert Assignment.load(path) == Assignment()
    written = Assignment().extended(videos(1, 2, 3), 2)
    assert written.append_new(path) == written
    assert [json.loads(line) for line in path.read_text().splitlines()][0] == {"video": "v2", "batch": 0}
    assert Assignment.load(path) == written


def test_appending_again_changes_no_byte(tmp_path):
    path = tmp_path / "assignment.jsonl"
    written = Assignment().extended(videos(1, 2, 3), 2)
    written.append_new(path)
    before = path.read_bytes()
    written.append_new(path)
    assert path.read_bytes() == before
    written.extended(videos(5, prefix="new"), 2).append_new(path)
    assert path.read_bytes().startswith(before)


def test_every_cut_through_the_file_heals_without_moving_a_whole_line(tmp_path):
    path = tmp_path / "assignment.jsonl"
    whole = Assignment().extended(videos(1, 2, 3), 2)
    whole.append_new(path)
    data = path.read_bytes()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        left = Assignment.load(path)
        assert left.batches.items() <= whole.batches.items()
        healed = left.extended(videos(1, 2, 3), 2).append_new(path)
        assert set(healed.batches) == set(whole.batches)
        assert left.batches.items() <= healed.batches.items()
        assert Assignment.load(path) == healed


def test_zeros_left_by_a_power_cut_are_skipped(tmp_path):
    path = tmp_path / "assignment.jsonl"
    path.write_bytes(b'{"video": "a", "batch": 0}\n' + bytes(500))
    healed = Assignment.load(path).extended([Video("b", "/b")], 1).append_new(path)
    assert healed.batches == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    "line",
    ['{"video": "a"}', '{"batch": 1}', '{"video": "a", "batch": "x"}', "{]}", "[]", "[" * 10**5, '{"video": 1, "batch": 1}']
    + [f'{{"video": "a", "batch": {batch}}}' for batch in ("-1", "1.5", "true", "1e9", "1" * 5000)],
)
def test_a_line_that_says_something_else_is_skipped_and_its_video_assigned_anew(tmp_path, line):
    path = tmp_path / "assignment.jsonl"
    path.write_text('{"video": "z", "batch": 0}\n' + line + "\n")
    assert Assignment.load(path).batches == {"z": 0}
    assert Assignment.load(path).extended([Video("a", "/a")], 1).append_new(path).batches == {"z": 0, "a": 1}


def test_of_two_runs_the_first_line_counts_for_both(tmp_path):
    path = tmp_path / "assignment.jsonl"
    one, other = Assignment().extended(videos(1, 2, 3), 2), Assignment().extended(videos(1, 2), 1)
    one.append_new(path)
    assert other.append_new(path).batches == one.batches
    path.write_text('{"video": "a", "batch": 0}\n{"video": "a", "batch": 7}\n')
    assert Assignment.load(path).batches == {"a": 0}


def test_runs_that_append_at_once_tear_no_line(tmp_path):
    path = tmp_path / "assignment.jsonl"
    code = (
        "import sys; from pathlib import Path; from videolift.records.batches import Assignment\n"
        "from videolift.inputs.video import Video\n"
        "for i in range(30):\n"
        "    new = [Video(f'{sys.argv[2]}{i}x{k}', '/x') for k in range(20)]\n"
        "    Assignment.load(Path(sys.argv[1])).extended(new, 7).append_new(Path(sys.argv[1]))\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    assert [run.wait(240) for run in runs] == [0, 0, 0]
    assert len(Assignment.load(path).batches) == 3 * 30 * 20
    # A run that sees another one's line half written begins a new one, so that an empty one stays between them.
    assert all(json.loads(line) for line in path.read_text().splitlines() if line)


def test_a_full_disk_is_nobodys_fault(tmp_path, monkeypatch):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Transient, match=r"assignment\.jsonl.*Free space"):
        Assignment().extended(videos(1), 1).append_new(tmp_path / "assignment.jsonl")
