"""SAM 2 inside its own interpreter: frames of one chunk and what is remembered of earlier ones in, instance ids and memory out.

Stateless between calls. Frames are prepared as upstream prepares JPEG files, and holes of masks are not filled, for which upstream
needs a compiled extension. Imports nothing of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
from videolift_checkpoints import check_weights
from videolift_child import require_arguments

# ImageNet's, as upstream's loader has them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

predictor: Any = None


def load(meta: dict[str, Any]) -> dict[str, Any]:
    """Meta: paths (put on sys.path), config (upstream's name), weights (a file; None leaves them random), device, overrides (of the
    configuration, optional)."""
    global predictor
    sys.path[:0] = meta["paths"]
    # Upstream draws a bar per frame, which would fill the log that a crash quotes.
    os.environ["TQDM_DISABLE"] = "1"
    if meta["weights"] is not None:
        check_weights(meta["weights"])
    import torch
    from sam2 import sam2_video_predictor
    from sam2.build_sam import build_sam2_video_predictor

    require_arguments(sam2_video_predictor.load_video_frames, "video_path", "image_size")
    # Upstream reads JPEG files or a video; here the frames are there already and stand in for the path.
    sam2_video_predictor.load_video_frames = lambda video_path, **_: (video_path, *video_path.size)
    overrides = list(meta.get("overrides", ()))
    predictor = build_sam2_video_predictor(meta["config"], meta["weights"], meta["device"], hydra_overrides_extra=overrides)
    # Without its extension upstream warns at every frame and goes on; with it results would depend on the build.
    predictor.fill_hole_area = 0
    if predictor.memory_temporal_stride_for_eval != 1:
        raise ValueError("this configuration remembers every n-th frame; the adapter keeps the last ones")
    return {"torch": torch.__version__}


def call(
    meta: dict[str, Any], arrays: dict[str, np.ndarray], progress: Callable[[int, int], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One chunk. Meta: first (frame), total (frames of the video), ids, prompts (id, kind, uv_px). Arrays: rgb u8
    (n, H, W, 3); in the chunk at frame 0 perhaps mask u8 (H, W), later what the call before returned besides ``instance``.

    Returns instance u8 (n, H, W), and ``pointers``, ``features``, ``positions``: what is remembered of the first and last frames.
    """
    import torch

    rgb, first = arrays["rgb"], int(meta["first"])
    state = predictor.init_state(_Frames(rgb, first, int(meta["total"])))
    # Upstream filed its warm-up under frame 0; they are the features of the chunk's first frame.
    state["cached_features"] = {first: state["cached_features"].pop(0)}
    device = state["device"]
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    instance = np.zeros(rgb.shape[:3], np.uint8)
    with torch.autocast("cuda", torch.bfloat16) if fast else nullcontext():
        if first == 0:
            mask = arrays.get("mask")
            for number in [] if mask is None else np.unique(mask[mask > 0]).tolist():
                predictor.add_new_mask(state, 0, number, mask == number)
            for prompt in meta["prompts"]:
                uv = np.array(prompt["uv_px"], np.float32)
                given = {"points": uv, "labels": np.ones(1, np.int32)} if prompt["kind"] == "click" else {"box": uv.reshape(4)}
                predictor.add_new_points_or_box(state, 0, prompt["id"], **given)
        else:
            _restore(state, meta["ids"], first, arrays)
        for frame, ids, logits in predictor.propagate_in_video(state, first, len(rgb) - 1):
            # Where objects overlap the surer one has the pixel.
            best, which = logits[:, 0].float().max(0)
            named = np.array(ids, np.uint8)[which.cpu().numpy()]
            instance[frame - first] = np.where(best.cpu().numpy() > 0, named, 0).astype(np.uint8)
            # Upstream keeps every frame's memory: half a megabyte per object, an hour of which is 18 GB.
            for outputs in state["output_dict_per_obj"].values():
                later = outputs["non_cond_frame_outputs"]
                for old in [known for known in later if known <= frame - _reach()[1]]:
                    del later[old]
            progress(frame - first + 1, len(rgb))
    return {}, {"instance": instance, **_memory(state, first + len(rgb))}


class _Frames:
    """What upstream takes for the list of a video's frames; holds those of one chunk."""

    def __init__(self, rgb: np.ndarray, first: int, total: int) -> None:
        self._rgb, self._first, self._total = rgb, first, total
        self.size = rgb.shape[1:3]

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, frame: int) -> Any:
        import torch
        from PIL import Image

        # Upstream warms up on frame 0; the chunk's first frame takes its place, whose features are needed next anyway.
        index = frame - self._first if frame or not self._first else 0
        side = predictor.image_size
        # float64 and PIL's resampling, as upstream's loader; another way differs by a grey level.
        pixels = np.array(Image.fromarray(self._rgb[index]).resize((side, side))) / 255.0
        image = torch.from_numpy(pixels).permute(2, 0, 1).float()
        mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (MEAN, STD))
        return (image - mean) / std


def _reach() -> tuple[int, int]:
    """Frames before the present one whose features, and whose pointers, are looked at."""
    return predictor.num_maskmem - 1, predictor.max_obj_ptrs_in_encoder - 1


def _memory(state: Any, end: int) -> dict[str, np.ndarray]:
    """What frame ``end`` and later ones need: pointers (objects, 1 + frames, 1, C) and features (objects, 1 + frames, 1, C, h, w)
    of frame 0 and the last frames, and positions (1, C, h, w)."""
    import torch

    def remembered(name: str, reach: int) -> np.ndarray:
        objects = []
        for outputs in state["output_dict_per_obj"].values():
            later = [outputs["non_cond_frame_outputs"][frame] for frame in range(max(1, end - reach), end)]
            objects.append(torch.stack([one[name] for one in [outputs["cond_frame_outputs"][0], *later]]))
        return _to_numpy(torch.stack(objects))

    features, pointers = _reach()
    positions = _to_numpy(state["constants"]["maskmem_pos_enc"][-1])
    return {
        "pointers": remembered("obj_ptr", pointers),
        "features": remembered("maskmem_features", features),
        "positions": positions,
    }


def _restore(state: Any, ids: list[int], first: int, arrays: dict[str, np.ndarray]) -> None:
    pointers, features, positions = (_to_torch(arrays[name], state["device"]) for name in ("pointers", "features", "positions"))
    state["constants"]["maskmem_pos_enc"] = [positions]
    for index, number in enumerate(ids):
        outputs = state["output_dict_per_obj"][predictor._obj_id_to_idx(state, number)]
        for k, pointer in enumerate(pointers[index]):
            frame = 0 if k == 0 else first - pointers.shape[1] + k
            kept = k if k == 0 else k - (pointers.shape[1] - features.shape[1])
            known = features[index, kept] if kept > 0 or k == 0 else None
            one = {"obj_ptr": pointer, "maskmem_features": known, "maskmem_pos_enc": [positions], "pred_masks": None}
            outputs["non_cond_frame_outputs" if k else "cond_frame_outputs"][frame] = one


def _to_numpy(tensor: Any) -> np.ndarray:
    """As it is; bfloat16, which numpy lacks, as its bits in i2."""
    import torch

    tensor = tensor.detach().cpu().contiguous()
    array: np.ndarray = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _to_torch(array: np.ndarray, device: Any) -> Any:
    import torch

    tensor = torch.from_numpy(np.array(array))
    return (tensor.view(torch.bfloat16) if array.dtype == np.int16 else tensor).to(device)
