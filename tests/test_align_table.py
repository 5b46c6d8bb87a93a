"""benchmarks/align_table.py: what a table of alignments rests on."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from duologue.base.config import to_dict, to_yaml
from duologue.base.files import read_json, write_json, write_text
from duologue.train.align import read_settings

CHANGES = ("steps=2",)


@pytest.fixture
def align_table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return import_module("align_table")


def kept(folder: Path, part: str | None = "dev", changes: tuple[str, ...] = CHANGES) -> Path:
    """A run that is done."""
    folder.mkdir()
    record = {"settings": to_dict(read_settings("nano-demo", changes))}
    write_text(folder / "config.yaml", to_yaml({"commit": "abc", "config": {"part": part}, "record": record}))
    write_json(folder / "result.json", {"difference": {"reward_pause": [0.5, 0.0, 1.0]}})
    return folder


def test_the_file_says_rules_part_segments_and_commit(
    align_table: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path / "whole-0")
    out = tmp_path / "t.json"
    assert (
        align_table.main(["-o", str(tmp_path), "--only", "whole", "--seeds", "0", "--steps", "2", "--json", str(out)])
        == 0
    )
    table = read_json(out)
    assert (table["rules"], table["part"], table["commits"]) == (["one_unit"], "dev", ["abc"])
    assert {len(hashed) for hashed in table["segments"].values()} == {16}
    assert "dev" in table["segments"]
    assert "rules ['one_unit']; part dev; segments" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("test", CHANGES, "measured on test, not on dev"),
        (None, CHANGES, "measured on None"),
        ("dev", ("steps=3",), "other settings than now"),
        ("dev", (*CHANGES, "rewards.proxy=true"), "other settings than now"),
    ],
)
def test_a_run_of_another_basis_is_not_kept(
    align_table: ModuleType, part: str | None, changes: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    folder = kept(tmp_path / "whole-0", part, changes)
    with pytest.raises(SystemExit, match=said):
        align_table.run(folder, CHANGES, 0)
