from __future__ import annotations

import numpy as np
import pytest

from stages.ingest.orientation import Orientation, orientation
from tests.videos import write_video

TURN = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def corners(width: int = 64, height: int = 48) -> np.ndarray:
    """One frame with four different corners, so that all eight orientations differ."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2] = (200, 40, 40)
    frame[: height // 2, width // 2 :] = (40, 200, 40)
    frame[height // 2 :, : width // 2] = (40, 40, 200)
    frame[height // 2 :, width // 2 :] = (200, 200, 40)
    return frame


def by_definition(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Moves every pixel (x, y) to (a x + c y, b x + d y), shifted into view."""
    a, b, c, d = matrix
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    out = np.zeros((to_y.max() + 1, to_x.max() + 1, 3), np.uint8)
    out[to_y, to_x] = image
    return out


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_matrix_moves_pixels_as_ffmpeg_defines_it(degrees, mirror):
    a, b, c, d = TURN[degrees]
    # mirrored left to right before turning: x enters with the opposite sign
    matrix = (-a, -b, c, d) if mirror else (a, b, c, d)
    turn = orientation((np.array([[matrix[0], matrix[1], 0], [matrix[2], matrix[3], 0], [0, 0, 16384]]) * 65536).astype(np.int32))
    assert np.array_equal(turn.apply(corners()), by_definition(corners(), matrix))
    assert (turn.rotation_deg, turn.mirrored) == (degrees, mirror)
    assert turn.size((64, 48)) == turn.apply(corners()).shape[1::-1]


def test_a_matrix_of_zeros_is_upright():
    assert orientation(np.zeros((3, 3), np.int32)) == Orientation()


def test_a_slanted_matrix_takes_the_nearest_right_angle_and_says_how_far_it_is():
    angle = np.deg2rad(93)
    matrix = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 16384]]) * 65536
    turn = orientation(matrix.astype(np.int32))
    assert turn.rotation_deg == 90
    assert turn.off_deg == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize(
    ("degrees", "hflip", "vflip"),
    [(0, False, False), (90, False, False), (180, False, False), (270, False, False), (0, True, False), (90, False, True)],
)
def test_a_video_is_stored_upright(tmp_path, ingest, container, degrees, hflip, vflip):
    path = write_video(tmp_path / f"v.{container}", [corners()] * 4, fps=10, rotation=(degrees, hflip, vflip))
    clip, _ = ingest(path)
    upright = {0: corners(), 90: np.rot90(corners(), 1), 180: np.rot90(corners(), 2), 270: np.rot90(corners(), 3)}[degrees]
    # FFmpeg turns anticlockwise first and flips afterwards
    upright = upright[:, ::-1] if hflip else upright
    upright = upright[::-1] if vflip else upright
    assert clip[0].shape == upright.shape
    assert np.abs(clip[0].astype(int) - upright).max() <= 3
    source = clip.attrs["source"]
    assert source["size_px"] == [64, 48]
    assert source["mirrored"] == (hflip != vflip)
