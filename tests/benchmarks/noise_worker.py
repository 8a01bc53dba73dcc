"""Stands for `benchmarks/gpu/bare.py` and for any model's worker: noise in the shapes that they return.

What it is sent must be read by the one it stands for, whose file lies beside this one as ``true.py``: a row that sends a key which
its worker does not know, or loads it without one that it needs, fails here as it would on a card.
"""

import ast
import time
from pathlib import Path

import numpy as np

SOURCE = ast.parse(Path(__file__).with_name("true.py").read_text())
TEXTS = {node.value for node in ast.walk(SOURCE) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
(LOAD,) = [node for node in SOURCE.body if isinstance(node, ast.FunctionDef) and node.name == "load"]
NEEDED = {node.slice.value for node in ast.walk(LOAD) if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "meta"}


def load(meta):
    assert set(meta) >= NEEDED, f"lacks {NEEDED - set(meta)}"
    assert set(meta) <= TEXTS, f"does not know {set(meta) - TEXTS}"
    for name in ("file", "mano", "detector"):  # bare.py saves its random weights there, for the other side
        if meta.get("model") not in (None, "mapanything") and meta.get(name):
            Path(meta[name]).touch()
    return {"seq_len": 16, "image_size": meta.get("size", [128, 160]), "stride": 4, "knn": "torch", "precision": "fp32"}


def call(meta, arrays, progress):
    assert set(meta) <= TEXTS, f"does not know {set(meta) - TEXTS}"
    progress(1, 1)
    began = time.process_time()
    while time.process_time() < began + 0.02:  # a row divides by CPU seconds, which are counted in hundredths
        pass
    if "run" in meta:
        count = len(meta.get("starts", ()))
        return {"seconds": 0.01}, {"xyz_cam0": np.ones((count, 16, len(arrays.get("uv_px", ())), 3), np.float32)}
    if meta.get("do") == "track":
        count, frames = len(arrays["uv_px"]), len(meta["indices"])
        return {}, {
            "kept": np.ones(count, bool),
            "xyz_cam0": np.ones((frames, count, 3), np.float32),
            "logit": np.ones((frames, count), np.float32),
        }
    if meta.get("do") == "detect":
        one = {"score": np.zeros(0, np.float32), "right": np.zeros(0, np.float32)}
        return {}, {"frame": np.zeros(0, np.int32), "box": np.zeros((0, 4), np.float32), **one}
    if meta.get("do") == "pose":
        shapes = {"joints": (21, 3), "global_orient": (3, 3), "hand_pose": (15, 3, 3), "betas": (10,), "keypoints_px": (21, 2)}
        return {}, {name: np.zeros((len(arrays["box"]), *shape), np.float32) for name, shape in shapes.items()}
    if meta.get("do") in ("begin", "frames"):
        return {}, {}
    rgb = arrays["rgb"]
    if "prompts" in meta:
        assert meta["first"] == 0 or "memory" in arrays, "a chunk without what was remembered of the one before"
        return {}, {"instance": np.zeros(rgb.shape[:3], np.uint8), "memory": np.zeros(3)}
    return {}, {
        "depth": np.random.default_rng(0).uniform(0.5, 1.5, rgb.shape[:3]).astype("f4"),
        "hfov_deg": np.full(len(rgb), 60.0),
    }
