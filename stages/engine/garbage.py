"""Garbage collection in processes that look at every video once and then end."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Collects every 200,000 new objects instead of every 700.

    What these processes make stays to their end: looking through all of it for garbage, again and again, took a third of the plan's
    time and a seventh of the statistics'. It costs them 4 MB over 100,000 videos.
    """
    gc.set_threshold(200_000, 50, 100)
