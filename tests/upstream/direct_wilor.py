"""Makes a small random WiLoR (one block of 32), a random detector and a stand-in for MANO; calls them as upstream's demo does."""

import pickle
import shutil
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import scipy.sparse
import torch

upstream, folder = Path(sys.argv[1]), Path(sys.argv[2])
checkout = folder / "WiLoR"
if not checkout.exists():
    shutil.copytree(upstream / "WiLoR", checkout, ignore=shutil.ignore_patterns(".git", "demo_img"))
    vit = checkout / "wilor" / "models" / "backbones" / "vit.py"
    text = vit.read_text()
    assert "depth=32" in text
    vit.write_text(text.replace("depth=32", "depth=1"))
sys.path.insert(0, str(checkout))
for name in ("pyrender", "trimesh"):
    sys.modules[name] = MagicMock()

random = np.random.default_rng(0)
V, F, J = 778, 1538, 16
regressor, weights = np.zeros((J, V)), random.random((V, J))
for joint in range(J):
    regressor[joint, random.choice(V, 8, replace=False)] = 1 / 8
mano = {
    "v_template": random.normal(size=(V, 3)) * 0.05,
    "f": random.integers(0, V, size=(F, 3)).astype(np.uint32),
    "shapedirs": random.normal(size=(V, 3, 10)) * 1e-3,
    "posedirs": random.normal(size=(V, 3, 135)) * 1e-4,
    "J_regressor": scipy.sparse.csc_matrix(regressor),
    "kintree_table": np.array([[4294967295, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14], list(range(J))], np.int64),
    "weights": weights / weights.sum(1, keepdims=True),
    "hands_components": np.eye(45),
    "hands_mean": np.zeros(45),
}
(folder / "MANO_RIGHT.pkl").write_bytes(pickle.dumps(mano, protocol=2))

from wilor.configs import get_config  # noqa: E402
from wilor.datasets.vitdet_dataset import ViTDetDataset  # noqa: E402
from wilor.models import WiLoR  # noqa: E402

cfg = get_config(str(checkout / "pretrained_models" / "model_config.yaml"))
cfg.defrost()
cfg.MODEL.BBOX_SHAPE = [192, 256]
cfg.MODEL.BACKBONE.pop("PRETRAINED_WEIGHTS")
cfg.MANO.DATA_DIR = cfg.MANO.MODEL_PATH = str(folder)
cfg.MANO.MEAN_PARAMS = str(checkout / "mano_data" / "mano_mean_params.npz")
cfg.LOSS_WEIGHTS.ADVERSARIAL = 0.0
cfg.freeze()
torch.manual_seed(0)
model = WiLoR(cfg, init_renderer=False).eval()
for parameter in model.parameters():  # upstream's heads start at 0: every hand would be the mean hand
    if parameter.abs().max() == 0:
        torch.nn.init.normal_(parameter, std=0.02)
torch.save(
    {"state_dict": model.state_dict(), "hyper_parameters": {"cfg": cfg}, "pytorch-lightning_version": "2.0.0"},
    folder / "wilor.ckpt",
)

from ultralytics import YOLO  # noqa: E402

YOLO("yolov8n.yaml").save(folder / "detector.pt")
if not (folder / "input.npz").exists():
    sys.exit()  # only the weights are wanted
data = np.load(folder / "input.npz")
found = {name: [] for name in ("joints", "global_orient", "hand_pose", "betas", "keypoints_2d", "center", "size", "unturned")}
for k, image in enumerate(data["rgb"]):
    rows = np.flatnonzero(data["frame"] == k)
    dataset = ViTDetDataset(
        cfg, np.ascontiguousarray(image[:, :, ::-1]), data["box"][rows], data["right"][rows], rescale_factor=2.0
    )
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=16)))
    with torch.no_grad():
        out = model(batch)
    found["joints"].append(out["pred_keypoints_3d"])
    found["keypoints_2d"].append(out["pred_keypoints_2d"])
    for name in ("global_orient", "hand_pose", "betas"):
        found[name].append(
            out["pred_mano_params"][name].reshape(len(rows), *{"betas": (10,), "global_orient": (3, 3)}.get(name, (15, 3, 3)))
        )
    still = torch.eye(3).repeat(len(rows), 1, 1, 1)
    mano = {name: out["pred_mano_params"][name] for name in ("hand_pose", "betas")}
    found["unturned"].append(model.mano(global_orient=still, pose2rot=False, **mano).joints)
    found["center"].append(batch["box_center"])
    found["size"].append(batch["box_size"])
arrays = {name: torch.cat(parts).numpy() for name, parts in found.items()}

detector = YOLO(str(folder / "detector.pt"))
bgr = [np.ascontiguousarray(image[:, :, ::-1]) for image in data["rgb"]]
for k, result in enumerate(detector(bgr, conf=0.001, verbose=False)):
    arrays[f"boxes_{k}"] = result.boxes.data.numpy()
np.savez(folder / "direct.npz", **arrays)
