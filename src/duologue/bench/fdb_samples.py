"""Full-Duplex-Bench v1 and v1.5 on disk: one folder per sample, read with names for what is missing or broken.

Layout (documented in the benchmark's README, versions of 2025-03 to 2026-04): `{ROOT}/{ID}/input.wav` is what the user
said, `output.wav` what the system answered on the same clock, `output.json` the recognised words of the answer, and one
event file per task says when the user paused, ended or interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVarTuple, Unpack

from duologue.base.errors import UserError
from duologue.base.files import read_json
from duologue.bench.results import SampleScore

Inputs = TypeVarTuple("Inputs")


class MissingFileError(Exception):
    """A sample lacks a file that its task needs; the sample gets the status `missing`."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """The user talks into the agent's turn from `start` to `end` seconds (interrupt.json)."""

    context: str
    interrupt: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class OverlapEvent:
    """v1.5: something is heard over the agent's turn from `start` to `end` seconds (metadata.json)."""

    context: str
    text: str
    start: float
    end: float


def sample_folders(root: Path) -> list[Path]:
    """The sample folders of a task, in natural order ("2" before "10"); hidden ones are passed over.

    Errors: UserError when `root` is not a folder or holds no sample folder.
    """
    if not root.is_dir():
        raise UserError("is not a folder", place=root, mend="give the folder that holds one sub-folder per sample")
    folders = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")]
    if not folders:
        raise UserError(
            "holds no sample folder", place=root, mend="give the folder that holds one sub-folder per sample"
        )
    return sorted(folders, key=lambda p: (not p.name.isdecimal(), int(p.name) if p.name.isdecimal() else 0, p.name))


def attempt(score: Callable[[Unpack[Inputs]], SampleScore], *inputs: *Inputs) -> SampleScore:
    """Score one sample; what its files lack or break becomes its status instead of ending the run."""
    try:
        return score(*inputs)
    except MissingFileError as error:
        return SampleScore(status="missing", why=str(error))
    except UserError as error:
        return SampleScore(status="invalid", why=str(error))


def need(folder: Path, name: str) -> Path:
    """The path of a file that the task cannot do without. Errors: MissingFileError."""
    path = folder / name
    if not path.is_file():
        raise MissingFileError(f"{name} is missing")
    return path


def read_pauses(path: Path) -> list[tuple[float, float]]:
    """pause.json: the user's pauses, seconds."""
    return [_span(_field(item, "timestamp", path, i), path, i) for i, item in enumerate(_items(path))]


def read_turn_end(path: Path) -> float:
    """turn_taking.json: the end of the user's turn, the only number of that file that the benchmark uses."""
    return _span(_field(_items(path)[0], "timestamp", path, 0), path, 0)[0]


def read_interruption(path: Path) -> Interruption:
    """interrupt.json."""
    item = _items(path)[0]
    start, end = _span(_field(item, "timestamp", path, 0), path, 0)
    context, interrupt = (_text(_field(item, key, path, 0), path, key) for key in ("context", "interrupt"))
    return Interruption(context, interrupt, start, end)


def read_overlap_event(path: Path) -> OverlapEvent:
    """metadata.json of v1.5."""
    item = read_json(path)
    start, end = _span(_field(item, "timestamps", path, 0), path, 0)
    context, text = (_text(_field(item, key, path, 0), path, key) for key in ("context_text", "current_turn_text"))
    return OverlapEvent(context, text, start, end)


def read_rating(path: Path) -> float:
    """rating.json, as the official judge script leaves it: {"analysis": str, "rating": 0..5}."""
    rating = _field(read_json(path), "rating", path, 0)
    if isinstance(rating, bool) or not isinstance(rating, int | float) or not 0 <= rating <= 5:
        raise UserError(f"rating {rating!r} is not a number from 0 to 5", place=path, mend="run the judge again")
    return float(rating)


def read_tags(path: Path) -> list[str]:
    """content_tag.json of v1.5: {"behaviour": ["C_..."]}."""
    tags = _field(read_json(path), "behaviour", path, 0)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise UserError(f"behaviour {tags!r} is not a list of tags", place=path, mend="run the judge again")
    return tags


def _items(path: Path) -> list[Any]:
    value = read_json(path)
    if not isinstance(value, list) or not value:
        raise UserError("is not a list with at least one event", place=path, mend="take the benchmark's own file")
    return value


def _field(item: object, key: str, path: Path, index: int) -> Any:
    if not isinstance(item, dict) or key not in item:
        raise UserError(f"item {index} has no {key!r}", place=path, mend="take the benchmark's own file")
    return item[key]


def _text(value: object, path: Path, key: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{key} is {value!r}, not text", place=path, mend="take the benchmark's own file")
    return value


def _span(value: object, path: Path, index: int) -> tuple[float, float]:
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 2 or any(isinstance(x, bool) or not isinstance(x, int | float) for x in numbers):
        raise UserError(f"item {index}: timestamp {value!r} is not [start, end]", place=path, mend="give seconds")
    start, end = float(numbers[0]), float(numbers[1])
    if not (math.isfinite(start) and math.isfinite(end) and start <= end):
        raise UserError(f"item {index}: timestamp {value!r} is not start <= end", place=path, mend="give seconds")
    return start, end
