"""YAML as people write it, settings and calibrations: nothing deeply nested, no key twice, no objects.

A file of thousands of brackets takes minutes to read and says nothing; of a key that stands twice, YAML drops the first in silence.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

MAX_NESTING = 32
"""Levels; config.yaml has five."""


class PlainLoader(yaml.SafeLoader):
    """Safe YAML with these limits; what breaks them is a `yaml.YAMLError` with line and column."""

    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node and all below it."""
        self._level += 1
        if self._level > MAX_NESTING:
            raise yaml.composer.ComposerError(
                None, None, f"more than {MAX_NESTING} levels of brackets or indentation", self.get_mark()
            )
        # Refused while composing, before any value is made: it is the nesting that takes the time.
        try:
            return super().compose_node(parent, index)
        finally:
            self._level -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping whose keys are all different."""
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:  # with the tag: the text "1" and the number 1 are two keys
                    text = f"the key {key.value!r} stands twice in one mapping"
                    raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """What the text of a YAML file says.

    Raises:
        yaml.YAMLError: no YAML, nested too deeply, or a key twice.
    """
    return yaml.load(text, PlainLoader)  # noqa: S506  a SafeLoader
