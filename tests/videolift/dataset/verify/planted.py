"""Wrong labels, one kind each, put into good packaged files: what depends on what is changed is changed with it.

`FAULTS` is a table: what is changed, on which clip, and what verification may call it. ``python -m
tests.videolift.dataset.verify.planted`` plants all of them and prints what was caught; with ``--on FILE`` in a packaged file of
yours.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import h5py
import hdf5plugin  # noqa: F401
import numpy as np

from stages.sample import render
from stages.sample.artifacts import write_truth_artifacts
from videolift.artifacts import Clip, Depth, Hands, Tracks
from videolift.dataset.layout import HAND_WINDOW_FIELDS
from videolift.dataset.package import Packaging, Sources, package
from videolift.dataset.verify.file_checks import FileUnderCheck
from videolift.dataset.verify.image_checks import check_images
from videolift.dataset.windows import hand_windows, window_poses
from videolift.dataset.writer import DatasetWriter
from videolift.geometry import invert_pose

LENGTH, SIZE = 8, 192
CLIPS = {"handheld": "handheld_rgbd", "orbit": "orbit", "tripod": "tripod_rgbd"}
"""Ours to the sample's: a left hand seen by a hand-held camera, a right hand by one on an arc, a right hand by a still one."""


def make_clip(folder: Path, clip: str, seed: int, frames: int = 40, view: Literal["square", "full"] = "square") -> Path:
    """A good packaged file: rendered, and packaged from its truth."""
    name = f"{clip}{seed}"
    truth = render(CLIPS[clip], frames=frames, width=256, height=192, seed=seed)
    write_truth_artifacts(folder, name, truth, window_length=LENGTH, grid_px=8)
    clip_, depth = Clip(folder / f"frames/{name}.h5"), Depth(folder / f"depth/{name}.h5")
    tracks, hands = Tracks(folder / f"tracks_3d/{name}.h5"), Hands(folder / f"hand_poses/{name}.h5")
    out = DatasetWriter(folder / f"{name}.hdf5")
    packaging = Packaging(size=SIZE, view=view, window_length=LENGTH)
    package(Sources(clip_, depth, tracks, hands), packaging, out, lambda done, total: None)
    return out.publish().path


@dataclass
class Labels:
    """Arrays of one file by their names, those that are changed by a fault."""

    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        self.arrays[name] = value

    @property
    def E(self) -> np.ndarray:
        return self.arrays["camera/T_camera_world"]

    @E.setter
    def E(self, value: np.ndarray) -> None:
        self.arrays["camera/T_camera_world"] = value

    @property
    def length(self) -> int:
        """Frames of a window."""
        return len(self.arrays["tracks/visible"])

    @property
    def size_px(self) -> int:
        """Of the square image's side."""
        return int(self.arrays["depth"].shape[-1])

    @property
    def side(self) -> int:
        """The side that has a hand."""
        return int(self.arrays["hands/valid"].sum(0).argmax())

    def make_consistent(self) -> None:
        """Windows of camera and hands again, from what they are computed from."""
        starts = self["tracks/window_start"]
        frames = starts[None, :] + np.arange(self.length)[:, None]
        T_cam0_camk, self["tracks/pose9d"] = window_poses(self.E[frames])
        valid, T, K = self["hands/valid"][frames], self["hands/T_camera_wrist"][frames], self["camera/intrinsics"]
        windows = hand_windows(T, valid, T_cam0_camk, K, self.size_px)
        for name in HAND_WINDOW_FIELDS:
            self[f"hands/{name}"] = getattr(windows, name.removeprefix("window_"))


def plant(source: Path, target: Path, fault: Callable[[Labels], None]) -> Path:
    """A copy of a packaged file with a fault in it."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        labels = Labels({name: file[name][...] for name in names if not name.startswith(("stats/", "quality/"))})
        before = {name: array.copy() for name, array in labels.arrays.items()}
        fault(labels)
        labels.make_consistent()
        for name, array in labels.arrays.items():
            if not np.array_equal(array, before[name], equal_nan=array.dtype.kind == "f"):
                file[name][...] = array
        for name, value in labels.attributes.items():
            file.attrs[name] = value
    return target


def late(array: np.ndarray, frames: int = 1) -> np.ndarray:
    """What belongs to a frame stands at a later one."""
    return array[np.clip(np.arange(len(array)) - frames, 0, len(array) - 1)]


def inverted_poses(x: Labels) -> None:
    x.E = invert_pose(x.E)


def transposed_rotations(x: Labels) -> None:
    x.E[:, :3, :3] = np.swapaxes(x.E[:, :3, :3].copy(), 1, 2)


def reversed_translations(x: Labels) -> None:
    x.E[:, :3, 3] *= -1


def reversed_axes(*axes: int) -> Callable[[Labels], None]:
    def fault(x: Labels) -> None:
        D = np.diag([*axes, 1]).astype(x.E.dtype)
        x.E = D @ x.E @ D

    return fault


def swapped_axes(x: Labels) -> None:
    P = np.eye(4, dtype=np.float32)[[1, 0, 2, 3]]
    x.E = P @ x.E @ P


def frozen_camera(x: Labels) -> None:
    x.E = np.repeat(x.E[:1], len(x.E), 0)


def late_poses(frames: int) -> Callable[[Labels], None]:
    def fault(x: Labels) -> None:
        x.E = late(x.E, frames)

    return fault


def backward_poses(x: Labels) -> None:
    x.E = x.E[::-1].copy()


def path_scaled(factor: float) -> Callable[[Labels], None]:
    def fault(x: Labels) -> None:
        x.E[:, :3, 3] *= factor

    return fault


def frozen_rotation(x: Labels) -> None:
    centres = invert_pose(x.E)[:, :3, 3]
    x.E[:, :3, :3] = x.E[0, :3, :3]
    x.E[:, :3, 3] = -(x.E[:, :3, :3] @ centres[:, :, None])[..., 0]


def frozen_translation(x: Labels) -> None:
    centre = invert_pose(x.E)[0, :3, 3]
    x.E[:, :3, 3] = -(x.E[:, :3, :3] @ centre)


def drifting_rotation(x: Labels) -> None:
    for t in range(len(x.E)):
        turn = np.eye(4)
        turn[:3, :3] = cv2.Rodrigues(np.array([0, np.radians(1.0) * t, 0]))[0]
        x.E[t] = turn @ x.E[t]


def trembling_poses(x: Labels) -> None:
    rng = np.random.default_rng(0)
    for t in range(len(x.E)):
        x.E[t, :3, :3] = cv2.Rodrigues(rng.normal(0, 0.02, 3))[0] @ x.E[t, :3, :3]


def other_focal(factor: float) -> Callable[[Labels], None]:
    def fault(x: Labels) -> None:
        x["camera/intrinsics"][[0, 1], [0, 1]] *= factor

    return fault


def shifted_centre(x: Labels) -> None:
    x["camera/intrinsics"][0, 2] += 16


def depth_changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Labels], None]:
    def fault(x: Labels) -> None:
        x["depth"] = np.ascontiguousarray(change(x["depth"].astype(np.float32))).astype(np.float16)

    return fault


def along_the_ray(x: Labels) -> None:
    K, (v, u) = x["camera/intrinsics"], np.mgrid[: x.size_px, : x.size_px]
    ray = np.sqrt(((u - K[0, 2]) / K[0, 0]) ** 2 + ((v - K[1, 2]) / K[1, 1]) ** 2 + 1)
    x["depth"] = (x["depth"].astype(np.float32) * ray).astype(np.float16)


def frozen_depth(x: Labels) -> None:
    x["depth"] = np.repeat(x["depth"][:1], len(x["depth"]), 0)


def stale_depth(x: Labels) -> None:
    x["depth"] = x["depth"][np.arange(len(x["depth"])) // 4 * 4]


def raised(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, z + 0.3, 0)


def inverse(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, 1 / np.maximum(z, 1e-3), 0)


def zoomed(z: np.ndarray) -> np.ndarray:
    size = z.shape[-1]
    M = np.array([[1.1, 0, -0.1 * (size - 1) / 2], [0, 1.1, -0.1 * (size - 1) / 2]])
    return np.stack([cv2.warpAffine(image, M, (size, size), flags=cv2.INTER_NEAREST) for image in z])


def image_changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Labels], None]:
    def fault(x: Labels) -> None:
        x["rgb"] = np.ascontiguousarray(change(x["rgb"]))

    return fault


def frozen_images(x: Labels) -> None:
    x["rgb"] = x["rgb"][np.arange(len(x["rgb"])) // 3 * 3]


def cut(x: Labels) -> None:
    half = len(x["rgb"]) // 2
    x["rgb"][half:] = x["rgb"][half:][:, :, ::-1, ::-1]
    for name in ("depth",):
        x[name][half:] = x[name][half:][:, ::-1, ::-1]


def wrong_rate(x: Labels) -> None:
    x["timestamps"] = x["timestamps"] * 2


HAND = ("hands/keypoints_px", "hands/T_camera_wrist", "hands/joints_camera")


def hands_changed(change: Callable[[np.ndarray], np.ndarray], *names: str) -> Callable[[Labels], None]:
    def fault(x: Labels) -> None:
        for name in names or HAND:
            x[name] = np.ascontiguousarray(change(x[name]))

    return fault


def project_hands(x: Labels) -> None:
    """Keypoints again from the joints."""
    K, joints = x["camera/intrinsics"], x["hands/joints_camera"]
    with np.errstate(invalid="ignore"):
        x["hands/keypoints_px"] = (joints @ K.T)[..., :2] / joints[..., 2:]


def scaled_hands(x: Labels) -> None:
    x["hands/joints_camera"] = x["hands/joints_camera"] * 1.3
    x["hands/T_camera_wrist"][..., :3, 3] *= 1.3


def hands_in_millimetres(x: Labels) -> None:
    x["hands/joints_camera"] = x["hands/joints_camera"] * 1000
    x["hands/T_camera_wrist"][..., :3, 3] *= 1000


def mirrored_hands(x: Labels) -> None:
    M = np.diag([-1.0, 1, 1])
    x["hands/joints_camera"] = x["hands/joints_camera"] @ M
    T = x["hands/T_camera_wrist"]
    T[..., :3, :3], T[..., :3, 3] = M @ T[..., :3, :3] @ M, T[..., :3, 3] @ M
    project_hands(x)


def swapped_sides(x: Labels) -> None:
    for name in (*HAND, "hands/valid", "hands/interpolated", "hands/score"):
        x[name] = x[name][:, ::-1].copy()


def unmirrored(x: Labels) -> None:
    turn = np.diag([-1.0, 1, -1])
    x["hands/T_camera_wrist"][..., :3, :3] = x["hands/T_camera_wrist"][..., :3, :3] @ turn


def transposed_wrists(x: Labels) -> None:
    T = x["hands/T_camera_wrist"]
    T[..., :3, :3] = np.swapaxes(T[..., :3, :3].copy(), -1, -2)


def turned_wrists(x: Labels) -> None:
    x["hands/T_camera_wrist"][..., :3, :3] = x["hands/T_camera_wrist"][..., :3, :3] @ np.diag([1.0, -1, -1])


def frozen_hands(x: Labels) -> None:
    for name in HAND:
        x[name] = np.repeat(x[name][:1], len(x[name]), 0)


def shifted_keypoints(x: Labels) -> None:
    x["hands/keypoints_px"] = x["hands/keypoints_px"] + np.float32(12)


def keypoints_xy_swapped(x: Labels) -> None:
    x["hands/keypoints_px"] = x["hands/keypoints_px"][..., ::-1].copy()


def hands_in_the_world(x: Labels) -> None:
    inverse = invert_pose(x.E.astype(np.float64))
    x["hands/T_camera_wrist"] = inverse[:, None] @ x["hands/T_camera_wrist"]
    joints = x["hands/joints_camera"]
    x["hands/joints_camera"] = joints @ np.swapaxes(inverse[:, None, :3, :3], -1, -2) + inverse[:, None, None, :3, 3]


def by_window(change: Callable[[Labels, int], int]) -> Callable[[Labels], None]:
    """Windows take the points of another one, as far as both have them."""

    def fault(x: Labels) -> None:
        offsets = x["tracks/offsets"]
        before = {name: x[f"tracks/{name}"].copy() for name in ("query", "displacement", "visible")}
        for w in range(len(offsets) - 1):
            other = min(max(change(x, w), 0), len(offsets) - 2)
            count = int(min(offsets[w + 1] - offsets[w], offsets[other + 1] - offsets[other]))
            for name, array in before.items():
                at, there = slice(offsets[w], offsets[w] + count), slice(offsets[other], offsets[other] + count)
                if name == "query":
                    x["tracks/query"][at] = array[there]
                else:
                    x[f"tracks/{name}"][:, at] = array[:, there]

    return fault


def points_changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Labels], None]:
    """Change of (u, v, d) at every step (L, N, 3)."""

    def fault(x: Labels) -> None:
        uvd = change(x["tracks/query"][None] + x["tracks/displacement"])
        x["tracks/query"], x["tracks/displacement"] = uvd[0], uvd - uvd[:1]

    return fault


def displacement_changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Labels], None]:
    def fault(x: Labels) -> None:
        x["tracks/displacement"] = change(x["tracks/displacement"])

    return fault


def mirrored_points(uvd: np.ndarray) -> np.ndarray:
    return np.stack([1 - uvd[..., 0], uvd[..., 1], uvd[..., 2]], -1)


def upside_down_points(uvd: np.ndarray) -> np.ndarray:
    return np.stack([uvd[..., 0], 1 - uvd[..., 1], uvd[..., 2]], -1)


def all_visible(x: Labels) -> None:
    x["tracks/visible"][:] = True


def inverted_visibility(x: Labels) -> None:
    x["tracks/visible"][1:] = ~x["tracks/visible"][1:]


def mixed_points(x: Labels) -> None:
    """Point n is another point at every step."""
    rng, offsets = np.random.default_rng(0), x["tracks/offsets"]
    for w in range(len(offsets) - 1):
        part = slice(offsets[w], offsets[w + 1])
        uvd = x["tracks/query"][part][None] + x["tracks/displacement"][:, part]
        for k in range(1, x.length):
            uvd[k] = uvd[k][rng.permutation(uvd.shape[1])]
        x["tracks/displacement"][:, part] = uvd - uvd[:1]


def half_pixel(x: Labels) -> None:
    x["camera/intrinsics"][:2, 2] += 0.5


def all_lengths(x: Labels) -> None:
    x["depth"] = (x["depth"].astype(np.float32) * 1.3).astype(np.float16)
    x.E[:, :3, 3] *= 1.3
    x["tracks/query"][:, 2] *= 1.3
    x["tracks/displacement"][..., 2] *= 1.3
    x["hands/joints_camera"] *= 1.3
    x["hands/T_camera_wrist"][..., :3, 3] *= 1.3


def another_world(x: Labels) -> None:
    x.E = x.E @ np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], np.float32)


@dataclass(frozen=True)
class PlantedFault:
    """One kind of wrong labels.

    Attributes:
        plant: changes the labels.
        named: what verification may call it; empty where it is declared beforehand that nobody can see it.
        clip: one of `CLIPS` on which it can be seen.
    """

    plant: Callable[[Labels], None]
    named: tuple[str, ...]
    clip: str = "handheld"


SCALE = "camera path and depth differ in scale"
FAULTS: dict[str, PlantedFault] = {
    "poses inverted": PlantedFault(inverted_poses, ("poses inverted",)),
    "rotations transposed": PlantedFault(transposed_rotations, ("rotations transposed",)),
    "translations reversed": PlantedFault(reversed_translations, ("translations reversed",), "orbit"),
    "poses in OpenGL axes": PlantedFault(reversed_axes(1, -1, -1), ("poses with y and z reversed",)),
    "poses mirrored in x": PlantedFault(reversed_axes(-1, 1, 1), ("poses with x reversed",)),
    "poses mirrored in y": PlantedFault(reversed_axes(1, -1, 1), ("poses with y reversed",), "orbit"),
    "poses with x and y swapped": PlantedFault(swapped_axes, ("poses with x and y swapped",), "orbit"),
    "camera frozen": PlantedFault(frozen_camera, ("camera frozen",)),
    "poses one frame late": PlantedFault(late_poses(1), ("poses late by one frame",)),
    "poses one frame early": PlantedFault(late_poses(-1), ("poses early by one frame",)),
    "poses two frames late": PlantedFault(late_poses(2), ("poses late by two frames",)),
    "poses backward in time": PlantedFault(backward_poses, ("poses backward in time",)),
    "camera path x 1.3": PlantedFault(path_scaled(1.3), (SCALE,), "orbit"),
    "camera path in millimetres": PlantedFault(path_scaled(1000), (SCALE,), "orbit"),
    "rotation frozen": PlantedFault(frozen_rotation, ("rotation frozen",), "orbit"),
    "translation frozen": PlantedFault(frozen_translation, ("translation frozen",), "orbit"),
    "rotation drifting by 1 degree a frame": PlantedFault(drifting_rotation, ("camera",), "tripod"),
    "poses trembling by 1 degree": PlantedFault(trembling_poses, ("camera",)),
    "focal length x 1.15": PlantedFault(other_focal(1.15), ("focal length",), "orbit"),
    "focal length x 0.7": PlantedFault(other_focal(0.7), ("focal length",), "orbit"),
    "principal point off by 16 px": PlantedFault(shifted_centre, ("principal point in x",), "orbit"),
    "depth x 1.3": PlantedFault(depth_changed(lambda z: z * 1.3), (SCALE, "hands and depth differ in scale"), "orbit"),
    "depth mirrored": PlantedFault(depth_changed(lambda z: z[:, :, ::-1]), ("depth mirrored",)),
    "depth upside down": PlantedFault(depth_changed(lambda z: z[:, ::-1]), ("depth upside down",)),
    "depth transposed": PlantedFault(depth_changed(lambda z: z.transpose(0, 2, 1)), ("depth transposed",)),
    "depth turned by half": PlantedFault(depth_changed(lambda z: z[:, ::-1, ::-1]), ("depth turned by half",)),
    "depth one frame late": PlantedFault(depth_changed(late), ("depth late by one frame",), "orbit"),
    "depth one frame early": PlantedFault(depth_changed(lambda z: late(z, -1)), ("depth early by one frame",), "orbit"),
    "depth backward in time": PlantedFault(depth_changed(lambda z: z[::-1]), ("depth backward in time",), "orbit"),
    "depth frozen": PlantedFault(frozen_depth, ("depth frozen",)),
    "depth stale for four frames": PlantedFault(stale_depth, ("depth frozen",), "orbit"),
    "depth shifted by 2 px": PlantedFault(depth_changed(lambda z: np.roll(z, 2, 2)), ("depth shifted",)),
    "depth zoomed by 1.1": PlantedFault(depth_changed(zoomed), ("depth zoomed",)),
    "depth with an offset of 0.3 m": PlantedFault(
        depth_changed(lambda z: np.where(z > 0, z + 0.3, 0)), ("depth with an offset",), "orbit"
    ),
    "inverse depth": PlantedFault(
        depth_changed(lambda z: np.where(z > 0, 1 / np.maximum(z, 1e-3), 0)), ("inverse depth",), "orbit"
    ),
    "depth along the ray": PlantedFault(along_the_ray, ("depth along the ray",), "orbit"),
    "images mirrored": PlantedFault(image_changed(lambda rgb: rgb[..., ::-1]), ("images mirrored",)),
    "images upside down": PlantedFault(image_changed(lambda rgb: rgb[:, :, ::-1]), ("images upside down",)),
    "images one frame late": PlantedFault(image_changed(late), ("images late by one frame",)),
    "images two frames late": PlantedFault(image_changed(lambda rgb: late(rgb, 2)), ("images late by two frames",)),
    "images frozen": PlantedFault(frozen_images, ("images frozen",)),
    "red and blue swapped": PlantedFault(image_changed(lambda rgb: rgb[:, ::-1]), ("colours swapped",)),
    "a cut inside": PlantedFault(cut, ("cut",)),
    "frame rate": PlantedFault(wrong_rate, ("rate",)),
    "hands one frame late": PlantedFault(hands_changed(late), ("hands late by one frame",), "tripod"),
    "hands two frames early": PlantedFault(hands_changed(lambda a: late(a, -2)), ("hands early by two frames",), "tripod"),
    "hands mirrored": PlantedFault(mirrored_hands, ("hands mirrored",)),
    "hands x 1.3": PlantedFault(scaled_hands, ("hands and depth differ in scale",)),
    "hands in millimetres": PlantedFault(hands_in_millimetres, ("hands and depth differ in scale", "size of the hand")),
    "sides swapped": PlantedFault(swapped_sides, ("sides swapped",)),
    "a left hand not mirrored": PlantedFault(unmirrored, ("a left hand is not mirrored",)),
    "wrist rotations transposed": PlantedFault(transposed_wrists, ("wrist rotation", "axes of the wrist")),
    "wrist turned about its fingers": PlantedFault(turned_wrists, ("axes of the wrist",)),
    "wrist poses three frames late": PlantedFault(
        hands_changed(lambda a: late(a, 3), "hands/T_camera_wrist"), ("wrists late",), "tripod"
    ),
    "hands frozen": PlantedFault(frozen_hands, ("hands frozen",), "tripod"),
    "keypoints off by 12 px": PlantedFault(shifted_keypoints, ("keypoints shifted",)),
    "keypoints with x and y swapped": PlantedFault(keypoints_xy_swapped, ("keypoints with x and y swapped",)),
    "hands in the world's frame": PlantedFault(hands_in_the_world, ("joints off their keypoints",), "orbit"),
    "points of the next window": PlantedFault(by_window(lambda x, w: w + 1), ("points early by one frame",), "tripod"),
    "points of the window before": PlantedFault(by_window(lambda x, w: w - 1), ("points late by one frame",), "tripod"),
    "points backward in time": PlantedFault(points_changed(lambda uvd: uvd[::-1]), ("points backward in time",), "tripod"),
    "displacements reversed": PlantedFault(displacement_changed(lambda d: -d), ("displacements reversed",), "tripod"),
    "displacements x 1.3": PlantedFault(displacement_changed(lambda d: d * np.float32(1.3)), ("displacements scaled",), "tripod"),
    "displacements with u and v swapped": PlantedFault(
        displacement_changed(lambda d: d[..., [1, 0, 2]]), ("displacements with u and v swapped",), "tripod"
    ),
    "points mirrored": PlantedFault(points_changed(mirrored_points), ("points mirrored", "points off the depth"), "tripod"),
    "points upside down": PlantedFault(
        points_changed(upside_down_points), ("points upside down", "points off the depth"), "tripod"
    ),
    "points with u and v swapped": PlantedFault(
        points_changed(lambda uvd: uvd[..., [1, 0, 2]]), ("points with u and v swapped", "points off the depth"), "tripod"
    ),
    "point identities mixed": PlantedFault(mixed_points, ("points",)),
    "depth of the points x 1.15": PlantedFault(
        points_changed(lambda uvd: uvd * np.array([1, 1, 1.15], np.float32)), ("points off the depth",)
    ),
    "hidden points called visible": PlantedFault(all_visible, ("hidden points called visible",), "tripod"),
    "visibility inverted": PlantedFault(inverted_visibility, ("visible points called hidden", "hidden points called visible")),
    "all lengths x 1.3": PlantedFault(all_lengths, ()),
    "another world frame": PlantedFault(another_world, ()),
    "principal point off by half a pixel": PlantedFault(half_pixel, ()),
}


def findings_of(fault: PlantedFault, source: Path, target: Path) -> list[str]:
    """Names that verification gives to a planted fault."""
    try:
        return named_in(plant(source, target, fault.plant))
    finally:
        target.unlink(missing_ok=True)


def named_in(path: Path) -> list[str]:
    """Names that verification gives to what contradicts the images in a file."""
    with FileUnderCheck(path) as file:
        return [finding.check.removeprefix("images: ") for finding in check_images(file)]


def stays_true(source: Path, planted: Path) -> bool:
    """True if a fault changes no label: the poses of a camera that stands are the same inverted, late and backward."""
    with h5py.File(source) as before, h5py.File(planted) as after:
        names: list[str] = []
        before.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        pairs = ((np.asarray(before[name][...], np.float64), np.asarray(after[name][...], np.float64)) for name in names)
        return all(np.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True) for a, b in pairs)


def main() -> None:
    """Plants all, or those whose name holds one of the words, and prints a table."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("words", nargs="*")
    command.add_argument("--on", type=Path, help="a packaged file to plant them in, instead of rendered ones")
    options = command.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = {clip: make_clip(folder, clip, 11 + i) for i, clip in enumerate(CLIPS)} if options.on is None else {}
        for clip, path in (own or {options.on.stem: options.on}).items():
            print(f"clean {clip}: {named_in(path)}", flush=True)
        counts = dict.fromkeys(("named", "seen", "missed", "as declared", "false alarm", "stays true"), 0)
        for kind, fault in FAULTS.items():
            if options.words and not any(word in kind for word in options.words):
                continue
            source = options.on or own[fault.clip]
            planted = plant(source, folder / "planted.hdf5", fault.plant)
            found = named_in(planted)
            if set(found) & set(fault.named):
                verdict = "named"
            elif found:
                verdict = "seen" if fault.named else "false alarm"
            elif stays_true(source, planted):
                verdict = "stays true"
            else:
                verdict = "missed" if fault.named else "as declared"
            counts[verdict] += 1
            print(f"{verdict:12} {kind:40} {source.stem:9} {', '.join(found)}", flush=True)
        print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))


if __name__ == "__main__":
    main()
