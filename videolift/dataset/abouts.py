"""What the index says of thousands of packaged files, held in memory as little more than the text it will become.

A mapping from a file's key to what `videolift.dataset.sidecar.describe_file` says of it. Backends, of which thousands of files name
the same few, are listed once; files refer to them by number. Knows neither files nor folders.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from videolift.store import sha256_of

Key = TypeVar("Key", bound=Hashable)
_UTF8 = "utf-8", "surrogatepass"
"""Names that are not UTF-8 get here, and out again."""


class Abouts(Mapping[Key, dict[str, Any]], Generic[Key]):
    """Facts by key, each a new dict on every look; in ``lineage``, ``backend`` is an index into `backends`."""

    def __init__(self) -> None:
        self.backends: list[Any] = []
        """Every backend that a lineage names, once."""
        self._texts: dict[Key, bytes] = {}
        self._numbers: dict[str, int] = {}

    def put(self, key: Key, about: Mapping[str, Any]) -> None:
        """Takes in what `describe_file` said, with whole backends in its lineage."""
        lineage = sorted(about.get("lineage", {}).items())
        self._keep(key, about, {stage: self._number(facts.get("backend", {})) for stage, facts in lineage})

    def texts(self) -> dict[Key, str]:
        """What `adopt` takes, together with `backends`."""
        return {key: text.decode(*_UTF8) for key, text in self._texts.items()}

    def adopt(self, texts: Mapping[Key, str], backends: list[Any]) -> None:
        """Takes in the `texts` of another, which numbers its ``backends`` in its own way."""
        numbers = [self._number(backend) for backend in backends]
        if numbers == list(range(len(numbers))):
            self._texts |= {key: text.encode(*_UTF8) for key, text in texts.items()}
            return
        for key, text in texts.items():
            about = json.loads(text)
            self._keep(key, about, {stage: numbers[facts["backend"]] for stage, facts in about["lineage"].items()})

    def _keep(self, key: Key, about: Mapping[str, Any], numbers: Mapping[str, int]) -> None:
        lineage = {stage: {**about["lineage"][stage], "backend": number} for stage, number in numbers.items()}
        text = json.dumps({**about, "lineage": lineage}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self._texts[key] = text.encode(*_UTF8)

    def _number(self, backend: Any) -> int:
        digest = sha256_of(backend)
        if digest not in self._numbers:
            self._numbers[digest] = len(self.backends)
            self.backends.append(backend)
        return self._numbers[digest]

    def __getitem__(self, key: Key) -> dict[str, Any]:
        about: dict[str, Any] = json.loads(self._texts[key].decode(*_UTF8))
        return about

    def __iter__(self) -> Iterator[Key]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)
