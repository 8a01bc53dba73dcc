"""Export to LeRobot's dataset format v3.0: Parquet rows per frame, images embedded as PNG, nothing lost.

A video is an episode, its text the task. Depth, camera, hands and tracks are features of their own; tracks of a window stand in the
row of its first frame, a fixed number of points, NaN where there are fewer or no window. Needs pyarrow, not lerobot.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import JOINTS, SIDES
from videolift.dataset.file import PackagedFile
from videolift.dataset.index import IndexEntry, read_index
from videolift.errors import ConfigError
from videolift.store import write_json
from videolift.y2r.exporter import Exported

CODEBASE = "v3.0"
FILE_MB, FILES_PER_CHUNK = 100, 1000
_PATTERN = "chunk-{chunk:03d}/file-{file:03d}.parquet"
_ROWS = 64
_INDEX_FEATURES: dict[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
_RGB = "observation.images.rgb"

Feature = dict[str, Any]


def features_of(size: int, window_length: int, points: int, parts: set[str]) -> dict[str, Feature]:
    """Names, types and shapes of the columns for videos with ``parts``."""
    sides, axes = list(SIDES), ["x", "y", "z"]
    table: dict[str, tuple[str, tuple[int, ...], list[str] | None]] = {
        _RGB: ("image", (size, size, 3), ["height", "width", "channels"]),
        "observation.seconds": ("float64", (1,), None),
    }
    if "depth" in parts:
        table["observation.depth"] = ("float32", (size, size), ["height", "width"])
        table["observation.intrinsics"] = ("float32", (3, 3), None)
        table["observation.T_camera_world"] = ("float32", (4, 4), None)
    if "hands" in parts:
        table["observation.hands.valid"] = ("bool", (2,), sides)
        table["observation.hands.T_camera_wrist"] = ("float32", (2, 4, 4), None)
        table["observation.hands.joints_camera"] = ("float32", (2, len(JOINTS), 3), None)
        table["observation.hands.keypoints_px"] = ("float32", (2, len(JOINTS), 2), None)
    if "tracks" in parts:
        table["observation.tracks.count"] = ("int64", (1,), None)
        table["observation.tracks.query"] = ("float32", (points, 3), ["u", "v", "d"])
        table["action.tracks.displacement"] = ("float32", (window_length, points, 3), ["u", "v", "d"])
        table["action.tracks.pose9d"] = ("float32", (window_length, 9), None)
    if {"hands", "depth"} <= parts:
        table["action.hands.displacement_uvd"] = ("float32", (2, window_length, 3), axes)
        table["action.hands.displacement_rot6d"] = ("float32", (2, window_length, 6), None)
    return {name: {"dtype": dtype, "shape": list(shape), "names": names} for name, (dtype, shape, names) in table.items()}


def export_lerobot(
    folder: Path,
    out: Path,
    *,
    split: str | None = None,
    group: str | None = None,
    points: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Writes the videos of a published dataset as LeRobot episodes into ``out``, an empty or new folder.

    Args:
        folder: of the dataset.
        out: new; refused where it holds a dataset.
        split, group: as `videolift.y2r.exporter.export_y2r`.
        points: tracked points per window, the first of the stored random order.
        progress: (done, total) videos.

    Raises:
        ConfigError: pyarrow is missing, ``out`` is taken, no such dataset, split or group, or videos of different rates or sizes.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigError("the export to LeRobot needs pyarrow: pip install 'videolift[export]'") from error
    if (out / "meta").exists():
        raise ConfigError(f"{out} holds a dataset already: name a new folder, or remove it")
    entries, _ = read_index(folder).select(split=split, group=group)
    if not entries:
        raise ConfigError("there is no video to export")
    common = {name: _common(entries, name) for name in ("fps", "size", "window_length")}
    parts = set.intersection(*(set(entry.about["parts"]) for entry in entries))
    features = features_of(int(common["size"]), int(common["window_length"]), points, parts)
    writer = _Writer(out, features, float(common["fps"]))
    for done, entry in enumerate(entries, 1):
        with PackagedFile(folder / entry.file) as file:
            writer.add_episode(file, entry.about.get("text") or "", points)
        progress(done, len(entries))
    writer.finish({split or "all": f"0:{len(entries)}"})
    return Exported(tuple(writer.files), {})


def _common(entries: list[IndexEntry], name: str) -> float:
    values = {entry.about[name] for entry in entries}
    if len(values) > 1:
        listed = ", ".join(f"{value:g}" for value in sorted(values))
        raise ConfigError(f"{name} differs between videos ({listed}); LeRobot holds one: export splits or groups apart")
    return float(values.pop())


@dataclass
class _Running:
    """Figures of one feature over all rows, element by element, NaN left out; ``axes`` are pooled on top."""

    axes: tuple[int, ...] = ()
    low: Any = None
    high: Any = None
    total: Any = 0.0
    square: Any = 0.0
    count: Any = 0

    def add(self, rows: NDArray[Any]) -> None:
        values, axes = rows.astype(np.float64), (0, *self.axes)
        known = np.isfinite(values)
        zeroed = np.where(known, values, 0.0)
        low = np.where(known, values, np.inf).min(axes, keepdims=True)[0]
        high = np.where(known, values, -np.inf).max(axes, keepdims=True)[0]
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)
        self.total = self.total + zeroed.sum(axes, keepdims=True)[0]
        self.square = self.square + (zeroed**2).sum(axes, keepdims=True)[0]
        self.count = self.count + known.sum(axes, keepdims=True)[0]

    def table(self, rows: int) -> dict[str, Any]:
        n = np.maximum(self.count, 1)
        mean = self.total / n
        std = np.sqrt(np.maximum(self.square / n - mean**2, 0))
        seen = self.count > 0
        low, high = np.where(seen, self.low, 0.0), np.where(seen, self.high, 0.0)
        return {"min": low.tolist(), "max": high.tolist(), "mean": mean.tolist(), "std": std.tolist(), "count": [rows]}


@dataclass
class _Writer:
    """Appends episodes to Parquet files of some 100 MB and keeps what ``meta/`` will say."""

    out: Path
    features: dict[str, Feature]
    fps: float
    files: list[Path] = field(default_factory=list)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    _figures: dict[str, _Running] = field(default_factory=dict)
    _parquet: Any = None

    def add_episode(self, file: PackagedFile, task: str, points: int) -> None:
        """All frames of one video."""
        task_index = self.tasks.setdefault(task, len(self.tasks))
        number, first = len(self.episodes), self.rows
        for frames, columns in _columns(file, self.features, points):
            count = frames.stop - frames.start
            frame_index = np.arange(frames.start, frames.stop)
            columns |= {"frame_index": frame_index, "timestamp": (frame_index / self.fps).astype(np.float32)}
            columns |= {"episode_index": np.full(count, number), "task_index": np.full(count, task_index)}
            columns["index"] = np.arange(self.rows, self.rows + count)
            self._write(columns)
            self.rows += count
        chunk, part = divmod(len(self.files) - 1, FILES_PER_CHUNK)
        self.episodes.append(
            {
                "episode_index": number,
                "tasks": [task],
                "length": self.rows - first,
                "dataset_from_index": first,
                "dataset_to_index": self.rows,
                "data/chunk_index": chunk,
                "data/file_index": part,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        if self.files[-1].stat().st_size > FILE_MB << 20:
            self._parquet.close()
            self._parquet = None

    def _write(self, columns: dict[str, NDArray[Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for name, rows in columns.items():
            axes: tuple[int, ...] = (2, 3) if name == _RGB else (1, 2) if name == "observation.depth" else ()
            planes = rows.transpose(0, 3, 1, 2) / 255 if name == _RGB else rows
            self._figures.setdefault(name, _Running(axes)).add(planes)
        arrays = {name: _images(rows) if name == _RGB else _nested(rows, name, self.features) for name, rows in columns.items()}
        table = pa.table(arrays)
        if self._parquet is None:
            chunk, part = divmod(len(self.files), FILES_PER_CHUNK)
            self.files.append(self.out / "data" / _PATTERN.format(chunk=chunk, file=part))
            self.files[-1].parent.mkdir(parents=True, exist_ok=True)
            self._parquet = pq.ParquetWriter(self.files[-1], table.schema, compression="zstd", use_dictionary=False)
        self._parquet.write_table(table)

    def finish(self, splits: dict[str, str]) -> None:
        """Closes the data and writes ``meta/``; its info.json last."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._parquet is not None:
            self._parquet.close()
        meta = self.out / "meta"
        (meta / "episodes/chunk-000").mkdir(parents=True)
        rows = {name: [episode[name] for episode in self.episodes] for name in self.episodes[0]}
        pq.write_table(pa.table(rows), meta / "episodes" / _PATTERN.format(chunk=0, file=0))
        pq.write_table(_task_table(self.tasks), meta / "tasks.parquet")
        write_json(meta / "stats.json", {name: figures.table(self.rows) for name, figures in sorted(self._figures.items())})
        indices = {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in _INDEX_FEATURES.items()}
        info = {
            "codebase_version": CODEBASE,
            "robot_type": "human_hands",
            "total_episodes": len(self.episodes),
            "total_frames": self.rows,
            "total_tasks": len(self.tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": FILE_MB,
            "video_files_size_in_mb": 200,
            "fps": round(self.fps) if abs(self.fps - round(self.fps)) < 1e-6 else self.fps,
            "splits": splits,
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": None,
            "features": self.features | indices,
        }
        write_json(meta / "info.json", info)


def _columns(file: PackagedFile, features: dict[str, Feature], points: int) -> Iterator[tuple[slice, dict[str, NDArray[Any]]]]:
    """Rows of one video in parts, as arrays (n, *shape)."""
    window_of = {int(start): w for w, start in enumerate(file.window_start)}
    for begin in range(0, len(file), _ROWS):
        frames = slice(begin, min(begin + _ROWS, len(file)))
        count = frames.stop - frames.start
        columns: dict[str, NDArray[Any]] = {}
        for name, feature in features.items():
            if name == _RGB:
                columns[name] = file.rgb(frames).transpose(0, 2, 3, 1)
            elif name == "observation.depth":
                columns[name] = file.depth(frames)
            elif name == "observation.intrinsics":
                columns[name] = np.repeat(file.array("camera/intrinsics")[None], count, 0)
            elif name in _PER_FRAME:
                columns[name] = file.array(_PER_FRAME[name], frames).reshape(count, *feature["shape"])
            else:
                missing = 0 if feature["dtype"] == "int64" else np.nan
                columns[name] = np.full((count, *feature["shape"]), missing, feature["dtype"])
        for row, frame in enumerate(range(frames.start, frames.stop)):
            if frame in window_of:
                _fill_window(file, window_of[frame], row, columns, points)
        yield frames, columns


_PER_FRAME = {
    "observation.seconds": "timestamps",
    "observation.T_camera_world": "camera/T_camera_world",
    "observation.hands.valid": "hands/valid",
    "observation.hands.T_camera_wrist": "hands/T_camera_wrist",
    "observation.hands.joints_camera": "hands/joints_camera",
    "observation.hands.keypoints_px": "hands/keypoints_px",
}


def _fill_window(file: PackagedFile, window: int, row: int, columns: dict[str, NDArray[Any]], points: int) -> None:
    if "observation.tracks.query" in columns:
        query, displacement, _ = file.tracks(window, slice(0, points))
        columns["observation.tracks.count"][row] = len(query)
        columns["observation.tracks.query"][row, : len(query)] = query
        columns["action.tracks.displacement"][row, :, : len(query)] = displacement
        columns["action.tracks.pose9d"][row] = file.array("tracks/pose9d", window)
    if "action.hands.displacement_uvd" in columns:
        for name in ("displacement_uvd", "displacement_rot6d"):
            columns[f"action.hands.{name}"][row] = file.array(f"hands/window_{name}", window)


def _images(rows: NDArray[np.uint8]) -> Any:
    import pyarrow as pa

    pngs = [cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes() for image in rows]
    return pa.StructArray.from_arrays([pa.array(pngs, pa.binary()), pa.nulls(len(pngs), pa.string())], ["bytes", "path"])


def _nested(rows: NDArray[Any], name: str, features: dict[str, Feature]) -> Any:
    """Lists of lists; a feature of shape [1] is a plain value."""
    import pyarrow as pa

    if features.get(name, {"shape": [1]})["shape"] == [1]:
        return pa.array(rows.reshape(len(rows)))
    array, lengths = pa.array(np.ascontiguousarray(rows).ravel()), rows.shape
    for axis in range(len(lengths) - 1, 0, -1):
        count = int(np.prod(lengths[:axis]))
        offsets = pa.array(np.arange(count + 1, dtype=np.int32) * lengths[axis])
        array = pa.ListArray.from_arrays(offsets, array)
    return array


def _task_table(tasks: dict[str, int]) -> Any:
    """Tasks as pandas reads them: the text is the index."""
    import pyarrow as pa

    table = pa.table({"task_index": pa.array(list(tasks.values()), pa.int64()), "__index_level_0__": list(tasks)})
    column = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    index = {"name": None, "field_name": "__index_level_0__", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    pandas = {"index_columns": ["__index_level_0__"], "column_indexes": [], "columns": [column, index], "pandas_version": "2.0.0"}
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
