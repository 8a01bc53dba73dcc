"""Samples for torch's DataLoader. This module and `torch_augment` alone import torch, and only when they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from videolift.errors import ConfigError
from videolift.reader.draws import Draw, Source
from videolift.reader.frames import Sample
from videolift.reader.mixing.mixture import Ingredient, Mixture, MixtureSampler
from videolift.reader.normalization import Normalization
from videolift.reader.samples import POINT_AXIS, WindowDataset
from videolift.reader.skips import OnError, Skipped, open_or_skip

Batch = dict[str, Any]


class TorchSamples:
    """Samples of a source for a DataLoader with `collate`; works with any number of workers, forked or spawned.

    Args:
        source: a dataset of the reader, an adapter or a `Mixture`.
        normalization: applied to every sample.
        on_error: ``skip`` leaves samples of corrupt files out of the batch, and lists them under ``skipped``.

    Raises:
        ValueError: windows of one group with the statistics of another.
    """

    def __init__(self, source: Source, normalization: Normalization | None = None, *, on_error: OnError = "raise") -> None:
        if normalization is not None and isinstance(source, WindowDataset) and source.group != normalization.group:
            raise ValueError(
                f"the windows are of group {source.group}, the statistics of {normalization.group}: use Normalization.fit"
            )
        self.source, self.normalization, self.on_error = source, normalization, on_error

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw | int) -> Sample | Skipped:
        """Takes a `Draw`; a plain index is drawn as in epoch 0, always alike."""
        sample = open_or_skip(self.source, draw if isinstance(draw, Draw) else Draw(int(draw)), self.on_error)
        return sample if isinstance(sample, Skipped) or self.normalization is None else self.normalization.apply(sample)


def collate(samples: Sequence[Sample | Skipped]) -> Batch:
    """One batch: arrays as tensors (B, ...), texts as lists; windows of different numbers of points are padded to the most.

    ``skipped`` lists what could not be read; where nothing could, it is the only key.

    Raises:
        ConfigError: samples of different shapes or keys; the text names them.
    """
    read = [sample for sample in samples if not isinstance(sample, Skipped)]
    skipped = [sample for sample in samples if isinstance(sample, Skipped)]
    most = max((len(sample["query"]) for sample in read if "query" in sample), default=0)
    padded: list[Sample] = []
    for sample in read:
        tensors = dict(sample)
        for key, value in sample.items():
            if not isinstance(value, np.ndarray):
                continue
            axis, array = POINT_AXIS.get(key) if "query" in sample else None, value
            if axis is not None and array.shape[axis] < most:
                # With zeros; in `point_valid` they say which points are not real.
                array = np.pad(array, [(0, most - n if a == axis else 0) for a, n in enumerate(array.shape)])
            # Arrays kept by an open file or a cache are shared: torch gets its own, writable.
            shared = not array.flags.writeable or array.base is not None
            # Not `ascontiguousarray`, which makes a vector of a scalar.
            tensors[key] = torch.from_numpy(np.array(array) if shared else np.asarray(array, order="C"))
        padded.append(tensors)
    try:
        batch: Batch = default_collate(padded) if padded else {}
    except (RuntimeError, KeyError, TypeError) as error:
        shapes = {key: sorted({str(np.shape(s[key])) if key in s else "missing" for s in read}) for s in read for key in s}
        named = "; ".join(f"{key} is {' and '.join(found)}" for key, found in shapes.items() if len(found) > 1)
        raise ConfigError(f"samples cannot be one batch: {named or error}. Read images at one size, e.g. size_px=(W, H)") from error
    return {**batch, "skipped": skipped}


def training_loader(
    source: Source,
    *,
    batch_size: int,
    normalization: Normalization | None = None,
    on_error: OnError = "raise",
    seed: int = 0,
    rank: int = 0,
    ranks: int = 1,
    batches: int | None = None,
    **options: Any,
) -> DataLoader[Any]:
    """A DataLoader over ``source``, shuffled and with its own points in every epoch; ``loader.sampler`` is a `MixtureSampler`.

    Args:
        source: a `Mixture`, or any other source, of which every sample is drawn once per round.
        batch_size: samples per batch of this rank.
        normalization, on_error: as `TorchSamples`.
        seed: of the order, where ``source`` is not a mixture with its own.
        rank, ranks: this process and how many train together.
        batches: per iteration; None for those of one round over the source.
        options: for `torch.utils.data.DataLoader`, e.g. ``num_workers``.
    """
    # A single source is a mixture of one, and so gets the same order that can be resumed.
    mixture = source if isinstance(source, Mixture) else Mixture([Ingredient("all", source)], mode="concat", seed=seed)
    # Rounded down: every rank must make the same number of steps, or the others wait for it.
    length = len(source) // ranks if batches is None else batches * batch_size
    sampler = MixtureSampler(mixture, rank=rank, ranks=ranks, length=length)
    data = TorchSamples(source, normalization, on_error=on_error)
    return DataLoader(data, batch_size=batch_size, sampler=sampler, collate_fn=collate, **options)
