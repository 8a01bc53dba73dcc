"""Prices: from measured figures to hours, card-hours and GB, and to what holds a run up."""

import pytest

from stages.engine.costs.run_cost import PastWork, StageCost, run_cost, stage_cost
from videolift.stage_table import SPECS
from videolift.stage_table import STAGES as ALL

HOUR = 3600.0
STAGES = tuple(stage for stage in ALL if not SPECS[stage].addition)
CPU_STAGES = {stage: StageCost(False, 10.0, 1.0, 0.0, 1e6) for stage in STAGES}


def everything(count: int) -> dict[str, int]:
    return dict.fromkeys(ALL, 0) | dict.fromkeys(STAGES, count)


def test_on_one_processor_a_run_takes_the_sum_of_its_stages():
    found = run_cost(CPU_STAGES, everything(100), batch_size=10, cards=0)
    assert found.hours == pytest.approx(5 * 100 * 10 / HOUR)
    assert found.card_hours == 0


def test_cards_work_while_the_processor_does():
    costs = CPU_STAGES | {"depth": StageCost(True, 40.0, 1.0, 0.0, 1e6)}
    found = run_cost(costs, everything(1000), batch_size=10, cards=1)
    assert found.hours == pytest.approx(1000 * 40 / HOUR, rel=0.02)  # the four on the processor hide behind depth
    assert found.card_hours == pytest.approx(1000 * 40 / HOUR)


def test_twice_the_cards_halve_the_time_only_while_cards_are_the_bottleneck():
    costs = CPU_STAGES | {"tracks": StageCost(True, 100.0, 1.0, 0.0, 1e6)}
    one, two, eight = (run_cost(costs, everything(1000), batch_size=10, cards=n) for n in (1, 2, 8))
    assert two.hours == pytest.approx(one.hours / 2, rel=0.05)
    assert (one.bottleneck[0], one.bottleneck[1]) == ("cards", "tracks")
    assert eight.bottleneck[0] == "CPU"
    assert eight.hours == pytest.approx(1000 * 40 / HOUR, rel=0.05)


def test_starting_a_model_costs_once_per_batch():
    costs = {"ingest": StageCost(False, 1.0, 1.0, 60.0, 0.0)}
    found = run_cost(costs, everything(100) | dict.fromkeys(STAGES[1:], 0), batch_size=10, cards=0)
    assert found.hours == pytest.approx((10 * 60 + 100) / HOUR)


def test_what_was_never_measured_is_named_and_not_guessed():
    found = run_cost({"ingest": CPU_STAGES["ingest"]}, everything(10), batch_size=10, cards=1)
    assert found.unknown == STAGES[1:]
    assert "run a few videos first" in found.lines()[-1]


def test_space_is_artifacts_times_videos():
    found = run_cost(CPU_STAGES, everything(2000), batch_size=64, cards=1)
    assert found.gb == dict.fromkeys(STAGES, 2.0)


def test_workers_are_those_that_were_at_work_at_once():
    """Two cards, three workers at work all the time: one and a half per card."""
    events = [{"kind": "started", "t": 0.0, "devices": ["a", "b"]}]
    for item in "xyz":
        events += [{"kind": "claimed", "t": 5.0, "item": item}, {"kind": "done", "t": 25.0, "item": item}]
    found = stage_cost(PastWork((20.0, 20.0), 0.0, 1e6), events, on_cards=True)
    assert found == StageCost(True, 20.0, 1.5, 5.0, 1e6)
    assert found.job_s(30, cards=2) == pytest.approx(5 + 30 * 20 / 3)
