"""One focal length from several clips: flat curves that agree add up, one that is wrong is outvoted."""

import pytest

from videolift.inputs.focal_curves import FOCAL_FACTORS, FocalCurve, shared_focal_length

SIZE = (640, 480)


def curve(focal_px, rise, size=SIZE):
    """A curve that rises by ``rise`` 10 % away, growing with the square of the distance."""
    return FocalCurve(focal_px, size, tuple(rise * ((factor - 1) / 0.1) ** 2 for factor in FOCAL_FACTORS))


def test_a_curve_survives_its_record():
    told = curve(500.0, 0.02)
    assert FocalCurve.from_figures(told.figures() | {"valid_share": 0.5}) == told
    assert FocalCurve.from_figures({"valid_share": 0.5, "hfov_deg": 60.0}) is None


def test_a_single_flat_clip_does_not_know_and_three_that_agree_do():
    alone = shared_focal_length([curve(520.0, 0.008)])
    assert not alone.known
    together = shared_focal_length([curve(focal, 0.008) for focal in (480.0, 500.0, 525.0)])
    assert together.known
    assert together.focal_of_width * SIZE[0] == pytest.approx(500, rel=0.03)


def test_clips_at_other_resolutions_count_as_shares_of_the_width():
    shared = shared_focal_length([curve(500.0, 0.05), curve(1500.0, 0.05, (1920, 1440))])
    assert shared.focal_of_width == pytest.approx(500 / 640, rel=0.01)


def test_a_clip_that_is_sure_of_a_wrong_focal_length_is_outvoted():
    shared = shared_focal_length([curve(1000.0, 0.5), curve(500.0, 0.05), curve(505.0, 0.05)])
    assert shared.focal_of_width * SIZE[0] == pytest.approx(502, rel=0.02)


def test_flat_clips_do_not_pull_one_that_knows_off_its_focal_length():
    shared = shared_focal_length([curve(500.0, 0.06), curve(570.0, 0.005), curve(440.0, 0.005)])
    assert shared.focal_of_width * SIZE[0] == pytest.approx(500, rel=0.02)


def test_a_focal_length_that_fits_far_worse_contradicts_a_clip_and_one_near_by_does_not():
    sure, flat = curve(500, 0.05), curve(500, 0.002)
    assert sure.contradicts(700)
    assert sure.contradicts(380)
    assert not sure.contradicts(530)
    assert not flat.contradicts(700)
