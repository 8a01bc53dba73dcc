"""Keeps the interface of stages/depth/moge_worker.py; answers with what ``weights``, an npz, holds: depth, hfov_deg, flicker."""

import numpy as np

frozen = None
served = 0


def load(meta):
    global frozen
    assert len(meta["paths"]) == 2, "MoGe and utils3d"
    frozen = dict(np.load(meta["weights"]))
    return {}


def call(meta, arrays, progress):
    wanted = arrays["rgb"]
    index = np.array(
        [int(np.argmin([np.abs(frame.astype(int) - own).sum() for own in frozen["rgb"].astype(int)])) for frame in wanted]
    )
    for done in range(1, len(wanted) + 1):
        progress(done, len(wanted))
    if meta["hfov_deg"] is not None:
        assert abs(meta["hfov_deg"] - float(frozen["hfov_deg"])) < 1e-6, "one field of view per video"
    depth = frozen["depth"][index] * frozen["flicker"][index][:, None, None]
    noise = np.linspace(-3, 3, len(index)) if len(index) > 1 else np.zeros(len(index))
    return {}, {"depth": depth.astype(np.float32), "hfov_deg": float(frozen["hfov_deg"]) + noise}
