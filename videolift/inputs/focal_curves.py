"""Focal curves: how well a clip's motion shows the focal length of its camera, and the one focal length of several clips.

The curve of a clip is measured in the depth stage and stands among the figures of its record, so that `videolift calibrate` can
put the clips of one camera together without any of them being done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from videolift.geometry import Float

FOCAL_FACTORS = (0.8, 1 / 1.1, 1.0, 1.1, 1.25)
"""Focal lengths at which a curve is known, over the solved one."""
_NEAR = (1, 3)
"""Rows of `FOCAL_FACTORS` that are 10 % away."""
MIN_RISE = 0.01
"""On real clips whose lens is known the focal length was off by 8 to 13 % where the error rose by 0.6 to 1.2 % within 10 %, and by
1 to 2 % where it rose by 4 % and more (docs/backends.md)."""
_CONTRADICTS = 3 * MIN_RISE
"""By what share more than 10 % away is too far: what is off by 13 % for lack of motion rises by 2 % at the true focal length."""
_MAX_COUNTED = 0.1
"""Of a clip's rise: a clip that is sure of a wrong focal length is outvoted by two that are sure of the right one."""
_STEP = 0.002
"""Of the search, in the logarithm of the focal length: 0.2 %."""


@dataclass(frozen=True)
class FocalCurve:
    """Reprojection error of a clip's reconstruction over focal lengths.

    Attributes:
        focal_px: solved for, pixels of the clip.
        size_px: (W, H) of the whole upright picture at the clip's scale.
        rise: by what share the error is larger at each of `FOCAL_FACTORS` times that focal length.
    """

    focal_px: float
    size_px: tuple[int, int]
    rise: tuple[float, ...]

    @property
    def rise_within_tenth(self) -> float:
        """The smaller of the rises 10 % to either side; below `MIN_RISE` the focal length is not known."""
        return min(self.rise[row] for row in _NEAR)

    def contradicts(self, focal_px: float) -> bool:
        """True if the motion clearly shows another focal length than this, pixels of the clip."""
        away = abs(np.log(focal_px / self.focal_px)) > np.log(FOCAL_FACTORS[_NEAR[1]])
        return bool(away and self.at(np.log([focal_px / self.size_px[0]]))[0] >= _CONTRADICTS)

    def figures(self) -> dict[str, float]:
        """For a record; inverse of `from_figures`."""
        rises = {f"focal_rise_{row}": rise for row, rise in enumerate(self.rise)}
        return {
            "focal_px": self.focal_px,
            "picture_width": float(self.size_px[0]),
            "picture_height": float(self.size_px[1]),
            **rises,
        }

    @classmethod
    def from_figures(cls, figures: Mapping[str, float]) -> Self | None:
        """The curve that a record tells of; None where it has none."""
        if "focal_rise_0" not in figures:
            return None
        rise = tuple(figures[f"focal_rise_{row}"] for row in range(len(FOCAL_FACTORS)))
        return cls(figures["focal_px"], (int(figures["picture_width"]), int(figures["picture_height"])), rise)

    def at(self, log_focal: Float) -> Float:
        """The rise (n) at focal lengths given as logarithms of shares of the width (n), at most `_MAX_COUNTED`."""
        from scipy.interpolate import PchipInterpolator  # it takes 50 MB, and a plan needs no curve

        own = np.log(self.focal_px / self.size_px[0]) + np.log(FOCAL_FACTORS)
        # Monotone between the samples: a cubic spline could swing below the least of them, to a focal length that none supports.
        rise = PchipInterpolator(own, np.array(self.rise))(np.clip(log_focal, own[0], own[-1]))
        return np.asarray(np.minimum(rise - min(self.rise), _MAX_COUNTED), np.float64)


@dataclass(frozen=True)
class SharedFocalLength:
    """What the clips of one camera say together.

    Attributes:
        focal_of_width: focal length over the width of the upright picture.
        rise_within_tenth: as of a single curve; summed, since clips err independently.
    """

    focal_of_width: float
    rise_within_tenth: float

    @property
    def known(self) -> bool:
        """False: name the camera, calibrate it, or record a clip in which it moves past near and far things."""
        return self.rise_within_tenth >= MIN_RISE


def shared_focal_length(curves: Sequence[FocalCurve]) -> SharedFocalLength:
    """The focal length at which the clips' errors rise least in sum; ``curves`` are of one camera and not empty."""
    logs = [np.log(curve.focal_px / curve.size_px[0]) for curve in curves]
    # All of it, not a descent: a sum of curves has several dips.
    grid = np.arange(min(logs) + np.log(FOCAL_FACTORS[0]), max(logs) + np.log(FOCAL_FACTORS[-1]), _STEP)

    def total(log_focal: Float) -> Float:
        return np.asarray(sum(curve.at(log_focal) for curve in curves), np.float64)

    best = grid[int(np.argmin(total(grid)))]
    around = total(np.array([best + np.log(FOCAL_FACTORS[row]) for row in _NEAR]))
    return SharedFocalLength(float(np.exp(best)), float(around.min() - total(np.array([best]))[0]))
