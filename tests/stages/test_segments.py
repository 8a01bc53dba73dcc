"""Segments of a long video: whatever an attempt died of, the next one ends with the same rows and the same counts."""

import numpy as np
import pytest

from stages.segments import even_segments, kept, resumable
from videolift.artifacts import Depth, DepthWriter

ROWS = 13


class Killed(Exception):
    pass


class Attempt:
    """Appends rows 0 to 12 of a depth artifact in segments, counting them; dies where it is told to."""

    def __init__(self, folder, *, length=4, commits=True, die_before=None, die_in_commit=None):
        self.out = DepthWriter(folder / "depth.h5", segments=folder / "segments")
        self.length, self.commits, self.die_before, self.worked = length, commits, die_before, []
        commit = self.out.commit
        self.out.commit = lambda: self.kill() if self.worked[-1][0] == die_in_commit else commit()

    def kill(self):
        raise Killed

    def work(self, start, end):
        self.worked.append((start, end))
        for row in range(start, end):
            if row == self.die_before:
                raise Killed
            if self.commits:
                self.out.append_frames(np.full((1, 2, 2), row + 1.0), np.eye(4)[None], [True])
        return {"row": np.arange(start, end)}

    def run(self):
        try:
            remaining = even_segments(ROWS, self.length)
            return np.concatenate([p["row"] for p in resumable(self.out, "rows", remaining, self.work, commits=self.commits)])
        except Killed:
            self.out.discard()
            return None

    def rows(self):
        """Everything counted, and everything in the published file."""
        counted = self.run()
        self.out.put(K=np.eye(3))
        self.out.declare(backend="test", tier="A", scale="metric", pose="given", intrinsics="given")
        with Depth(self.out.publish().path) as depth:
            return counted.tolist(), (depth[:][:, 0, 0] - 1).tolist()


ALL = (list(range(ROWS)), list(range(ROWS)))


@pytest.mark.parametrize("death", [{"die_before": row} for row in range(ROWS)] + [{"die_in_commit": row} for row in (0, 4, 8)])
def test_every_row_is_written_and_counted_once_wherever_the_attempt_died(tmp_path, death):
    assert Attempt(tmp_path, **death).run() is None
    again = Attempt(tmp_path)
    assert again.rows() == ALL
    died = min(death.values())
    assert again.worked[0][0] == died - died % 4  # what was committed is not done again


@pytest.mark.parametrize("length", [1, 3, 5, 100])
def test_the_next_attempt_may_cut_the_rest_into_other_segments(tmp_path, length):
    assert Attempt(tmp_path, die_before=9).run() is None
    again = Attempt(tmp_path, length=length)
    assert again.rows() == ALL
    assert again.worked[0][0] == 8


def test_a_segment_saved_but_not_committed_is_forgotten_whatever_the_next_one_is_called(tmp_path):
    assert Attempt(tmp_path, die_in_commit=4).run() is None
    assert Attempt(tmp_path, length=2, die_before=8).run() is None
    assert Attempt(tmp_path, length=3).rows() == ALL


def test_committed_rows_without_their_counts_are_done_again(tmp_path):
    assert Attempt(tmp_path, die_before=9).run() is None
    (tmp_path / "segments" / "rows-000000000-000000004.npz").unlink()
    again = Attempt(tmp_path)
    assert again.rows() == ALL
    assert again.worked[0] == (0, 4)


def test_work_without_rows_goes_on_after_its_last_saved_segment(tmp_path):
    assert Attempt(tmp_path, commits=False, die_before=9).run() is None
    again = Attempt(tmp_path, commits=False, length=2)
    assert again.run().tolist() == list(range(ROWS))
    assert again.worked[0] == (8, 10)


def test_a_second_walk_of_the_same_attempt_reads_what_the_first_one_kept(tmp_path):
    attempt = Attempt(tmp_path, commits=False)
    attempt.out.segments = None
    first, worked = attempt.run(), len(attempt.worked)
    assert np.array_equal(attempt.run(), first)
    assert len(attempt.worked) == worked


def test_what_is_kept_is_computed_once(tmp_path):
    out, calls = DepthWriter(tmp_path / "depth.h5", segments=tmp_path / "segments"), []

    def compute():
        calls.append(1)
        return {"x": [1.5, 2.5]}

    first, second = (kept(out, "values", compute) for _ in range(2))
    assert first["x"].tolist() == second["x"].tolist() == [1.5, 2.5]
    assert len(calls) == 1
