"""Work that does what it is told, for the pool's tests: results as files, faults on demand, memory of made-up cards as files.

Runs in worker processes, so it is a module of its own that imports little.
"""

import ctypes
import errno
import json
import os
import pickle
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from videolift.errors import BackendUnavailable, BadInput, Crash, Transient

GIB = 2**30


class OutOfMemoryError(RuntimeError):
    """Named and raised as torch does."""


class OddError(Exception):
    """Cannot be rebuilt from its arguments, and its text raises."""

    def __init__(self, first, second):
        super().__init__(first)
        self.handle = threading.Lock()

    def __str__(self):
        raise ValueError("no text")


class Told:
    """A worker that follows ``load`` on loading, and each item's payload on that item.

    A step is a list [verb, ...]; ``{"steps": [[...], ...]}`` gives one step per attempt, the last one is repeated. Verbs are the
    methods named ``do_*``. After the step the item's result is written, unless the step says otherwise.
    """

    def __init__(self, folder, load=(), shrinks=(1.0, 0.5, 0.25), load_steps=()):
        self.folder, self.load_steps, self.shrinks = Path(folder), load_steps or (load,), shrinks
        self.items = 0

    def load(self, device):
        self.device = device
        step = self.load_steps[min(self._count(f"load-{device.id}"), len(self.load_steps) - 1)]
        self._follow(step)

    def process(self, item, *, shrink, progress):
        self.item, self.shrink, self.progress = item, shrink, progress
        steps = (item.payload or {}).get("steps") or [[]]
        attempt = self._count(f"try-{item.key}")
        value = self._follow(steps[min(attempt, len(steps) - 1)])
        self.items += 1
        if value is None:
            self.write_result()
            return item.key
        return value

    def close(self):
        pass

    def _follow(self, step):
        return getattr(self, f"do_{step[0]}")(*step[1:]) if step else None

    def _count(self, name):
        """How often this has been asked for by that name before, whatever processes have died since."""
        path = self.folder / "counts" / name.replace("/", "_")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return len(path.read_text().splitlines()) - 1

    def write_result(self):
        final = self.folder / "out" / f"{self.item.key}.txt"
        final.parent.mkdir(exist_ok=True)
        temporary = final.with_name(f".{final.name}.{os.getpid()}")
        temporary.write_text(f"{self.item.key} at {self.shrink}\n")
        os.replace(temporary, final)

    # Ends

    def do_kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def do_result_then_kill(self):
        self.write_result()
        os.kill(os.getpid(), signal.SIGKILL)

    def do_partial_then_kill(self):
        folder = self.folder / "out"
        folder.mkdir(exist_ok=True)
        from videolift.store import atomic_file

        with atomic_file(folder / f"{self.item.key}.txt") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    def do_segfault(self):
        ctypes.string_at(0)

    def do_exit(self, code=0):
        os._exit(code)

    def do_abort_loudly(self, mebibytes):
        os.write(1, b"said before the end\n")
        for _ in range(mebibytes):
            os.write(2, b"x" * (1 << 20))
        os.write(2, b"\nlast words\n")
        os.abort()

    # Raises

    def do_raise(self, kind, *arguments):
        kinds = {
            "ValueError": ValueError,
            "Crash": Crash,
            "SystemExit": SystemExit,
            "KeyboardInterrupt": KeyboardInterrupt,
            "MemoryError": MemoryError,
            "BadInput": BadInput,
            "Transient": Transient,
            "BackendUnavailable": BackendUnavailable,
            "RuntimeError": RuntimeError,
            "OddError": OddError,
        }
        raise kinds[kind](*arguments)

    def do_raise_on(self, device, kind, *arguments):
        if self.device.id == device:
            self.do_raise(kind, *arguments)

    def do_lose_card(self, device, text):
        if self.device.id == device:
            self.do_say("lost")
            raise RuntimeError(text)
        self.do_wait_for("lost")

    def do_full_disk(self):
        with open("/dev/full", "w") as file:
            file.write("x" * 10_000)

    def do_fail_to_write(self):
        raise OSError(errno.EIO, "Input/output error")

    # What code that does not know of us may do to its process

    def do_fork(self, copy_seconds=0.0, own_seconds=0.0):
        """The copy comes back from `process` as well, with a result of its own, sooner or later than the worker."""
        if os.fork() == 0:
            time.sleep(copy_seconds)
            return "of the fork"
        time.sleep(own_seconds)
        return None

    def do_answer_for(self, key, seconds=0.0):
        """Says by itself that an item is done: one that was, or one of somebody else's."""
        from videolift.pool.workers.messages import ItemDone, encode

        frame = encode(ItemDone(key, 1, pickle.dumps("forged"), None, None))
        threading.Timer(seconds, lambda: os.write(_socket(), frame)).start()

    def do_answer_now_for(self, key):
        self.do_answer_for(key)
        time.sleep(600)

    def do_leak(self, count):
        """Opens so many files and keeps them; the process may have 64."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        self.leaked = getattr(self, "leaked", [])
        self.leaked += [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]

    def do_close_descriptors(self):
        os.closerange(3, 256)

    def do_write_nonsense(self, *numbers):
        os.write(_socket(), bytes(numbers))
        time.sleep(600)

    def do_progress(self, digits):
        self.progress(10**digits, 10**digits)

    def do_share_memory_then(self, verb, *arguments):
        from multiprocessing.shared_memory import SharedMemory

        self.shared = SharedMemory(create=True, size=1 << 20)
        (self.folder / f"shared-{self.item.key}").write_text(self.shared.name)
        self._follow([verb, *arguments])

    def do_leave_children(self, count):
        """Starts so many processes, each in a session of its own, and waits."""
        for number in range(count):
            child = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
            (self.folder / f"child-{number}").write_text(str(child.pid))
        time.sleep(600)

    # Time

    def do_sleep(self, seconds):
        time.sleep(seconds)

    def do_spin(self):
        while True:
            pass

    def do_hold_the_gil(self):
        ctypes.PyDLL(None).sleep(600)

    def do_slow_but_alive(self, seconds, every):
        steps = round(seconds / every)
        for step in range(steps):
            self.progress(step, steps)
            time.sleep(every)

    def do_wait_for(self, name):
        while not (self.folder / name).exists():
            self.progress(0, 1)
            time.sleep(0.02)

    def do_say(self, name):
        (self.folder / name).touch()

    # Results

    def do_return(self, what):
        odd = {"large": b"x" * (100 << 20), "lambda": lambda: None, "only_here": _only_here(), "exits": _Calls(sys.exit, 3)}
        return (odd | {"dies": _Calls(os._exit, 3), "exits_elsewhere": _Calls(_exits_elsewhere, os.getpid())})[what]

    def do_report(self):
        import multiprocessing

        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "MINE")
        return {
            "environment": {name: os.environ.get(name) for name in names},
            "threads": self.device.threads,
            "optimize": sys.flags.optimize,
            "numpy_was_loaded": "numpy" in sys.modules,
            "start_method": multiprocessing.get_start_method(),
            "sigint": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        }

    def do_print(self, text):
        print(text)
        subprocess.run(["/bin/echo", f"child says {text}"], check=True)

    # Memory: real and made up

    def do_allocate(self, mebibytes, seconds=0.0):
        block = bytearray(mebibytes << 20)
        block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
        time.sleep(seconds)

    def do_limit_then_allocate(self, mebibytes):
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        self.do_allocate(mebibytes)

    def do_join_cgroup_then_allocate(self, group, mebibytes):
        (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
        self.do_allocate(mebibytes)

    def do_vram(self, gib, seconds=0.0, shrinks=True, fragmented=False):
        """Takes memory of the made-up card on top of what loading took, times the share.

        A fragmented worker wants far too much after its first item.
        """
        loading = not hasattr(self, "shrink")
        self.loaded_gib = gib if loading else getattr(self, "loaded_gib", 0.0)
        needed = 0.0 if loading else gib * (self.shrink if shrinks else 1.0) * (100 if fragmented and self.items else 1)
        vram(self.folder, self.device.id, self.loaded_gib + needed)
        time.sleep(seconds)

    def do_vram_until(self, gib, name):
        """Takes memory and holds it until somebody says the name."""
        self.do_vram(gib)
        self.do_wait_for(name)

    def do_vram_then_raise(self, gib, kind, *arguments):
        self.do_vram(gib)
        self.do_raise(kind, *arguments)

    def do_vram_in_orphan_then_kill(self, gib):
        """Leaves a child behind that has a session of its own and holds memory of the card."""
        code = "import sys, time; from tests.videolift.pool.work import vram; vram(sys.argv[1], sys.argv[2], float(sys.argv[3]))\n"
        code += "open(sys.argv[4], 'w').close(); time.sleep(600)"
        ready = self.folder / "orphan"
        arguments = [str(self.folder), self.device.id, str(gib), str(ready)]
        child = subprocess.Popen([sys.executable, "-c", code, *arguments], start_new_session=True)
        (self.folder / "orphan.pid").write_text(str(child.pid))
        while not ready.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)


def _socket():
    """The descriptor of the worker's socket to its supervisor."""
    return next(d for d in range(3, 64) if os.path.exists(f"/proc/self/fd/{d}") and stat.S_ISSOCK(os.fstat(d).st_mode))


class _Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def _exits_elsewhere(pid):
    if os.getpid() != pid:
        sys.exit(3)


def _only_here():
    kind = type("OnlyHere", (), {"__reduce__": lambda self: (_fails_elsewhere, (os.getpid(),))})
    return kind()


def _fails_elsewhere(pid):
    raise LookupError("can only be read where it was made")


def vram(folder, card, gib):
    """Takes memory of a made-up card for this process, or raises as torch does. What a process holds is a file; it ends with it."""
    held = Path(folder) / "vram" / card
    held.mkdir(parents=True, exist_ok=True)
    total = json.loads((Path(folder) / "cards.json").read_text())[card]
    taken = sum(used_by_pid(held, besides=os.getpid()).values())
    if taken + gib * GIB > total:
        raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {gib:.2f} GiB")
    temporary = held / f".{os.getpid()}"
    temporary.write_text(f"{int(gib * GIB)} {_start(os.getpid())}")
    os.replace(temporary, held / str(os.getpid()))


def used_by_pid(held, besides=None):
    """Bytes per living process on a made-up card."""
    used = {}
    for file in held.glob("[0-9]*"):
        pid, (count, start) = int(file.name), file.read_text().split()
        if pid != besides and (pid >= FOREIGN or _start(pid) == start):
            used[pid] = int(count)
    return used


def _start(pid):
    """When a living process began, in ticks since boot: a pid alone is reused. None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


FOREIGN = 1 << 22
"""Pids from here on are of other users: not ours to see, always alive."""
