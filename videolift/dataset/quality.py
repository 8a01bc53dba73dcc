"""Quality scores: what a packaged file's own arrays say of how well depth, camera, tracks and hands agree with each other.

`SCORES` defines every score, its unit and the threshold beyond which it deserves a look; `QualityMeter` is fed while a file is
written and gives one number per frame and one per video. A score says nothing against truth: agreement can be wrong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import JOINTS
from videolift.dataset.hand_scores import jitter_deg, jitter_px, side_changes
from videolift.geometry import Float, Float32, invert_pose, project, transform, unproject
from videolift.shot_ranges import shots_of

_GRID = 32
"""Depth agreement is measured on this many points per side."""
_FINGERS = tuple((0 if i % 4 == 1 else i - 1, i) for i in range(1, 21))
"""Bones (from, to) of the 21 joints: each finger from the wrist outwards."""
_KNUCKLE = JOINTS.index("middle_1")


@dataclass(frozen=True)
class Score:
    """One score.

    Attributes:
        unit: ``px`` are packaged pixels, ``m`` metres (or the clip's own unit of length where ``length_unit`` says so).
        definition: what is measured.
        threshold: beyond it a video deserves a look; ``above`` tells which side is bad.
        per_frame: stored per frame as ``quality/{name}``; the video's value is the median over frames.
    """

    unit: str
    definition: str
    threshold: float
    above: bool = True
    per_frame: bool = True

    def poor(self, value: float | None) -> bool:
        """True beyond the threshold."""
        return value is not None and (value > self.threshold if self.above else value < self.threshold)


SCORES: dict[str, Score] = {
    "valid_depth": Score("share", "pixels with depth", 0.3, above=False),
    "depth_residual": Score(
        "share", "median difference between a frame's depth, moved by the camera, and the next frame's, relative to depth", 0.02
    ),
    "scale_flicker": Score("share", "median ratio of the same two depths, distance from 1: depth that breathes", 0.01),
    "static_residual_px": Score(
        "px", "median motion of a window's points over the window, in its first camera: most points stand still", 3.0
    ),
    "static_residual": Score("m", "likewise in depth", 0.02),
    "visible_at_end": Score("share", "points of a window still visible at its last step", 0.5, above=False),
    "forward_backward_px": Score(
        "px",
        "median distance from their start of a window's points, followed to where they were last seen and back by the tracks "
        "backend: flow a sample in every window, tapip3d one window in check_every, others none",
        1.0,
    ),
    "keypoint_residual_px": Score("px", "mean distance of projected joints from the detected keypoints", 5.0),
    "wrist_depth_gap": Score("m", "distance along the view between the wrist and the depth at its pixel", 0.05),
    "cut_hands": Score("share", "valid hands with a keypoint outside the packaged image", 0.3),
    "lost_wrists": Score("share", "wrists in the video's picture that lie outside the packaged image", 0.1, per_frame=False),
    "wrist_keypoint_px": Score("px", "distance of the projected wrist from its detected keypoint", 4.0),
    "hand_jitter_px": Score("px", "distance of the wrist's keypoint from a straight motion through its 11 frames", 4.0),
    "hand_jitter_deg": Score("degrees", "angle of the wrist's rotation from a steady turn through its 11 frames", 25.0),
    "side_changes": Score(
        "share", "frames in which a hand is nearer to where the other was than to where it was itself", 0.02, per_frame=False
    ),
    "unknown_sides": Score("share", "detected hands of which nothing tells the side", 0.2, per_frame=False),
    "wrist_methods_apart_deg": Score(
        "degrees", "median angle between a wrist's rotation by depth and by its pixels alone", 25.0, per_frame=False
    ),
    "interpolated_hands": Score("share", "valid hands that were filled between measured frames", 0.3, per_frame=False),
    "known_length_off": Score(
        "share",
        "median distance from the wrist to the middle finger's knuckle over the table's known_length (metres), distance from 1",
        0.1,
        per_frame=False,
    ),
    "bone_spread": Score(
        "share", "standard deviation of bone lengths over measured frames, relative to their mean", 0.1, per_frame=False
    ),
}


@dataclass
class QualityMeter:
    """Collects the scores of one file of ``frames`` frames; arrays come at the packaged size, in any number at a time.

    ``shot`` (T) is the shot of each frame; scores over time never compare frames of two shots.
    """

    frames: int
    K: Float | None = None
    T_camera_world: Float | None = None
    shot: NDArray[np.int32] | None = None
    per_frame: dict[str, Float32] = field(default_factory=dict)
    per_video: dict[str, float] = field(default_factory=dict)
    _previous: NDArray[np.float16] | None = None
    """The last frame's depth."""

    def depth(self, start: int, depth: NDArray[np.float16]) -> None:
        """Depth (n, S, S) of frames from ``start`` on, in order."""
        self._series("valid_depth")[start : start + len(depth)] = (depth > 0).mean((1, 2))
        size_px = np.array(depth.shape[:0:-1])
        at = [(np.arange(_GRID) * size) // _GRID + size // (2 * _GRID) for size in size_px]
        u, v = (a.ravel() for a in np.meshgrid(*at))
        for t, z_next in enumerate(depth, start - 1):
            z, self._previous = self._previous, z_next
            if z is None or self.K is None or self.T_camera_world is None:
                continue
            E = self.T_camera_world[t : t + 2]
            # Two shots have two worlds, and a pose that is not known has none.
            if not np.isfinite(E).all() or (self.shot is not None and self.shot[t] != self.shot[t + 1]):
                continue
            known = z[v, u] > 0
            here = unproject(np.stack([u, v], -1)[known], z[v, u][known].astype(np.float64), self.K)
            there = transform(E[1] @ invert_pose(E[0]), here)
            px = project(there, self.K)
            inside = np.isfinite(px).all(-1) & (px >= -0.5).all(-1) & (px < size_px - 0.5).all(-1)
            px = np.rint(px[inside]).astype(int)
            measured = z_next[px[:, 1], px[:, 0]].astype(np.float64)
            seen = measured > 0
            # At least one row of the grid: the median of a few points says little about the frame.
            if seen.sum() >= _GRID:
                ratio = measured[seen] / there[inside][seen, 2]
                self._series("depth_residual")[t] = np.median(np.abs(ratio - 1))
                self._series("scale_flicker")[t] = abs(np.median(ratio) - 1)

    def window(
        self, start: int, displacement: Float32, visible: NDArray[np.bool_], size_px: tuple[int, int], forward_backward_px: float
    ) -> None:
        """Points of the window from ``start`` on: displacement (L, N, 3), visible (L, N); the tracker's own error, packaged px."""
        if np.isfinite(forward_backward_px):
            self._series("forward_backward_px")[start] = forward_backward_px
        if not displacement.shape[1]:
            return
        # The median over points: those on hands and things do move, and are fewer than those on what stands.
        moved = np.linalg.norm(displacement[-1, :, :2] * size_px, axis=-1)
        self._series("static_residual_px")[start] = np.median(moved)
        self._series("static_residual")[start] = np.median(np.abs(displacement[-1, :, 2]))
        self._series("visible_at_end")[start] = visible[-1].mean()

    def hands(
        self,
        arrays: Mapping[str, NDArray[Any]],
        size_px: tuple[int, int],
        in_picture: NDArray[np.bool_],
        known_length_m: float | None = None,
    ) -> None:
        """Hands of the whole video by the names of `videolift.artifacts.Hands`, keypoints in packaged pixels.

        Args:
            arrays: of the hands.
            size_px: (width, height) of the packaged image.
            in_picture: (T, 2) which wrists the video's own picture holds: what it never showed, packaging does not lose.
            known_length_m: from the wrist to the middle finger's knuckle, as measured on the person.
        """
        valid, keypoints, joints = arrays["valid"], arrays["keypoints_px"], arrays["joints_camera"].astype(np.float64)
        if not valid.any():
            return
        self.per_video["interpolated_hands"] = float(arrays["interpolated"][valid].mean())
        cut = ((keypoints < -0.5) | (keypoints >= np.array(size_px) - 0.5)).any((-2, -1))
        self._put("cut_hands", np.where(valid, cut, np.nan))
        wrist_px = keypoints[..., 0, :]
        lost = np.asarray(((wrist_px < -0.5) | (wrist_px >= np.array(size_px) - 0.5)).any(-1))
        if (valid & in_picture).any():
            self.per_video["lost_wrists"] = float(lost[valid & in_picture].mean())
        # Shot by shot: across a cut hands jump, and nothing is wrong.
        runs = [slice(0, self.frames)] if self.shot is None else [slice(one.first, one.end) for one in shots_of(self.shot)]
        self.per_video["side_changes"] = sum(int(side_changes(keypoints[run], valid[run]).sum()) for run in runs) / self.frames
        if "side_known" in arrays:
            detected = np.isfinite(arrays["score"])
            self.per_video["unknown_sides"] = float((~arrays["side_known"])[detected].mean()) if detected.any() else 0.0
        # Frames that were filled in are smooth by construction.
        own = valid & ~arrays["interpolated"]
        jitter = {name: np.full(own.shape, np.nan) for name in ("hand_jitter_px", "hand_jitter_deg")}
        for run in runs:
            jitter["hand_jitter_px"][run] = jitter_px(keypoints[run], own[run])
            jitter["hand_jitter_deg"][run] = jitter_deg(arrays["T_camera_wrist"][run], own[run])
        for name, sides in jitter.items():
            self._put(name, sides)
        if self.K is not None:
            off_px = np.linalg.norm(project(arrays["T_camera_wrist"][..., :3, 3], self.K) - wrist_px, axis=-1)
            self._put("wrist_keypoint_px", np.where(own, off_px, np.nan))
            off = np.linalg.norm(project(joints, self.K) - keypoints, axis=-1)
            self._put("keypoint_residual_px", np.where(valid, _mean(off, -1), np.nan))
        measured = joints[valid & ~arrays["interpolated"]]
        palm_m = np.linalg.norm(measured[:, _KNUCKLE] - measured[:, 0], axis=-1)
        if known_length_m is not None and np.isfinite(palm_m).any():
            self.per_video["known_length_off"] = abs(float(np.nanmedian(palm_m)) / known_length_m - 1)
        spreads = []
        for side in (0, 1):
            measured = joints[valid[:, side] & ~arrays["interpolated"][:, side], side]
            lengths = np.stack([np.linalg.norm(measured[:, b] - measured[:, a], axis=-1) for a, b in _FINGERS], -1)
            lengths = lengths[np.isfinite(lengths).all(-1)]
            if len(lengths) > 1:
                spreads.append(float(np.mean(lengths.std(0) / np.maximum(lengths.mean(0), 1e-9))))
        # The worse hand: a person's two hands need not be seen equally well.
        if spreads:
            self.per_video["bone_spread"] = max(spreads)

    def agreement(self, attributes: Mapping[str, Any]) -> None:
        """What the hands stage says of its own methods (attribute ``apart_deg``)."""
        if attributes.get("apart_deg") is not None:
            self.per_video["wrist_methods_apart_deg"] = float(attributes["apart_deg"])

    def wrist(self, frame: int, z_m: Float, depth: NDArray[np.float16], uv_px: Float) -> None:
        """Wrists (2) of one frame: their depth, the packaged depth map, their pixels (2, 2)."""
        gaps = []
        for z, (u, v) in zip(z_m, np.nan_to_num(uv_px, nan=-1), strict=True):
            column, row = round(float(u)), round(float(v))
            if np.isfinite(z) and 0 <= column < depth.shape[1] and 0 <= row < depth.shape[0] and depth[row, column] > 0:
                gaps.append(abs(float(z) - float(depth[row, column])))
        if gaps:
            self._series("wrist_depth_gap")[frame] = float(np.mean(gaps))

    def _series(self, name: str) -> Float32:
        return self.per_frame.setdefault(name, np.full(self.frames, np.nan, np.float32))

    def _put(self, name: str, sides: NDArray[Any]) -> None:
        self._series(name)[:] = _mean(sides, -1)

    def table(self) -> dict[str, dict[str, Any]]:
        """Per video: value, unit, definition, threshold and verdict of every score; value None where nothing was measured."""
        out = {}
        for name, score in SCORES.items():
            value = self.per_video.get(name)
            series = self.per_frame.get(name)
            if series is not None and np.isfinite(series).any():
                # The median says nothing about shares that are mostly 0 or 1.
                pooled = np.nanmean(series) if name in ("cut_hands", "valid_depth") else np.nanmedian(series)
                value = float(pooled)
            out[name] = {
                "value": value,
                "unit": score.unit,
                "definition": score.definition,
                "threshold": score.threshold,
                "bad": "above" if score.above else "below",
                "poor": score.poor(value),
            }
        return out


def _mean(values: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Mean over finite values; NaN where there is none."""
    known = np.isfinite(values.astype(np.float64))
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
