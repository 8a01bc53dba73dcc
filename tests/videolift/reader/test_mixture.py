"""Mixtures: exact weights, disjoint over ranks, the same again after a resume, every dataset with its own statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videolift.errors import ConfigError
from videolift.reader import Ingredient, Mixture, MixtureSampler, Normalization, Selection, open_dataset
from videolift.reader.mixing.draw_order import DrawOrder, DrawStage, floor_sum, permuted


class Numbers:
    """A source whose samples say which they are."""

    def __init__(self, size, **fields):
        self.size, self.fields = size, fields

    def __len__(self):
        return self.size

    def open(self, index, *, epoch=0):
        return {"index": np.array(index), "epoch": np.array(epoch), **self.fields}


def mixture(sizes=(1000, 300, 50), weights=(0.7, 0.2, 0.1), **options):
    ingredients = [Ingredient(f"d{i}", Numbers(n), w) for i, (n, w) in enumerate(zip(sizes, weights, strict=True))]
    return Mixture(ingredients, **options)


@given(st.integers(0, 60), st.integers(1, 40), st.integers(0, 90), st.integers(-90, 90))
def test_the_sum_of_floors_is_that_of_the_definition(n, modulus, step, phase):
    assert floor_sum(n, modulus, step, phase) == sum((step * m + phase) // modulus for m in range(n))


@settings(max_examples=30)
@given(st.integers(1, 3000), st.integers(0, 5))
def test_a_permutation_holds_every_number_once(size, epoch):
    drawn = permuted(np.arange(size), size, (0, 1), np.full(size, epoch))
    assert sorted(drawn.tolist()) == list(range(size))


def test_permutations_differ_by_epoch_and_look_random():
    size, epochs = 50, 4000
    first = permuted(np.tile(np.arange(3), epochs), size, (7, 0), np.repeat(np.arange(epochs), 3)).reshape(epochs, 3)
    for column in first.T:
        counts = np.bincount(column, minlength=size)
        assert ((counts - epochs / size) ** 2 / (epochs / size)).sum() < 49 + 5 * np.sqrt(98)
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 0.08


def test_counts_are_those_of_the_draws_at_every_position():
    order = DrawOrder((1000, 50, 7), (DrawStage(0, (0.7, 0.2, 0.1)), DrawStage(5000, (0.1, 0.1, 0.8))), seed=3)
    source = order.draws(0, 9000).source
    for position in (0, 1, 1024, 1500, 4999, 5000, 5001, 6024, 9000):
        assert order.counts(position) == tuple(np.bincount(source[:position], minlength=3))


def test_draws_from_the_middle_are_those_of_the_whole():
    order = DrawOrder((1000, 50, 7), (DrawStage(0, (0.7, 0.2, 0.1)), DrawStage(5000, (0.1, 0.1, 0.8))), seed=3)
    whole, part = order.draws(0, 8000), order.draws(1234, 7000)
    for name in ("source", "index", "epoch"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[1234:7000])


@pytest.mark.parametrize("total", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_draws_keep_the_weights_over_ranks_workers_a_resume_and_a_change(total):
    """4 ranks; the first half resumed in its middle, other weights for the second; workers change nothing, the sampler has none."""
    seen = []
    state = None
    for steps in (total * 12 // 200, total * 13 // 200, total * 25 // 200):
        counts = np.zeros(3, int)
        for rank in range(4):
            mixed = mixture(sizes=(40_000, 9_000, 100))
            sampler = MixtureSampler(mixed, rank=rank, ranks=4, length=steps)
            if state is not None:
                sampler.load_state_dict(state)
            if sampler.start == total // 2:
                sampler.reweight({"d0": 0.1, "d1": 0.3, "d2": 0.6}, at=total // 2)
            indices = np.array([draw.index for draw in sampler])
            counts += np.bincount(np.searchsorted(mixed._offsets, indices, side="right") - 1, minlength=3)
            last = sampler.state_dict(steps)
        state = last
        seen.append(counts)
    assert state["position"] == total
    halves = (sum(seen[:2]), (0.7, 0.2, 0.1)), (seen[2], (0.1, 0.3, 0.6))
    for counts, weights in halves:
        draws, w = counts.sum(), np.array(weights)
        assert draws == total // 2
        assert (np.abs(counts - draws * w) <= 3 * np.sqrt(draws * w * (1 - w))).all()
        assert (np.abs(counts - draws * w) <= 60).all()  # far better than chance: the sequence is even


def test_ranks_are_disjoint_and_together_the_whole():
    whole = mixture().draws(0, 400)
    parts = [list(MixtureSampler(mixture(), rank=rank, ranks=4, length=100)) for rank in range(4)]
    assert [parts[n % 4][n // 4] for n in range(400)] == whole


def test_a_resumed_sampler_goes_on_where_training_stopped():
    whole = list(MixtureSampler(mixture(), length=500))
    first = MixtureSampler(mixture(), length=500)
    ahead = iter(first)
    for _ in range(170):
        next(ahead)  # 150 were trained on, 20 only fetched ahead
    resumed = MixtureSampler(mixture(), length=350)
    resumed.load_state_dict(first.state_dict(150))
    assert list(resumed) == whole[150:]


def test_a_resume_may_change_the_number_of_ranks():
    state = MixtureSampler(mixture(), rank=1, ranks=2).state_dict(60)
    parts = []
    for rank in range(3):
        sampler = MixtureSampler(mixture(), rank=rank, ranks=3, length=10)
        sampler.load_state_dict(state)
        parts.append(list(sampler))
    assert [parts[n % 3][n // 3] for n in range(30)] == mixture().draws(120, 150)


def test_the_next_iteration_goes_on_and_draws_each_sample_anew():
    sampler = MixtureSampler(mixture((10, 5), (1, 1), mode="concat"), length=15)
    first, second = list(sampler), list(sampler)
    assert sorted(draw.index for draw in first) == sorted(draw.index for draw in second) == list(range(15))
    assert {draw.epoch for draw in first} == {0}
    assert {draw.epoch for draw in second} == {1}


def test_concat_draws_every_sample_once_per_round_at_any_seed():
    for seed in range(5):
        mixed = mixture((1500, 40, 3), (1, 1, 1), mode="concat", seed=seed)
        draws = mixed.draws(0, 3 * 1543)
        for r in range(3):
            part = draws[r * 1543 : (r + 1) * 1543]
            assert sorted(draw.index for draw in part) == list(range(1543))


def test_balanced_draws_each_dataset_alike():
    counts = mixture(mode="balanced").counts(30_000)
    assert all(abs(count - 10_000) < 30 for count in counts.values())


def test_weights_hold_far_beyond_what_a_float_counts():
    ingredients = [Ingredient("huge", Numbers(3 << 30), 0.5), Ingredient("small", Numbers(10), 0.5)]
    mixed = Mixture(ingredients)
    draws = mixed.draws(10**12, 10**12 + 2000)
    assert abs(sum(draw.index >= 3 << 30 for draw in draws) - 1000) < 40
    assert len({draw.index for draw in draws if draw.index < 3 << 30}) > 980


def test_weights_change_at_the_draw_that_was_named():
    mixed = mixture()
    sampler = MixtureSampler(mixed, length=600)
    drawing = iter(sampler)
    before = [next(drawing) for _ in range(100)]
    with pytest.raises(ConfigError, match="already with the workers"):
        sampler.reweight({"d0": 0, "d1": 0, "d2": 1}, at=99)
    sampler.reweight({"d0": 0, "d1": 0, "d2": 1}, at=120)
    after = list(drawing)
    assert before + after[:20] == mixture().draws(0, 120)
    assert all(draw.index >= 1300 for draw in after[20:])
    assert len(after) == 500


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"d0": 1.0}, "weights are given for"), ({"d0": -1, "d1": 1, "d2": 1}, "negative"), ({"d0": 0, "d1": 0, "d2": 0}, "above 0")],
)
def test_weights_that_cannot_be_meant_are_refused(weights, message):
    with pytest.raises(ConfigError, match=message):
        mixture().reweight(weights, at=0)


def test_a_state_of_other_datasets_is_refused():
    state = mixture().state_dict(100)
    with pytest.raises(ConfigError, match="resume with the same datasets"):
        mixture(sizes=(1000, 300, 51)).load_state_dict(state)


def test_an_empty_dataset_is_refused():
    with pytest.raises(ConfigError, match="d1 has no samples"):
        mixture((5, 0), (1, 1))


def test_fields_that_some_lack_are_0_and_said_to_be_absent():
    rich, poor = Numbers(3, depth=np.ones((2, 2), np.float32), text="lift"), Numbers(3)
    mixed = Mixture([Ingredient("rich", rich), Ingredient("poor", poor)])
    a, b = mixed.open(1), mixed.open(4)
    assert a.keys() == b.keys()
    assert (a["dataset"], bool(a["depth_present"]), bool(b["depth_present"])) == ("rich", True, False)
    assert (b["depth"] == np.zeros((2, 2))).all()
    assert b["text"] == ""


def test_each_dataset_keeps_its_own_statistics(two_groups):
    parts = {group: open_dataset(two_groups, group=group, selection=Selection(points=8)) for group in ("A-metric", "C-arbitrary")}
    mixed = Mixture([Ingredient(name, windows, 1.0, Normalization.fit(windows)) for name, windows in parts.items()])
    for index, (group, at) in {0: ("A-metric", 0), 9: ("C-arbitrary", 1)}.items():
        expected = Normalization.load(two_groups, group=group).apply(parts[group][at])
        np.testing.assert_array_equal(mixed.open(index)["displacement"], expected["displacement"])


def test_the_description_says_what_will_be_drawn():
    table = mixture().describe(10_000).splitlines()
    assert [line.split() for line in table[1:]] == [
        [name, str(size), f"{weight:.4f}", str(mixture().counts(10_000)[name]), f"{mixture().counts(10_000)[name] / size:.2f}"]
        for name, size, weight in (("d0", 1000, 0.7), ("d1", 300, 0.2), ("d2", 50, 0.1))
    ]
