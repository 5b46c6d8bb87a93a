"""v1.5 over folders broken in every way: a status each, and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duologue.bench.fdb_behavior import score_behavior
from duologue.bench.fdb_page import score_page
from duologue.bench.fdb_timing import score_timing
from duologue.bench.fdb_voice import score_before_after
from duologue.bench.hearing import hear
from duologue.bench.results import TaskScore
from fdb_folders import broken


def score(task: str, root: Path, mode: str) -> TaskScore:
    if task == "timing":
        return score_timing(root, mode, hear(sorted(root.glob("*/*put.wav"))))
    if task == "behavior":
        return score_behavior(root, mode, lambda samples: [None] * len(samples))
    return score_before_after(root, mode)


@pytest.mark.parametrize("mode", ["compat", "corrected"])
@pytest.mark.parametrize("task", ["timing", "behavior", "before_after"])
def test_two_hundred_broken_samples_have_two_hundred_statuses(tmp_path: Path, task: str, mode: str) -> None:
    broken(tmp_path, 200)
    result = score(task, tmp_path, mode)
    assert len(result.samples) == sum(result.summary["counts"].values()) == 200
    assert all(sample.why and "\n" not in sample.why for sample in result.samples.values())
    assert sum(result.summary["counts"][s] for s in ("missing", "invalid")) >= 100
    json.dumps(result.to_json(), allow_nan=False)
    page = score_page([(tmp_path, result)], {}, title="broken", command="")
    assert len(page.samples) == 200
