"""Fetching: a weight or a repository from elsewhere to its place, whole or not at all. Runs where the user sits, never in a job.

One file is `stages.models.transfer`; repositories and whole folders of a hub are fetched by git and by the hub's own client. What a
weight should be is said by `stages.models.weights`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from stages.models import transfer
from stages.models.weights import Checkout, Weight
from videolift.errors import BackendUnavailable
from videolift.isolation import child_environment
from videolift.isolation.checkpoints import UnsafeCheckpoint, check_weights
from videolift.store import publish, read_json, sha256_file, write_json

_HUGGINGFACE = (
    "import sys; from huggingface_hub import snapshot_download as get; get(sys.argv[1], allow_patterns=sys.argv[2:] or None)"
)
_GDRIVE = "import sys, gdown; sys.exit(0 if gdown.download(id=sys.argv[1], output=sys.argv[2], resume=True) else 1)"


def fetch_weight(weight: Weight, place: Path, python: Path, weights_dir: Path) -> str | None:
    """Fetches one weight unless it is there.

    Args:
        weight: of the manifest, not a manual one.
        place: where it goes.
        python: interpreter of the model's environment, whose own tools fetch gdrive and huggingface.
        weights_dir: below which the model's TORCH_HOME and HF_HOME lie.

    Returns:
        Who vouches for its bytes, as a host; None where nobody does, or where it was there before.

    Raises:
        BackendUnavailable: not fetched, or not what it should be; the text says why and that the same command resumes.
    """
    # What is there is judged by its hash, later and every time; fetching it again would hide a change.
    if weight.is_at(place):
        return None
    print(f"{weight.name} -> {place}", flush=True)
    hub = None
    if weight.via == "https":
        stated = transfer.download(weight.url, place, expected_bytes=weight.bytes, sha256=weight.sha256)
        hub = None if stated is None else weight.url.split("/")[2]
    elif weight.via == "huggingface":
        home = {"HF_HOME": str(weights_dir / weight.model / "huggingface")}
        _with_model_python(python, [_HUGGINGFACE, weight.url, *weight.patterns], home, weight.name)
        # Before `.ok`: a folder that has it is never looked at again.
        check_hub_folder(place)
        write_json(place / ".ok", {"repository": weight.url})
        hub = "huggingface.co"
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        # gdown resumes by itself; under the final name half a file would pass for whole.
        partial = place.with_name(place.name + ".part")
        _with_model_python(python, [_GDRIVE, weight.url, str(partial)], {}, weight.name)
        publish(partial, place)
    try:
        check_weights(str(place))
    except UnsafeCheckpoint as error:
        aside = place.with_name(place.name + ".refused")
        # Kept for whoever wants to know what it was; under its own name it would be loaded.
        place.rename(aside)
        raise BackendUnavailable(f"{error}. It was kept as {aside.name}") from error
    return hub


def check_hub_folder(place: Path) -> None:
    """Compares every file of a Hugging Face cache folder with its name there, which is the hash that the hub states.

    Raises:
        BackendUnavailable: one is not what the hub states; it was deleted, and the same command fetches it again.
    """
    for blob in sorted((place / "blobs").glob("*")):
        if re.fullmatch("[0-9a-f]{64}", blob.name):
            found = sha256_file(blob)
        elif re.fullmatch("[0-9a-f]{40}", blob.name):  # small files bear git's hash
            content = blob.read_bytes()
            found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        else:
            continue
        if found != blob.name:
            blob.unlink()
            raise BackendUnavailable(f"{blob}: not the bytes that the hub states; deleted. Type the same command again")


def fetch_checkout(checkout: Checkout, folder: Path) -> None:
    """Checks out one commit of a repository unless it is there; ``.ok`` last.

    Raises:
        BackendUnavailable: git failed; its own output was shown.
    """
    if read_json(folder / ".ok") is not None:
        return
    print(f"{checkout.repository} {checkout.commit[:12]} -> {folder}", flush=True)
    transfer.require_secure(checkout.repository)
    # A checkout that was cut off: git would go on with whatever state it left.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Submodules and redirects may name any protocol; only those that we fetch are let through.
    allow = [option for scheme in transfer.SCHEMES for option in ("-c", f"protocol.{scheme}.allow=always")]
    _git(folder, ["init", "--quiet"])
    _git(folder, ["-c", "protocol.allow=never", *allow, "fetch", "--quiet", "--depth", "1", checkout.repository, checkout.commit])
    _git(folder, ["-c", "advice.detachedHead=false", "checkout", "--quiet", checkout.commit])
    write_json(folder / ".ok", {"repository": checkout.repository, "commit": checkout.commit})


def _git(folder: Path, arguments: list[str]) -> None:
    # Set by a hook or an editor, they would make git write into another repository.
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
