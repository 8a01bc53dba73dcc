"""Files that must be refused as videos, under names that attack whoever puts them into a shell, a path or a regex."""

from __future__ import annotations

from pathlib import Path

from tests.videos import moving_pattern, write_sound, write_video

FASTSTART = {"movflags": "+faststart"}


def write_bad_videos(folder: Path) -> dict[str, str]:
    """Writes one file of each kind below ``folder``; relative path to the code of `BadInput` that ingest must give.

    They are bad at the default settings (10 frames per second).
    """
    good = write_video(folder / "-leading dash; rm -rf ~ .mp4", moving_pattern(45), container_options=FASTSTART).read_bytes()
    bad = {
        "-leading dash; rm -rf ~ .mp4": ("truncated", cut_in_the_middle(good)),
        "zero bytes.mp4": ("empty_file", b""),
        'it\'s "text" $(touch pwned) `id`.mp4': ("not_a_video", b"This is a shopping list, not a video.\n" * 40),
        "sub folder/ünïcödé 手 🎬.MP4": ("truncated", without_index(folder)),
        "sub folder/bad dimensions & more.mov": ("too_large", decompression_bomb(folder)),
        "new\nline %s {video} codec.mov": ("unsupported_codec", good.replace(b"avc1", b"zzz9")),
        "a" * 120 + ".mp4": ("undecodable", with_noise(good)),
    }
    for name, (_, data) in bad.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    codes = {name: code for name, (code, _) in bad.items()}
    write_sound(folder / "audio only.mp4", 1.0)
    write_video(folder / "one frame.mkv", moving_pattern(1))
    write_video(folder / "#too short?.webm", moving_pattern(2), codec="libvpx-vp9", pix_fmt="yuv420p")
    write_video(folder / "all*black.avi", 0 * moving_pattern(45), codec="mpeg4", pix_fmt="yuv420p")
    rest = {"audio only.mp4": "audio_only", "one frame.mkv": "one_frame", "#too short?.webm": "one_frame", "all*black.avi": "black"}
    return codes | rest


def cut_in_the_middle(faststart_mp4: bytes) -> bytes:
    """An interrupted copy of a file whose index stands in front: it opens, and decodes in part."""
    return faststart_mp4[: len(faststart_mp4) * 6 // 10]


def without_index(folder: Path) -> bytes:
    """An interrupted recording: the index, written last, is missing."""
    data = write_video(folder / "complete.mp4", moving_pattern(30)).read_bytes()
    (folder / "complete.mp4").unlink()
    return data[: data.rindex(b"moov") - 4]


def decompression_bomb(folder: Path) -> bytes:
    """Small PNG frames that claim 30000x30000 px, in the sample description as in their own headers."""
    path = write_video(folder / "bomb.mov", moving_pattern(3), codec="png", pix_fmt="rgb24")
    data, side = path.read_bytes(), 30000
    path.unlink()
    at = data.index(b"stsd") + 12 + 4 + 24 + 4
    for start, size in ((at, 2), *((i + 4, 4) for i in range(len(data)) if data.startswith(b"IHDR", i))):
        data = data[:start] + side.to_bytes(size, "big") * 2 + data[start + 2 * size :]
    return data


def with_noise(mp4: bytes) -> bytes:
    """The same file, every byte of its frames inverted."""
    start = mp4.index(b"mdat") + 4
    return mp4[:start] + bytes(255 - byte for byte in mp4[start:])
