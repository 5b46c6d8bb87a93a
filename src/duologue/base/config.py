"""Configs: frozen dataclasses to and from plain values, strictly, so that a misspelt field never passes unseen.

A config may hold: bool, int, float, str, None, Path, Literal, enums (written by name, as on the command line), tuples,
lists, dicts with text keys, other dataclasses, and unions of these. Where a union has several dataclasses, the plain
form says which one under the key `type`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from duologue.base.errors import UserError
from duologue.base.files import AnyPath, read_text
from duologue.base.typed import from_plain, to_plain

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


def to_dict(config: DataclassInstance) -> dict[str, Any]:
    """The config as plain values, fields in their order; floats stay floats, infinities too.

    Raises:
        TypeError: a field holds what a config may not hold.
    """
    plain: dict[str, Any] = to_plain(config, type(config))
    return plain


def from_dict(cls: type[C], mapping: Mapping[str, Any], *, place: object = "") -> C:
    """Make a config from plain values; fields left out take their defaults.

    A float field also takes a whole number, and text such as `1e-4`, which YAML 1.1 does not take for a number. Nothing
    else is converted.

    Args:
        cls: the dataclass.
        mapping: its fields, as `to_dict` gives them or a person writes them.
        place: where the mapping was found, for the error line.

    Raises:
        UserError: unknown field, wrong type, missing field, or refused by the dataclass itself.
    """
    config: C = from_plain(mapping, cls, place)
    return config


def overridden(config: C, assignments: Sequence[str], place: str = "--set") -> C:
    """The config with some fields changed.

    Args:
        config: what to change.
        assignments: NAME=VALUE each, as on a command line; the name is dotted, the value YAML.
        place: where they were found, for the error line.

    Raises:
        UserError: not of that form, no such field, or a value that it does not take.
    """
    plain = to_dict(config)
    for name, value in assigned(assignments, place, "use NAME=VALUE, as in steps=10"):
        *parents, last = name.split(".")
        node = plain
        for parent in parents:
            if not isinstance(node.setdefault(parent, {}) or {}, dict):
                raise UserError(f"{parent!r} in {name} has no fields", place=place, mend=f"set {parent} itself")
            node[parent] = node[parent] or {}
            node = node[parent]
        node[last] = value
    return from_dict(type(config), plain, place=place)


def assigned(assignments: Sequence[str], place: str, mend: str) -> Iterator[tuple[str, Any]]:
    """Dotted names and YAML values of NAME=VALUE. Errors: UserError, not of that form; `mend` tells the form."""
    import yaml

    for text in assignments:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not (equals and all(name.split("."))):
            raise UserError(f"{text!r} sets nothing", place=place, mend=mend)
        try:
            yield name, yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"{value!r} is no value", place=f"{place} {name}", mend="use a number or a word") from None


def fingerprint(config: DataclassInstance, *, free: Collection[str] = ()) -> str:
    """Sixteen hex digits that are equal exactly when class name and field values are: stable across processes.

    Args:
        config: what to name.
        free: dotted names of fields that do not count, such as "out".
    """
    named = {"class": type(config).__name__, "fields": without(to_dict(config), free)}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


def without(fields: Mapping[str, Any], free: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Plain fields without those whose dotted names are in `free`."""
    return {
        key: without(value, free, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in fields.items()
        if prefix + key not in free
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the fields in which two plain configs differ, a field that only one has included."""
    names: list[str] = []
    for key in [*old, *(k for k in new if k not in old)]:
        here, there = old.get(key), new.get(key)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            names += differences(here, there, f"{prefix}{key}.")
        elif (key in old) != (key in new) or _text(here) != _text(there):
            names.append(f"{prefix}{key}")
    return names


def to_yaml(value: DataclassInstance | Mapping[str, Any]) -> str:
    """A config, or a mapping of plain values, as YAML in the order of its fields."""
    import yaml

    plain = value if isinstance(value, Mapping) else to_dict(value)
    return str(yaml.dump(dict(plain), Dumper=yaml.SafeDumper, sort_keys=False, width=110))


def read_yaml(path: AnyPath) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        UserError: missing, not YAML (with line and column), or not a mapping.
    """
    import yaml

    try:
        value = yaml.load(read_text(path), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise UserError(f"not YAML: {error.problem}", place=where, mend="mend it there") from None
    except yaml.YAMLError as error:
        raise UserError(f"not YAML: {error}", place=path, mend="write it again") from None
    if not isinstance(value, dict):
        raise UserError("is not a mapping of names to values", place=path, mend="write lines such as `steps: 100`")
    return value


def _text(value: object) -> str:
    # As text, NaN equals itself and 1 differs from 1.0 and True.
    return json.dumps(value, sort_keys=True)
