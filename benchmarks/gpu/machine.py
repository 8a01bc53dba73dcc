"""What this machine and its card say of themselves: driver, memory, capability, and whether pids are visible to us."""

from __future__ import annotations

import os
import platform

import psutil
import pynvml


def main() -> None:
    memory = psutil.virtual_memory().total / 2**30
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {memory:.0f} GiB, pid {os.getpid()}")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        print(f"no card: {error}")
        return
    print(f"driver {pynvml.nvmlSystemGetDriverVersion()}, CUDA {pynvml.nvmlSystemGetCudaDriverVersion() / 1000:.2f}")
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory_info = pynvml.nvmlDeviceGetMemoryInfo(handle)
        capability = ".".join(map(str, pynvml.nvmlDeviceGetCudaComputeCapability(handle)))
        print(
            f"{pynvml.nvmlDeviceGetName(handle)} {pynvml.nvmlDeviceGetUUID(handle)}, capability {capability}, "
            f"{memory_info.total / 2**30:.1f} GiB, {memory_info.used / 2**30:.2f} GiB used"
        )
        try:
            pids = [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
            print(f"  processes on it: {pids}, of which this machine shows {[pid for pid in pids if psutil.pid_exists(pid)]}")
        except pynvml.NVMLError as error:
            print(f"  processes on it: not told ({error})")


if __name__ == "__main__":
    main()
