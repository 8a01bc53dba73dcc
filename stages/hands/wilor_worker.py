"""WiLoR and its detector inside their own interpreter: frames to boxes, boxes to MANO hands. Imports nothing of ours.

Hands come back as the model sees them: as right hands, a left one mirrored (the crop is mirrored before the network). Keypoints
are brought to pixels of the frame. `pred_keypoints_3d` already contains the global rotation. Upstream's `load_wilor` is not used:
it needs a working folder, a renderer and an unpickler that runs whatever the file says.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from unittest.mock import MagicMock

import numpy as np
from numpy.typing import NDArray
from videolift_checkpoints import NUMPY_VALUES, check_archive, read_checkpoint
from videolift_child import require_arguments

if TYPE_CHECKING:
    from torch import Tensor
    from ultralytics import YOLO
    from wilor.models import WiLoR
    from yacs.config import CfgNode

WorkerArrays = Mapping[str, NDArray[np.generic]]
Reply = tuple[dict[str, str], dict[str, NDArray[np.generic]]]
Report = Callable[[int, int], None]

INERT_MODULES = ("yacs", "omegaconf", "pytorch_lightning", "lightning_fabric", "lightning")
"""The checkpoint's own configuration; upstream's file beside it is read instead."""
MAY_MISS = ("mano.", "discriminator.", "initialized", "renderer", "mesh_renderer")
MANO_ARRAYS = ("v_template", "shapedirs", "posedirs", "weights", "hands_components", "hands_mean", "kintree_table", "J", "f")

NUMPY_PARTS = ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer")
PYTHON_2_PARTS = (("_codecs", "encode"), ("copy_reg", "_reconstructor"), ("__builtin__", "object"), ("__builtin__", "set"))
"""What a pickle of numpy arrays by Python 2 is made of."""

os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"  # read once, when it is imported
model: WiLoR
detector: YOLO
cfg: CfgNode
device: str


class Files(TypedDict):
    """What `load` is given; without a detector no boxes are asked for."""

    paths: list[str]
    weights: str
    detector: str | None
    mano: str
    device: str


class DetectTask(TypedDict):
    """What `detect_boxes` is given."""

    do: Literal["detect"]
    min_confidence: float
    batch_frames: int


class PoseTask(TypedDict):
    """What `pose_hands` is given."""

    do: Literal["pose"]
    rescale: float
    batch_crops: int


class ModelOutput(TypedDict):
    """What WiLoR answers for n crops; shapes as upstream's."""

    pred_mano_params: dict[str, Tensor]
    pred_keypoints_2d: Tensor
    pred_keypoints_3d: Tensor


def load(meta: Files) -> dict[str, str]:
    """Reads WiLoR (``paths`` holds its checkout), MANO_RIGHT.pkl (``mano``) and the detector onto ``device``."""
    global model, detector, cfg, device
    sys.path[:0] = meta["paths"]
    for name in ("pyrender", "trimesh"):  # imported for pictures alone; pyrender wants OpenGL
        sys.modules[name] = MagicMock()
    import torch
    from wilor.configs import get_config
    from wilor.datasets.vitdet_dataset import ViTDetDataset
    from wilor.models import WiLoR

    require_arguments(WiLoR.__init__, "cfg", "init_renderer")
    require_arguments(ViTDetDataset.__init__, "cfg", "img_cv2", "boxes", "right", "rescale_factor")
    device = meta["device"]
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    root = meta["paths"][0]
    cfg = get_config(os.path.join(root, "pretrained_models", "model_config.yaml"))
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "MANO_RIGHT.pkl"), "wb") as file:
            pickle.dump(plain_mano(meta["mano"]), file)
        cfg.defrost()
        cfg.MODEL.BBOX_SHAPE, cfg.LOSS_WEIGHTS.ADVERSARIAL = [192, 256], 0.0
        # Upstream would look for the backbone's own weights, which the checkpoint overwrites.
        cfg.MODEL.BACKBONE.pop("PRETRAINED_WEIGHTS", None)
        cfg.MANO.DATA_DIR = cfg.MANO.MODEL_PATH = folder
        cfg.MANO.MEAN_PARAMS = os.path.join(root, "mano_data", "mano_mean_params.npz")
        cfg.freeze()
        model = WiLoR(cfg, init_renderer=False)
    _read_weights(meta["weights"])
    model = model.to(device).eval()
    if meta["detector"] is not None:
        detector = _load_detector(meta["detector"])
    return {"torch": torch.__version__}


def _read_weights(path: str) -> None:
    """Of its own, so that a test can hand it hostile files without a checkout."""
    state = read_checkpoint(path, NUMPY_VALUES, INERT_MODULES)["state_dict"]
    # Not strict: the checkpoint lacks MANO, which is the user's own, and what only training has.
    missing = [key for key in model.load_state_dict(state, strict=False).missing_keys if not key.startswith(MAY_MISS)]
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} of the model's weights, {missing[0]} among them: not a checkpoint of WiLoR")


def call(meta: DetectTask | PoseTask, arrays: WorkerArrays, progress: Report) -> Reply:
    """One task of either kind."""
    return detect_boxes(meta, arrays, progress) if meta["do"] == "detect" else pose_hands(meta, arrays, progress)


def detect_boxes(meta: DetectTask, arrays: WorkerArrays, progress: Report) -> Reply:
    """Boxes in ``rgb`` u8 (n, H, W, 3). Meta: min_confidence, batch_frames.

    Returns frame i4 (m), box f4 (m, 4) as x1 y1 x2 y2, score f4 (m), right f4 (m).
    """
    rgb, found = arrays["rgb"], []
    for start in range(0, len(rgb), meta["batch_frames"]):
        # ultralytics takes arrays in OpenCV's order of colours.
        bgr = [np.ascontiguousarray(image[:, :, ::-1]) for image in rgb[start : start + meta["batch_frames"]]]
        for i, result in enumerate(detector(bgr, conf=meta["min_confidence"], verbose=False, device=device)):
            data = result.boxes.data.float().cpu().numpy().reshape(-1, 6)
            found += [(start + i, row[:4], row[4], row[5]) for row in data]
        progress(min(start + meta["batch_frames"], len(rgb)), len(rgb))
    frame, box, score, right = zip(*found) if found else ((), (), (), ())
    return {}, {
        "frame": np.array(frame, np.int32),
        "box": np.array(box, np.float32).reshape(-1, 4),
        "score": np.array(score, np.float32),
        "right": np.array(right, np.float32),
    }


def pose_hands(meta: PoseTask, arrays: WorkerArrays, progress: Report) -> Reply:
    """Hands in given boxes. Meta: rescale, batch_crops. Arrays: rgb u8 (n, H, W, 3), frame i4 (m), box f4 (m, 4), right f4 (m).

    Returns per hand, as a right one: joints f4 (m, 21, 3) metres, global_orient f4 (m, 3, 3), hand_pose f4 (m, 15, 3, 3),
    betas f4 (m, 10); and keypoints_px f4 (m, 21, 2) in the frame as it is.
    """
    import torch

    items = list(crops(arrays, meta["rescale"]))
    parts = []
    for start in range(0, len(items), meta["batch_crops"]):
        # As upstream's loader does, without its processes.
        batch = torch.utils.data.default_collate(items[start : start + meta["batch_crops"]])
        with torch.no_grad():
            out: ModelOutput = model({"img": batch["img"].to(device)})
        mano = {name: value.float().cpu().numpy() for name, value in out["pred_mano_params"].items()}
        # in the crop, shares of its side from its middle; a left hand's crop was mirrored
        shares = out["pred_keypoints_2d"].float().cpu().numpy() * batch["box_size"].numpy()[:, None, None].astype(np.float32)
        shares[..., 0] *= (2 * batch["right"].numpy() - 1)[:, None].astype(np.float32)
        parts.append(
            {
                "joints": out["pred_keypoints_3d"].float().cpu().numpy(),
                "global_orient": mano["global_orient"].reshape(-1, 3, 3),
                "hand_pose": mano["hand_pose"].reshape(-1, 15, 3, 3),
                "betas": mano["betas"].reshape(-1, 10),
                "keypoints_px": shares + batch["box_center"].numpy()[:, None].astype(np.float32),
            }
        )
        progress(min(start + meta["batch_crops"], len(items)), len(items))
    shapes = {"joints": (21, 3), "global_orient": (3, 3), "hand_pose": (15, 3, 3), "betas": (10,), "keypoints_px": (21, 2)}
    if not parts:
        return {}, {name: np.zeros((0, *shape), np.float32) for name, shape in shapes.items()}
    return {}, {name: np.concatenate([part[name] for part in parts]) for name in shapes}


def crops(arrays: WorkerArrays, rescale: float) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Upstream's crops, in the order of the boxes; those of one frame are cut together."""
    from wilor.datasets.vitdet_dataset import ViTDetDataset

    rgb, frame, box, right = (arrays[name] for name in ("rgb", "frame", "box", "right"))
    order = np.argsort(frame, kind="stable")
    cut: dict[int, dict[str, NDArray[np.generic]]] = {}
    for k in np.unique(frame):
        rows = order[frame[order] == k]
        bgr = np.ascontiguousarray(rgb[k][:, :, ::-1])
        dataset = ViTDetDataset(cfg, bgr, box[rows], right[rows], rescale_factor=rescale)
        cut.update((row, dataset[i]) for i, row in enumerate(rows))
    return (cut[row] for row in range(len(frame)))


def _load_detector(path: str) -> YOLO:
    """The file is a pickled module: read by torch's restricted unpickler, with upstream's list of layers, and nothing else."""
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="yolo-"))
    from ultralytics import YOLO
    from ultralytics.nn import tasks

    require_arguments(tasks.torch_safe_load, "safe_only")
    if not (tasks.SAFE_LOAD and tasks._SafeLoad.SUPPORTED):  # without either it unpickles anything, silently
        raise RuntimeError("this ultralytics or torch does not read checkpoints safely: torch 2.6 or newer is needed")
    check_archive(path)
    return YOLO(path)


def plain_mano(path: str) -> dict[str, NDArray[np.generic]]:
    """MANO_RIGHT.pkl as a dictionary of numpy arrays: the real one holds chumpy objects, and chumpy does not build any more."""
    with open(path, "rb") as file:
        data = dict(_ManoUnpickler(file, encoding="latin1").load())
    out = {name: _plain(data[name]) for name in MANO_ARRAYS if name in data}
    regressor = data["J_regressor"]
    out["J_regressor"] = regressor.toarray() if hasattr(regressor, "toarray") else _plain(regressor)
    return out


class _Chumpy:
    """Stands for an object of chumpy; its state says what it holds."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _ManoUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        top = module.split(".")[0]
        if top == "chumpy":
            return _Chumpy
        if module.startswith("scipy.sparse") and name in ("csc_matrix", "csr_matrix"):
            import scipy.sparse  # older releases named the module by the format

            return getattr(scipy.sparse, name)
        if (top == "numpy" and name in NUMPY_PARTS) or (module, name) in PYTHON_2_PARTS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"MANO_RIGHT.pkl wants {module}.{name}, which it is not known to need; nothing was run")


def _plain(value: object) -> NDArray[np.generic]:
    """The array of a chumpy object: of a plain one its x, of a selection the chosen elements of what it selects from."""
    if not isinstance(value, _Chumpy):
        return np.asarray(value)
    state = value.state
    if "x" in state:
        return _plain(state["x"])
    if "a" in state and "idxs" in state:
        chosen = _plain(state["a"]).ravel()[np.asarray(state["idxs"])]
        shape = state.get("preferred_shape")
        return np.asarray(chosen.reshape(shape) if shape is not None else chosen)
    raise ValueError(f"MANO_RIGHT.pkl holds a chumpy object with {sorted(state)}, which cannot be read without chumpy")
