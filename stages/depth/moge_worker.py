"""MoGe v2 inside its own interpreter: RGB frames in, metric z-depth and fields of view out. Imports nothing of ours.

Upstream: ``MoGeModel.from_pretrained(file).infer(image, fov_x=degrees)``. Its masked depth is +inf, here 0; its pixel centres
lie at (i + 0.5) / W, so a principal point of 0.5 W is (W - 1) / 2 of ours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray
from videolift_checkpoints import check_archive
from videolift_child import require_arguments

if TYPE_CHECKING:
    from moge.model.v2 import MoGeModel


class MogeFiles(TypedDict):
    """What `load` is given: folders for sys.path, the checkpoint, torch's device."""

    paths: list[str]
    weights: str
    device: str


class MogeMask(TypedDict, total=False):
    """``mask`` False keeps what the model masks out."""

    mask: bool


class MogeTask(MogeMask):
    """What `call` is given beside frames; a field of view, or None to estimate it."""

    hfov_deg: float | None
    resolution_level: int
    batch_frames: int


model: MoGeModel
device = "cpu"


def load(meta: MogeFiles) -> dict[str, str]:
    """Reads the model onto its device."""
    global model, device
    sys.path[:0] = meta["paths"]
    import torch
    from moge.model.v2 import MoGeModel

    require_arguments(MoGeModel.infer, "fov_x", "resolution_level", "apply_mask", "use_fp16")
    # tf32 rounds to 10 bits, and only newer cards do it: results would differ from card to card
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device = meta["device"]
    check_archive(meta["weights"])
    model = MoGeModel.from_pretrained(meta["weights"]).to(device).eval()
    return {"torch": torch.__version__}


def call(
    meta: MogeTask, arrays: dict[str, NDArray[np.uint8]], progress: Callable[[int, int], None]
) -> tuple[dict[str, str], dict[str, NDArray[np.floating]]]:
    """Depth f32 (n, H, W), 0 invalid, and hfov_deg f64 (n) of ``rgb`` u8 (n, H, W, 3)."""
    import torch

    depth, hfov = [], []
    rgb = arrays["rgb"]
    for start in range(0, len(rgb), meta["batch_frames"]):
        image = torch.from_numpy(rgb[start : start + meta["batch_frames"]]).to(device).permute(0, 3, 1, 2).float() / 255.0
        out = model.infer(
            image,
            fov_x=meta["hfov_deg"],
            resolution_level=meta["resolution_level"],
            apply_mask=meta.get("mask", True),
            use_fp16=device != "cpu",  # fp16 on a CPU is ten times slower
        )
        z = out["depth"]
        # Upstream marks what it masks out by infinite depth.
        depth.append(torch.where(torch.isfinite(z) & (z > 0), z, torch.zeros_like(z)).float().cpu().numpy())
        # Its intrinsics are shares of the image, so 0.5 is half the width.
        hfov.append(2 * np.degrees(np.arctan(0.5 / out["intrinsics"][:, 0, 0].double().cpu().numpy())))
        progress(min(start + meta["batch_frames"], len(rgb)), len(rgb))
    return {}, {"depth": np.concatenate(depth), "hfov_deg": np.concatenate(hfov)}
