"""Splits: by hash alone."""

from __future__ import annotations

from collections import Counter

import pytest

from videolift.dataset.splits import DEFAULT, SplitRule, assign_split


@pytest.mark.parametrize("rule", [DEFAULT, SplitRule(3, (("train", 0.5), ("val", 0.5), ("test", 0.0)))])
def test_shares_are_met_on_many_videos(rule):
    counts = Counter(assign_split(f"video{i}", rule=rule) for i in range(4000))
    for name, share in rule.shares:
        assert abs(counts[name] / 4000 - share) < 0.02
        assert share or name not in counts


def test_a_split_depends_on_its_own_key_alone_and_on_the_seed():
    before = [assign_split(f"video{i}") for i in range(100)]
    assert [assign_split(f"video{i}") for i in range(100)] == before
    assert [assign_split(f"video{i}", rule=SplitRule(seed=1)) for i in range(100)] != before


def test_subject_comes_before_source_and_source_before_the_video():
    assert len({assign_split(f"v{i}", subject="p", source=f"s{i}") for i in range(50)}) == 1
    assert len({assign_split(f"v{i}", source="s") for i in range(50)}) == 1
    assert len({assign_split(f"v{i}") for i in range(50)}) > 1


def test_the_users_own_split_is_taken_as_it_is():
    assert assign_split("v", subject="p", given="holdout") == "holdout"
