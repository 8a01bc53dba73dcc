from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stages.ingest.decode import decoder_threads
from tests.badvideos import FASTSTART, write_bad_videos
from tests.stages.ingest.conftest import run_ingest
from tests.videos import moving_pattern, write_video
from videolift.errors import BadInput

ROOT = Path(__file__).parents[3]


def refusal(path, tmp_path, **changes) -> BadInput:
    with pytest.raises(BadInput) as caught:
        run_ingest(path, tmp_path / "out" / "clip.h5", **changes)
    left = list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else []
    assert left == []
    return caught.value


def test_each_kind_of_bad_file_has_its_own_code_and_remedy(tmp_path):
    for name, code in write_bad_videos(tmp_path / "videos").items():
        error = refusal(tmp_path / "videos" / name, tmp_path)
        assert (name, error.code) == (name, code)
        assert error.text
        assert error.remedy


def test_bad_files_execute_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in write_bad_videos(tmp_path / "videos"):
        refusal(tmp_path / "videos" / name, tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_a_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "gone.mp4", tmp_path).code == "missing"


def test_a_pipe_without_a_writer_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refusal(tmp_path / "pipe.mp4", tmp_path).code == "not_a_file"


def test_folders_sockets_and_devices_are_no_videos(tmp_path, monkeypatch):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    assert refusal(tmp_path / "folder.mp4", tmp_path).code == "not_a_file"
    assert refusal(tmp_path / "device.mp4", tmp_path).code == "not_a_file"
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # a socket's path may not be long
        listener.bind("socket.mp4")
        assert refusal(tmp_path / "socket.mp4", tmp_path).code == "not_a_file"


@pytest.mark.parametrize(
    "text",
    [
        b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'/>",
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
    ],
)
def test_playlists_and_other_containers_are_never_opened(tmp_path, text):
    (tmp_path / "list.mp4").write_bytes(text * 50)
    assert refusal(tmp_path / "list.mp4", tmp_path).code == "not_a_video"


@pytest.mark.parametrize(("container", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4")])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_file_cut_off_anywhere_is_truncated(tmp_path, container, codec, share):
    options = {"g": "10"} if codec == "mpeg4" else {"g": "10", "qp": "20"}
    path = write_video(
        tmp_path / f"v.{container}",
        moving_pattern(90),
        codec=codec,
        pix_fmt="yuv420p",
        options=options,
        container_options=FASTSTART,
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert refusal(path, tmp_path).code == "truncated"


def test_the_part_of_a_truncated_file_that_is_there_can_be_used(tmp_path, ingest):
    path = write_video(tmp_path / "v.mp4", moving_pattern(90), container_options=FASTSTART)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.8)])
    error = refusal(path, tmp_path)
    end = float(error.remedy.split("end to ")[1].split(" ")[0])
    clip, quality = ingest(path, end_s=end)
    assert len(clip) >= 20


@pytest.mark.parametrize("head", [b"", b"\x00\x00\x00\x18ftypmp42", b"\x1aE\xdf\xa3", b"RIFF\x00\x10\x00\x00AVI "])
@pytest.mark.parametrize("seed", range(4))
def test_noise_behind_any_signature_is_refused_not_crashed_upon(tmp_path, head, seed):
    noise = np.random.default_rng(seed).integers(0, 256, 20000, dtype=np.uint8).tobytes()
    (tmp_path / "noise.mp4").write_bytes(head + noise)
    assert refusal(tmp_path / "noise.mp4", tmp_path).code in {"truncated", "not_a_video", "no_video_stream", "undecodable"}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
def test_flipped_bytes_anywhere_end_in_a_clip_or_a_reason(tmp_path, container, seed):
    path = write_video(tmp_path / f"v.{container}", moving_pattern(30), codec="mpeg4", pix_fmt="yuv420p", options={"g": "6"})
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, len(data), 12):
        data[at] = rng.integers(256)
    path.write_bytes(data)
    with suppress(BadInput):
        assert run_ingest(path, tmp_path / "clip.h5").frames >= 2


def png(width: int, height: int) -> bytes:
    """A true black picture, a thousandth of its decoded size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width + 1) * height), 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_true_decompression_bomb_is_refused_by_its_size_before_it_is_decoded(tmp_path):
    path, side = tmp_path / "bomb.mov", 15000
    with av.open(str(path), "w") as file:
        stream = file.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = side, side, "gray"
        picture = png(side, side)
        for number in range(2):
            packet = av.Packet(picture)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 10), True
            packet.pts = packet.dts = number
            file.mux(packet)
    # a process of its own, whose highest memory is its own
    code = """
import resource, sys
from pathlib import Path
from stages.ingest.source import open_video_source
from videolift.errors import BadInput
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with open_video_source(Path(sys.argv[1]), lambda: None):
        pass
except BadInput as error:
    print(error.code, "15000x15000" in error.text, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    refused, named, grown_kb = out.split()
    assert (refused, named) == ("too_large", "True")
    assert int(grown_kb) < 60_000


@pytest.mark.parametrize(("width", "height", "code"), [(512, 32, "too_large"), (32, 8, "too_small")])
def test_absurd_shapes_are_refused(tmp_path, width, height, code):
    path = write_video(tmp_path / "v.mkv", moving_pattern(12, width, height), codec="ffv1", pix_fmt="bgr0", options={})
    assert refusal(path, tmp_path).code == code


def test_a_rate_that_leaves_one_frame_is_told(tmp_path):
    path = write_video(tmp_path / "v.mp4", moving_pattern(30), fps=30)
    error = refusal(path, tmp_path, fps=1.0)
    assert error.code == "one_frame"
    assert "at ingest.fps" in error.text


@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
def test_a_range_outside_the_video_names_its_length(tmp_path, container):
    codec = {"avi": "mpeg4"}.get(container, "libx264")
    path = write_video(tmp_path / f"v.{container}", moving_pattern(30), fps=30, codec=codec, pix_fmt="yuv420p")
    error = refusal(path, tmp_path, start_s=5.0, end_s=6.0)
    assert error.code == "empty_range"
    assert "1.00 s" in error.text


def test_a_dark_video_is_kept_when_black_below_is_lowered(tmp_path, ingest):
    path = write_video(tmp_path / "v.mp4", np.full((20, 48, 64, 3), 4, np.uint8), fps=10)
    error = refusal(path, tmp_path)
    assert error.code == "black"
    clip, _ = ingest(path, black_below=0.005)
    assert len(clip) == 20


def test_a_picture_that_changes_its_shape_is_refused_and_one_that_changes_its_size_is_scaled(tmp_path, ingest):
    def joined(name, width, height):
        first = write_video(tmp_path / "a.mkv", moving_pattern(12), fps=10, codec="mjpeg", pix_fmt="yuvj420p", options={})
        second = write_video(
            tmp_path / "b.mkv", moving_pattern(12, width, height), fps=10, codec="mjpeg", pix_fmt="yuvj420p", options={}
        )
        return remux(tmp_path / name, [first, second])

    assert refusal(joined("shape.mkv", 48, 48), tmp_path).code == "size_changes"
    clip, quality = ingest(joined("size.mkv", 128, 96))
    assert len(clip) == 24
    assert any("another size" in check for check in quality.checks)


def remux(path, parts):
    """Packets of several files behind each other in one stream."""
    with av.open(str(path), "w") as out:
        stream, base = None, 0
        for part in parts:
            with av.open(str(part)) as file:
                stream = stream or out.add_stream_from_template(file.streams.video[0])
                last = base
                for packet in file.demux(video=0):
                    if packet.size:
                        packet.pts = packet.dts = packet.pts + base
                        last, packet.stream = packet.pts + packet.duration, stream
                        out.mux(packet)
                base = last
    return path


def test_big_frames_get_fewer_decoder_threads():
    assert decoder_threads(8, 1920, 1080) == 8
    assert decoder_threads(64, 640, 480) == 16
    assert decoder_threads(8, 7680, 4320) == 2
    assert decoder_threads(8, 16384, 4096) == 1
