"""Export to LeRobot's dataset format v3.0: Parquet rows per frame, images as embedded PNG or as video, what its policies train on.

An episode is a stretch of a video in which the hands are known (`videolift.export.policy_rows`), its text the task. Rows hold
``observation.images.rgb``, ``observation.state`` and ``action``; with ``extras`` also depth, camera, hands and tracks, under names
that no policy takes for an observation or an action. Needs pyarrow, not lerobot.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import JOINTS, SIDES
from videolift.dataset.file import PackagedFile
from videolift.errors import ConfigError
from videolift.export.episode_videos import MAX_FILE_MB, EpisodeVideos, check_even, video_feature
from videolift.export.feature_statistics import FeatureStatistics
from videolift.export.language_rows import language_arrays, language_features, subtask_rows
from videolift.export.policy_rows import ExportEpisode, ExportPlan, PolicyExport, plan_export, state_action_rows
from videolift.reader.policies.episodes import EpisodeRow, episodes_of_rows
from videolift.store import write_json
from videolift.y2r.exporter import Exported

CODEBASE = "v3.0"
# As LeRobot's own writer; both stand in info.json.
FILE_MB, FILES_PER_CHUNK = 100, 1000
_PATTERN = "chunk-{chunk:03d}/file-{file:03d}.parquet"
_VIDEO_PATTERN = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_ROWS = 64
_INDEX_FEATURES: dict[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
_TASK_COLUMNS = (
    {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None},
    {"name": None, "field_name": "__index_level_0__", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
)
_TASKS_FOR_PANDAS = json.dumps(
    {"index_columns": ["__index_level_0__"], "column_indexes": [], "columns": _TASK_COLUMNS, "pandas_version": "2.0.0"}
)
RGB = "observation.images.rgb"
STATE, ACTION = "observation.state", "action"

Feature = dict[str, Any]
Columns = dict[str, NDArray[Any]]
Images = Literal["png", "video"]


def features_of(plan: ExportPlan, export: PolicyExport, extras: bool, points: int) -> dict[str, Feature]:
    """Names, types and shapes of the columns; ``extras`` are those of the parts that every video has."""
    sides, image, length = list(SIDES), plan.size_px[::-1], plan.window_length
    table: dict[str, tuple[str, tuple[int, ...], list[str] | None]] = {
        RGB: ("image", (*image, 3), ["height", "width", "channels"]),
        STATE: ("float32", (len(export.state_names),), export.state_names),
        ACTION: ("float32", (len(export.action_names),), export.action_names),
        "source.seconds": ("float64", (1,), None),
    }
    if extras:
        table["depth"] = ("float32", image, ["height", "width"])
        table["camera.intrinsics"] = ("float32", (3, 3), None)
        table["camera.T_camera_world"] = ("float32", (4, 4), None)
        table["hands.valid"] = ("bool", (2,), sides)
        table["hands.T_camera_wrist"] = ("float32", (2, 4, 4), None)
        table["hands.joints_camera"] = ("float32", (2, len(JOINTS), 3), None)
        table["hands.keypoints_px"] = ("float32", (2, len(JOINTS), 2), None)
        table["hands.displacement_uvd"] = ("float32", (2, length, 3), None)
        table["hands.displacement_rot6d"] = ("float32", (2, length, 6), None)
    if extras and "tracks" in plan.parts:
        table["tracks.count"] = ("int64", (1,), None)
        table["tracks.query"] = ("float32", (points, 3), None)
        table["tracks.displacement"] = ("float32", (length, points, 3), None)
        table["tracks.pose9d"] = ("float32", (length, 9), None)
    return {name: {"dtype": dtype, "shape": list(shape), "names": names} for name, (dtype, shape, names) in table.items()}


def export_lerobot(
    folder: Path,
    out: Path,
    export: PolicyExport | None = None,
    *,
    images: Images = "png",
    subtasks: Sequence[EpisodeRow] | None = None,
    extras: bool = False,
    points: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Writes the episodes of a published dataset as LeRobot episodes into ``out``, an empty or new folder.

    Args:
        folder: of the dataset.
        out: new; refused where it holds a dataset.
        export: what is exported.
        images: ``png`` in the rows, every pixel as it is; ``video`` H.264 files, several times smaller.
        subtasks: what is done when, as language columns beside the task; None for no such columns: LeRobot before 0.6 refuses them.
        extras: also depth, camera, hands and tracks.
        points: tracked points per window in the extras, the first of the stored random order; NaN where there are fewer.
        progress: (done, total) episodes.

    Raises:
        ConfigError: pyarrow is missing, ``out`` is taken, no such dataset, split or group, videos of different rates or sizes,
            images of an odd size as video, or a subtask outside its video.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigError("the export to LeRobot needs pyarrow: pip install 'videolift[export]'") from error
    export = export or PolicyExport()
    plan = plan_export(folder, export, out / "meta")
    features = features_of(plan, export, extras, points)
    with ExitStack() as stack:
        videos = None
        if images == "video":
            check_even(plan.size_px)
            features[RGB] = video_feature(plan.size_px, plan.fps)
            videos = stack.enter_context(EpisodeVideos(out, _VIDEO_PATTERN.replace("{video_key}", RGB), plan.size_px, plan.fps))
        if subtasks is not None:
            features |= language_features()
        writer = _Writer(out, features, plan, videos, subtasks)
        for done, episode in enumerate(plan.episodes, 1):
            with PackagedFile(episode.path) as file:
                writer.add_episode(file, episode, *state_action_rows(file, episode, export), points)
            progress(done, len(plan.episodes))
    # Only now: ``meta/`` must not name a video that has no end yet.
    writer.finish()
    return Exported((*writer.files, *(videos.files if videos else ())), plan.left_out)


@dataclass
class _Writer:
    """Appends episodes to Parquet files of some 100 MB and keeps what ``meta/`` will say."""

    out: Path
    features: dict[str, Feature]
    plan: ExportPlan
    videos: EpisodeVideos | None
    subtasks: Sequence[EpisodeRow] | None
    files: list[Path] = field(default_factory=list)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0
    statistics: FeatureStatistics = field(default_factory=FeatureStatistics)
    _parquet: Any = None

    def add_episode(
        self, file: PackagedFile, episode: ExportEpisode, states: NDArray[np.float32], actions: NDArray[np.float32], points: int
    ) -> None:
        """All rows of one episode."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        number, first, rows = len(self.episodes), self.rows, episode.rows
        columns: Columns = {
            STATE: states,
            ACTION: actions,
            "source.seconds": np.asarray(file.array("timestamps", slice(episode.start, episode.stop))).reshape(-1, 1),
            **self.plan.index_columns(episode, number, first),
        }
        # Of the episode too: LeRobot makes those of a chosen part of a dataset from its episodes.
        statistics = {name: self.statistics.add_vectors(name, values.reshape(rows, -1)) for name, values in columns.items()}
        rgb = file.rgb(slice(episode.start, episode.stop))
        statistics[RGB] = self.statistics.add_images(RGB, rgb)
        language = {}
        if self.subtasks is not None:
            times = np.asarray(file.array("timestamps"))
            named = episodes_of_rows(self.subtasks, episode.video, times)
            language = language_arrays(subtask_rows(named, episode.start, episode.stop, self.plan.fps), rows)
        for start in range(0, rows, _ROWS):
            part = slice(start, min(start + _ROWS, rows))
            frames = slice(episode.start + part.start, episode.start + part.stop)
            arrays = {name: _nested(values[part], name, self.features) for name, values in columns.items()}
            for name, values in _extras(file, frames, self.features, points).items():
                arrays[name] = _nested(values, name, self.features)
            arrays |= {name: values[part] for name, values in language.items()}
            table = pa.table(arrays if self.videos else {RGB: _pngs(rgb[part])} | arrays)
            if self._parquet is None:
                chunk, file_number = divmod(len(self.files), FILES_PER_CHUNK)
                self.files.append(self.out / "data" / _PATTERN.format(chunk=chunk, file=file_number))
                self.files[-1].parent.mkdir(parents=True, exist_ok=True)
                # No dictionaries: floats and PNGs hardly ever repeat.
                self._parquet = pq.ParquetWriter(self.files[-1], table.schema, compression="zstd", use_dictionary=False)
            self._parquet.write_table(table)
        self.rows += rows
        chunk, file_number = divmod(len(self.files) - 1, FILES_PER_CHUNK)
        row: dict[str, Any] = {"episode_index": number, "tasks": [episode.task], "length": rows}
        row |= {"dataset_from_index": first, "dataset_to_index": self.rows}
        row |= {"data/chunk_index": chunk, "data/file_index": file_number}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        if self.videos:
            row |= {f"videos/{RGB}/{name}": value for name, value in self.videos.add_episode(rgb).items()}
        row |= {"source/video": episode.video, "source/start_frame": episode.start, "source/split": episode.split}
        row |= {f"stats/{name}/{key}": value for name, table in statistics.items() for key, value in table.items()}
        self.episodes.append(row)
        # Only between episodes: LeRobot looks for an episode in one file.
        if self.files[-1].stat().st_size > FILE_MB << 20:
            self._parquet.close()
            self._parquet = None

    def finish(self) -> None:
        """Closes the data and writes ``meta/``; its info.json last."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._parquet is not None:
            self._parquet.close()
        meta, fps = self.out / "meta", self.plan.fps
        (meta / "episodes/chunk-000").mkdir(parents=True)
        rows = {name: [episode[name] for episode in self.episodes] for name in self.episodes[0]}
        pq.write_table(pa.table(rows), meta / "episodes" / _PATTERN.format(chunk=0, file=0))
        # Tasks as pandas reads them: the text is the index.
        numbers = pa.array(list(self.plan.tasks.values()), pa.int64())
        tasks = pa.table({"task_index": numbers, "__index_level_0__": list(self.plan.tasks)})
        pq.write_table(tasks.replace_schema_metadata({"pandas": _TASKS_FOR_PANDAS}), meta / "tasks.parquet")
        write_json(meta / "stats.json", dict(sorted(self.statistics.table().items())))
        indices = {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in _INDEX_FEATURES.items()}
        info = {
            "codebase_version": CODEBASE,
            "robot_type": "human_hands",
            "total_episodes": len(self.episodes),
            "total_frames": self.rows,
            "total_tasks": len(self.plan.tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": FILE_MB,
            "video_files_size_in_mb": MAX_FILE_MB,
            "fps": round(fps) if abs(fps - round(fps)) < 1e-6 else fps,
            "splits": self.plan.splits,
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": _VIDEO_PATTERN if self.videos else None,
            "features": self.features | indices,
        }
        # Last: without it no loader takes the folder for a dataset.
        write_json(meta / "info.json", info)


def _extras(file: PackagedFile, frames: slice, features: dict[str, Feature], points: int) -> Columns:
    """Columns (n, *shape) of what policies do not take, as far as they are among the features."""
    count, columns = frames.stop - frames.start, {}
    for name, feature in features.items():
        if name == "depth":
            columns[name] = file.depth(frames)
        elif name == "camera.intrinsics":
            columns[name] = np.repeat(file.array("camera/intrinsics")[None], count, 0)
        elif name in _PER_FRAME:
            columns[name] = file.array(_PER_FRAME[name], frames).reshape(count, *feature["shape"])
        elif name.startswith(("tracks.", "hands.displacement")):
            # An int has no NaN; a count of 0 points says the same.
            missing = 0 if feature["dtype"] == "int64" else np.nan
            columns[name] = np.full((count, *feature["shape"]), missing, feature["dtype"])
    # Only frames at which a window starts have its values.
    window_of = {int(start): window for window, start in enumerate(file.window_start)}
    for row, frame in enumerate(range(frames.start, frames.stop)):
        if frame not in window_of:
            continue
        window = window_of[frame]
        if "tracks.query" in columns:
            query, displacement, _ = file.tracks(window, slice(0, points))
            columns["tracks.count"][row] = len(query)
            columns["tracks.query"][row, : len(query)] = query
            columns["tracks.displacement"][row, :, : len(query)] = displacement
            columns["tracks.pose9d"][row] = file.array("tracks/pose9d", window)
        for name in ("displacement_uvd", "displacement_rot6d"):
            if f"hands.{name}" in columns:
                columns[f"hands.{name}"][row] = file.array(f"hands/window_{name}", window)
    return columns


_PER_FRAME = {
    "camera.T_camera_world": "camera/T_camera_world",
    "hands.valid": "hands/valid",
    "hands.T_camera_wrist": "hands/T_camera_wrist",
    "hands.joints_camera": "hands/joints_camera",
    "hands.keypoints_px": "hands/keypoints_px",
}


def _pngs(images: NDArray[np.uint8]) -> Any:
    """Images u8 (n, 3, H, W) as `datasets` keeps them: bytes, and a path that is null."""
    import pyarrow as pa

    bgr = images.transpose(0, 2, 3, 1)[..., ::-1]
    pngs = [cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes() for image in bgr]
    return pa.StructArray.from_arrays([pa.array(pngs, pa.binary()), pa.nulls(len(pngs), pa.string())], ["bytes", "path"])


def _nested(rows: NDArray[Any], name: str, features: dict[str, Feature]) -> Any:
    """Lists of lists; a feature of shape [1] is a plain value."""
    import pyarrow as pa

    if features.get(name, {"shape": [1]})["shape"] == [1]:
        return pa.array(rows.reshape(len(rows)))
    array, lengths = pa.array(np.ascontiguousarray(rows).ravel()), rows.shape
    for axis in range(len(lengths) - 1, 0, -1):
        count = int(np.prod(lengths[:axis]))
        # Lists of pyarrow count with 32 bits.
        offsets = pa.array(np.arange(count + 1, dtype=np.int32) * lengths[axis])
        array = pa.ListArray.from_arrays(offsets, array)
    return array
