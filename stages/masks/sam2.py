"""Objects followed by SAM 2: a click, a box or a mask in the clip's first frame in, instance ids of every frame out.

The model sees frame after frame and remembers the first and the last few. What it remembers goes back and forth with each call, so
that neither where a chunk ends nor where a killed run goes on changes a pixel. The model runs in its own interpreter
(`sam2_worker`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.backend import Inputs, Progress, Quality
from stages.masks import MasksSettings
from stages.models.model_process import ModelBackend, ModelSettings, require_weights, torch_device, weights_identity
from stages.segments import SavedArrays, even_segments, resumable
from videolift.artifacts import ArtifactWriter, Clip
from videolift.artifacts.object_masks import ObjectMasksWriter
from videolift.errors import BadInput
from videolift.inputs.framing import Framing
from videolift.inputs.objects import ObjectPrompt, parse_objects
from videolift.pool import Device

SAM2_WORKER = Path(__file__).with_name("sam2_worker.py")
CHUNK_FRAMES = 32
"""Frames per call: 19 MB of 512x384. The model looks at one at a time, so no result and no memory of a card depends on it."""
FAINT_SHARE = 0.1
"""An object seen in fewer frames than this is named to the user."""
Chunk = Callable[[int, int, bool], NDArray[np.uint8]]
"""Instance ids (n, H, W) of frames [start, end), asked for in order; True where a segment ends."""
CONFIGS = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}


class Sam2Settings(ModelSettings):
    """SAM 2: follows objects, code and weights Apache-2.0."""

    model: Literal["tiny", "small", "base-plus", "large"] = Field("base-plus", description="size of the network")
    weights: str | None = Field(None, description="a file of yours for that size; none: the installed one")
    checkout: str | None = Field(None, description="a checkout of yours instead of the installed one")


@dataclass(frozen=True)
class FollowedObjects:
    """What the model is told of the first frame.

    Attributes:
        prompts: clicks and boxes in the clip's pixels.
        mask: u8 (H, W) instance ids of the clip's first frame; None where the row names no mask of it.
        checks: what a person should know of objects that are left out.
    """

    prompts: tuple[ObjectPrompt, ...] = ()
    mask: NDArray[np.uint8] | None = None
    checks: tuple[str, ...] = ()

    @classmethod
    def pointed_at(cls, cell: str, framing: Framing) -> FollowedObjects:
        """Those of the cell ``objects`` that the clip shows.

        Raises:
            BadInput: it shows none of them.
        """
        named = parse_objects(cell)
        shown = [prompt.within(framing) for prompt in named]
        # One object outside is left out; all of them outside is a mistake in the row.
        hidden = [prompt.id for prompt, seen in zip(named, shown, strict=True) if seen is None]
        if len(hidden) == len(named):
            left, top, width, height = (round(edge) for edge in framing.visible_px())
            text = f"the clip shows none of the objects {cell!r}: of the video it keeps {width} x {height} px from ({left}, {top})"
            raise BadInput("objects", text, "Give pixels of the upright video within that.")
        checks = tuple(f"object {number} lies outside the clip and is left out" for number in hidden)
        return cls(tuple(prompt for prompt in shown if prompt is not None), None, checks)

    @classmethod
    def masked(cls, mask: NDArray[np.uint8]) -> FollowedObjects:
        """The instances of the first frame's mask.

        Raises:
            BadInput: it has none.
        """
        if not mask.any():
            raise BadInput("mask", "the mask of the first frame is empty in the clip", "Give one with an id above 0, or clicks.")
        return cls(mask=mask)

    @property
    def given(self) -> dict[int, str]:
        """How each object was named, by its id, in the order in which the model meets them."""
        of_mask = [] if self.mask is None else [int(number) for number in np.unique(self.mask) if number]
        return dict.fromkeys(of_mask, "mask") | {prompt.id: prompt.kind for prompt in self.prompts}


class Sam2Masks(ModelBackend):
    """The ``sam2`` backend."""

    name: ClassVar[str] = "sam2"
    settings_model: ClassVar[type[Sam2Settings]] = Sam2Settings
    version: ClassVar[int] = 1
    env: ClassVar[str | None] = "sam2"
    device: ClassVar[Literal["cpu", "cuda", "any"]] = "any"
    deterministic: ClassVar[bool] = False
    shrinks: ClassVar[tuple[float, ...]] = (1.0,)
    """One frame is on the card at a time, so there is nothing to make smaller."""
    writer: ClassVar[type[ArtifactWriter]] = ObjectMasksWriter
    _settings: MasksSettings

    def identity(self) -> dict[str, Any]:
        """The network and its weights' hash."""
        return {"model": self._settings.of(Sam2Settings).model, "weights": weights_identity(self._store, self.weights)}

    @property
    def checkouts(self) -> dict[str, str | None]:
        """The repository it runs from, and the user's own folder for it."""
        return {"sam2": self._settings.of(Sam2Settings).checkout}

    @property
    def weights(self) -> list[str]:
        """Name or path of what it reads."""
        own = self._settings.of(Sam2Settings)
        return [own.weights or f"sam2.1-hiera-{own.model}"]

    def load(self, device: Device) -> None:
        """Starts the model; see `stages.backend.Backend.load`."""
        own = self._settings.of(Sam2Settings)
        (weights,) = require_weights(self._store, self.weights)
        config = f"configs/sam2.1/sam2.1_hiera_{CONFIGS[own.model]}.yaml"
        paths = [str(self._store.checkout("sam2", "sam2", own.checkout))]
        self._start(
            SAM2_WORKER, device, {"paths": paths, "config": config, "weights": str(weights), "device": torch_device(device)}
        )

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Follows the row's objects; see `stages.backend.Backend.process`.

        A mask of one image is the first frame's. Masks of more images are the user's own answer and are taken as they are. A row
        that names neither objects nor a mask gets an artifact without objects.

        Raises:
            BadInput: objects or a mask that do not fit.
        """
        # They bring PyAV, which the process that plans a run does without.
        from videolift.inputs.mask_files import open_mask_file
        from videolift.inputs.masks import Masks

        assert inputs.clip is not None
        assert isinstance(out, ObjectMasksWriter)
        clip, video = inputs.clip, inputs.video
        with ExitStack() as stack:
            file = stack.enter_context(closing(open_mask_file(video.mask))) if video.mask is not None else None
            if file is not None and video.objects is not None:
                raise BadInput("objects", "the row names objects and a mask", "Leave one of the two cells empty.")
            masks = Masks(file, clip) if file is not None else None
            objects = FollowedObjects()
            if file is not None and masks is not None and file.frames == 1:
                objects = FollowedObjects.masked(masks[0])
            elif video.objects is not None:
                objects = FollowedObjects.pointed_at(video.objects, Framing.from_attrs(clip.attrs))

            def unasked(start: int, end: int, saves: bool) -> NDArray[np.uint8]:
                if masks is None:
                    return np.zeros((end - start, clip.height, clip.width), np.uint8)
                return np.stack([masks[frame] for frame in range(start, end)])

            seen = self._write(clip, out, self._followed(objects, clip, out, progress) if objects.given else unasked, progress)
        # Which ids the user's own masks have is known only now, when all of them were read.
        given = objects.given or {number: "masks" for number in range(1, 256) if seen[number]}
        out.describe(backend=self.name, objects=[{"id": number, "given": how} for number, how in given.items()])
        faint = [number for number in given if seen[number] < FAINT_SHARE * len(clip)]
        checks = [f"object {number} is seen in less than {FAINT_SHARE:.0%} of the frames" for number in faint]
        checks += [] if given else ["the row names no object: set its cell objects or mask"]
        checks += self.notes if objects.given else []
        return Quality(len(clip), (*objects.checks, *checks), {"objects": float(len(given))})

    def _write(self, clip: Clip, out: ObjectMasksWriter, chunk: Chunk, progress: Progress) -> NDArray[np.int64]:
        """Appends what ``chunk`` gives, segment by segment; in how many frames each id (256) is seen."""

        def work(start: int, end: int) -> SavedArrays:
            seen = np.zeros(256, np.int64)
            for a in range(start, end, CHUNK_FRAMES):
                b = min(a + CHUNK_FRAMES, end)
                instance = chunk(a, b, b == end)
                out.append(instance=instance)
                for frame in instance:
                    # Counted here, where frames pass by: an artifact is not read again for it.
                    seen[np.unique(frame)] += 1
                progress(b, len(clip))
            return {"seen": seen}

        segments = even_segments(len(clip), self._settings.segment_s * clip.fps)
        parts = resumable(out, "masks", segments, work, commits=True)
        seen: NDArray[np.int64] = np.sum([part["seen"] for part in parts], axis=0)
        return seen

    def _followed(self, objects: FollowedObjects, clip: Clip, out: ObjectMasksWriter, progress: Progress) -> Chunk:
        """Asks the model, chunk by chunk in order; begins with what a killed attempt remembered."""
        prompts = [{"id": prompt.id, "kind": prompt.kind, "uv_px": prompt.uv_px.tolist()} for prompt in objects.prompts]
        memory: SavedArrays | None = None

        def chunk(start: int, end: int, saves: bool) -> NDArray[np.uint8]:
            nonlocal memory
            if start == 0:
                memory = {} if objects.mask is None else {"mask": objects.mask}
            elif memory is None:
                memory = out.load_part(_memory_part(start))
            assert memory is not None
            meta = {"first": start, "total": len(clip), "ids": list(objects.given), "prompts": prompts}

            def report(done: int, of: int) -> None:
                progress(start + done, len(clip))

            memory = self._call(meta, {"rgb": clip[start:end], **memory}, report)
            instance = memory.pop("instance")
            if saves:
                # Before the segment itself is saved, and the one before is kept: wherever a kill falls, what is remembered of the
                # committed frames is there.
                out.save_part(_memory_part(end), **memory)
                for part in [part for part in out.saved_parts() if part.startswith("memory-")][:-2]:
                    out.drop_part(part)
            return instance

        return chunk


def _memory_part(frame: int) -> str:
    return f"memory-{frame:09d}"


BACKEND = Sam2Masks
