"""Where tracks start."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.tracks import TracksSettings
from stages.tracks.queries import at_random, eroded, generator, grid_pixels, in_mask, window_queries
from videolift.errors import BadInput

SIZE = (64, 48)


def settings(**changes):
    return TracksSettings(backend="flow", seed=changes.pop("seed", 7), **changes)


def two_boxes():
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 8:30] = 3
    mask[10:30, 30:56] = 9
    return mask


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 6000))
def test_a_grid_lies_on_different_pixels_of_the_image(width, height, points):
    uv = grid_pixels(width, height, points)
    assert len(np.unique(uv, axis=0)) == len(uv) >= 1
    assert (uv >= 0).all()
    assert (uv < [width, height]).all()


def test_a_grid_has_about_as_many_points_as_asked_for():
    assert 0.9 * 3000 < len(grid_pixels(512, 384, 3000)) < 1.1 * 3000


def test_a_grid_leaves_equal_margins():
    uv = grid_pixels(512, 384, 3000)
    assert np.abs(uv.min(0) - ([511, 383] - uv.max(0))).max() <= 1


@pytest.mark.parametrize("query", ["random", "mask"])
def test_a_resumed_window_asks_for_the_same_points(query):
    first, again = (
        window_queries(settings(query=query, points=50), video="v", window_start=4, size_px=SIZE, mask=two_boxes())
        for _ in range(2)
    )
    assert np.array_equal(first.uv_px, again.uv_px)


@pytest.mark.parametrize("change", [{"seed": 8}, {"video": "w"}, {"window_start": 5}])
def test_seed_video_and_window_each_draw_other_points(change):
    def draw(seed=7, video="v", window_start=4):
        return window_queries(
            settings(query="random", points=50, seed=seed), video=video, window_start=window_start, size_px=SIZE, mask=None
        )

    assert not np.array_equal(draw().uv_px, draw(**change).uv_px)


def test_random_points_are_different_pixels_and_never_more_than_there_are():
    assert len(np.unique(at_random(10, 10, 100, generator(0, "v", 0)), axis=0)) == 100
    assert len(at_random(10, 10, 500, generator(0, "v", 0))) == 100


def test_points_in_a_mask_keep_away_from_its_edge_and_from_other_instances():
    mask = two_boxes()
    uv = in_mask(mask, 10_000, 3, generator(0, "v", 0))
    assert sorted(set(mask[uv[:, 1], uv[:, 0]])) == [3, 9]
    for u, v in uv:
        around = [mask[v, u + 3], mask[v, u - 3], mask[v + 3, u], mask[v - 3, u]]
        assert set(around) == {mask[v, u]}


def test_a_mask_is_not_eroded_at_the_border_of_the_image():
    mask = np.ones((20, 20), np.uint8)
    assert (eroded(mask, 3) == 1).all()


def test_labels_are_the_mask_ids_under_the_points():
    mask = two_boxes()
    queries = window_queries(settings(points=500), video="v", window_start=0, size_px=SIZE, mask=mask)
    column, row = queries.uv_px.astype(int).T
    assert set(queries.label) == {0, 3, 9}
    assert np.array_equal(queries.label, mask[row, column])


def test_an_empty_mask_gives_no_points():
    queries = window_queries(settings(query="mask"), video="v", window_start=0, size_px=SIZE, mask=np.zeros((48, 64), np.uint8))
    assert len(queries) == 0


def test_asking_for_points_in_a_mask_without_one_is_refused():
    with pytest.raises(BadInput, match="no mask") as error:
        window_queries(settings(query="mask"), video="v", window_start=0, size_px=SIZE, mask=None)
    assert error.value.code == "no_mask"
