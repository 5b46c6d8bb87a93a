"""Plain values to typed values and back, led by the type annotations; the workings of `config`."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from duologue.base.errors import UserError

_SCALARS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_CONTAINERS = (tuple, list, Sequence, dict, Mapping)


def to_plain(value: Any, hint: Any) -> Any:
    """The plain form of `value`, whose annotation is `hint`.

    Raises:
        TypeError: a value that a config may not hold.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: to_plain(getattr(value, name), h) for name, h in field_hints(type(value)).items()}
        return {"type": type(value).__name__, **fields} if len(_dataclasses(hint)) > 1 else fields
    if value is None or isinstance(value, enum.Enum):
        return None if value is None else value.name
    if isinstance(value, PurePath):
        return str(value)
    for scalar in _SCALARS:
        if isinstance(value, scalar):
            return scalar(value)
    container = next((m for m in _members(hint) if get_origin(m) in _CONTAINERS), None)
    if isinstance(value, (tuple, list)):
        return [to_plain(v, h) for v, h in zip(value, _item_hints(container, len(value)), strict=True)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        hints = _item_hints(container, len(value))
        return {key: to_plain(v, h) for (key, v), h in zip(value.items(), hints, strict=True)}
    raise TypeError(f"a config cannot hold {value!r} of type {type(value).__name__}")


def from_plain(value: Any, hint: Any, place: object = "") -> Any:
    """The typed form of plain `value` under the annotation `hint`.

    Raises:
        UserError: the value does not fit; `place` and the dotted name of the field are in the line.
        TypeError: the annotation is not one that a config may have.
    """
    return _Reader(str(place)).read(value, hint, "")


def field_hints(cls: type) -> dict[str, Any]:
    """The fields that a dataclass is made from, with their annotations resolved and stripped of `Annotated`."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def nearest(word: str, known: Iterable[str]) -> str:
    """A mend for a misspelt word: what was probably meant, or else all there is."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=2, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"use one of {', '.join(names)}" if names else "there is none to choose"


class _Reader:
    """Reads one plain value; holds only where it came from, for the error lines."""

    def __init__(self, place: str) -> None:
        self.place = place

    def error(self, name: str, problem: str, mend: str = "") -> UserError:
        return UserError(problem, place=", ".join(p for p in (self.place, name) if p), mend=mend)

    def read(self, value: Any, hint: Any, name: str) -> Any:
        origin = get_origin(hint)
        if hint in (Any, object):
            return value
        if origin is Literal:
            return self.choice(value, {str(c): c for c in get_args(hint)}, name)
        if origin in (Union, types.UnionType):
            return self.union(value, get_args(hint), name)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self.record(value, hint, name)
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            member = self.choice(value, {m.name: m.name for m in hint}, name)
            return hint[member]
        if isinstance(hint, type) and issubclass(hint, PurePath):
            return hint(self.scalar(value, str, name))
        if hint in (None, type(None)):
            return self.nothing(value, name)
        if hint in _SCALARS:
            return self.scalar(value, hint, name)
        if origin in (tuple, list, Sequence):
            return self.items(value, hint, name)
        if origin in (dict, Mapping):
            return self.table(value, hint, name)
        raise TypeError(f"a config cannot have a field of type {hint}")

    def nothing(self, value: Any, name: str) -> None:
        if value is not None:
            raise self.error(name, f"{value!r} is not empty")

    def scalar(self, value: Any, kind: type, name: str) -> Any:
        # bool is a subclass of int, yet `steps: true` is a mistake.
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
        if kind is float and isinstance(value, str) and _is_float(value):
            return float(value)  # YAML 1.1 reads 1e-4, without a point, as text
        raise self.error(name, f"{_short(value)} is not {_SCALARS[kind]}")

    def choice(self, value: Any, choices: dict[str, Any], name: str) -> Any:
        for choice in choices.values():
            if type(choice) is type(value) and choice == value:
                return choice
        raise self.error(name, f"{_short(value)} is not one of {', '.join(choices)}", _guess(str(value), choices))

    def union(self, value: Any, members: tuple[Any, ...], name: str) -> Any:
        others = [m for m in members if m is not type(None)]
        if value is None and len(others) < len(members):
            return None
        if len(others) == 1:
            return self.read(value, others[0], name)
        if isinstance(value, Mapping) and (records := _dataclasses(Union[members])):  # noqa: UP007
            return self.one_of(value, {cls.__name__: cls for cls in records}, name)
        # The value's own type first: `float | int` keeps 3 an int.
        for member in sorted(others, key=lambda m: m is not type(value)):
            try:
                return self.read(value, member, name)
            except UserError:
                continue
        raise self.error(name, f"{_short(value)} is not {' or '.join(_title(m) for m in members)}")

    def one_of(self, value: Mapping[str, Any], records: dict[str, type], name: str) -> Any:
        if len(records) == 1:
            return self.record(value, next(iter(records.values())), name)
        if "type" not in value:
            raise self.error(name, "does not say its type", f"add `type:` with one of {', '.join(records)}")
        chosen = self.choice(value["type"], {n: n for n in records}, _dotted(name, "type"))
        return self.record({k: v for k, v in value.items() if k != "type"}, records[chosen], name)

    def record(self, value: Any, cls: type, name: str) -> Any:
        if not isinstance(value, Mapping):
            raise self.error(name, f"{_short(value)} is not a mapping of the fields of {cls.__name__}")
        hints = field_hints(cls)
        for key in value:
            if key not in hints:
                raise self.error(name, f"unknown field {key!r} of {cls.__name__}", nearest(str(key), hints))
        missing = [f.name for f in dataclasses.fields(cls) if f.init and _required(f) and f.name not in value]
        if missing:
            raise self.error(name, f"{cls.__name__} needs {', '.join(missing)}", "add it")
        fields = {key: self.read(item, hints[key], _dotted(name, key)) for key, item in value.items()}
        try:
            return cls(**fields)
        except ValueError as error:
            raise self.error(name, str(error)) from None

    def items(self, value: Any, hint: Any, name: str) -> Any:
        if not isinstance(value, (list, tuple)):
            raise self.error(name, f"{_short(value)} is not a list")
        wanted = get_args(hint)
        if get_origin(hint) is tuple and Ellipsis not in wanted and len(value) != len(wanted):
            raise self.error(name, f"{len(value)} values instead of {len(wanted)}")
        hints = _item_hints(hint, len(value))
        read = [self.read(v, h, f"{name}[{i}]") for i, (v, h) in enumerate(zip(value, hints, strict=True))]
        return read if get_origin(hint) is list else tuple(read)

    def table(self, value: Any, hint: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise self.error(name, f"{_short(value)} is not a mapping of names to values")
        hints = _item_hints(hint, len(value))
        return {k: self.read(v, h, _dotted(name, k)) for (k, v), h in zip(value.items(), hints, strict=True)}


def _item_hints(container: Any, count: int) -> list[Any]:
    """One annotation for each of the `count` items of a tuple, list or dict annotated as `container`."""
    wanted = get_args(container)
    if container is None:
        return [Any] * count
    if get_origin(container) is tuple and Ellipsis not in wanted:
        return list(wanted)
    return [wanted[1] if get_origin(container) in (dict, Mapping) else wanted[0]] * count


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _dataclasses(hint: Any) -> list[type]:
    return [m for m in _members(hint) if isinstance(m, type) and dataclasses.is_dataclass(m)]


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _dotted(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _guess(word: str, choices: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _title(hint: Any) -> str:
    """An annotation in words, for an error line."""
    if hint in _SCALARS:
        return _SCALARS[hint]
    if hint is type(None):
        return "nothing"
    if get_origin(hint) is Literal:
        return " or ".join(str(c) for c in get_args(hint))
    if isinstance(hint, type) and get_origin(hint) is None:
        return "a path" if issubclass(hint, Path) else hint.__name__
    return str(hint).replace("typing.", "")
