"""Lets go of artifacts that nothing will read any more: ``keep`` in the configuration says which stay.

Runs at the end of a batch's packaging, the last reader. The journal of the packaging stage says what
was let go of, by content, so that nothing becomes stale by its going.
"""

from __future__ import annotations

from dataclasses import replace

from videolift.config import RELEASABLE
from videolift.records.journal import Journal
from videolift.records.manifests import Target, read_manifest, write_manifest
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Run
from videolift.stage_table import PACKAGING


def release(run: Run, batch: str, journal: Journal, read: RecordReader) -> int:
    """Deletes the artifacts of a batch's packaged videos that need not stay; returns the bytes freed.

    Args:
        journal: of the packaging stage.
    """
    gone: dict[str, list[str]] = {stage: [] for stage in RELEASABLE if stage not in run.config.keep}
    freed = 0
    for video in journal.records:
        packaged = read(PACKAGING, video)
        # What is not packaged yet still has a reader.
        if packaged is None or packaged.state != "done":
            continue
        # Imported artifacts could not be made again here, and quarantined videos have none.
        artifacts = {
            stage: receipt.artifact
            for stage in gone
            if (receipt := read(stage, video)) and receipt.state != "quarantined" and not receipt.is_imported
        }
        held = {
            stage: artifact for stage, artifact in artifacts.items() if artifact and (run.layout.output / artifact.path).is_file()
        }
        if held:  # noted first, so that a kill leaves too many files and not too few
            known = journal.records[video].released
            journal.released(video, {**known, **{stage: artifact.sha256 for stage, artifact in held.items()}})
        for artifact in held.values():
            (run.layout.output / artifact.path).unlink()
            freed += artifact.bytes
        for stage in artifacts:
            gone[stage].append(video)
    for stage, videos in gone.items():
        if not videos or batch not in run.plan["targets"][stage]:
            continue
        token, generation = run.plan["targets"][stage][batch]
        path = Target(stage, batch, token, generation).path(run.layout.manifests(stage))
        manifest = read_manifest(path)
        if manifest is None:
            continue
        # The manifest vouched for the files. Its time stays as it is, or Snakemake would run the jobs below it.
        stat = path.stat()
        rows, released = manifest.videos, set(videos)
        states = ["released" if name in released else state for name, state in zip(rows.names, rows.states, strict=True)]
        write_manifest(path, replace(manifest, videos=replace(rows, states=states)), times_ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return freed
