"""Files that are either whole or absent: written aside, then renamed; and JSON that says where it is broken."""

from __future__ import annotations

import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from duologue.base.errors import UserError
from duologue.base.plain import plain

AnyPath: TypeAlias = str | os.PathLike[str]


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, unless it is there.

    Raises:
        UserError: it cannot be made, or not written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make this folder: {error.strerror}", place=folder, mend="choose another") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError("this folder cannot be written to", place=folder, mend="choose another") from None


@contextmanager
def atomic_path(path: AnyPath, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write; rename it to `path` on success, remove it on any failure.

    Readers of `path` see the old content or the new, never a part. The sibling has the same suffix, so that writers
    which choose a format by it work. Missing parent folders are made. The caller may make a folder instead of a file;
    it can take the place of an empty folder only. Links are written through; a device or pipe is written directly.

    Args:
        path: where the content shall be.
        durable: also force the content to disk, so that it survives a power cut. Turn off for caches.

    Raises:
        UserError: `path` is a folder (and a file was written), or its folder cannot be made or written to.
        RuntimeError: the caller wrote nothing.
    """
    if _is_device(path):
        yield Path(path)
        return
    target = Path(os.path.realpath(path))
    make_folder(target.parent)
    # A name of its own: two processes that write the same path do not meet, and the last rename wins.
    aside = target.with_name(f".{target.stem[:40]}.{uuid.uuid4().hex[:12]}.tmp{target.suffix}")
    try:
        yield aside
        if not aside.exists():
            raise RuntimeError(f"nothing was written for {target}")
        if target.is_dir() and not aside.is_dir():
            raise UserError("is a folder", place=path, mend="name a file")
        if durable:
            _sync(aside)
        aside.replace(target)
    finally:
        # After the rename there is nothing left here; before it, whatever was written must go, Ctrl-C included.
        _remove(aside)
    if durable:
        _sync(target.parent)


def write_bytes(path: AnyPath, data: bytes, *, durable: bool = True) -> None:
    """Write `data` as the whole content of `path`, atomically."""
    with atomic_path(path, durable=durable) as aside:
        aside.write_bytes(data)


def write_text(path: AnyPath, text: str, *, durable: bool = True) -> None:
    """Write `text` as UTF-8 with its line ends as they are, atomically."""
    write_bytes(path, text.encode("utf-8"), durable=durable)


def write_json(path: AnyPath, value: object, *, durable: bool = True) -> None:
    """Write `value` as JSON, atomically: two spaces of indent, keys in their order, NaN and infinities as null.

    Dataclasses, enums, paths, sets, numpy scalars and arrays are accepted (see `plain.plain`).
    """
    write_bytes(path, json_line(value, indent=2), durable=durable)


def json_line(value: object, *, indent: int | None = None) -> bytes:
    """`value` as UTF-8 JSON with a line end; without `indent`, on one line."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    # File names may hold lone surrogates, which UTF-8 refuses; this writes them as JSON's own escapes, \udc80.
    return (text + "\n").encode("utf-8", "backslashreplace")


def read_text(path: AnyPath) -> str:
    """Read a UTF-8 file (a byte-order mark is dropped).

    Raises:
        UserError: missing, a folder, not readable, or not UTF-8.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError("no such file", place=path, mend="check the path") from None
    except IsADirectoryError:
        raise UserError("is a folder", place=path, mend="name a file") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", place=path) from None
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 at byte {error.start}", place=path, mend="save it as UTF-8 text") from None


def read_json(path: AnyPath) -> Any:
    """Read a JSON file.

    Raises:
        UserError: as `read_text`, or not JSON; the line then names file, line and column.
    """
    text = read_text(path)
    if not text.strip():
        raise UserError("is empty, not JSON", place=path, mend="write it again")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{os.fspath(path)}, line {error.lineno}, column {error.colno}"
        raise UserError(f"not JSON: {error.msg}", place=place, mend="mend it there or write it again") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON that can be read: {error}", place=path, mend="write it again") from None


def _is_device(path: AnyPath) -> bool:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _sync(path: Path) -> None:
    """Force a file's content, or a folder and everything in it, to disk."""
    if os.name == "nt":  # Windows opens no folder this way and syncs no file opened to read
        return
    if path.is_dir():
        for child in path.iterdir():
            if child.is_file() or child.is_dir():
                _sync(child)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
