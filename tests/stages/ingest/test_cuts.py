"""Cuts: what ends a shot and what does not, on renderings of two scenes, and what a clip stores of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.ingest.cuts import CutFinder
from stages.sample import render
from tests.videos import moving_pattern, write_video
from videolift.shot_ranges import NO_SHOT, shots_of

FRAMES = 24


def scene(name: str, seed: int, colours: tuple[int, int, int] = (0, 1, 2), **how: object) -> np.ndarray:
    rgb = render(name, frames=FRAMES, width=160, height=120, seed=seed, **how).rgb
    return np.ascontiguousarray(rgb[..., list(colours)])


@pytest.fixture(scope="module")
def kitchen():
    return scene("orbit", 1)


@pytest.fixture(scope="module")
def elsewhere():
    """Another room: other colours, upside down, so that nothing of it is where it was."""
    return np.ascontiguousarray(scene("handheld_rgbd", 5, (2, 0, 1))[:, ::-1] // 2 + 60)


def shots(frames: np.ndarray) -> list[tuple[int, int]]:
    finder = CutFinder()
    for picture in np.asarray(frames, np.uint8):
        finder.add(picture)
    return [(one.first, one.end) for one in shots_of(finder.shot_of_frame())]


def mixed(before: np.ndarray, after: np.ndarray, frames: int) -> np.ndarray:
    share = np.linspace(0, 1, frames + 2)[1:-1, None, None, None]
    return np.concatenate([before[:-frames], (1 - share) * before[-frames:] + share * after[:frames], after[frames:]])


def faded(before: np.ndarray, after: np.ndarray, frames: int, colour: int) -> np.ndarray:
    blank = np.full_like(before[: frames + 1], colour)
    return np.concatenate([mixed(before, blank, frames), mixed(blank[1:], after, frames)])


def test_a_hard_cut_ends_a_shot(kitchen, elsewhere):
    assert shots(np.concatenate([kitchen, elsewhere, kitchen[::-1]])) == [(0, 24), (24, 48), (48, 72)]


@pytest.mark.parametrize("frames", [4, 8, 14])
def test_frames_of_a_dissolve_belong_to_no_shot(kitchen, elsewhere, frames):
    (first, end), (begin, last) = shots(mixed(kitchen, elsewhere, frames))
    assert (first, last) == (0, 48 - frames)
    assert end <= FRAMES - frames + 1
    assert begin >= FRAMES - 1


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("frames", [4, 8])
def test_frames_of_a_fade_belong_to_no_shot(kitchen, elsewhere, frames, colour):
    (first, end), (begin, last) = shots(faded(kitchen, elsewhere, frames, colour))
    assert (first, last) == (0, 2 * FRAMES + 1)
    assert end <= FRAMES - frames + 1
    assert begin >= FRAMES + frames


@pytest.mark.parametrize("gain", [0.3, 0.5, 0.7, 1.4, 1.8])
@pytest.mark.parametrize("over", [1, 12])
def test_a_change_of_exposure_is_no_cut(kitchen, gain, over):
    share = np.clip((np.arange(FRAMES) - 8) / over, 0, 1)[:, None, None, None]
    assert shots(np.clip(kitchen * (1 + share * (gain - 1)), 0, 255)) == [(0, FRAMES)]


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("brighter", [90, 255])
def test_a_flash_is_no_cut(kitchen, frames, brighter):
    lit = kitchen.astype(int)
    lit[10 : 10 + frames] += brighter
    assert shots(np.clip(lit, 0, 255)) == [(0, FRAMES)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("speed_px", [20, 40])
def test_a_camera_that_swings_is_no_cut(kitchen, seed, speed_px):
    """Twice and four times 10 % of the picture's width in a frame, to and fro over a wide scene, blurred by its own motion."""
    wide = cv2.resize(scene("orbit", seed)[0], (640, 480))
    at = np.abs(np.cumsum(np.full(FRAMES, speed_px)) % 800 - 400)
    swing = [cv2.blur(wide[100:340, x : x + 240], (speed_px // 2, 1)) for x in at]
    assert shots(np.stack(swing)) == [(0, FRAMES)]


def test_a_scene_that_is_black_for_long_is_two_shots(kitchen):
    assert shots(np.concatenate([kitchen, np.zeros_like(kitchen[:8]), kitchen[::-1]])) == [(0, 24), (32, 56)]


def test_pictures_without_anything_in_them_are_one_shot():
    assert shots(np.zeros((12, 48, 64, 3))) == [(0, 12)]
    assert shots(np.full((12, 48, 64, 3), 120)) == [(0, 12)]


def test_a_cut_is_found_wherever_it_falls_in_a_long_video(kitchen, elsewhere):
    for before in (511, 512, 576):
        calm = np.concatenate([kitchen, kitchen[::-1]] * 13)[:before]
        assert shots(np.concatenate([calm, elsewhere])) == [(0, before), (before, before + 24)]


def test_a_clip_stores_its_shots_and_without_cuts_one(tmp_path, ingest, kitchen, elsewhere):
    path = write_video(tmp_path / "v.mp4", np.concatenate([kitchen, elsewhere]), fps=10)
    clip, quality = ingest(path, width=160, height=120)
    assert clip.shot.tolist() == [0] * 24 + [1] * 24
    assert quality.checks == ("2 shots; cuts before frames 24",)
    assert quality.figures["shots"] == 2
    whole, quality = ingest(path, width=160, height=120, cuts=False)
    assert whole.shot.tolist() == [0] * 48
    assert quality.checks == ()


def test_a_clip_of_an_older_release_is_one_shot(tmp_path, ingest):
    clip, _ = ingest(write_video(tmp_path / "v.mp4", moving_pattern(12), fps=10))
    clip.close()
    import h5py

    with h5py.File(clip.path, "a") as file:
        del file["shot"]
    with type(clip)(clip.path) as older:
        assert older.shot.tolist() == [0] * 12
        assert NO_SHOT not in older.shot
