"""Groups: videos whose depth is of equal worth, named tier-scale, from the best to the worst."""

from __future__ import annotations

from collections.abc import Iterable

from videolift.errors import ConfigError

TIER_ORDER = ("A", "B", "C", "D", "none")
SCALE_ORDER = ("metric", "hand", "assumed", "arbitrary", "none")


def group_rank(group: str) -> tuple[int, int]:
    """Sorts groups from the best to the worst."""
    tier, _, scale = group.partition("-")
    return TIER_ORDER.index(tier), SCALE_ORDER.index(scale)


def choose_group(groups: Iterable[str], wanted: str | None) -> str | None:
    """The group that the main statistics are of: ``wanted``, or the best one; None without any.

    Raises:
        ConfigError: there is no such group.
    """
    present = sorted(groups, key=group_rank)
    if wanted is None:
        return next(iter(present), None)
    if wanted not in present:
        known = ", ".join(present) or "none"
        raise ConfigError(f"statistics.group is {wanted!r}, the dataset holds {known}: name one of them, or none for the best")
    return wanted
