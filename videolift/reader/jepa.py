"""Patch masks and views for joint-embedding prediction: a function of (seed, epoch, index), so the same for any number of workers.

Patches of an image are numbered row by row, those of a clip or a volume slice by slice (tubelets flattened).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from videolift.dataset.windows import Bools
from videolift.errors import ConfigError
from videolift.reader.draws import Source
from videolift.reader.frames import Sample

MaskKind = Literal["multi_block", "random"]
# Only a bound: blocks that overlap cover little, and the loop has to end.
_ATTEMPTS = 100


@dataclass(frozen=True)
class PatchGrid:
    """How an image (H, W), or a clip or volume (T or D, H, W), is cut into patches.

    Raises:
        ConfigError: sizes that are not multiples of the patch's.
    """

    size: tuple[int, ...]
    patch: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.size) != len(self.patch) or len(self.size) not in (2, 3):
            raise ConfigError(f"size {self.size} and patch {self.patch} must both be (H, W) or both (T, H, W)")
        if any(p < 1 or s < 1 or s % p for s, p in zip(self.size, self.patch, strict=True)):
            raise ConfigError(
                f"size {self.size} is not a whole number of patches of {self.patch}: crop, resize or read other frames"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Patches along each axis."""
        return tuple(s // p for s, p in zip(self.size, self.patch, strict=True))

    @property
    def count(self) -> int:
        """Patches in all."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class MaskRule:
    """Which patches are predicted and which are seen.

    Attributes:
        kind: ``multi_block``: rectangles, through all frames of a clip; ``random``: single patches.
        target: share of the patches that is predicted; exact, rounded to whole patches.
        context: share that is seen, exact too; None for all the others.
        blocks: rectangles that make up the target.
        aspect: least and greatest ratio of a rectangle's height to its width.
    """

    kind: MaskKind = "multi_block"
    target: float = 0.5
    context: float | None = None
    blocks: int = 4
    aspect: tuple[float, float] = (0.75, 1.5)

    def __post_init__(self) -> None:
        if self.kind not in ("multi_block", "random"):
            raise ConfigError(f"kind is {self.kind!r}, it must be multi_block or random")
        if not 0 < self.target < 1 or not 0 < (self.context or 1 - self.target) <= 1 - self.target + 1e-9:
            raise ConfigError(f"target is {self.target} and context {self.context}: both above 0, together at most 1")
        if self.blocks < 1 or not 0 < self.aspect[0] <= self.aspect[1]:
            raise ConfigError(f"blocks is {self.blocks} and aspect {self.aspect}: at least one block, and a ratio above 0")


def draw_masks(grid: PatchGrid, rule: MaskRule, *, seed: int, epoch: int, index: int) -> tuple[Bools, Bools]:
    """Context and target, bool (P) each, without a patch in common.

    Raises:
        ConfigError: so few patches that context or target would be empty.
    """
    targets = round(rule.target * grid.count)
    contexts = grid.count - targets if rule.context is None else round(rule.context * grid.count)
    if not targets or contexts < 1 or targets + contexts > grid.count:
        raise ConfigError(
            f"{grid.count} patches give {targets} targets and {contexts} of context: use smaller patches or other shares"
        )
    # The last number ("je" here, "vi" for views) keeps masks, views and points from sharing one stream of random numbers.
    rng = np.random.default_rng([seed, epoch, index, 0x6A65])
    mask = np.zeros(grid.shape, bool)
    target = mask.ravel()  # the same patches, numbered
    if rule.kind == "random":
        target[rng.choice(grid.count, targets, replace=False)] = True
    else:
        rows, columns = grid.shape[-2:]
        area = rule.target * rows * columns / rule.blocks
        # Rectangles until enough patches are covered.
        for _ in range(_ATTEMPTS * rule.blocks):
            # Evenly in the logarithm: a block is as likely to be tall as to be wide.
            block = math.exp(rng.uniform(*np.log(rule.aspect)))
            height = min(rows, max(1, round(math.sqrt(area * block))))
            width = min(columns, max(1, round(math.sqrt(area / block))))
            top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
            before = target.copy()
            mask[..., top : top + height, left : left + width] = True
            surplus = int(target.sum()) - targets
            if surplus >= 0:
                # Exact shares let batches be stacked; only the last block is cut, so that the others stay rectangles.
                target[rng.choice(np.flatnonzero(target & ~before), surplus, replace=False)] = False
                break
    context = np.zeros(grid.count, bool)
    context[rng.choice(np.flatnonzero(~target), contexts, replace=False)] = True
    return context, target


@dataclass(frozen=True)
class JepaBatch:
    """What a predictor takes, of numpy or torch arrays alike; checked before it reaches an accelerator.

    Attributes:
        context_view, target_view: [B, C, H, W], or [B, C, T or D, H, W].
        context, target: bool [B, P].
        patch: of both views.

    Raises:
        ConfigError: shapes or types that do not belong together; the text names them.
    """

    context_view: Any
    target_view: Any
    context: Any
    target: Any
    patch: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.target_view.shape)
        if tuple(self.context_view.shape) != shape or len(shape) not in (4, 5):
            seen = f"context_view {tuple(self.context_view.shape)}, target_view {shape}"
            raise ConfigError(f"views must both be [B, C, H, W] or both [B, C, T, H, W], got {seen}")
        wanted = shape[0], PatchGrid(shape[2:], self.patch).count
        for name in ("context", "target"):
            mask = getattr(self, name)
            if tuple(mask.shape) != wanted or "bool" not in str(mask.dtype):
                found = f"{mask.dtype} {tuple(mask.shape)}"
                raise ConfigError(f"{name} must be bool {wanted} for views {shape} and patches {self.patch}, got {found}")
        if bool((self.context & self.target).any()):
            raise ConfigError("a patch is both context and target")
        if not bool((self.context.any(-1) & self.target.any(-1)).all()):
            raise ConfigError("a sample has no context or no target")

    @classmethod
    def of(cls, batch: dict[str, Any], patch: tuple[int, ...]) -> JepaBatch:
        """From a collated batch of a `JepaSource`.

        Raises:
            ConfigError: see the class; or every sample of the batch was skipped.
        """
        if "context_view" not in batch:
            what = (
                f"all {len(batch['skipped'])} of its samples were skipped" if batch.get("skipped") else f"it holds {sorted(batch)}"
            )
            raise ConfigError(f"the batch has no views: {what}; pass it over, or draw larger batches")
        return cls(batch["context_view"], batch["target_view"], batch["context_mask"], batch["target_mask"], patch)


class JepaSource:
    """Another source's images with masks and two views: the target as it is, the context with other brightness and contrast.

    Adds ``context_view``, ``target_view`` f32 (C, H, W) or (C, T, H, W) in 0..1, and ``context_mask``, ``target_mask`` bool (P).

    Args:
        source: its samples hold ``key``: u8 (3, H, W) or (F, 3, H, W), a clip where F > 1; or f32 (C, H, W), (C, D, H, W) as it is.
        patch: (H, W) or (T, H, W).
        rule: see `MaskRule`.
        key: of the images.
        seed: of masks and views.
        jitter: greatest relative change of contrast, and change of brightness.

    Raises:
        ConfigError: images that cannot be cut into such patches; looked at once, in the first sample.
    """

    def __init__(
        self,
        source: Source,
        patch: tuple[int, ...],
        rule: MaskRule | None = None,
        *,
        key: str = "rgb",
        seed: int = 0,
        jitter: float = 0.2,
    ) -> None:
        self.source, self.patch, self.rule = source, patch, rule or MaskRule()
        self.key, self.seed, self.jitter = key, seed, jitter
        # Once, here: shapes that do not fit are an error now and not later in a worker.
        sample = self.open(0)
        JepaBatch.of({name: value[None] for name, value in sample.items() if isinstance(value, np.ndarray)}, patch)

    def __len__(self) -> int:
        return len(self.source)

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """A sample of the source with masks and views.

        Raises:
            IndexError, CorruptFile: see `Source`.
        """
        sample = self.source.open(index, epoch=epoch)
        if self.key not in sample:
            raise ConfigError(f"a sample has no {self.key!r}; it holds {', '.join(sorted(sample))}: name the images in key=...")
        images = sample[self.key]
        if images.dtype != np.uint8:
            view = images.astype(np.float32)
        else:
            view = (images / np.float32(255)).astype(np.float32)
            if view.ndim != 3:  # frames first, one image or a clip; torch's convolutions take channels first
                view = view[0] if len(view) == 1 else np.ascontiguousarray(view.swapaxes(0, 1))
        grid = PatchGrid(view.shape[1:], self.patch)
        context, target = draw_masks(grid, self.rule, seed=self.seed, epoch=epoch, index=index)
        rng = np.random.default_rng([self.seed, epoch, index, 0x7669])
        gain, shift = 1 + rng.uniform(-self.jitter, self.jitter), rng.uniform(-self.jitter, self.jitter)
        # Contrast changes about mid-grey, so that it does not change the brightness as well.
        seen = np.clip((view - 0.5) * gain + 0.5 + shift, 0, 1).astype(np.float32)
        return sample | {"context_view": seen, "target_view": view, "context_mask": context, "target_mask": target}
