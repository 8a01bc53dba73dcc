"""Depth and camera by ViPE: the clip in stretches through upstream's pipeline, joined into one world with one unit.

Converted here: camera-to-world poses to ``T_camera_world``, the intrinsics vector to one ``K`` per video. Results that upstream
returns without complaint but that are known to be wrong are refused: a camera that stood still, an impossible field of view,
depth without relief. The model runs in its own interpreter (`vipe_worker`); how stretches are joined is `joining`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from stages.backend import Inputs, Progress, Quality
from stages.depth.joining import Stretch, stretches
from stages.depth.vipe_checks import Seen, check_field_of_view, check_motion, check_relief
from stages.models.model_process import ModelBackend, require_weights, weights_identity
from videolift.artifacts import ArtifactWriter, Clip, DepthWriter
from videolift.config import DepthSettings
from videolift.geometry import invert_pose
from videolift.pool import Device
from videolift.store import atomic_file

WORKER = Path(__file__).with_name("vipe_worker.py")
METRIC = ("default", "no_vda", "dav3", "static_vda")
"""Presets whose depth is in metres; lyra's MoGe-1 has no scale."""
_SHARED = ("vipe/droid", "vipe/geocalib", "vipe/sam", "vipe/aot", "vipe/groundingdino", "vipe/bert")
WEIGHTS = {
    "default": (*_SHARED, "vipe/unidepth", "vipe/priorda", "vipe/vda-small"),
    "no_vda": (*_SHARED, "vipe/unidepth", "vipe/priorda"),
    "static_vda": ("vipe/droid", "vipe/geocalib", "vipe/unidepth", "vipe/priorda", "vipe/vda-large"),
    "lyra": (*_SHARED, "vipe/moge1", "vipe/priorda", "vipe/vda-large"),
    "dav3": (*_SHARED, "vipe/dav3"),
}
"""What each preset reads."""
MOST_FRAMES = 1000
"""Per stretch; upstream's keyframe buffer holds 1024."""


class VipeDepth(ModelBackend):
    """The ``vipe`` backend."""

    name: ClassVar[str] = "vipe"
    version: ClassVar[int] = 2
    env: ClassVar[str | None] = "vipe"
    device: ClassVar[Literal["cpu", "cuda"]] = "cuda"
    deterministic: ClassVar[bool] = False
    shrinks: ClassVar[tuple[float, ...]] = (1.0, 0.5, 0.25)
    """Shorter stretches: the same video, joined more often."""
    writer: ClassVar[type[ArtifactWriter]] = DepthWriter
    _settings: DepthSettings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result, and the weights' hashes."""
        own = self._settings.vipe.model_dump(mode="json", exclude={"python", "torch_home", "hf_home"})
        return {**own, "segment_s": self._settings.segment_s, "weights": weights_identity(self._store, self.weights)}

    @property
    def weights(self) -> list[str]:
        """Names, or paths in the user's own TORCH_HOME and HF_HOME, of what the preset reads."""
        return [self._place(name) for name in WEIGHTS[self._settings.vipe.pipeline]]

    def _place(self, name: str) -> str:
        weight = self._store.weight(name)
        assert weight is not None
        home, _, rest = weight.file.removeprefix("vipe/").partition("/")
        own = {"torch": self._settings.vipe.torch_home, "huggingface": self._settings.vipe.hf_home}[home]
        return name if own is None else str(Path(own).expanduser() / rest)

    def load(self, device: Device) -> None:
        """Starts the model; see `stages.backend.Backend.load`."""
        own = self._settings.vipe
        weights = [str(path) for path in require_weights(self._store, self.weights)]
        homes = {
            "TORCH_HOME": own.torch_home or str(self._store.weights_dir / "vipe" / "torch"),
            "HF_HOME": own.hf_home or str(self._store.weights_dir / "vipe" / "huggingface"),
        }
        variables = {name: str(self._root / Path(home).expanduser()) for name, home in homes.items()}
        self._start(
            WORKER, device, {"pipeline": own.pipeline, "mask_phrases": list(own.mask_phrases), "weights": weights}, variables
        )

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works through the clip stretch by stretch; see `stages.backend.Backend.process`."""
        assert inputs.clip is not None
        assert isinstance(out, DepthWriter)
        clip, own = inputs.clip, self._settings.vipe
        unscaled = None if own.pipeline in METRIC else _Unscaled(out)
        seen = Seen.load(out, out.committed) if unscaled is None else unscaled.seen()
        length = round(self._settings.segment_s * clip.fps * shrink)
        for start, end in stretches(len(clip), length, MOST_FRAMES, done=len(seen.T_world_camera)):
            part = self._stretch(clip, start, end, seen.tail, progress)
            if seen.tail is None:
                check_field_of_view(part.K, clip.width, own)
            else:
                part = part.onto(seen.tail)
            seen = seen.with_part(part)
            if unscaled is not None:
                unscaled.add(end, part.depth)
            else:
                out.append_frames(part.depth, invert_pose(part.T_world_camera), np.ones(len(part.depth), bool))
            if end < len(clip):
                seen.save(out)
            if end < len(clip) and unscaled is None:
                out.commit()
        return self._finish(clip, out, seen, unscaled)

    def _stretch(self, clip: Clip, start: int, end: int, tail: Stretch | None, progress: Progress) -> Stretch:
        given = clip.attrs.get("K_given") if tail is None else tail.K.tolist()
        meta = {"fps": clip.fps, "K": given, "hfov_deg": self._settings.vipe.hfov_deg}
        total = len(clip)

        def report(done: int, of: int) -> None:
            progress(min(total, start + (end - start) * done // max(of, 1)), total)

        return stretch_of(self._call(meta, {"rgb": clip[start:end]}, report))

    def _finish(self, clip: Clip, out: DepthWriter, seen: Seen, unscaled: _Unscaled | None) -> Quality:
        own = self._settings.vipe
        assert seen.tail is not None
        known = "K_given" in clip.attrs or own.hfov_deg is not None
        if not known:
            check_motion(seen)
        check_relief(seen, own)
        if unscaled is not None:
            unscaled.write(seen)
        scale: Literal["metric", "arbitrary"] = "metric" if unscaled is None else "arbitrary"
        out.put(K=seen.tail.K)
        figures = {"median_depth": seen.median_depth, "relief": seen.median_relief, "stretches": float(seen.parts)}
        intrinsics: Literal["given", "estimated"] = "given" if known else "estimated"
        out.declare(backend=self.name, tier="B", scale=scale, pose="slam", intrinsics=intrinsics, **figures)
        return Quality(len(clip), (), figures)


def stretch_of(reply: dict[str, NDArray[Any]]) -> Stretch:
    """A `Stretch` from the worker's arrays ``depth``, ``T_world_camera`` and ``intrinsics`` [fx, fy, cx, cy]."""
    fx, fy, cx, cy = reply["intrinsics"]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
    return Stretch(reply["depth"].astype(np.float32), reply["T_world_camera"].astype(np.float64), K)


class _Unscaled:
    """Depth that has no unit before the whole clip is seen; a file per stretch, named by its end, kept across a kill."""

    def __init__(self, out: DepthWriter) -> None:
        self._out, self._folder = out, (out.segments or out.scratch()) / "unscaled"

    def seen(self) -> Seen:
        """Of the stretches that a previous attempt kept."""
        for path in self._files()[::-1]:
            seen = Seen.load(self._out, int(path.stem))
            if seen.parts:
                return seen
            path.unlink()  # killed before it could say what it had seen
        return Seen()

    def add(self, end: int, depth: NDArray[np.float32]) -> None:
        """Keeps depth (n, H, W) of the frames before ``end``."""
        with atomic_file(self._folder / f"{end:09d}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, depth)

    def write(self, seen: Seen) -> None:
        """Everything, in the unit in which the clip's median depth is 1."""
        E, start = invert_pose(seen.T_world_camera), 0
        E[:, :3, 3] /= seen.median_depth
        for path in self._files():
            depth = np.load(path)
            self._out.append_frames(depth / seen.median_depth, E[start : start + len(depth)], np.ones(len(depth), bool))
            start += len(depth)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.npy"))


BACKEND = VipeDepth
