"""Verification: does a packaged file, or a published dataset, hold what it says it holds?

`verify_path` returns a list of findings, empty where all is well. It reads every byte, recomputes what can be recomputed (windows
of camera and hands, statistics), and changes nothing. The checks of one file are in `videolift.dataset.verify.file_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import yaml

from videolift.dataset.file import PackagedFile
from videolift.dataset.index import INDEX_FILE, Index, read_index
from videolift.dataset.layout import SUFFIX
from videolift.dataset.publish import MAIN_STATISTICS, changed_shards
from videolift.dataset.publish.shards import MERGED_FILE
from videolift.dataset.statistics.file_summary import describe_file, packed_statistics
from videolift.dataset.statistics.merging import GroupedStatistics
from videolift.dataset.statistics.normalization_table import normalization_table
from videolift.dataset.verify.file_checks import CHECKS, FileCheck, FileUnderCheck, Finding
from videolift.dataset.verify.image_checks import check_images
from videolift.errors import ConfigError, CorruptFile
from videolift.store import sha256_file

_PUBLISH = "Run the statistics stage."
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a check may raise on a file that videolift did not write. It is a finding about that file, and the next file follows."""


def verify_path(
    path: Path, *, deep: bool = False, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Finding]:
    """Findings about a packaged file, or about a dataset's folder and every file in it; ``deep`` as `verify_file`."""
    if path.is_dir():
        return verify_dataset(path, deep=deep, progress=progress)
    findings = verify_file(path, deep=deep)
    progress(1, 1)
    return findings


def verify_file(path: Path, *, sha256: str | None = None, deep: bool = False) -> list[Finding]:
    """Findings about one packaged file.

    Args:
        path: the file.
        sha256: what its bytes should hash to, where that is known.
        deep: also hold its labels against its images, where nothing else is wrong with it.
    """
    if not path.is_file():
        return [Finding(path.name, "file", "is not there", "Run the same command again, or publish the dataset without it.")]
    findings = []
    if sha256 is not None and sha256_file(path) != sha256:
        findings.append(Finding(path.name, "bytes", "its bytes are not those that were published"))
    try:
        with FileUnderCheck(path) as file:
            for check in CHECKS:
                findings += _run_check(check, file)
            # In a damaged file labels would be compared with images that are not theirs.
            if deep and not findings:
                findings += _run_check(check_images, file)
    except CorruptFile as error:
        findings.append(Finding(path.name, "file", _without_folder(error, path)))
    return findings


def _run_check(check: FileCheck, file: FileUnderCheck) -> Iterator[Finding]:
    try:
        # Hostile numbers overflow in a check that then names them; numpy's warnings would only reach the terminal.
        with np.errstate(all="ignore"):
            yield from check(file)
    except CorruptFile as error:
        yield file.finding("file", _without_folder(error, file.path))
    except _MALFORMED as error:
        yield file.finding("malformed", f"{check.__name__} cannot make sense of it: {type(error).__name__}: {error}")


def verify_dataset(
    folder: Path, *, deep: bool = False, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Finding]:
    """Findings about a published dataset: its files, its index, its statistics."""
    try:
        index = read_index(folder)
    except ConfigError as error:
        return [Finding(INDEX_FILE, "index", str(error).replace(str(folder), folder.name), _PUBLISH)]
    findings: list[Finding] = []
    for done, entry in enumerate(index.entries, 1):
        findings += verify_file(folder / entry.path, sha256=entry.sha256, deep=deep)
        progress(done, len(index.entries))
    listed = {folder / entry.path for entry in index.entries}
    for stray in sorted({*folder.glob(f"*{SUFFIX}"), *folder.glob(f"??/*{SUFFIX}")} - listed):
        name = stray.relative_to(folder).as_posix()
        findings.append(Finding(name, "index", "is not in the index", "Run the statistics stage, or remove the file."))
    findings += [
        Finding(MERGED_FILE, "shard", f"{shard} {why}", "Run videolift merge again.") for shard, why in changed_shards(folder)
    ]
    # Figures over damaged files would differ for that reason alone.
    if not findings:
        findings += _check_published(index)
    return findings


def _check_published(index: Index) -> Iterator[Finding]:
    merged, statistics = GroupedStatistics(), index.summary["statistics"]
    described = index.descriptions()
    for entry in index.entries:
        with PackagedFile(index.folder / entry.path) as file:
            about = describe_file(file)
            merged.part(entry.group, entry.split).merge_packed(packed_statistics(file))
        for name, value in sorted(about.items()):
            published = described[entry.video].get(name)
            if name != "lineage" and published != value:  # lineages name backends by number or by id
                yield Finding(entry.path, "index", f"the index says {name} {published}, the file {value}", _PUBLISH)
    for name in statistics:
        path = index.folder / name
        try:
            published = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
            if not isinstance(published, dict):
                raise ValueError("it is not a table")
        except (OSError, ValueError, yaml.YAMLError) as error:
            yield Finding(path.name, "statistics", f"cannot be read: {type(error).__name__}", _PUBLISH)
            continue
        group = str(published.get("group"))
        # Tables of older releases list the videos that newer ones count.
        published |= {key: len(value) for key in ("videos", "left_out") if isinstance(value := published.get(key), (list, dict))}
        # What was left out is not in the files: only the run knew it, so its number is taken as published.
        counted = {"videos": index.summary["groups"].get(group, 0), "left_out": published.get("left_out") or 0}
        expected = normalization_table(merged.of_group(group), merged.by_split(group), group=group, **counted)
        for key in sorted({*expected, *map(str, published)}):
            if expected.get(key) != published.get(key):
                yield Finding(path.name, "statistics", f"{key} differs from what the files give", _PUBLISH)
    if MAIN_STATISTICS not in statistics and index.entries:
        yield Finding(MAIN_STATISTICS, "statistics", "is not published", _PUBLISH)


def _without_folder(error: CorruptFile, path: Path) -> str:
    return str(error).replace(f"{path}: ", "").replace(str(path), path.name)


def as_json(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings for ``--json``."""
    return [vars(finding) for finding in findings]
