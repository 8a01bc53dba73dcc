"""Videos that a person took out by decision, with reasons.

Nothing else says so, so a file that cannot be read is never taken for "none": it is kept, and the run stops.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from videolift.errors import ConfigError
from videolift.paths import Layout
from videolift.records.runs import latest_run
from videolift.store import write_json

_EXCLUSIONS = TypeAdapter(dict[str, str])


def read_exclusions(layout: Layout) -> dict[str, str]:
    """Reasons by video; the last run's plan remembers whether there were any.

    Raises:
        ConfigError: the file is damaged, or gone although the last run left videos out; the text says how to repair it.
    """
    path = layout.excluded
    try:
        return _EXCLUSIONS.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        before: list[str] = []
        with suppress(ConfigError):  # no run before this one, or none that can be read
            before = sorted(latest_run(layout.output).plan.get("excluded") or {})
        # If a damaged file counted as "none", every excluded video would come back.
        if before:
            raise ConfigError(
                f"{path} is gone, and the last run left out {', '.join(before)}: put it back, "
                "or write {} into it if no video is to be excluded."
            ) from None
        return {}
    except (OSError, ValidationError) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ConfigError(
            f'{path} cannot be read ({fault}). It lists the videos that you took out, as {{"video": "reason", ...}}, '
            "and nothing else does: repair it, or put a backup in its place. If no video is to be excluded, write {} into it."
        ) from error


def refuse_unknown(path: Path, reasons: Mapping[str, str], known: Collection[str]) -> None:
    """Only what a run has listed can be taken out, so another name is damage, and the video that was meant would come back.

    Raises:
        ConfigError: a name that is not ``known``.
    """
    # All of them at once: a file whose names were all changed is mended in one go.
    if unknown := sorted(set(reasons) - set(known)):
        raise ConfigError(f"{path} leaves out {', '.join(unknown)}, which no run has listed: correct the name, or delete that line")


def write_exclusions(path: Path, reasons: Mapping[str, str]) -> None:
    """Publishes the file; see `videolift.store.write_json` for errors."""
    write_json(path, dict(reasons))
