"""Work on a real card by the driver's own interface (libcuda through ctypes), so that it needs no CUDA toolkit and no torch.

Takes memory, keeps the card busy for a share of the time, runs out of memory, and spoils its context, on demand.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from videolift.errors import BackendUnavailable, OutOfMemory
from videolift.pool import Device, Item

GIB = 1 << 30
_OUT_OF_MEMORY = 2
_PTX = b"""
.version 7.0
.target sm_52
.address_size 64
.visible .entry spin(.param .u64 cycles)
{
    .reg .b64 %rd<5>;
    .reg .pred %p<2>;
    ld.param.u64 %rd1, [cycles];
    mov.u64 %rd2, %clock64;
again:
    mov.u64 %rd3, %clock64;
    sub.s64 %rd4, %rd3, %rd2;
    setp.lt.u64 %p1, %rd4, %rd1;
    @%p1 bra again;
    ret;
}
.visible .entry poke(.param .u64 address)
{
    .reg .b64 %rd<3>;
    .reg .b32 %r<2>;
    ld.param.u64 %rd1, [address];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, 1;
    st.global.u32 [%rd2], %r1;
    ret;
}
\0"""
_CYCLES_PER_SECOND = 1_500_000_000


class Cuda:
    """One context on the first visible card."""

    def __init__(self) -> None:
        try:
            self._cuda = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise BackendUnavailable(f"no NVIDIA driver here ({error}). Check with: nvidia-smi") from error
        self._call("cuInit", 0)
        device, context, module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuModuleLoadData", ctypes.byref(module), _PTX)
        self._functions = {}
        for name in (b"spin", b"poke"):
            function = ctypes.c_void_p()
            self._call("cuModuleGetFunction", ctypes.byref(function), module, name)
            self._functions[name.decode()] = function

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code == _OUT_OF_MEMORY:
            raise OutOfMemory(None, f"{name}: CUDA_ERROR_OUT_OF_MEMORY")
        if code:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(code, ctypes.byref(text))
            raise RuntimeError(f"CUDA error: {(text.value or b'?').decode()} ({name}: {code})")

    def allocate(self, count: int) -> int:
        """Takes ``count`` bytes and touches them; returns the address."""
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(count))
        self._call("cuMemsetD8_v2", pointer, ctypes.c_ubyte(1), ctypes.c_size_t(count))
        self._call("cuCtxSynchronize")
        return pointer.value

    def free(self, address: int) -> None:
        """Gives memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def run(self, name: str, value: int) -> None:
        """Runs one of the two kernels with one thread and waits for it."""
        argument = ctypes.c_uint64(value)
        arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(argument), ctypes.c_void_p))
        self._call("cuLaunchKernel", self._functions[name], 1, 1, 1, 1, 1, 1, 0, None, arguments, None)
        self._call("cuCtxSynchronize")

    def busy(self, seconds: float, share: float, progress: Callable[[int, int], None]) -> None:
        """Keeps the card busy for ``share`` of ``seconds``, in slices of 50 ms."""
        steps = max(1, round(seconds / 0.05))
        for step in range(steps):
            began = time.monotonic()
            self.run("spin", int(0.05 * share * _CYCLES_PER_SECOND))
            time.sleep(max(0.0, 0.05 - (time.monotonic() - began)))
            progress(step + 1, steps)


class CardWorker:
    """A pool worker whose items say what they take.

    Payload keys: ``gib``, ``seconds``, ``share``; ``do``: at first ``poke`` (spoil the context) or ``orphan`` (leave a child
    that holds memory, and die).
    """

    shrinks = (1.0, 0.5, 0.25)

    def __init__(self, folder: str, loaded_gib: float) -> None:
        self._folder, self._loaded_gib = Path(folder), loaded_gib

    def load(self, device: Device) -> None:
        """Opens the card and takes what a model's weights would."""
        self._device = device
        self._cuda = Cuda()
        self._cuda.allocate(int(self._loaded_gib * GIB))

    def process(self, item: Item, *, shrink: float, progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Does what the payload says."""
        told = item.payload
        if told.get("do") and not (self._folder / item.key).exists():
            (self._folder / item.key).touch()
            if told["do"] == "poke":
                self._cuda.run("poke", 16)
            elif told["do"] == "orphan":
                ready = self._folder / "orphan"
                hold(told["gib"], 600.0, ready)
                while not ready.exists():
                    time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGKILL)
        address = self._cuda.allocate(int(told["gib"] * shrink * GIB))
        try:
            self._cuda.busy(told["seconds"], told.get("share", 0.3), progress)
        finally:
            self._cuda.free(address)
        return {"mask": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid(), "shrink": shrink}

    def close(self) -> None:
        """The context goes with the process."""


def hold(gib: float, seconds: float, ready: Path) -> subprocess.Popen[bytes]:
    """Another process, in a session of its own, that holds memory of the first visible card; ``ready`` appears when it does."""
    code = (
        "import sys, time; from pathlib import Path; from benchmarks.gpu.cuda_load import Cuda; "
        "cuda = Cuda(); cuda.allocate(int(float(sys.argv[1]) * 2**30)); Path(sys.argv[3]).write_text('x'); "
        "time.sleep(float(sys.argv[2]))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(gib), str(seconds), str(ready)], start_new_session=True)
