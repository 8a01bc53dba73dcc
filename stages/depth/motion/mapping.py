"""Structure from motion on keyframes: `FeatureTracks` in, `Reconstruction` out, by pycolmap.

The corners' shared ids are the matches. `KeyframeMapping` runs one of two mappers; which result is believed `motion_gates` decides.
Every run is single-threaded with a fixed seed, so equal tracks give equal bytes, and limits are counts, never seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stages.depth.motion.features import FeatureTracks
from stages.depth.motion.motion_gates import ReconstructionFigures
from videolift.geometry import Float, field_of_view_deg, invert_pose, transform

if TYPE_CHECKING:
    import pycolmap

Mapper = Literal["global", "incremental"]
MAPPERS: tuple[Mapper, ...] = ("global", "incremental")
"""In the order in which they are tried; the first believed result is taken."""
# Ten gaps and every frame instead of keyframes took 10 to 35 s of mapping and were no more accurate.
GAPS = (1, 2, 4, 8, 16)
"""Keyframes between the two views of a match."""
_MIN_SHARED = 25
_PIXEL_CENTRE = 0.5
"""COLMAP's pixel centres are at half integers, ours at integers."""


@dataclass(frozen=True)
class Reconstruction:
    """Keyframe poses and corners in one world with an unknown unit.

    Attributes:
        frames: int64 (k), ascending; keyframes that found a place.
        T_camera_world: float64 (k, 4, 4).
        K: float64 (3, 3), pixels of the clip.
        point_ids: int32 (m), ascending; ids of `FeatureTracks`.
        points_world: float64 (m, 3).
        figures: what `motion_gates.refusal` reads.
        mapper: which one made it.
        solved: pycolmap's own form, for adjusting it further.
    """

    frames: NDArray[np.int64]
    T_camera_world: Float
    K: Float
    point_ids: NDArray[np.int32]
    points_world: Float
    figures: ReconstructionFigures
    mapper: str
    solved: pycolmap.Reconstruction = field(repr=False)


@dataclass(frozen=True)
class KeyframeMapping:
    """Keyframes of a clip and what a mapper is told of them.

    Attributes:
        tracks: corners of the whole clip.
        keyframes: frames to map.
        K: intrinsics to start from, (3, 3).
        size_px: (W, H) of the clip.
        folder: empty folder for the database.
        fixed: K is not to be changed.
        seed: of every random draw.
    """

    tracks: FeatureTracks
    keyframes: Sequence[int]
    K: Float
    size_px: tuple[int, int]
    folder: Path
    fixed: bool
    seed: int

    def reconstruct(self, mapper: Mapper) -> Reconstruction | None:
        """Runs one mapper: the largest model, or None where it found none."""
        import pycolmap

        # It logs every step on stderr.
        pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
        database = self.folder / "database.db"
        self._write_database(database)
        images_folder, models_folder = self.folder / "images", self.folder / "models"
        images_folder.mkdir()  # COLMAP asks for it and reads nothing from it: everything is in the database
        models_folder.mkdir()
        models = self._run(mapper, (str(database), str(images_folder), str(models_folder)))
        if not models:
            return None
        # A mapper may fall apart into several models; parts without a common frame cannot be joined.
        largest = max(models.values(), key=lambda model: (model.num_reg_images(), model.num_points3D()))
        return self._read(largest, mapper)

    def _write_database(self, path: Path) -> None:
        """Cameras, frames, keypoints and matches as COLMAP's database, the matches verified."""
        import pycolmap

        database = pycolmap.Database.open(str(path))
        K, keyframes = self.K, self.keyframes
        focal_x, focal_y, centre_x, centre_y = K[0, 0], K[1, 1], K[0, 2] + _PIXEL_CENTRE, K[1, 2] + _PIXEL_CENTRE
        model, params = (
            ("PINHOLE", [focal_x, focal_y, centre_x, centre_y]) if self.fixed else ("SIMPLE_PINHOLE", [focal_x, centre_x, centre_y])
        )
        camera = pycolmap.Camera(model=model, width=self.size_px[0], height=self.size_px[1], params=params, camera_id=1)
        # The global mapper refines a focal length even with a prior: what keeps it is `refine_focal_length` below.
        camera.has_prior_focal_length = self.fixed
        database.write_camera(camera, use_camera_id=True)
        # pycolmap 4 maps frames of rigs: every image is a frame of a rig with this one camera
        rig = pycolmap.Rig(rig_id=1)
        rig.add_ref_sensor(camera.sensor_id)
        database.write_rig(rig, use_rig_id=True)
        for number, k in enumerate(keyframes, start=1):
            image = pycolmap.Image(name=_name(k), camera_id=1, image_id=number)
            database.write_image(image, use_image_id=True)
            frame = pycolmap.Frame(frame_id=number, rig_id=1)
            frame.add_data_id(image.data_id)
            database.write_frame(frame, use_frame_id=True)
            database.write_keypoints(number, (self.tracks.frame(k)[1] + _PIXEL_CENTRE).astype(np.float32))
        # Shared ids are the matches; descriptors would have to be computed and compared anew.
        pairs = []
        for first in range(len(keyframes)):
            for second in (first + gap for gap in GAPS if first + gap < len(keyframes)):
                rows = np.stack(self.tracks.shared_rows(keyframes[first], keyframes[second]), axis=1)
                if len(rows) >= _MIN_SHARED:
                    database.write_matches(first + 1, second + 1, rows.astype(np.uint32))
                    pairs.append(f"{_name(keyframes[first])} {_name(keyframes[second])}")
        database.close()
        pairs_path = self.folder / "pairs.txt"
        pairs_path.write_text("\n".join(pairs))
        geometry = pycolmap.TwoViewGeometryOptions()
        # Verification draws at random too.
        geometry.ransac.random_seed = self.seed
        pycolmap.verify_matches(str(path), str(pairs_path), geometry)

    def _run(self, mapper: Mapper, where: tuple[str, str, str]) -> dict[int, pycolmap.Reconstruction]:
        """Models by number. One thread and a seed for every step that draws: each has a generator of its own."""
        import pycolmap

        if mapper == "global":
            whole = pycolmap.GlobalPipelineOptions()
            whole.random_seed, whole.num_threads = self.seed, 1
            steps = whole.mapper
            steps.random_seed, steps.num_threads = self.seed, 1
            steps.rotation_averaging.random_seed = self.seed
            steps.global_positioning.random_seed = self.seed
            # Sums on a card come in another order each time, and cards differ.
            steps.global_positioning.use_gpu = False
            steps.retriangulation.random_seed = self.seed
            steps.bundle_adjustment.refine_focal_length = not self.fixed
            steps.bundle_adjustment.ceres.use_gpu = False
            steps.bundle_adjustment.ceres.solver_options.num_threads = 1
            return pycolmap.global_mapping(*where, whole)
        options = pycolmap.IncrementalPipelineOptions()
        # Colours would be read from image files, and there are none.
        options.random_seed, options.num_threads, options.extract_colors = self.seed, 1, False
        options.min_model_size, options.multiple_models, options.init_num_trials = 5, False, 60
        options.ba_refine_focal_length = not self.fixed
        options.ba_global_max_refinements, options.ba_global_frames_ratio, options.ba_global_points_ratio = 2, 1.4, 1.4
        options.mapper.random_seed, options.mapper.num_threads = self.seed, 1
        # Small angles: keyframes of a clip are close together, unlike the photo collections that the defaults are made for.
        options.mapper.init_min_tri_angle, options.mapper.abs_pose_min_num_inliers = 2.0, 15
        options.mapper.abs_pose_refine_focal_length = False
        options.mapper.filter_min_tri_angle, options.triangulation.min_angle = 0.5, 0.5
        options.triangulation.random_seed = self.seed
        return pycolmap.incremental_mapping(*where, options)

    def _read(self, model: pycolmap.Reconstruction, mapper: Mapper) -> Reconstruction | None:
        """A model in our terms; None where fewer than two keyframes found a place."""
        poses = {int(image.name): image.cam_from_world().matrix() for image in model.images.values() if image.has_pose}
        if len(poses) < 2:
            return None
        frames = np.array(sorted(poses), np.int64)
        T_camera_world = np.tile(np.eye(4), (len(frames), 1, 1))
        T_camera_world[:, :3] = [poses[int(k)] for k in frames]
        # A corner that the mapper split into several points keeps the one seen most often.
        best: dict[int, tuple[int, int]] = {}
        for number, point in sorted(model.points3D.items()):
            seen = point.track.elements[0]
            corner = int(self.tracks.frame(int(model.images[seen.image_id].name))[0][seen.point2D_idx])
            # Ties go to the point with the lowest number: the order of a dictionary from C++ is not ours.
            best[corner] = max(best.get(corner, (0, 0)), (point.track.length(), -number))
        ids = np.array(sorted(best), np.int32)
        points = [model.points3D[-best[int(corner)][1]].xyz for corner in ids]
        points_world = np.array(points, np.float64).reshape(-1, 3)
        K = np.array(next(iter(model.cameras.values())).calibration_matrix(), np.float64)
        K[:2, 2] -= _PIXEL_CENTRE
        centres = invert_pose(T_camera_world)[:, :3, 3]
        extent = float(np.linalg.norm(centres.max(0) - centres.min(0)))
        z = transform(T_camera_world[len(T_camera_world) // 2], points_world)[:, 2]
        in_front = z[z > 0]
        # Along the long side, whichever it is: limits on the field of view hold for portrait videos too.
        long_px, focal_px = max((self.size_px[0], K[0, 0]), (self.size_px[1], K[1, 1]), key=lambda pair: pair[0])
        figures = ReconstructionFigures(
            registered_share=len(T_camera_world) / len(self.keyframes),
            reproj_px=float(model.compute_mean_reprojection_error()),
            fov_deg=field_of_view_deg(focal_px, long_px),
            points=len(points_world),
            parallax_px=float(focal_px) * extent / float(np.median(in_front)) if len(in_front) else 0.0,
        )
        return Reconstruction(
            frames, T_camera_world, K, point_ids=ids, points_world=points_world, figures=figures, mapper=mapper, solved=model
        )


def _name(frame: int) -> str:
    return f"{frame:09d}"
