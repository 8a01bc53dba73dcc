"""The command ``videolift``, also where only the reader is installed: then it says what else to install."""

import sys

from videolift.interrupts import quiet_start


def start() -> None:
    """Entry point."""
    try:
        with quiet_start():
            from videolift.cli import main as command
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("videolift"):  # a fault of ours, and no extra would mend it
            raise
        sys.exit(f"videolift: {error.name} is missing, this is the reader alone. Type: pip install 'videolift[run]'")
    command()


if __name__ == "__main__":
    start()
