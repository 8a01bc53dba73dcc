"""An exception raised by user code, turned into the message that says what it means.

Our own errors are told by type. Those of CUDA libraries reach Python as RuntimeError with a text only, so this border is the one
place that reads texts; the phrases are those of torch 2, CUDA 12 and cuDNN 9. This module does not decide what is done about it.
"""

from __future__ import annotations

import traceback

from videolift.errors import BackendUnavailable, BadInput, Crash, OutOfMemory, Transient, is_storage_error
from videolift.pool.messages import Failed

_OOM_PHRASES = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cusolver_status_alloc_failed",
    "cufft_alloc_failed",
    "cudaerrormemoryallocation",
)
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


def _speaks_cuda(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) or bool({kind.__name__ for kind in type(error).__mro__} & _CUDA_TYPES)


def is_out_of_memory(error: BaseException) -> bool:
    """True for `OutOfMemory`, MemoryError, torch.OutOfMemoryError and what allocation failures of CUDA libraries look like."""
    if isinstance(error, (OutOfMemory, MemoryError)):
        return True
    return _speaks_cuda(error) and any(phrase in str(error).lower() for phrase in _OOM_PHRASES)


def describe(error: BaseException, *, loading: bool) -> Failed:
    """What ``error`` means, ready to be sent. Never raises, whatever the exception does in its own methods."""
    text, trace = _text(error), _trace(error)
    code, remedy, peak = type(error).__name__, "", None
    poisoned = lost = False
    if isinstance(error, BadInput):
        kind, code, text, remedy = "bad_input", error.code, error.text, error.remedy
    elif is_out_of_memory(error):
        kind, peak = "oom", getattr(error, "peak_bytes", None)
    elif isinstance(error, Transient) or is_storage_error(error):
        kind = "transient"
    elif isinstance(error, BackendUnavailable):
        kind = "backend"
    elif isinstance(error, Crash):  # of the model's own process, which is gone: ours can go on
        kind, text = "crash", error.text
        lost = any(phrase in text.lower() for phrase in _LOST_PHRASES)
    else:
        kind = "error"
        cuda = _speaks_cuda(error)
        lost = cuda and any(phrase in text.lower() for phrase in _LOST_PHRASES)
        poisoned = lost or (cuda and any(phrase in text.lower() for phrase in _STICKY_PHRASES))
    return Failed(
        kind=kind,  # type: ignore[arg-type]
        code=str(code),
        text=str(text)[:_TEXT_LIMIT],
        remedy=str(remedy)[:_TEXT_LIMIT],
        traceback=trace,
        peak_bytes=peak if isinstance(peak, int) else None,
        poisoned=poisoned,
        device_lost=lost,
        loading=loading,
    )


def _text(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception as second:  # noqa: BLE001  a user's __str__ may raise anything, and the failure must still be told
        return f"{type(error).__name__} (its text raised {type(second).__name__})"


def _trace(error: BaseException) -> str:
    try:
        lines = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001  as above
        lines = "".join(traceback.format_tb(error.__traceback__))
    return lines if len(lines) <= _TRACEBACK_LIMIT else lines[: _TRACEBACK_LIMIT // 2] + "\n...\n" + lines[-_TRACEBACK_LIMIT // 2 :]
