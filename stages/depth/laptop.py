"""Depth on a processor for most clips: structure from motion where motion shows depth, MoGe's small weights where it does not.

MoGe looks at every few frames; those between are carried over by flow and camera where both neighbours agree, and are invalid
elsewhere. Each file says which of the two was used (attribute ``method``): tier C and an arbitrary unit, or tier B and metres.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.backend import Inputs, Progress, Quality
from stages.depth import DepthSettings
from stages.depth.moge import MOGE_WORKER
from stages.depth.motion.camera_path import CameraPath
from stages.depth.networks.moge_clip import MogeClip, MogeUse
from stages.depth.sfm import SfmClip
from stages.depth.sfm_settings import SfmSettings
from stages.models.model_process import ModelBackend, ModelSettings, require_weights, torch_device, weights_identity
from stages.segments import kept
from videolift.artifacts import ArtifactWriter, DepthWriter
from videolift.config import Count, Positive
from videolift.pool import Device

_BATCH = 1
"""Frames per forward pass: a processor gains nothing by more."""
_FOV_FRAMES = 5


class LaptopSettings(ModelSettings):
    """Structure from motion where it works, else MoGe's small weights on a processor."""

    weights: str = Field("laptop/moge-2-vits-normal", description="a name in thirdparty/models.yaml, or a file of yours")
    every: Count = Field(5, description="MoGe looks at every N-th frame; those between are carried over by flow where they agree")
    hfov_deg: Positive | None = Field(None, description="fixed horizontal field of view of MoGe; none takes its own estimate")
    resolution_level: int = Field(0, ge=0, le=9, description="0 fast to 9 fine, upstream's scale")
    checkout: str | None = Field(None, description="a checkout of MoGe of yours instead of the installed one")
    utils3d: str | None = Field(None, description="likewise, of the utils3d that it imports")


class LaptopDepth(ModelBackend):
    """The ``laptop`` backend."""

    name: ClassVar[str] = "laptop"
    settings_model: ClassVar[type[LaptopSettings]] = LaptopSettings
    presets: ClassVar[tuple[str, ...]] = ("laptop",)
    version: ClassVar[int] = 2
    env: ClassVar[str | None] = "moge_cpu"
    cost: ClassVar[str] = (
        "once 1.1 GB of packages and 0.15 GB of weights are downloaded; a frame takes 0.4 s of CPU where motion shows depth, else "
        "about 2.5 s: MoGe looks at every fifth for 12 s"
    )
    packages: ClassVar[tuple[str, ...]] = ("pycolmap",)
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = False
    writer: ClassVar[type[ArtifactWriter]] = DepthWriter
    _settings: DepthSettings

    def identity(self) -> dict[str, Any]:
        """The settings of both methods that change a result, and the weights' hash."""
        own = self._settings.of(LaptopSettings).model_dump(mode="json", exclude={"weights", "python", "checkout", "utils3d"})
        sfm = self._settings.of(SfmSettings).model_dump(mode="json")
        return {**own, "seed": self._settings.seed, "sfm": sfm, "weights": weights_identity(self._store, self.weights)}

    @property
    def checkouts(self) -> dict[str, str | None]:
        """Repositories it runs from, and the user's own folder for each."""
        own = self._settings.of(LaptopSettings)
        return {"MoGe": own.checkout, "utils3d": own.utils3d}

    @property
    def weights(self) -> list[str]:
        """Names or paths of what it reads."""
        return [self._settings.of(LaptopSettings).weights]

    def load(self, device: Device) -> None:
        """Starts the model; see `stages.backend.Backend.load`."""
        cv2.setNumThreads(device.threads)
        (weights,) = require_weights(self._store, self.weights)
        paths = [str(self._store.checkout(self.name, name, override)) for name, override in self.checkouts.items()]
        self._start(MOGE_WORKER, device, {"paths": paths, "weights": str(weights), "device": torch_device(device)})

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works on one video; see `stages.backend.Backend.process`."""
        assert inputs.clip is not None
        assert isinstance(out, DepthWriter)
        by_motion = SfmClip(inputs.clip, out, self._settings, progress)
        # Kept: the choice between the two methods must be the same after a kill.
        path = CameraPath.from_arrays(kept(out, "camera", lambda: by_motion.observe().to_arrays()))
        if path.scene_depth is not None:
            return by_motion.write_measured(path, backend=self.name, method="sfm")
        own = self._settings.of(LaptopSettings)

        def infer(rgb: NDArray[np.uint8], hfov_deg: float | None, report: Progress) -> dict[str, NDArray[Any]]:
            meta = {"hfov_deg": hfov_deg, "resolution_level": own.resolution_level, "batch_frames": _BATCH}
            return self._call(meta, {"rgb": rgb}, report)

        # Few frames for the field of view: each costs 12 s on a processor.
        use = MogeUse(self.name, own.hfov_deg, fov_frames=_FOV_FRAMES, every=own.every, method="moge")
        return MogeClip(infer, inputs.clip, out, self._settings, use, progress).run()


BACKEND = LaptopDepth
