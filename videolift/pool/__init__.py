"""A spawn-context worker pool that loses nothing: every item ends done or quarantined with a reason, or is still pending.

Useful without videos and without Snakemake: give it a picklable factory of a `Worker`, items, devices and a `Ledger`.
"""

from videolift.pool.types import Device, Item, Ledger, Outcome, PoolReport, Worker

__all__ = ["Device", "Item", "Ledger", "Outcome", "PoolReport", "Worker"]
