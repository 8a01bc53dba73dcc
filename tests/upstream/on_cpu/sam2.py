"""SAM 2 as in production, in its smallest form: upstream's true code through our worker."""

from collections.abc import Mapping
from pathlib import Path
from runpy import run_path
from typing import Any

from stages.masks.sam2 import Sam2Masks
from videolift.pool import Device

_SMALL = run_path(str(Path(__file__).parents[1] / "small_sam2.py"))


class SmallSam2(Sam2Masks):
    def _start(self, worker: Path, device: Device, meta: dict[str, Any], variables: Mapping[str, str] | None = None) -> None:
        super()._start(worker, device, {**meta, "overrides": list(_SMALL["OVERRIDES"])}, variables)


BACKEND = SmallSam2
