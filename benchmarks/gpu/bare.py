"""Upstream's models alone, inside their own interpreter: what the pipelines of this folder are compared with.

Imports nothing of ours; random weights. ``load`` builds a model and saves it for the other side, ``call`` runs a bare loop over
inputs in memory and says how long it took.
"""

from __future__ import annotations

import pickle
import sys
import time
import types
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import numpy as np

TAPIP3D: dict[str, Any] = {
    "encoder": {"name": "cotracker_cnn", "output_dim": 128, "stride": 4, "pretrained": False, "freeze_mode": "none"},
    "corr_feature": {
        "name": "knn_corr_4d_optimized",
        "k_neighbors": 16,
        "posenc_mlp_dim": 128,
        "posenc_mlp_layers": 2,
        "transformer_dim": 128,
        "transformer_num_heads": 4,
        "transformer_head_dim": 32,
        "transformer_mlp_ratio": 2.0,
        "better_depth_downsample": True,
        "share_weights_across_levels": True,
    },
    "point_updater": {
        "name": "efficient_updateformer",
        "input_dim": 1 + 4 * 128 + 198,
        "hidden_size": 384,
        "num_heads": 8,
        "output_dim": 4,
        "space_depth": 3,
        "time_depth": 3,
        "mlp_ratio": 4.0,
        "num_virtual_tracks": 64,
    },
}
"""Upstream publishes its configuration inside the checkpoint only; these sizes are CoTracker3's."""

state: Any = types.SimpleNamespace()


def load(meta: dict[str, Any]) -> dict[str, Any]:
    """Meta: model (tapip3d | moge | wilor | mapanything | sam2), paths, device, file (where random weights are put), and what one
    model needs besides: ``size`` of tapip3d, ``dinov2`` of mapanything, ``mano`` of wilor, ``config`` and ``overrides`` of sam2."""
    import torch

    sys.path[:0] = meta["paths"]
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(0)
    state.device, state.torch = meta["device"], torch
    loaders = {"tapip3d": _load_tapip3d, "moge": _load_moge, "wilor": _load_wilor, "mapanything": _load_mapanything}
    (loaders | {"sam2": _load_sam2})[meta["model"]](meta)
    return {"torch": torch.__version__, "card": torch.cuda.get_device_name() if meta["device"] != "cpu" else "cpu"}


def call(
    meta: dict[str, Any], arrays: dict[str, Any], progress: Callable[[int, int], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs ``meta["run"]``; returns its seconds and what it found. The peak memory of the card counts from here."""
    torch = state.torch
    if state.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    runs = {"tapip3d": _run_tapip3d, "moge": _run_moge, "wilor": _run_wilor, "mapanything": _run_mapanything, "sam2": _run_sam2}
    run = runs[meta["run"]]
    began = time.perf_counter()
    out = run(meta, arrays)
    if state.device != "cpu":
        torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - began}, out


def _load_tapip3d(meta: dict[str, Any]) -> None:
    _stand_in_pointops(meta["knn_file"])
    sys.modules.setdefault("sophuspy", types.ModuleType("sophuspy"))
    import models
    from omegaconf import OmegaConf

    height, width = meta["size"]
    common = {"name": "point_tracker_3d", "seq_len": 16, "corr_levels": 4, "norm_mode": "isotropic", "norm_scale": 1.0}
    config = OmegaConf.create(
        {"model": {**common, "use_uv_input": False, **TAPIP3D}, "train_dataset": {"resolution": [height, width]}}
    )
    state.model = models.from_config(config.model, image_size=(height, width))
    state.torch.nn.init.normal_(state.model.point_updater.flow_head.weight, std=0.002)
    state.torch.save({"cfg": config, "weight": state.model.state_dict()}, meta["file"])
    state.model.set_eval_mode("raw")
    state.model = state.model.to(state.device).eval()


def _stand_in_pointops(knn_file: str) -> None:
    """The same kNN for both sides: ours, unless pointops2 is built."""
    import importlib.util

    if importlib.util.find_spec("pointops2_cuda") is not None and state.device != "cpu":
        return
    spec = importlib.util.spec_from_file_location("knn", knn_file)
    assert spec is not None
    assert spec.loader is not None
    ours = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ours)
    functions: Any = types.ModuleType("third_party.pointops2.functions")
    functions.__path__, functions.pointops = [], types.ModuleType("third_party.pointops2.functions.pointops")
    functions.pointops.knnquery = ours.knnquery
    sys.modules[functions.__name__] = functions
    sys.modules[functions.pointops.__name__] = functions.pointops
    import third_party.pointops2

    third_party.pointops2.functions = functions


def _run_tapip3d(meta: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """Window by window, each prepared and encoded anew, as upstream's inference.py does with a clip."""
    from datasets.data_ops import _filter_one_depth
    from utils.inference_utils import inference

    torch = state.torch
    K, uv = arrays["K"], arrays["uv_px"]
    found = []
    for start in meta["starts"]:
        k = np.minimum(np.arange(start, start + 16), start + meta["real"] - 1)
        depth = np.stack([_filter_one_depth(z.astype(np.float32), 0.08, 15, K) for z in arrays["depth"][k]])
        E = arrays["T_camera_world"][k] @ np.linalg.inv(arrays["T_camera_world"][start])
        z = depth[0][uv[:, 1].astype(int), uv[:, 0].astype(int)].astype(np.float64)
        rays = np.concatenate([(uv - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones((len(uv), 1))], 1)
        query = np.concatenate([np.zeros((len(uv), 1)), rays * z[:, None]], 1)
        coords, _ = inference(
            model=state.model,
            video=torch.from_numpy(arrays["rgb"][k]).to(state.device).permute(0, 3, 1, 2).float() / 255,
            depths=torch.from_numpy(depth).to(state.device).float(),
            intrinsics=torch.from_numpy(K).float().repeat(16, 1, 1).to(state.device),
            extrinsics=torch.from_numpy(E).float().to(state.device),
            query_point=torch.from_numpy(query).float().to(state.device),
            num_iters=meta["iterations"],
            grid_size=0,
        )
        found.append(coords.float().cpu().numpy())
    return {"xyz_cam0": np.stack(found)}


def _load_moge(meta: dict[str, Any]) -> None:
    import json

    from moge.model.v2 import MoGeModel

    with open(meta["config"]) as file:
        config = json.load(file)["model"]
    if meta["small"]:
        _shrink_moge(config)
    network = MoGeModel(**config).eval()
    with state.torch.no_grad():
        # a random network may mask everything out, and nothing would be left to measure
        kept = network.forward(state.torch.rand(1, 3, 96, 128), num_tokens=48)["mask"]
        bias = list(network.mask_head.output_blocks[-1].parameters())[-1]
        bias -= state.torch.logit(kept).median()
    state.torch.save({"model_config": config, "model": network.state_dict()}, meta["file"])
    state.model = MoGeModel.from_pretrained(meta["file"]).to(state.device).eval()


def _shrink_moge(config: dict[str, Any]) -> None:
    """ViT-S and few tokens."""
    width = 384
    config["encoder"].update(backbone="dinov2_vits14", intermediate_layers=[2, 5, 8, 11], dim_out=width)
    config["neck"].update(dim_in=[width + 2, 2, 2, 2, 2], dim_res_blocks=[width, 256, 128, 64, 32])
    for head in ("points_head", "normal_head", "mask_head"):
        config[head].update(dim_in=[width, 256, 128, 64, 32], dim_res_blocks=[width, 256, 128, 64, 32])
    config["scale_head"]["dims"] = [width, width, width, 1]
    config["num_tokens_range"] = [48, 64]


def _run_moge(meta: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    torch = state.torch
    images = torch.from_numpy(arrays["rgb"]).to(state.device).permute(0, 3, 1, 2).float() / 255
    for batch in images.split(meta["batch"]):
        out = state.model.infer(batch, fov_x=60.0, resolution_level=meta["level"], use_fp16=state.device != "cpu")
    return {"depth": out["depth"].float().cpu().numpy()}


def _load_wilor(meta: dict[str, Any]) -> None:
    for name in ("pyrender", "trimesh"):
        sys.modules[name] = MagicMock()
    with open(meta["mano"], "wb") as file:
        pickle.dump(_random_mano(), file)
    from wilor.configs import get_config
    from wilor.models import WiLoR

    root = meta["paths"][0]
    cfg = get_config(f"{root}/pretrained_models/model_config.yaml")
    cfg.defrost()
    cfg.MODEL.BBOX_SHAPE, cfg.LOSS_WEIGHTS.ADVERSARIAL = [192, 256], 0.0
    cfg.MODEL.BACKBONE.pop("PRETRAINED_WEIGHTS")
    cfg.MANO.DATA_DIR = cfg.MANO.MODEL_PATH = meta["mano"].rsplit("/", 1)[0]
    cfg.MANO.MEAN_PARAMS = f"{root}/mano_data/mano_mean_params.npz"
    cfg.freeze()
    state.model = WiLoR(cfg, init_renderer=False)
    state.torch.save({"state_dict": state.model.state_dict()}, meta["file"])
    state.model, state.cfg = state.model.to(state.device).eval(), cfg
    if meta.get("detector"):
        from ultralytics import YOLO

        YOLO("yolov8n.yaml").save(meta["detector"])


def _random_mano() -> dict[str, Any]:
    random = np.random.default_rng(0)
    weights = random.random((778, 16))
    return {
        "v_template": random.normal(size=(778, 3)) * 0.05,
        "f": random.integers(0, 778, size=(1538, 3)).astype(np.uint32),
        "shapedirs": random.normal(size=(778, 3, 10)) * 1e-3,
        "posedirs": random.normal(size=(778, 3, 135)) * 1e-4,
        "J_regressor": np.full((16, 778), 1 / 778),
        "kintree_table": np.array([[4294967295, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14], list(range(16))]),
        "weights": weights / weights.sum(1, keepdims=True),
        "hands_components": np.eye(45),
        "hands_mean": np.zeros(45),
    }


def _run_wilor(meta: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """Crops by upstream's dataset, batches of ``batch`` through the network, as its demo does for a folder of pictures."""
    from wilor.datasets.vitdet_dataset import ViTDetDataset

    torch, items = state.torch, []
    for k, image in enumerate(arrays["rgb"]):
        rows = np.flatnonzero(arrays["frame"] == k)
        dataset = ViTDetDataset(
            state.cfg, np.ascontiguousarray(image[:, :, ::-1]), arrays["box"][rows], arrays["right"][rows], rescale_factor=2.0
        )
        items += [dataset[i] for i in range(len(dataset))]
    joints = []
    for start in range(0, len(items), meta["batch"]):
        batch = torch.utils.data.default_collate([item["img"] for item in items[start : start + meta["batch"]]])
        with torch.no_grad():
            joints.append(state.model({"img": batch.to(state.device)})["pred_keypoints_3d"].float().cpu().numpy())
    return {"joints": np.concatenate(joints)}


def _load_mapanything(meta: dict[str, Any]) -> None:
    """Upstream's published configuration; saved as a folder that `from_pretrained` reads."""
    import copy
    import json
    import os

    torch = state.torch
    hub = torch.hub.load
    torch.hub.load = lambda repository, name, **_: hub(meta["dinov2"], name, source="local", pretrained=False)
    from mapanything.models.mapanything.model import MapAnything
    from omegaconf import OmegaConf
    from safetensors.torch import save_model

    OmegaConf.register_new_resolver("special_float", float)

    def read(name: str) -> Any:
        found = OmegaConf.load(f"{meta['paths'][0]}/configs/model/{name}.yaml")
        found.pop("defaults", None)
        return found

    encoder, sharing = read("encoder/dinov2_giant_24_layers"), read("info_sharing/aat_ifr_16_layers_vitg_dim")
    if meta["small"]:
        encoder.update(size="small", keep_first_n_layers=2)
        sharing.module_args.update(dim=384, num_heads=6, depth=4, indices=[1, 2])
    head = read("pred_head/dpt_pose_scale")
    head.adaptor_config = read("pred_head/adaptor_config/raydirs_depth_pose_confidence_mask_scale")
    task = OmegaConf.merge(read("task/default"), read("task/images_only"))
    tree = OmegaConf.create({"model": {"encoder": encoder, "info_sharing": sharing, "pred_head": head, "task": task}})
    model = OmegaConf.to_container(tree, resolve=True)["model"]
    config = {
        "name": "mapanything",
        "encoder_config": model["encoder"],
        "info_sharing_config": model["info_sharing"],
        "pred_head_config": model["pred_head"],
        "geometric_input_config": model["task"],
        "use_register_tokens_from_encoder": True,
        "info_sharing_mlp_layer_str": "swiglufused",
    }
    network = MapAnything(**copy.deepcopy(config))
    save_model(network, os.path.join(meta["file"], "model.safetensors"))
    with open(os.path.join(meta["file"], "config.json"), "w") as file:
        json.dump(config, file)
    state.model = network.to(state.device).eval()


def _run_mapanything(meta: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    from uniception.models.encoders.image_normalizations import IMAGE_NORMALIZATION_DICT

    torch, norm = state.torch, IMAGE_NORMALIZATION_DICT["dinov2"]
    images = torch.from_numpy(arrays["rgb"]).to(state.device).permute(0, 3, 1, 2).float() / 255
    height, width = images.shape[-2:]
    patches = [max(1, round(side * meta["side_px"] / max(height, width) / 14)) * 14 for side in (height, width)]
    images = torch.nn.functional.interpolate(images, patches, mode="bilinear", antialias=True, align_corners=False)
    images = (images - norm.mean.view(1, 3, 1, 1).to(state.device)) / norm.std.view(1, 3, 1, 1).to(state.device)
    views = [{"img": image, "data_norm_type": ["dinov2"]} for image in images.split(1)]
    with torch.inference_mode():
        found = state.model.infer(views, memory_efficient_inference=True, use_amp=state.device != "cpu", amp_dtype="bf16")
    return {"depth": torch.cat([view["depth_z"][..., 0] for view in found]).float().cpu().numpy()}


def _load_sam2(meta: dict[str, Any]) -> None:
    from sam2 import sam2_video_predictor
    from sam2.build_sam import build_sam2_video_predictor

    # upstream reads a folder of JPEG files; decoding them is no part of what is compared
    sam2_video_predictor.load_video_frames = lambda video_path, **_: video_path
    state.model = build_sam2_video_predictor(meta["config"], None, meta["device"], hydra_overrides_extra=list(meta["overrides"]))
    state.model.fill_hole_area = 0
    state.torch.save({"model": state.model.state_dict()}, meta["file"])


def _run_sam2(meta: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """The whole video in one call, frames prepared as our worker prepares them."""
    from contextlib import nullcontext

    from PIL import Image

    torch, model = state.torch, state.model
    side, size = model.image_size, arrays["rgb"].shape[1:3]
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = np.stack([np.asarray(Image.fromarray(image).resize((side, side))) for image in arrays["rgb"]])
    frames = ((torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std).to(state.device)
    with torch.autocast("cuda", torch.bfloat16) if state.device != "cpu" else nullcontext(), torch.inference_mode():
        tracked = model.init_state((frames, *size))
        for prompt in meta["prompts"]:
            uv = np.array(prompt["uv_px"], np.float32)
            given = {"points": uv, "labels": np.ones(1, np.int32)} if prompt["kind"] == "click" else {"box": uv.reshape(4)}
            model.add_new_points_or_box(tracked, 0, prompt["id"], **given)
        logits = [found[2][:, 0].float().cpu().numpy() for found in model.propagate_in_video(tracked)]
    return {"logits": np.stack(logits)}
