"""Cameras by name: what the column `camera` of the table of videos stands for.

A name is looked up in ``cameras.yaml`` beside the table first (the user's own, and those that `videolift calibrate` writes), then
among the common ones of this package. A name that neither file
knows only says which videos share a camera.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from videolift.errors import BadInput, ConfigError
from videolift.geometry import focal_of_field_of_view, pinhole
from videolift.inputs.lens import Lens, parse_lens
from videolift.plain_yaml import read_yaml

CAMERAS_FILE = "cameras.yaml"
"""Name of the file beside the table."""
_COMMON = Path(__file__).with_name("cameras.yaml")
_FULL_FRAME_MM = (36.0, 43.27)
"""Width and diagonal of the film that equivalent focal lengths refer to."""
CameraKnowledge = Literal["given", "named", "estimated"]


@dataclass(frozen=True, eq=False)
class NamedCamera:
    """A camera that a name stands for.

    Attributes:
        name: as the table writes it.
        lens: at its own image size.
        how: ``named`` where the values are nominal, ``estimated`` from videos, ``given`` by the user.
        source: where the values are from.
    """

    name: str
    lens: Lens
    how: CameraKnowledge
    source: str

    def to_row(self) -> dict[str, Any]:
        """What a `videolift.inputs.video.Video` keeps of it, JSON-able; the inverse of `from_row`."""
        lens = {"K": self.lens.K.tolist(), "size": list(self.lens.size_px or ()), "distortion": list(self.lens.distortion)}
        return {"name": self.name, "how": self.how, **lens, "model": self.lens.model}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> NamedCamera:
        """Inverse of `to_row`, but for `source`, which a row does not keep."""
        return cls(row["name"], parse_lens(row), row["how"], "")


@cache
def common_cameras() -> Mapping[str, NamedCamera]:
    """The cameras that this package knows, by name."""
    return _read(_COMMON, "named")


def cameras_beside(table: Path) -> Mapping[str, NamedCamera]:
    """Cameras that a table's rows may name, the user's own before the common ones.

    Raises:
        ConfigError: the user's file cannot be read, or a row is not a camera.
    """
    own = table.parent / CAMERAS_FILE
    # A row of the user's replaces a common camera of the same name.
    return {**common_cameras(), **(_read(own, "given") if own.is_file() else {})}


def read_camera_rows(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a file of cameras, by name, as they are written.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        rows = read_yaml(path.read_text(encoding="utf-8")) or {}
        return {str(name): dict(row) for name, row in rows.items()}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is not a list of cameras: {error}; docs/calibration.md shows one") from error


def _read(path: Path, how: CameraKnowledge) -> dict[str, NamedCamera]:
    rows = read_camera_rows(path)
    cameras: dict[str, NamedCamera] = {}
    try:
        for name, row in rows.items():
            if "K" not in row and "fx" not in row:
                width, height = row["size"]
                # Of the cameras that the row names, the one that says most directly where a pixel looks.
                if "focal_px" in row:
                    focal_px = float(row["focal_px"])
                elif "hfov_deg" in row:
                    focal_px = focal_of_field_of_view(float(row["hfov_deg"]), width)
                elif "dfov_deg" in row:
                    focal_px = focal_of_field_of_view(float(row["dfov_deg"]), math.hypot(width, height))
                elif "focal_35mm" in row:
                    focal_px = float(row["focal_35mm"]) / _FULL_FRAME_MM[0] * width
                elif "focal_35mm_diagonal" in row:
                    focal_px = float(row["focal_35mm_diagonal"]) / _FULL_FRAME_MM[1] * math.hypot(width, height)
                else:
                    wanted = "K, fx fy cx cy, focal_px, hfov_deg, dfov_deg, focal_35mm or focal_35mm_diagonal"
                    raise ValueError(f"a camera needs {wanted}")
                row["K"] = pinhole(focal_px, width, height).tolist()
            # `videolift calibrate` writes `how: estimated` into the user's file, among rows that the user wrote.
            own: CameraKnowledge = row.get("how", how)
            if own not in ("given", "named", "estimated"):
                raise ValueError(f"{name}: how is {own!r}, expected given, named or estimated")
            cameras[name] = NamedCamera(name, parse_lens(row), own, str(row.get("source", "")))
        return cameras
    except BadInput as error:
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{path} is not a list of cameras: {error}; docs/calibration.md shows one") from error
