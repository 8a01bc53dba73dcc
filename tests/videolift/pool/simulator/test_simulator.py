import dataclasses
import statistics

import pytest

from tests.videolift.pool.simulator.hindsight import judge_choice
from tests.videolift.pool.simulator.play import simulate, true_fit
from tests.videolift.pool.simulator.worlds import GIB, VirtualItem, World, draw

FIVE = World(
    seed=1,
    on_cpu=False,
    card_bytes=(24 * GIB,),
    host_bytes=64 * GIB,
    cores=8,
    loaded_bytes=2 * GIB,
    host_loaded_bytes=GIB,
    load_s=60.0,
    busy_share=0.2,
    contention=0.01,
    leak_share=0.0,
    items=(VirtualItem(100.0, 20.0, 2 * GIB, 0),) * 5,
    tenants=(),
)


def test_the_same_seed_is_the_same_world_and_the_same_run():
    assert draw(7) == draw(7)
    assert simulate(draw(7)) == simulate(draw(7))


@pytest.mark.parametrize("seconds", [1.0, 5.0, 20.0, 60.0, 300.0])
def test_five_items_never_take_longer_than_with_one_worker(seconds):
    world = dataclasses.replace(FIVE, items=(VirtualItem(100.0, seconds, 2 * GIB, 0),) * 5)
    assert simulate(world).seconds <= simulate(world, 1).seconds + 1e-6


def test_a_poison_item_is_lost_alone():
    items = (VirtualItem(100.0, 20.0, GIB, 1_000), *FIVE.items)
    played = simulate(dataclasses.replace(FIVE, items=items))
    assert (played.done, played.lost) == (5, 1)


def test_progress_is_paired_with_memory_of_the_same_moment():
    """In this world the first item says that it is a tenth done between two looks at its memory, which is about to grow."""
    played = simulate(draw(10_049))
    assert (played.out_of_memory, played.lost) == (0, 0)


def test_a_ready_worker_is_not_ended_while_others_still_load():
    """In this world eight load beside two ready ones when it shows that half of them are too many."""
    assert simulate(draw(10_138)).chosen == (2,)


def judged(seeds):
    return [judge_choice(draw(seed)) for seed in seeds]


def test_promises_hold_and_most_choices_are_good():
    choices = judged(range(4, 17))
    assert sum(choice.played.broken_promises for choice in choices) == 0
    assert all(choice.played.done + choice.played.lost == len(draw(choice.seed).items) for choice in choices)
    assert sum(choice.good for choice in choices) >= 12


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_in_three_hundred_worlds_nine_of_ten_choices_are_good():
    choices = judged(range(10_000, 10_300))
    speed = [min(1.0, choice.best_s / choice.played.seconds) for choice in choices]
    print(f"{sum(choice.good for choice in choices)} of {len(choices)} good, {statistics.mean(speed):.1%} of the best speed")
    worst = sorted((c for c in choices if not c.good), key=lambda c: -c.played.seconds / c.best_s)[:10]
    for choice in worst:
        print(choice.seed, f"{choice.played.seconds / choice.best_s:.2f}", choice.played.chosen, choice.best)
    assert sum(choice.played.broken_promises for choice in choices) == 0
    assert sum(choice.good for choice in choices) >= 270


def test_a_card_holds_what_fits_beside_the_reserve():
    assert true_fit(FIVE, 0) == (24 - 1) // 4
