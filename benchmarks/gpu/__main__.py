"""Everything there is to see on a card, in order of value, by one command that needs no network.

    python -m benchmarks.gpu --checkouts FOLDER --python PYTHON     # on a card, 30 minutes at most
    python -m benchmarks.gpu --minutes 9 --rows pool limits         # some rows
    python -m benchmarks.gpu --dry                                  # on a CPU, at small size: does it run at all?
    python -m benchmarks.gpu --bundle FILE.tar.gz --checkouts FOLDER    # packs what a machine with torch and numpy lacks

Rows run one after another, each in a process of its own that gets what is left of ``--minutes``; a row that fails or lacks
something is named and the next one runs. ``table.md`` and ``figures.json`` in ``--out`` are written anew after every row. The exit
code is 1 if anything was wrong, 0 if rows were only skipped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gpu.bundle import write_bundle
from benchmarks.gpu.rows import ROWS, Options, run_rows


def gpu_command(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="in all")
    parser.add_argument("--dry", action="store_true", help="small, on a CPU")
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME", help=f"those whose names begin so, of: {', '.join(r.name for r in ROWS)}"
    )
    parser.add_argument(
        "--checkouts", type=Path, help="folder with MoGe, utils3d, TAPIP3D, WiLoR, map-anything, UniCeption, dinov2, sam2"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--site", type=Path, help="folder of more packages for that interpreter; a bundle brings one")
    parser.add_argument("--out", type=Path, default=Path("gpu-figures"))
    parser.add_argument("--bundle", type=Path, help="write this file instead of measuring")
    parser.add_argument(
        "--for-python", default=f"{sys.version_info[0]}.{sys.version_info[1]}", help="version that the bundle is for"
    )
    chosen = parser.parse_args(arguments)
    if chosen.bundle is not None:
        print(write_bundle(chosen.bundle, chosen.checkouts, chosen.for_python))
        return 0
    options = Options(chosen.dry, chosen.python, chosen.checkouts, chosen.site, chosen.out)
    rows = [row for row in ROWS if chosen.rows is None or row.name.startswith(tuple(chosen.rows))]
    return run_rows(rows, options, chosen.minutes * 60)


if __name__ == "__main__":
    sys.exit(gpu_command())
