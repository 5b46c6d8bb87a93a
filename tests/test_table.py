"""`duologue table`: our rows beside the published ones, with what makes them comparable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duologue.base.errors import UserError
from duologue.bench.table import TableConfig, compare, main, published


def result(task: str, mode: str, n: int, **summary: object) -> dict:
    full = {"n": n, "counts": {"ok": n, "missing": 0, "invalid": 0, "not_exercised": 0}, **summary}
    return {"benchmark": "fdb-v1", "task": task, "mode": mode, "summary": full, "samples": {}}


def test_published_rows_name_known_sources_and_give_numbers() -> None:
    data = published()
    for row in data["rows"]:
        assert row["source"] in data["sources"]
        assert all(isinstance(v, float) for v in row["metrics"].values())


def test_numbers_stand_as_published() -> None:
    rows = {(r["model"], r["task"]): r["metrics"] for r in published()["rows"]}
    assert rows["Moshi", "smooth_turn_taking"] == {"take_over_rate": 0.941, "latency_s": 0.265}
    assert rows["PersonaPlex + RL Seamless", "backchannel"]["jsd"] == 0.786


def test_backchannel_rows_fit_the_script_that_made_them() -> None:
    (table,) = compare([("ours", result("backchannel", "compat", 55, jsd=0.8, backchannel_frequency=0.05))])
    fits = {row.system: row.comparable.startswith("with compat") for row in table.rows[1:]}
    assert fits["PersonaPlex"]
    assert not fits["Moshi"]


def test_corrected_results_compare_with_no_published_row() -> None:
    (table,) = compare([("ours", result("smooth_turn_taking", "corrected", 119, take_over_rate=0.9))])
    assert all(row.comparable.startswith("no") for row in table.rows[1:])


def test_the_pause_set_is_told_by_its_size() -> None:
    (table,) = compare([("ours", result("pause_handling", "compat", 216, take_over_rate=0.5))])
    assert table.rows[0].metrics == {"take_over_rate_candor": 0.5}
    assert "candor" in table.rows[0].comparable


def test_behaviour_is_compared_set_by_set() -> None:
    ours = {"benchmark": "fdb-v1.5", "task": "behavior", "mode": "compat", "samples": {}}
    (table,) = compare([("ours", ours | {"summary": {"n": 98, "counts": {}, "ratios": {"C_RESUME": 0.5}}})])
    assert table.rows[0].metrics == {"C_RESUME_user_backchannel": 0.5}
    assert table.rows[1].metrics["C_RESUME_user_backchannel"] == 0.8
    (table,) = compare([("ours", ours | {"summary": {"n": 100, "counts": {}, "ratios": {"C_RESUME": 0.5}}})])
    assert table.rows[0].metrics == {"C_RESUME": 0.5}  # two sets have 100 samples


def test_columns_without_a_number_are_left_out() -> None:
    (table,) = compare([("ours", result("smooth_turn_taking", "compat", 119, take_over_rate=0.9, latency_s=0.3))])
    assert table.columns == ("take_over_rate", "latency_s")


def test_table_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ours.json"
    path.write_text(json.dumps(result("smooth_turn_taking", "compat", 119, take_over_rate=0.9, latency_s=0.3)))
    config = TableConfig(results=(path,), json=tmp_path / "t.json", markdown=tmp_path / "t.md")
    assert main(config) == 0
    assert "Freeze-Omni" in capsys.readouterr().out
    assert json.loads((tmp_path / "t.json").read_text())[0]["rows"][0]["metrics"]["latency_s"] == 0.3
    assert "| Moshi | 0.941 | 0.265 |" in (tmp_path / "t.md").read_text()


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[]")
    with pytest.raises(UserError, match=r"x\.json"):
        main(TableConfig(results=(path,)))
