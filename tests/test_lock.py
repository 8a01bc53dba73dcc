"""requirements.lock: one version of everything, for `pip install -c requirements.lock -e .`."""

import re
import tomllib
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "requirements.lock").read_text().splitlines()
PINNED = [Requirement(line) for line in LINES if line and not line.startswith("#")]


def listed(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = project["dependencies"] + [text for extra in extras for text in project["optional-dependencies"][extra]]
    return [wanted for text in texts if (wanted := Requirement(text)).name != project["name"]]


def test_every_dependency_is_pinned_within_its_range():
    pins = {canonicalize_name(pin.name): pin for pin in PINNED if pin.marker is None or pin.marker.evaluate()}
    for wanted in listed("run", "test", "slurm", "view"):
        pin = pins.get(canonicalize_name(wanted.name))
        assert pin is not None, f"{wanted.name} is not in requirements.lock"
        (version,) = (part.version for part in pin.specifier)
        assert wanted.specifier.contains(version), f"requirements.lock has {pin}, pyproject wants {wanted}"


def test_every_line_pins_one_version_and_names_no_host():
    for pin in PINNED:
        assert re.fullmatch(r"==[\w.+]+", str(pin.specifier)), pin
        assert pin.url is None, pin
    assert not [line for line in LINES[1:] if "://" in line or "--" in line]


def test_a_package_is_pinned_once_per_environment():
    here = default_environment() | {"extra": ""}
    names = [canonicalize_name(pin.name) for pin in PINNED if pin.marker is None or pin.marker.evaluate(here)]
    assert sorted(names) == sorted(set(names))


def test_torch_is_left_to_who_trains():
    assert not [pin for pin in PINNED if pin.name in ("torch", "torchvision", "jax", "triton") or pin.name.startswith("nvidia-c")]
