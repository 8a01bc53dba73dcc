"""Findings: what is there of one video in an output folder, opened together.

The clip must be there; depth, tracks and hands may each be missing. Pictures, reports and viewers read videos through this.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from videolift.artifacts import Artifact, Clip, Depth, Hands, Tracks
from videolift.errors import ConfigError
from videolift.paths import Layout

TIERS = {"A": "A (sensor)", "B": "B (learned)", "C": "C (structure from motion)", "D": "D (prior, not measured)"}
UNITS = {"metric": "m", "hand": "m from hands", "assumed": "m assumed", "arbitrary": "arbitrary units"}
"""How lengths are labelled, by `Depth.scale`."""
_Kind = TypeVar("_Kind", bound=Artifact)


@dataclass
class Findings:
    """A context manager; leaving it closes the files."""

    video: str
    clip: Clip
    depth: Depth | None
    tracks: Tracks | None
    hands: Hands | None
    _stack: ExitStack

    @classmethod
    def open(cls, output: Path, video: str) -> Findings:
        """Opens what is there of ``video``.

        Raises:
            ConfigError: there is no clip, or the name is no id.
            CorruptFile: a file is there and fails its checks.
        """
        layout, stack = Layout(output), ExitStack()
        path = layout.artifact("ingest", video)
        if not path.exists():
            hint = "`videolift status` says what became of it; where keep lets frames go, name ingest there"
            raise ConfigError(f"{video}: no frames at {path}. {hint}")

        def found(stage: str, kind: type[_Kind]) -> _Kind | None:
            there = layout.artifact(stage, video)
            if not there.exists():
                return None
            artifact = kind(there)
            stack.callback(artifact.close)
            return artifact

        with stack:
            clip = stack.enter_context(Clip(path))
            depth, tracks, hands = found("depth", Depth), found("tracks", Tracks), found("hands", Hands)
            return cls(video, clip, depth, tracks, hands, stack.pop_all())

    @property
    def backends(self) -> dict[str, str]:
        """Stage to the backend that made its artifact, for those that are there."""
        parts = {"depth": self.depth, "tracks": self.tracks, "hands": self.hands}
        return {stage: str(part.attrs["backend"]) for stage, part in parts.items() if part is not None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
