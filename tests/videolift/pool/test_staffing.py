"""Which device gets the next item or worker."""

import dataclasses

import pytest

from tests.videolift.pool.simulator.virtual import VirtualGauge, VirtualMachine
from tests.videolift.pool.simulator.worlds import GIB, draw
from videolift.pool.decisions.figures import WorkerFigures
from videolift.pool.device_workers import DeviceWorkers
from videolift.pool.staffing import soonest_done


@pytest.fixture
def devices():
    """Makes devices, each with the seconds per unit of size that one worker needs there, and the share it keeps them busy."""

    def make(*figures):
        world = dataclasses.replace(draw(1), on_cpu=False, card_bytes=(8 * GIB,) * len(figures))
        machine = VirtualMachine(world)
        made = []
        for device, (seconds, share) in zip(machine.devices(), figures, strict=True):
            known = WorkerFigures()
            if seconds:
                known.worked(1.0, seconds, 1)
            if share:
                known.busied(1, share)
            made.append(DeviceWorkers(device, 99, known, VirtualGauge(machine), machine.now))
        return made

    return make


def placed(devices, items):
    """How many of so many items each device gets, one after the other."""
    counts = {group.device.id: 0 for group in devices}
    for _ in range(items):
        counts[soonest_done(devices, counts).device.id] += 1
    return list(counts.values())


def test_equal_devices_share_equally(devices):
    assert placed(devices((10.0, 0.9), (10.0, 0.9), (10.0, 0.9)), 7) == [3, 2, 2]
    assert placed(devices((10.0, 0.1), (10.0, 0.1)), 4) == [2, 2]


def test_nothing_known_is_shared_by_number(devices):
    assert placed(devices((None, None), (None, None)), 4) == [2, 2]
    assert placed(devices((10.0, 0.5), (None, None)), 4) == [2, 2]


def test_a_card_that_is_four_times_as_fast_gets_four_times_as_much(devices):
    assert placed(devices((40.0, 1.0), (10.0, 1.0)), 5) == [1, 4]


def test_a_slow_card_is_left_alone_while_the_fast_one_is_not_full(devices):
    assert placed(devices((40.0, 0.2), (10.0, 0.2)), 5) == [0, 5]
