"""A .rrd file for the rerun viewer: camera, image, depth, tracks and hands of one video in 3D over time, a scene per shot.

Poses of two shots cannot be compared, so each shot of a video with cuts has a root entity and a view of its own (``shot_1``, ...);
a video of one shot has ``world``. Needs rerun-sdk (`pip install 'videolift[view]'`), imported only here and only when used. Rerun
counts pixels from the corner of the image, so half a pixel is added at this border. Lengths keep the depth's unit; with an
arbitrary one hands stay in the image.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import SIDES
from videolift.artifacts.tracks import Window
from videolift.errors import ConfigError
from videolift.geometry import Float, invert_pose, transform
from videolift.report import draw
from videolift.report.preview import MAX_TRAILS, Trails, motion_heat
from videolift.report.video_scene import VideoScene, open_scene
from videolift.store import atomic_file

_HAND_COLOURS = dict(zip(SIDES, (draw.LEFT, draw.RIGHT), strict=True))
_AXIS_M = 0.05


def write_rerun(output: Path, video: str, path: Path) -> Path:
    """Writes the recording of ``video`` to ``path`` and returns it.

    Raises:
        ConfigError: rerun-sdk is not installed, or nothing is known of that video.
        CorruptFile: a file fails its checks.
        Transient: disk full, quota or I/O error.
    """
    rerun = import_rerun()
    with open_scene(output, video) as scene, atomic_file(path) as temporary:
        stream = rerun.RecordingStream("videolift", recording_id=video)
        stream.save(temporary)
        log_scene(rerun, stream, scene)
        stream.flush()
        # Only then is the file whole, and may be renamed.
        stream.disconnect()
    return path


def open_viewer(output: Path, video: str, *, web: bool = False) -> None:
    """Shows ``video`` in the rerun viewer's window, or in a web browser until the program is interrupted.

    Raises:
        ConfigError: as `write_rerun`.
        CorruptFile: a file fails its checks.
    """
    rerun = import_rerun()
    with open_scene(output, video) as scene:
        stream = rerun.RecordingStream("videolift", recording_id=video)
        if web:
            rerun.serve_web_viewer(open_browser=True, connect_to=stream.serve_grpc())
        else:
            stream.spawn()
        log_scene(rerun, stream, scene)
        stream.flush()
    with suppress(KeyboardInterrupt):
        while web:  # the server is a thread of this process and ends with it
            time.sleep(3600)


def import_rerun() -> Any:
    """The module ``rerun``.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise ConfigError("the rerun viewer is not installed: pip install 'videolift[view]' (or pip install rerun-sdk)") from error
    return rerun


def log_scene(rerun: Any, stream: Any, scene: VideoScene) -> None:
    """Sends all frames of ``scene`` to a recording stream."""
    logger = _Logger(rerun, stream, scene)
    logger.send_views()
    for frame, seconds in enumerate(scene.pts_seconds):
        stream.set_time("frame", sequence=frame)
        stream.set_time("pts", duration=float(seconds))
        logger.log_frame(frame)


def shot_roots(shot: NDArray[np.int32]) -> list[str]:
    """The root entity of every frame, from the shots (T) of a scene: ``world`` where there is one shot, else ``shot_1``, ...

    A frame between two shots, which has no pose, goes with the shot before it.
    """
    if shot.max(initial=0) < 1:
        return ["world"] * len(shot)
    # the highest number so far: -1 keeps the last, and a fade at the very start goes with the first shot
    return [f"shot_{number + 1}" for number in np.maximum(np.maximum.accumulate(shot), 0)]


class _Logger:
    def __init__(self, rerun: Any, stream: Any, scene: VideoScene) -> None:
        self.rerun, self.stream, self.scene = rerun, stream, scene
        self.trails = Trails(scene)
        self.T_world_camera = None if scene.T_camera_world is None else invert_pose(scene.T_camera_world)
        self.roots = shot_roots(scene.shot)
        self.root = self.roots[0]

    def send_views(self) -> None:
        """One 3D view and one image per shot, and the scores: the viewer's own guess would draw all shots in one space."""
        views, roots = self.rerun.blueprint, list(dict.fromkeys(self.roots))
        shots = [
            views.Horizontal(
                views.Spatial3DView(origin=f"/{root}", name=f"{root} in 3D"),
                views.Spatial2DView(origin=f"/{root}/camera", name=f"{root} image"),
                name=root,
            )
            for root in roots
        ]
        scores = views.TimeSeriesView(origin="/scores", name="scores")
        parts = [views.Tabs(*shots) if len(shots) > 1 else shots[0], scores]
        self.stream.send_blueprint(views.Blueprint(views.Vertical(*parts, row_shares=[3, 1])))
        if self.scene.K is not None:
            pinhole = self.rerun.Pinhole(
                image_from_camera=self.scene.K + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]],
                resolution=list(self.scene.size_px),
                image_plane_distance=0.1,
            )
            for root in roots:
                self.stream.log(f"{root}/camera", pinhole, static=True)

    def log_frame(self, frame: int) -> None:
        rerun, log, scene = self.rerun, self.stream.log, self.scene
        if self.roots[frame] != self.root:
            # Rerun shows the last thing logged until it is told otherwise
            log(self.root, rerun.Clear(recursive=True))
            self.root = self.roots[frame]
        log(f"{self.root}/camera/rgb", rerun.Image(scene.rgb(frame)).compress(jpeg_quality=90))
        for side, name in enumerate(SIDES if scene.hands is not None else ()):
            assert scene.hands is not None
            keypoints = scene.hands.keypoints_px[frame, side] + 0.5
            known = keypoints[np.isfinite(keypoints).all(1)]
            log(f"{self.root}/camera/keypoints/{name}", rerun.Points2D(known, colors=_HAND_COLOURS[name], radii=2.0))
        for name, values in scene.quality.items():
            if np.isfinite(values[frame]):
                log(f"scores/{name}", rerun.Scalars(float(values[frame])))
        if self.T_world_camera is None:
            return
        log(f"{self.root}/camera/depth", rerun.DepthImage(scene.depth(frame), meter=1.0))
        T_world_camera = self.T_world_camera[frame]
        # Without a pose there is no place for either, and the viewer would go on showing those of the frame before.
        if not np.isfinite(T_world_camera).all():
            for entity in ("tracks", "hands"):
                log(f"{self.root}/{entity}", rerun.Clear(recursive=True))
            return
        log(f"{self.root}/camera", rerun.Transform3D(translation=T_world_camera[:3, 3], mat3x3=T_world_camera[:3, :3]))
        number = scene.window_of(frame)
        if number is None:
            log(f"{self.root}/tracks", rerun.Clear(recursive=True))
        else:
            window = self.trails.window(number)
            points, colours, paths = world_tracks(window, frame - window.start, self.T_world_camera[window.start])
            log(f"{self.root}/tracks/points", rerun.Points3D(points, colors=colours))
            log(f"{self.root}/tracks/paths", rerun.LineStrips3D(paths, colors=[draw.INK] * len(paths)))
        # Hands are in metres, the scene is not: side by side they would lie about both.
        if scene.worth["scale"] == "arbitrary":
            return
        for side, name in enumerate(SIDES if scene.hands is not None else ()):
            assert scene.hands is not None
            joints = transform(T_world_camera, scene.hands.joints_camera[frame, side])
            measured: NDArray[np.bool_] = np.asarray(np.isfinite(joints).all(1))
            bones = [joints[[a, b]] for a, b in draw.BONES if measured[a] and measured[b]]
            entity = f"{self.root}/hands/{name}"
            log(f"{entity}/joints", rerun.Points3D(joints[measured], colors=_HAND_COLOURS[name], radii=0.004))
            log(f"{entity}/bones", rerun.LineStrips3D(bones, colors=[_HAND_COLOURS[name]] * len(bones)))
            if not scene.hands.valid[frame, side]:
                log(f"{entity}/wrist", rerun.Clear(recursive=False))
                continue
            T = T_world_camera @ scene.hands.T_camera_wrist[frame, side]
            axes = rerun.Arrows3D(vectors=_AXIS_M * T[:3, :3].T, origins=[T[:3, 3]] * 3, colors=draw.AXIS_COLOURS)
            log(f"{entity}/wrist", axes)


def world_tracks(window: Window, step: int, T_world_cam0: Float) -> tuple[Float, NDArray[np.uint8], list[Float]]:
    """Points (n, 3) that are visible at ``step`` with their colours (n, 3), and the paths of those that moved, in the world."""
    count = window.xyz_cam0.shape[1]
    some = np.unique(np.linspace(0, count - 1, min(count, 4 * MAX_TRAILS)).astype(int))
    world = transform(T_world_cam0, window.xyz_cam0[: step + 1, some].astype(np.float64))
    usable = (window.visible & window.valid3d)[: step + 1, some] & np.isfinite(world).all(-1)
    heat = motion_heat(window)[some]
    colours = np.where(heat[:, None] < draw.STILL, draw.PALE, draw.colour_map(0.3 + 0.55 * heat)).astype(np.uint8)
    moving = np.flatnonzero((heat >= draw.STILL) & usable[-1])
    return world[-1, usable[-1]], colours[usable[-1]], [world[usable[:, n], n] for n in moving]
