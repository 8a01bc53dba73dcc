"""Export to WebDataset: tar shards of one sample per frame, and an index of the shards.

A sample is ``{video}_{frame}.rgb.png``, ``.state.npy``, ``.action.npy`` and ``.json`` (task, video, frame, episode, seconds). An
episode's rows lie in one shard and in order, as far as the shard's size allows, so that sequences can be cut from a stream.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from videolift.dataset.file import PackagedFile
from videolift.export.policy_rows import ExportEpisode, PolicyExport, plan_export, state_action_rows
from videolift.store import write_json
from videolift.y2r.exporter import Exported


def export_webdataset(
    folder: Path,
    out: Path,
    export: PolicyExport | None = None,
    *,
    shard_samples: int = 2000,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Writes the episodes of a published dataset as ``{split}-000000.tar`` and ``index.json``, which lists shards and samples.

    Args:
        folder: of the dataset.
        out: new; refused where it holds an index.
        export: what is exported.
        shard_samples: a shard ends with the episode that reaches this many.
        progress: (done, total) episodes.

    Raises:
        ConfigError: ``out`` is taken, or nothing to export.
    """
    export = export or PolicyExport()
    plan = plan_export(folder, export, out / "index.json")
    out.mkdir(parents=True, exist_ok=True)
    writer = _Shards(out, shard_samples)
    for number, episode in enumerate(plan.episodes):
        with PackagedFile(episode.path) as file:
            writer.add_episode(file, episode, number, export)
        progress(number + 1, len(plan.episodes))
    writer.close()
    index = {"wids_version": 1, "name": "videolift", "shardlist": writer.shards, "fps": plan.fps}
    write_json(out / "index.json", index | {"state": export.state_names, "action": export.action_names})
    return Exported(tuple(out / shard["url"] for shard in writer.shards), plan.left_out)


@dataclass
class _Shards:
    out: Path
    limit: int
    shards: list[dict[str, Any]] = field(default_factory=list)
    _tar: tarfile.TarFile | None = None

    def add_episode(self, file: PackagedFile, episode: ExportEpisode, number: int, export: PolicyExport) -> None:
        """All rows of one episode, into a shard of its split."""
        states, actions = state_action_rows(file, episode, export)
        if self._tar is None or self.shards[-1]["nsamples"] >= self.limit or self.shards[-1]["split"] != episode.split:
            self.close()
            # Counted per split, so that what one split holds does not rename the shards of another.
            before = sum(shard["split"] == episode.split for shard in self.shards)
            self.shards.append({"url": f"{episode.split}-{before:06d}.tar", "nsamples": 0, "split": episode.split})
            # Not compressed: PNGs are already, and a shard is read from any place.
            self._tar = tarfile.TarFile(self.out / self.shards[-1]["url"], "w")
        for row, frame in enumerate(range(episode.start, episode.stop)):
            key = f"{episode.video.replace('.', '-')}_{frame:06d}"  # a key ends at its first dot
            # OpenCV takes blue first.
            image = np.ascontiguousarray(file.rgb(slice(frame, frame + 1))[0].transpose(1, 2, 0)[..., ::-1])
            about = {"video": episode.video, "frame": frame, "episode": number, "frame_index": row, "task": episode.task}
            about["seconds"] = float(file.array("timestamps", frame))
            self._add(f"{key}.rgb.png", cv2.imencode(".png", image)[1].tobytes())
            self._add(f"{key}.state.npy", _npy(states[row]))
            self._add(f"{key}.action.npy", _npy(actions[row]))
            self._add(f"{key}.json", json.dumps(about, sort_keys=True).encode())
            self.shards[-1]["nsamples"] += 1

    def close(self) -> None:
        """Ends the last shard."""
        if self._tar is not None:
            self._tar.close()
            self.shards[-1]["filesize"] = (self.out / self.shards[-1]["url"]).stat().st_size

    def _add(self, name: str, content: bytes) -> None:
        assert self._tar is not None
        member = tarfile.TarInfo(name)  # no time, owner or mode of this machine: equal datasets give equal shards
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()
