"""Look at one sample: what it holds, and where its points go. ``python examples/1_look_at_a_sample.py output/h5_dataset``"""

from __future__ import annotations

import sys

import numpy as np

from videolift.reader import Normalization, Selection, open_dataset


def main(folder: str) -> None:
    """Prints keys and shapes of the first window, and what its points do in pixels and metres."""
    selection = Selection(points=64, past_frames=2, keypoints=True, text=True)
    windows = open_dataset(folder, selection=selection)
    sample = windows[0]
    print(f"{len(windows)} windows; the first is frame {sample['frame']} of {sample['video']}: {sample['text'] or 'no text'}")
    for key, value in sample.items():
        if isinstance(value, np.ndarray):
            print(f"{key:26} {value.dtype!s:8} {value.shape}")

    size = sample["rgb"].shape[-1]
    real = sample["point_valid"]
    moved_px = np.linalg.norm(sample["displacement"][-1, real, :2], axis=-1) * size
    nearer = -sample["displacement"][-1, real, 2]
    print(f"{real.sum()} points move {np.median(moved_px):.1f} px (median), at most {moved_px.max():.1f} px")
    print(f"the one that comes nearest comes {nearer.max():.3f} nearer (metres where scale is not arbitrary: {sample['scale']})")
    for side, name in enumerate(("left", "right")):
        known = int(sample["hand_step_valid"][side].sum())
        print(f"{name} hand: known in {known} of {sample['hand_step_valid'].shape[1]} steps")

    normalization = Normalization.fit(windows)
    normalized = normalization.apply(sample)
    back = normalization.invert(normalized)
    print(
        f"normalized displacement: mean {normalized['displacement'].mean():.2f}, deviation {normalized['displacement'].std():.2f}"
    )
    print(f"and back: largest difference {np.abs(back['displacement'] - sample['displacement']).max():.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
