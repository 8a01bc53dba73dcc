"""The end of a run is foreseen from the work that is left; what pools append is taken in once."""

import heapq
import io
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from videolift.cli.watch import live_view, progress_line, prometheus_text, watch_run
from videolift.config import Config
from videolift.inputs.video import Video
from videolift.paths import Layout
from videolift.records.freshness import Variant
from videolift.records.receipts import Receipt, write_receipt
from videolift.records.runs import Entry, latest_run, read_run, write_run
from videolift.records.status import Status, VideoStatus
from videolift.report.progress import ProgressTracker
from videolift.typical_work import typical_work

NAMES = {"ingest": "pyav", "depth": "sfm", "tracks": "flow", "hands": "mediapipe", "create_h5": "hdf5"}
BATCH = 8
PACE = {"ingest": 0.01, "depth": 0.48, "tracks": 0.14, "hands": 0.31, "create_h5": 0.023}


def make_run(output: Path, frames: dict[str, int], depth: dict[str, str] | None = None, size: tuple[int, int] = (512, 384)):
    """A run of videos with so many frames each, ingested as far as their receipts say; ``depth``: its backend by video."""
    layout, entries, backends = Layout(output), [], ["sfm", "rgbd"]
    identity = {"name": "pyav", "version": 1, "width": size[0], "height": size[1]}
    output.mkdir(exist_ok=True)
    for number, (name, count) in enumerate(frames.items()):
        source = output / f"{name}.mp4"
        source.write_bytes(b"x" * count)
        variant = backends.index((depth or {}).get(name, "sfm"))
        entries.append(Entry(Video(name, str(source), count, 0), f"{number // BATCH:04d}", variant))
        write_receipt(layout.receipt("ingest", name), Receipt(name, "ingest", "done", "f", identity, {}, frames=count))
    others = {stage: {"name": name, "version": 1} for stage, name in NAMES.items()}
    variants = [Variant({**others, "ingest": identity, "depth": {"name": name, "version": 1}}) for name in backends]
    write_run(layout.run("abc"), Config(videos="somewhere"), variants, entries, {"excluded": {}})
    return read_run(layout.run("abc"))


def nothing_done(frames):
    return Status(tuple(VideoStatus(name, "pending", dict.fromkeys(PACE, "todo")) for name in frames))


def event(kind, **fields):
    return {"kind": kind, **fields}


def simulate(frames, speed, jitter, seed, workers=2, batch=BATCH, start_s=2.0, before_s=0.0):
    """Events of a run that does one job after the other, each stage of a batch with ``workers``; and when it ended.

    Its first job begins after ``before_s``: an environment was built; every job takes ``start_s`` to begin, and again to end. After
    the last batch come statistics, verdict and report.
    """
    draw, events, now = random.Random(seed), [], before_s
    names = list(frames)
    for first in range(0, len(names), batch):
        some = names[first : first + batch]
        for stage in PACE:
            pool = f"{stage} {first:04d}"
            events.append((now, stage, pool, event("started", items=len(some))))
            free = [(now + start_s, worker) for worker in range(min(workers, len(some)))]
            events += [(now, stage, pool, event("spawned", worker=worker, device="cpu")) for _, worker in free]
            end = now
            for name in some:
                at, worker = heapq.heappop(free)
                seconds = frames[name] * PACE[stage] * speed * draw.lognormvariate(0, jitter)
                events.append((at, stage, pool, event("claimed", item=name, worker=worker)))
                for share in (0.25, 0.5, 0.75):
                    events.append((at + share * seconds, stage, pool, event("progress", item=name, done=int(100 * share), of=100)))
                events.append((at + seconds, stage, pool, event("done", item=name, seconds=seconds)))
                heapq.heappush(free, (at + seconds, worker))
                end = max(end, at + seconds)
            events.append((end, stage, pool, event("finished", seconds=end - now, done=len(some))))
            now = end + start_s
    return sorted(events, key=lambda one: one[0]), now + 2 * start_s


MIXES = {
    "equal": ([600] * 24, 1.0, 0.1),
    "short": ([60] * 60, 1.0, 0.2),
    "one long among short": ([3000, *[100] * 31], 1.0, 0.1),
    "long ones last": ([100] * 16 + [1500] * 16, 1.0, 0.1),
    "long ones first": ([1500] * 16 + [100] * 16, 1.0, 0.1),
    "very mixed": ([int(60 * 1.2**k) for k in range(20)] * 2, 1.0, 0.2),
    "slow machine": ([600] * 24, 4.0, 0.1),
    "fast machine": ([600] * 24, 0.2, 0.1),
    "noisy": ([600] * 40, 1.0, 0.6),
    "few": ([900] * 6, 1.0, 0.2),
}
SLOW_TO_BEGIN = {"jobs": {"start_s": 20.0}, "the first job": {"before_s": 80.0}, "both": {"start_s": 20.0, "before_s": 90.0}}


@pytest.mark.parametrize("mix", MIXES)
def test_from_a_quarter_of_a_run_on_its_end_is_foreseen_within_thirty_percent(mix, tmp_path):
    counts, speed, jitter = MIXES[mix]
    foresee(tmp_path, counts, speed, jitter, seed=sum(map(ord, mix)))


@pytest.mark.parametrize("what", SLOW_TO_BEGIN)
def test_what_every_job_costs_besides_its_work_is_foreseen(what, tmp_path):
    """A busy machine or file system: most of a run of short videos is spent between jobs, and a quarter of it before the first."""
    foresee(tmp_path, [60] * 24, 1.0, 0.1, seed=1, **SLOW_TO_BEGIN[what])


def foresee(tmp_path, counts, speed, jitter, seed, **slow):
    frames = {f"v{number:03d}": count for number, count in enumerate(counts)}
    run = make_run(tmp_path, frames)
    events, end = simulate(frames, speed, jitter, seed, **slow)
    tracker, at = ProgressTracker(run, status=nothing_done(frames), began=0.0), 0
    for share in (0.25, 0.4, 0.6, 0.8):
        now = share * end
        while at < len(events) and events[at][0] <= now:
            moment, stage, pool, one = events[at]
            tracker.add(stage, pool, one, moment)
            at += 1
        found = tracker.progress(now)
        assert found.eta_seconds == pytest.approx(end - now, rel=0.3, abs=0.05 * end), f"at {share:.0%}"


def left_of(tracker, stage, now):
    (found,) = [one for one in tracker.progress(now).stages if one.stage == stage]
    return found.left_seconds


def test_nothing_is_foreseen_before_anything_is_measured_and_nothing_is_left_at_the_end(tmp_path):
    frames = {"a": 100, "b": 100}
    run = make_run(tmp_path, frames)
    events, end = simulate(frames, 1.0, 0.0, 0)
    tracker = ProgressTracker(run, status=nothing_done(frames), began=0.0)
    assert tracker.progress(1.0).eta_seconds is None
    for moment, stage, pool, one in events:
        tracker.add(stage, pool, one, moment)
    found = tracker.progress(end)
    assert (found.eta_seconds, found.done, found.total) == (0.0, 2, 2)
    assert found.devices == ()


def test_a_stage_whose_second_worker_comes_late_does_not_double_the_time_left(tmp_path):
    frames = {"a": 100, "b": 100}
    tracker = ProgressTracker(make_run(tmp_path, frames), status=nothing_done(frames), began=0.0)
    for stage, began in (("ingest", 1.0), ("depth", 4.0)):
        tracker.add(stage, stage, event("started"), began)
        for name in frames:
            tracker.add(stage, stage, event("claimed", item=name), began + 1)
        for name in frames:
            tracker.add(stage, stage, event("done", item=name, seconds=100 * PACE[stage]), began + 1 + 100 * PACE[stage])
        tracker.add(stage, stage, event("finished"), began + 1 + 100 * PACE[stage])
    now = 7.0 + 100 * PACE["depth"]
    tracker.add("hands", "hands", event("started"), now - 1)
    before = tracker.progress(now).eta_seconds
    tracker.add("hands", "hands", event("claimed", item="a"), now)
    assert before > 15
    assert tracker.progress(now).eta_seconds == pytest.approx(before, rel=0.1)


def test_what_nothing_is_known_of_is_judged_by_the_work_that_is_and_not_by_decoding(tmp_path):
    """Small pictures are decoded as fast as ever while depth takes five times as long: hands will, too."""
    frames = {"a": 100}
    tracker = ProgressTracker(make_run(tmp_path, frames), status=nothing_done(frames), began=0.0)
    for stage, factor in (("ingest", 1), ("depth", 5)):
        tracker.add(stage, stage, event("started"), 1.0)
        tracker.add(stage, stage, event("claimed", item="a"), 1.0)
        tracker.add(stage, stage, event("done", item="a", seconds=factor * typical_work(NAMES[stage]).seconds(100)), 100.0)
        tracker.add(stage, stage, event("finished"), 100.0)
    assert left_of(tracker, "hands", 101.0) == pytest.approx(5 * typical_work("mediapipe").seconds(100), rel=0.05)


def test_what_a_short_clip_took_is_not_multiplied_into_the_guess_of_a_dearer_backend(tmp_path):
    """A second for a clip with sensor depth is opening files and imports: four times as much for it is not so for motion."""
    frames = {"a": 14, "b": 44}
    ingested = Status(tuple(VideoStatus(name, "pending", dict.fromkeys(PACE, "todo") | {"ingest": "done"}) for name in frames))
    tracker = ProgressTracker(make_run(tmp_path, frames, {"a": "rgbd"}), status=ingested, began=0.0)
    before = left_of(tracker, "depth", 1.0)
    tracker.add("depth", "depth", event("started"), 1.0)
    tracker.add("depth", "depth", event("claimed", item="a"), 1.0)
    tracker.add("depth", "depth", event("done", item="a", seconds=1.0), 2.0)
    assert left_of(tracker, "depth", 2.0) < 1.5 * before


def test_small_pictures_are_taken_to_need_as_much_less(tmp_path):
    frames = {"a": 100}
    large, small = (
        ProgressTracker(make_run(tmp_path / name, frames, size=size), status=nothing_done(frames), began=0.0)
        for name, size in (("large", (512, 384)), ("small", (256, 192)))
    )
    assert left_of(small, "depth", 1.0) == pytest.approx(left_of(large, "depth", 1.0) / 4, rel=0.1)


def test_the_first_video_of_a_backend_is_judged_by_how_far_it_came_and_not_by_a_guess_alone(tmp_path):
    frames = {"a": 1000}
    tracker = ProgressTracker(make_run(tmp_path, frames), status=nothing_done(frames), began=0.0)
    guess = left_of(tracker, "depth", 0.0)
    tracker.add("depth", "depth", event("started"), 0.0)
    tracker.add("depth", "depth", event("claimed", item="a"), 0.0)
    for share in (0, 40, 80):
        tracker.add("depth", "depth", event("progress", item="a", done=share, of=100), float(share) / 10)
    # 80 of 100 after 8 s: the guess counts for the 20 that are not seen yet
    assert left_of(tracker, "depth", 8.0) == pytest.approx(0.2 * (8 + 0.2 * guess))


def test_what_a_killed_worker_had_done_is_not_taken_for_the_speed_of_the_next(tmp_path):
    frames = {"a": 1000}
    tracker = ProgressTracker(make_run(tmp_path, frames), status=nothing_done(frames), began=0.0)
    guess = left_of(tracker, "depth", 0.0)
    tracker.add("depth", "depth", event("started"), 0.0)
    tracker.add("depth", "depth", event("claimed", item="a"), 0.0)
    tracker.add("depth", "depth", event("progress", item="a", done=60, of=100), 1.0)
    assert left_of(tracker, "depth", 1.0) == pytest.approx(0.4 * guess)
    tracker.add("depth", "depth", event("progress", item="a", done=60, of=100), 2.0)
    assert left_of(tracker, "depth", 2.0) == pytest.approx(0.4 * (1 + guess))


def test_between_two_words_of_a_worker_the_time_left_goes_down(tmp_path):
    frames = {"a": 1000}
    tracker = ProgressTracker(make_run(tmp_path, frames), status=nothing_done(frames), began=0.0)
    tracker.add("depth", "depth", event("started"), 0.0)
    tracker.add("depth", "depth", event("claimed", item="a"), 1.0)
    assert left_of(tracker, "depth", 1.0) - left_of(tracker, "depth", 5.0) == pytest.approx(4.0)
    assert left_of(tracker, "depth", 1e6) == 0.0


def test_earlier_runs_of_the_folder_say_what_a_backend_takes_until_this_one_does(tmp_path):
    frames = {"old": 100, "new": 200}
    done = VideoStatus("old", "done", dict.fromkeys(PACE, "done"), seconds={"depth": 500.0})
    todo = VideoStatus("new", "pending", dict.fromkeys(PACE, "todo"))
    tracker = ProgressTracker(make_run(tmp_path, frames), status=Status((done, todo)), began=0.0)
    tracker.add("ingest", "ingest", event("started"), 0.0)
    assert left_of(tracker, "depth", 1.0) == pytest.approx(1000, rel=0.02)
    assert tracker.progress(1.0).eta_seconds > 900


def test_a_lost_video_takes_the_stages_that_need_it_along(tmp_path):
    frames = {"a": 100, "b": 100}
    tracker = ProgressTracker(make_run(tmp_path, frames), status=nothing_done(frames), began=0.0)
    tracker.add("depth", "depth 0", event("started"), 1.0)
    tracker.add("depth", "depth 0", event("quarantined", item="a", text="too fast"), 2.0)
    stages = {stage.stage: stage for stage in tracker.progress(3.0).stages}
    assert (stages["depth"].lost, stages["tracks"].lost, stages["create_h5"].lost) == (1, 1, 1)
    assert stages["ingest"].todo == 2
    assert tracker.progress(3.0).last_events[-1].endswith("a is quarantined: too fast")


def append(path, *events):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for one in events:
            file.write(json.dumps({"time": datetime.now(UTC).isoformat(), **one}) + "\n")


def test_each_line_of_an_event_file_is_read_once_and_an_unfinished_one_waits(tmp_path):
    frames = {"a": 100}
    tracker = ProgressTracker(make_run(tmp_path, frames), status=nothing_done(frames), began=0.0)
    path = Layout(tmp_path).events("depth", "0000")
    append(path, event("started"), event("spawned", device="cpu", worker=1))
    tracker.read()
    tracker.read()
    assert tracker.progress().devices[0].workers == 1
    line = json.dumps({"time": datetime.now(UTC).isoformat(), **event("done", item="a", seconds=2.0)}) + "\n"
    with path.open("a") as file:
        file.write(line[:20])
        file.flush()
        tracker.read()
        assert {stage.stage: stage.done for stage in tracker.progress().stages}["depth"] == 0
        file.write(line[20:])
    tracker.read()
    assert {stage.stage: stage.done for stage in tracker.progress().stages}["depth"] == 1


def test_events_of_an_earlier_run_are_not_counted(tmp_path):
    frames = {"a": 100}
    path = Layout(tmp_path).events("depth", "0000")
    append(path, event("started"), event("spawned", device="cpu", worker=1))
    tracker = ProgressTracker(make_run(tmp_path, frames), status=nothing_done(frames))
    tracker.began += 1000.0
    tracker.read()
    assert tracker.progress().devices == ()


def test_a_line_and_the_prometheus_text_say_the_same(tmp_path):
    frames = {"a": 100, "b": 100}
    tracker = ProgressTracker(make_run(tmp_path, frames), status=nothing_done(frames), began=0.0)
    tracker.add("depth", "depth 0", event("started"), 1.0)
    tracker.add("depth", "depth 0", event("spawned", device="cuda:0", worker=1), 1.0)
    tracker.add("depth", "depth 0", event("resized", device="cuda:0", own_gib=2.0, free_gib=70.0), 1.0)
    tracker.add("depth", "depth 0", event("done", item="a", seconds=24.0), 25.0)
    now = tracker.progress(26.0)
    assert progress_line(now).startswith("run: 0/2, 0/h, left ")
    text = prometheus_text(now)
    assert 'videolift_videos{stage="depth",state="done"} 1' in text
    assert 'videolift_workers{pool="depth 0",device="cuda:0"} 1' in text
    assert f"videolift_run_eta_seconds {now.eta_seconds:.0f}" in text


def test_watching_prints_a_line_per_look_and_keeps_the_prometheus_file(run_output, tmp_path, capsys):
    target = tmp_path / "videolift.prom"
    watch_run(latest_run(run_output), every_s=0.01, as_json=False, prometheus=target, rounds=2)
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == ["run: 2/3"] * 2
    assert "videolift_run_videos_total 3" in target.read_text()


def test_interrupting_the_watch_says_that_the_run_goes_on(run_output, monkeypatch, capsys):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("videolift.cli.watch.time.sleep", interrupted)
    watch_run(latest_run(run_output), every_s=1.0, as_json=True, prometheus=None)
    said = capsys.readouterr()
    assert json.loads(said.out)["total"] == 3
    assert said.err == "no longer watching; the run goes on\n"


def test_the_view_shows_every_stage(tmp_path):
    frames = {"a": 100}
    tracker = ProgressTracker(make_run(tmp_path, frames), status=nothing_done(frames), began=0.0)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(live_view(tracker.progress(1.0)))
    text = console.export_text()
    assert all(stage in text for stage in PACE)
    assert "0 of 1 videos" in text
