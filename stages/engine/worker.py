"""What a pool's worker does with one video: open its inputs, run the backend, publish the artifact.

Runs in the worker process. The backend sees no path of the output folder and no pool; the pool sees no video and no file.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.backend import Inputs
from stages.registry import make_backend
from stages.settings import stage_block
from stages.shots import has_cuts, process_by_shot
from videolift.artifacts import Artifact, ArtifactWriter
from videolift.carried_facts import content_sha256
from videolift.errors import BadInput, CorruptFile
from videolift.inputs.catalog import Video
from videolift.paths import Layout
from videolift.pool import Device, Item
from videolift.records.leases import read_nonce
from videolift.records.receipts import Receipt, carried_facts, record
from videolift.stage_table import PACKAGING, SPECS


@dataclass(frozen=True)
class Job:
    """Everything a worker needs to know of one video.

    Attributes:
        inputs, files: what the receipt will state.
        upstream: stage to its artifact's SHA-256, for those that exist.
        missing: stage to the reason why it has no artifact.
        upstream_facts: stage to what its receipt says, nothing of when and where.
    """

    video: Video
    fingerprint: str
    inputs: dict[str, str]
    files: dict[str, tuple[int, int]]
    upstream: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    upstream_facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def lineage(self) -> dict[str, dict[str, Any]]:
        """What the dataset's card says of the stages above."""
        names = ("backend", "shrink", "checks", "figures")
        return {stage: {name: facts[name] for name in names} for stage, facts in self.upstream_facts.items()}


@dataclass(frozen=True)
class Damaged:
    """Returned instead of a result where upstream artifacts turn out to be damaged; nothing was written."""

    stages: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Done:
    """Returned when the artifact is published; the pool's ledger writes the receipt."""

    receipt: Receipt


@dataclass(frozen=True)
class WorkerFactory:
    """Builds a `StageWorker` in the worker process.

    Attributes:
        settings: of the stage for these videos, as the run has recorded them.
        folders: of weights and of environments, as the configuration names them.
        identity: the backend's identity, as the receipts state it.
        lease: file and nonce of the batch's lease; nothing is published once it has been taken over.
    """

    stage: str
    settings: Mapping[str, Any]
    folders: tuple[str, str]
    identity: dict[str, Any]
    output: Path
    lease: tuple[Path, str]

    def __call__(self) -> StageWorker:
        """The worker, not loaded."""
        return StageWorker(self)


class StageWorker:
    """A `videolift.pool.Worker` for one backend with one set of settings."""

    def __init__(self, factory: WorkerFactory) -> None:
        self._factory = factory
        self._layout = Layout(factory.output)
        block = stage_block(factory.stage, **factory.settings).in_folders(*factory.folders)
        self._backend = make_backend(factory.stage, block)
        self.shrinks: tuple[float, ...] = self._backend.shrinks

    def load(self, device: Device) -> None:
        """Loads the backend."""
        self._backend.load(device)

    def close(self) -> None:
        """Releases the backend."""
        self._backend.close()

    def process(self, item: Item, *, shrink: float, progress: Callable[[int, int], None]) -> Done | Damaged:
        """Works on one video and publishes its artifact."""
        job: Job = item.payload
        stage, video = self._factory.stage, job.video.id
        segments = self._layout.segments(stage, video, job.fingerprint)
        writer = self._backend.writer(self._layout.artifact(stage, video), segments=segments)
        try:
            receipt = self._run(job, writer, shrink, progress)
            facts = carried_facts(receipt)
            # So the packaged file alone tells of the artifacts that are released later.
            writer.carry(facts | {"upstream": job.upstream_facts} if stage == PACKAGING else facts)
            path, nonce = self._factory.lease
            # As late as possible: a job that was frozen for hours must not overwrite its successor's work.
            if read_nonce(path) != nonce:
                raise RuntimeError(f"the lease of this batch was taken over; {video} is not published")
            published = writer.publish()
        except CorruptFile as error:
            above = {name: self._layout.artifact(name, video) for name in job.upstream}
            damaged = tuple(
                name for name, path in above.items() if not path.is_file() or content_sha256(path) != job.upstream[name]
            )
            if not damaged:
                raise
            return Damaged(damaged, str(error))
        finally:
            writer.discard()
        if stage == PACKAGING:
            from stages.engine.verification import FAILS_VERIFICATION, findings_text
            from videolift.dataset.verify import verify_file

            # Read again from the disk; a file whose content is not what it states is removed, so that nothing trains on it.
            if findings := verify_file(published.path, sha256=published.sha256):
                published.path.unlink()
                raise BadInput(FAILS_VERIFICATION, findings_text(findings), findings[0].remedy)
        return Done(replace(receipt, artifact=record(published, self._layout.output)))

    def _run(self, job: Job, writer: ArtifactWriter, shrink: float, progress: Callable[[int, int], None]) -> Receipt:
        """Has the backend write its artifact; what the receipt says of it, before it is published."""
        with ExitStack() as stack:
            opened: dict[str, Any] = {}
            others: dict[str, Artifact] = {}
            for stage in job.upstream:
                artifact = stack.enter_context(artifact_class(stage)(self._layout.artifact(stage, job.video.id)))
                if SPECS[stage].field:
                    opened[SPECS[stage].field] = artifact
                else:
                    others[stage] = artifact
            inputs = Inputs(job.video, **opened, others=others, missing=job.missing, lineage=job.lineage)
            if SPECS[self._factory.stage].by_shot and inputs.clip is not None and has_cuts(inputs.clip):
                quality = process_by_shot(self._backend, inputs, writer, shrink=shrink, progress=progress)
            else:
                quality = self._backend.process(inputs, writer, shrink=shrink, progress=progress)
        return Receipt(
            video=job.video.id,
            stage=self._factory.stage,
            state="done",
            fingerprint=job.fingerprint,
            backend=self._factory.identity,
            inputs=job.inputs,
            files=job.files,
            shrink=shrink,
            frames=quality.frames,
            checks=quality.checks,
            figures=quality.figures,
            versions=versions(),
            source=job.video.path,
        )


def artifact_class(stage: str) -> type[Artifact]:
    """The class that opens a stage's artifacts."""
    module, _, name = SPECS[stage].artifact.partition(":")
    kind: type[Artifact] = getattr(importlib.import_module(module), name)
    return kind


@cache
def versions() -> dict[str, str]:
    """Versions of what computes, for the receipt."""
    names = ("videolift", "numpy", "h5py", "opencv-python-headless", "av", "pycolmap")
    return {name: version(name) for name in names}
