"""Whole descriptions: symmetry, invariance, adding up, pooling; segments and scenes."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings

from dialogue_talk import chatter, said, talk, timelines, without_words
from duologue.base.plain import plain
from duologue.dialogue.distance import DistanceRules
from duologue.dialogue.observe import FLOOR_QUANTITIES, QUANTITIES, Observed, observe
from duologue.dialogue.reference import DISTRIBUTIONS
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent, Segment
from duologue.dialogue.statistics import describe, describe_many
from duologue.dialogue.timeline import Timeline
from duologue.dialogue.utterances import AlignmentRules, HumanRules

RULES = (HumanRules(), AlignmentRules())
QUICK = DistanceRules(draws=20)
FRAMED = ("vap_shift", "vap_hold", "vap_long", "vap_short")


def same(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(np.sort(a), np.sort(b), atol=1e-6)


@pytest.mark.parametrize("rules", RULES, ids=["human", "alignment"])
@given(timeline=timelines())
@settings(max_examples=40, deadline=None)
def test_swapping_the_channels_swaps_the_statistics(rules: HumanRules, timeline: Timeline) -> None:
    there, back = observe(timeline, rules), observe(timeline.swapped(), rules)
    for quantity, (agent, user) in there.values.items():
        same(agent, back.values[quantity][1])
        same(user, back.values[quantity][0])
    assert there.seconds["agent_speaks"] == back.seconds["user_speaks"]
    assert there.seconds["nobody_speaks"] == pytest.approx(back.seconds["nobody_speaks"])


@pytest.mark.parametrize("rules", RULES, ids=["human", "alignment"])
@given(timeline=timelines())
@settings(max_examples=40, deadline=None)
def test_silence_in_front_changes_no_event(rules: HumanRules, timeline: Timeline) -> None:
    """VAP events too, when shifted by whole frames, but for the 3 s of context that they need."""
    later = Timeline(timeline.agent.shifted(6.0), timeline.user.shifted(6.0), timeline.duration + 6.0)
    before, after = observe(timeline, rules), observe(later, rules)
    for quantity in before.values.keys() - set(FRAMED):
        for side in (0, 1):
            same(before.values[quantity][side], after.values[quantity][side])
    assert after.seconds["nobody_speaks"] == pytest.approx(before.seconds["nobody_speaks"] + 6.0)


@given(timelines(), timelines())
@settings(max_examples=40, deadline=None)
def test_two_recordings_joined_at_a_long_silence_add_up(first: Timeline, second: Timeline) -> None:
    """Exact for IPUs, overlaps and shares of time, and under the alignment rule for utterances, pauses, backchannels.

    The silence between the parts adds at most one pause or gap. Turns and what hangs on them do not add up: who holds
    the floor at the end of the first part decides how the second begins.
    """
    at = first.duration + 20.0
    tracks = [
        a.__class__(np.concatenate([a.speech, b.speech + at]), None)
        for a, b in zip(first.tracks, second.tracks, strict=True)
    ]
    whole = Timeline(tracks[0], tracks[1], at + second.duration)
    for rules, names in (
        (HumanRules(), ("ipu", "overlap")),
        (AlignmentRules(), ("ipu", "overlap", "alignment_utterance", "alignment_pause", "alignment_backchannel")),
    ):
        parts = [observe(without_words(t), rules) for t in (first, second)]
        joined = observe(whole, rules)
        for quantity in names:
            for side in (0, 1):
                same(np.concatenate([p.values[quantity][side] for p in parts]), joined.values[quantity][side])
        for key in ("agent_speaks", "user_speaks", "one_speaks", "both_speak"):
            assert joined.seconds[key] == pytest.approx(sum(p.seconds[key] for p in parts))
        silences = sum(count(joined, q) - sum(count(p, q) for p in parts) for q in ("pause", "gap"))
        assert silences in (0, 1)


def count(observed: Observed, quantity: str) -> int:
    return sum(map(len, observed.values[quantity]))


@given(timelines())
@settings(max_examples=40, deadline=None)
def test_shares_of_time_add_up_to_the_recording(timeline: Timeline) -> None:
    seconds = observe(timeline).seconds
    assert seconds["one_speaks"] + seconds["both_speak"] + seconds["nobody_speaks"] == pytest.approx(timeline.duration)
    assert seconds["agent_speaks"] + seconds["user_speaks"] == pytest.approx(
        seconds["one_speaks"] + 2 * seconds["both_speak"]
    )


@given(timelines())
@settings(max_examples=30, deadline=None)
def test_every_quantity_is_explained_and_every_duration_positive(timeline: Timeline) -> None:
    for rules in RULES:
        values = observe(timeline, rules).values
        assert values.keys() <= QUANTITIES.keys()
        for quantity in values.keys() - {q for q in QUANTITIES if q.endswith("offset") or q == "offset_to_nearest_ipu"}:
            assert all(np.all(x >= 0) for x in values[quantity])
    assert QUANTITIES.keys() >= FLOOR_QUANTITIES
    assert DISTRIBUTIONS.keys() <= QUANTITIES.keys()


def test_pooling_weighs_by_events_and_minutes_not_by_recordings() -> None:
    long = talk(said((0.0, 10.0, "we went up to the lake")), said((10.2, 20.0, "which lake was that")), 120.0)
    short = talk(said((0.0, 3.0, "we went up to the lake")), said((3.8, 6.0, "which lake was that")), 30.0)
    pooled = describe_many([long, short, short])
    offsets = pooled.both["floor_transfer_offset"]
    assert (pooled.conversations, pooled.minutes) == (3, 3.0)
    assert (offsets.n, offsets.per_min) == (3, 1.0)
    assert offsets.p50_s == pytest.approx(0.8)
    assert pooled.user["floor_transfer_offset"].n == 3
    assert pooled.agent["floor_transfer_offset"].n == 0
    assert math.isnan(pooled.agent["floor_transfer_offset"].mean_s)
    assert pooled.both["gap"].s_per_min == pytest.approx((0.2 + 0.8 + 0.8) / 3)


def test_how_backchannels_were_known_is_always_said() -> None:
    spoken = chatter(1, 2.0)
    assert describe(spoken, distance=QUICK).form_rule == "lexical"
    assert describe(without_words(spoken), distance=QUICK).form_rule == "duration"
    assert describe_many([spoken, without_words(spoken)], distance=QUICK).form_rule == "mixed"


def test_a_silent_recording_has_no_events_and_no_made_up_numbers() -> None:
    nothing = describe(talk(said(), said(), 30.0))
    assert nothing.both["ipu"].n == 0
    assert math.isnan(nothing.both["ipu"].p50_s)
    assert nothing.seconds_per_min["nobody_speaks"] == pytest.approx(60.0)
    assert plain(nothing.to_json())["both"]["ipu"]["p50_s"] is None


def test_different_rule_sets_are_not_pooled() -> None:
    with pytest.raises(ValueError, match="one rule set"):
        describe_many([])


def test_an_hour_of_talk_is_described_whole() -> None:
    hour = chatter(3, 60.0)
    began = time.perf_counter()
    found = describe(hour)
    print(f"one hour of talk described in {time.perf_counter() - began:.3f} s")
    assert found.both["ipu"].n > 1000
    assert found.both["ipu"].human is not None
    assert found.both["ipu"].human.enough
    assert found.both["backchannel"].n > 50
    total = sum(found.seconds_per_min[k] for k in ("one_speaks", "both_speak", "nobody_speaks"))
    assert total == pytest.approx(60.0, abs=1e-6)
    text = json.dumps(plain(found.to_json()))
    assert json.loads(text)["form_rule"] == "lexical"


def test_segments_and_scenes_refuse_spans_outside_their_time() -> None:
    timeline = talk(said((0.0, 3.0, "we went")), said((4.0, 5.0, "where")), 10.0)
    made = {"id": "a", "axis": "pause", "conversation": "c", "offset": 100.0, "timeline": timeline}
    segment = Segment(**made, start=2.0, end=8.0, events=(ReferenceEvent("turn", 4.0, 5.0, 1),))
    assert segment.codes is None
    for start, end in ((8.0, 2.0), (-1.0, 2.0), (2.0, 11.0)):
        with pytest.raises(ValueError, match="segment a"):
            Segment(**made, start=start, end=end)
    with pytest.raises(ValueError, match="scene"):
        Scene(id="s", timeline=timeline, start=3.0, end=3.0)
    scene = Scene(id="s", timeline=timeline, start=2.0, end=8.0)
    np.testing.assert_allclose(scene.within_span().agent.speech, [[0.0, 1.0]])
