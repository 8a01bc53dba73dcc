"""Packs the tree, upstream's checkouts without media, and a small set of packages for a machine that has torch and numpy alone."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.rows import ROOT

MAX_BYTES = 60 << 20
PACKAGES = (
    *("pyyaml", "pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection", "psutil", "nvidia-ml-py"),
    *("einops", "omegaconf", "hydra-core", "python-box", "yacs", "smplx", "timm", "huggingface-hub", "packaging", "tqdm", "rich"),
    *("pygments", "markdown-it-py", "mdurl", "antlr4-python3-runtime", "iopath", "portalocker", "safetensors", "jaxtyping"),
    *(
        "wadler-lindig",
        "httpx2",
        "httpcore2",
        "anyio",
        "h11",
        "idna",
        "truststore",
        "certifi",
        "click",
        "h5py",
        "hdf5plugin",
        "scipy",
    ),
)
"""In order of value; what does not fit is named and left out (OpenCV, PyAV and hdf5plugin alone are 139 MB)."""
_LEFT_OUT = "hdf5plugin/plugins/"
"""100 MB of compression filters: the pool imports the package, and only the row `line`, which lacks OpenCV too, compresses."""
_FROM_SOURCE = {"antlr4-python3-runtime", "iopath"}
"""Pure Python of which there are no wheels."""
CHECKOUTS = ("MoGe", "utils3d", "TAPIP3D", "WiLoR", "map-anything", "UniCeption", "dinov2", "sam2")
_KEPT = (".py", ".yaml", ".yml", ".json", ".npz", ".md", ".txt", ".toml", ".cfg")
_START = """#!/bin/sh
# Unpack, then: sh run.sh --minutes 9
cd "$(dirname "$0")" && export PYTHONPATH="$PWD/tree:$PWD/site"
exec "${PYTHON:-python3}" -m benchmarks.gpu --checkouts checkouts --site site "$@"
"""


def write_bundle(file: Path, checkouts: Path | None, python_version: str) -> str:
    """Writes ``file`` (tar.gz) of at most 60 MiB; what is in it and what is not, for people."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(file, "w:gz") as out:
        _add(out, "run.sh", _START.encode())
        for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
            if (ROOT / name).is_file() and not name.startswith("docs/"):
                out.add(ROOT / name, f"bundle/tree/{name}")
        for checkout in [checkouts / name for name in CHECKOUTS] if checkouts is not None else []:
            for path in _sources(checkout):
                out.add(path, f"bundle/checkouts/{checkout.name}/{path.relative_to(checkout)}")
        left_out = _add_packages(out, Path(folder), file, python_version)
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{file} has {size} bytes, at most {MAX_BYTES} are wanted")
    return f"{file}: {size / 2**20:.1f} MiB for Python {python_version}; left out: {', '.join(left_out) or 'nothing'}"


def _sources(folder: Path) -> Iterator[Path]:
    """Code, settings and licences of a checkout."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".git" not in path.parts and (path.suffix in _KEPT or "licen" in path.name.lower()):
            yield path


def _add_packages(out: tarfile.TarFile, folder: Path, file: Path, python_version: str) -> list[str]:
    left_out, versions = [], pinned_versions()
    for name in PACKAGES:
        options = ["--no-deps", "--only-binary", ":all:", "--python-version", python_version, "-d", str(folder)]
        how = ["wheel", "--no-deps", "-w", str(folder)] if name in _FROM_SOURCE else ["download", *options]
        fetched = subprocess.run([sys.executable, "-m", "pip", *how, "-q", versions[name]], capture_output=True, check=False)
        wheels = sorted(folder.glob("*.whl"))
        if fetched.returncode or not wheels:
            left_out.append(name)
            continue
        with zipfile.ZipFile(wheels[0]) as wheel:
            members = [one for one in wheel.infolist() if not one.is_dir() and not one.filename.startswith(_LEFT_OUT)]
            if file.stat().st_size + sum(one.compress_size for one in members) > MAX_BYTES - (1 << 20):
                left_out.append(name)
                members = []
            for member in members:
                _add(out, f"site/{member.filename}", wheel.read(member))
        for wheel_file in wheels:
            wheel_file.unlink()
    return left_out


def pinned_versions() -> dict[str, str]:
    """Package to ``package==version``, as the models' environments pin it, else as our lock does."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    for file in sorted((ROOT / "envs").glob("*.yaml")):
        # Not those of ViPE and MediaPipe: their pins are older, and their rows need nothing from a bundle.
        if file.stem not in ("vipe", "mediapipe"):
            lines += [line.strip().removeprefix("- ") for line in file.read_text(encoding="utf-8").splitlines()]
    return {line.partition("==")[0].lower(): line for line in lines if "==" in line}


def _add(out: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(f"bundle/{name}")
    entry.size, entry.mode = len(content), 0o644
    out.addfile(entry, io.BytesIO(content))
