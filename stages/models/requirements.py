"""What an environment needs of the machine, and what this machine has: compared before anything is downloaded.

Turns `Environment` and `Machine` into sentences, each with what was found, what is needed and what to type. CUDA and torch are read
from the environment's own pins, so a changed pin changes the answer.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from stages.models.environments import Environment

DRIVER_FLOORS = {13: "580.65.06", 12: "525.60.13"}
"""Oldest driver (Linux) on which programs of a major version of CUDA run: 580 for 13.x and 525 for 12.x by NVIDIA's page on minor
version compatibility (docs.nvidia.com/deploy/cuda-compatibility), in the numbers of each one's first release."""
CAPABILITY_FLOORS = {"2.13": (7, 5), "2.8": (7, 0)}
"""Oldest compute capability for which the pinned torch has code, as ``torch._C._cuda_getArchFlags()`` of its wheel says."""
OLDER_DRIVER_PIN = "torch==2.8.0 with torchvision==0.23.0, which bring CUDA 12.8"
DISK_BYTES = {"mediapipe": 0.7e9, "vipe": 9e9}
_CUDA_DISK_BYTES = 7e9
"""Measured: 5.4 GB installed by torch 2.13 and its CUDA, and what uv unpacks meanwhile."""
_BUILD_MEMORY_BYTES = 8e9
"""nvcc takes some 2 GB per file, and as many run as there are cores; MAX_JOBS sets fewer."""
MAX_GCC = {"12.8": 14, "12.9": 14}
EIGEN_HOST = "gitlab.com"


@dataclass(frozen=True)
class Gpu:
    """A card: its name, compute capability and memory."""

    name: str
    capability: tuple[int, int]
    memory_bytes: int


@dataclass(frozen=True)
class Machine:
    """What a machine has.

    Attributes:
        driver: version of NVIDIA's driver; None where there is none, as on a cluster's head node.
        gpus: its cards.
        disk_bytes: free where environments are built.
        memory_bytes: of the host.
        nvcc: path and version (``12.8``) of the CUDA compiler; None without one.
        gcc: major version of the C++ compiler; None without one.
        python_headers: Python.h is there.
        system_eigen: Eigen is among the system's headers.
        reaches_eigen: the host that Eigen would be fetched from answers.
    """

    driver: str | None
    gpus: tuple[Gpu, ...]
    disk_bytes: int
    memory_bytes: int
    nvcc: tuple[str, str] | None
    gcc: int | None
    python_headers: bool
    system_eigen: bool
    reaches_eigen: bool


def card_problems(environment: Environment, machine: Machine) -> Iterator[str]:
    """Why the environment's torch would not run on this machine's cards; nothing for one without cards or without CUDA pins."""
    cuda, torch = _pin(environment, r"nvidia-cuda-runtime(-cu\d+)?"), _pin(environment, "torch")
    # Without a driver there is nothing to compare; that there is no card is said elsewhere.
    if cuda is None or torch is None or machine.driver is None:
        return
    floor = DRIVER_FLOORS[int(cuda.split(".")[0])]
    if _numbers(machine.driver) < _numbers(floor):
        # An older pin helps only a driver that is new enough for that one.
        fits_older = floor != DRIVER_FLOORS[12] and _numbers(machine.driver) >= _numbers(DRIVER_FLOORS[12])
        older = f", or pin {OLDER_DRIVER_PIN}, in envs/{environment.name}.yaml" if fits_older else ""
        yield (
            f"driver {machine.driver} is older than {floor}, which CUDA {cuda} of the environment {environment.name} needs: "
            f"update the driver{older}"
        )
    least = next((floor for version, floor in CAPABILITY_FLOORS.items() if torch.startswith(version + ".")), None)
    for gpu in machine.gpus:
        if least is not None and gpu.capability < least:
            fits_older_torch = any(gpu.capability >= floor for floor in CAPABILITY_FLOORS.values())
            advice = f"pin {OLDER_DRIVER_PIN}, which has" if fits_older_torch else "preset: cpu, which needs none"
            yield (
                f"{gpu.name} has compute capability {_dots(gpu.capability)}, torch {torch} of the environment {environment.name} "
                f"has code from {_dots(least)} on: take another card, or {advice}"
            )


def build_problems(environment: Environment, machine: Machine) -> Iterator[str]:
    """What building the environment lacks on this machine, cards aside."""
    cuda = _pin(environment, r"nvidia-cuda-runtime(-cu\d+)?")
    needed = DISK_BYTES.get(environment.name, _CUDA_DISK_BYTES if cuda else 1e9)
    if machine.disk_bytes < needed:
        yield (
            f"{machine.disk_bytes / 1e9:.1f} GB are free, the environment {environment.name} needs {needed / 1e9:.1f} GB: "
            "free some, or set envs_dir to another disk"
        )
    if not environment.from_source or cuda is None:
        return
    cuda, what = ".".join(cuda.split(".")[:2]), f"to compile {', '.join(environment.from_source)}"
    if machine.nvcc is None:
        yield f"no nvcc {what}: install CUDA's toolkit {cuda} (conda install cuda-nvcc={cuda}) and set CUDA_HOME to its folder"
    elif machine.nvcc[1].split(".")[0] != cuda.split(".")[0]:
        yield f"{machine.nvcc[0]} is nvcc {machine.nvcc[1]}, needed is {cuda} {what}: install it and set CUDA_HOME to its folder"
    # nvcc refuses newer compilers than it knows, after minutes of building.
    most = MAX_GCC.get(cuda)
    if machine.gcc is None:
        yield f"no C++ compiler {what}: install one (apt install g++)"
    elif most is not None and machine.gcc > most:
        yield f"g++ is {machine.gcc}, nvcc {cuda} takes {most} at most: install g++-{most}; set CC=gcc-{most} CXX=g++-{most}"
    if not machine.python_headers:
        yield f"no Python.h {what}: install it (apt install python{environment.python}-dev)"
    # The build of nvidia-vipe reads this variable; without it Eigen is fetched.
    system = environment.variables.get("USE_SYSTEM_EIGEN") == "1" or os.environ.get("USE_SYSTEM_EIGEN") == "1"
    if system and not machine.system_eigen:
        yield f"USE_SYSTEM_EIGEN=1 is set and there is no /usr/include/eigen3 {what}: install it (apt install libeigen3-dev)"
    elif not system and not machine.reaches_eigen:
        yield f"{EIGEN_HOST}, which has Eigen, does not answer {what}: apt install libeigen3-dev, and set USE_SYSTEM_EIGEN=1"
    if machine.memory_bytes < _BUILD_MEMORY_BYTES and "MAX_JOBS" not in os.environ:
        yield f"{machine.memory_bytes / 1e9:.0f} GB of memory are little {what} with all cores at once: set MAX_JOBS=1"


def this_machine(envs_dir: Path, *, compiles: bool = False) -> Machine:
    """What this machine has.

    Args:
        envs_dir: where environments are built; may be missing so far.
        compiles: also look for compilers and, for at most 5 s, whether Eigen's host answers.
    """
    import pynvml

    driver, gpus = None, list[Gpu]()
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            capability, memory = pynvml.nvmlDeviceGetCudaComputeCapability(handle), pynvml.nvmlDeviceGetMemoryInfo(handle)
            gpus.append(Gpu(str(pynvml.nvmlDeviceGetName(handle)), (capability[0], capability[1]), int(memory.total)))
        driver = str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        gpus = []  # no driver, or a card that does not say: `videolift doctor` names that by itself
    # The folder may not exist so far, and its disk is that of the nearest one that does.
    there = next(folder for folder in (envs_dir, *envs_dir.absolute().parents) if folder.exists())
    nvcc = gcc = None
    reaches_eigen = False
    if compiles:
        home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
        path = str(Path(home) / "bin" / "nvcc") if home else shutil.which("nvcc")
        release = re.search(r"release (\d+\.\d+)", _output([path, "--version"])) if path else None
        nvcc = (str(path), release[1]) if release else None
        major = _output([os.environ.get("CXX") or "g++", "-dumpversion"]).split(".")[0].strip()
        gcc = int(major) if major.isdigit() else None
        # Asked only by who compiles: it may take 5 s.
        with suppress(OSError):
            socket.create_connection((EIGEN_HOST, 443), timeout=5).close()
            reaches_eigen = True
    return Machine(
        driver=driver,
        gpus=tuple(gpus),
        disk_bytes=shutil.disk_usage(there).free,
        memory_bytes=psutil.virtual_memory().total,
        nvcc=nvcc,
        gcc=gcc,
        python_headers=(Path(sysconfig.get_paths()["include"]) / "Python.h").exists(),
        system_eigen=Path("/usr/include/eigen3").is_dir(),
        reaches_eigen=reaches_eigen,
    )


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _pin(environment: Environment, name: str) -> str | None:
    found = (re.fullmatch(name + r"==(?P<version>.+)", pin) for pin in environment.pins)
    return next((match["version"] for match in found if match), None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _dots(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
