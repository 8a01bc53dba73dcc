"""An exception raised by user code, turned into the message that says what it means.

Our own errors are told by type. Those of CUDA libraries reach Python as RuntimeError with a text only, so this border reads texts;
the phrases are those of torch 2, CUDA 12 and cuDNN 9, and those of memory are in `videolift.errors`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from videolift.errors import (
    BackendUnavailable,
    BadInput,
    Crash,
    OutOfMemory,
    Transient,
    is_descriptor_leak,
    is_lack_of_room,
    is_storage_error,
    may_say_out_of_memory,
    says_out_of_memory,
)
from videolift.pool.workers.messages import AttemptFailed, FailureKind

_LOST_PHRASES = (
    "uncorrectable ecc",
    "gpu is lost",
    "fallen off the bus",
    "unknown error, possibly due to a hardware",
    "cudaerrordevicesunavailable",
    "cudaerrordeviceunavailable",
    "cuda-capable device(s) is/are busy or unavailable",
    "all cuda-capable devices are busy or unavailable",
    "system not yet initialized",
    "contained error",
)
# The software on this machine does not fit the card: no video can be at fault, and none will do better on this device.
_UNFIT_PHRASES = (
    "no kernel image is available",
    "driver on your system is too old",
    "driver version is insufficient",
    "unsupported toolchain",  # PTX compiled by a later CUDA than the driver's
    "forward compatibility was attempted",
    "no cuda-capable device is detected",
    "cudaerrornokernelimagefordevice",
    "cudaerrorinsufficientdriver",
)
_STICKY_PHRASES = (
    "cuda error",
    "cudaerror",
    "cudnn_status_execution_failed",
    "cublas_status_execution_failed",
    "cudnn_status_internal_error",
    "cublas_status_internal_error",
)
_CUDA_TYPES = {"AcceleratorError", "CudaError", "CUDARuntimeError", "OutOfMemoryError", "CudaAPIError", "CUDADriverError"}
_TEXT_LIMIT, _TRACEBACK_LIMIT = 4_000, 30_000
_CHAIN_LIMIT = 10


def _speaks_cuda(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) or bool({kind.__name__ for kind in type(error).__mro__} & _CUDA_TYPES)


def is_out_of_memory(error: BaseException) -> bool:
    """True for `OutOfMemory`, MemoryError, torch.OutOfMemoryError and what allocation failures of compute libraries look like."""
    if isinstance(error, (OutOfMemory, MemoryError)):
        return True
    return _speaks_cuda(error) and says_out_of_memory(_text(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it was raised from."""
    current: BaseException | None = error
    for _ in range(_CHAIN_LIMIT):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__


def describe(error: BaseException, *, key: str = "", claim: int = 0) -> AttemptFailed:
    """What ``error`` means, ready to be sent. Never raises, whatever the exception does in its own methods.

    Args:
        error: as raised by user code.
        key, claim: of the item that it was raised on; empty and 0 in loading.
    """
    text, code, remedy = _text(error), type(error).__name__, ""
    if isinstance(error, BadInput):
        code, remedy = error.code, error.remedy
        text = error.text
    elif isinstance(error, Crash):
        text = error.text
    compute = (_speaks_cuda(error) or isinstance(error, Crash)) and not isinstance(error, BadInput)
    lost = compute and _has(text, _LOST_PHRASES + _UNFIT_PHRASES)
    kind = _kind(error)
    if kind in ("error", "crash") and compute and _has(text, _UNFIT_PHRASES):
        kind = "backend"
    peak = getattr(error, "peak_bytes", None) if kind == "oom" else None
    # After a `Crash` the model's own process is gone already, and the worker can go on.
    poisoned = kind == "descriptors" or (
        kind in ("error", "backend") and _speaks_cuda(error) and (lost or _has(text, _STICKY_PHRASES))
    )
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001  a user's __str__ may raise anything
        trace = "".join(traceback.format_tb(error.__traceback__))
    # The middle of a long traceback is what frameworks add; its ends are the user's call and the error.
    if len(trace) > _TRACEBACK_LIMIT:
        trace = trace[: _TRACEBACK_LIMIT // 2] + "\n...\n" + trace[-_TRACEBACK_LIMIT // 2 :]
    return AttemptFailed(
        kind=kind,
        code=str(code),
        text=str(text)[:_TEXT_LIMIT],
        remedy=str(remedy)[:_TEXT_LIMIT],
        traceback=trace,
        key=key,
        claim=claim,
        peak_bytes=int(peak) if isinstance(peak, int) else None,
        poisoned=poisoned,
        device_lost=lost,
        no_room=kind == "transient" and any(map(is_lack_of_room, _chain(error))),
        oom_if_full=compute and may_say_out_of_memory(text),
    )


def _kind(error: BaseException) -> FailureKind:
    # A leak of descriptors makes healthy files unreadable, so it is looked for before the error that was made of it.
    if any(is_descriptor_leak(one) for one in _chain(error)):
        return "descriptors"
    if isinstance(error, BadInput):
        return "bad_input"
    if is_out_of_memory(error):
        return "oom"
    if isinstance(error, Transient) or is_storage_error(error):
        return "transient"
    if isinstance(error, BackendUnavailable):
        return "backend"
    return "crash" if isinstance(error, Crash) else "error"


def _has(text: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in text.lower() for phrase in phrases)


def _text(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception as second:  # noqa: BLE001  a user's __str__ may raise anything, and the failure must still be told
        return f"{type(error).__name__} (its text raised {type(second).__name__})"
