"""Where weights and checkouts are stored, and whether their hashes still match: `thirdparty/models.yaml` and `models.lock`.

`WeightStore` turns a name of the manifest, or a path of the user's, into a file and its SHA-256; hashing is remembered by size and
time, so asking is cheap. The first download's hash goes into ``models.lock`` and holds from then on. Fetches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stages.registry import ROOT
from videolift.config import user_path
from videolift.errors import BackendUnavailable, ConfigError, Transient
from videolift.plain_yaml import read_yaml
from videolift.store import read_json, sha256_file, sha256_of, write_json, write_text

_CACHE = ".hashes.json"


@dataclass(frozen=True)
class Checkout:
    """A repository at one commit."""

    name: str
    repository: str
    commit: str


@dataclass(frozen=True)
class Weight:
    """A file, or a folder of the Hugging Face cache, that a model reads.

    Attributes:
        name: what settings call it.
        model: whose it is.
        file: its place below ``models_dir``.
        url: https address, or the id that ``via`` understands.
        via: https, gdrive, huggingface or manual.
        default: installed unless told otherwise.
        steps: what a person has to do for a manual one; ``{path}`` stands for its place.
        bytes, sha256: as upstream states them, None where it does not.
        patterns: of a huggingface repository, only files that match one of these; empty takes all.
    """

    name: str
    model: str
    file: str
    url: str
    via: str = "https"
    default: bool = False
    steps: str = ""
    bytes: int | None = None
    sha256: str | None = None
    patterns: tuple[str, ...] = ()

    def is_at(self, place: Path) -> bool:
        """True if it was fetched to its end; a huggingface folder exists long before."""
        return (place / ".ok").exists() if self.via == "huggingface" else place.exists()


@dataclass(frozen=True)
class ModelEntry:
    """One entry of the manifest."""

    name: str
    stage: str
    env: str
    licence_code: str
    licence_weights: str
    terms: str
    checkouts: dict[str, Checkout]
    weights: dict[str, Weight]


MANIFEST = ROOT / "thirdparty" / "models.yaml"


@cache
def read_models(path: Path = MANIFEST) -> dict[str, ModelEntry]:
    """The models by name."""
    models = {}
    for name, entry in yaml.safe_load(path.read_text(encoding="utf-8"))["models"].items():
        weights = {
            key: Weight(key, name, **{**value, "patterns": tuple(value.get("patterns", ()))})
            for key, value in entry["weights"].items()
        }
        models[name] = ModelEntry(
            name,
            entry["stage"],
            entry["env"],
            licence_code=entry["licence"]["code"],
            licence_weights=entry["licence"]["weights"],
            terms=entry["terms"],
            checkouts={key: Checkout(key, **value) for key, value in entry["checkouts"].items()},
            weights=weights,
        )
    return models


@dataclass(frozen=True)
class WeightStore:
    """Where weights and checkouts of models lie.

    Attributes:
        root: the checkout of videolift, or the cache of an installed one (`stages.registry.MODELS_ROOT`).
        models_dir: weights, as the configuration says: absolute, or relative to ``root``.
    """

    root: Path
    models_dir: str

    @property
    def weights_dir(self) -> Path:
        """``models_dir``, absolute."""
        return self.root / user_path(self.models_dir)

    @property
    def lock_file(self) -> Path:
        """Hashes of downloads."""
        return self.root / "thirdparty" / "models.lock"

    def weight(self, name: str) -> Weight | None:
        """The manifest's entry of that name; None for a path of the user's."""
        return next((model.weights[name] for model in self.models().values() if name in model.weights), None)

    def models(self) -> dict[str, ModelEntry]:
        """The models by name."""
        own = self.root / "thirdparty" / "models.yaml"
        return read_models(own if own.is_file() else MANIFEST)  # a wheel keeps what it downloads elsewhere than its manifest

    def path(self, name: str) -> Path:
        """Where a weight lies: by the manifest, or the user's own file or folder (relative ones from ``root``)."""
        weight = self.weight(name)
        return self.root / user_path(name) if weight is None else self.weights_dir / weight.file

    def sha256(self, name: str) -> str | None:
        """Of the weight's bytes wherever they lie, hex; None where there is no file. Hashed anew only when size or time changed."""
        path = self.path(name)
        if not path.exists():
            return None
        seen = sha256_of([(name, file.stat().st_size, file.stat().st_mtime_ns) for name, file in _files(path)])
        cache = read_json(self.root / "thirdparty" / _CACHE) or {}
        # Gigabytes are hashed once: a plan asks for every weight, and may be made many times a day.
        match cache.get(str(path)):
            case {"seen": known, "sha256": str(sha256)} if known == seen:
                return sha256
        digest = sha256_file(path) if path.is_file() else sha256_of({name: sha256_file(file) for name, file in _files(path)})
        # Entries of deleted files go, else the file would grow with every place that ever held a weight.
        alive = {place: entry for place, entry in cache.items() if Path(place).exists()}
        with suppress(PermissionError, Transient):  # a checkout shared read-only: hash again next time
            write_json(self.root / "thirdparty" / _CACHE, {**alive, str(path): {"seen": seen, "sha256": digest}})
        return digest

    def expected(self, weight: Weight) -> str | None:
        """The hash that a weight must have: the manifest's, else that of the first download; None before that."""
        # The manifest comes first: it was reviewed, while the lock is written by the first installation.
        return weight.sha256 or self.lock()["weights"].get(weight.name, {}).get("sha256")

    def lock(self) -> dict[str, Any]:
        """Contents of ``models.lock``: ``weights`` {name: {sha256, bytes, url, stated_by}}.

        Raises:
            ConfigError: it is damaged. What was trusted before is not known then, so nothing is downloaded over it.
        """
        try:
            lock = (read_yaml(self.lock_file.read_text(encoding="utf-8")) if self.lock_file.exists() else None) or {}
            weights = lock.get("weights") or {}
            if all(isinstance(entry["sha256"], str) for entry in weights.values()):
                return {"weights": dict(weights)}
            why = "a weight has no sha256"
        except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
            why = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{self.lock_file} is damaged ({why}): restore it, or delete it to trust new downloads")

    def record(self, weight: Weight, hub: str | None = None) -> None:
        """Enforces or, the first time, records the hash of a weight that is there.

        Args:
            hub: who states that hash; None where nobody does and the first download is trusted.

        Raises:
            BackendUnavailable: it is another file than the one recorded.
        """
        digest, expected = self.sha256(weight.name), self.expected(weight)
        if expected is not None and digest != expected:
            raise BackendUnavailable(self._changed(weight, digest, expected))
        weights = self.lock()["weights"]
        # Who vouched at the first download still does when the same file is recorded again.
        before = weights.get(weight.name, {})
        stated_by = hub or before.get("stated_by") or ("models.yaml" if weight.sha256 else "nobody: the first download is trusted")
        size = sum(file.stat().st_size for _, file in _files(self.path(weight.name)))
        entry = {"sha256": digest, "bytes": size, "url": weight.url, "stated_by": stated_by}
        # Not written where nothing changed, so that a shared checkout may be read-only.
        if before != entry:
            lock = yaml.safe_dump({"weights": weights | {weight.name: entry}}, sort_keys=True)
            write_text(self.lock_file, "# Hashes of downloads, enforced from then on, and who states them.\n" + lock)

    def problem(self, name: str) -> str | None:
        """What is wrong with a weight, ending with the command to type; None if it is there and as recorded."""
        weight, path = self.weight(name), self.path(name)
        if weight is None:
            return None if path.exists() else f"no file {path}: correct the setting, or name a weight of thirdparty/models.yaml"
        # A folder of the hub exists from the first byte on; only `.ok` says that it is whole.
        if not weight.is_at(path):
            steps = f" {weight.steps.format(path=path)} Then type" if weight.via == "manual" else " Type"
            return f"{name} is not installed.{steps}: videolift models install {weight.model}"
        digest, expected = self.sha256(name), self.expected(weight)
        return self._changed(weight, digest, expected) if expected is not None and digest != expected else None

    def checkout(self, model: str, name: str, override: str | None = None) -> Path:
        """The folder of a model's repository: the user's, else the installed one.

        Raises:
            BackendUnavailable: it is not there; ends with the command to type.
        """
        if override is not None:
            path = self.root / user_path(override)
            if not path.is_dir():
                raise BackendUnavailable(f"{override} is not a folder: correct the setting `checkout` of {model}")
            return path
        folder = self.checkout_folder(self.models()[model].checkouts[name])
        if read_json(folder / ".ok") is None:
            raise BackendUnavailable(f"{name} is not checked out. Type: videolift models install {model}")
        return folder

    def checkout_folder(self, checkout: Checkout) -> Path:
        """Where a repository is checked out; another commit, another folder."""
        return self.root / "thirdparty" / "checkouts" / f"{checkout.name}-{checkout.commit[:12]}"

    def _changed(self, weight: Weight, digest: str | None, expected: str) -> str:
        return (
            f"{self.path(weight.name)} has sha256 {digest}, expected {expected}: not the file first downloaded. "
            f"Delete it (or, to trust it, its entry in {self.lock_file}), then type: videolift models install {weight.model}"
        )


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of the files that count; of a Hugging Face cache folder its snapshot, without the revision's name."""
    if path.is_file():
        yield "", path
        return
    # The revision's name is the hub's, not the content's: two machines with the same files must agree.
    bases = sorted((path / "snapshots").iterdir()) if (path / "snapshots").is_dir() else [path]
    for base in bases:
        for file in sorted(base.rglob("*")):
            if file.is_file():
                yield str(file.relative_to(base)), file
