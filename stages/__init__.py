"""What the workflow runs: one folder per stage, one file per backend. Run from the checkout, or as data of the package."""
