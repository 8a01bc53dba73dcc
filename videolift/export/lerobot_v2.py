"""Export to LeRobot's older format v2.1, a Parquet file and an mp4 per episode, which GR00T and openpi read; and what each adds.

Sources, at the commits named: ``meta/modality.json`` as in NVIDIA/Isaac-GR00T, getting_started/data_preparation.md (d6a011619ba5);
``norm_stats.json`` as in Physical-Intelligence/openpi, src/openpi/shared/normalize.py (15a9616a0094). Marked tests read both with
those projects' own loaders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from videolift.dataset.file import PackagedFile
from videolift.errors import ConfigError
from videolift.export.episode_videos import CRF, KEY_EVERY, check_even, video_feature
from videolift.export.feature_statistics import FeatureStatistics
from videolift.export.policy_rows import ExportPlan, PolicyExport, plan_export, state_action_rows
from videolift.h264 import H264Writer
from videolift.store import atomic_file, write_json, write_text
from videolift.y2r.exporter import Exported

VIDEO_KEY = "observation.images.ego_view"
_CHUNK = 1000
_ANNOTATION = "annotation.human.action.task_description"
_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_VECTORS = {"observation.state": "float32", "action": "float32"}
_SCALARS = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64"}
_SCALARS |= {_ANNOTATION: "int64", "next.reward": "float32", "next.done": "bool"}

RobotLayout = Literal["groot", "openpi"]


def export_lerobot_v2(
    folder: Path,
    out: Path,
    layout: RobotLayout,
    export: PolicyExport | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Writes the episodes of a published dataset for ``layout``'s loader.

    Args:
        folder: of the dataset.
        out: new; refused where it holds a dataset.
        layout: ``groot`` adds ``meta/modality.json``, ``openpi`` adds ``norm_stats.json``.
        export: what is exported.
        progress: (done, total) episodes.

    Raises:
        ConfigError: pyarrow is missing, ``out`` is taken, nothing to export; images of an odd size.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigError(f"the export to {layout} needs pyarrow: pip install 'videolift[export]'") from error
    export = export or PolicyExport()
    plan = plan_export(folder, export, out / "meta")
    check_even(plan.size_px)
    statistics, index, per_episode, files = FeatureStatistics(), 0, [], []
    for number, episode in enumerate(plan.episodes):
        with PackagedFile(episode.path) as file:
            states, actions = state_action_rows(file, episode, export)
            video = out / _VIDEO.format(episode_chunk=number // _CHUNK, video_key=VIDEO_KEY, episode_index=number)
            with atomic_file(video) as path, H264Writer(path, file.size_px, plan.fps, crf=CRF, key_every=KEY_EVERY) as movie:
                # One frame at a time: an hour of images would not fit into memory.
                for frame in range(episode.start, episode.stop):
                    movie.write(file.rgb(slice(frame, frame + 1))[0].transpose(1, 2, 0))
        rows = {"observation.state": states, "action": actions} | plan.index_columns(episode, number, index)
        rows[_ANNOTATION] = rows["task_index"]
        rows["next.reward"] = np.zeros(episode.rows, np.float32)
        rows["next.done"] = rows["frame_index"] == episode.rows - 1  # GR00T's schema asks for it; nothing here is a reward
        index += episode.rows
        per_episode.append({name: statistics.add_vectors(name, v.reshape(len(v), -1)) for name, v in rows.items()})
        # pyarrow takes no arrays of two axes.
        table = pa.table({name: pa.array(list(v) if v.ndim > 1 else v) for name, v in rows.items()})
        data = out / _DATA.format(episode_chunk=number // _CHUNK, episode_index=number)
        data.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, data)
        files += [data, video]
        progress(number + 1, len(plan.episodes))
    _write_meta(out / "meta", plan, export, rows=index, per_episode=per_episode, table=statistics.table())
    if layout == "groot":
        write_json(out / "meta/modality.json", modality_table(export))
    else:
        write_json(out / "norm_stats.json", norm_stats(statistics.table()))
    return Exported(tuple(files), plan.left_out)


def modality_table(export: PolicyExport) -> dict[str, Any]:
    """``meta/modality.json``: which numbers of state and action are what, per hand."""
    spec = export.spec
    # From names like ``left.wrist.rot6d_0`` and ``left.wrist.x`` to ``left_wrist_rot6d``: (3, 9) and so on.
    fields: dict[str, tuple[int, int]] = {}
    for number, name in enumerate(spec.names):
        side, _, rest = name.partition(".")
        part = "wrist_rot6d" if "rot6d" in rest else "wrist_position" if rest.startswith("wrist.") else rest.partition(".")[0]
        first, _ = fields.get(f"{side}_{part}", (number, 0))
        fields[f"{side}_{part}"] = first, number + 1
    rotation = {"rotation_type": "rotation_6d"}
    state = {name: {"start": a, "end": b} | (rotation if "rot6d" in name else {}) for name, (a, b) in fields.items()}
    absolute = spec.action == "absolute"
    action = {name: {**bounds, "absolute": absolute} for name, bounds in state.items()}
    # The flags of known hands come after the state, and are not part of the action.
    flags = export.state_names[len(spec.names) :]
    state |= {
        name.replace(".", "_"): {"start": len(spec.names) + i, "end": len(spec.names) + i + 1} for i, name in enumerate(flags)
    }
    return {
        "state": state,
        "action": action,
        "video": {"ego_view": {"original_key": VIDEO_KEY}},
        "annotation": {_ANNOTATION.removeprefix("annotation."): {}},
    }


def norm_stats(table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """``norm_stats.json``: mean, std, q01, q99 of ``state`` and ``actions``."""
    named = {"state": table["observation.state"], "actions": table["action"]}
    return {"norm_stats": {key: {name: stats[name] for name in ("mean", "std", "q01", "q99")} for key, stats in named.items()}}


def _write_meta(
    meta: Path,
    plan: ExportPlan,
    export: PolicyExport,
    *,
    rows: int,
    per_episode: list[dict[str, Any]],
    table: dict[str, dict[str, Any]],
) -> None:
    episodes = [{"episode_index": n, "tasks": [e.task], "length": e.rows} for n, e in enumerate(plan.episodes)]
    _write_lines(meta / "episodes.jsonl", episodes)
    _write_lines(meta / "tasks.jsonl", ({"task_index": number, "task": task} for task, number in plan.tasks.items()))
    _write_lines(meta / "episodes_stats.jsonl", ({"episode_index": n, "stats": stats} for n, stats in enumerate(per_episode)))
    write_json(meta / "stats.json", table)
    names = {"observation.state": export.state_names, "action": export.action_names}
    features: dict[str, Any] = {n: {"dtype": d, "shape": [len(names[n])], "names": names[n]} for n, d in _VECTORS.items()}
    features |= {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in _SCALARS.items()}
    features[VIDEO_KEY] = video_feature(plan.size_px, plan.fps)
    write_json(
        meta / "info.json",
        {
            "codebase_version": "v2.1",
            "robot_type": "human_hands",
            "total_episodes": len(episodes),
            "total_frames": rows,
            "total_tasks": len(plan.tasks),
            "total_videos": len(episodes),
            "total_chunks": -(-len(episodes) // _CHUNK),
            "chunks_size": _CHUNK,
            # Loaders expect an int; a rate that is not whole is stated as it is rather than rounded.
            "fps": round(plan.fps) if abs(plan.fps - round(plan.fps)) < 1e-6 else plan.fps,
            "splits": plan.splits,
            "data_path": _DATA,
            "video_path": _VIDEO,
            "features": features,
        },
    )


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows))
