"""A camera's motion and the depth it shows: corners in, poses and triangulated depth out."""
