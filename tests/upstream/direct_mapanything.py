"""Makes a small random MapAnything from upstream's own configuration, and calls it as upstream's README does."""

import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_model

upstream, folder = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = [str(upstream / "map-anything"), str(upstream / "UniCeption")]
hub = torch.hub.load
torch.hub.load = lambda repository, name, **_: hub(str(upstream / "dinov2"), name, source="local", pretrained=False)
from mapanything.models.mapanything.model import MapAnything  # noqa: E402
from uniception.models.encoders.image_normalizations import IMAGE_NORMALIZATION_DICT  # noqa: E402

OmegaConf.register_new_resolver("special_float", float)


def read(name):
    found = OmegaConf.load(upstream / "map-anything" / "configs" / "model" / f"{name}.yaml")
    found.pop("defaults", None)
    return found


encoder, sharing = read("encoder/dinov2_giant_24_layers"), read("info_sharing/aat_ifr_16_layers_vitg_dim")
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
torch.manual_seed(0)
network = MapAnything(**copy.deepcopy(config)).eval()
for parameter in network.parameters():  # where upstream starts at 0 nothing would be compared
    if parameter.abs().max() == 0:
        torch.nn.init.normal_(parameter, std=0.02)
(folder / "weights").mkdir()
save_model(network, str(folder / "weights" / "model.safetensors"))
(folder / "weights" / "config.json").write_text(json.dumps(config))

if not (folder / "input.npz").exists():
    sys.exit()  # only the weights are wanted
data = np.load(folder / "input.npz")
normal = IMAGE_NORMALIZATION_DICT["dinov2"]
images = torch.from_numpy(data["rgb"]).permute(0, 3, 1, 2).float() / 255
images = ((images - normal.mean.view(1, 3, 1, 1)) / normal.std.view(1, 3, 1, 1)).split(1)
found = {}
for name, more in {"free": {}, "given": {"intrinsics": torch.from_numpy(data["K"]).float()[None]}}.items():
    views = [{"img": image, "data_norm_type": ["dinov2"], **more} for image in images]
    out = network.infer(views, use_amp=False, apply_mask=False, mask_edges=False)
    found[f"{name}_depth"] = torch.cat([view["depth_z"][..., 0] for view in out]).numpy()
    found[f"{name}_poses"] = torch.cat([view["camera_poses"] for view in out]).numpy()
    found[f"{name}_K"] = torch.cat([view["intrinsics"] for view in out]).numpy()
np.savez(folder / "direct.npz", **found)
