"""`metrics.jsonl`: one JSON object a line, appended as a run goes on; a line cut off by a kill does no harm.

A line counts once its object is whole. Only the last line can be cut, since a line is one write to the end of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.base.errors import UserError
from duologue.base.files import AnyPath, json_line, write_bytes


def append_row(path: AnyPath, row: Mapping[str, object]) -> None:
    """Append `row` to the file as one line, handed to the system before this returns; NaN becomes null."""
    line = json_line(row)
    with Path(path).open("ab", buffering=0) as file:
        file.write(line)


def read_rows(path: AnyPath) -> list[dict[str, Any]]:
    """All whole rows of the file, in their order; no file, no rows.

    Raises:
        UserError: a line other than the last is not a JSON object; file and line are named.
    """
    lines = _bytes(path).split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif line.strip() and number < len(lines):
            raise UserError("not a JSON object", place=f"{path}, line {number}", mend="remove the line")
    return rows


def repair(path: AnyPath) -> None:
    """Make the file end with a whole line, so that rows can be appended: drop a cut last line, end an unended one."""
    data = _bytes(path)
    if not data or data.endswith(b"\n"):
        return
    whole, _, last = data.rpartition(b"\n")
    kept = data + b"\n" if _row(last) is not None else whole + b"\n" * bool(whole)
    write_bytes(path, kept)


def rewind(path: AnyPath, step: int) -> None:
    """Drop the rows whose "step" is greater than `step`, as when a run goes on from the checkpoint of that step."""
    rows = read_rows(path)
    kept = [row for row in rows if row.get("step", step) <= step]
    if len(kept) < len(rows):
        write_bytes(path, b"".join(map(json_line, kept)))


def _bytes(path: AnyPath) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return b""


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:  # a character may be cut in two as well
        return None
    return value if isinstance(value, dict) else None
