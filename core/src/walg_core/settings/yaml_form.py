"""YAML configuration files, typed as Go's yaml.v3 does: `off` and `yes` are text, `010` is eight, `1e3` a number."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import yaml

from walg_core.settings.go_values import moment

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TIME = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([Tt ]\d{1,2}:\d{1,2}:\d{1,2}(\.\d+)?(Z|[-+]\d{2}:\d{2})?)?")
_LARGEST = 1 << 64
_TEXT = "tag:yaml.org,2002:str"


def parse_yaml(text: str) -> Any:
    """The document's map, or an empty map for an empty document. Raises ValueError with line and column."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return {}
            if not isinstance(root, yaml.MappingNode):
                raise ValueError("It must be a map of settings to values")
            return _value(loader, root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"line {node.start_mark.line + 1}: a setting's name must be text")
    return str(node.value)


def _value(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        return {_key(key): _value(loader, value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, each) for each in node.value]
    assert isinstance(node, yaml.ScalarNode)
    text = str(node.value)
    tagged_text = node.tag == _TEXT and loader.resolve(yaml.ScalarNode, text, (True, False)) != _TEXT
    return text if node.style is not None or tagged_text else _scalar(text)


def _scalar(text: str) -> Any:
    """A plain scalar's value."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    digits = text.replace("_", "")
    if _INTEGER.fullmatch(digits):
        number = _integer(digits)
        return number if abs(number) < _LARGEST else float(number)
    if _FLOAT.fullmatch(digits):
        return float(digits.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if _TIME.fullmatch(text):
        return _time(text)
    return text


def _integer(digits: str) -> int:
    body = digits.lstrip("+-")
    octal = len(body) > 1 and body.isdigit() and body[0] == "0"
    return int(digits, 8) if octal else int(digits, 0)


def _time(text: str) -> str:
    day, _, clock = text.replace("t", "T").replace(" ", "T").partition("T")
    try:
        whole = date(*map(int, day.split("-")))
        if not clock:
            return moment(datetime(whole.year, whole.month, whole.day, tzinfo=UTC))
        hours, minutes, rest = clock.split(":", 2)
        found = datetime.fromisoformat(f"{whole}T{int(hours):02}:{int(minutes):02}:{rest.zfill(2)}")
        return moment(found if found.tzinfo else found.replace(tzinfo=UTC))
    except ValueError:
        return text
