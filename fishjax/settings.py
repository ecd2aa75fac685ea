"""A configuration as text: dotted settings, JSON, and the digest that names it."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from fishjax.config import Config, fields
from fishjax.fields import UsageError, nearest, parse


def override(config: Config, changes: Mapping[str, Any]) -> Config:
    """`config` with dotted names replaced; values may be text, as given on a command line.

    Raises UsageError for an unknown name, a value of the wrong type, or one out of bounds.
    """
    known = fields()
    grouped: dict[str, dict[str, Any]] = {}
    for dotted, value in changes.items():
        if dotted not in known:
            raise UsageError(f"unknown key {dotted!r}{nearest(dotted, known)}")
        section, name = dotted.split(".")
        grouped.setdefault(section, {})[name] = parse(dotted, known[dotted], value)
    replaced = {
        section: dataclasses.replace(getattr(config, section), **values)
        for section, values in grouped.items()
    }
    return dataclasses.replace(config, **replaced)


def parse_settings(settings: Iterable[str]) -> dict[str, str]:
    """`["hyper.lr=0.1", ...]` as a mapping.

    Raises UsageError where there is no `=`, for an unknown key and for one that is set twice.
    """
    pairs: dict[str, str] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set takes key=value, not {text!r}")
        if (key := key.strip()) in pairs:
            raise UsageError(f"--set {key} is given twice, as {pairs[key]} and {value.strip()}")
        pairs[key] = value.strip()
    known = fields()
    for key in pairs:
        if key not in known:
            raise UsageError(f"unknown key {key!r}{nearest(key, known)}")
    return pairs


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """The configuration as `plain` values, by section and name."""
    return plain(dataclasses.asdict(config))


def from_dict(tree: Mapping[str, Mapping[str, Any]]) -> Config:
    """The inverse of `to_dict`; an unknown name is a UsageError."""
    flat = {f"{section}.{name}": v for section, vs in tree.items() for name, v in vs.items()}
    return override(Config(), flat)


def digest(config: Config) -> str:
    """Eight hexadecimal digits that name a configuration (sha256 of its canonical JSON)."""
    text = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def plain(value: Any) -> Any:
    """Settings as JSON values: tuples are lists, an infinite number is the text `inf`."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return "inf" if value == math.inf else value
