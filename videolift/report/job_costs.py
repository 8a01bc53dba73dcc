"""What a run's jobs cost besides the work on videos, measured while it goes on: pauses between them, and their own start."""

from __future__ import annotations

from dataclasses import dataclass

_JOB_S = 4.0
"""Seconds that Snakemake takes between two jobs, and a job until it works, before either is measured."""


@dataclass
class JobCosts:
    """When jobs worked: how many at once, and what each costs besides its work.

    Attributes:
        at_work: pools now.
        begun: pools so far, of which ``claimed`` have taken a video, ``to_claim`` seconds after they began, all together.
        first: when the first one began; None before that.
        together, busy: seconds up to ``since`` of all pools together, and in which any was at work.
    """

    at_work: int = 0
    begun: int = 0
    claimed: int = 0
    to_claim: float = 0.0
    first: float | None = None
    since: float = 0.0
    together: float = 0.0
    busy: float = 0.0

    def count(self, change: int, moment: float) -> None:
        """A pool begins (1), ends (-1), or begins again without having ended (0)."""
        self.together, self.busy = self.until(moment)
        self.at_work, self.since = max(0, self.at_work + change), moment
        # A pool that begins again was killed: no second one is at work, but its start is paid again.
        if change >= 0:
            self.begun += 1
            self.first = moment if self.first is None else self.first

    def until(self, now: float) -> tuple[float, float]:
        """`together` and `busy` up to ``now``."""
        span = max(0.0, now - self.since) if self.at_work else 0.0
        return self.together + self.at_work * span, self.busy + span

    def at_once(self, now: float) -> float:
        """Pools that worked at once, on average over the time in which any did."""
        together, busy = self.until(now)
        return max(1.0, together / busy) if busy else 1.0

    def overhead(self, now: float) -> float:
        """Seconds per job in which it does not work on a video: Snakemake's before it, and the start of its workers."""
        # The pause that is going on counts too, or a long one would be noticed only at its end.
        gaps = self.begun - 1 + (self.at_work == 0)
        idle = now - self.first - self.until(now)[1] if self.first is not None and gaps > 0 else 0.0
        between = idle / gaps if gaps > 0 else _JOB_S
        return between + (self.to_claim / self.claimed if self.claimed else _JOB_S)
