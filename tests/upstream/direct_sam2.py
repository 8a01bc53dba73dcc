"""Makes a small random SAM 2 from upstream's own configuration, and calls it as its README does: a folder of JPEG files in."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

upstream, folder, config, overrides = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
sys.path.insert(0, str(upstream / "sam2"))
from sam2.build_sam import build_sam2_video_predictor  # noqa: E402

torch.manual_seed(0)
predictor = build_sam2_video_predictor(config, None, "cpu", hydra_overrides_extra=overrides)
with torch.no_grad():  # upstream starts some at 0 or at a millionth; nothing of them would be compared
    for parameter in predictor.parameters():
        if parameter.abs().max() <= 1e-5:
            torch.nn.init.normal_(parameter, std=0.02)
    predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(3.0)  # objects are there
torch.save({"model": predictor.state_dict()}, folder / "sam2.pt")
predictor.fill_hole_area = 0

if not (folder / "input.npz").exists():
    sys.exit()  # only the weights are wanted
given = np.load(folder / "input.npz")
(folder / "jpeg").mkdir()
for k, image in enumerate(given["rgb"]):
    Image.fromarray(image).save(folder / "jpeg" / f"{k:05d}.jpg", quality=100)
decoded = np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "jpeg").iterdir())])
found = {"rgb": decoded}
state = predictor.init_state(str(folder / "jpeg"))
for name in ("pointed", "masked"):
    if name == "pointed":
        predictor.add_new_points_or_box(state, 0, 1, points=given["click"], labels=np.ones(1, np.int32))
        predictor.add_new_points_or_box(state, 0, 2, box=given["box"].reshape(4))
    else:
        for number in (3, 7):
            predictor.add_new_mask(state, 0, number, given["mask"] == number)
    logits = [out[2][:, 0].numpy() for out in predictor.propagate_in_video(state)]
    found[name] = np.stack(logits)
    predictor.reset_state(state)
np.savez(folder / "direct.npz", **found)
