"""Marks on pictures: track trails, hand skeletons, wrist axes, depth in colour, hatching, a scale bar, captions.

Pure functions of arrays; positions are pixels whose integers are pixel centres. They draw on RGB u8 (H, W, 3) in place.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.geometry import Float, project

Picture = NDArray[np.uint8]
Rgb = tuple[int, int, int]

LEFT, RIGHT = (64, 224, 255), (255, 96, 208)
"""Colours of the hands, RGB."""
INK, PAPER, HATCH, PALE = (235, 235, 235), (24, 26, 30), (92, 92, 92), (214, 224, 235)
STILL = 0.12
"""Heat below which a point counts as standing still."""
BONES = [(0, 1), (0, 5), (0, 9), (0, 13), (0, 17), (5, 9), (9, 13), (13, 17)]
BONES += [(finger + i, finger + i + 1) for finger in (1, 5, 9, 13, 17) for i in range(3)]
AXIS_COLOURS: tuple[Rgb, ...] = ((255, 60, 60), (80, 230, 80), (80, 130, 255))
ALARM: Rgb = (255, 72, 64)
_SHIFT, _SHADES = 4, 12


def _fixed(uv_px: Float) -> NDArray[np.int32]:
    """Pixels in OpenCV's fixed point; far outside is cut off, where a line would leave the picture anyway."""
    return np.rint(np.clip(uv_px, -4000, 4000) * (1 << _SHIFT)).astype(np.int32)


def colour_map(values: Float) -> NDArray[np.uint8]:
    """RGB u8 (..., 3) for values (...) from 0 to 1, dark blue to dark red (turbo)."""
    scaled = np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(scaled.reshape(-1, 1), cv2.COLORMAP_TURBO), np.uint8)[:, 0, ::-1].reshape(*scaled.shape, 3)


def draw_trails(picture: Picture, uv_px: Float, visible: NDArray[np.bool_], heat: Float) -> None:
    """Draws where points came from: what stands still pale and under the rest, what moves in colour.

    Args:
        picture: the frame of the last step.
        uv_px: (K, N, 2) the last K positions, NaN allowed.
        visible: (K, N) a step between two visible positions is drawn.
        heat: (N) 0 to 1, the trail's colour; below `STILL` the point stands still.
    """
    known: NDArray[np.bool_] = np.asarray(visible & np.isfinite(uv_px).all(-1), bool)
    points, shade = _fixed(np.nan_to_num(uv_px)), np.rint(_SHADES * heat).astype(int)
    layer = picture.copy()
    # Still points go under moving ones, and half through: there are many more of them.
    for target, moving in ((layer, False), (picture, True)):
        for number in np.unique(shade[(heat >= STILL) == moving]):
            some = np.flatnonzero((shade == number) & ((heat >= STILL) == moving))
            colour = colour_map(np.array(0.3 + 0.55 * number / _SHADES)).tolist() if moving else PALE
            # All of one colour in one call of OpenCV, which takes a tenth of a call per segment; a step is drawn where both its
            # ends are known.
            trail, there = points[:, some], known[:, some]
            both = np.argwhere((there[:-1] & there[1:]).T)
            if len(both):
                segments = np.stack([trail[both[:, 1], both[:, 0]], trail[both[:, 1] + 1, both[:, 0]]], 1)
                cv2.polylines(target, list(segments[:, :, None]), False, colour, 2 if moving else 1, cv2.LINE_AA, _SHIFT)
            for point, seen in zip(trail[-1].tolist(), there[-1].tolist(), strict=True):
                if seen:
                    # Radii count in sixteenths of a pixel, as positions do.
                    cv2.circle(target, point, 36 if moving else 20, colour, -1, cv2.LINE_AA, _SHIFT)
                elif moving:  # hidden, or out of the picture: a ring where the tracker believes it is
                    cv2.circle(target, point, 36, colour, 1, cv2.LINE_AA, _SHIFT)
        if target is layer:
            cv2.addWeighted(layer, 0.5, picture, 0.5, 0, dst=picture)


def draw_skeleton(picture: Picture, keypoints_px: Float, colour: Rgb, *, faint: bool = False) -> None:
    """Draws a hand's 21 keypoints (21, 2) and the bones between those that are not NaN; ``faint`` for interpolated frames."""
    known: NDArray[np.bool_] = np.asarray(np.isfinite(keypoints_px).all(1))
    points = _fixed(np.nan_to_num(keypoints_px))
    layer = picture.copy() if faint else picture
    for a, b in BONES:
        if known[a] and known[b]:
            cv2.line(layer, points[a].tolist(), points[b].tolist(), colour, 2, cv2.LINE_AA, _SHIFT)
    for point in points[known]:
        cv2.circle(layer, point.tolist(), 40, INK, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(layer, point.tolist(), 40, colour, 1, cv2.LINE_AA, _SHIFT)
    if faint:
        cv2.addWeighted(layer, 0.45, picture, 0.55, 0, dst=picture)


def draw_axes(picture: Picture, T_camera_wrist: Float, K: Float, length_m: float = 0.05) -> None:
    """Draws the wrist frame (4, 4): x red, y green, z blue. Nothing where an end lies behind the camera or is NaN."""
    ends = T_camera_wrist[:3, 3] + np.concatenate([np.zeros((1, 3)), length_m * T_camera_wrist[:3, :3].T])
    uv = project(ends, K)
    if np.isfinite(uv).all():
        origin, *tips = _fixed(uv).tolist()
        for tip, colour in zip(tips, AXIS_COLOURS, strict=True):
            cv2.arrowedLine(picture, origin, tip, colour, 2, cv2.LINE_AA, _SHIFT, 0.25)


@lru_cache(maxsize=2)
def hatching(height: int, width: int, step_px: int = 8) -> Picture:
    """Diagonal grey lines, what "not known" looks like; kept, so read-only."""
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % step_px
    picture = np.where((diagonal < 2)[..., None], HATCH, PAPER).astype(np.uint8)
    picture.flags.writeable = False  # one picture for every caller
    return picture


def depth_picture(depth: Float, near_far: tuple[float, float]) -> Picture:
    """z-depth (H, W) in colour by its inverse, near warm and far cold; 0 is hatched."""
    near, far = 1 / near_far[0], 1 / near_far[1]
    z = depth.astype(np.float32)
    unknown = z <= 0
    z[unknown] = 1
    picture = colour_map((1 / z - far) / (near - far))
    picture[unknown] = hatching(*z.shape)[unknown]
    return picture


def scale_bar(height: int, width: int, near_far: tuple[float, float] | None, unit: str) -> Picture:
    """A strip (height, width) with the colours of `depth_picture`, six figures beside them and the unit; bare without depth."""
    strip = np.full((height, width, 3), PAPER, np.uint8)
    if near_far is None:
        return strip
    near, far = 1 / near_far[0], 1 / near_far[1]
    top, bottom = 32, height - 14
    strip[top:bottom, 8:22] = colour_map(np.linspace(0, 1, bottom - top))[:, None]
    for share in np.linspace(0, 1, 6):
        row = round(top + share * (bottom - 1 - top))
        cv2.line(strip, (22, row), (26, row), INK, 1)
        write(strip, f"{1 / (far + share * (near - far)):.2f}", (30, row + 4), 0.36)
    for line, text in enumerate(unit.split(" ", 1)):
        write(strip, text, (6, 12 + 13 * line), 0.34)
    return strip


def strip(excess: Float, width_px: int, height_px: int = 8) -> Picture:
    """A strip (height, width) over all frames: green within half the limits, amber up to them, red beyond, grey where not measured.

    Args:
        excess: (T) per frame, 1 at the limit, NaN where nothing was measured.
        width_px, height_px: of the strip.
    """
    bounds = np.linspace(0, len(excess), width_px + 1)
    worst = [np.fmax.reduce(excess[int(a) : max(int(a) + 1, int(np.ceil(b)))]) for a, b in pairwise(bounds)]
    colours = [HATCH if np.isnan(x) else (60, 150, 80) if x <= 0.5 else (222, 165, 40) if x <= 1 else ALARM for x in worst]
    return np.broadcast_to(np.array(colours, np.uint8), (height_px, width_px, 3)).copy()


def write(
    picture: Picture, text: str, at: tuple[int, int], size: float = 0.42, colour: Rgb = INK, *, outlined: bool = False
) -> None:
    """Writes ASCII text with its baseline's left end ``at`` (x, y); ``outlined`` on pictures, where it must stand out."""
    plain = text.encode("ascii", "replace").decode()
    # Not by a thicker pen: since OpenCV 5 that is a wider font, and the letters lie beside their outlines.
    for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1)) if outlined else ():
        cv2.putText(picture, plain, (at[0] + dx, at[1] + dy), cv2.FONT_HERSHEY_SIMPLEX, size, PAPER, 1, cv2.LINE_AA)
    cv2.putText(picture, plain, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def text_width(text: str, size: float = 0.42) -> int:
    """Pixels that `write` takes in x."""
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0])
