"""The predecessor's mistakes, each with the tests that fail when it is put back.

A table and nothing else; `test_mistakes` checks that the tests exist and, in its slow part, puts the mistakes back one by one.
Numbers are those of the list that these came from: m for its models and geometry, p for its worker pool, d for the design's own.
"""

from __future__ import annotations

from dataclasses import dataclass

GEOMETRY = "tests/videolift/test_geometry.py::"
WINDOWS = "tests/videolift/dataset/test_windows.py::"
STATISTICS = "tests/videolift/dataset/statistics/test_accumulators.py::"
PUBLISH = "tests/videolift/dataset/publish/test_publish.py::"
PACKAGE = "tests/stages/create_h5/test_hdf5.py::"
DEPTH = "tests/stages/depth/test_geometry_of_depth.py::"
SENSOR = "tests/stages/depth/test_rgbd.py::"
WRIST = "tests/stages/hands/test_wrist.py::"
HAND_DEPTH = "tests/stages/hands/test_hand_depth.py::"
TEMPORAL = "tests/stages/hands/test_temporal.py::"
FROZEN = "tests/stages/test_frozen_truth.py::"
FLOW = "tests/stages/tracks/test_flow.py::"
CHAIN = "tests/stages/tracks/test_chain.py::"
STORE = "tests/videolift/test_store.py::"
WRITING = "tests/videolift/artifacts/test_writing.py::"
DAMAGE = "tests/videolift/artifacts/test_damage.py::"
FAULT = "tests/videolift/pool/test_faults.py::test_fault"
OWN = "tests/test_mistakes.py::"


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        text: what was wrong.
        tests: node ids of tests that hold it off; for `FAULT` with the number of the case in brackets. Each fails when it is put
            back.
        file, right, wrong: how to put it back, by replacing the text ``right`` (once in ``file``) by ``wrong``; empty where it
            takes more than a line, because the design leaves no place for it.
        also: tests that hold off other forms of it.
    """

    text: str
    tests: tuple[str, ...]
    file: str = ""
    right: str = ""
    wrong: str = ""
    also: tuple[str, ...] = ()


MISTAKES: dict[str, Mistake] = {
    "m0 a preset without a scale taken for metric": Mistake(
        "depth in an unknown unit under the name of metres",
        (FROZEN + "test_vipe_without_a_scale_has_a_median_depth_of_one",),
        "stages/depth/vipe.py",
        'METRIC = ("default", ',
        'METRIC = ("lyra", "default", ',
    ),
    "m0 scale-free points dropped by limits in metres": Mistake(
        "0.1 to 2.5 of an unknown unit",
        (WINDOWS + "test_scale_free_depth_is_not_compared_with_metres",),
        "videolift/dataset/windows.py",
        "        if depth_range_m is not None:\n",
        "        depth_range_m = depth_range_m or (0.1, 2.5)\n        if depth_range_m is not None:\n",
    ),
    "m0 scale-free depth clipped in metres": Mistake(
        "the same in the statistics",
        (STATISTICS + "test_depth_is_clipped_in_metres_only_where_it_is_metres",),
        "videolift/dataset/statistics/accumulators.py",
        "        if depth_range_m is not None:  # codes",
        "        depth_range_m = depth_range_m or (0.1, 2.5)\n        if depth_range_m is not None:  # codes",
    ),
    "m1 world-to-camera composed in the wrong order": Mistake(
        "inv(E_0) @ E_k instead of E_0 @ inv(E_k)",
        (
            GEOMETRY + "test_T_cam0_camk_takes_a_point_seen_by_camera_k_to_camera_0",
            WINDOWS + "test_window_poses_move_points_of_camera_k_into_camera_0",
            PACKAGE + "test_pose9d_is_camera_k_in_camera_0_with_world_to_camera_composed_in_the_right_order",
        ),
        "videolift/geometry.py",
        "np.asarray(E[0] @ invert_pose(E))",
        "np.asarray(invert_pose(E[0]) @ E)",
    ),
    "m1 extrinsics of a window composed in the wrong order": Mistake(
        "the same for what a tracker is fed",
        (
            GEOMETRY + "test_T_camk_cam0_are_extrinsics_of_a_world_that_is_camera_0",
            FROZEN + "test_tapip3d_is_packaged_as_truth",
        ),
        "videolift/geometry.py",
        "np.asarray(E @ invert_pose(E[0]))",
        "np.asarray(invert_pose(E[0]) @ E)",
    ),
    "m1 tracks by flow composed in the wrong order": Mistake(
        "the same for points that are lifted frame by frame",
        (FLOW + "test_extrinsics_are_composed_on_the_right", FLOW + "test_a_static_point_stands_still_in_the_first_camera"),
        "stages/tracks/point_paths.py",
        "self.T_camera_world[b] @ invert_pose(self.T_camera_world[a])",
        "invert_pose(self.T_camera_world[a]) @ self.T_camera_world[b]",
    ),
    "m2 windows linked by poses in the wrong order": Mistake(
        "no such link is stored: T_camera_world is; relative poses do not depend on the world",
        (GEOMETRY + "test_relative_poses_do_not_depend_on_where_the_world_is",),
    ),
    "m3 world-to-camera stored under the name of a pose": Mistake(
        "the inverse of T_cam0_camk",
        (
            WINDOWS + "test_window_poses_move_points_of_camera_k_into_camera_0",
            PACKAGE + "test_pose9d_is_camera_k_in_camera_0_with_world_to_camera_composed_in_the_right_order",
        ),
        "videolift/dataset/windows.py",
        "    T = T_cam0_camk(T_camera_world)\n",
        "    T = np.linalg.inv(T_cam0_camk(T_camera_world))\n",
    ),
    "m4 joints rotated twice": Mistake(
        "the global rotation applied to joints that contain it",
        (FROZEN + "test_wilor_is_packaged_as_truth_for_either_hand",),
        "stages/hands/wilor.py",
        "joints[n] + wrist, pose.mano_pose[n]",
        "joints[n] @ pose.R_camera_wrist[n].T + wrist, pose.mano_pose[n]",
        also=(HAND_DEPTH + "test_joints_are_where_the_depth_is_and_not_turned_again",),
    ),
    "m5 left hands not mirrored": Mistake(
        "the joints mirrored, the global rotation not",
        (FROZEN + "test_wilor_is_packaged_as_truth_for_either_hand", OWN + "test_left_hands_are_mirrored_to_the_fingertips"),
        "stages/hands/wilor.py",
        "mirror_points(joints), mirror_rotation(R), mirror_rotation(pose)",
        "mirror_points(joints), R, mirror_rotation(pose)",
    ),
    "m5 left fingers not mirrored": Mistake(
        "the global rotation mirrored, those of the fingers not",
        (OWN + "test_left_hands_are_mirrored_to_the_fingertips",),
        "stages/hands/wilor.py",
        "mirror_points(joints), mirror_rotation(R), mirror_rotation(pose)",
        "mirror_points(joints), mirror_rotation(R), pose",
    ),
    "m5 the palm of a left hand is that of a right one": Mistake(
        "the template that wrists are fitted with",
        (WRIST + "test_left_hand_rotation_is_mirrored",),
        "stages/hands/palm.py",
        "return cls(mirror_points(seen_m), mirror_points(TRUE_PALM_M), SEEN_LEAN_RAD * [1, -1, -1])",
        "return cls(seen_m, TRUE_PALM_M.copy(), SEEN_LEAN_RAD.copy())",
    ),
    "m6 wrists interpolated entry by entry": Mistake(
        "matrices in between that are no rotations",
        (TEMPORAL + "test_interpolated_rotations_are_rotations",),
        "stages/hands/temporal.py",
        "slerp([0.0, 1.0], ends[:, :3, :3], shares)",
        "(1 - shares)[:, None, None] * ends[0, :3, :3] + shares[:, None, None] * ends[1, :3, :3]",
    ),
    "m6 finger rotations interpolated entry by entry": Mistake(
        "the same for the 15 joints",
        (TEMPORAL + "test_interpolated_rotations_are_rotations",),
        "stages/hands/temporal.py",
        "slerp([0.0, 1.0], pose_ends[:, joint], shares)",
        "(1 - shares)[:, None, None] * pose_ends[0, joint] + shares[:, None, None] * pose_ends[1, joint]",
    ),
    "m6 bones that shrink between frames": Mistake(
        "joints moved linearly while the hand turns",
        (TEMPORAL + "test_interpolated_bones_keep_their_length",),
        "stages/hands/temporal.py",
        "out[joint] = out[parent] + _turn(a[joint] - a[parent], b[joint] - b[parent], share)",
        "pass",
    ),
    "m6 interpolated frames passed off as measured": Mistake(
        "no flag",
        (TEMPORAL + "test_what_is_filled_is_flagged_and_what_is_measured_is_not",),
        "stages/hands/temporal.py",
        "out.valid[inside, side] = out.interpolated[inside, side] = True",
        "out.valid[inside, side] = True",
    ),
    "m7 a wrist outside the image clamped to its border": Mistake(
        "back-projected from there: centimetres off",
        (HAND_DEPTH + "test_a_keypoint_outside_the_image_has_no_depth_instead_of_the_borders",),
        "stages/hands/hand_depth.py",
        "        return np.zeros(0)  # a keypoint outside has no pixel; clamping it would move the hand by centimetres",
        "        u, v = np.clip(u, 0, width - 1), np.clip(v, 0, height - 1)",
    ),
    "m8 infinite depth taken for depth": Mistake(
        "a positive number is not enough",
        (HAND_DEPTH + "test_depth_that_is_none_is_not_taken_for_depth",),
        "stages/hands/hand_depth.py",
        "patch[np.isfinite(patch) & (patch > 0)]",
        "patch[patch > 0]",
    ),
    "m9 the wrist's depth is the background's": Mistake(
        "one pixel's depth, whatever lies there",
        (HAND_DEPTH + "test_depth_behind_the_hand_is_not_the_hands",),
        "stages/hands/hand_depth.py",
        "near = np.sort(z[np.abs(z - expected[i]) <= reach_m])",
        "near = np.sort(z)",
        also=(FROZEN + "test_wilor_takes_the_wrist_from_metric_depth_over_the_whole_hand",),
    ),
    "m10 hands off the centre turned by the ray to them": Mistake(
        "one camera for the pixel, another for the point",
        (
            WRIST + "test_the_wrist_is_turned_the_same_wherever_in_the_image_the_hand_is",
            FROZEN + "test_wilor_is_packaged_as_truth_for_either_hand",
        ),
    ),
    "m11 wrist in camera k while tracks are in camera 0": Mistake(
        "a still hand moves with the camera",
        (
            WINDOWS + "test_a_still_hand_stays_still_while_the_camera_moves",
            PACKAGE + "test_left_hand_in_camera_0_equals_the_truth",
        ),
        "videolift/dataset/windows.py",
        "T = T_cam0_camk[..., None, :, :] @ np.asarray(T_camera_wrist, np.float64)",
        "T = np.array(T_camera_wrist, np.float64)",
    ),
    "m12 point identities mixed by filtering each timestep alone": Mistake(
        "column n is another point at every step",
        (
            WINDOWS + "test_point_identities_are_not_mixed_when_one_point_leaves_for_a_step",
            WINDOWS + "test_kept_points_follow_the_rule_for_each_point_alone",
            PACKAGE + "test_tracks_hold_exactly_the_points_of_the_rule",
        ),
        "videolift/dataset/windows.py",
        "kept: Bools = good.all(0) & np.asarray(visible)[0]",
        "kept = good.any(0) & np.asarray(visible)[0]",
        also=(FLOW + "test_point_n_is_the_same_point_at_every_step",),
    ),
    "m13 the query clipped after displacements were computed": Mistake(
        "query + displacement is not where the point is",
        (WINDOWS + "test_kept_points_follow_the_rule_for_each_point_alone",),
        "videolift/dataset/windows.py",
        "            kept &= (uvd[0, :, 2] >= depth_range_m[0]) & (uvd[0, :, 2] <= depth_range_m[1])\n",
        "            np.clip(uvd[0, :, 2], *depth_range_m, out=uvd[0, :, 2])\n",
        also=(PACKAGE + "test_tracks_hold_exactly_the_points_of_the_rule",),
    ),
    "m14 statistics over this run's videos only": Mistake(
        "mean 0 and deviation 1 after a resumed run",
        (PUBLISH + "test_statistics_are_not_those_of_this_run_s_videos_only",),
        "videolift/dataset/statistics/merging.py",
        "            statistics.part(*part).merge_packed(arrays)\n",
        "            pass\n",
        also=(PUBLISH + "test_statistics_cover_all_videos_and_equal_those_of_the_arrays",),
    ),
    "m14 statistics summed in float32": Mistake(
        "the order and the number of videos change the figures",
        (
            STATISTICS + "test_statistics_are_not_summed_in_float32",
            STATISTICS + "test_fifty_merge_orders_give_the_same_bytes",
        ),
    ),
    "m15 half-written files counted as done": Mistake(
        "what exists, or opens, is taken for whole",
        (
            STORE + "test_a_file_whose_writer_was_stopped_is_refused",
            DAMAGE + "test_an_artifact_that_is_not_complete_is_refused",
        ),
        "videolift/store.py",
        "elif found[2] != 1:",
        "elif False:",
    ),
    "m15 files written under their final name": Mistake(
        "a kill leaves half of one",
        (
            WRITING + "test_nothing_is_visible_before_publication_and_nothing_stays_after_discard",
            WRITING + "test_a_killed_writer_never_leaves_a_final_name_that_does_not_read",
        ),
        "videolift/artifacts/base.py",
        "self._temporary = temporary_beside(self.final)",
        "self._temporary = self.final",
    ),
    "m15 holes before the last finished video never filled": Mistake(
        "a run resumed after the last file in sorted order",
        ("tests/workflow/test_changes.py::test_what_was_deleted_damaged_or_removed_is_made_again_and_nothing_else",),
    ),
    "m16 every depth pixel of the corpus in memory": Mistake(
        "for a mean and a deviation",
        (STATISTICS + "test_how_rows_are_cut_into_additions_changes_nothing", PUBLISH + "test_only_changed_videos_are_read_again"),
    ),
    "m17 the item of a killed worker lost without a word": Mistake(
        "neither done nor failed", (FAULT + "[2]", FAULT + "[6]", FAULT + "[8]", FAULT + "[30]")
    ),
    "m18 a worker counts as stable before its model is loaded": Mistake(
        "alive for half a second", (FAULT + "[10]", FAULT + "[12]", FAULT + "[15]", FAULT + "[50]")
    ),
    "m19 the newest checkpoint by order of letters": Mistake(
        "checkpoint_900 after checkpoint_1000; here there are receipts per video, and segments with padded names",
        (WRITING + "test_work_goes_on_where_the_last_segment_ended", FAULT + "[47]"),
    ),
    "m20 failures counted as done on resume": Mistake(
        "a result of None is a result", (FAULT + "[47]", "tests/workflow/test_changes.py::test_a_retried_video_is_tried_again")
    ),
    "m21 results kept in the parent until the pool has finished": Mistake(
        "a crash loses all of them", (FAULT + "[3]", FAULT + "[29]", FAULT + "[44]")
    ),
    "m22 a summary that does not count": Mistake(
        "in = done + quarantined + excluded + pending",
        ("tests/workflow/test_bad_videos.py::test_six_bad_of_twenty_are_quarantined_with_reasons_and_the_rest_is_packaged",),
    ),
    "m23 a resolution factor without effect, growing from video to video": Mistake(
        "set on the model, and frames fed at their own size",
        (OWN + "test_the_resolution_factor_is_that_of_what_the_model_is_fed",),
        "stages/tracks/tapip3d.py",
        '* model["image_size"][1] * resolution_factor',
        '* model["image_size"][1]',
    ),
    "m24 lost points kept as visible": Mistake(
        "a threshold of 0 on a sigmoid",
        (OWN + "test_points_the_model_lost_are_not_visible",),
        "stages/tracks/tapip3d.py",
        "seen = 1.0 / (1.0 + np.exp(-logit)) >= limit.visibility",
        "seen = 1.0 / (1.0 + np.exp(-logit)) >= 0.0",
    ),
    "m25 flying pixels at silhouettes": Mistake(
        "depth mixed across an edge",
        (OWN + "test_depth_edges_are_filtered_before_the_model_sees_them",),
        "stages/tracks/tapip3d_worker.py",
        "return rgb, without_edges(depth, K_model)",
        "return rgb, depth",
        also=(CHAIN + "test_depth_is_not_mixed_across_an_edge",),
    ),
    "m26 the end of a clip dropped, and short clips run again for ever": Mistake(
        "no marker",
        (WINDOWS + "test_windows_are_all_starts_that_fit",),
        "videolift/dataset/windows.py",
        "end - window_length + 1, stride",
        "end - window_length, stride",
        also=(FLOW + "test_a_clip_shorter_than_a_window_is_refused_with_what_to_do",),
    ),
    "m27 close-ups of a table refused as flat, again on every run": Mistake(
        "a limit in metres, and no marker",
        (OWN + "test_a_close_up_of_a_table_is_not_flat",),
        "stages/depth/networks/vipe_checks.py",
        "z.std() / np.median(z)) for z in valid",
        "z.std()) for z in valid",
    ),
    "m28 frames at 10 per second said to be at 30": Mistake(
        "the model's sense of time is off by three",
        (OWN + "test_vipe_is_told_the_clips_own_rate",),
        "stages/depth/vipe.py",
        'meta = {"fps": self.clip.fps,',
        'meta = {"fps": 30.0,',
    ),
    "m29 loading of any pickle allowed for the whole process": Mistake(
        "torch.load replaced", (OWN + "test_nobody_replaces_torch_load_and_no_pickle_is_loaded_freely",)
    ),
    "m30 a whole video given to a detector at once": Mistake(
        "one tensor of all frames",
        (OWN + "test_frames_reach_the_hand_model_a_few_at_a_time",),
        "stages/segments.py",
        "    for first in range(start, end, call_frames):\n        part = look(first, min(first + call_frames, end))",
        "    for first in (start,):\n        part = look(first, end)",
    ),
    "m31 the first detection trusted, good frames deleted until it is far": Mistake(
        "a filter that looks one way",
        (
            TEMPORAL + "test_an_outlier_in_the_first_frame_does_not_delete_the_good_ones",
            TEMPORAL + "test_an_outlier_costs_its_own_frames_and_no_good_one",
        ),
        "stages/hands/temporal.py",
        "doomed = min(bursts, key=sizes.__getitem__, default=None)",
        "doomed = 1 if len(pieces) > 1 else None",
    ),
    "m32 intrinsics resized without the half pixel": Mistake(
        "K times the scale",
        (
            GEOMETRY + "test_resizing_the_camera_moves_pixels_as_resizing_the_picture_does",
            PACKAGE + "test_intrinsics_belong_to_the_packaged_size",
            PACKAGE + "test_a_depth_pixel_projects_to_itself_through_the_packaged_camera",
        ),
        "videolift/geometry.py",
        "out[..., axis, 2] = (out[..., axis, 2] + 0.5) * s - 0.5",
        "out[..., axis, 2] = out[..., axis, 2] * s",
    ),
    "d TAPIP3D fed 8 frames or fewer returns frozen tracks": Mistake(
        "half of its own window comes back without motion",
        (FROZEN + "test_tapip3d_refuses_windows_that_would_come_back_without_motion",),
        "stages/tracks/tapip3d.py",
        "if self._settings.window_length < least:",
        "if False:",
    ),
    "d depth resized with INTER_NEAREST": Mistake(
        "half a pixel off",
        (PACKAGE + "test_depth_is_sampled_at_the_nearest_pixel_and_not_clipped",),
        "videolift/dataset/package.py",
        "interpolation=cv2.INTER_NEAREST_EXACT",
        "interpolation=cv2.INTER_NEAREST",
    ),
    "d tracks left unscaled when the frame is resized": Mistake(
        "pixels of the clip held against the packaged square",
        (PACKAGE + "test_tracks_hold_exactly_the_points_of_the_rule",),
        "videolift/dataset/package.py",
        "geometry.view.pixels(uv_clip)",
        "uv_clip",
    ),
    "d sensor depth cut by rounding down": Mistake(
        "what INTER_NEAREST does, for depth of another size than the clip",
        (SENSOR + "test_depth_of_another_size_keeps_points_in_place",),
        "videolift/inputs/framing.py",
        "return (2 * position + 1) * size_from // (2 * size_to)",
        "return position * size_from // size_to",
    ),
    "d views triangulated with poses in the wrong order": Mistake(
        "inv(E_k) @ E_j instead of E_j @ inv(E_k)",
        (DEPTH + "test_exact_flow_gives_exact_depth",),
        "stages/depth/motion/triangulation.py",
        "T_camera_world[partner] @ T_world_frame",
        "T_world_frame @ T_camera_world[partner]",
    ),
    "d stretches of a video joined, each in its own unit": Mistake(
        "a scale-free unit taken for the neighbour's",
        (DEPTH + "test_stretches_are_joined_in_one_world_and_one_unit",),
        "stages/depth/motion/keyframe_chunks.py",
        "T_camera_world[:, :3, 3] *= scale",
        "T_camera_world[:, :3, 3] *= 1.0",
    ),
    "d given poses the wrong way round taken as they are": Mistake(
        "camera to world where world to camera belongs",
        (SENSOR + "test_poses_given_the_wrong_way_round_are_refused",),
        "stages/depth/rgbd.py",
        "if agreement is not None and agreement.inverted:",
        "if agreement is None:",
    ),
    "d flow that starts from whatever was computed last": Mistake(
        "OpenCV's DIS, given no start, takes the last one it was given",
        ("tests/stages/depth/motion/test_features.py::test_flow_does_not_depend_on_what_was_computed_before",),
        "stages/depth/motion/dense_flow.py",
        "grey[end], still)",
        "grey[end], None)",
    ),
    "d 6D of a rotation by rows": Mistake(
        "its transpose",
        (GEOMETRY + "test_6d_is_the_first_two_columns_and_not_rows", PACKAGE + "test_left_hand_in_camera_0_equals_the_truth"),
        "videolift/geometry.py",
        "np.concatenate([R[..., :, 0], R[..., :, 1]], axis=-1)",
        "np.concatenate([R[..., 0, :], R[..., 1, :]], axis=-1)",
    ),
    "p an error that belongs to no item, a load that never reports": Mistake(
        "the bar advances, nobody is told", (FAULT + "[10]", FAULT + "[11]", FAULT + "[14]")
    ),
    "p one full card stops all cards": Mistake("the first failure to start ends it", (FAULT + "[11]", FAULT + "[22]")),
    "p CUDA_VISIBLE_DEVICES overwritten by a raw index": Mistake("breaks masks of SLURM, UUIDs, MIG", (FAULT + "[23]",)),
    "p out of memory printed and nothing else": Mistake("no retry, no figure", (FAULT + "[16]", FAULT + "[17]")),
    "p one line of an error, without traceback or stage": Mistake(
        "nothing to act on", (FAULT + "[5]", FAULT + "[31]", FAULT + "[36]")
    ),
    "p eight workers slower than none on small sets": Mistake(
        "processes that never pay for their start",
        ("tests/videolift/pool/test_sizing.py::test_a_set_too_small_to_pay_for_a_second_worker_gets_one",),
    ),
    "p memory read once, before models load": Mistake(
        "others come later", (FAULT + "[18]", "tests/videolift/pool/test_sizing.py::test_foreign_use_lowers_the_number")
    ),
    "p a whole HDF5 file read into a dictionary for one sample": Mistake(
        "the reader reads windows",
        ("tests/videolift/reader/test_reader.py::test_large_arrays_of_fast_are_read_through_the_memory_map",),
    ),
}
