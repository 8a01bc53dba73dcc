"""A video and a poster of what was found: RGB with trails and hands on the left, depth with its scale on the right, a caption.

Turns the artifacts of one video into an mp4 and a PNG, a few frames in memory at a time. What is missing is left out; what is
invalid is hatched. Trails show each point's last steps in the image, coloured by how far it moved in the world over its window,
so that a still point that looks warm gives a wrong depth or pose away.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from videolift.artifacts import Hands, Tracks
from videolift.artifacts.tracks import Window
from videolift.geometry import Float
from videolift.h264 import H264Writer
from videolift.paths import Layout
from videolift.report import draw
from videolift.report.findings import TIERS, UNITS, Findings
from videolift.store import atomic_file

MOST_TRAILS, TRAIL_STEPS = 900, 6
HOT = 0.2
"""World motion over a window, as a share of the distance, from which a trail is shown in the hottest colour."""
BAR_PX, CAPTION_PX, LEAST_PX = 76, 44, 120
"""Width of the scale, height of the caption, and the height from which a clip is not shown enlarged."""


def write_preview(output: Path, video: str, *, folder: Path | None = None) -> tuple[Path, Path]:
    """Writes ``{video}.mp4`` and the poster ``{video}.png``.

    Args:
        output: an output folder with the clip and any of depth, tracks and hands.
        video: its id.
        folder: where to write; None for ``previews`` in the output folder.

    Returns:
        The paths of the video and of the poster.

    Raises:
        ConfigError: there is no clip of that name.
        CorruptFile: an artifact fails its checks.
        Transient: disk full, quota or I/O error.
    """
    folder = Layout(output).previews if folder is None else folder
    movie, poster = folder / f"{video}.mp4", folder / f"{video}.png"
    with Findings.open(output, video) as found:
        painter = Painter(found)
        shown = poster_frame(found)
        with atomic_file(movie) as temporary, H264Writer(temporary, painter.size_px, found.clip.fps, crf=20) as file:
            for frame in range(len(found.clip)):
                picture = painter.paint(frame)
                file.write(picture)
                if frame == shown:
                    write_png(poster, picture)
    return movie, poster


def write_png(path: Path, rgb: draw.Picture) -> None:
    """Publishes a picture."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())


def poster_frame(found: Findings) -> int:
    """The frame with a valid hand nearest to two thirds of the clip, where hands have usually reached what they are after."""
    late = len(found.clip) * 2 // 3
    if found.hands is None or not found.hands.valid.any():
        return late
    frames = np.flatnonzero(found.hands.valid.any(1))
    return int(frames[np.abs(frames - late).argmin()])


class Painter:
    """Paints frames of one video; `size_px` is (W, H) of every picture."""

    def __init__(self, found: Findings) -> None:
        self.found = found
        self._zoom = -(-LEAST_PX // found.clip.height)
        width, height = self._zoom * found.clip.width, self._zoom * found.clip.height
        self.size_px = _even(2 * width + BAR_PX), _even(height + CAPTION_PX)
        self._range = depth_range(found)
        self._trails = None if found.tracks is None else Trails(found.tracks)
        self._hands = None if found.hands is None else _HandArrays(found.hands)
        unit = "" if found.depth is None else UNITS[found.depth.scale]
        self._bar = draw.scale_bar(height, BAR_PX, self._range, unit)
        self._pts_seconds = found.clip.pts_seconds

    def paint(self, frame: int) -> draw.Picture:
        """The whole picture of one frame, RGB u8."""
        left = np.ascontiguousarray(self.found.clip[frame])
        if self._trails is not None:
            self._trails.draw(left, frame)
        if self._hands is not None:
            self._hands.draw(left, frame, None if self.found.depth is None else self.found.depth.K)
        right = self._depth(frame, *left.shape[:2])
        left, right = (picture.repeat(self._zoom, 0).repeat(self._zoom, 1) for picture in (left, right))
        canvas = np.full((self.size_px[1], self.size_px[0], 3), draw.PAPER, np.uint8)
        height, width = left.shape[:2]
        canvas[:height, :width] = left
        canvas[:height, width : 2 * width] = right
        canvas[:height, 2 * width : 2 * width + BAR_PX] = self._bar
        self._caption(canvas, frame, height)
        return canvas

    def _depth(self, frame: int, height: int, width: int) -> draw.Picture:
        if self.found.depth is not None and self._range is not None:
            return draw.depth_picture(self.found.depth[frame], self._range)
        panel = draw.hatching(height, width)
        draw.write(panel, "no depth", (10, 20))
        return panel

    def _caption(self, canvas: draw.Picture, frame: int, top: int) -> None:
        depth = self.found.depth
        first = self.found.video
        if depth is not None:
            first += f"   tier {TIERS[depth.tier]}   scale {depth.scale}   pose {depth.attrs['pose']}"
        second = "   ".join(f"{stage}: {backend}" for stage, backend in self.found.backends.items())
        draw.write(canvas, first, (8, top + 17))
        draw.write(canvas, second, (8, top + 36), 0.38)
        clock = f"{self._pts_seconds[frame]:.2f} s   frame {frame}"
        draw.write(canvas, clock, (self.size_px[0] - draw.text_width(clock, 0.38) - 8, top + 36), 0.38)
        if self._hands is not None:
            x = self.size_px[0] - 8
            for name, colour in (("right hand", draw.RIGHT), ("left hand", draw.LEFT)):
                x -= draw.text_width(name, 0.38) + 12
                draw.write(canvas, name, (x, top + 17), 0.38, colour)


class Trails:
    """Which window to show at a frame, and its points' last steps."""

    def __init__(self, tracks: Tracks) -> None:
        self.tracks = tracks
        self.starts = tracks.window_start
        self._number = -1
        self._window: Window | None = None

    def draw(self, picture: draw.Picture, frame: int) -> None:
        """Draws the trails that end at ``frame``."""
        number = self.number(frame)
        if number is None:
            return
        window = self.window(number)
        step, count = frame - window.start, window.xyz_cam0.shape[1]
        some = np.unique(np.linspace(0, count - 1, min(count, MOST_TRAILS)).astype(int))
        steps = np.arange(max(0, step - TRAIL_STEPS), step + 1)[:, None]
        draw.draw_trails(picture, window.uv_px[steps, some], window.visible[steps, some], motion_heat(window)[some])

    def window(self, number: int) -> Window:
        """A window by its number; the last one asked for is kept."""
        if number != self._number or self._window is None:
            self._number, self._window = number, self.tracks[number]
        return self._window

    def number(self, frame: int) -> int | None:
        """The window with the longest past that still holds ``frame``; None where no window does."""
        length = int(self.tracks.attrs["window_length"])
        inside = np.flatnonzero((self.starts <= frame) & (frame < self.starts + length))
        return int(inside[0]) if len(inside) else None


def motion_heat(window: Window) -> Float:
    """(N) 0 to 1: how far each point moved in the world over the window relative to its distance. 0 where depth is unknown."""
    xyz = window.xyz_cam0[: window.frames_tracked].astype(np.float64)
    moved = np.linalg.norm(xyz - xyz[:1], axis=-1)
    trusted = window.visible[: window.frames_tracked] & window.valid3d[: window.frames_tracked] & np.isfinite(moved)
    farthest = np.where(trusted, moved, 0.0).max(0)
    distance = np.linalg.norm(xyz[0], axis=-1)
    return np.clip(np.divide(farthest, distance * HOT, out=np.zeros_like(distance), where=distance > 0), 0, 1)


class _HandArrays:
    def __init__(self, hands: Hands) -> None:
        self.keypoints_px, self.valid, self.interpolated = hands.keypoints_px, hands.valid, hands.interpolated
        self.T_camera_wrist = hands.T_camera_wrist

    def draw(self, picture: draw.Picture, frame: int, K: Float | None) -> None:
        for side, colour in enumerate((draw.LEFT, draw.RIGHT)):
            draw.draw_skeleton(picture, self.keypoints_px[frame, side], colour, faint=bool(self.interpolated[frame, side]))
            if K is not None and self.valid[frame, side]:
                draw.draw_axes(picture, self.T_camera_wrist[frame, side].astype(np.float64), K)


def depth_range(found: Findings, samples: int = 9) -> tuple[float, float] | None:
    """Near and far end of the colours: percentiles 1 and 98 of valid depth over a few frames; None without valid depth."""
    if found.depth is None:
        return None
    frames = np.unique(np.linspace(0, len(found.depth) - 1, samples).astype(int))
    known = np.concatenate([z[z > 0] for z in (found.depth[int(k)][::4, ::4] for k in frames)]).astype(np.float64)
    if not len(known):
        return None
    near, far = np.percentile(known, [1, 98])
    return float(near), float(max(far, near * 1.01))


def _even(length: int) -> int:
    return length + length % 2
