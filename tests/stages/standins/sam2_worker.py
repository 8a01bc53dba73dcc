"""Keeps the interface of stages/masks/sam2_worker.py: an object is where the clip has the colour that was pointed at.

What it remembers are the colours and the frame to come, and it insists on getting them back for that frame. ``weights`` is empty or
says ``out of memory at N`` or ``dies at N``: once frame N is in a chunk.
"""

import os
from pathlib import Path

import numpy as np

trouble = ""


def load(meta):
    global trouble
    trouble = Path(meta["weights"]).read_text()
    return {}


def call(meta, arrays, progress):
    rgb, first = arrays["rgb"], meta["first"]
    word, _, frame = trouble.rpartition(" at ")
    if word and first <= int(frame) < first + len(rgb):
        if word == "dies":
            os._exit(1)
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if first == 0:
        colours = [rgb[0][arrays["mask"] == number][0] for number in np.unique(arrays.get("mask", 0)) if number]
        for prompt in meta["prompts"]:
            x, y = np.rint(np.mean(prompt["uv_px"], axis=0)).astype(int)
            colours.append(rgb[0, y, x])
        memory = {"colours": np.array(colours)}
    else:
        assert arrays["next"] == first, "a chunk without what was remembered of the one before"
        memory = {"colours": arrays["colours"]}
    instance = np.zeros(rgb.shape[:3], np.uint8)
    for number, colour in zip(meta["ids"], memory["colours"], strict=True):
        instance[(rgb == colour).all(-1)] = number
    progress(len(rgb), len(rgb))
    return {}, {"instance": instance, "next": np.array(first + len(rgb)), **memory}
