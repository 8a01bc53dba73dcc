"""What runs the stages: the plan, batches, workers, and the verdict."""
