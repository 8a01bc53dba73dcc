"""The predecessor's packaged files as they are, in the fields and conventions of `WindowDataset`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videolift.errors import ConfigError
from videolift.geometry import invert_pose, pose_9d, rotation_from_6d
from videolift.reader.adapters.lazy_hdf5 import LazyHdf5
from videolift.reader.frames import Sample


class Y2rWindows:
    """A sample is a window: ``rgb`` (1, 3, S, S), ``depth`` with ``depth_valid``, ``intrinsics``, ``query``, ``displacement``,
    ``point_valid``, ``pose9d`` with ``pose9d_valid``, ``video``, ``frame``.

    Its K counts pixels from the corner and its poses map camera 0 to camera k; both are turned into ours.

    Args:
        files: ``{video}.hdf5`` of the predecessor.
        points: drawn per window, uniformly, anew in every epoch; None for all.
        seed: of the points.

    Raises:
        ConfigError: no files.
        CorruptFile: a file cannot be read.
    """

    def __init__(self, files: Sequence[Path], *, points: int | None = None, seed: int = 0) -> None:
        if not files:
            raise ConfigError("there are no files to read")
        self.points, self.seed = points, seed
        self._files = [LazyHdf5(Path(path)) for path in files]
        self._windows = [(number, name) for number, file in enumerate(self._files) for name in sorted(file.open()["root/tracks"])]

    def __len__(self) -> int:
        return len(self._windows)

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """See the class.

        Raises:
            IndexError: no such window.
            CorruptFile: it cannot be read.
        """
        index = range(len(self))[index]
        number, name = self._windows[index]
        file, group, frame = self._files[number], f"root/tracks/{name}", int(name.rpartition("_")[2])
        query, displacement = file.read(f"{group}/query_coords"), file.read(f"{group}/displacements")
        present = len(query)
        wanted = present if self.points is None else self.points
        # A generator per sample, as for our own files: no worker and no order may change what is drawn.
        rng = np.random.default_rng([self.seed, epoch, index])
        chosen = rng.choice(present, wanted, replace=False) if wanted < present else np.arange(present)
        pad = wanted - len(chosen)
        nine = file.read(f"{group}/poses")
        T_camk_cam0 = np.zeros((len(nine), 4, 4))
        T_camk_cam0[:, :3, :3], T_camk_cam0[:, :3, 3] = rotation_from_6d(nine[:, :6]), nine[:, 6:]
        T_camk_cam0[:, 3, 3] = 1.0
        # Theirs leads from camera 0 to camera k, ours back.
        pose9d = pose_9d(invert_pose(T_camk_cam0))
        known = np.asarray(np.isfinite(pose9d).all(-1))
        depth = file.read("root/depth", slice(frame, frame + 1)).astype(np.float32)
        K = file.read("root/intrinsics").astype(np.float32)
        # Its pixels begin at integers, ours are centred on them.
        K[:2, 2] -= 0.5
        return {
            "video": file.path.stem,
            "frame": frame,
            "rgb": file.read("root/video", slice(frame, frame + 1)),
            "depth": depth,
            "depth_valid": depth > 0,
            "intrinsics": K,
            "query": np.pad(query[chosen], ((0, pad), (0, 0))).astype(np.float32),
            "displacement": np.pad(displacement[:, chosen], ((0, 0), (0, pad), (0, 0))).astype(np.float32),
            "point_valid": np.arange(wanted) < len(chosen),
            "pose9d": np.where(known[:, None], pose9d, 0).astype(np.float32),
            "pose9d_valid": known,
        }
