"""Makes a small random TAPIP3D, and calls it as upstream's inference.py does, one window at a time."""

import sys
import types
from pathlib import Path

import numpy as np
import torch

upstream, folder = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(upstream / "TAPIP3D"))


def knnquery(count, points, queries, ends, query_ends):
    """Brute force, without any of ours."""
    index, a, b = [], 0, 0
    for end, query_end in zip(ends.tolist(), query_ends.tolist(), strict=True):
        apart = torch.cdist(queries[b:query_end], points[a:end], compute_mode="donot_use_mm_for_euclid_dist")
        index.append(apart.topk(count, largest=False).indices + a)
        a, b = end, query_end
    return torch.cat(index).int(), None


functions = types.ModuleType("third_party.pointops2.functions")
functions.__path__ = []
functions.pointops = types.ModuleType("third_party.pointops2.functions.pointops")
functions.pointops.knnquery = knnquery
sys.modules |= {functions.__name__: functions, functions.pointops.__name__: functions.pointops}
sys.modules["sophuspy"] = types.ModuleType("sophuspy")
import third_party.pointops2  # noqa: E402

third_party.pointops2.functions = functions
import models  # noqa: E402
from datasets.data_ops import _filter_one_depth  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from utils.inference_utils import inference, load_model  # noqa: E402

LEVELS, WIDTH = 2, 64
config = OmegaConf.create(
    {
        "model": {
            "name": "point_tracker_3d",
            "seq_len": 16,
            "corr_levels": LEVELS,
            "norm_mode": "isotropic",
            "norm_scale": 1.0,
            "use_uv_input": False,
            "encoder": {"name": "cotracker_cnn", "output_dim": 128, "stride": 4, "pretrained": False, "freeze_mode": "none"},
            "corr_feature": {
                "name": "knn_corr_4d_optimized",
                "k_neighbors": 16,
                "posenc_mlp_dim": 64,
                "posenc_mlp_layers": 2,
                "transformer_dim": WIDTH,
                "transformer_num_heads": 2,
                "transformer_head_dim": 32,
                "transformer_mlp_ratio": 2.0,
                "better_depth_downsample": True,
                "share_weights_across_levels": True,
            },
            "point_updater": {
                "name": "efficient_updateformer",
                "input_dim": 1 + LEVELS * WIDTH + 198,
                "hidden_size": 96,
                "num_heads": 4,
                "output_dim": 4,
                "space_depth": 2,
                "time_depth": 2,
                "mlp_ratio": 2.0,
                "num_virtual_tracks": 16,
            },
        },
        "train_dataset": {"resolution": [96, 128]},
    }
)
torch.manual_seed(0)
model = models.from_config(config.model, image_size=(96, 128))
torch.nn.init.normal_(model.point_updater.flow_head.weight, std=0.005)  # upstream starts it near 0: nothing would move
torch.save({"cfg": config, "weight": model.state_dict()}, folder / "tapip3d.pth")
model = load_model(folder / "tapip3d.pth")

if not (folder / "input.npz").exists():
    sys.exit()  # only the weights are wanted
data = np.load(folder / "input.npz")
rgb, depth, K, E, uv = (data[name] for name in ("rgb", "depth", "K", "T_camera_world", "uv_px"))
depth = np.stack([_filter_one_depth(d, 0.08, 15, K) for d in depth])
out = {}
for start, length in [(start, 16) for start in data["starts"]] + [(0, 24)]:
    real = np.arange(start, min(start + length, len(rgb)))
    k = np.concatenate([real, np.repeat(real[-1], length - len(real))])
    extrinsics = E[k] @ np.linalg.inv(E[start])
    z = depth[start][uv[:, 1].astype(int), uv[:, 0].astype(int)]
    rays = np.concatenate([(uv - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones((len(uv), 1))], 1)
    query = np.concatenate([np.zeros((len(uv), 1)), rays * z[:, None]], 1)[z > 0]
    arguments = {
        "model": model,
        "video": torch.from_numpy(rgb[k]).permute(0, 3, 1, 2).float() / 255,
        "depths": torch.from_numpy(depth[k]).float(),
        "intrinsics": torch.from_numpy(K).float().repeat(length, 1, 1),
        "extrinsics": torch.from_numpy(extrinsics).float(),
        "query_point": torch.from_numpy(query).float(),
        "num_iters": 2,
        "vis_threshold": 0.5,
    }
    for grid in (0, 3) if (start, length) == (0, 16) else (0,):
        coords, visible = inference(**arguments, grid_size=grid)
        name = f"{start}_{grid}" if length == 16 else f"long_{grid}"
        out[f"xyz_{name}"], out[f"visible_{name}"] = coords.numpy(), visible.numpy()
np.savez(folder / "direct.npz", **out)
