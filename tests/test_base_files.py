"""Files are whole or absent, and JSON that cannot be read says where."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.base.errors import UserError
from duologue.base.files import atomic_path, json_line, read_json, read_text, write_bytes, write_json, write_text
from duologue.base.plain import plain


class Mode(Enum):
    FAST = "fast"


@dataclass(frozen=True)
class Point:
    x: float
    tags: frozenset[str] = frozenset()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_parents_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "note.txt", "naïve\r\n")
    assert (tmp_path / "a" / "b" / "note.txt").read_bytes() == "naïve\r\n".encode()
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["note.txt"]


def fail_midway(path: Path, error: BaseException, *, folder: bool = False) -> None:
    with atomic_path(path) as aside:
        if folder:
            aside.mkdir()
        (aside / "part" if folder else aside).write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt()])
@pytest.mark.parametrize("folder", [False, True])
def test_a_failed_write_keeps_the_old_content_and_leaves_nothing(
    tmp_path: Path, error: BaseException, folder: bool
) -> None:
    path = tmp_path / "x.bin"
    write_bytes(path, b"old")
    with pytest.raises(type(error)):
        fail_midway(path, error, folder=folder)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_until_the_end_of_the_block_readers_see_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    write_bytes(path, b"old")
    with atomic_path(path) as aside:
        aside.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert (aside.parent, aside.suffix) == (path.parent, ".wav")
    assert path.read_bytes() == b"new"


def test_a_folder_is_put_in_place_whole(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "step-1") as aside:
        (aside / "deep").mkdir(parents=True)
        (aside / "deep" / "weights").write_text("1")
        assert not (tmp_path / "step-1").exists()
    assert (tmp_path / "step-1" / "deep" / "weights").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def test_writing_nothing_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nothing was written"), atomic_path(tmp_path / "x"):
        pass


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real.txt")
    write_text(tmp_path / "link", "1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "1"


def test_a_device_is_written_directly_and_never_replaced() -> None:
    write_text(os.devnull, "gone")
    assert not Path(os.devnull).is_file()


def test_unwritable_places_end_in_one_line(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "")
    with pytest.raises(UserError, match="cannot make this folder"):
        write_text(tmp_path / "file" / "x.txt", "")
    with pytest.raises(UserError, match="is a folder"):
        write_text(tmp_path, "")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}*"))


@settings(max_examples=60)
@given(JSON)
def test_json_values_come_back_as_they_were(value: object) -> None:
    assert json.loads(json_line(value)) == value
    assert json_line(value).count(b"\n") == 1


def test_values_of_the_project_have_a_json_form() -> None:
    value = {
        "point": Point(float("nan"), frozenset({"b", "a"})),
        "mode": Mode.FAST,
        "path": Path("a/b"),
        "array": np.array([[1.5, np.inf]], dtype=np.float32),
        "scalars": (np.int64(3), np.float64(0.1), np.bool_(True), np.longdouble(0.5)),
        7: -math.inf,
    }
    assert plain(value) == {
        "point": {"x": None, "tags": ["a", "b"]},
        "mode": "fast",
        "path": "a/b",
        "array": [[1.5, None]],
        "scalars": [3, 0.1, True, 0.5],
        "7": None,
    }


@pytest.mark.parametrize("value", [object(), {None: 1}, {(1, 2): 3}, Point, 1j, np.complex64(1)])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        plain(value)


def test_a_file_name_that_is_not_unicode_can_be_written(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"file": "bad-\udc80.wav"})
    assert read_json(tmp_path / "x.json") == {"file": "bad-\udc80.wav"}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'{"a": 1,\n "b": }', "x.json, line 2, column 7: not JSON"),
        (b"", "x.json: is empty"),
        (b'{"a": "\xff"}', "x.json: is not UTF-8 at byte 7"),
        (b"[" * 100_000, "x.json: not JSON that can be read"),
        (b"1" * 5000, "x.json: not JSON that can be read"),
    ],
)
def test_broken_json_names_the_place(tmp_path: Path, content: bytes, line: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json(tmp_path / "x.json")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "x.json") == {"a": 1}


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_text(tmp_path / "none.json")
    with pytest.raises(UserError, match="is a folder"):
        read_text(tmp_path)
