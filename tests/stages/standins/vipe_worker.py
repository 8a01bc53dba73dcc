"""Keeps the interface of stages/depth/vipe_worker.py; answers with what TORCH_HOME's frozen.npz holds, each stretch in a world and
unit of its own, as upstream's would be."""

import os

import numpy as np

frozen = None
stretch = 0


def load(meta):
    global frozen
    frozen = dict(np.load(os.path.join(os.environ["TORCH_HOME"], "frozen.npz")))
    return {}


def call(meta, arrays, progress):
    global stretch
    n = len(arrays["rgb"])
    start = next(i for i in range(len(frozen["rgb"])) if np.array_equal(frozen["rgb"][i], arrays["rgb"][0]))
    if start == 0:
        assert meta["K"] is None, "the first stretch's camera is estimated"
    else:
        assert np.allclose(meta["K"], frozen["K"]), "later stretches keep the first one's camera"
    progress(n, 3 * n)
    world, unit = frozen["T_own_world"][stretch], frozen["unit"][stretch]
    stretch += 1
    poses = world @ frozen["T_world_camera"][start : start + n]
    poses[:, :3, 3] *= unit
    K = frozen["K"]
    return {}, {
        "depth": (frozen["depth"][start : start + n] * unit).astype(np.float32),
        "T_world_camera": poses.astype(np.float32),
        "intrinsics": np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2]]),
    }
