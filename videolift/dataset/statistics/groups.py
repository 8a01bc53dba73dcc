"""Groups: videos whose lengths are of equal worth, named from the best to the worst.

A name is tier-scale, with ``-assumed_K`` where the focal length is a guess: then the distances of hands depend on the guess, and
their statistics are of no use to videos whose camera is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from videolift.errors import ConfigError

TIER_ORDER = ("A", "B", "C", "D", "none")
SCALE_ORDER = ("metric", "hand", "assumed", "arbitrary", "none")
_ASSUMED_K = "assumed_K"


class GroupParts(NamedTuple):
    """A group's parts."""

    tier: str
    scale: str
    assumed_K: bool

    @classmethod
    def parse(cls, name: str) -> GroupParts:
        """Inverse of `group_name`."""
        tier, scale, *rest = name.split("-")
        return cls(tier, scale, rest == [_ASSUMED_K])


def group_name(tier: str, scale: str, intrinsics: str | None) -> str:
    """Name of the group of a video of that tier and scale, and whose K is known so; None where nothing is said of K."""
    return f"{tier}-{scale}" + (f"-{_ASSUMED_K}" if intrinsics == "assumed" else "")


def group_rank(name: str) -> tuple[int, int, bool]:
    """Sorts groups from the best to the worst."""
    group = GroupParts.parse(name)
    # Where depth comes from matters most, then the unit; a guessed focal length spoils only hands.
    return TIER_ORDER.index(group.tier), SCALE_ORDER.index(group.scale), group.assumed_K


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
