"""``disk_budget_gb``: whether the output folder has room for one more video, before it is started.

Turns the sizes of what is there into yes or a polite stop. What is being written counts as the largest artifact of its stage.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from videolift.errors import Transient
from videolift.paths import Layout
from videolift.stage_table import STAGES

_LOOK_AGAIN_S = 5.0
_COST_OF_LOOKING = 0.02
"""Share of the time that may go into adding up sizes: a second for a hundred thousand videos."""


class Budget:
    """Asked before each video is claimed."""

    def __init__(self, layout: Layout, limit_gb: float | None) -> None:
        self._layout, self._limit_gb = layout, limit_gb
        self._used_bytes = 0
        self._largest: dict[str, int] = {}
        self._coming = 0
        self._look_again = 0.0

    def admit(self, stage: str, running: int) -> None:
        """Returns if one more video may be started beside ``running`` ones.

        Raises:
            Transient: it might not fit.
        """
        if self._limit_gb is None:
            return
        began = time.monotonic()
        if began >= self._look_again or not self._largest.get(stage):
            self._used_bytes, self._coming = 0, running
            for name in STAGES:
                sizes = list(_sizes(self._layout.artifacts(name)))
                self._used_bytes += sum(sizes)
                self._largest[name] = max(sizes, default=0)
            ended = time.monotonic()
            # The larger the folder, the rarer the look: its cost stays a fixed share of the time.
            self._look_again = ended + max(_LOOK_AGAIN_S, (ended - began) / _COST_OF_LOOKING)
        # What was admitted since the last look is not in the sizes yet.
        self._coming += 1
        expected_bytes = self._used_bytes + self._coming * self._largest.get(stage, 0)
        if expected_bytes > self._limit_gb * 1e9:
            raise Transient(
                f"{self._layout.output} holds {self._used_bytes / 1e9:.2f} GB, and with what is being written may exceed"
                f" disk_budget_gb ({self._limit_gb:g}): no further video is started. Raise it, name fewer stages in keep, or remove"
                " videos; then run the same command again"
            )


def _sizes(folder: Path | str) -> Iterator[int]:
    """Bytes of every file below a folder; what vanishes meanwhile counts nothing."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return
