"""A spawn-context worker pool that loses nothing: every item ends done or quarantined with a reason, or is still pending.

Useful without videos and without Snakemake: give `run_pool` a picklable factory of a `Worker`, items, devices and a `Ledger`.
"""

from videolift.pool.devices import cpu_device, find_devices
from videolift.pool.events import EventSink, Summary, at_work, lines, read_events, summary
from videolift.pool.handle import Timing
from videolift.pool.run import run_pool
from videolift.pool.types import Device, Item, Ledger, Outcome, PoolReport, Worker

__all__ = [
    "Device",
    "EventSink",
    "Item",
    "Ledger",
    "Outcome",
    "PoolReport",
    "Summary",
    "Timing",
    "Worker",
    "at_work",
    "cpu_device",
    "find_devices",
    "lines",
    "read_events",
    "run_pool",
    "summary",
]
