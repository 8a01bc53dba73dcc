"""Depth and camera by ViPE: the clip in stretches through upstream's pipeline, joined into one world with one unit.

Converted here: camera-to-world poses to ``T_camera_world``, the intrinsics vector to one ``K`` per video. Results that upstream
returns without complaint but that are known to be wrong are refused: a camera that stood still, an impossible field of view,
depth without relief. The model runs in its own interpreter (`vipe_worker`); how stretches are joined is `joining`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from stages.backend import Inputs, Progress, Quality
from stages.depth import DepthSettings
from stages.depth.motion.camera_path import CameraPath
from stages.depth.networks.joining import DepthStretch, StretchWalk, stretches
from stages.depth.networks.vipe_checks import check_field_of_view, check_motion, check_relief, stretch_figures
from stages.depth.networks.vipe_settings import VipeSettings
from stages.depth.writing import finish_depth
from stages.models.model_process import ModelBackend, require_weights, weights_identity
from stages.segments import SavedArrays, resumable
from videolift.artifacts import ArtifactWriter, Clip, DepthWriter
from videolift.artifacts.depth import Scale
from videolift.config import user_path
from videolift.geometry import invert_pose
from videolift.pool import Device

VIPE_WORKER = Path(__file__).with_name("vipe_worker.py")
METRIC = ("default", "no_vda", "static_vda")
"""Presets whose depth is in metres; lyra's MoGe-1 has no scale."""
_SHARED = ("vipe/droid", "vipe/geocalib", "vipe/sam", "vipe/aot", "vipe/groundingdino", "vipe/bert")
WEIGHTS = {
    "default": (*_SHARED, "vipe/unidepth", "vipe/priorda", "vipe/vda-small"),
    "no_vda": (*_SHARED, "vipe/unidepth", "vipe/priorda"),
    "static_vda": ("vipe/droid", "vipe/geocalib", "vipe/unidepth", "vipe/priorda", "vipe/vda-large"),
    "lyra": (*_SHARED, "vipe/moge1", "vipe/priorda", "vipe/vda-large"),
}
"""What each preset reads."""
MAX_STRETCH_FRAMES = 1000
"""Upstream keeps all of it in memory."""
Call = Callable[[Mapping[str, Any], Mapping[str, NDArray[Any]], Progress], dict[str, NDArray[Any]]]
"""The model; see `stages.models.model_process.ModelBackend._call`."""


class VipeDepth(ModelBackend):
    """The ``vipe`` backend."""

    name: ClassVar[str] = "vipe"
    settings_model: ClassVar[type[VipeSettings]] = VipeSettings
    presets: ClassVar[tuple[str, ...]] = ("gpu",)
    version: ClassVar[int] = 2
    env: ClassVar[str | None] = "vipe"
    device: ClassVar[Literal["cpu", "cuda"]] = "cuda"
    deterministic: ClassVar[bool] = False
    shrinks: ClassVar[tuple[float, ...]] = (1.0, 0.5, 0.25)
    """Shorter stretches: the same video, joined more often."""
    writer: ClassVar[type[ArtifactWriter]] = DepthWriter
    _settings: DepthSettings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result, and the weights' hashes."""
        own = self._settings.of(VipeSettings).model_dump(mode="json", exclude={"python", "torch_home", "hf_home"})
        return {**own, "segment_s": self._settings.segment_s, "weights": weights_identity(self._store, self.weights)}

    @property
    def weights(self) -> list[str]:
        """Names, or paths in the user's own TORCH_HOME and HF_HOME, of what the preset reads."""
        own = self._settings.of(VipeSettings)
        homes = {"torch": own.torch_home, "huggingface": own.hf_home}
        places = []
        for name in WEIGHTS[own.pipeline]:
            weight = self._store.weight(name)
            assert weight is not None
            folder, _, rest = weight.file.removeprefix("vipe/").partition("/")
            home = homes[folder]
            places.append(name if home is None else str(user_path(home) / rest))
        return places

    def load(self, device: Device) -> None:
        """Starts the model; see `stages.backend.Backend.load`."""
        own = self._settings.of(VipeSettings)
        weights = [str(path) for path in require_weights(self._store, self.weights)]
        homes = {
            "TORCH_HOME": own.torch_home or str(self._store.weights_dir / "vipe" / "torch"),
            "HF_HOME": own.hf_home or str(self._store.weights_dir / "vipe" / "huggingface"),
        }
        variables = {name: str(self._root / user_path(home)) for name, home in homes.items()}
        self._start(
            VIPE_WORKER, device, {"pipeline": own.pipeline, "mask_phrases": list(own.mask_phrases), "weights": weights}, variables
        )

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works through the clip stretch by stretch; see `stages.backend.Backend.process`."""
        assert inputs.clip is not None
        assert isinstance(out, DepthWriter)
        return _VipeClip(self._call, inputs.clip, out, self._settings, shrink, progress).run()


class _VipeClip:
    """One clip on its way. Depth in metres is committed with its stretch; without a unit it waits until all of it is seen."""

    def __init__(
        self, call: Call, clip: Clip, out: DepthWriter, settings: DepthSettings, shrink: float, progress: Progress
    ) -> None:
        self.call, self.clip, self.out, self.settings, self.progress = call, clip, out, settings, progress
        self.length = round(settings.segment_s * clip.fps * shrink)
        self.metric = settings.of(VipeSettings).pipeline in METRIC
        self.walk = StretchWalk(out, len(clip), self._estimate)

    def run(self) -> Quality:
        own = self.settings.of(VipeSettings)
        known = self.clip.known_camera()
        intrinsics = known[1] if known is not None else "estimated" if own.hfov_deg is None else "given"
        poses, medians, relief, K = [], [], [], None
        for part in self.parts():
            poses.append(part["T_world_camera"])
            medians.append(part["medians"])
            # Of small arrays alone: depth of all stretches together would not fit into memory.
            relief.append(part["relief"])
            K = part["K"]
        assert K is not None
        T_world_camera = np.concatenate(poses)
        median_depth = float(np.median(np.concatenate(medians)))
        # a camera whose focal length is known may stand still: then nothing had to be estimated from motion
        if intrinsics == "estimated" and known is None:
            check_motion(T_world_camera, median_depth)
        check_relief(np.concatenate(relief), own)
        valid = np.ones(len(self.clip), bool)
        path = CameraPath(invert_pose(T_world_camera), valid, K, pose="slam", intrinsics=intrinsics)
        if not self.metric:
            # the unit is the median of all stretches, so depth could not be written with them
            path = path.in_unit(median_depth)
            start = 0
            for part in self.parts():
                frames = slice(start, start + len(part["depth"]))
                self.out.append_frames(part["depth"] / median_depth, path.T_camera_world[frames], path.valid[frames])
                start = frames.stop
        figures = {
            "median_depth": median_depth,
            "relief": float(np.median(np.concatenate(relief))),
            "stretches": float(len(poses)),
        }
        scale: Scale = "metric" if self.metric else "arbitrary"
        return finish_depth(self.out, path, (), backend="vipe", tier="B", scale=scale, figures=figures)

    def parts(self) -> Iterator[SavedArrays]:
        """Poses, K and depth figures of every stretch, joined; with the depth itself where that has no unit yet."""

        def remaining(done: int) -> list[tuple[int, int]]:
            return stretches(len(self.clip), self.length, MAX_STRETCH_FRAMES, done=done)

        return resumable(self.out, "stretch", remaining, self._stretch, commits=self.metric)

    def _stretch(self, start: int, end: int) -> SavedArrays:
        stretch = self.walk.joined(start, end)
        medians, relief = stretch_figures(stretch.depth)
        found = {"T_world_camera": stretch.T_world_camera, "medians": medians, "relief": relief, "K": stretch.K}
        if not self.metric:
            return {**found, "depth": stretch.depth}
        self.out.append_frames(stretch.depth, invert_pose(stretch.T_world_camera), np.ones(len(stretch.depth), bool))
        return found

    def _estimate(self, start: int, end: int, before: DepthStretch | None) -> DepthStretch:
        """Frames [start, end) in a world of their own; with the camera of those before, if any."""
        known = self.clip.known_camera()
        # A stretch with another focal length could not be joined by poses and one scale.
        given = before.K.tolist() if before is not None else None if known is None else known[0].tolist()
        meta = {"fps": self.clip.fps, "K": given, "hfov_deg": self.settings.of(VipeSettings).hfov_deg}
        total = len(self.clip)

        def report(done: int, of: int) -> None:
            self.progress(min(total, start + (end - start) * done // max(of, 1)), total)

        stretch = stretch_of(self.call(meta, {"rgb": self.clip[start:end]}, report))
        # Later stretches are given the first one's camera, so there is nothing new to check.
        if before is None:
            check_field_of_view(stretch.K, self.clip.width, self.settings.of(VipeSettings))
        return stretch


def stretch_of(reply: dict[str, NDArray[Any]]) -> DepthStretch:
    """From the worker's arrays ``depth``, ``T_world_camera`` and ``intrinsics`` [fx, fy, cx, cy]."""
    fx, fy, cx, cy = reply["intrinsics"]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
    return DepthStretch(reply["depth"].astype(np.float32), reply["T_world_camera"].astype(np.float64), K)


BACKEND = VipeDepth
