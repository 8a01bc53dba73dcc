"""What the pool decides, as pure functions of frozen values: how many workers, and what a failure means for its item."""
