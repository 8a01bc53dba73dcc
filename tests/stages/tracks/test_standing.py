"""Which points are taken to stand, on a slab that slides over a wall: its own depth covers the places that its points have left."""

import cv2
import numpy as np
import pytest

from stages.tracks.chain import DenseFlow, FlowSettings
from stages.tracks.point_paths import WindowFrames
from stages.tracks.standing import stand_still
from videolift.geometry import pinhole, unproject

STEPS, WIDTH, HEIGHT, PX_PER_STEP = 6, 160, 96, 6
SLAB = slice(40, 100)
"""Its columns in the first frame."""


@pytest.fixture(scope="module")
def slide():
    """The window, and pixels of points on the slab and on the wall. The slab is nearer on its left, and slides to the right."""
    rng = np.random.default_rng(0)
    wall, texture = (cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8), (0, 0), 1) for _ in range(2))
    grey, depth = [], []
    for k in range(STEPS):
        at = slice(SLAB.start + k * PX_PER_STEP, SLAB.stop + k * PX_PER_STEP)
        image, z = wall.copy(), np.full((HEIGHT, WIDTH), 1.0)
        image[20:80, at] = texture[20:80, SLAB]
        z[20:80, at] = np.linspace(0.6, 0.9, SLAB.stop - SLAB.start)
        grey.append(image)
        depth.append(z)
    flow, poses = DenseFlow(FlowSettings(), (WIDTH, HEIGHT)), np.tile(np.eye(4), (STEPS, 1, 1))
    frames = WindowFrames(flow, grey, [], depth, pinhole(200, WIDTH, HEIGHT), poses)
    rows = np.arange(30, 70, 3)
    on_slab, on_wall = (np.stack(np.meshgrid(u, rows), -1).reshape(-1, 2) for u in (np.arange(76, 96, 3), np.arange(3, 30, 3)))
    return frames, on_slab.astype(np.float32), on_wall.astype(np.float32)


def standing(frames, uv, flow_px, trusted):
    z = frames.depth[0][uv[:, 1].astype(int), uv[:, 0].astype(int)]
    shift = np.arange(STEPS)[:, None, None] * np.stack([flow_px, np.zeros(len(uv))], -1)
    return stand_still(frames, unproject(uv, z, frames.K), (uv + shift).astype(np.float32), trusted)[1]


def test_points_covered_by_what_they_are_on_move_with_those_whose_flow_is_trusted(slide):
    frames, on_slab, on_wall = slide
    uv = np.concatenate([on_slab, on_wall])
    moves = np.arange(len(uv)) < len(on_slab)
    trusted = np.ones((STEPS, len(uv)), bool)
    trusted[1:, moves] = np.arange(moves.sum()) % 2 == 0
    stands = standing(frames, uv, np.where(moves, PX_PER_STEP, 0), trusted)
    assert not stands[moves].any()
    assert stands[~moves].all()


def test_standing_points_that_something_covers_still_stand(slide):
    frames, _, on_wall = slide
    uv = on_wall + np.float32([100, 0])  # ahead of the slab, which covers half of them until the end
    trusted = np.ones((STEPS, len(uv)), bool)
    trusted[3:] = False
    assert standing(frames, uv, np.zeros(len(uv)), trusted).all()
