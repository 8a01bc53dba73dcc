"""``python -m stages.sample DIR``: renders the sample into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from stages.sample.files import write_sample
from videolift.errors import VideoliftError


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m stages.sample DIR", file=sys.stderr)
        return 2
    try:
        write_sample(Path(arguments[0]))
    except VideoliftError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
