"""The check at the end: every packaged file that was not verified by the job that wrote it, read whole against its checksums.

That is what an import or an older videolift has left, and what was read back after its record was lost: nothing, for most runs.
What passed is recorded in the manifest by content. `videolift verify` reads everything.
"""

from __future__ import annotations

import logging
from pathlib import Path

from videolift.dataset.index import read_index
from videolift.dataset.verify import verify_file
from videolift.errors import ExitCode
from videolift.records.leases import Lease
from videolift.records.manifests import Manifest, Row, Target, remove_older, write_manifest
from videolift.records.receipts import ArtifactRecord
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Run
from videolift.stage_table import PACKAGING
from videolift.store import read_json

log = logging.getLogger("videolift")


def run_verification(run: Run, target: Target, manifest: Path) -> ExitCode:
    """Verifies packaged files and writes ``manifest`` where nothing was found.

    Raises:
        LeaseHeld: another run does the same.
        Transient: disk full.
    """
    layout, read = run.layout, RecordReader(run.layout)
    with Lease.acquire(layout.lease(target.stage, target.batch), wait_s=run.config.lease_wait_s):
        entries = read_index(layout.dataset).entries
        verified = _verified_before(manifest.parent)
        verified |= {sha for entry in entries if (sha := read.record(PACKAGING, entry.video).verified_sha256)}
        new = [entry for entry in entries if entry.sha256 not in verified]
        findings = [found for entry in new for found in verify_file(layout.dataset / entry.path, sha256=entry.sha256)]
        for found in findings:
            log.error("%s: %s: %s. %s", found.file, found.check, found.text, found.remedy)
        log.info("verified %d new files of %d: %d findings", len(new), len(entries), len(findings))
        if findings:
            return ExitCode.LOST
        rows = {
            entry.video: Row("verified", _record(layout.dataset / entry.path, layout.output, entry.sha256)) for entry in entries
        }
        write_manifest(manifest, Manifest(target.stage, target.batch, target.token, target.generation, rows))
        remove_older(manifest.parent, target)
    return ExitCode.OK


def _verified_before(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.glob("*.json") if folder.is_dir() else []:
        for row in (read_json(path) or {}).get("videos", {}).values():
            found.add(row["artifact"]["sha256"])
    return found


def _record(path: Path, output: Path, sha256: str) -> ArtifactRecord:
    stat = path.stat()
    return ArtifactRecord(path.relative_to(output).as_posix(), stat.st_size, stat.st_mtime_ns, sha256)
