"""The packaged dataset: what its files hold, how they are made, merged, described, checked and exported."""
