"""Lens: a camera calibration of the user's (K, distortion, image size), read from a file of theirs, and the pinhole it becomes.

Reads npz, JSON and YAML: plain keys (``K``, ``distortion``, ``size``, ``model``), ROS ``camera_info`` and OpenCV's FileStorage. The
distortion models are OpenCV's: ``pinhole`` with 4, 5, 8, 12 or 14 coefficients, ``fisheye`` with 4 (k1..k4, Kannala-Brandt; ROS
calls it equidistant). Nothing here knows a video; `videolift.inputs.framing` puts a lens into a clip's geometry.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import yaml
from numpy.typing import ArrayLike

from videolift.errors import BadInput
from videolift.geometry import Float, resize_intrinsics
from videolift.plain_yaml import PlainLoader

Model = Literal["pinhole", "fisheye"]

MODELS: dict[str, Model] = {
    "pinhole": "pinhole",
    "opencv": "pinhole",
    "plumb_bob": "pinhole",
    "rational_polynomial": "pinhole",
    "fisheye": "fisheye",
    "opencv_fisheye": "fisheye",
    "equidistant": "fisheye",
}
COEFFICIENTS: dict[Model, tuple[int, ...]] = {"pinhole": (0, 4, 5, 8, 12, 14), "fisheye": (4,)}
# Ours first, then the names that OpenCV, ROS and common calibration scripts write.
_KEYS = {
    "K": ("K", "camera_matrix", "intrinsics", "intrinsic_matrix", "mtx"),
    "distortion": ("distortion", "distortion_coefficients", "dist_coeffs", "dist", "D"),
    "model": ("model", "distortion_model", "camera_model"),
    "size": ("size", "image_size", "size_px"),
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
}
# Some hundred numbers as text are a few kB; a picture or a video given by mistake is larger.
_MAX_BYTES = 1 << 20
_ITERATIONS = 200
_ZOOMS = np.geomspace(2.0, 0.4, 161)
"""Steps of 1 %."""
_REMEDY = (
    "Write K (3x3, pixels), distortion (OpenCV order), model (pinhole or fisheye) and size (width, height of the upright "
    "calibration images) as npz, JSON or YAML; docs/calibration.md shows one."
)


@dataclass(frozen=True, eq=False)
class Lens:
    """A calibrated camera at one image size.

    Attributes:
        K: f64 (3, 3), pixels of an image of ``size_px``; integer coordinate = pixel centre.
        size_px: (W, H); None where the file does not say.
        distortion: OpenCV's coefficients in OpenCV's order; empty for none.
        model: which of OpenCV's two models they belong to.
    """

    K: Float
    size_px: tuple[int, int] | None
    distortion: tuple[float, ...] = ()
    model: Model = "pinhole"

    def __post_init__(self) -> None:
        K = self.K
        if not (K.shape == (3, 3) and np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
            raise _bad(f"K is {K.tolist()}: expected a finite 3x3 matrix with positive focal lengths")
        if not np.allclose(K - np.diag(np.diag(K)), [[0, 0, K[0, 2]], [0, 0, K[1, 2]], [0, 0, 0]]) or not np.isclose(K[2, 2], 1):
            raise _bad(f"K is {K.tolist()}: expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], without skew")
        if len(self.distortion) not in COEFFICIENTS[self.model] or not np.isfinite(self.distortion).all():
            allowed = " or ".join(map(str, COEFFICIENTS[self.model]))
            raise _bad(f"{len(self.distortion)} distortion coefficients {self.distortion}: {self.model} takes {allowed}, finite")
        if self.size_px is not None:
            inside = (K[:2, 2] > 0).all() and (K[:2, 2] < np.array(self.size_px)).all()
            if min(self.size_px) < 1 or not inside:
                raise _bad(f"principal point {K[:2, 2].tolist()} lies outside the image of {self.size_px[0]}x{self.size_px[1]} px")

    def resized(self, size_px: tuple[int, int]) -> Lens:
        """The same camera for images of another size, (W, H)."""
        return replace(self, K=resize_intrinsics(self.K, self.size_px or size_px, size_px), size_px=size_px)

    @property
    def distorts(self) -> bool:
        """False where the image already is a pinhole's."""
        return self.model == "fisheye" or any(self.distortion)

    def distort(self, uv_px: ArrayLike, K_pinhole: ArrayLike) -> Float:
        """Pixels (..., 2) of an undistorted image with ``K_pinhole`` to pixels (..., 2) of this lens's image."""
        uv, K = np.asarray(uv_px, np.float64), np.asarray(K_pinhole, np.float64)
        rays = ((uv - K[:2, 2]) / K[[0, 1], [0, 1]]).reshape(-1, 1, 2)
        if self.model == "fisheye":
            out = cv2.fisheye.distortPoints(rays, self.K, np.array(self.distortion, np.float64))
        else:
            points = np.concatenate([rays, np.ones_like(rays[..., :1])], axis=-1)
            out, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), self.K, np.array(self.distortion or (0.0,) * 4))
        return np.asarray(out, np.float64).reshape(uv.shape)

    def undistort(self, uv_px: ArrayLike, K_pinhole: ArrayLike) -> Float:
        """Inverse of `distort` by fixed-point iteration to 1e-7 px; NaN where it does not converge (outside the model's range)."""
        target, K = np.asarray(uv_px, np.float64), np.asarray(K_pinhole, np.float64)
        out = (target - self.K[:2, 2]) * (K[[0, 1], [0, 1]] / self.K[[0, 1], [0, 1]]) + K[:2, 2]
        scale = K[[0, 1], [0, 1]] / self.K[[0, 1], [0, 1]]
        left = np.full(target.shape, np.inf)
        with np.errstate(over="ignore", invalid="ignore"):
            # Not cv2.undistortPoints: it does not say which points it has not found.
            for _ in range(_ITERATIONS):
                left = target - self.distort(out, K)
                if not (np.abs(left) > 1e-7).any():
                    break
                # An error in this lens's pixels is about `scale` as large in the pinhole's.
                out = out + left * scale
        return np.where((np.abs(left) < 1e-5).all(-1, keepdims=True), out, np.nan)

    def pinhole(self, clip_px: tuple[int, int], offset_px: tuple[int, int]) -> Float:
        """``K`` (3, 3) of the widest undistorted clip of this lens without empty pixels.

        The clip is ``clip_px`` = (W, H), cut from this lens's image at ``offset_px``; the principal point stays where
        the crop leaves it and both focal lengths change by one factor, the smallest for which every border pixel of the clip
        comes from inside the image, searched downwards from twice the focal length in steps of 1 %.

        Raises:
            BadInput: ``calibration``; no factor from 0.4 to 2 fits.
        """
        assert self.size_px is not None
        K = self.K.copy()
        K[:2, 2] -= offset_px
        # Distortion bends a side smoothly: 33 points of each side tell.
        x, y = np.linspace(0, clip_px[0] - 1, 33), np.linspace(0, clip_px[1] - 1, 33)
        left, right, top, bottom = np.zeros(33), np.full(33, clip_px[0] - 1.0), np.zeros(33), np.full(33, clip_px[1] - 1.0)
        border = np.concatenate([np.stack(pair, -1) for pair in ((x, top), (x, bottom), (left, y), (right, y))])
        best: Float | None = None
        for zoom in _ZOOMS:
            zoomed = K * np.array([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]])
            out = self.distort(border, zoomed)
            inside = (out >= -0.5).all() and (out <= np.array(self.size_px) - 0.5).all()
            # Beyond its calibrated range a polynomial folds back and would fetch a pixel that belongs to another ray.
            beyond = self.distort(K[:2, 2] + 1.01 * (border - K[:2, 2]), zoomed)
            grows = np.linalg.norm(beyond - self.K[:2, 2], axis=-1) > np.linalg.norm(out - self.K[:2, 2], axis=-1)
            if not (inside and grows.all()):
                break
            best = zoomed
        if best is None:
            raise BadInput("calibration", "the calibration leaves parts of the undistorted image empty at any zoom", _REMEDY)
        return best


def read_lens(path: Path) -> Lens:
    """Reads a calibration file.

    Raises:
        BadInput: ``calibration``; missing, too large, unreadable, or values that are not a camera.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _bad(f"{path.name} has {path.stat().st_size} bytes; a calibration has at most {_MAX_BYTES}")
        if path.suffix.lower() == ".npz":
            # Sizes first: a small zip can unpack to more than the memory holds.
            with zipfile.ZipFile(path) as archive:
                large = [entry.filename for entry in archive.infolist() if entry.file_size > _MAX_BYTES]
            if large:
                raise _bad(f"{path.name} holds {large[0]}, larger than any calibration")
            with np.load(path, allow_pickle=False) as arrays:
                return parse_lens({key: arrays[key].tolist() for key in arrays.files})
        text = path.read_text(encoding="utf-8")
        if text.startswith("%YAML:"):  # OpenCV writes "%YAML:1.0", which is not a YAML directive
            text = text.split("\n", 1)[1]
        values = json.loads(text) if path.suffix.lower() == ".json" else yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
        if not isinstance(values, Mapping):
            raise TypeError(f"expected a mapping, found {type(values).__name__}")
        return parse_lens(values)
    except FileNotFoundError as error:
        raise _bad(f"{path.name}: no such file") from error
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile, yaml.YAMLError, RecursionError) as error:
        raise _bad(f"{path.name} is not a calibration: {error}") from error


def _bad(text: str) -> BadInput:
    return BadInput("calibration", text, _REMEDY)


class _Loader(PlainLoader):
    """Safe YAML that also knows OpenCV's matrices."""


def _opencv_matrix(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _opencv_matrix)


def parse_lens(values: Mapping[str, Any]) -> Lens:
    """A camera from the keys of a calibration file.

    Raises:
        BadInput: ``calibration``; values that are not a camera.
        ValueError, TypeError, KeyError: values that are not numbers.
    """
    found = {name: next((values[key] for key in keys if values.get(key) is not None), None) for name, keys in _KEYS.items()}
    K: Float = np.eye(3)
    if found["K"] is not None:
        K = _matrix(found["K"]).reshape(3, 3)
    elif all(key in values for key in ("fx", "fy", "cx", "cy")):
        K[0, 0], K[1, 1], K[0, 2], K[1, 2] = (float(values[key]) for key in ("fx", "fy", "cx", "cy"))
    else:
        raise _bad(f"no K among {sorted(map(str, values))}")
    size = found["size"] or (found["width"], found["height"])
    model = str(found["model"] or "pinhole").lower()
    if model not in MODELS:
        raise _bad(f"distortion model {model!r} is not one of {', '.join(MODELS)}")
    distortion = () if found["distortion"] is None else tuple(_matrix(found["distortion"]).ravel().tolist())
    size_px = (int(size[0]), int(size[1])) if size[0] and size[1] else None
    return Lens(K, size_px, distortion, MODELS[model])


def _matrix(value: Any) -> Float:
    return np.asarray(value["data"] if isinstance(value, Mapping) else value, np.float64)
