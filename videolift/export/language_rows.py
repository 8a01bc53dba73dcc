"""Language over time within an episode, as LeRobot's columns ``language_persistent`` and ``language_events`` hold it.

Schema: huggingface/lerobot, src/lerobot/datasets/language.py at v0.6.1 (7e241bd630a3). Releases before 0.6 refuse these columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from videolift.reader.policies.episodes import Episode

if TYPE_CHECKING:
    import pyarrow

PERSISTENT, EVENTS = "language_persistent", "language_events"

LanguageRow = dict[str, Any]


def language_features() -> dict[str, dict[str, Any]]:
    """What ``info.json`` says of both columns."""
    return {name: {"dtype": "language", "shape": [1], "names": None} for name in (PERSISTENT, EVENTS)}


def subtask_rows(subtasks: Sequence[Episode], start: int, stop: int, fps: float) -> list[LanguageRow]:
    """Rows of an episode of the frames ``start`` to ``stop`` (exclusive), in the order of their times.

    A subtask holds from its timestamp, in seconds of the episode, until the next one: LeRobot knows no end.

    Args:
        subtasks: of the whole video, in its frames.
        start, stop: of the episode.
        fps: the clip's rate.
    """
    # One row per time, the one that began last: LeRobot refuses a moment with two.
    by_frame = {max(s.start, start): s.text for s in sorted(subtasks, key=lambda s: s.start) if s.start < stop and s.stop > start}
    row = {"role": "assistant", "style": "subtask", "camera": None, "tool_calls": None}
    return [row | {"content": text, "timestamp": (frame - start) / fps} for frame, text in by_frame.items()]


def language_arrays(persistent: Sequence[LanguageRow], frames: int) -> dict[str, pyarrow.Array]:
    """Both columns of ``frames`` rows: every frame holds all persistent rows of its episode, and none an event."""
    import pyarrow as pa

    texts = [pa.field(name, pa.string()) for name in ("role", "content", "style")]
    last = [pa.field("camera", pa.string()), pa.field("tool_calls", pa.list_(pa.string()))]
    row = pa.struct([*texts, pa.field("timestamp", pa.float32()), *last])
    return {
        PERSISTENT: pa.array([list(persistent)] * frames, pa.list_(row)),
        EVENTS: pa.array([[]] * frames, pa.list_(pa.struct([*texts, *last]))),
    }
