"""Keeps the interface of stages/tracks/tapip3d_worker.py; answers with the tracks that ``weights``, an npz, holds for each window.

Checks what it is fed: frames in order and once, queries without a shift, extrinsics of a window whose world is its first camera.
"""

import numpy as np

frozen = None
depth = {}
K = None


def load(meta):
    global frozen
    frozen = dict(np.load(meta["weights"]))
    return {"seq_len": 16, "image_size": [int(n) for n in frozen["size"]], "stride": 4, "knn": "torch", "precision": "fp32"}


def call(meta, arrays, progress):
    global K
    if meta["do"] == "begin":
        depth.clear()
        K = np.array(meta["K"])
        assert np.allclose(K, frozen["K"])
        return {}, {}
    if meta["do"] == "frames":
        for i, z in enumerate(arrays["depth"]):
            assert meta["first"] + i not in depth, "a frame was sent twice"
            assert np.array_equal(arrays["rgb"][i], frozen["rgb"][meta["first"] + i])
            depth[meta["first"] + i] = z
        return {}, {}
    start, fed = meta["indices"][0], meta["indices"]
    assert all(k in depth for k in fed)
    if fed[1] < start:
        return {}, back(fed, arrays)
    assert np.abs(arrays["T_camk_cam0"] - frozen["T_camk_cam0"][start][np.array(fed) - start]).max() < 1e-5
    assert np.allclose(arrays["uv_px"], frozen["uv_px"])
    rows, columns = np.rint(arrays["uv_px"][:, ::-1]).astype(int).T
    kept = depth[start][rows, columns] > 0
    xyz = frozen["xyz"][start][np.array(fed) - start][:, kept]
    logit = np.where(frozen["visible"][start][np.array(fed) - start][:, kept], 5.0, -5.0)
    return {}, {"kept": kept, "xyz_cam0": xyz.astype(np.float32), "logit": logit.astype(np.float32)}


def back(fed, arrays):
    """The points asked for, tracked from frame fed[0] back to the window's first, ``astray`` metres to the right of the truth."""
    start, steps = fed[-1], np.array(fed) - fed[-1]
    E, xyz = frozen["T_camk_cam0"][start], frozen["xyz"][start]
    assert np.abs(arrays["T_camk_cam0"] - E[steps] @ np.linalg.inv(E[steps[0]])).max() < 1e-5
    here = xyz @ E[steps[0], :3, :3].T + E[steps[0], :3, 3]
    uv = here[steps[0], :, :2] / here[steps[0], :, 2:] * [K[0, 0], K[1, 1]] + K[:2, 2]
    apart = np.linalg.norm(uv[None] - arrays["uv_px"][:, None], axis=-1)
    assert np.nanmin(apart, 1).max() < 1e-2, "asked for a point that is not in the window"
    found = here[steps][:, np.nanargmin(apart, 1)] + [frozen["astray"], 0, 0]
    logit = np.full(found.shape[:2], 5.0, np.float32)
    return {"kept": np.ones(len(apart), bool), "xyz_cam0": found.astype(np.float32), "logit": logit}
