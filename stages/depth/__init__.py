"""Depth, camera poses and intrinsics of a clip, by one of several backends: a sensor's file, structure from motion, a model."""
