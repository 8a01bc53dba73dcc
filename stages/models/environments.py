"""The models' own Python environments: turns ``envs/NAME.yaml`` into ``{envs_dir}/NAME-{sha12 of the file}``.

Built by hand (``videolift models build NAME``) or by the workflow's local rule, never by a job. The files are valid
conda files with a complete pinned pip list; here uv installs that list as it stands, without resolving. ``.ok`` is written last,
so a folder without it is half-made and is built again. What an environment is for, and the checkouts beside it, are not known here.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uv
import yaml

from stages.registry import MODELS_ROOT, ROOT
from videolift.config import user_path
from videolift.errors import BackendUnavailable, ConfigError, VideoliftError
from videolift.records.leases import Lease
from videolift.store import read_json, write_json

ENVS = ROOT / "envs"
DEFAULT_ENVS_DIR = MODELS_ROOT / "thirdparty" / "envs"
FROM_SOURCE = "VIDEOLIFT_FROM_SOURCE"
"""Variable of an environment file: packages that compile against those installed before them, built last, without isolation."""
_PIN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!_-]+$")


@dataclass(frozen=True)
class Environment:
    """One environment file, checked.

    Attributes:
        name: of the file.
        python: version as ``3.11``.
        pins: ``package==version`` of every package.
        from_source: those of the pins that are built last against the others.
        variables: set while building.
        digest: SHA-256 of the file, hex.
    """

    name: str
    python: str
    pins: tuple[str, ...]
    from_source: tuple[str, ...]
    variables: dict[str, str]
    digest: str

    def folder(self, envs_dir: Path) -> Path:
        """Where it is built; another file, another folder."""
        return envs_dir / f"{self.name}-{self.digest[:12]}"


def read_environment(name: str, envs: Path = ENVS) -> Environment:
    """Reads ``envs/{name}.yaml``.

    Raises:
        ConfigError: no such file, or not a conda file with one python and a pip list of exact pins.
    """
    path = envs / f"{name}.yaml"
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.stem for p in envs.glob("*.yaml")))
        raise ConfigError(f"no environment {name!r}: there are {known}") from error
    tree = yaml.safe_load(text)
    dependencies = tree.get("dependencies", []) if isinstance(tree, dict) else []
    python = [d.removeprefix("python=") for d in dependencies if isinstance(d, str) and d.startswith("python=")]
    pins = [pin for d in dependencies if isinstance(d, dict) for pin in d.get("pip", [])]
    loose = [pin for pin in pins if not _PIN.match(pin)]
    if len(python) != 1 or not pins or loose:
        raise ConfigError(
            f"{path}: needs one python=X.Y and a pip list of package==version; wrong: {loose or python or 'no pip list'}"
        )
    variables = {str(k): str(v) for k, v in (tree.get("variables") or {}).items()}
    last = set(variables.pop(FROM_SOURCE, "").split())
    from_source = tuple(pin for pin in pins if pin.split("==")[0] in last)
    digest = hashlib.sha256(text).hexdigest()
    return Environment(name, python[0], tuple(pins), from_source=from_source, variables=variables, digest=digest)


def build_command(name: str, envs_dir: Path) -> str:
    """What a user types to build an environment."""
    where = "" if envs_dir.resolve() == DEFAULT_ENVS_DIR.resolve() else f" --config envs_dir={envs_dir}"
    return f"videolift models build {name}{where}"


def interpreter(name: str, *, envs_dir: Path, override: str | None = None) -> Path:
    """The Python that runs environment ``name``: ``override`` where the user has one, else the built one.

    Raises:
        BackendUnavailable: not built, or the override does not run; the text ends with the command to type.
    """
    if override is not None:
        path = user_path(override)
        if not os.access(path, os.X_OK) or path.is_dir():
            raise BackendUnavailable(f"{override} is not an interpreter: correct the setting `python:` of {name}")
        return path
    folder = read_environment(name).folder(envs_dir)
    if not is_built(folder):
        raise BackendUnavailable(f"the environment of {name} is not built. Type: {build_command(name, envs_dir)}")
    return folder / "bin" / "python"


def is_built(folder: Path) -> bool:
    """True if a build of this folder ran to its end."""
    return read_json(folder / ".ok") is not None and (folder / "bin" / "python").exists()


def build(name: str, *, envs_dir: Path, envs: Path = ENVS) -> Path:
    """Builds environment ``name`` unless it is there; its interpreter. A second builder waits for the first.

    Raises:
        BackendUnavailable: the machine lacks something, all of which is named; or uv failed, and its own output was shown.
    """
    from stages.models.requirements import build_problems, card_problems, this_machine

    environment = read_environment(name, envs)
    folder = environment.folder(envs_dir)
    envs_dir.mkdir(parents=True, exist_ok=True)
    # Two runs that start together would build into one folder.
    with Lease.acquire(folder.with_name(folder.name + ".lock"), wait_s=math.inf, what=f"the environment {name}") as lease:
        if not is_built(folder):
            machine = this_machine(envs_dir, compiles=bool(environment.from_source))
            problems = [*build_problems(environment, machine), *card_problems(environment, machine)]
            if problems:
                lacking = "\n- ".join(problems)
                raise BackendUnavailable(f"nothing was downloaded:\n- {lacking}\nThen type the same command again")
            python, wheels = folder / "bin" / "python", folder / ".wheels"
            # Our own interpreter where the version is the same: nothing is downloaded for it.
            wanted = environment.python
            ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
            install = ["pip", "install", "--python", str(python), "--no-deps"]
            if not wheels.exists():  # else only what is compiled is missing: gigabytes are kept
                shutil.rmtree(folder, ignore_errors=True)
                _uv(["venv", "--python", sys.executable if wanted == ours else wanted, str(folder)], environment)
                # Without resolving: the list is complete, and a resolver would take whatever is newest.
                _uv([*install, *(pin for pin in environment.pins if pin not in environment.from_source)], environment)
                wheels.touch()
            if environment.from_source:
                _uv([*install, "--no-build-isolation", *environment.from_source], environment)
            # The cheapest package that every worker needs; a wheel for another processor fails here, not in a job.
            probe = subprocess.run([python, "-I", "-c", "import numpy"], check=False)
            if probe.returncode:
                raise BackendUnavailable(f"{name}: numpy does not import in {folder}; see above, then type the same command again")
            # A laptop that slept through its lease: somebody else may be building by now.
            if not lease.still_ours():
                raise BackendUnavailable(f"{name}: this build was stopped for so long that another has begun; let that one finish")
            write_json(folder / ".ok", {"environment": name, "sha256": environment.digest})
    return folder / "bin" / "python"


def _uv(arguments: Sequence[str], environment: Environment) -> None:
    outside = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    command = [uv.find_uv_bin(), *arguments]
    status = subprocess.run(command, env={**outside, **environment.variables}, check=False).returncode
    if status:
        shown = " ".join(arguments[:3])
        network = "It needs a network that reaches a package index; a folder built elsewhere may be shared by envs_dir"
        again = "what was downloaded is kept; type the same command again"
        raise BackendUnavailable(f"{environment.name}: uv {shown} failed ({status}); see above. {network}; {again}")


def environments_command(arguments: Sequence[str] | None = None) -> int:
    """``videolift models build NAME...``; the exit code of the first that failed."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.models.environments", description="Builds the models' own environments."
    )
    parser.add_argument("names", nargs="+", choices=sorted(p.stem for p in ENVS.glob("*.yaml")), metavar="NAME")
    parser.add_argument("--envs-dir", type=Path, default=DEFAULT_ENVS_DIR)
    options = parser.parse_args(arguments)
    for name in options.names:
        try:
            print(build(name, envs_dir=options.envs_dir.resolve()))
        except VideoliftError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(environments_command())
