"""What the user gives: videos, the table that lists them, calibrations, masks."""
