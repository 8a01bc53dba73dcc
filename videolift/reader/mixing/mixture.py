"""Several datasets as one: drawn by weights that may change during training, each normalized by its own statistics.

`Mixture` gives samples by `Draw`; `MixtureSampler` says which draws this process makes. The order is that of
`videolift.reader.mixing.draw_order`: the same for any number of workers, disjoint over ranks, resumed from a few numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from videolift.errors import ConfigError
from videolift.reader.draws import Draw, Source
from videolift.reader.frames import Sample
from videolift.reader.mixing.draw_order import DrawOrder, DrawStage
from videolift.reader.normalization import Normalization

_AHEAD = 1024
"""Draws of one rank that are looked up at a time."""
MixtureMode = Literal["weighted", "balanced", "concat"]


@dataclass(frozen=True)
class Ingredient:
    """One dataset of a mixture. ``weight`` is relative to the others'; its samples are normalized by ``normalization``."""

    name: str
    source: Source
    weight: float = 1.0
    normalization: Normalization | None = None


class Mixture:
    """Samples of several sources. A `Source` itself: index i runs through the ingredients one after the other.

    Every sample has the fields of all ingredients: what its own source lacks is 0 (or ``""``), and ``{field}_present`` says so for
    each field that not all of them have. ``dataset`` names the ingredient.

    Args:
        ingredients: in the order of the indices; names must differ.
        mode: ``weighted`` by their weights; ``balanced``, all alike; ``concat``, every sample once per round.
        seed: of the order.

    Raises:
        ConfigError: none or empty ones, equal names, weights that make no sense.
    """

    def __init__(self, ingredients: Sequence[Ingredient], *, mode: MixtureMode = "weighted", seed: int = 0) -> None:
        self.ingredients, self.mode = tuple(ingredients), mode
        names = [ingredient.name for ingredient in ingredients]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"a mixture needs ingredients of different names, got {names}")
        if mode not in ("weighted", "balanced", "concat"):
            raise ConfigError(f"mode is {mode!r}, it must be weighted, balanced or concat")
        empty = [ingredient.name for ingredient in ingredients if not len(ingredient.source)]
        if empty:
            raise ConfigError(f"{', '.join(empty)} has no samples: leave it out, or select more of it")
        sizes = tuple(len(ingredient.source) for ingredient in ingredients)
        weights: dict[str, float] = {i.name: i.weight if mode == "weighted" else 1.0 for i in ingredients}
        stage = DrawStage(0, None if mode == "concat" else self._checked(weights))
        self.order = DrawOrder(sizes, (stage,), seed)
        self._offsets = np.concatenate([[0], np.cumsum(sizes)])
        self._missing: dict[str, Sample] | None = None

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """One sample, normalized.

        Raises:
            IndexError, CorruptFile: see `Source`.
        """
        index = range(len(self))[index]
        number = int(np.searchsorted(self._offsets, index, side="right")) - 1
        ingredient = self.ingredients[number]
        sample = self._read(ingredient, index - int(self._offsets[number]), epoch)
        # Not before the first sample: looking opens a file of every dataset.
        if self._missing is None:
            # For each ingredient, values for the fields that only others have, and which of such fields it has.
            first = {one.name: self._read(one, 0, 0) for one in self.ingredients}
            everywhere = set.intersection(*(set(fields) for fields in first.values()))
            partial = {key: value for fields in reversed(first.values()) for key, value in fields.items() if key not in everywhere}
            missing: dict[str, Sample] = {}
            for name, fields in first.items():
                blanks = {
                    key: np.zeros_like(value) if isinstance(value, np.ndarray) else type(value)()
                    for key, value in partial.items()
                    if key not in fields
                }
                missing[name] = blanks | {f"{key}_present": np.array(key in fields) for key in partial}
            self._missing = missing
        return {**self._missing[ingredient.name], **sample, "dataset": ingredient.name}

    def draws(self, start: int, stop: int, step: int = 1) -> list[Draw]:
        """The draws ``start``, ``start + step`` ... before ``stop``."""
        drawn = self.order.draws(start, stop, step)
        indices = self._offsets[drawn.source] + drawn.index
        return [Draw(index, epoch) for index, epoch in zip(indices.tolist(), drawn.epoch.tolist(), strict=True)]

    def reweight(self, weights: Mapping[str, float], *, at: int) -> None:
        """Other weights from draw ``at`` (over all ranks) on; every rank must say the same.

        Raises:
            ConfigError: a name or weight that makes no sense, or ``at`` before the last change.
        """
        last = self.order.stages[-1]
        if last.weights is None:
            raise ConfigError("a mixture that draws every sample once has no weights to change: use mode weighted")
        if at < last.start:
            raise ConfigError(f"weights already change at draw {last.start}, which is after {at}")
        kept = self.order.stages[:-1] if at == last.start else self.order.stages
        stages = (*kept, DrawStage(at, self._checked(weights)))
        self.order = DrawOrder(self.order.sizes, stages, self.order.seed)

    def counts(self, position: int) -> dict[str, int]:
        """How many of the first ``position`` draws are of each ingredient; exact, without drawing."""
        names = [ingredient.name for ingredient in self.ingredients]
        return dict(zip(names, self.order.counts(position), strict=True))

    def describe(self, draws: int | None = None, *, since: int = 0) -> str:
        """A table: size, weight, and over draws ``since`` to ``draws`` (by default as many as there are samples) what is drawn."""
        draws = since + len(self) if draws is None else draws
        before, after = self.counts(since), self.counts(draws)
        weights = self.order.stages[-1].weights or self.order.sizes
        lines = [f"{'dataset':<24} {'samples':>10} {'weight':>8} {'draws':>10} {'epochs':>8}"]
        for ingredient, size, weight in zip(self.ingredients, self.order.sizes, weights, strict=True):
            drawn = after[ingredient.name] - before[ingredient.name]
            share = weight / sum(weights)
            lines.append(f"{ingredient.name:<24} {size:>10} {share:>8.4f} {drawn:>10} {drawn / size:>8.2f}")
        return "\n".join(lines)

    def state_dict(self, position: int) -> dict[str, Any]:
        """What `load_state_dict` needs to go on after ``position`` draws."""
        stages = [[stage.start, stage.weights] for stage in self.order.stages]
        names = [ingredient.name for ingredient in self.ingredients]
        return {"position": position, "seed": self.order.seed, "stages": stages, "names": names, "sizes": list(self.order.sizes)}

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Takes over order and weights; returns the position.

        Raises:
            ConfigError: the state is of other datasets.
        """
        names = [ingredient.name for ingredient in self.ingredients]
        if state["names"] != names or state["sizes"] != list(self.order.sizes):
            was, now = dict(zip(state["names"], state["sizes"], strict=True)), dict(zip(names, self.order.sizes, strict=True))
            raise ConfigError(f"the state is of samples {was}, the mixture has {now}: resume with the same datasets and selection")
        stages = tuple(DrawStage(start, None if weights is None else tuple(weights)) for start, weights in state["stages"])
        self.order = DrawOrder(self.order.sizes, stages, state["seed"])
        return int(state["position"])

    def _checked(self, weights: Mapping[str, float]) -> tuple[float, ...]:
        names = [ingredient.name for ingredient in self.ingredients]
        if set(weights) != set(names):
            raise ConfigError(f"weights are given for {sorted(weights)}, the mixture has {sorted(names)}")
        values = tuple(float(weights[name]) for name in names)
        if not all(np.isfinite(value) and value >= 0 for value in values) or sum(values) <= 0:
            raise ConfigError(f"weights are {dict(weights)}: none may be negative, and one must be above 0")
        return values

    def _read(self, ingredient: Ingredient, index: int, epoch: int) -> Sample:
        sample = ingredient.source.open(index, epoch=epoch)
        return sample if ingredient.normalization is None else ingredient.normalization.apply(sample)

    def __getstate__(self) -> dict[str, Any]:
        # Not sent to workers: it holds blanks as large as samples, and each worker soon has its own.
        return {**self.__dict__, "_missing": None}


class MixtureSampler:
    """The draws of one rank, endless or ``length`` of them: rank r of R makes draws r, r + R, r + 2R ... of the mixture.

    Args:
        mixture: what is drawn from.
        rank, ranks: this process and how many there are.
        length: draws per iteration of this rank; None for no end.
    """

    def __init__(self, mixture: Mixture, *, rank: int = 0, ranks: int = 1, length: int | None = None) -> None:
        if not 0 <= rank < ranks:
            raise ConfigError(f"rank is {rank} of {ranks}, it must be 0 to {ranks - 1}")
        self.mixture, self.rank, self.ranks, self.length = mixture, rank, ranks, length
        self.start = 0
        """Draws, over all ranks, before the next iteration."""
        self._resumed = self._given = 0

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("a sampler without end has no length: give it one")
        return self.length

    def __iter__(self) -> Iterator[Draw]:
        """Goes on where the last whole iteration ended."""
        end = None if self.length is None else self.start + self.length * self.ranks
        at = self.start + self.rank
        while end is None or at < end:
            order = self.mixture.order
            for draw in self.mixture.draws(at, at + _AHEAD * self.ranks, self.ranks):
                if order is not self.mixture.order or (end is not None and at >= end):
                    break  # the weights were changed: what was looked up ahead no longer holds
                self._given = max(self._given, at + 1)
                at += self.ranks
                yield draw
        self.start = end

    def reweight(self, weights: Mapping[str, float], *, at: int) -> None:
        """See `Mixture.reweight`; not for draws that were already given out to workers.

        Raises:
            ConfigError: also when ``at`` is too early.
        """
        if at < self._given:
            raise ConfigError(
                f"draws up to {self._given} are already with the workers: change the weights at {self._given} or later"
            )
        self.mixture.reweight(weights, at=at)

    def state_dict(self, consumed: int) -> dict[str, Any]:
        """State after this rank trained on ``consumed`` samples since it began or was resumed, whatever workers fetched ahead."""
        return self.mixture.state_dict(self._resumed + consumed * self.ranks)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there, with any number of ranks and workers.

        Raises:
            ConfigError: the state is of other datasets.
        """
        self.start = self._resumed = self._given = self.mixture.load_state_dict(state)
