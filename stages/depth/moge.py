"""Metric depth by MoGe v2, frame by frame, with one field of view and a steady scale; the camera from its motion in the image.

For tripods, and for short clips in which a SLAM system cannot start. A camera that stands still has identity poses, one that moves
gets those of structure from motion, brought to metres by comparing its points with the depth. The model runs in its own interpreter
(`moge_worker`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.backend import Inputs, Progress, Quality
from stages.depth import DepthSettings
from stages.depth.networks.moge_clip import MogeClip, MogeUse
from stages.depth.sfm_settings import SfmSettings
from stages.models.model_process import ModelBackend, ModelSettings, require_weights, torch_device, weights_identity
from videolift.artifacts import ArtifactWriter, DepthWriter
from videolift.config import Count, Positive
from videolift.pool import Device

MOGE_WORKER = Path(__file__).with_name("moge_worker.py")


class MogeSettings(ModelSettings):
    """MoGe v2: metric depth per frame."""

    weights: str = Field("Ruicheng/moge-2-vitl-normal", description="a name in thirdparty/models.yaml, or a file of yours")
    hfov_deg: Positive | None = Field(None, description="fixed horizontal field of view; none takes the median of its estimates")
    resolution_level: int = Field(9, ge=0, le=9, description="0 fast to 9 fine, upstream's scale")
    batch_frames: Count = Field(8, description="frames per forward pass; halved on out of memory")
    checkout: str | None = Field(None, description="a checkout of yours instead of the installed one")
    utils3d: str | None = Field(None, description="likewise, of the utils3d that it imports")


class MogeDepth(ModelBackend):
    """The ``moge`` backend."""

    name: ClassVar[str] = "moge"
    settings_model: ClassVar[type[MogeSettings]] = MogeSettings
    version: ClassVar[int] = 4
    env: ClassVar[str | None] = "moge"
    packages: ClassVar[tuple[str, ...]] = ("pycolmap",)
    device: ClassVar[Literal["cpu", "cuda"]] = "cuda"
    deterministic: ClassVar[bool] = False
    shrinks: ClassVar[tuple[float, ...]] = (1.0, 0.5, 0.25, 0.125)
    writer: ClassVar[type[ArtifactWriter]] = DepthWriter
    _settings: DepthSettings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result, and the weights' hash."""
        away = {"weights", "batch_frames", "python", "checkout", "utils3d"}
        own = self._settings.of(MogeSettings).model_dump(mode="json", exclude=away)
        poses = {"seed": self._settings.seed, "sfm": self._settings.of(SfmSettings).model_dump(mode="json")}
        return {**own, **poses, "weights": weights_identity(self._store, self.weights)}

    @property
    def checkouts(self) -> dict[str, str | None]:
        """Repositories it runs from, and the user's own folder for each."""
        return {"MoGe": self._settings.of(MogeSettings).checkout, "utils3d": self._settings.of(MogeSettings).utils3d}

    @property
    def weights(self) -> list[str]:
        """Names or paths of what it reads."""
        return [self._settings.of(MogeSettings).weights]

    def load(self, device: Device) -> None:
        """Starts the model; see `stages.backend.Backend.load`."""
        (weights,) = require_weights(self._store, self.weights)
        paths = [str(self._store.checkout("moge", name, override)) for name, override in self.checkouts.items()]
        self._start(MOGE_WORKER, device, {"paths": paths, "weights": str(weights), "device": torch_device(device)})

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works on one video; see `stages.backend.Backend.process`."""
        assert inputs.clip is not None
        assert isinstance(out, DepthWriter)
        own = self._settings.of(MogeSettings)
        # Frames do not see each other in the network, so a smaller batch is the same work.
        batch = max(1, round(own.batch_frames * shrink))

        def infer(rgb: NDArray[np.uint8], hfov_deg: float | None, report: Progress) -> dict[str, NDArray[Any]]:
            meta = {"hfov_deg": hfov_deg, "resolution_level": own.resolution_level, "batch_frames": batch}
            return self._call(meta, {"rgb": rgb}, report)

        return MogeClip(infer, inputs.clip, out, self._settings, MogeUse(self.name, own.hfov_deg), progress).run()


BACKEND = MogeDepth
