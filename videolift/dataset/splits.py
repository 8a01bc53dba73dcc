"""Splits: which videos are for training, validation and testing, decided per subject or source so that nothing leaks.

A video's split follows from a hash of its key alone: adding videos never moves another one, and no list has to be kept. All
videos of one subject, and all parts cut from one source, share a split.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class SplitRule:
    """How splits are drawn.

    Attributes:
        seed: another one draws other splits.
        shares: names and expected shares, which sum to 1; real shares scatter around them, the more so the fewer the keys.
    """

    seed: int = 0
    shares: tuple[tuple[str, float], ...] = (("train", 0.8), ("val", 0.1), ("test", 0.1))


DEFAULT = SplitRule()


def assign_split(
    video: str,
    *,
    subject: str | None = None,
    source: str | None = None,
    given: str | None = None,
    rule: SplitRule = DEFAULT,
) -> str:
    """The split of one video.

    Args:
        video: its id, the key where nothing better is known.
        subject: person filmed; the best key, no subject is in two splits.
        source: names the source (its hash), so that parts of one recording stay together.
        given: the user's own choice, taken as it is.
        rule: seed and shares.
    """
    if given:
        return given
    key = f"subject:{subject}" if subject else f"source:{source}" if source else f"video:{video}"
    digest = hashlib.sha256(f"{rule.seed}\n{key}".encode()).digest()
    # 64 bits of the hash as a number from 0 to 1; shares are cut off it one after the other.
    position, reached = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for name, share in rule.shares:
        reached += share
        if position < reached:
            return name
    return next(name for name, share in reversed(rule.shares) if share)  # what rounding leaves at the end
