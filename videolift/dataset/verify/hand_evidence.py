"""Hands against images: do keypoints move with the picture, lie on the hand's own depth, belong to the hand they are said to be?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import JOINTS, SIDES
from videolift.dataset.verify.evidence import SHIFTS, Evidence, depth_at, sample
from videolift.geometry import Float, invert_pose, project, rotation_angle, transform

_WRIST, _INDEX, _MIDDLE, _PINKY = (JOINTS.index(name) for name in ("wrist", "index_1", "middle_1", "pinky_1"))
_PALM = [_WRIST, _INDEX, _MIDDLE, _PINKY]
_MIN_FRAMES = 8
_FLESH_M = (-0.012, 0.04)
"""A joint lies this far behind the surface that is seen."""
_OFF_SHARE = 0.04
_MORE_ON_HAND = 0.15
_BETTER, _BETTER_PX = 0.93, 0.05
"""Flow on fingers is rough, so the gap at the right time is not small, only the smallest: on 18 renderings it is 6 % or more below
that of its neighbours. Both halves of the frames must agree."""
_WRIST_BETTER, _WRIST_BETTER_PX = 0.6, 0.5
_MAX_AXES_DEG = 40.0
"""A wrist's axes may differ so far from the palm's: MediaPipe's palm leans by 19 degrees, and noise adds to it."""
_PALM_M = (0.05, 0.14)
_RIGID_M, _APART_M = 0.03, 0.035
"""Twice what noise of a real depth camera gives."""
_MAX_WRIST_SHIFT = 4


def hand_faults(evidence: Evidence, *, measured: bool) -> Iterator[tuple[str, str]]:
    """Kind and figures of what is wrong with the hands.

    Args:
        evidence: images and depth.
        measured: depth and hands are both in measured metres, so that they can be compared.
    """
    file = evidence.file
    # What was filled between measured frames follows from them, and is no evidence.
    valid = (file.array("hands/valid") & ~file.array("hands/interpolated"))[: evidence.frames]
    for number, side in enumerate(SIDES):
        frames = np.flatnonzero(valid[:, number])
        if len(frames) < _MIN_FRAMES:
            continue
        names = ("keypoints_px", "joints_camera", "T_camera_wrist")
        keypoints, joints, wrist = (file.array(f"hands/{name}")[:, number].astype(np.float64) for name in names)
        hand = _OneHand(evidence, side, frames, keypoints_px=keypoints, joints_camera=joints, T_camera_wrist=wrist)
        yield from hand.time_faults()
        if measured:
            yield from hand.place_faults()
        yield from hand.shape_faults()
        yield from hand.colour_faults()


@dataclass(frozen=True)
class _OneHand:
    """One hand's labels (T, ...) over a video; ``frames`` are those in which it was measured."""

    evidence: Evidence
    side: str
    frames: NDArray[np.int64]
    keypoints_px: Float
    joints_camera: Float
    T_camera_wrist: Float

    def time_faults(self) -> Iterator[tuple[str, str]]:
        """Keypoints at another time than the images, and wrists at another time than their keypoints."""
        keypoints, frames = self.keypoints_px, self.frames
        shifts = {0: "", **dict(SHIFTS)}
        still = np.array([np.array_equal(keypoints[t], keypoints[t - 1]) for t in frames if t > 0])
        # Before the hypotheses: labels that never move fit every shift alike.
        if still.mean() > 0.3:
            yield "hands frozen", f"{still.mean():.0%} of the hands are those of the frame before"
        else:
            # One half alone may hold a moment at which any shift fits; a fault in the labels is there all the time.
            middle = len(frames) // 2
            parts = (frames[:middle], frames[middle:])
            halves = [{shift: self._motion_gap_px(part, shift) for shift in shifts} for part in parts]
            shift, other = (min(gaps, key=lambda at: np.nan_to_num(gaps[at], nan=1e9)) for gaps in halves)
            stated, moved = (float(np.mean([gaps[at] for gaps in halves])) for at in (0, shift))
            if shift == other != 0 and moved < _BETTER * stated and moved < stated - _BETTER_PX:
                text = f"keypoints miss the motion of the images by {stated:.2f} px, {moved:.2f} px if they were moved"
                yield f"hands {shifts[shift]}", text

        # Keypoints were held against the images just now, so a wrist that fits them at another time is late by itself.
        known = set(frames.tolist())
        gaps_px = {}
        for shift in range(-_MAX_WRIST_SHIFT, _MAX_WRIST_SHIFT + 1):
            own = np.array([t for t in frames if t + shift in known], np.int64)
            px = np.linalg.norm(project(self.T_camera_wrist[own + shift, :3, 3], self.evidence.K) - keypoints[own, _WRIST], axis=-1)
            gaps_px[shift] = float(np.median(px)) if len(px) >= _MIN_FRAMES else float("inf")
        best = min(gaps_px, key=lambda at: gaps_px[at])
        if gaps_px[best] < min(_WRIST_BETTER * gaps_px[0], gaps_px[0] - _WRIST_BETTER_PX):
            text = f"{gaps_px[0]:.1f} px from their keypoints, {gaps_px[best]:.1f} px from those {abs(best)} frames away"
            yield f"wrists {'late' if best > 0 else 'early'}", text

    def _motion_gap_px(self, frames: NDArray[np.int64], shift: int) -> float:
        """Median distance of the keypoints' step from the image's at the same place, with labels taken ``shift`` frames ahead."""
        evidence, keypoints = self.evidence, self.keypoints_px
        gaps = []
        known = set(frames.tolist())
        for t in frames:
            label = t + shift
            if t + 1 >= evidence.frames or label not in known or label + 1 not in known:
                continue
            step = keypoints[label + 1] - keypoints[label]
            at = keypoints[label]
            # Flow within a few pixels of the border is made up of what came into the picture.
            inside = (np.isfinite(at) & (at > 3) & (at < np.array(evidence.file.size_px) - 4)).all(1) & np.isfinite(step).all(1)
            if inside.sum() > 4:
                seen = sample(evidence.flow(int(t), int(t) + 1), at[inside])
                gaps.append(np.median(np.linalg.norm(seen - step[inside], axis=1)))
        return float(np.mean(gaps)) if len(gaps) >= _MIN_FRAMES // 2 else float("nan")

    def place_faults(self) -> Iterator[tuple[str, str]]:
        """Joints that do not lie just behind the surface seen at their keypoints, or do not project onto these."""
        keypoints, joints = self.keypoints_px, self.joints_camera
        width, height = self.evidence.file.size_px
        stated = self._share_on_hand(keypoints, joints)
        mirrored, flipped = keypoints.copy(), keypoints.copy()
        mirrored[..., 0], flipped[..., 1] = width - 1 - keypoints[..., 0], height - 1 - keypoints[..., 1]
        tried = {"hands mirrored": self._share_on_hand(mirrored, joints)}
        tried["hands upside down"] = self._share_on_hand(flipped, joints)
        tried["keypoints with x and y swapped"] = self._share_on_hand(keypoints[..., ::-1], joints)
        shifts = [(dx, dy) for dx in (-12, -6, 0, 6, 12) for dy in (-12, -6, 0, 6, 12) if dx or dy]
        tried["keypoints shifted"] = max(self._share_on_hand(keypoints + shift, joints) for shift in shifts)
        # 0.001 and 1000 are millimetres taken for metres, and the other way round.
        for scale in (0.5, 0.7, 0.77, 0.87, 1.15, 1.3, 1.43, 2.0, 0.001, 1000.0):
            share = self._share_on_hand(keypoints, joints * scale)
            tried["hands and depth differ in scale"] = max(share, tried.get("hands and depth differ in scale", 0.0))
        best = max(tried, key=lambda name: np.nan_to_num(tried[name]))
        # A hypothesis that leaves most joints off the surface is not believed, however much better than the labels it does.
        if tried[best] > 0.4 and tried[best] > stated + _MORE_ON_HAND:
            yield best, f"{stated:.0%} of the joints lie just behind the surface that is seen, {tried[best]:.0%} would"
        off_px = np.linalg.norm(project(joints, self.evidence.K) - keypoints, axis=-1)[self.frames]
        if np.isfinite(off_px).any() and np.nanmedian(off_px) > _OFF_SHARE * min(width, height):
            yield "joints off their keypoints", f"they project {np.nanmedian(off_px):.0f} px from them"

    def _share_on_hand(self, keypoints: Float, joints: Float) -> float:
        """Share of joints that lie just behind the depth at their keypoint."""
        count = hits = 0
        for t in self.frames:
            at = keypoints[t]
            inside = self._in_image(at) & np.isfinite(joints[t, :, 2])
            z = depth_at(self.evidence.z[t], at[inside])
            behind = (joints[t, inside, 2] - z)[z > 0]
            count += len(at)
            hits += int(((behind > _FLESH_M[0]) & (behind < _FLESH_M[1])).sum())
        return hits / count if count else float("nan")

    def shape_faults(self) -> Iterator[tuple[str, str]]:
        """A hand of the wrong size or side, or a wrist that is not the joints' own."""
        joints, wrist = self.joints_camera[self.frames], self.T_camera_wrist[self.frames]
        placed = np.isfinite(wrist).all((1, 2))
        known = np.isfinite(joints).all((1, 2)) & placed
        whole = known.sum() >= _MIN_FRAMES
        if not whole:  # a depth camera rarely sees all of a hand
            known = np.isfinite(joints[:, _PALM]).all((1, 2)) & placed
        if known.sum() < _MIN_FRAMES:
            return
        joints, wrist = joints[known], wrist[known]
        palm_m = float(np.median(np.linalg.norm(joints[:, _MIDDLE] - joints[:, _WRIST], axis=1)))
        if not _PALM_M[0] < palm_m < _PALM_M[1]:
            yield "size of the hand", f"from wrist to knuckle it measures {palm_m:.3f} m"
        local = transform(invert_pose(wrist), joints)
        apart_m = float(np.median(np.linalg.norm(local[:, _WRIST], axis=1)))
        if apart_m > _APART_M:
            yield "wrist and joints apart", f"they lie {1000 * apart_m:.0f} mm from each other"
        palm = local[:, _PALM[1:]] - local[:, [_WRIST]]
        spread_m = float(np.median(np.linalg.norm(palm - np.median(palm, 0), axis=-1)))
        if spread_m > _RIGID_M:
            yield "wrist rotation", f"the palm moves by {1000 * spread_m:.0f} mm in the wrist's own frame"
            return
        ahead = float(np.median(local[:, _MIDDLE, 0] - local[:, _WRIST, 0])) / palm_m
        # A right wrist's x points from the fingers to the arm; a left one is its mirror image (videolift.artifacts has the frames).
        handed = -1.0 if self.side == "right" else 1.0
        if ahead * handed < -0.5:
            # z points to the thumb's side on either hand: that tells a hand of the other side from one in axes turned half round.
            thumb_side = float(np.median(local[:, _INDEX, 2] - local[:, _PINKY, 2]))
            kind = "sides swapped" if thumb_side > 0 else "a left hand is not mirrored"
            yield kind, f"in the frame of the {self.side} wrist the fingers point to {'+' if ahead > 0 else '-'}x"
            return
        if not whole:
            return  # joints on whatever surface shows turn a palm by up to 60 degrees about its fingers (a real depth camera)
        # The palm's own axes in the wrist's frame: x along the fingers' line, z to the index, as the hand frame is defined.
        usual = np.median(local, 0)
        x = handed * (usual[_MIDDLE] - usual[_WRIST])
        x /= np.linalg.norm(x)
        z = usual[_INDEX] - usual[_PINKY]
        z -= (z @ x) * x
        z /= np.linalg.norm(z)
        off_deg = float(np.degrees(rotation_angle(np.stack([x, np.cross(z, x), z], 1), np.eye(3))))
        if off_deg > _MAX_AXES_DEG:
            yield "axes of the wrist", f"they are turned by {off_deg:.0f} degrees against the palm"

    def colour_faults(self) -> Iterator[tuple[str, str]]:
        """Skin in the images that is bluer than red."""
        colours = []
        for t in self.frames:
            at = self.keypoints_px[t]
            inside = self._in_image(at)
            x, y = np.rint(at[inside]).astype(int).T
            colours.append(self.evidence.rgb[t][y, x].astype(np.float64))
        pooled = np.concatenate(colours)
        # Skin of every colour is redder than blue; gloves are not skin, so only a whole hand that is clearly blue counts.
        if len(pooled) and np.median(pooled[:, 0] - pooled[:, 2]) < -25:
            yield "colours swapped", f"the hand is {np.median(pooled[:, 2] - pooled[:, 0]):.0f} of 255 bluer than red"

    def _in_image(self, at_px: Float) -> NDArray[np.bool_]:
        """(n) True for those of some points (n, 2) that have a pixel."""
        return np.asarray((np.isfinite(at_px) & (at_px >= 0) & (at_px <= np.array(self.evidence.file.size_px) - 1)).all(1))
