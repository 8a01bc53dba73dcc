"""The sample as files a user would have: four videos, depth beside three of them, a table that lists them, and the truth.

Turns `CLIPS` into a folder. A folder is complete when its table, written last, is there and names this `VERSION`.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np

from stages.sample.artifacts import grid
from stages.sample.clips import CLIPS, FPS, render
from stages.sample.truth import Truth
from videolift.h264 import H264Writer
from videolift.inputs.table import read_table
from videolift.inputs.video import Video
from videolift.store import atomic_file, write_text

VERSION = 1
"""Identity of the sample's content; raise it when a rendered value changes."""
FRAMES, CRF = 60, 12
TABLE = "videos.csv"
_COLUMNS = ("video", "path", "depth", "text", "version")
_WINDOW, _GRID_PX = 10, 12


def sample_rows(folder: Path) -> list[Video]:
    """The rows of the sample in ``folder``, as its table will say, whether it is rendered yet or not."""
    # As `read_table` resolves paths, or the rows would not be equal.
    home = Path(os.path.realpath(folder))
    return [
        Video(
            id=name,
            path=f"{home / name}.mp4",
            depth=home / f"{name}.npz" if spec.rgbd else None,
            text=spec.text,
            version=str(VERSION),
        )
        for name, spec in CLIPS.items()
    ]


def write_sample(folder: Path) -> None:
    """Renders and publishes the sample in ``folder``; does nothing where it is complete.

    Writes ``{id}.mp4`` (H.264); for those with depth ``{id}.npz`` with depths (T, H, W) in metres, intrinsics (T, 3, 3) and
    extrinsics (T, 4, 4), world to camera; ``truth/{id}.npz``; and ``videos.csv`` last.

    Raises:
        Transient: disk full, quota or I/O error.
    """
    if is_complete(folder):
        return
    # the table goes first and comes last: a kill in between leaves a folder that is_complete refuses
    (folder / TABLE).unlink(missing_ok=True)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for name, spec in CLIPS.items():
        table.writerow([name, f"{name}.mp4", f"{name}.npz" if spec.rgbd else "", spec.text, VERSION])
        truth = render(name, frames=FRAMES)
        size_px = truth.rgb.shape[2:0:-1]
        with atomic_file(folder / f"{name}.mp4") as temporary, H264Writer(temporary, size_px, FPS, crf=CRF) as video:
            for rgb in truth.rgb:
                video.write(rgb)
        if spec.rgbd:
            _save(folder / f"{name}.npz", _depth_arrays(truth))
        # Tracks of a grid over the first, a middle and the last window.
        starts = np.linspace(0, len(truth.rgb) - _WINDOW, 3).astype(int)
        points = grid(size_px[0], size_px[1], _GRID_PX)
        xyz, uv, visible = zip(*(truth.tracks(int(start), points, _WINDOW) for start in starts), strict=True)
        arrays = _depth_arrays(truth) | {
            "pts_seconds": truth.pts_seconds,
            "instance": truth.instance,
            "moving_ids": np.array(truth.moving_ids),
            "hand_id": np.array(truth.hand_id),
            "side": np.array(truth.side),
            "joints_world": truth.joints_world,
            "T_world_wrist": truth.T_world_wrist,
            "track_start": starts,
            "track_xyz_cam0": np.stack(xyz).astype(np.float32),
            "track_uv_px": np.stack(uv).astype(np.float32),
            "track_visible": np.stack(visible),
        }
        _save(folder / "truth" / f"{name}.npz", arrays)
    write_text(folder / TABLE, text.getvalue())


def is_complete(folder: Path) -> bool:
    """True where every file of this version of the sample is in ``folder``."""
    if not (folder / TABLE).is_file():
        return False
    rows = sample_rows(folder)
    wanted = [path for row in rows for path in (Path(row.path), row.depth, folder / "truth" / f"{row.id}.npz") if path]
    return all(path.is_file() for path in wanted) and read_table(folder / TABLE, is_sample=True) == rows


def _depth_arrays(truth: Truth) -> dict[str, np.ndarray]:
    intrinsics = np.repeat(truth.K[None], len(truth.rgb), axis=0)
    return {"depths": truth.depth_m.astype(np.float16), "intrinsics": intrinsics, "extrinsics": truth.T_camera_world}


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
