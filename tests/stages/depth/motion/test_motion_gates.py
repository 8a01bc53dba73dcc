"""Gates: from how corners move to what the camera does, and which reconstructions are believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stages.depth.motion.features import FeatureTracks
from stages.depth.motion.motion_gates import ReconstructionFigures, fit_rotation, measure_motion, plausible_cameras, refusal
from stages.depth.sfm_settings import SfmSettings
from tests.stages.depth.synthetic import SIZE, K, path, tracks_of
from videolift.geometry import pinhole

SETTINGS = SfmSettings()


@pytest.mark.parametrize(
    ("camera", "movers", "kind"),
    [
        (path(), 0.0, "static"),
        (path(), 0.4, "static"),
        (path(turn=0.002), 0.0, "rotation"),
        (path(turn=0.002), 0.15, "rotation"),
        (path(shift=0.002), 0.0, "moving"),
        (path(turn=0.002, shift=0.002), 0.0, "moving"),
    ],
)
def test_what_the_camera_does_is_told_from_corners(camera, movers, kind):
    motion = measure_motion(tracks_of(camera, movers=movers), plausible_cameras(*SIZE, SETTINGS), SETTINGS)
    assert motion.kind(SETTINGS) == kind


def test_a_long_lens_that_turns_is_not_taken_for_translation():
    long_lens = pinhole(800, *SIZE)
    tracks = tracks_of(path(turn=0.002), long_lens, noise_px=0.02)
    guess = measure_motion(tracks, [pinhole(0.85 * 512, *SIZE)], SETTINGS)
    searched = measure_motion(tracks, plausible_cameras(*SIZE, SETTINGS), SETTINGS)
    assert searched.kind(SETTINGS) == "rotation"
    assert searched.rotation_px < guess.rotation_px
    assert searched.focal_px == pytest.approx(800, rel=0.1)


def test_a_camera_that_stands_before_it_moves_is_moving():
    waits = np.concatenate([path(30), path(30, shift=0.002)])
    assert measure_motion(tracks_of(waits), plausible_cameras(*SIZE, SETTINGS), SETTINGS).kind(SETTINGS) == "moving"


def test_corners_that_live_shortly_shorten_the_gap():
    tracks = tracks_of(path(shift=0.002))
    ids = tracks.ids.reshape(40, -1) + 1000 * (np.arange(40)[:, None] // 8).astype(np.int32)
    assert measure_motion(replace(tracks, ids=ids.ravel()), [K], SETTINGS).gap < 8


def test_without_corners_nothing_is_claimed():
    nothing = FeatureTracks(np.zeros(0, np.int32), np.zeros((0, 2), np.float32), np.zeros(11, np.int64))
    assert measure_motion(nothing, [K], SETTINGS) is None


def test_the_rotation_found_maps_view_a_to_view_b():
    tracks = tracks_of(path(turn=0.01), noise_px=0.0)
    R, left_px = fit_rotation(*tracks.shared(0, 10), K)
    assert np.allclose(R, path(turn=0.01)[10, :3, :3], atol=1e-5)
    assert left_px.max() < 0.01


BELIEVED = ReconstructionFigures(registered_share=1.0, reproj_px=0.4, fov_deg=60.0, points=1200, parallax_px=100.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"registered_share": 0.79}, "79% of the keyframes"),
        ({"reproj_px": 1.01}, "reprojection error 1.01 px"),
        ({"fov_deg": 145.0}, "field of view 145 degrees"),
        ({"fov_deg": 12.0}, "field of view 12 degrees"),
        ({"points": 299}, "299 points"),
        ({"parallax_px": 7.9}, "7.9 px"),
    ],
)
def test_an_implausible_reconstruction_is_refused_in_words(change, said):
    assert refusal(BELIEVED, 3.0, SETTINGS) is None
    assert said in refusal(replace(BELIEVED, **change), 3.0, SETTINGS)


def test_a_known_lens_may_be_as_wide_as_it_is():
    assert refusal(replace(BELIEVED, fov_deg=130.0), 3.0, SETTINGS, known_lens=True) is None


def test_a_reconstruction_no_better_than_a_turning_camera_is_refused():
    """A turning long lens, mapped with the wrong focal length, comes out with poses, points and 0.4 px."""
    assert "no gain" in refusal(BELIEVED, 0.79, SETTINGS)
    assert refusal(BELIEVED, 0.81, SETTINGS) is None
