"""What a run leaves behind beside its artifacts: who did what, what is done, and how a person undoes it."""
