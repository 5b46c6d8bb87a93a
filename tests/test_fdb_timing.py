"""v1.5 timing: the official interval lists, and what of them belongs to the overlap event."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.bench.fdb_timing import joined, overlap_intervals, response_intervals, score_timing
from duologue.bench.hearing import hear
from fdb_folders import make_sample

spans = st.lists(st.tuples(st.floats(0, 30), st.floats(0.05, 4)), max_size=8).map(
    lambda pairs: joined(np.array([(s, s + n) for s, n in pairs]).reshape(-1, 2), 0.5)
)


def stated_overlaps(users, agents):
    """Two pointers that walk on past whichever span ends first, as the official script does."""
    found, i, j = [], 0, 0
    while i < len(users) and j < len(agents):
        low, high = max(users[i][0], agents[j][0]), min(users[i][1], agents[j][1])
        if high > low:
            found.append((low, high))
        i, j = (i + 1, j) if users[i][1] < agents[j][1] else (i, j + 1)
    kept = {}
    for low, high in found:
        key = round(high * 1000)
        if key not in kept or high - low < kept[key][1] - kept[key][0]:
            kept[key] = (low, high)
    return [(round(s, 3), round(e, 3)) for s, e in sorted(kept.values(), key=lambda x: x[1])]


@settings(max_examples=500, deadline=None)
@given(spans, spans)
def test_double_talk_equals_the_official_walk(users, agents) -> None:
    assert overlap_intervals(users, agents) == stated_overlaps(users, agents)


@settings(max_examples=500, deadline=None)
@given(spans, spans)
def test_each_response_runs_from_the_latest_user_end_to_the_next_agent_start(users, agents) -> None:
    for end, start in response_intervals(users, agents):
        assert not [e for _, e in users if end + 0.001 < e < start - 0.001]
        assert not [s for s, _ in agents if end + 0.001 < s < start - 0.001]


def test_a_start_at_the_user_s_very_end_is_no_response() -> None:
    assert response_intervals([(0, 1), (3, 4)], [(1, 2), (5, 6)]) == [(4, 5)]
    assert response_intervals([(0, 1)], [(1.5, 2)]) == [(1, 1.5)]


def test_speech_joins_over_the_gap_and_not_over_more() -> None:
    assert joined(np.array([[0, 1], [1.5, 2], [2.6, 3]]), 0.5) == [(0, 2), (2.6, 3)]


@pytest.mark.parametrize("mode", ["compat", "corrected"])
def test_the_official_interruption_sample(tmp_path: Path, shared_data: Path, mode: str) -> None:
    source = shared_data / "full-duplex-bench" / "user_interruption_example" / "1"
    event = json.loads((source / "interrupt.json").read_text())[0]
    metadata = {
        "context_text": event["context"],
        "current_turn_text": event["interrupt"],
        "timestamps": event["timestamp"],
    }
    folder = make_sample(tmp_path, "1", metadata=metadata)
    for name in ("input.wav", "output.wav"):
        (folder / name).write_bytes((source / name).read_bytes())
    result = score_timing(tmp_path, mode, hear([folder / "output.wav"]))
    sample = result.samples["1"]
    assert sample.status in ("ok", "not_exercised")
    if mode == "compat":
        assert sample.details["latency_resp_list"]
        assert sample.latency_s == pytest.approx(4.0, abs=0.3)


def test_a_sample_without_sound_is_missing(tmp_path: Path) -> None:
    make_sample(tmp_path, "1", metadata={"context_text": "", "current_turn_text": "", "timestamps": [1, 2]})
    assert score_timing(tmp_path, "compat", {}).samples["1"].status == "missing"
    assert score_timing(tmp_path, "corrected", {}).samples["1"].status == "missing"
