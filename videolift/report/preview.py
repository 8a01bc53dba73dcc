"""A video and a poster of what was found: the image with tracks and hands on the left, depth with its scale on the right.

Below them stand the hands' states, where the depth comes from, time and shot, and a strip over the whole video that is red where a
score lies beyond its limit and broken at cuts. Frames are drawn and encoded one by one. What is missing is left out, what is
invalid is hatched. Trails show each point's last steps, coloured by how far it moved in the world over its window, so that a
still point that looks warm gives a wrong depth or pose away.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import SIDES
from videolift.artifacts.tracks import Window
from videolift.geometry import Float
from videolift.h264 import H264Writer
from videolift.paths import Layout
from videolift.report import draw
from videolift.report.attention import frame_excess, worst_spans
from videolift.report.video_scene import TIERS, VideoScene, open_scene
from videolift.stage_table import PACKAGING, SOURCE
from videolift.store import atomic_file

MAX_TRAILS, TRAIL_STEPS = 900, 6
HOT = 0.2
"""World motion over a window, as a share of the distance, from which a trail is shown in the hottest colour."""
BAR_PX, CAPTION_PX, MIN_PX = 76, 64, 360
"""Width of the scale, height of what stands below, and the height up to which a clip is shown enlarged."""
POSTER_PX = 480
"""Width of a poster."""


def write_preview(output: Path, video: str, *, folder: Path | None = None, most_seconds: float | None = None) -> tuple[Path, Path]:
    """Writes ``{video}.mp4`` and the poster ``{video}.jpg``.

    Args:
        output: an output folder with a packaged file, or a clip and any of depth, tracks and hands.
        video: its id.
        folder: where to write; None for the report's folder of previews.
        most_seconds: of a longer video only so much is drawn, around the frame of the poster; None draws all.

    Returns:
        The paths of the video and of the poster.

    Raises:
        ConfigError: nothing is known of that video.
        CorruptFile: a file fails its checks.
        Transient: disk full, quota or I/O error.
    """
    folder = Layout(output).previews if folder is None else folder
    movie, poster = folder / f"{video}.mp4", folder / f"{video}.jpg"
    with open_scene(output, video) as scene:
        painter = Painter(scene)
        shown = poster_frame(scene)
        with atomic_file(movie) as temporary, H264Writer(temporary, painter.size_px, scene.fps, crf=23, preset="veryfast") as file:
            count = len(scene) if most_seconds is None else min(len(scene), max(1, round(most_seconds * scene.fps)))
            start = min(max(0, shown - count // 2), len(scene) - count)
            # One frame is in memory at a time: a preview of an hour takes no more than one of a second.
            for frame in range(start, start + count):
                picture = painter.paint(frame)
                file.write(picture)
                if frame == shown:
                    still = poster_jpeg(picture)
    with atomic_file(poster) as temporary:
        temporary.write_bytes(still)
    return movie, poster


def is_preview_fresh(layout: Layout, video: str) -> bool:
    """True if there is a preview of ``video`` that is newer than what it shows."""
    source = next((path for path in (layout.artifact(PACKAGING, video), layout.artifact(SOURCE, video)) if path.exists()), None)
    preview = layout.previews / f"{video}.mp4"
    return source is not None and preview.exists() and preview.stat().st_mtime_ns > source.stat().st_mtime_ns


def poster_jpeg(rgb: draw.Picture) -> bytes:
    """A small JPEG of a painted frame."""
    size = POSTER_PX, round(rgb.shape[0] * POSTER_PX / rgb.shape[1])
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()


def poster_frame(scene: VideoScene) -> int:
    """The worst frame where one lies beyond a limit, else one with a hand, late, where hands have usually reached their object."""
    worst = worst_spans(scene.quality, len(scene), scene.fps)
    if worst:
        # The middle, since a span begins and ends within its limit
        return (worst[0].start + worst[0].stop) // 2
    late = len(scene) * 2 // 3
    if scene.hands is None or not scene.hands.valid.any():
        return late
    frames = np.flatnonzero(scene.hands.valid.any(1))
    return int(frames[np.abs(frames - late).argmin()])


class Painter:
    """Paints frames of one video; `size_px` is (W, H) of every picture."""

    def __init__(self, scene: VideoScene) -> None:
        self.scene = scene
        self.zoom = -(-MIN_PX // scene.size_px[1])
        width, height = self.zoom * scene.size_px[0], self.zoom * scene.size_px[1]
        self.size_px = _even(2 * width + BAR_PX), _even(height + CAPTION_PX)
        self._range = depth_range(scene)
        self._trails = Trails(scene)
        self._bar = draw.scale_bar(height, BAR_PX, self._range, scene.unit)
        self._worst = worst_spans(scene.quality, len(scene), scene.fps)
        self._strip = draw.strip(frame_excess(scene.quality, len(scene)), self.size_px[0] - 16)
        for cut in np.flatnonzero(np.diff(scene.shot)) + 1:
            self._strip[:, self._column(int(cut))] = draw.PAPER

    def paint(self, frame: int) -> draw.Picture:
        """The whole picture of one frame, RGB u8."""
        scene, zoom = self.scene, self.zoom
        left = scene.rgb(frame)
        if zoom > 1:
            left = np.asarray(cv2.resize(left, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR), np.uint8)
        self._trails.draw(left, frame, zoom)
        # Pixel centres are integers, so an enlarged pixel's centre lies half a pixel off.
        enlarge = np.array([[zoom, 0, zoom / 2 - 0.5], [0, zoom, zoom / 2 - 0.5], [0, 0, 1]])
        hands = scene.hands
        for side, colour in enumerate((draw.LEFT, draw.RIGHT) if hands is not None else ()):
            assert hands is not None
            keypoints = (hands.keypoints_px[frame, side].astype(np.float64) + 0.5) * zoom - 0.5
            draw.draw_skeleton(left, keypoints, colour, faint=bool(hands.interpolated[frame, side]))
            if scene.K is not None and hands.valid[frame, side]:
                draw.draw_axes(left, hands.T_camera_wrist[frame, side].astype(np.float64), enlarge @ scene.K)
        height, width = left.shape[:2]
        if self._range is not None:
            # By whole pixels: interpolated depth would show surfaces between near and far that nothing measured.
            right = draw.depth_picture(scene.depth(frame), self._range).repeat(zoom, 0).repeat(zoom, 1)
        else:
            right = draw.hatching(height, width).copy()
            draw.write(right, "no depth", (10, 20))
        canvas = np.full((self.size_px[1], self.size_px[0], 3), draw.PAPER, np.uint8)
        canvas[:height, :width] = left
        canvas[:height, width : 2 * width] = right
        canvas[:height, 2 * width : 2 * width + BAR_PX] = self._bar
        for span in self._worst:
            if span.start <= frame < span.stop:
                cv2.rectangle(canvas, (1, 1), (2 * width - 2, height - 2), draw.ALARM, 3)
                draw.write(canvas, span.label, (10, 22), 0.5, draw.ALARM, outlined=True)
        self._caption(canvas, frame, height)
        return canvas

    def _caption(self, canvas: draw.Picture, frame: int, top: int) -> None:
        scene, right = self.scene, self.size_px[0] - 8
        clock = f"{shot_name(scene.shot, frame)}{scene.pts_seconds[frame]:.2f} s   frame {frame}"
        draw.write(canvas, clock, (right - draw.text_width(clock), top + 18))
        worth = (
            f"tier {TIERS[scene.worth['tier']]}   scale {scene.worth['scale']}   pose {scene.worth['pose']}" if scene.worth else ""
        )
        draw.write(canvas, f"{scene.video}   {worth}", (8, top + 18))
        draw.write(canvas, "   ".join(f"{stage}: {name}" for stage, name in scene.backends.items()), (8, top + 38), 0.38)
        x, hands = right, scene.hands
        for side in (1, 0) if hands is not None else ():  # from the right edge, so the left hand's state stands on the left
            assert hands is not None
            method = f" ({hands.method[SIDES[side]]})" if hands.method.get(SIDES[side]) else ""
            state = "interpolated" if hands.interpolated[frame, side] else f"valid{method}" if hands.valid[frame, side] else "none"
            text = f"{SIDES[side]} hand: {state}"
            x -= draw.text_width(text, 0.4) + 14
            draw.write(canvas, text, (x, top + 38), 0.4, (draw.LEFT, draw.RIGHT)[side])
        canvas[top + 48 : top + 56, 8 : 8 + self._strip.shape[1]] = self._strip
        x = 8 + self._column(frame)
        cv2.rectangle(canvas, (x - 1, top + 45), (x + 1, top + 59), draw.INK, -1)

    def _column(self, frame: int) -> int:
        """Where a frame is on the strip over the whole video."""
        return int(round((self._strip.shape[1] - 1) * frame / max(1, len(self.scene) - 1)))


class Trails:
    """The points of the window shown at a frame, and their last steps."""

    def __init__(self, scene: VideoScene) -> None:
        self.scene = scene
        self._number = -1
        self._window: Window | None = None

    def draw(self, picture: draw.Picture, frame: int, zoom: int) -> None:
        """Draws the trails that end at ``frame`` on a picture enlarged by ``zoom``."""
        number = self.scene.window_of(frame)
        if number is None:
            return
        window = self.window(number)
        step, count = frame - window.start, window.xyz_cam0.shape[1]
        some = np.unique(np.linspace(0, count - 1, min(count, MAX_TRAILS)).astype(int))
        steps = np.arange(max(0, step - TRAIL_STEPS), step + 1)[:, None]
        uv_px = (window.uv_px[steps, some].astype(np.float64) + 0.5) * zoom - 0.5
        draw.draw_trails(picture, uv_px, window.visible[steps, some], motion_heat(window)[some])

    def window(self, number: int) -> Window:
        """A window by its number; the last one asked for is kept."""
        if number != self._number or self._window is None:
            self._number, self._window = number, self.scene.window(number)
        return self._window


def shot_name(shot: NDArray[np.int32], frame: int) -> str:
    """Which shot a frame is of, given the shots (T) of all frames; empty where the video has no cut."""
    count = int(shot.max(initial=0)) + 1
    if count == 1:
        return ""
    return f"shot {shot[frame] + 1} of {count}   " if shot[frame] >= 0 else "between shots   "


def motion_heat(window: Window) -> Float:
    """(N) 0 to 1: how far each point moved in the world over the window relative to its distance. 0 where depth is unknown."""
    xyz = window.xyz_cam0[: window.frames_tracked].astype(np.float64)
    moved = np.linalg.norm(xyz - xyz[:1], axis=-1)
    # Where a point that is hidden or without depth went is not known; it must not look as if it moved.
    trusted = window.visible[: window.frames_tracked] & window.valid3d[: window.frames_tracked] & np.isfinite(moved)
    farthest = np.where(trusted, moved, 0.0).max(0)
    distance = np.linalg.norm(xyz[0], axis=-1)
    return np.asarray(np.clip(np.divide(farthest, distance * HOT, out=np.zeros_like(distance), where=distance > 0), 0, 1))


def depth_range(scene: VideoScene, samples: int = 9) -> tuple[float, float] | None:
    """Near and far end of the colours: percentiles 1 and 98 of valid depth over a few frames; None without valid depth."""
    if not scene.has_depth:
        return None
    frames = np.unique(np.linspace(0, len(scene) - 1, samples).astype(int))
    known = np.concatenate([z[z > 0] for z in (scene.depth(int(k))[::4, ::4] for k in frames)]).astype(np.float64)
    if not len(known):
        return None
    # Stray pixels at an edge would take all the colours.
    near, far = np.percentile(known, [1, 98])
    return float(near), float(max(far, near * 1.01))


def _even(length: int) -> int:
    # H.264 with colour at half size (yuv420p) takes even sizes only.
    return length + length % 2
