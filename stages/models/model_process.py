"""What all backends with an environment of their own share: a process of its interpreter, on the pool's device, offline.

The model, its weights and its arrays are the backend's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray
from pydantic import Field

from stages.backend import Backend, Progress
from stages.models.environments import interpreter
from stages.models.weights import WeightStore
from videolift.config import Block, user_path
from videolift.errors import BackendUnavailable
from videolift.isolation import Arrays, Isolated
from videolift.pool import Device

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "WANDB_MODE": "offline",
}
"""A job never downloads; whatever is missing is named instead."""


class ModelSettings(Block):
    """What the settings of every such backend have."""

    python: str | None = Field(None, description="an interpreter of yours instead of the built environment")


class ModelBackend(Backend):
    """A backend whose model runs in the environment ``env`` or in the interpreter that its own settings name."""

    settings_model: ClassVar[type[ModelSettings]]

    def __init__(self, settings: Any, *, root: Path) -> None:
        super().__init__(settings, root=root)
        self._root = root
        self._store = WeightStore(root, settings.models_dir)
        self._process: Isolated | None = None
        self.about: dict[str, Any] = {}
        self.notes: tuple[str, ...] = ()
        """What a person should know of how the model runs here; for `stages.backend.Quality.checks`."""

    @property
    def python(self) -> str | None:
        """The interpreter that the settings name."""
        own: ModelSettings = self._settings.of(self.settings_model)
        return own.python

    def close(self) -> None:
        """Ends the model's process."""
        if self._process is not None:
            self._process.close()

    def _start(self, worker: Path, device: Device, meta: Mapping[str, Any], variables: Mapping[str, str] | None = None) -> None:
        """Starts ``worker`` on the device (a card becomes the only one it sees) and lets it load.

        Raises:
            BackendUnavailable: the environment is not built, or the model does not load; what is missing is named.
        """
        envs_dir = self._root / user_path(self._settings.envs_dir)
        python = interpreter(self.env or self.name, envs_dir=envs_dir, override=self.python)
        if self.device == "any" and device.kind == "cpu":
            self.notes = (f"{self.name} ran on the CPU, slowly, since no card may be used",)
        # numpy and torch would each take all cores, in every worker of the pool at once.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(device.threads))
        card = {"CUDA_VISIBLE_DEVICES": device.id if device.kind == "cuda" else ""}
        self._process = Isolated(python, worker, env={**OFFLINE, **threads, **card, **(variables or {})})
        loaded = self._process.load(meta)
        self.about = self._process.hello | loaded

    def _call(self, meta: Mapping[str, Any], arrays: Arrays, progress: Progress | None = None) -> dict[str, NDArray[Any]]:
        """The arrays of one call; see `videolift.isolation.Isolated.call`."""
        # The arrays alone: what a model says besides is for `load`.
        assert self._process is not None
        return self._process.call(meta, arrays, progress)[1]


def require_weights(store: WeightStore, names: Sequence[str]) -> list[Path]:
    """Where the weights lie.

    Raises:
        BackendUnavailable: one is missing or is not what it was; ends with the command to type.
    """
    problems = [problem for name in names if (problem := store.problem(name))]
    if problems:
        raise BackendUnavailable("\n".join(problems))
    return [store.path(name) for name in names]


def weights_identity(store: WeightStore, names: Sequence[str]) -> list[str | None]:
    """SHA-256 of each weight, wherever it lies; None where it is missing, so that a plan can be made without it."""
    return [store.sha256(name) for name in names]


def torch_device(device: Device) -> str:
    """What torch calls the device inside the child."""
    return "cuda:0" if device.kind == "cuda" else "cpu"
