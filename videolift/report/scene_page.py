"""One video in 3D as one HTML file that needs no install and no network: points, trails, depth cloud, camera path, hands.

Windows are laid end to end, so that every frame belongs to one; positions are 16-bit steps of the scene's extent. The page draws
with ogl (public domain), which is bundled in ``assets``.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts.tracks import Window
from videolift.errors import ConfigError
from videolift.geometry import Float, invert_pose, transform, unproject
from videolift.paths import Layout
from videolift.report.draw import BONES, STILL
from videolift.report.html_page import fill_page
from videolift.report.preview import HOT, motion_heat
from videolift.report.video_scene import VideoScene, open_scene
from videolift.store import write_text

MAX_POINTS, MAX_WINDOWS, CLOUD_SIDE = 3000, 40, 96
"""Points per window, windows, and depth pixels per side of a cloud that a page takes; more would make it larger than 20 MB."""
_STEPS = 32000


def write_scene_page(output: Path, video: str) -> Path:
    """Writes ``scenes/{video}.html`` in the report's folder and returns its path.

    Raises:
        ConfigError: nothing is known of that video, or it has no depth.
        CorruptFile: a file fails its checks.
        Transient: disk full, quota or I/O error.
    """
    path = Layout(output).scene_page(video)
    with open_scene(output, video) as scene:
        write_text(path, fill_page("scene3d", scene_content(scene), library="ogl.min.js"))
    return path


@dataclass(frozen=True)
class _Tile:
    """One window in the view: xyz (L, N, 3), visible (L, N), heat (N) 0 to 1; cloud (C, 3) with colours u8 (C, 3), image JPEG."""

    start: int
    xyz_view: Float
    visible: NDArray[np.bool_]
    heat: Float
    cloud_view: Float
    cloud_rgb: NDArray[np.uint8]
    image: bytes

    @classmethod
    def of(cls, scene: VideoScene, number: int, T_view_camera: Float) -> _Tile:
        assert scene.K is not None
        window: Window = scene.window(number)
        # Evenly: points lie in rows of the first image, so the first so many would show its top alone.
        some = np.unique(np.linspace(0, max(0, window.xyz_cam0.shape[1] - 1), MAX_POINTS).astype(int))[: window.xyz_cam0.shape[1]]
        T_view_cam0 = T_view_camera[window.start]
        xyz_view = transform(T_view_cam0, window.xyz_cam0[:, some].astype(np.float64))
        visible = (window.visible & window.valid3d)[:, some] & np.isfinite(xyz_view).all(-1)
        rgb, depth = scene.rgb(window.start), scene.depth(window.start)
        stride = max(1, -(-depth.shape[0] // CLOUD_SIDE))
        row, column = np.nonzero(depth[::stride, ::stride] > 0)
        row, column = row * stride, column * stride
        z = depth[row, column].astype(np.float64)
        cloud = transform(T_view_cam0, unproject(np.stack([column, row], -1), z, scene.K))
        known = np.isfinite(cloud).all(-1)
        small = cv2.resize(rgb, (256, round(256 * rgb.shape[0] / rgb.shape[1])), interpolation=cv2.INTER_AREA)
        image = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
        heat = motion_heat(window)[some]
        return cls(
            window.start,
            xyz_view,
            visible,
            heat=heat,
            cloud_view=cloud[known],
            cloud_rgb=rgb[row, column][known],
            image=image,
        )


@dataclass
class _Packer:
    """Arrays end to end in one blob, each aligned to four bytes."""

    data: bytearray = field(default_factory=bytearray)
    arrays: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def add(self, name: str, array: NDArray[Any]) -> None:
        self.data += bytes(-len(self.data) % 4)
        self.arrays[name] = array.dtype.str[1:], array.size, len(self.data)
        self.data += np.ascontiguousarray(array).tobytes()

    def add_scene(
        self, scene: VideoScene, tiles: list[_Tile], T_view_camera: Float, *, center: Float, unit_per_step: float
    ) -> list[Mapping[str, object]]:
        """Packs windows, poses and hands; returns where each window's arrays begin."""

        def steps(view: Float) -> NDArray[np.int16]:
            scaled = np.nan_to_num((view - center) / unit_per_step)
            return np.rint(np.clip(scaled, -32767, 32767)).astype(np.int16)

        listed: list[Mapping[str, object]] = []
        at = heat_at = cloud_at = 0
        for tile in tiles:
            length, points = tile.visible.shape
            about = {"start": tile.start, "points": points, "at": at, "heat_at": heat_at, "cloud": len(tile.cloud_view)}
            middle = np.median(tile.cloud_view, axis=0).tolist() if len(tile.cloud_view) else None
            about |= {"middle": middle}  # what the view follows: a camera that walks leaves its first view within seconds
            listed.append(about | {"cloud_at": cloud_at, "image": base64.b64encode(tile.image).decode()})
            at, heat_at, cloud_at = at + length * points, heat_at + points, cloud_at + len(tile.cloud_view)
        # With an empty array first, since `concatenate` refuses a list of none.
        none, no_colour = np.empty((0, 3)), np.empty((0, 3), np.uint8)
        self.add("xyz", steps(np.concatenate([none, *(tile.xyz_view.reshape(-1, 3) for tile in tiles)])))
        self.add("visible", np.concatenate([*(tile.visible.ravel() for tile in tiles), np.empty(0, bool)]).astype(np.uint8))
        self.add("heat", np.concatenate([*(np.rint(255 * tile.heat) for tile in tiles), np.empty(0)]).astype(np.uint8))
        self.add("cloud_xyz", steps(np.concatenate([none, *(tile.cloud_view for tile in tiles)])))
        self.add("cloud_rgb", np.concatenate([no_colour, *(tile.cloud_rgb for tile in tiles)]))
        self.add("poses", T_view_camera.astype(np.float32))
        # Hands are in metres: beside depth in another unit they would lie about both.
        if scene.hands is not None and scene.worth["scale"] != "arbitrary":
            joints = np.stack([transform(T, xyz) for T, xyz in zip(T_view_camera, scene.hands.joints_camera, strict=True)])
            wrists = T_view_camera[:, None] @ scene.hands.T_camera_wrist.astype(np.float64)
            self.add("joints", joints.astype(np.float32))
            self.add("wrists", wrists.astype(np.float32))
            self.add("interpolated", scene.hands.interpolated.astype(np.uint8))
        return listed


def scene_content(scene: VideoScene) -> dict[str, object]:
    """What the page shows, as JSON can hold it.

    Raises:
        ConfigError: the video has no depth, so that nothing has a place.
    """
    if scene.T_camera_world is None or scene.K is None:
        raise ConfigError(
            f"{scene.video} has no depth, so nothing has a place in 3D: `videolift preview {scene.video}` draws it flat"
        )
    T_view_camera = in_first_cameras(scene.T_camera_world, scene.shot)
    if not np.isfinite(T_view_camera).any():
        raise ConfigError(f"{scene.video} has no camera pose in any frame, so nothing has a place in 3D")
    starts, note = _chosen_windows(scene)
    tiles = [_Tile.of(scene, number, T_view_camera) for number in starts]
    centers = T_view_camera[np.isfinite(T_view_camera).all((1, 2)), :3, 3]
    everything = np.concatenate([centers, *(tile.cloud_view for tile in tiles)])
    # A few points far away would shrink the rest to a dot.
    low, high = np.percentile(everything, [3, 97], axis=0)
    center, extent = (low + high) / 2, float(max(np.max(high - low), 1e-3))
    # Positions are 16-bit numbers that reach four extents to either side; what lies farther out is cut off there.
    unit_per_step = 4 * extent / _STEPS
    distance = float(np.median(tiles[0].cloud_view[:, 2])) if tiles and len(tiles[0].cloud_view) else extent
    packer = _Packer()
    listed = packer.add_scene(scene, tiles, T_view_camera, center=center, unit_per_step=unit_per_step)
    return {
        "video": scene.video,
        "worth": dict(scene.worth),
        "unit": scene.unit,
        "note": note,
        "frames": len(scene),
        "fps": scene.fps,
        "seconds": [round(float(second), 3) for second in scene.pts_seconds],
        "length": scene.window_length,
        "shots": scene.shot.tolist(),
        "K": [scene.K[0, 0], scene.K[1, 1], scene.K[0, 2], scene.K[1, 2], *scene.size_px],
        "bones": BONES,
        "still": STILL,
        "hot": HOT,
        "tiles": listed,
        "points": max((tile.xyz_view.shape[1] for tile in tiles), default=0),
        "cloud_most": max((len(tile.cloud_view) for tile in tiles), default=0),
        "center": center.tolist(),
        "extent": extent,
        "unit_per_step": unit_per_step,
        # A little above and behind the first camera: the page opens as the image looks.
        "eye": [0.0, -0.3 * distance, -0.6 * distance],
        "target": [0.0, 0.0, distance],
        "arrays": packer.arrays,
        "blob": base64.b64encode(bytes(packer.data)).decode(),
    }


def in_first_cameras(T_camera_world: Float, shot: NDArray[np.int32]) -> Float:
    """``T_view_camera`` (T, 4, 4): the view is the first camera of the frame's shot, so that it opens as the image looks.

    Shots have worlds of their own, so each is seen from its own first camera and never beside another.
    """
    T_view_camera = np.full(T_camera_world.shape, np.nan)
    for number in np.unique(shot):
        mine = shot == number
        known = np.flatnonzero(mine & np.isfinite(T_camera_world).all((1, 2)))
        if len(known):
            T_view_camera[mine] = T_camera_world[known[0]] @ invert_pose(T_camera_world[mine])
    return T_view_camera


def _chosen_windows(scene: VideoScene) -> tuple[list[int], str]:
    """Windows that lie end to end, at most `MAX_WINDOWS`, and a note where that is not all of the video."""
    chosen: list[int] = []
    reached = -1
    for number, start in enumerate(scene.window_start.tolist()):
        if start > reached:
            chosen.append(number)
            reached = start + scene.window_length - 1
    if len(chosen) <= MAX_WINDOWS:
        return chosen, ""
    some = np.linspace(0, len(chosen) - 1, MAX_WINDOWS).round().astype(int)
    return [chosen[k] for k in some], f"{MAX_WINDOWS} of {len(chosen)} windows, evenly over the video"
