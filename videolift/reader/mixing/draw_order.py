"""Which dataset and which sample is drawn n-th: a pure function of seed, sizes and weights, so that any position can be resumed.

Datasets alternate by a sequence of low discrepancy (multiples of the golden ratio, compared with the weights), shuffled within
blocks: the number drawn from a dataset never strays far from its weight, and is known for any position without replaying. Within a
dataset every sample comes once per epoch, in an order that is a keyed permutation (a Feistel network) and takes no memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1024
"""Draws that are shuffled together."""
# The fractional parts of its multiples fill (0, 1) as evenly as any number's: no run of draws favours one dataset.
_GOLDEN = (math.sqrt(5) - 1) / 2
_WRAP = 1 << 64
_ROUNDS = 6
"""Of the Feistel network."""
Integers = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class DrawStage:
    """Weights that hold from the draw ``start`` on; ``weights`` None draws every sample of every dataset once per round."""

    start: int
    weights: tuple[float, ...] | None


@dataclass(frozen=True)
class Drawn:
    """Consecutive draws: dataset, sample and the dataset's epoch of each, i64 (n)."""

    source: Integers
    index: Integers
    epoch: Integers


@dataclass(frozen=True)
class DrawOrder:
    """The endless order over datasets of ``sizes``."""

    sizes: tuple[int, ...]
    stages: tuple[DrawStage, ...]
    seed: int = 0

    def counts(self, position: int) -> tuple[int, ...]:
        """How many of the first ``position`` draws are of each dataset; at a block's end exact, inside it counted."""
        totals = [0] * len(self.sizes)
        for number, stage in enumerate(self.stages):
            end = self.stages[number + 1].start if number + 1 < len(self.stages) else position
            length = min(position, end) - stage.start
            if length <= 0:
                break
            # Whole blocks in closed form; the block that ``position`` lies in is drawn and counted.
            first, choice = self._block(number, length)
            thresholds, modulus = self._thresholds(stage.weights), self._modulus(number)
            step, phase = _step(modulus), self.seed % modulus
            whole = floor_sum(first, modulus, step, phase)
            # How many of (step m + phase) mod modulus, 0 <= m < first, are below each threshold.
            below = [0, *(whole - floor_sum(first, modulus, step, phase - threshold) for threshold in thresholds)]
            for source in range(len(self.sizes)):
                totals[source] += below[source + 1] - below[source] + int((choice[: length - first] == source).sum())
        return tuple(totals)

    def draws(self, start: int, stop: int, step: int = 1) -> Drawn:
        """The draws ``start``, ``start + step`` ... before ``stop``."""
        parts, at = [], start
        while at < stop:
            number = max(n for n, stage in enumerate(self.stages) if stage.start <= at)
            first, choice = self._block(number, at - self.stages[number].start)
            block_start = self.stages[number].start + first
            ends = [stop, block_start + len(choice)]
            if number + 1 < len(self.stages):
                ends.append(self.stages[number + 1].start)
            end = min(ends)
            inside = np.arange(at + (start - at) % step, end, step) - block_start
            source, before = choice[inside], self.counts(block_start)
            index, epoch = np.empty_like(source), np.empty_like(source)
            for dataset, size in enumerate(self.sizes):
                mine = source == dataset
                nth = before[dataset] + np.cumsum(choice == dataset)[inside[mine]] - 1
                epoch[mine] = nth // size
                index[mine] = permuted(nth % size, size, (self.seed, dataset), nth // size)
            parts.append(Drawn(source, index, epoch))
            at = end
        return Drawn(
            *(np.concatenate([getattr(p, name) for p in parts] or [np.empty(0, np.int64)]) for name in ("source", "index", "epoch"))
        )

    def _block(self, number: int, offset: int) -> tuple[int, Integers]:
        """First draw of the block that holds draw ``offset`` of a stage, counted in the stage, and the block's datasets."""
        # `concat` starts a new round after every sample was drawn; a block must not reach across.
        period = sum(self.sizes) if self.stages[number].weights is None else 0
        round_start = offset // period * period if period else 0
        first = round_start + (offset - round_start) // _BLOCK * _BLOCK
        length = min(_BLOCK, round_start + period - first) if period else _BLOCK
        thresholds, modulus = self._thresholds(self.stages[number].weights), self._modulus(number)
        step, phase = _step(modulus), self.seed % modulus
        if modulus == _WRAP:  # u64 arithmetic wraps by itself
            at = np.arange(length, dtype=np.uint64) * np.uint64(step) + np.uint64((first * step + phase) % _WRAP)
        else:
            base = (first * step + phase) % modulus
            at = (np.arange(length, dtype=np.uint64) * np.uint64(step) + np.uint64(base)) % np.uint64(modulus)
        inner = np.array([min(t, _WRAP - 1) for t in thresholds[:-1]], np.uint64)
        choice = np.searchsorted(inner, at, side="right").astype(np.int64)
        # Unshuffled, the datasets would alternate in a pattern that returns in batch after batch.
        shuffled = np.random.default_rng([self.seed, number, first]).permutation(length)
        return first, choice[shuffled]

    def _modulus(self, number: int) -> int:
        return sum(self.sizes) if self.stages[number].weights is None else _WRAP

    def _thresholds(self, weights: tuple[float, ...] | None) -> tuple[int, ...]:
        if weights is None:
            # Python's integers: `floor_sum` multiplies numbers of 64 bits.
            return tuple(np.cumsum(self.sizes, dtype=object))
        total = math.fsum(weights)
        inner = [round(math.fsum(weights[: n + 1]) / total * _WRAP) for n in range(len(weights) - 1)]
        # Rounding must not leave a value above the last dataset that has a weight.
        last = max(n for n, weight in enumerate(weights) if weight > 0)
        return tuple(min(t, _WRAP) if n < last else _WRAP for n, t in enumerate([*inner, _WRAP]))


@lru_cache(maxsize=64)
def _step(modulus: int) -> int:
    """The multiple of 1 / modulus nearest the golden ratio that visits every residue."""
    step = round(_GOLDEN * modulus)
    while math.gcd(step, modulus) != 1:
        step += 1
    return step


def floor_sum(n: int, modulus: int, step: int, phase: int) -> int:
    """Sum of floor((step m + phase) / modulus) over 0 <= m < n, in O(log modulus) steps (Euclid's)."""
    total = 0
    if phase < 0:
        shift = -(phase // modulus)
        phase, total = phase + shift * modulus, -shift * n
    while True:
        total += (step // modulus) * n * (n - 1) // 2 + (phase // modulus) * n
        step, phase = step % modulus, phase % modulus
        reach = step * n + phase
        if reach < modulus:
            return total
        n, phase = divmod(reach, modulus)
        modulus, step = step, modulus


def permuted(numbers: Integers, size: int, key: tuple[int, ...], epoch: Integers) -> Integers:
    """Where ``numbers`` (below ``size``) go in the permutation that ``key`` and each one's ``epoch`` name."""
    # Both halves get as many bits, so the range may be four times too large.
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    salts = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    keys = [_mix(salt + epoch.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) for salt in salts]
    out = numbers.astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):  # a step may leave the range; walking on along the cycle comes back into it
        left, right = out[todo] >> np.uint64(half), out[todo] & mask
        for round_keys in keys:
            left, right = right, left ^ (_mix(right + round_keys[todo]) & mask)
        out[todo] = (left << np.uint64(half)) | right
        todo = todo[out[todo] >= size]
    return out.astype(np.int64)


def _mix(words: Words) -> Words:
    """SplitMix64's finalizer: every bit of the result hangs on every bit of the word."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
