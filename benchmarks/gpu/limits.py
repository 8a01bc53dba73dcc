"""How running out of memory looks for real, and how it is understood: torch's allocator, cuBLAS and cuDNN on a full card, with
another tenant on it; and what NVML says of a process against what torch says it reserved.

Each kind runs in a fresh process, because libraries take their memory once. ``OK`` if the error is understood as out of memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.gpu.measure import arguments, child
from videolift.errors import BackendUnavailable, Crash, OutOfMemory

WORKER = Path(__file__).with_name("limits_worker.py")
KINDS = {"cuda": ("torch", "cublas", "cudnn", "cusolver"), "cpu": ("torch",)}


def main() -> int:
    parser = arguments(__doc__ or "", None)
    options = parser.parse_args()
    wrong = False
    for kind in KINDS[options.device.split(":")[0]]:
        with child(options, None, WORKER) as process:
            print(process.load({"device": options.device}))
            try:
                process.call({"do": kind}, {})
                understood = "nothing was raised"
            except OutOfMemory as error:
                understood = f"OutOfMemory: {str(error)[:300]}"
            except (Crash, BackendUnavailable) as error:
                understood = f"{type(error).__name__}: {str(error)[:300]}"
        right = understood.startswith("OutOfMemory")
        wrong |= not right
        print(f"{'OK   ' if right else 'WRONG'} {kind}: {understood}")
    if options.device != "cpu":
        _reserved(options)
    return int(wrong)


def _reserved(options: argparse.Namespace) -> None:
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    before = pynvml.nvmlDeviceGetMemoryInfo(handle).used
    with child(options, None, WORKER) as process:
        process.load({"device": "cuda:0"})
        for gib in (1, 4):
            meta, _ = process.call({"do": "hold", "bytes": gib << 30}, {})
            time.sleep(0.5)
            used = pynvml.nvmlDeviceGetMemoryInfo(handle).used - before
            per_pid = {p.pid: p.usedGpuMemory for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
            print(
                f"{gib} GiB held: torch reserved {meta['reserved'] / 2**30:.2f} GiB, NVML {used / 2**30:.2f} GiB more than before, "
                f"per pid {per_pid}, ours is {process.pid}"
            )


if __name__ == "__main__":
    sys.exit(main())
