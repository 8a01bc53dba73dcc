from __future__ import annotations

import gc
import json
from fractions import Fraction
from unittest.mock import create_autospec

import av
import cv2
import numpy as np
import pytest

from stages.ingest import IngestSettings
from stages.ingest.pyav import BACKEND
from stages.ingest.source import open_video_source
from tests.stages.ingest.conftest import run_ingest
from tests.videos import frame_number, moving_pattern, numbered_frames, write_video
from videolift.artifacts import Clip
from videolift.errors import Transient
from videolift.inputs.framing import Framing

CONTAINERS = {
    "mp4": {},
    "mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "options": {}},
    "mkv": {"codec": "ffv1", "options": {}},
    "webm": {"codec": "libvpx-vp9", "pix_fmt": "yuv420p", "options": {"crf": "4", "cpu-used": "8"}},
    "avi": {"codec": "mjpeg", "pix_fmt": "yuvj444p", "options": {}},
    "MP4": {"container": "mp4"},
    "MKV": {"container": "matroska"},
}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_gives_the_right_frames_at_the_right_times(tmp_path, ingest, suffix):
    path = write_video(tmp_path / f"v.{suffix}", numbered_frames(60), fps=30, **CONTAINERS[suffix])
    clip, quality = ingest(path)
    assert frame_number(clip[:]).tolist() == list(range(0, 60, 3))
    assert clip.pts_seconds == pytest.approx(np.arange(20) / 10, abs=0.001)
    assert (clip.fps, quality.frames, quality.checks) == (10.0, 20, ())
    source = clip.attrs["source"]
    assert source["fps_measured"] == pytest.approx(30, rel=0.01)
    assert source["fps_header"] == pytest.approx(30, rel=0.01)
    assert not source["vfr"]


def test_lossless_frames_come_back_exactly(tmp_path, ingest):
    frames = moving_pattern(10)
    path = write_video(tmp_path / "v.mkv", frames, fps=10, codec="ffv1", pix_fmt="bgr0", options={})
    clip, _ = ingest(path)
    assert np.array_equal(clip[:], frames)
    assert np.array_equal(clip[7], frames[7])


def test_frames_of_a_variable_rate_are_chosen_by_their_times(tmp_path, ingest):
    # 30 fps, then a hold of 0.75 s, then 60 fps
    times = np.concatenate([np.arange(30) / 30, 1.75 + np.arange(60) / 60])
    path = write_video(tmp_path / "v.mp4", numbered_frames(90), pts_s=times)
    clip, quality = ingest(path)
    numbers = frame_number(clip[:])
    assert clip.pts_seconds == pytest.approx(times[numbers], abs=1e-4)
    assert np.all(np.diff(clip.pts_seconds) > 0)
    wanted = np.arange(0, times[-1], 0.1)
    nearest = [int(np.abs(times - t).argmin()) for t in wanted]
    assert numbers.tolist() == sorted(set(nearest))
    assert clip.attrs["source"]["vfr"]


def test_a_slow_source_keeps_its_frames_and_its_rate(tmp_path, ingest):
    path = write_video(tmp_path / "v.mp4", numbered_frames(20), fps=6)
    clip, quality = ingest(path)
    assert frame_number(clip[:]).tolist() == list(range(20))
    assert clip.fps == pytest.approx(6)
    assert any("less than ingest.fps" in check for check in quality.checks)


def test_timestamps_in_coding_order_are_sorted(tmp_path, ingest):
    # H.264 with B-frames in AVI: the container has no presentation times, FFmpeg gives those of the coding order
    path = write_video(tmp_path / "v.avi", numbered_frames(60), fps=10, options={"bf": "3", "crf": "5"})
    clip, quality = ingest(path)
    numbers = frame_number(clip[:])
    assert np.all(np.diff(numbers) == 1)
    assert len(numbers) >= 58
    assert np.diff(clip.pts_seconds) == pytest.approx(0.1)
    assert any("not in order" in check for check in quality.checks)


def test_start_and_end_count_from_the_videos_first_timestamp(tmp_path, ingest):
    times = 5.0 + np.arange(90) / 30
    path = write_video(tmp_path / "v.mkv", numbered_frames(90), pts_s=times, time_base=Fraction(1, 1000), options={"g": "12"})
    clip, _ = ingest(path, start_s=1.0, end_s=2.0)
    assert frame_number(clip[:]).tolist() == list(range(30, 60, 3))
    assert clip.pts_seconds == pytest.approx(6 + np.arange(10) / 10, abs=0.001)
    source = clip.attrs["source"]
    assert (source["start_s"], source["end_s"], source["first_pts_s"]) == (1.0, 2.0, 5.0)


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mp4", "libx264", {"g": "25", "bf": "2", "crf": "10"}),
        # frames shown before an open group's key frame refer to the group before it
        ("mkv", "libx264", {"bf": "2", "crf": "10", "x264-params": "keyint=15:open-gop=1"}),
        ("mp4", "libx265", {"x265-params": "keyint=15:open-gop=1:log-level=error"}),
        ("avi", "mpeg4", {}),
    ],
)
@pytest.mark.parametrize("start_s", [0.955, 1.3])
def test_a_part_equals_the_same_part_of_the_whole(tmp_path, ingest, suffix, codec, options, start_s):
    path = write_video(tmp_path / f"v.{suffix}", moving_pattern(90), codec=codec, pix_fmt="yuv420p", options=options)
    whole, _ = ingest(path, fps=30.0)
    part, quality = ingest(path, start_s=start_s, end_s=start_s + 1, fps=30.0)
    inside = (whole.pts_seconds >= start_s - 0.001) & (whole.pts_seconds < start_s + 1 - 0.001)
    assert part.pts_seconds == pytest.approx(whole.pts_seconds[inside])
    assert np.array_equal(part[:], whole[:][inside])
    assert quality.figures["frames_left_out"] + quality.figures["corrupt_packets"] == 0


def test_wide_pixels_are_shown_square(tmp_path, ingest):
    # 48x48 stored, 4:3 pixels: a 64x48 picture
    frames = np.stack([cv2.resize(f, (48, 48), interpolation=cv2.INTER_AREA) for f in moving_pattern(10)])
    path = write_video(tmp_path / "v.mp4", frames, fps=10, pixel_aspect=Fraction(4, 3))
    clip, _ = ingest(path)
    wanted = np.stack([cv2.resize(f, (64, 48), interpolation=cv2.INTER_LINEAR) for f in frames])
    assert np.abs(clip[:].astype(int) - wanted).mean() < 1
    assert Framing.from_attrs(clip.attrs).resized_px == (64, 48)


def test_wide_pixels_of_a_turned_video_become_tall(tmp_path, ingest):
    path = write_video(
        tmp_path / "v.mp4", moving_pattern(3, 48, 48), fps=10, pixel_aspect=Fraction(4, 3), rotation=(90, False, False)
    )
    clip, _ = ingest(path)
    assert (clip.width, clip.height) == (48, 64)
    assert Framing.from_attrs(clip.attrs).offset_px == (0, 0)


@pytest.mark.parametrize(
    ("size", "fit", "clip_px", "visible"),
    [
        ((128, 48), "auto", (64, 48), (32, 0, 64, 48)),
        ((48, 128), "auto", (48, 64), (0, 32, 48, 64)),
        ((48, 128), "crop", (64, 48), (0, 46, 48, 36)),
        ((128, 128), "stretch", (64, 48), (0, 0, 128, 128)),
    ],
)
def test_fit_covers_crops_or_stretches(tmp_path, ingest, size, fit, clip_px, visible):
    frames = moving_pattern(3, *size)
    path = write_video(tmp_path / "v.mkv", frames, fps=10, codec="ffv1", pix_fmt="bgr0", options={})
    clip, quality = ingest(path, fit=fit)
    assert (clip.width, clip.height) == clip_px
    assert clip.attrs["source"]["crop_px"] == pytest.approx(visible, abs=0.5)  # sizes are rounded
    x, y, w, h = visible
    shrinks = clip_px[0] <= w and clip_px[1] <= h
    wanted = cv2.resize(frames[1][y : y + h, x : x + w], clip_px, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    assert np.abs(clip[1].astype(int) - wanted).max() <= (1 if shrinks else 8)
    assert quality.figures["visible_share"] == pytest.approx(w * h / (size[0] * size[1]), rel=0.01)


def test_equal_work_gives_equal_bytes_with_any_number_of_threads(tmp_path):
    path = write_video(tmp_path / "v.mp4", moving_pattern(60, 160, 120), pix_fmt="yuv420p", options={"g": "10", "bf": "2"})
    for threads in (1, 4):
        run_ingest(path, tmp_path / f"{threads}.h5", threads=threads)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "4.h5").read_bytes()


def damaged_copy(tmp_path, codec: str):
    options = {"x265-params": "keyint=10:log-level=error"} if codec == "libx265" else {"g": "10", "crf": "20"}
    path = write_video(tmp_path / "whole.mp4", moving_pattern(180, 160, 120), codec=codec, pix_fmt="yuv420p", options=options)
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.rindex(b"moov") - 4
    middle = (start + end) // 2
    data[middle : middle + 80] = np.random.default_rng(3).integers(0, 256, 80, dtype=np.uint8).tobytes()
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_damage_in_the_middle_is_counted_left_out_and_decoded_the_same_by_any_number_of_threads(tmp_path, ingest, codec):
    path = damaged_copy(tmp_path, codec)
    whole, _ = ingest(tmp_path / "whole.mp4")
    clip, quality = ingest(path, threads=4)
    assert any("corrupt packets" in check for check in quality.checks)
    assert quality.figures["frames_left_out"] + quality.figures["corrupt_packets"] > 0
    # no smeared frame is kept: what is there equals the undamaged video
    same = np.searchsorted(whole.pts_seconds, clip.pts_seconds - 0.05)
    exact = np.isclose(whole.pts_seconds[same], clip.pts_seconds)
    assert exact.sum() >= 0.9 * len(clip)
    assert np.array_equal(clip[:][exact], whole[:][same][exact])
    alone, _ = ingest(path, threads=1)
    assert clip.path.read_bytes() == alone.path.read_bytes()


def test_the_artifact_names_its_source_and_neither_path_nor_time(tmp_path, ingest):
    folder = tmp_path / "a place of mine"
    path = write_video(folder / "v.mp4", moving_pattern(30))
    clip, _ = ingest(path)
    text = json.dumps(dict(clip.attrs))
    assert "a place of mine" not in text
    assert "v.mp4" not in text
    source = clip.attrs["source"]
    assert source["bytes"] == path.stat().st_size
    contract = {
        "sha256",
        "bytes",
        "rotation_deg",
        "vfr",
        "fps_header",
        "fps_measured",
        "size_px",
        "crop_px",
        "colour",
        "start_s",
        "end_s",
    }
    assert contract <= set(source)
    assert "K_given" not in clip.attrs


def test_progress_is_told_every_few_frames_and_ends_complete(tmp_path, ingest):
    seen: list[tuple[int, int]] = []
    path = write_video(tmp_path / "v.mp4", numbered_frames(90), fps=30)
    ingest(path, progress=lambda done, total: seen.append((done, total)))
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == (30, 30)
    assert max(np.diff(done)) <= 8


def test_a_picture_in_an_audio_cover_is_no_video_but_a_second_stream_does_not_disturb(tmp_path, ingest):
    path = write_video(tmp_path / "v.mp4", numbered_frames(60), fps=30, audio_s=2.5)
    clip, quality = ingest(path)
    assert frame_number(clip[:]).tolist() == list(range(0, 60, 3))
    assert quality.checks == ()


def test_a_failing_disk_is_nobodys_fault(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4", numbered_frames(20))

    failing = create_autospec(open_video_source, side_effect=OSError(5, "Input/output error"))
    monkeypatch.setattr("stages.ingest.conversion.open_video_source", failing)
    with pytest.raises(Transient, match="reading v.mp4"):
        run_ingest(path, tmp_path / "clip.h5")


def test_the_fingerprint_names_what_changes_a_clip():
    changed = {"backend": "pyav", "seed": 3}
    base = BACKEND(IngestSettings(), root=None).identity()
    assert BACKEND(IngestSettings(**changed), root=None).identity() == base
    for name, value in {"fps": 5.0, "width": 640, "fit": "crop", "black_below": 0.1, "cuts": False}.items():
        assert BACKEND(IngestSettings(**{name: value}), root=None).identity() != base


def test_frames_are_not_gathered(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(200), fps=100, options={"g": "50"})
    gc.collect()
    held: list[int] = []
    calls: list[int] = []
    count = lambda: sum(isinstance(found, av.VideoFrame) for found in gc.get_objects())  # noqa: E731
    before = count()

    def look(done, total):
        calls.append(done)
        if len(calls) % 4 == 0:  # to look at every object takes long
            held.append(count() - before)

    run_ingest(path, tmp_path / "clip.h5", progress=look, fps=100.0)
    with Clip(tmp_path / "clip.h5") as clip:
        assert len(clip) == 200
    assert len(held) > 3
    assert max(held) < 16


@pytest.mark.parametrize("container", ["mkv", "mp4"])
@pytest.mark.parametrize("audio_s", [0.0, 8.5])
def test_a_clock_that_does_not_begin_at_zero_is_no_truncation(tmp_path, ingest, container, audio_s):
    times = 5.0 + np.arange(90) / 30
    path = write_video(tmp_path / f"v.{container}", numbered_frames(90), pts_s=times, time_base=Fraction(1, 1000), audio_s=audio_s)
    clip, quality = ingest(path)
    assert len(clip) == 30
    assert clip.pts_seconds[0] == pytest.approx(5.0)
    assert clip.attrs["source"]["first_pts_s"] == pytest.approx(5.0)
    # with sound from 0 on, players show the first picture after 5 seconds
    part, _ = ingest(path, start_s=5.5 if audio_s else 0.5)
    assert part.pts_seconds[0] == pytest.approx(5.5, abs=0.001)
