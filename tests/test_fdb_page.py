"""The page of a scored task: what stands beside what."""

from __future__ import annotations

from duologue.bench.fdb_page import summary_table
from duologue.bench.results import SampleScore, TaskScore
from duologue.bench.summaries import summarise_corrected


def test_the_interval_of_the_take_over_rate_is_beside_that_rate_and_says_so() -> None:
    samples = {
        "1": SampleScore(take_over=1, latency_s=-0.5), "2": SampleScore(take_over=1, latency_s=-0.7),
        "3": SampleScore(take_over=0), "4": SampleScore(status="missing", why="no output"),
    }  # fmt: skip
    task = "smooth_turn_taking"
    score = TaskScore(
        benchmark="fdb-v1", task=task, mode="corrected", summary=summarise_corrected(task, samples), samples=samples
    )
    rows = summary_table(score).rows
    names = [str(name) for name, _ in rows]
    first = names.index("take-over rate")
    beside = ["take-over rate, the unscored going either way", "take-over rate, 95 % interval"]
    assert names[first + 1 : first + 3] == beside
    assert names.index("mean latency (s)") > first + 2
    assert not [name for name in names if name.startswith("its ")]
    assert len(set(names)) == len(names)
