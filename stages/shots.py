"""A stage over a video with cuts: its backend meets every shot as a clip of its own, and what it makes is joined.

So nothing that a backend measures over time reaches across a cut, and no backend needs to know of cuts. Each shot has a world and a
scale of its own; all are taken to be filmed with one camera, whose K is that of the longest shot that shows it. What holds for one
shot alone (tier, scale, why it failed) stands in the joined artifact's attribute ``shots``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.backend import Backend, Inputs, Progress, Quality
from stages.segments import SavedArrays, kept
from videolift.artifacts import Artifact, ArtifactWriter, Clip, ClipWriter, Depth, DepthWriter, Hands, Tracks, TracksWriter
from videolift.errors import BadInput
from videolift.shot_ranges import Shot, shots_of
from videolift.store import OWN_ATTRIBUTES

MIN_SHOT_FRAMES = 3
"""Shorter shots show no motion; no backend is asked about them."""
_ROWS = 64
_COUNTS = ("windows", "points", "keyframes", "stretches", "joined")
"""Figures that add up over shots; of all others the joined artifact has the mean over frames."""
_OF_DEPTH = ("tier", "scale", "pose", "intrinsics", "quality")


def has_cuts(clip: Clip) -> bool:
    """True if a clip is more than one shot."""
    return bool((clip.shot != 0).any())


@dataclass(frozen=True)
class _Part:
    """What became of one shot: what the backend said of it, or why it gave nothing."""

    shot: Shot
    path: Path
    quality: Quality | None = None
    refused: BadInput | None = None


def process_by_shot(backend: Backend, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
    """As `Backend.process`, on every shot by itself; shots that a killed attempt had finished are not done again.

    Raises:
        BadInput: no shot can be used; the reason is that of the longest.
    """
    work = _ShotByShot(backend, inputs, out, shrink, progress)
    parts = work.run()
    done = [part for part in parts if part.quality is not None]
    if not done:
        longest = max(parts, key=lambda part: len(part.shot)).refused
        assert longest is not None
        raise BadInput(
            longest.code, f"none of its {len(parts)} shots can be used, the longest because {longest.text}", longest.remedy
        )
    work.join(parts, max(done, key=lambda part: len(part.shot)))
    checks, figures = [], {"shots": float(len(parts))}
    for part in parts:
        name = f"shot {part.shot.number} (frames {part.shot.first} to {part.shot.end - 1})"
        said = part.quality.checks if part.quality is not None else (f"nothing: {part.refused.text}" if part.refused else "",)
        checks += [f"{name}: {text}" for text in said]
    measured = [(len(part.shot), part.quality.figures) for part in parts if part.quality is not None]
    for key in dict.fromkeys(key for _, values in measured for key in values):
        weights, values = zip(*((n, values[key]) for n, values in measured if key in values), strict=True)
        figures[key] = float(np.sum(values)) if key in _COUNTS else float(np.average(values, weights=weights))
    return Quality(len(work.clip), tuple(checks), figures)


class _ShotByShot:
    """One stage over one video with cuts."""

    def __init__(self, backend: Backend, inputs: Inputs, out: ArtifactWriter, shrink: float, progress: Progress) -> None:
        assert inputs.clip is not None
        self.backend, self.inputs, self.out, self.shrink, self.progress = backend, inputs, out, shrink, progress
        self.clip = inputs.clip
        self.folder = out.segments or out.scratch()
        self.reader = {"videolift.depth": Depth, "videolift.hands": Hands, "videolift.tracks": Tracks}[out.FORMAT]
        self.K_found: list[list[float]] | None = None

    def run(self) -> list[_Part]:
        """Every shot, the longest first: it shows most of the camera, and the others take over what it found."""
        parts: dict[int, _Part] = {}
        # By length, then by place: the same order on every run.
        shots = sorted(shots_of(self.clip.shot), key=lambda shot: (-len(shot), shot.first))
        for shot in shots:
            part = parts[shot.number] = self._part(shot)
            # Only depth finds cameras, and a camera that the user gave is not looked for.
            if self.reader is not Depth or self.K_found is not None or part.quality is None or "K_given" in self.clip.attrs:
                continue
            with Depth(part.path) as depth:
                if depth.attrs["intrinsics"] == "estimated":
                    self.K_found = depth.K.astype(float).tolist()
            if self.K_found is not None:
                # a guess made before is not the camera that the video has
                for before in [p for p in parts.values() if p.quality is not None and p.shot.number != shot.number]:
                    parts[before.shot.number] = self._part(before.shot)
        return [parts[number] for number in sorted(parts)]

    def _part(self, shot: Shot) -> _Part:
        """One shot's artifact, with K as it is known by now."""
        known = "" if self.K_found is None else "-K"
        name = f"shot-{shot.number:04d}{known}"
        path = self.folder / f"{name}.h5"
        if len(shot) < MIN_SHOT_FRAMES:
            text = f"it has {len(shot)} frames, {MIN_SHOT_FRAMES} are needed"
            return _Part(shot, path, refused=BadInput("too_short", text, "Nothing needs to be done: other shots are used."))
        frames = len(self.clip)

        def report(done: int, total: int) -> None:
            self.progress(min(frames, shot.first + len(shot) * done // max(total, 1)), frames)

        def process() -> SavedArrays:
            # An artifact of its own with segments of its own: a kill costs a segment of a shot, not the shot.
            writer = type(self.out)(path, segments=path.with_suffix(""))
            with _cut_out(self.inputs, shot, self.out.scratch(), self.K_found) as inputs:
                try:
                    quality = self.backend.process(inputs, writer, shrink=self.shrink, progress=report)
                    writer.publish()
                    words: dict[str, Any] = {"frames": quality.frames, "checks": quality.checks, "figures": quality.figures}
                except BadInput as error:
                    words = {"refused": [error.code, error.text, error.remedy]}
                finally:
                    writer.discard()
            return {"said": np.array(json.dumps(words))}

        # the artifact is published before its words are kept: after a kill in between the shot is done once more
        said = kept(self.out, name, process)
        words = json.loads(str(said["said"]))
        if "refused" in words:
            return _Part(shot, path, refused=BadInput(*words["refused"]))
        return _Part(shot, path, Quality(words["frames"], tuple(words["checks"]), words["figures"]))

    def join(self, parts: list[_Part], longest: _Part) -> None:
        """All parts in one artifact; its attributes are those of the longest shot."""
        at, stated = 0, []
        with self.reader(longest.path) as pattern:
            for part in parts:
                # Frames between shots belong to a fade or a dissolve.
                self._fill(pattern, part.shot.first - at)
                about: dict[str, Any] = {"first": part.shot.first, "end": part.shot.end}
                if part.quality is None:
                    self._fill(pattern, len(part.shot))
                    about["refused"] = "" if part.refused is None else part.refused.text
                else:
                    with self.reader(part.path) as artifact:
                        if isinstance(artifact, Tracks):
                            assert isinstance(self.out, TracksWriter)
                            for window in (artifact[w] for w in range(len(artifact))):
                                self.out.append_window(replace(window, start=window.start + part.shot.first))
                        else:
                            _copy_rows(artifact, self.out, 0, len(artifact))  # type: ignore[arg-type]
                        about |= _attributes(artifact)
                stated.append(about)
                at = part.shot.end
            self._fill(pattern, len(self.clip) - at)
            # Fields without a row per frame, as the camera's matrix.
            for field in self.reader.FIELDS:
                if field.axis is None:
                    self.out.put(**{field.name: pattern.read(field.name)})
            self.out.describe(**_attributes(pattern), shots=stated)

    def _fill(self, pattern: Artifact, rows: int) -> None:
        """Rows of frames that are not known; windows there are none."""
        if rows and not isinstance(pattern, Tracks):
            for field in pattern.FIELDS:
                if field.axis is not None and field.name in pattern:
                    like = pattern.read(field.name, slice(0, 1))
                    # 0 is invalid depth; a hand that is not there has no side to doubt
                    value = True if field.name == "side_known" else 0 if field.name == "depth" or like.dtype.kind != "f" else np.nan
                    self.out.append(**{field.name: np.full((rows, *like.shape[1:]), value, like.dtype)})


def _attributes(artifact: Artifact) -> dict[str, Any]:
    return {name: value for name, value in artifact.attrs.items() if name not in OWN_ATTRIBUTES}


@contextmanager
def _cut_out(inputs: Inputs, shot: Shot, folder: Path, K_found: list[list[float]] | None) -> Iterator[Inputs]:
    """The inputs of one shot, as clip and depth of their own in ``folder``; removed afterwards."""
    clip, depth = inputs.clip, inputs.depth
    assert clip is not None
    with ExitStack() as stack:
        camera = {} if K_found is None else {"K_given": K_found, "K_source": "estimated"}
        about = dict(clip.attrs) | camera | {"cut_from": {"first": shot.first, "frames": len(clip)}}
        path = _written(clip, ClipWriter(folder / "clip.h5"), shot, about)
        stack.callback(path.unlink)
        cut_clip = stack.enter_context(Clip(path))
        if depth is None:
            yield replace(inputs, clip=cut_clip)
            return
        of_shot: Mapping[str, Any] = next((about for about in depth.attrs.get("shots", []) if about["first"] == shot.first), {})
        # where the depth of this shot failed it is unknown, hence no metres
        known = {"scale": "arbitrary"} if "refused" in of_shot else {n: of_shot[n] for n in _OF_DEPTH if n in of_shot}
        path = _written(depth, DepthWriter(folder / "depth.h5"), shot, dict(depth.attrs) | known)
        stack.callback(path.unlink)
        yield replace(inputs, clip=cut_clip, depth=stack.enter_context(Depth(path)))


def _written(artifact: Clip | Depth, writer: ArtifactWriter, shot: Shot, attributes: Mapping[str, Any]) -> Path:
    _copy_rows(artifact, writer, shot.first, shot.end)
    for field in artifact.FIELDS:
        if field.axis is None:
            writer.put(**{field.name: artifact.read(field.name)})
    away = {*OWN_ATTRIBUTES, "shots"}
    writer.describe(**{name: value for name, value in attributes.items() if name not in away})
    return writer.publish().path


def _copy_rows(artifact: Artifact, writer: ArtifactWriter, first: int, end: int) -> None:
    for field in artifact.FIELDS:
        if field.axis is not None and field.name in artifact and field.name != "shot":
            for start in range(first, end, _ROWS):
                writer.append(**{field.name: artifact.read(field.name, slice(start, min(start + _ROWS, end)))})
