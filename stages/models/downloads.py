"""Fetching: a weight or a repository from elsewhere to its place, whole or not at all. Runs where the user sits, never in a job.

Https alone; a broken download is resumed; the file appears under its name only when it is complete. What it should be is said by
`stages.models.weights`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from stages.models.weights import Checkout, Weight
from videolift.errors import BackendUnavailable, storage_errors_are_transient
from videolift.isolation import child_environment
from videolift.store import publish, read_json, sha256_file, write_json

SCHEMES = ("https",)
_CHUNK = 1 << 20
_TIMEOUT_S = 60.0

_HUGGINGFACE = (
    "import sys; from huggingface_hub import snapshot_download as get; get(sys.argv[1], allow_patterns=sys.argv[2:] or None)"
)
_GDRIVE = "import sys, gdown; sys.exit(0 if gdown.download(id=sys.argv[1], output=sys.argv[2], resume=True) else 1)"


def fetch_weight(weight: Weight, place: Path, python: Path, weights_dir: Path) -> None:
    """Fetches one weight unless it is there.

    Args:
        weight: of the manifest, not a manual one.
        place: where it goes.
        python: interpreter of the model's environment, whose own tools fetch gdrive and huggingface.
        weights_dir: below which the model's TORCH_HOME and HF_HOME lie.

    Raises:
        BackendUnavailable: not fetched; the text says why and that the same command resumes.
    """
    if weight.is_at(place):
        return
    print(f"{weight.name} -> {place}", flush=True)
    if weight.via == "https":
        download(weight.url, place, expected_bytes=weight.bytes, sha256=weight.sha256)
    elif weight.via == "huggingface":
        home = {"HF_HOME": str(weights_dir / weight.model / "huggingface")}
        _with_model_python(python, [_HUGGINGFACE, weight.url, *weight.patterns], home, weight.name)
        write_json(place / ".ok", {"repository": weight.url})
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(place.name + ".part")
        _with_model_python(python, [_GDRIVE, weight.url, str(partial)], {}, weight.name)
        publish(partial, place)


def download(url: str, final: Path, *, expected_bytes: int | None = None, sha256: str | None = None) -> None:
    """Downloads ``url`` to ``final`` by way of ``{final}.part``, which a later call continues.

    Raises:
        BackendUnavailable: no https, no answer, cut off, or not the size or hash expected.
        Transient: disk full.
    """
    partial = final.with_name(final.name + ".part")
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        with storage_errors_are_transient(f"downloading {final.name}"):
            total = _receive(url, partial)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise BackendUnavailable(f"{url}: {error}. The same command continues the download.") from error
    size = partial.stat().st_size
    wanted = expected_bytes if expected_bytes is not None else total
    if wanted is not None and size < wanted:
        raise BackendUnavailable(f"{url}: cut off after {size} of {wanted} bytes. The same command continues the download.")
    if (wanted is not None and size != wanted) or (sha256 is not None and sha256_file(partial) != sha256):
        partial.unlink()
        raise BackendUnavailable(
            f"{url}: not the expected {sha256 or f'{wanted} bytes'}; nothing was kept. Report it if it happens again."
        )
    publish(partial, final)


def _receive(url: str, partial: Path) -> int | None:
    """Appends what is missing to ``partial``; the whole file's size where the server tells it."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(
        _checked(url), headers={"User-Agent": "videolift"} | ({"Range": f"bytes={have}-"} if have else {})
    )
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing
            return None
        raise
    with response:
        _checked(response.geturl())
        continues = response.status == 206
        total = _total(response, have if continues else 0)
        with partial.open("ab" if continues else "wb") as file:
            shutil.copyfileobj(response, file, _CHUNK)
    return total


def _total(response: Any, have: int) -> int | None:
    length = response.headers.get("Content-Length")
    return have + int(length) if length is not None else None


def _checked(url: str) -> str:
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise BackendUnavailable(f"{url}: only {', '.join(SCHEMES)} addresses are fetched")
    return url


def fetch_checkout(checkout: Checkout, folder: Path) -> None:
    """Checks out one commit of a repository unless it is there; ``.ok`` last.

    Raises:
        BackendUnavailable: git failed; its own output was shown.
    """
    if read_json(folder / ".ok") is not None:
        return
    print(f"{checkout.repository} {checkout.commit[:12]} -> {folder}", flush=True)
    _checked(checkout.repository)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    allow = [option for scheme in SCHEMES for option in ("-c", f"protocol.{scheme}.allow=always")]
    _git(folder, ["init", "--quiet"])
    _git(folder, ["-c", "protocol.allow=never", *allow, "fetch", "--quiet", "--depth", "1", checkout.repository, checkout.commit])
    _git(folder, ["-c", "advice.detachedHead=false", "checkout", "--quiet", checkout.commit])
    write_json(folder / ".ok", {"repository": checkout.repository, "commit": checkout.commit})


def _git(folder: Path, arguments: list[str]) -> None:
    outside = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    try:
        status = subprocess.run(
            ["git", *arguments], cwd=folder, env={**outside, "GIT_TERMINAL_PROMPT": "0"}, check=False
        ).returncode
    except FileNotFoundError as error:
        raise BackendUnavailable("git is not installed; install it, then type the same command again") from error
    if status:
        raise BackendUnavailable(f"git {arguments[-1]} failed ({status}) in {folder}; see above, then type the same command again")


def _with_model_python(python: Path, code: list[str], env: dict[str, str], name: str) -> None:
    status = subprocess.run([python, "-I", "-c", *code], env=child_environment(env), stdout=sys.stderr, check=False).returncode
    if status:
        raise BackendUnavailable(f"{name} could not be fetched ({status}); see above, then type the same command again")
