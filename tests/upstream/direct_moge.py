"""Makes a small random MoGe, and calls it as upstream's README does."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

upstream, folder = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = [str(upstream / "MoGe"), str(upstream / "utils3d")]
from moge.model.v2 import MoGeModel  # noqa: E402

torch.manual_seed(0)
config = json.loads((upstream / "MoGe" / "configs" / "train" / "v2.json").read_text())["model"]
D = 384
config["encoder"].update(backbone="dinov2_vits14", intermediate_layers=[2, 5, 8, 11], dim_out=D)
config["neck"].update(dim_in=[D + 2, 2, 2, 2, 2], dim_res_blocks=[D, 256, 128, 64, 32])
for head in ("points_head", "normal_head", "mask_head"):
    config[head].update(dim_in=[D, 256, 128, 64, 32], dim_res_blocks=[D, 256, 128, 64, 32])
config["scale_head"]["dims"] = [D, D, D, 1]
config["num_tokens_range"] = [48, 64]  # small, for a CPU


def save_random(config, path):
    """Random weights whose mask keeps about half of a noisy image; left alone it may keep nothing, and nothing is compared."""
    random = MoGeModel(**config).eval()
    with torch.no_grad():
        kept = random.forward(torch.rand(1, 3, 96, 128), num_tokens=48)["mask"]
        bias = list(random.mask_head.output_blocks[-1].parameters())[-1]
        bias -= torch.logit(kept).median()
    torch.save({"model_config": config, "model": random.state_dict()}, path)


save_random(config, folder / "moge.pt")
save_random({name: value for name, value in config.items() if name != "normal_head"}, folder / "plain.pt")

if not (folder / "rgb.npy").exists():
    sys.exit()  # only the weights are wanted
model = MoGeModel.from_pretrained(folder / "moge.pt").eval()
rgb = np.load(folder / "rgb.npy")
images = torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 255
outputs = [model.infer(image, resolution_level=0, use_fp16=False, apply_mask=False) for image in images]
fixed = [model.infer(image, resolution_level=0, use_fp16=False, apply_mask=False, fov_x=60.0) for image in images]
masked = [torch.where(o["mask"], o["depth"], torch.inf) for o in fixed]  # what apply_mask=True returns
plain = MoGeModel.from_pretrained(folder / "plain.pt").eval()
without_normals = [plain.infer(image, resolution_level=0, use_fp16=False, apply_mask=False, fov_x=60.0) for image in images]
np.savez(
    folder / "direct.npz",
    depth_plain=torch.stack([o["depth"] for o in without_normals]).numpy(),
    depth=torch.stack([o["depth"] for o in outputs]).numpy(),
    depth_fixed=torch.stack([o["depth"] for o in fixed]).numpy(),
    depth_masked=torch.stack(masked).numpy(),
    points_fixed=torch.stack([o["points"] for o in fixed]).numpy(),
    intrinsics=torch.stack([o["intrinsics"] for o in outputs]).numpy(),
)
