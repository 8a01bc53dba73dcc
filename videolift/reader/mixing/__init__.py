"""Several datasets as one: in which order, by which weights."""
