"""Puts what the workflow consists of into the wheel, as data of the package: videolift/_workflow, never a top-level `stages`."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = ("Snakefile", "config.yaml", "workflow", "stages", "envs", "profiles", "thirdparty/models.yaml", "videolift.sbatch")


class WorkflowHook(BuildHookInterface):
    """Runs for wheels; an editable install finds all of it in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a build; ``version`` is ``editable`` or ``standard``."""
        if version == "standard":
            build_data["force_include"] |= {name: f"videolift/_workflow/{name}" for name in SHIPPED}
