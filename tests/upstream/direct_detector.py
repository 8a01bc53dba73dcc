"""Random YOLO checkpoints as upstream's training leaves them, and one that wants to run something, read by our WiLoR worker."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import torch

_, folder, worker_file, child = map(Path, sys.argv[1:5])


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {folder / 'evil'}",)


load("videolift_child", child)
load("videolift_checkpoints", child.with_name("checkpoints.py"))
worker = load("worker", worker_file)
from ultralytics import YOLO  # noqa: E402

image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
for kind in ("yolov8n", "yolov8n-pose"):
    model = YOLO(f"{kind}.yaml").model
    rest = {
        "best_fitness": np.float64(0.5),
        "train_args": {"project": Path("runs"), "lr0": 0.01},
        "train_metrics": {"fitness": 0.5},
    }
    torch.save({"model": model.half(), "ema": None, "epoch": -1, "date": "today", **rest}, folder / f"{kind}.pt")
    detector = worker._load_detector(str(folder / f"{kind}.pt"))
    assert detector([image], conf=0.001, verbose=False, device="cpu")[0].boxes.data.shape[1] == 6

for name, content in {"whole": {"model": Evil()}, "beside": {"model": model, "train_args": {"project": Evil()}}}.items():
    torch.save(content, folder / f"{name}.pt")
    try:
        worker._load_detector(str(folder / f"{name}.pt"))
    except (TypeError, AttributeError) as error:
        print("refused:", type(error).__name__, error)
    else:
        raise AssertionError(f"{name} was read")
    assert not (folder / "evil").exists(), f"{name} was run"
print("ok")
