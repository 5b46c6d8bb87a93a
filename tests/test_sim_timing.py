"""The simulator's timing: plans mean what the rules find in them, and are timed as people talk."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from duologue.base.errors import UserError
from duologue.corpus.arrange import arrange
from duologue.corpus.mockvoice import MockVoice, mock_pair
from duologue.corpus.script import Line, Script
from duologue.corpus.selfcheck import CHECKED, NOT_HEARD, check, check_plans, measured_rates
from duologue.corpus.sim_heard import heard_words, plan_timeline
from duologue.corpus.sim_phrasing import phrase
from duologue.corpus.sim_timing import Knobs, draw, quantiles
from duologue.corpus.sim_turn import Turn
from duologue.corpus.spoken import Placed, Plan, Spoken
from duologue.dialogue.floor import find_floor
from duologue.dialogue.intervals import total
from duologue.dialogue.observe import observe
from duologue.dialogue.reference import human_reference
from duologue.dialogue.statistics import summarise
from duologue.dialogue.timeline import Timeline, Track, Word

PLAIN = "we went down the road because it rained and my old friend never took his car there, it seems. but you"


def script(number: int, turns: int = 40) -> Script:
    """Turns of human lengths in plain words."""
    rng = np.random.default_rng(number)
    lines = []
    for k in range(turns):
        n = round(draw("turn_words", rng, high=0.97))
        lines.append(Line(side=k % 2, text="surely " + " ".join(rng.choice(PLAIN.split(), max(n - 1, 1)))))
    return Script(id=f"s/{number}", turns=tuple(lines), source="test")


def plan(number: int, knobs: Knobs | None = None, turns: int = 40, seed: int = 0) -> Plan:
    return arrange(script(number, turns), mock_pair(number), knobs or Knobs(), seed)


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [plan(i) for i in range(36)]


def test_hours_of_simulated_talk_pass_their_own_check(plans: list[Plan]) -> None:
    words, speech = check_plans(plans)
    assert words.passed, words.text()
    assert {d.name for d in words.distances} == set(CHECKED)
    assert all(d.n >= 1000 and d.value < 0.05 for d in words.distances)
    assert words.form_rule == "lexical"
    assert speech.form_rule == "duration"
    assert speech.minutes == words.minutes


def test_the_check_looks_at_every_rate_of_the_reference(plans: list[Plan]) -> None:
    found = measured_rates(summarise([observe(plan_timeline(plans[0]))]))
    listed = {k for k in human_reference()["rates_per_call"] if k.endswith("_per_min")}
    assert set(found) | NOT_HEARD == listed


def test_the_check_fails_talk_that_is_not_human() -> None:
    """Two people who take turns like machines: a second of silence after each turn, no pause, no feedback."""
    sides: tuple[list[Word], list[Word]] = ([], [])
    for k in range(300):
        sides[k % 2].append(Word("word", 3.0 * k, 3.0 * k + 2.0))
    talk = Timeline(Track.from_words(sides[0]), Track.from_words(sides[1]), 900.0)
    result = check([talk])
    assert not result.passed
    assert {d.name: d.passed for d in result.distances} == dict.fromkeys(CHECKED, False)
    inside = {r.name: r.inside for r in result.rates}
    assert not inside["backchannels_per_min"]
    assert "NOT OK" in result.text()
    assert result.to_json()["passed"] is False


def test_few_events_do_not_pass_however_near_they_are(plans: list[Plan]) -> None:
    words, _ = check_plans(plans[:4])
    assert min(d.value for d in words.distances) < 0.05
    assert not any(d.passed for d in words.distances)


def test_the_rules_find_the_backchannels_that_were_placed_and_no_turn_that_was_not(plans: list[Plan]) -> None:
    for p in plans[:12]:
        floor = find_floor(plan_timeline(p))
        found = {(u.side, round(u.start, 6)) for u in floor.backchannels}
        asked = {(x.side, round(x.start, 6)) for x in p.placed if x.kind == "backchannel"}
        assert asked
        assert asked <= found
        assert 0.93 * p.truth["turns"] <= len(floor.turns) <= 1.02 * p.truth["turns"]


def test_a_side_never_speaks_twice_at_once_and_everything_lies_inside(plans: list[Plan]) -> None:
    for p in plans[:12]:
        assert list(p.placed) == sorted(p.placed, key=lambda x: (x.start, x.side))
        assert p.placed[0].start >= 0
        assert max(x.end for x in p.placed) < p.duration
        for side in (0, 1):
            own = [x for x in p.placed if x.side == side]
            assert all(b.start >= a.end - 1e-9 for a, b in pairwise(own))
            track = plan_timeline(p).tracks[side]
            assert total(track.speech) == pytest.approx(sum(x.end - x.start for x in own))


def test_all_words_of_the_script_are_said_in_order_but_for_those_of_who_trails_off() -> None:
    calm = plan(5, Knobs(fillers=0, false_starts=0, insertions=0, interruptions=0, backchannels=0))
    for side in (0, 1):
        said = [w.text for x in calm.placed if x.side == side for w in x.spoken.words]
        assert said == [w for t in script(5).turns if t.side == side for w in t.text.split()]
    assert all(x.until is None for x in calm.placed)


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert plan(3) == plan(3)
    assert plan(3).placed != plan(3, seed=1).placed
    renamed = replace(script(3), id="another")
    assert arrange(renamed, mock_pair(3), Knobs(), 0).placed != plan(3).placed


@pytest.mark.parametrize(
    ("knob", "rate"),
    [
        ("pauses", "pauses_per_min"),
        ("backchannels", "backchannels_per_min"),
        ("insertions", "insertions_per_min"),
        ("interruptions", "interruptions_overlap_ge_0.5_s_per_min"),
        ("overlaps", "interruptions_per_min"),
    ],
)
def test_each_knob_turns_its_rate_up_and_down(knob: str, rate: str) -> None:
    values = []
    for level in (0.0, 1.0, 2.5):
        result = check(plan_timeline(plan(i, Knobs(**{knob: level}))) for i in range(5))
        values.append(next(r.value for r in result.rates if r.name == rate))
    assert values[0] < 0.85 * values[1]
    assert values[1] < 0.9 * values[2]
    if knob in ("backchannels", "pauses", "interruptions"):
        assert values[0] == 0.0


@pytest.mark.parametrize(("knob", "kind"), [("fillers", "uh"), ("false_starts", "-")])
def test_disfluencies_follow_their_knobs(knob: str, kind: str) -> None:
    rates = []
    for level in (0.0, 1.0, 3.0):
        quiet = Knobs(interruptions=0, insertions=0, backchannels=0, **{knob: level})
        words = [w.text for i in range(4) for x in plan(i, quiet).placed for w in heard_words(x)]
        rates.append(100 * sum(w in ("uh", "um") if kind == "uh" else w.endswith("-") for w in words) / len(words))
    human = human_reference()["disfluencies"]
    asked = human["fillers_per_100_words" if kind == "uh" else "fragments_per_100_words"]
    assert rates[0] == 0
    assert rates[1] == pytest.approx(asked, rel=0.45)
    assert rates[2] > 1.8 * rates[1]


def test_the_interrupted_trail_off_and_interrupters_give_up(plans: list[Plan]) -> None:
    cut = [x for p in plans for x in p.placed if x.until is not None]
    assert {x.kind for x in cut} == {"turn", "interruption", "false_start"}
    assert all(0 < (x.until or 0) < x.spoken.duration and 0 < x.fade <= (x.until or 0) for x in cut)


def test_pauses_stand_at_plausible_places() -> None:
    rng = np.random.default_rng(0)
    ends: list[bool] = []
    for number in range(60):
        text = script(number, 1).turns[0].text
        pieces = phrase(text, Knobs(fillers=0, false_starts=0), rng)
        assert " ".join(p.text for p in pieces) == text
        ends += [p.text[-1] in ".," or q.text.split()[0] in ("and", "but", "because")
                 for p, q in pairwise(pieces)]  # fmt: skip
    assert len(ends) > 100
    assert np.mean(ends) > 0.6  # 5 of 20 words would make it by chance about 1 time in 4


def test_a_cut_stretch_is_heard_up_to_the_cut() -> None:
    spoken = Spoken(text="one two three", words=(Word("one", 0, 1), Word("two", 1, 2), Word("three", 2, 3)))
    heard = heard_words(Placed(side=0, start=10.0, spoken=spoken, until=1.5))
    assert heard == [Word("one", 10, 11), Word("t-", 11, 11.5)]
    assert [w.text for w in heard_words(Placed(side=0, start=0.0, spoken=spoken, until=2.0))] == ["one", "two"]


def turn(side: int, *spans: tuple[float, float]) -> Turn:
    return Turn(side, tuple(
        Placed(side=side, start=a, spoken=Spoken(text="w", words=(Word("word", 0.0, b - a),))) for a, b in spans
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "offset", "own_end", "fits"),
    [
        (turn(0, (0, 3)), turn(1, (0, 2)), -0.8, -10.0, True),
        (turn(0, (0, 3)), turn(1, (0, 2)), -1.2, -10.0, False),  # too little is left of it to part the other's turns
        (turn(0, (0, 3)), turn(1, (0, 2)), -2.5, -10.0, False),  # ends before the other does: an insertion
        (turn(0, (0, 3)), turn(1, (0, 4)), -3.2, -10.0, False),  # begins before the other
        (turn(0, (0, 3), (4.5, 5)), turn(1, (0, 3)), -0.8, -10.0, False),  # in a silence that ends an utterance
        (turn(0, (0, 3), (3.5, 5)), turn(1, (0, 4)), -1.7, -10.0, True),  # in a pause; the other resumes
        (turn(0, (0, 3), (3.9, 5)), turn(1, (0, 0.4), (0.8, 6)), -1.9, -10.0, False),  # a unit's middle in the pause
        (turn(0, (0, 4)), turn(1, (0, 0.2), (1, 5)), -2.5, -10.0, False),  # the other's middle in its own pause
        (turn(0, (0, 9)), turn(1, (0, 0.5), (2, 5)), -1.0, -10.0, False),  # ends first, though it goes on later
        (turn(0, (1, 3)), turn(1, (0, 2)), 0.3, 1.5, True),
        (turn(0, (1, 3)), turn(1, (0, 2)), -0.5, 2.2, False),  # no middle between its own turns: they would be one
    ],
)
def test_a_turn_follows_where_the_rules_will_find_its_offset(
    before: Turn, after: Turn, offset: float, own_end: float, fits: bool
) -> None:
    assert after.can_follow(before, offset, own_end) is fits


def test_knobs_and_draws() -> None:
    with pytest.raises(UserError, match=r"--knobs.false-starts: -1.* use 0 to 10"):
        Knobs(false_starts=-1.0)
    rng = np.random.default_rng(0)
    drawn = [draw("offset", rng) for _ in range(4000)]
    assert np.percentile(drawn, [25, 50, 75]) == pytest.approx(quantiles("offset")[[25, 50, 75]], abs=0.04)


def test_mock_voices_speak_at_human_rates_and_always_alike() -> None:
    speak = mock_pair(1)
    assert speak(0, "a few plain words") == speak(0, "a few plain words") != speak(1, "a few plain words")
    rates = [8 / mock_pair(i)(i % 2, "we went down there with my old friend").duration for i in range(400)]
    assert np.median(rates) == pytest.approx(3.91, rel=0.06)
    assert speak(0, "").duration == 0.0


def test_voices_that_are_no_average_speakers_pause_nearly_as_often_as_people_do() -> None:
    rates = []
    for tempo in (0.85, 1.0, 1.15):
        voices = [MockVoice(seed=side, tempo=tempo) for side in (0, 1)]
        plans = [arrange(script(i), lambda s, text, v=voices: v[s].speak(text), Knobs(), 0) for i in range(10)]  # type: ignore[misc]
        rates.append({r.name: r.value for r in check(map(plan_timeline, plans)).rates}["ipus_per_min"])
    assert rates == pytest.approx([rates[1]] * 3, rel=0.08)
