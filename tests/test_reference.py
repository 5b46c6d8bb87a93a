"""Reference agents on the shipped segments: nobody who cannot listen earns what people earn."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.axes import AXES
from duologue.axes.reference_agents import REFERENCE_AGENTS, ReferenceAgent, periodic, silences
from duologue.base.errors import UserError
from duologue.bench.reference import ReferenceConfig, main, read_scenes, reference_rows, z_scores
from duologue.corpus.sample import SegmentPart, sample_segments
from duologue.dialogue.intervals import Intervals, as_intervals
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.timeline import Timeline, Track
from duologue.train.align import read_settings
from duologue.train.align_settings import RewardSettings

PARTS: tuple[SegmentPart, ...] = ("train", "dev", "test")
DEAF = tuple(name for name, agent in REFERENCE_AGENTS.items() if not agent.hears)
WHOLE = ("rollouts.longest_s=null", "rollouts.after_s=null")


@cache
def shipped(part: SegmentPart, whole: bool = False) -> dict[str, list[Scene]]:
    return read_scenes(sample_segments(part), read_settings("nano-demo", WHOLE if whole else ()))


@cache
def earned(part: SegmentPart, whole: bool = False) -> dict[str, dict[str, float]]:
    return reference_rows(shipped(part, whole), RewardSettings())


def scene(user: list[tuple[float, float]], end: float = 10.0) -> Scene:
    timeline = Timeline(Track.of([(0, 1)]), Track.of(user), end)
    return Scene(id="s", timeline=timeline, start=2.0, end=end, events=(ReferenceEvent("turn", 2.0, end, 1),))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("part", PARTS)
class TestShippedSegments:
    def test_the_human_earns_more_than_every_deaf_agent_by_both_sums(self, part: SegmentPart, whole: bool) -> None:
        rows = earned(part, whole)
        for name in DEAF:
            assert rows["human"]["sum_raw"] > rows[name]["sum_raw"] + 0.5, name
            assert rows["human"]["sum_z"] > rows[name]["sum_z"] + 0.5, name

    def test_the_voice_activity_rule_earns_more_than_every_deaf_agent_by_z(
        self, part: SegmentPart, whole: bool
    ) -> None:
        rows = earned(part, whole)
        for name in DEAF:
            assert rows["vad_rule"]["sum_z"] > rows[name]["sum_z"] + 0.25, name

    def test_the_human_answers_nearly_every_turn(self, part: SegmentPart, whole: bool) -> None:
        rows = earned(part, whole)["human"]
        assert rows["turn_taking_answered"] > 0.95
        assert rows["interruption_answered"] > 0.9
        assert rows["pause"] == 0
        assert rows["backchannel"] > 0.99


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.1, 3.0), min_size=1, max_size=3),
    st.lists(st.floats(0.1, 3.0), min_size=1, max_size=3),
    st.floats(0.0, 3.0),
)
def test_no_periodic_agent_earns_what_people_earn(noise: list[float], quiet: list[float], phase: float) -> None:
    pattern = tuple(x for pair in zip(noise, quiet, strict=False) for x in pair)
    agent = ReferenceAgent("periodic", "periodic", False, lambda s: periodic(s, pattern, phase))
    few = {axis: played[:12] for axis, played in shipped("dev").items()}
    rows = reference_rows(few, RewardSettings(), {**REFERENCE_AGENTS, "periodic": agent})
    assert rows["human"]["sum_raw"] > rows["periodic"]["sum_raw"]
    assert rows["human"]["sum_z"] > rows["periodic"]["sum_z"]


def test_the_literal_rules_pay_a_metronome_as_if_it_kept_silent_in_pauses() -> None:
    rows = reference_rows(shipped("dev"), RewardSettings(rules="literal"))
    assert rows["metronome"]["pause"] == 0
    assert earned("dev")["metronome"]["pause"] == -1


def test_literal_rules_and_settings_of_an_axis_exclude_each_other() -> None:
    with pytest.raises(UserError, match="beside literal rules"):
        read_settings("kyutai-2606.11167", ("rewards.pause.join_s=0.5",))


class TestAgents:
    def test_what_was_said_before_the_span_stays_and_the_rest_is_replaced(self) -> None:
        for name, agent in REFERENCE_AGENTS.items():
            speech = agent.play(scene([(2, 5)])).timeline.agent.speech
            assert speech[0].tolist() == [0, 1], name
            assert (speech[1:, 0] >= 2).all()
            assert (speech[:, 1] <= 10).all()

    def test_the_voice_activity_rule_waits_and_yields(self) -> None:
        spans = REFERENCE_AGENTS["vad_rule"].speech(scene([(2, 4), (4.5, 6), (8, 10)]))
        assert spans.tolist() == pytest.approx(np.array([[6.7, 8.5]]))

    def test_uh_huh_comes_after_a_moment_of_silence_again_and_again(self) -> None:
        spans = REFERENCE_AGENTS["uh_huh"].speech(scene([(2, 4), (4.2, 6), (8, 10)]))
        assert spans[:, 0].tolist() == pytest.approx([6.24, 7.38])
        assert (spans[:, 1] - spans[:, 0]).tolist() == pytest.approx([0.9, 0.9])

    def test_the_metronome_keeps_time(self) -> None:
        spans = REFERENCE_AGENTS["metronome"].speech(scene([]))
        assert spans[:3].tolist() == pytest.approx(np.array([[2, 2.4], [2.7, 3.1], [4.2, 4.6]]))

    def test_random_bursts_are_the_same_in_every_run(self) -> None:
        one, two = (REFERENCE_AGENTS["bursts"].speech(scene([])) for _ in range(2))
        assert np.array_equal(one, two)
        assert len(one)


def test_z_scores_are_over_the_agents_of_a_segment() -> None:
    z = z_scores(np.array([[0.0, -1.0], [2.0, 2.0]]))
    assert z.tolist() == [[1.0, -1.0], [0.0, 0.0]]


class TestVerb:
    def test_its_json_holds_part_and_agents(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(ReferenceConfig(part="dev", json=tmp_path / "out.json")) == 0
        kept = json.loads((tmp_path / "out.json").read_text())
        assert kept["part"] == "dev"
        assert set(kept["agents"]) == set(REFERENCE_AGENTS)
        for row in kept["agents"].values():
            assert {*AXES, "sum_raw", "sum_z"} <= set(row)
        assert "voice-activity rule" in capsys.readouterr().out

    def test_a_part_of_a_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="has no parts"):
            main(ReferenceConfig(segments=str(tmp_path), part="test"))

    def test_a_folder_without_segments_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no segments here"):
            main(ReferenceConfig(segments=str(tmp_path)))


def pips(length: float, after: float) -> ReferenceAgent:
    """Noises of `length` seconds, near enough to each other to be one unit, whenever the user is silent."""

    def speech(scene: Scene) -> Intervals:
        spans = []
        for start, end in silences(scene):
            at = start + after
            while at < end:
                spans.append((at, at + length))
                at += length + 0.9
        return as_intervals(spans)

    return ReferenceAgent("pips", "pips", False, speech)


@pytest.mark.parametrize(("length", "after"), [(0.06, 0.04), (0.1, 0.1), (0.3, 0.5)])
def test_noises_of_no_length_in_silences_earn_less_than_people_and_than_the_rule(length: float, after: float) -> None:
    agents = {**REFERENCE_AGENTS, "pips": pips(length, after)}
    rows = reference_rows(shipped("dev"), RewardSettings(), agents)
    assert rows["human"]["sum_raw"] > rows["pips"]["sum_raw"] + 0.5
    assert rows["vad_rule"]["sum_z"] > rows["pips"]["sum_z"]


@pytest.mark.parametrize("after_s", np.arange(1.0, 8.0, 0.5).tolist())
def test_who_counts_from_the_beginning_of_a_cropped_segment_does_not_hit_the_user_s_end(after_s: float) -> None:
    counting = ReferenceAgent("c", "c", False, lambda s: as_intervals([(s.start + after_s, s.end)]))
    axis = "turn_taking"
    rows = reference_rows(
        {axis: shipped("dev")[axis]}, RewardSettings(), {"human": REFERENCE_AGENTS["human"], "c": counting}
    )
    assert rows["c"][axis] < -0.5
