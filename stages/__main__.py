"""``python -m stages STAGE ...``: what the workflow's rules run; a person can paste the same command."""

import sys

from videolift.interrupts import quiet_start

if __name__ == "__main__":
    with quiet_start():
        from stages.job_command import main
    sys.exit(main())
