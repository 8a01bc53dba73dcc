"""How sharply a solved reconstruction points at its focal length: the error of structure from motion over focal lengths near it.

Everything but the focal length is adjusted anew at each of a few; where the error hardly rises, the solved value is a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from videolift.inputs.focal_curves import FOCAL_FACTORS

if TYPE_CHECKING:
    import pycolmap

_TRUNCATED_PX = 3.0


def rise_over_focal_lengths(model: pycolmap.Reconstruction) -> tuple[float, tuple[float, ...]]:
    """The focal length that fits best, pixels, and by what share the error rises at each of `FOCAL_FACTORS` times it.

    The solved ``model`` is changed: adjusted with the robust error that is compared.
    """
    import pycolmap

    _adjust(model, focal_fixed=False)
    (camera,) = model.cameras.values()
    focal_px, error = float(camera.params[0]), _error(model)
    rise = np.zeros(len(FOCAL_FACTORS))
    middle = FOCAL_FACTORS.index(1.0)
    for side in (range(middle + 1, len(rise)), range(middle - 1, -1, -1)):
        moved = pycolmap.Reconstruction(model)
        (camera,) = moved.cameras.values()
        for row in side:  # each starts from its neighbour's solution: a short way for the adjustment
            camera.params = [FOCAL_FACTORS[row] * focal_px, *camera.params[1:]]
            _adjust(moved, focal_fixed=True)
            rise[row] = _error(moved) / error - 1
    return focal_px, tuple(rise.tolist())


def _adjust(model: pycolmap.Reconstruction, *, focal_fixed: bool) -> None:
    import pycolmap

    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length, options.print_summary = not focal_fixed, False
    # Known from the crop; one more unknown would be observed no better than the focal length is.
    options.refine_principal_point = options.refine_extra_params = False
    # Soft L1, since corners on hands and held things are among the tracks.
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    solver = options.ceres.solver_options
    # One thread: sums of several are rounded in another order on every run.
    solver.num_threads, solver.max_num_iterations, solver.function_tolerance = 1, 50, 1e-6
    pycolmap.bundle_adjustment(model, options)


def _error(model: pycolmap.Reconstruction) -> float:
    """Root mean square of the reprojection errors, each counted as 3 px at most: things that move must not decide."""
    (camera,) = model.cameras.values()
    focal_px, centre_px = camera.params[0], np.asarray(camera.params[1:3])
    squares, count = 0.0, 0
    for image in model.images.values():
        if image.has_pose:
            seen = [point for point in image.points2D if point.has_point3D()]
            xyz = np.array([model.points3D[point.point3D_id].xyz for point in seen]).reshape(-1, 3)
            pose = image.cam_from_world().matrix()
            there = xyz @ pose[:, :3].T + pose[:, 3]
            uv = focal_px * there[:, :2] / there[:, 2:] + centre_px
            off_px = np.linalg.norm(uv - np.array([point.xy for point in seen]).reshape(-1, 2), axis=1)
            squares += float((np.minimum(np.where(there[:, 2] > 0, off_px, np.inf), _TRUNCATED_PX) ** 2).sum())
            count += len(seen)
    return float(np.sqrt(squares / max(count, 1)))
