"""The workflow as users run it, on the quick stages of tests/fixtures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "resume"))
