"""A run's folder: the configuration, the catalog and the plan it was started with, as jobs and `videolift status` read them.

Written by the head process before the first job, never under ``-n``. Jobs list no folder of videos; what they are to do is here.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videolift.config import Config
from videolift.errors import ConfigError, CorruptFile
from videolift.fast_json import parse_json
from videolift.inputs.catalog import Video
from videolift.paths import Layout
from videolift.records.freshness import Variant
from videolift.store import atomic_file, read_json, write_json


@dataclass(frozen=True, slots=True)
class Entry:
    """One video of a run.

    Attributes:
        batch: name of its batch.
        variant: index into `Run.variants`.
        vanished: its source is no longer listed, but its work is done.
        chosen: worked on by this run; False for videos outside ``only``, which count in the statistics all the same.
    """

    video: Video
    batch: str
    variant: int = 0
    vanished: bool = False
    chosen: bool = True


@dataclass(frozen=True)
class Run:
    """What a run was started with; `entries` reads its videos."""

    folder: Path
    config: Config
    variants: tuple[Variant, ...]
    plan: Mapping[str, Any]
    """Targets per stage and batch, for jobs that parse the workflow again."""

    @property
    def layout(self) -> Layout:
        """Paths of the output folder the run belongs to."""
        return Layout(self.folder.parent.parent)

    def entries(self, batch: str | None = None, *, without: Container[str] = ()) -> Iterator[Entry]:
        """Videos of one batch, or of all ``without`` those of some batches; decodes only the lines of these.

        Raises:
            CorruptFile: a line of it says something else.
        """
        # Looked for in the text: decoding a line takes far longer, and a job needs one batch of many.
        marker = f'"batch": {json.dumps(batch)}'
        path = self.folder / "catalog.jsonl"
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if batch is not None:
                    wanted = marker in line
                else:  # `write_run` puts the batch first; where something else stands there, that is the name of none
                    wanted = not without or line.removeprefix(_FIRST).partition('"')[0] not in without
                if not wanted:
                    continue
                try:
                    row = parse_json(line)
                    flags = {name: row[name] for name in ("batch", "variant", "vanished", "chosen")}
                    entry = Entry(Video.from_row(row["video"]), **flags)
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise CorruptFile(
                        f"{path} is damaged ({error!r}): delete {self.folder.name}, then start a run again"
                    ) from error
                yield entry


_FIRST = '{"batch": "'


def write_run(folder: Path, config: Config, variants: Iterable[Variant], entries: Iterable[Entry], plan: Mapping[str, Any]) -> None:
    """Writes a run's folder; the plan last, since its presence says that the rest is there."""
    write_json(folder / "config.json", config.model_dump(mode="json"))
    with atomic_file(folder / "catalog.jsonl") as temporary, temporary.open("w", encoding="utf-8") as lines:
        for entry in entries:  # line by line: as one text a million videos are a GB
            flags = {"variant": entry.variant, "vanished": entry.vanished, "chosen": entry.chosen}
            # `Run.entries` looks for the batch as this very text, and decodes no other line.
            lines.write(json.dumps({"batch": entry.batch, **flags, "video": entry.video.to_row()}) + "\n")
    write_json(folder / "plan.json", {**plan, "variants": [asdict(variant) for variant in variants]})
    # Last: whoever follows this name finds a run that is whole.
    write_json(Layout(folder.parent.parent).latest_run, {"run": folder.name})


def read_run(folder: Path) -> Run:
    """Reads a run's folder.

    Raises:
        ConfigError: there is no such run.
    """
    plan, config = read_json(folder / "plan.json"), read_json(folder / "config.json")
    if plan is None or config is None:
        raise ConfigError(f"{folder} is not a run of videolift: start one with snakemake --cores N")
    try:
        variants = tuple(Variant(v["identities"], tuple(v["required"]), v.get("settings", {})) for v in plan["variants"])
        return Run(folder, Config.of_run(config), variants, plan)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder}: what this run was to do is damaged ({error!r}): start a run again") from error


def latest_run(output: Path) -> Run:
    """The run started last in an output folder; see `read_run` for errors."""
    latest = read_json(Layout(output).latest_run)
    if latest is None or not isinstance(latest.get("run"), str):
        raise ConfigError(f"{output} holds no run of videolift: start one with snakemake --cores N, or name another folder")
    return read_run(Layout(output).run(latest["run"]))
