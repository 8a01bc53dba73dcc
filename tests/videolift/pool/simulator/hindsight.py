"""What a run chose against the best fixed numbers in hindsight, as `worlds` defines them.

Plays a world under the sizing rules and under every sensible fixed number. Nothing is drawn or decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.videolift.pool.simulator.play import Played, simulate, true_fit
from tests.videolift.pool.simulator.worlds import World


@dataclass(frozen=True)
class Choice:
    """A run's choice against the best fixed numbers in hindsight (`worlds` says what they are)."""

    seed: int
    played: Played
    best_s: float
    best: tuple[int, ...]
    good: bool


def judge_choice(world: World, tolerance: float = 0.02) -> Choice:
    """Plays the world under the rules and under every sensible fixed number."""
    played = simulate(world)
    fits = [true_fit(world, card) for card in range(len(world.card_bytes))]
    times: dict[int, float] = {}

    def time_of(number: int) -> float:
        if number not in times:
            times[number] = simulate(world, number).seconds
        return times[number]

    _search(time_of, min(max(fits), len(world.items)), near=played.chosen)
    best_s = min(times.values())
    best = tuple(sorted(n for n, seconds in times.items() if seconds <= (1 + tolerance) * best_s))
    good = any(all(abs(min(n, fit) - chosen) <= 1 for fit, chosen in zip(fits, played.chosen, strict=True)) for n in best)
    return Choice(world.seed, played, best_s, best, good)


def _search(time_of: Callable[[int], float], most: int, near: Iterable[int]) -> None:
    """Tries every number up to 12, then a grid, then around the best and around what was chosen."""
    grid = {*range(1, min(most, 12) + 1), most}
    number = 12.0
    while number < most:
        grid.add(round(number))
        number *= 1.2
    around = [min(grid, key=time_of), *near]
    for centre in around:
        grid |= {n for n in range(centre - 2, centre + 3) if 1 <= n <= most}
    for candidate in grid:
        time_of(candidate)
