"""Any value of the project as plain JSON values: dict, list, str, int, float, bool, None."""

from __future__ import annotations

import dataclasses
import enum
import math
import sys
from collections.abc import Mapping, Set
from pathlib import PurePath
from typing import Any


def plain(value: object) -> Any:
    """Turn `value` into plain JSON values.

    NaN and infinities become None, since JSON has no word for them. Dataclasses become dicts, enum members their
    values, paths strings, sets sorted lists, numpy scalars and arrays numbers and nested lists.

    Raises:
        TypeError: something in it has no JSON form; the message names its type.
    """
    match value:
        case enum.Enum():
            return plain(value.value)
        case None | bool():
            return value
        case str():
            return str(value)
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {_key(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case Set():
            return sorted((plain(v) for v in value), key=lambda v: (type(v).__name__, v))
        case PurePath():
            return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return _plain_numpy(value)


def _key(key: object) -> str:
    """A mapping's key as JSON writes it; only text and whole numbers can be read back by eye."""
    flat = plain(key)
    if isinstance(flat, (str, int)) and not isinstance(flat, bool):
        return str(flat)
    raise TypeError(f"{key!r} cannot be a key of a JSON object")


def _plain_numpy(value: object) -> Any:
    # numpy is slow to import; where nobody has imported it, no value can be one of its own.
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.floating):
        return plain(float(value))
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return plain(value.tolist())
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")
