"""A spawn-context worker pool that loses nothing: every item ends done or quarantined with a reason, or is still pending.

Useful without videos and without Snakemake: give `run_pool` a picklable factory of a `Worker`, items, devices and a `Ledger`.
"""

from videolift.pool.devices import cpu_device, devices_for, find_devices
from videolift.pool.events import EventSink, PoolSummary, pools_at_work, read_events, summarize_events, summary_lines
from videolift.pool.interface import Device, Item, Ledger, Outcome, PoolReport, Worker
from videolift.pool.launch import run_pool
from videolift.pool.workers.handle import Timing

__all__ = [
    "Device",
    "EventSink",
    "Item",
    "Ledger",
    "Outcome",
    "PoolReport",
    "PoolSummary",
    "Timing",
    "Worker",
    "cpu_device",
    "devices_for",
    "find_devices",
    "pools_at_work",
    "read_events",
    "run_pool",
    "summarize_events",
    "summary_lines",
]
