"""What ViPE returns without complaint but is known to be wrong: a camera that stood still, a field of view, depth without relief.

`Seen` sums up the stretches done so far and survives a kill; the checks turn it into `BadInput` with what to set instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stages.depth.joining import OVERLAP, Stretch
from videolift.artifacts import ArtifactWriter
from videolift.config import VipeSettings
from videolift.errors import BadInput
from videolift.geometry import rotation_angle

STILL_SHARE, STILL_DEG = 0.01, 1.0
"""A camera that moved less than this share of the depth and turned less than this stood still."""
_EVERY = 10
_INSTEAD = "For this video set, under `overrides`, depth: {backend: moge}"


@dataclass(frozen=True)
class Seen:
    """Stretches done so far, joined.

    Attributes:
        tail: the last frames, for the next stretch to join; None before the first.
        T_world_camera: (n, 4, 4) of all frames.
        medians, relief: of every tenth frame, the median valid depth and its standard deviation over it.
        parts: how many stretches.
    """

    tail: Stretch | None = None
    T_world_camera: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4, 4)))
    medians: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    relief: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    parts: int = 0

    @property
    def median_depth(self) -> float:
        """Median of the frames' medians, in the unit of the depth."""
        return float(np.median(self.medians))

    @property
    def median_relief(self) -> float:
        """Median over frames of standard deviation over median."""
        return float(np.median(self.relief))

    def with_part(self, part: Stretch) -> Seen:
        """With one more stretch, already joined."""
        valid = [z[z > 0] for z in part.depth[::_EVERY]]
        figures = np.array([(np.median(z), z.std() / np.median(z)) for z in valid if len(z)]).reshape(-1, 2)
        return Seen(
            part.last(OVERLAP),
            np.concatenate([self.T_world_camera, part.T_world_camera]),
            np.concatenate([self.medians, figures[:, 0]]),
            np.concatenate([self.relief, figures[:, 1]]),
            self.parts + 1,
        )

    def save(self, out: ArtifactWriter) -> None:
        """Keeps it across a kill."""
        assert self.tail is not None
        tail = {"depth": self.tail.depth, "tail_poses": self.tail.T_world_camera, "K": self.tail.K}
        name = _part(len(self.T_world_camera))
        out.save_part(name, poses=self.T_world_camera, medians=self.medians, relief=self.relief, parts=self.parts, **tail)

    @classmethod
    def load(cls, out: ArtifactWriter, frames: int) -> Self:
        """What a previous attempt kept of its first ``frames``; empty where it kept nothing of just these."""
        saved = out.load_part(_part(frames))
        if saved is None:
            return cls()
        tail = Stretch(saved["depth"], saved["tail_poses"], saved["K"])
        return cls(tail, saved["poses"], saved["medians"], saved["relief"], int(saved["parts"]))


def _part(frames: int) -> str:
    """By frames, because depth is kept apart, and a kill may come between the two."""
    return f"seen-{frames:09d}"


def check_field_of_view(K: NDArray[np.floating], width_px: int, settings: VipeSettings) -> None:
    """Raises `BadInput` where the horizontal field of view is outside of what the settings call plausible."""
    hfov_deg = float(np.degrees(2 * np.arctan(width_px / 2 / K[0, 0])))
    if not settings.hfov_min_deg <= hfov_deg <= settings.hfov_max_deg:
        plausible = f"{settings.hfov_min_deg:g} to {settings.hfov_max_deg:g}"
        text = f"ViPE estimates a field of view of {hfov_deg:.0f} degrees, plausible is {plausible}"
        raise BadInput("field_of_view", text, f"Set depth.vipe.hfov_deg, or name a calibration in the CSV. {_INSTEAD}.")


def check_motion(seen: Seen) -> None:
    """Raises `BadInput` where the camera stood still: its focal length could not be observed, so depth and tracks would be off."""
    centres, R = seen.T_world_camera[:, :3, 3], seen.T_world_camera[:, :3, :3]
    moved = float(np.linalg.norm(centres - np.median(centres, axis=0), axis=1).max()) / seen.median_depth
    turned_deg = float(np.degrees(rotation_angle(R, R[len(R) // 2]).max()))
    if moved < STILL_SHARE and turned_deg < STILL_DEG:
        little = f"moved {moved:.1%} of the depth, turned {turned_deg:.1f} degrees"
        text = f"the camera stood still ({little}): ViPE cannot find its focal length"
        raise BadInput("static_camera", text, f"{_INSTEAD}, or depth: {{vipe: {{hfov_deg: ...}}}} if you know it.")


def check_relief(seen: Seen, settings: VipeSettings) -> None:
    """Raises `BadInput` where depth is missing, or as flat as a wall. Relative, so that close-ups of a table pass."""
    if not len(seen.relief):
        raise BadInput("no_depth", "ViPE returned no valid depth in any frame", f"{_INSTEAD}.")
    if seen.median_relief < settings.min_relative_relief:
        text = f"depth varies by {seen.median_relief:.1%} of its median, less than {settings.min_relative_relief:.1%}"
        raise BadInput("flat_depth", text, f"Lower depth.vipe.min_relative_relief if the scene is a wall. {_INSTEAD}.")
