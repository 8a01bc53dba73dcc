"""``videolift models list | install NAME | check``."""

import sys

from stages.models.install import models_command

if __name__ == "__main__":
    sys.exit(models_command())
