"""What the workflow runs: one folder per stage, one file per backend. Run from the checkout, never installed."""
