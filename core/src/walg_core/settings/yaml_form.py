"""YAML configuration files. A value is the text as it is written (`off`, `0123`, `1e9` stay what they are)."""

from __future__ import annotations

from typing import Any

import yaml

_NULL = frozenset(("", "~", "null", "Null", "NULL"))


def parse_yaml(text: str) -> Any:
    """The document's map, or None-free empty map for an empty document. Raises ValueError with line and column."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return {}
            if not isinstance(root, yaml.MappingNode):
                raise ValueError("It must be a map of settings to values")
            loader.flatten_mapping(root)
            return {_key(key): _value(loader, value) for key, value in root.value}
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"line {node.start_mark.line + 1}: a setting's name must be text")
    return str(node.value)


def _value(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        plain = node.style is None
        return None if plain and node.value in _NULL else node.value
    return loader.construct_object(node, deep=True)
