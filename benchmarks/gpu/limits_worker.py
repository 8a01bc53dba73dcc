"""Runs out of memory on demand, inside an interpreter with torch. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

device = "cpu"
held: list[Any] = []


def load(meta: dict[str, Any]) -> dict[str, Any]:
    """Meta: device."""
    global device
    import torch

    device = meta["device"]
    if device != "cpu":
        torch.zeros(1, device=device)
    return {"torch": torch.__version__}


def call(
    meta: dict[str, Any], arrays: dict[str, Any], progress: Callable[[int, int], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Meta ``do``: torch | cublas | cudnn | cusolver run out of memory; hold takes ``bytes`` and says what torch reserved."""
    import torch

    if meta["do"] == "hold":
        held.append(torch.ones(meta["bytes"], dtype=torch.uint8, device=device))
        torch.cuda.synchronize()
        return {"reserved": int(torch.cuda.memory_reserved())}, {}
    if meta["do"] == "torch":
        torch.empty(1 << 60, dtype=torch.uint8, device=device)
    square, image = torch.ones(512, 512, device=device), torch.ones(1, 8, 512, 512, device=device)
    kernel = torch.ones(8, 8, 3, 3, device=device)
    # All that the card still gives, in ever smaller pieces.
    size = 1 << 30
    while size >= 1 << 20:
        try:
            held.append(torch.empty(size, dtype=torch.uint8, device=device))
        except RuntimeError:
            size //= 2
    if meta["do"] == "cublas":
        square @ square
    elif meta["do"] == "cudnn":
        torch.nn.functional.conv2d(image, kernel)
    else:
        torch.linalg.svd(square)
    torch.cuda.synchronize()
    return {}, {}
