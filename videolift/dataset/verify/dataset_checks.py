"""Verification: does a packaged file, or a published dataset, hold what it says it holds?

`verify` returns a list of findings, empty where all is well. It reads every byte, recomputes what can be recomputed (windows of
camera and hands, statistics), and changes nothing. The checks of one open file are in `videolift.dataset.verify.file_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from videolift.dataset.layout import DATASET_FORMAT, DATASET_VERSION, SUFFIX
from videolift.dataset.publish import MAIN_STATISTICS
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.dataset.statistics.merging import Member, MergedVideos, add_file
from videolift.dataset.statistics.normalization_table import normalization_table
from videolift.dataset.verify.file_checks import CHECKS, Finding, OpenFile
from videolift.errors import CorruptFile
from videolift.store import open_hdf5, read_json, sha256_file

__all__ = ["Finding", "verify", "verify_dataset", "verify_file"]


def verify(path: Path, *, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Finding]:
    """Findings about a packaged file, or about a dataset's folder and every file in it."""
    if path.is_dir():
        return verify_dataset(path, progress=progress)
    found = verify_file(path)
    progress(1, 1)
    return found


def verify_file(path: Path, *, sha256: str | None = None) -> list[Finding]:
    """Findings about one packaged file.

    Args:
        path: the file.
        sha256: what its bytes should hash to, where that is known.
    """
    if not path.is_file():
        return [Finding(path.name, "file", "is not there", "Run the same command again, or publish the dataset without it.")]
    found = []
    if sha256 is not None and sha256_file(path) != sha256:
        remedy = "Delete it and run the same command again."
        found.append(Finding(path.name, "bytes", "its bytes are not those that were published", remedy))
    try:
        with open_hdf5(path, DATASET_FORMAT, DATASET_VERSION) as file:
            opened = OpenFile(path, file)
            for check in CHECKS:
                found += check(opened)
    except CorruptFile as error:
        found.append(Finding(path.name, "file", _without_folder(error, path), "Delete it and run the same command again."))
    return found


def verify_dataset(folder: Path, *, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Finding]:
    """Findings about a published dataset: its files, its index, its statistics."""
    index = read_json(folder / "dataset.json")
    if index is None or index.get("format") != DATASET_FORMAT:
        return [Finding("dataset.json", "index", "is missing or of another format", "Run the statistics stage.")]
    found: list[Finding] = []
    for done, entry in enumerate(index["files"], 1):
        found += verify_file(folder / entry["file"], sha256=entry["sha256"])
        progress(done, len(index["files"]))
    listed = {entry["file"] for entry in index["files"]}
    for stray in sorted(set(folder.glob(f"*{SUFFIX}")) - {folder / name for name in listed}):
        found.append(Finding(stray.name, "index", "is not in dataset.json", "Run the statistics stage, or remove the file."))
    if not any(finding.check in ("file", "bytes") for finding in found):
        found += _check_published(folder, index)
    return found


def _check_published(folder: Path, index: dict[str, Any]) -> Iterator[Finding]:
    merged = MergedVideos()
    for entry in index["files"]:
        member = Member(entry["video"], folder / entry["file"], entry["sha256"], given_split=entry["split"])
        with open_hdf5(member.path, DATASET_FORMAT, DATASET_VERSION) as file:
            add_file(merged, member, file)
        about = merged.about[member]
        wrong = [name for name in ("frames", "windows", "points", "tier", "scale") if about.get(name) != entry.get(name)]
        for name in wrong:
            text = f"dataset.json says {name} {entry.get(name)}, the file {about.get(name)}"
            yield Finding(entry["file"], "index", text, "Run the statistics stage.")
    for name in index["statistics"]:
        yield from _check_statistics(folder / name, merged, index)
    if MAIN_STATISTICS not in index["statistics"] and index["files"]:
        yield Finding(MAIN_STATISTICS, "statistics", "is not published", "Run the statistics stage.")


def _check_statistics(path: Path, merged: MergedVideos, index: dict[str, Any]) -> Iterator[Finding]:
    try:
        published = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError) as error:
        yield Finding(path.name, "statistics", f"cannot be read: {type(error).__name__}", "Run the statistics stage.")
        return
    group = published.get("group")
    of_group = Accumulators.merged(stats for (name, _), stats in merged.statistics.items() if name == group)
    by_split = {split: stats for (name, split), stats in merged.statistics.items() if name == group}
    videos = index["groups"].get(group, [])
    expected = normalization_table(of_group, by_split, group=group, videos=videos, left_out=published.get("left_out", {}))
    for key in sorted({*expected, *published}):
        if expected.get(key) != published.get(key):
            text = f"{key} differs from what the files give"
            yield Finding(path.name, "statistics", text, "Run the statistics stage.")


def _without_folder(error: CorruptFile, path: Path) -> str:
    return str(error).replace(f"{path}: ", "").replace(str(path), path.name)


def as_json(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings for ``--json``."""
    return [vars(finding) for finding in findings]
