"""What policies learn from: episodes, state and action of hands."""
