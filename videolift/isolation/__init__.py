"""Models in interpreters of their own: the parent's side of a call, the file that the child runs, what checkpoints it may read.

`Isolated` starts the child and asks it. `isolation_child` and `checkpoints` are read by the child's interpreter as single files,
so they import nothing of ours.
"""

from videolift.isolation.isolated import Isolated, child_environment
from videolift.isolation.isolation_child import Arrays

__all__ = ["Arrays", "Isolated", "child_environment"]
