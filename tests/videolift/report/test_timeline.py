"""Curves of workers and memory follow the pools' events; idle hours are cut out."""

import json

import pytest

from videolift.report.timeline import CURVE_STEPS, read_timeline


def write(logs, stage, batch, events):
    path = logs / stage / f"{batch}.events.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for second, kind, *more in events:
            stamp = f"2026-01-02T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}+00:00"
            file.write(json.dumps({"kind": kind, "time": stamp} | (more[0] if more else {})) + "\n")


SPAWN, GONE = {"device": "cpu"}, {"device": "cpu"}


def test_without_events_there_is_no_timeline(tmp_path):
    assert read_timeline(tmp_path).stages == {}


def test_workers_of_batches_that_run_at_once_are_added(tmp_path):
    for batch in ("0000", "0001"):
        write(tmp_path, "depth", batch, [(0, "started"), (0, "spawned", SPAWN), (100, "gone", GONE), (100, "finished")])
    curve = read_timeline(tmp_path).stages["depth"]
    assert set(curve.workers) == {2}
    assert curve.wall_seconds == 100


def test_memory_is_that_of_the_last_decision_per_device(tmp_path):
    resized = [(0, "resized", {"device": "cuda:0", "own_gib": 2.0}), (50, "resized", {"device": "cuda:1", "own_gib": 3.0})]
    write(tmp_path, "hands", "0000", [(0, "started"), *resized, (100, "finished")])
    memory_gib = read_timeline(tmp_path).stages["hands"].memory_gib
    assert memory_gib[CURVE_STEPS // 4] == 2.0
    assert memory_gib[3 * CURVE_STEPS // 4] == 5.0


def test_a_night_between_two_runs_is_cut_out(tmp_path):
    for start in (0, 36000):
        write(
            tmp_path,
            "depth",
            "0000",
            [(start, "started"), (start, "spawned", SPAWN), (start + 10, "gone"), (start + 10, "finished")],
        )
    assert read_timeline(tmp_path).seconds == pytest.approx(20)


def test_workers_of_a_killed_pool_end_with_its_last_event(tmp_path):
    write(tmp_path, "depth", "0000", [(0, "started"), (0, "spawned", SPAWN), (30, "claimed", {"item": "a"})])
    write(tmp_path, "depth", "0000", [(40, "started"), (40, "spawned", SPAWN), (90, "gone"), (90, "finished")])
    curve = read_timeline(tmp_path).stages["depth"]
    assert max(curve.workers) == 1
    assert curve.workers[-1] in (0, 1)


def test_the_largest_peak_of_a_video_is_kept(tmp_path):
    done = [(5, "done", {"item": "a", "peak_bytes": 7}), (6, "done", {"item": "b", "peak_bytes": 3})]
    write(tmp_path, "depth", "0000", [(0, "started"), *done, (9, "finished")])
    assert read_timeline(tmp_path).stages["depth"].peak_bytes == 7
