"""``python -m stages.models list | install NAME | check``."""

import sys

from stages.models.install import main

if __name__ == "__main__":
    sys.exit(main())
