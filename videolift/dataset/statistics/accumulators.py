"""Accumulators: everything the normalization statistics need of one video, in integers, so that merging is exact in any order.

u8 and f16 values are counted in full histograms; means, deviations and quantiles follow from them without error. f32 values are
rounded to 2^-20 and summed, with their squares, as integers; their quantiles come from bins of 2^-12 over [-8, 8). `Accumulators`
is what one video, or any set of videos, comes to. Reading videos and writing YAML is not done here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.errors import CorruptFile

if TYPE_CHECKING:
    from typing import Self  # Python 3.11; trainers may have 3.10

ValueKind = Literal["u8", "f16", "f32"]
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOMENT_UNIT = 2.0**-20
"""f32 values are rounded to multiples of it (half to even) before they are summed."""
BIN_WIDTH, BIN_RANGE = 2.0**-12, 8.0
"""Quantiles of f32 values come from bins of this width over +-this range, plus one bin below and one above."""
_F32_BINS = int(2 * BIN_RANGE / BIN_WIDTH) + 2
_BINS: dict[str, int] = {"u8": 256, "f16": 65536, "f32": _F32_BINS}
_F16_UNIT_BITS, _F32_UNIT_BITS, _UNITS_PER_BIN_BITS = 24, 20, 8
_LIMB_BITS = 62
"""Sums are stored as two int64: HDF5 has no longer integers."""
_BLOCK_ROWS = 1 << 16
"""Rows summed at once: so many squares below 2^46 fit an int64."""

CHANNELS: dict[str, tuple[ValueKind, int]] = {
    "rgb": ("u8", 3),
    "depth": ("f16", 1),
    "query_depth": ("f32", 1),
    "displacement": ("f32", 3),
    "pose": ("f32", 9),
    "hand_uvd_displacement": ("f32", 3),
    "hand_rot_displacement": ("f32", 6),
    "hand_frames": ("u8", 1),
}
"""What is accumulated: name -> (kind, channels). ``hand_frames`` counts valid hands: 0 measured, 1 interpolated."""


@dataclass(frozen=True)
class ChannelSummary:
    """Figures of one channel; all None where nothing was counted.

    Attributes:
        samples: values counted.
        mean, std: population moments, correctly rounded from exact rationals of the (for f32: rounded) values.
        minimum, maximum: exact.
        quantiles: at `QUANTILES`, the smallest value with at least that share at or below it; f32: exact to half a bin width
            within +-8, the extremum beyond.
    """

    samples: int
    mean: float | None = None
    std: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: tuple[float, ...] | None = None


@dataclass
class Accumulator:
    """Integers about rows of ``channels`` values each; add with `add`, merge with `merge`."""

    kind: ValueKind
    channels: int
    samples: int = 0
    sums: list[int] = field(default_factory=list)
    squares: list[int] = field(default_factory=list)
    extrema: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))
    _pending: list[NDArray[Any]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.sums = self.sums or [0] * self.channels
        self.squares = self.squares or [0] * self.channels
        if not self.extrema.size:
            self.extrema = np.tile(np.array([np.inf, -np.inf], np.float32), (self.channels, 1))
        if not self.counts.size:
            self.counts = np.zeros((self.channels, _BINS[self.kind]), np.int64)

    def add(self, values: ArrayLike) -> None:
        """Counts rows of finite values (n, channels); small additions are gathered before they are counted."""
        rows = np.asarray(values).reshape(-1, self.channels)
        if not len(rows):
            return
        if self.kind != "f32":
            codes = rows.view(np.uint16) if self.kind == "f16" else rows
            self.samples += len(codes)
            for channel in range(self.channels):
                self.counts[channel] += histogram(codes[:, channel])
            return
        self._pending.append(rows.astype(np.float32))
        if sum(map(len, self._pending)) >= _BLOCK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Counts what `add` gathered; merging and reading do it by themselves."""
        if not self._pending:
            return
        rows = np.concatenate(self._pending)
        self._pending = []
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[start : start + _BLOCK_ROWS]
            self.samples += len(block)
            for channel in range(self.channels):
                values = np.ascontiguousarray(block[:, channel])
                low, high = values.min(), values.max()
                if not (np.isfinite(low) and np.isfinite(high)):
                    raise ValueError(f"statistics take finite values only, got {low} to {high}")
                scaled = np.rint(values * np.float32(1 / MOMENT_UNIT))  # exact: a power of two, and f32 beyond 2^24 are integers
                # Below 2^10 their units stay below 2^30: half the memory to go over, and nearly all values are so small.
                units: NDArray[Any] = scaled.astype(np.int32 if max(-low, high) < 1 << 10 else np.int64)
                self.sums[channel] += int(units.sum(dtype=np.int64))
                whole = units.astype(np.int64, copy=False)
                if int(np.abs(whole).max()) < 1 << 23:  # at most _BLOCK_ROWS (2^16) squares below 2^46 fit an int64
                    self.squares[channel] += int(whole @ whole)
                else:
                    # (high 2^20 + low)^2, multiplied out; the sums come together as Python's integers, which have no end.
                    lower = whole & ((1 << 20) - 1)
                    upper = (whole - lower) >> 20
                    self.squares[channel] += (int(upper @ upper) << 40) + (int(upper @ lower) << 21) + int(lower @ lower)
                self.extrema[channel] = min(self.extrema[channel, 0], low), max(self.extrema[channel, 1], high)
                # 0 lies in the middle of its bin: most things stand still.
                bins = (units + (1 << _UNITS_PER_BIN_BITS - 1)) >> _UNITS_PER_BIN_BITS
                half = _F32_BINS // 2 - 1
                inside = (bins >= -half) & (bins < half)
                if not inside.all():
                    self.counts[channel, 0] += np.count_nonzero(bins < -half)
                    self.counts[channel, -1] += np.count_nonzero(bins >= half)
                    bins = bins[inside]
                self.counts[channel, 1:-1] += histogram((bins + half).astype(np.uint16))

    def merge(self, other: Accumulator) -> None:
        """Adds what ``other`` counted."""
        self.flush()
        other.flush()
        self.samples += other.samples
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self.squares = [a + b for a, b in zip(self.squares, other.squares, strict=True)]
        self.extrema[:, 0] = np.minimum(self.extrema[:, 0], other.extrema[:, 0])
        self.extrema[:, 1] = np.maximum(self.extrema[:, 1], other.extrema[:, 1])
        used = np.flatnonzero(other.counts)  # bins that were never touched take no memory, and stay so
        self.counts.reshape(-1)[used] += other.counts.reshape(-1)[used]

    def exact(self, channel: int) -> tuple[int, Fraction, Fraction]:
        """Number, sum and sum of squares of a channel's values, as exact rationals."""
        self.flush()
        if self.kind == "f32":
            unit = Fraction(1, 1 << _F32_UNIT_BITS)
            return self.samples, self.sums[channel] * unit, self.squares[channel] * unit**2
        codes = np.flatnonzero(self.counts[channel])
        counts = [int(count) for count in self.counts[channel][codes]]
        unit = Fraction(1, 1 << _F16_UNIT_BITS) if self.kind == "f16" else Fraction(1)
        whole = [int(value / float(unit)) for value in self._values(codes)]
        total = sum(c * k for c, k in zip(counts, whole, strict=True))
        square = sum(c * k * k for c, k in zip(counts, whole, strict=True))
        return sum(counts), total * unit, square * unit**2

    def _values(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        if self.kind == "u8":
            return codes.astype(np.float64)
        if self.kind == "f16":
            return codes.astype(np.uint16).view(np.float16).astype(np.float64)
        return (codes - _F32_BINS // 2) * BIN_WIDTH

    def distribution(self, channel: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Values that occurred (for f32: centres of their bins) in increasing order, and how often."""
        self.flush()
        codes = np.flatnonzero(self.counts[channel])
        values, counts = self._values(codes), self.counts[channel][codes]
        if self.kind == "f32":
            low, high = self.extrema[channel]
            values = np.clip(np.where(codes == 0, low, np.where(codes == _F32_BINS - 1, high, values)), low, high)
        order = np.argsort(values, kind="stable")
        return values[order], counts[order]

    def summary(self, channel: int) -> ChannelSummary:
        """Figures of one channel."""
        samples, total, square = self.exact(channel)
        if not samples:
            return ChannelSummary(0)
        mean, std = moments(samples, total, square)
        values, counts = self.distribution(channel)
        low, high = (float(x) for x in self.extrema[channel]) if self.kind == "f32" else (float(values[0]), float(values[-1]))
        # A value is the quantile that the ranks have reached, never one between two: nothing is interpolated.
        reached = np.cumsum(counts)
        # By way of text: the float 0.95 is a little less than 0.95, which moves the rank where it is a whole number.
        ranks = [math.ceil(Fraction(str(q)) * samples) for q in QUANTILES]
        quantiles = tuple(float(values[np.searchsorted(reached, rank)]) for rank in ranks)
        return ChannelSummary(samples, mean, std, minimum=low, maximum=high, quantiles=quantiles)


def moments(samples: int, total: Fraction, square: Fraction) -> tuple[float, float]:
    """Mean and population standard deviation from exact sums."""
    # In rationals: the difference of two large floats would lose what a small deviation is made of.
    mean = total / samples
    variance = square / samples - mean * mean
    scaled = variance * (1 << 200)  # the root of an integer is exact to 2^-100, far below a float's last place
    return float(mean), float(Fraction(math.isqrt(scaled.numerator // scaled.denominator), 1 << 100))


def histogram(codes: NDArray[Any]) -> NDArray[np.int64]:
    """Counts (256 or 65,536) of u8 or u16 codes. OpenCV's is several times as fast as bincount, and exact below 2^24."""
    import cv2  # statistics are made and not read by trainers, who may do without

    bins, counts = 1 << 8 * codes.itemsize, np.zeros(1 << 8 * codes.itemsize, np.int64)
    flat = np.ascontiguousarray(codes).reshape(1, -1)
    for start in range(0, flat.size, 1 << 23):
        counts += cv2.calcHist([flat[:, start : start + (1 << 23)]], [0], None, [bins], [0, bins]).ravel().astype(np.int64)
    return counts


@dataclass
class Accumulators:
    """Accumulators by name (`CHANNELS`); a modality that nothing was counted of is absent."""

    parts: dict[str, Accumulator] = field(default_factory=dict)

    def add(self, name: str, values: ArrayLike) -> None:
        """Counts rows of ``name``'s channels."""
        self.part(name).add(values)

    def part(self, name: str) -> Accumulator:
        """The accumulator of ``name``, made when first asked for."""
        if name not in self.parts:
            self.parts[name] = Accumulator(*CHANNELS[name])
        return self.parts[name]

    def add_depth(self, depth: NDArray[np.float16], depth_range_m: tuple[float, float] | None) -> None:
        """Counts the valid pixels of ``depth`` f16, clipped to the limits (rounded to f16); 0 is invalid."""
        counts = histogram(np.ascontiguousarray(depth).view(np.uint16))
        counts[0] = 0
        if depth_range_m is not None:  # codes of positive f16 are in the order of their values
            low, high = (int(np.float16(limit).view(np.uint16)) for limit in depth_range_m)
            below, above = counts[:low].sum(), counts[high + 1 :].sum()
            counts[:low] = counts[high + 1 :] = 0
            counts[low], counts[high] = counts[low] + below, counts[high] + above
        part = self.part("depth")
        part.samples += int(counts.sum())
        part.counts[0] += counts

    def add_rgb(self, rgb: NDArray[np.uint8]) -> None:
        """Counts the pixels of images u8 (n, 3, S, S)."""
        part = self.part("rgb")
        part.samples += rgb.size // 3
        for channel in range(3):
            part.counts[channel] += histogram(rgb[:, channel])

    def merge(self, other: Accumulators) -> None:
        """Adds what ``other`` counted, exactly."""
        for name, part in other.parts.items():
            self.part(name).merge(part)

    def pack(self) -> dict[str, NDArray[Any]]:
        """Five small arrays (layout, moments, extrema, bins, counts); equal counts give equal arrays."""
        names = sorted(name for name, part in self.parts.items() if part.samples or part._pending)
        moments_, extrema, bins, counts, offset = [], [], [], [], 0
        for name in names:
            part = self.parts[name]
            part.flush()
            moments_.append(part.samples)
            if part.kind == "f32":
                for value in (*part.sums, *part.squares):
                    moments_ += [value >> _LIMB_BITS, value & ((1 << _LIMB_BITS) - 1)]
                extrema.append(part.extrema)
            flat = part.counts.ravel()
            used = np.flatnonzero(flat)
            bins.append(used + offset)
            counts.append(flat[used])
            offset += flat.size
        layout = json.dumps({"version": 1, "names": names}, sort_keys=True).encode()
        return {
            "layout": np.frombuffer(layout, np.uint8),
            "moments": np.array(moments_, np.int64),
            "extrema": np.concatenate([*extrema, np.empty((0, 2), np.float32)]),
            "bins": np.concatenate([*bins, np.empty(0, np.int64)]).astype(np.uint32),
            "counts": np.concatenate([*counts, np.empty(0, np.int64)]),
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, NDArray[Any]]) -> Self:
        """Inverse of `pack`.

        Raises:
            CorruptFile: of another version, or arrays that do not fit together.
        """
        out = cls()
        out.merge_packed(packed)
        return out

    def merge_packed(self, packed: Mapping[str, NDArray[Any]]) -> None:
        """`merge` of packed accumulators, touching only their non-empty bins; raises as `unpack`."""
        try:
            layout = json.loads(packed["layout"].tobytes())
            moments_, extrema = [int(v) for v in packed["moments"]], np.asarray(packed["extrema"])
            bins, counts = np.asarray(packed["bins"], np.int64), np.asarray(packed["counts"], np.int64)
            if layout["version"] != 1 or len(bins) != len(counts) or not set(layout["names"]) <= set(CHANNELS):
                raise CorruptFile(f"statistics of layout {layout} are not of this videolift")
        except (KeyError, ValueError, TypeError) as error:
            raise CorruptFile(f"statistics cannot be read: {error}") from error
        at = row = first = offset = 0  # each modality's part follows the one before, in the order of names in which `pack` wrote
        for name in layout["names"]:
            part = self.part(name)
            part.flush()
            part.samples += moments_[at]
            at += 1
            if part.kind == "f32":
                limbs = moments_[at : at + 4 * part.channels]
                values = [(high << _LIMB_BITS) + low for high, low in zip(limbs[::2], limbs[1::2], strict=True)]
                part.sums = [a + b for a, b in zip(part.sums, values[: part.channels], strict=True)]
                part.squares = [a + b for a, b in zip(part.squares, values[part.channels :], strict=True)]
                rows = extrema[row : row + part.channels]
                part.extrema = np.stack([np.minimum(part.extrema[:, 0], rows[:, 0]), np.maximum(part.extrema[:, 1], rows[:, 1])], 1)
                at, row = at + 4 * part.channels, row + part.channels
            last = int(np.searchsorted(bins, offset + part.counts.size))
            flat = part.counts.reshape(-1)
            flat[bins[first:last] - offset] += counts[first:last]
            offset, first = offset + part.counts.size, last

    @classmethod
    def merged(cls, many: Iterable[Accumulators]) -> Self:
        """All of ``many`` together; the order does not matter."""
        out = cls()
        for one in many:
            out.merge(one)
        return out

    def summaries(self) -> dict[str, list[ChannelSummary]]:
        """Name to one `ChannelSummary` per channel."""
        return {name: [part.summary(c) for c in range(part.channels)] for name, part in sorted(self.parts.items())}
