"""Normalization statistics: exact sums per video, merged over a dataset, as a table and as pictures."""
