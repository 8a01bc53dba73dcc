"""What work has cost, what a run costs by that, and what many videos cost as a whole."""
