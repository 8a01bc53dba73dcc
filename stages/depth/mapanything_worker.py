"""MapAnything inside its own interpreter: frames of one stretch in, depth, camera and poses out. Imports nothing of ours.

All frames of a stretch go through the network together, at a size whose sides are multiples of its patches. Upstream's conventions
are ours: integer pixel = pixel centre, z-depth in metres, camera to world, OpenCV axes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from videolift_checkpoints import check_weights
from videolift_child import SignsOfLife, require_arguments

VIT_PATCH_PX = 14
"""DINOv2's."""

model: Any = None
device = "cpu"


def load(meta: dict[str, Any]) -> dict[str, Any]:
    """Meta: paths (put on sys.path), dinov2 (its checkout), weights (a folder with config.json and model.safetensors, or one of the
    hub's cache), device."""
    global model, device
    sys.path[:0] = meta["paths"]
    check_weights(meta["weights"])
    import torch

    load_from = torch.hub.load

    # Upstream fetches DINOv2's code, and weights that the checkpoint then overwrites, through torch.hub; both lie here already.
    def load_local(repository: str, name: str, *, pretrained: bool = True, force_reload: bool = False) -> Any:
        if repository != "facebookresearch/dinov2":
            raise ValueError(f"upstream asks torch.hub for {repository}, which it is not known to need; nothing was fetched")
        return load_from(meta["dinov2"], name, source="local", pretrained=False)

    torch.hub.load = load_local
    from mapanything.models.mapanything.model import MapAnything

    require_arguments(MapAnything.infer, "views", "memory_efficient_inference", "use_amp", "amp_dtype", "apply_mask", "mask_edges")
    # tf32 rounds to 10 bits, and only newer cards do it: results would differ from card to card
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device = meta["device"]
    model = MapAnything.from_pretrained(weights_folder(meta["weights"])).to(device).eval()
    return {"torch": torch.__version__}


def call(
    meta: dict[str, Any], arrays: dict[str, np.ndarray], progress: Callable[[int, int], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One stretch. Meta: K (3, 3) of the frames or None, side_px (the longer side in the network), mask (False keeps what the model
    would mask out). Array: rgb u8 (n, H, W, 3).

    Returns depth f32 (n, H, W), 0 invalid; T_world_camera f32 (n, 4, 4); intrinsics f64 (n, 4) [fx, fy, cx, cy] of the frames.
    """
    import torch
    from torch.nn.modules.module import register_module_forward_hook
    from uniception.models.encoders.image_normalizations import IMAGE_NORMALIZATION_DICT

    rgb = arrays["rgb"]
    size = network_size(rgb.shape[1], rgb.shape[2], meta["side_px"])
    norm = IMAGE_NORMALIZATION_DICT[model.encoder.data_norm_type]
    mean, std = (values.view(1, 3, 1, 1).to(device) for values in (norm.mean, norm.std))
    views = []
    for image in rgb:
        pixels = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255.0
        # Antialiased: without it thin things vanish when frames shrink.
        pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
        view = {"img": (pixels - mean) / std, "data_norm_type": [model.encoder.data_norm_type]}
        if meta["K"] is not None:
            view["intrinsics"] = torch.tensor(scaled_camera(meta["K"], rgb.shape[1:3], size), dtype=torch.float32, device=device)[
                None
            ]
        views.append(view)
    # One call may compute longer than a pool waits for a sign of life.
    hook = register_module_forward_hook(SignsOfLife(progress, len(rgb)))
    try:
        with torch.inference_mode():
            found = model.infer(
                views,
                memory_efficient_inference=True,
                use_amp=device != "cpu",
                amp_dtype="bf16",
                apply_mask=meta.get("mask", True),
                mask_edges=meta.get("mask", True),
            )
    finally:
        hook.remove()
    depth, poses, cameras = [], [], []
    for view in found:
        z = view["depth_z"][..., 0][None].float()
        # Nearest: across an edge a mixture would lie in mid-air.
        z = torch.nn.functional.interpolate(z, rgb.shape[1:3], mode="nearest-exact")[0, 0].cpu().numpy()
        depth.append(np.where(np.isfinite(z) & (z > 0), z, 0).astype(np.float32))
        poses.append(view["camera_poses"][0].float().cpu().numpy())
        K = scaled_camera(view["intrinsics"][0].double().cpu().numpy(), size, rgb.shape[1:3])
        cameras.append([K[0, 0], K[1, 1], K[0, 2], K[1, 2]])
    return {}, {"depth": np.stack(depth), "T_world_camera": np.stack(poses), "intrinsics": np.array(cameras, np.float64)}


def network_size(height: int, width: int, side_px: int) -> tuple[int, int]:
    """Height and width of the frames in the network: whole patches, the longer side about ``side_px``."""
    patches_per_px = side_px / max(height, width) / VIT_PATCH_PX
    return max(1, round(height * patches_per_px)) * VIT_PATCH_PX, max(1, round(width * patches_per_px)) * VIT_PATCH_PX


def scaled_camera(K: Any, size: tuple[int, ...], other: tuple[int, ...]) -> np.ndarray:
    """K (3, 3) of an image (H, W) = ``size`` for the same image at ``other``; pixel centres are whole numbers."""
    y, x = (b / a for a, b in zip(size, other))
    out = np.array(K, np.float64)
    out[0, 0], out[1, 1] = out[0, 0] * x, out[1, 1] * y
    out[0, 2], out[1, 2] = (out[0, 2] + 0.5) * x - 0.5, (out[1, 2] + 0.5) * y - 0.5
    return out


def weights_folder(path: str) -> str:
    """The folder with config.json: the one given, or the only snapshot of a hub's cache folder."""
    snapshots = os.path.join(path, "snapshots")
    return os.path.join(snapshots, sorted(os.listdir(snapshots))[0]) if os.path.isdir(snapshots) else path
