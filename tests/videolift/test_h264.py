"""Equal frames give equal bytes, whatever else the process did before."""

import av
import numpy as np
import pytest

from videolift.h264 import H264Writer


def frames():
    rng = np.random.default_rng(0)
    still = np.kron(rng.integers(0, 256, (24, 32, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    return [np.roll(still, 3 * k, axis=1) for k in range(14)]


def write(path, pictures, crf=12):
    with H264Writer(path, (128, 96), 12.5, crf=crf) as video:
        for picture in pictures:
            video.write(picture)
    return path.read_bytes()


def test_encoding_again_gives_equal_bytes(tmp_path):
    first = write(tmp_path / "a.mp4", frames())
    for attempt in range(4):
        ballast = np.zeros(100_003 * attempt + 1)  # other memory addresses: they changed x264's result once
        assert write(tmp_path / f"{attempt}.mp4", frames()) == first
        del ballast


def test_what_is_written_can_be_decoded(tmp_path):
    write(tmp_path / "a.mp4", frames())
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 12.5
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(pictures) == 14
    assert np.abs(np.mean(pictures, dtype=float) - np.mean(frames(), dtype=float)) < 3


def test_odd_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="127 x 96"):
        H264Writer(tmp_path / "a.mp4", (127, 96), 10, crf=12)
    assert not (tmp_path / "a.mp4").exists()
