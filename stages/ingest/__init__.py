"""A video file as the clip that every later stage sees: resampled by true timestamps, upright, cut to size, 8-bit BT.709."""
