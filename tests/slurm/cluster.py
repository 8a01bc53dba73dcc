"""A SLURM for tests, on this machine, in a folder of its own, gone afterwards: two pretend nodes of 8 cores, 256 GB and two cards.

Takes root and Debian's packages. Daemons, keys, sockets and ports are private; for its time, /etc/slurm/slurm.conf points to it,
since Snakemake takes SLURM_CONF from the commands inside a job. The cards are null devices: jobs get CUDA_VISIBLE_DEVICES as on a
real node.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
NODES = ("n1", "n2")
CARDS_PER_NODE = 2
_NULL = os.makedev(1, 3)
_ETC = Path("/etc/slurm/slurm.conf")
_PREFIX = "videolift-slurm-"


def why_not() -> str | None:
    """Why no cluster can be brought up here, None where one can."""
    if os.geteuid() != 0:
        return "bringing up a SLURM takes root"
    if _ETC.exists() and _PREFIX not in str(_ETC.resolve()):
        return f"{_ETC} is there: this machine belongs to a cluster"
    if _ETC.exists() and " is UP" in subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=60).stdout:
        return "another SLURM of these tests is up"
    if all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "munged")):
        return None
    return None if shutil.which("apt-get") else "no SLURM is installed, and there is no apt-get to install one"


def install() -> None:
    """Debian's packages, where they are missing."""
    if not all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "munged")):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], check=True, env=quiet)


class Cluster:
    """A running SLURM; a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/var/tmp"))
        self.folder.chmod(0o711)  # munge wants its socket within everybody's reach, as pytest's folders are not
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        with ExitStack() as undo:
            undo.push(self.__exit__)
            self._write_configuration()
            self._start("munged", "--foreground", *self._munge_options())
            self._wait("munge", lambda: (self.folder / "munge.socket").exists())
            self._start("slurmctld", "-D", "-i")
            self._wait("slurmctld", lambda: " is UP" in self.command("scontrol", "ping", check=False))
            for node in NODES:
                self._start("slurmd", "-D", "-N", node)
            self._wait(
                "slurmd",
                lambda: self.command("sinfo", "-h", "-N", "-p", "lab", "-o", "%t", check=False).split() == ["idle"] * len(NODES),
            )
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if len(self._daemons) > 1:
            self.command("scancel", "--user", "root", check=False)
            self.wait_for_empty_queue()
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        self._daemons.clear()
        if _ETC.is_symlink() and _ETC.readlink().parent == self.folder:
            _ETC.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def failing_prolog(self) -> Iterator[None]:
        """Jobs that start meanwhile fail in their prolog, which takes their node out of service; afterwards nodes are back."""
        flag = self.folder / "prolog-fails"
        flag.touch()
        try:
            yield
        finally:
            flag.unlink()
            self.command("scontrol", "update", f"NodeName={','.join(NODES)}", "State=RESUME", check=False)

    def command(self, *arguments: str, check: bool = True) -> str:
        """What a SLURM command prints."""
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 or not check, f"{arguments}: {done.stderr}"
        return done.stdout

    def jobs(self, states: str = "PENDING,RUNNING,COMPLETING") -> dict[str, str]:
        """Rule name by SLURM job id, of the jobs in these states."""
        rows = self.command("squeue", "-h", "-t", states, "-o", "%i %k").splitlines()
        return {number: comment for number, _, comment in (row.partition(" ") for row in rows)}

    def shown(self) -> list[str]:
        """All that SLURM knows of each job it remembers, a line each."""
        return self.command("scontrol", "-o", "show", "job").splitlines()

    def wait_for_empty_queue(self, timeout: float = 60) -> None:
        """Until no job is pending or running."""
        until = time.monotonic() + timeout
        while self.jobs() and time.monotonic() < until:
            time.sleep(0.2)

    def wait_for_job(self, rule: str, timeout: float = 120) -> str:
        """The id of the first running job of a rule."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            for number, comment in self.jobs("RUNNING").items():
                if rule in comment:
                    return number
            time.sleep(0.1)
        raise AssertionError(f"no job of {rule} runs; the queue holds {self.jobs()}")

    def _start(self, *command: str) -> None:
        log = (self.folder / f"{len(self._daemons)}-{command[0]}.log").open("wb")
        program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin") or command[0]
        environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons.append(
            subprocess.Popen([program, *command[1:]], env=environment, stdout=log, stderr=log, start_new_session=True)
        )

    def _wait(self, what: str, ready: Callable[[], bool], timeout: float = 60) -> None:
        until = time.monotonic() + timeout
        while not ready():
            if time.monotonic() > until or self._daemons[-1].poll() is not None:
                logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
                raise AssertionError(f"{what} does not come up:\n{logs}")
            time.sleep(0.1)

    def _munge_options(self) -> list[str]:
        named = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log"}
        return [f"--{name}={self.folder / file}" for name, file in (named | {"seed-file": "munge.seed"}).items()]

    def _write_configuration(self) -> None:
        folder, host = self.folder, socket.gethostname().split(".")[0]
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o400)
        ports = _free_ports(1 + len(NODES))
        text = _CONFIGURATION.format(folder=folder, host=host, port=ports[0], cards=CARDS_PER_NODE)
        cards = []
        for node, port in zip(NODES, ports[1:], strict=True):
            text += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}\n"
            for card in range(CARDS_PER_NODE):
                os.mknod(folder / f"{node}-gpu{card}", 0o666 | stat.S_IFCHR, _NULL)
            cards.append(f"NodeName={node} Name=gpu File={folder}/{node}-gpu[0-{CARDS_PER_NODE - 1}]\n")
        text += f"PartitionName=lab Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=500\n"
        text += f"PartitionName=short Nodes={','.join(NODES)} MaxTime=60 State=UP DefMemPerCPU=500\n"
        (folder / "slurm.conf").write_text(text)
        (folder / "prolog").write_text(f"#!/bin/sh\n[ ! -e {folder}/prolog-fails ]\n")
        (folder / "prolog").chmod(0o755)
        (folder / "gres.conf").write_text("".join(cards))
        _ETC.parent.mkdir(exist_ok=True)
        _ETC.unlink(missing_ok=True)
        _ETC.symlink_to(folder / "slurm.conf")


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.socket() for _ in range(count)]
    for one in with_ports:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in with_ports]
    for one in with_ports:
        one.close()
    return ports


_CONFIGURATION = """\
ClusterName=videolift
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/spool-%n
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
Prolog={folder}/prolog
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0
ReturnToService=2
MinJobAge=300
KillWait=30
InactiveLimit=0
GresTypes=gpu
NodeName=DEFAULT CPUs=8 RealMemory=256000 Gres=gpu:{cards} State=UNKNOWN
"""
