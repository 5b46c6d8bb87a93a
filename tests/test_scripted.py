"""The scripted user: two hundred scenarios that never change, and reactions to agents of every kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.base.errors import UserError
from duologue.corpus.scenarios import (
    AXES,
    FRAME_S,
    SCENARIOS_SHA256,
    Act,
    Scenario,
    fingerprint,
    scenarios,
)
from duologue.corpus.scripted import FRAME, Event, ScriptedUser, UserState, advance, user_for
from duologue.corpus.spoken import Spoken
from duologue.corpus.voices import VoiceSpec
from duologue.dialogue.lexicon import human_lexicon, plain_words
from duologue.dialogue.timeline import Word

Agent = Callable[[int, bool], bool]


class Second:
    """A voice that says everything in one second, with sound."""

    name, licence = "second", "none"

    def speak(self, text: str) -> Spoken:
        return Spoken(text=text, words=(Word(text, 0.0, 1.0),), samples=np.full(24_000, 0.1, np.float32))


def meet(scenario: Scenario, agent: Agent) -> tuple[ScriptedUser, list[bool]]:
    """Let them talk until the user leaves; the agent hears the user, and is heard, a frame later."""
    user, active, heard, n = ScriptedUser(scenario, Second()), False, [], 0
    while not user.over:
        play = user.step(active, n)
        heard.append(active)
        active = agent(n, play is not None)
        n += 1
        assert n < 2000
    return user, heard


def silent(n: int, user: bool) -> bool:
    return False


def talking(n: int, user: bool) -> bool:
    return True


class Polite:
    """Answers for `seconds` after 0.64 s of silence, and stops when spoken to."""

    def __init__(self, seconds: float = 6.0) -> None:
        self.frames, self.left, self.quiet, self.asked = round(seconds / FRAME_S), 0, 0, False

    def __call__(self, n: int, user: bool) -> bool:
        if user:
            self.left, self.quiet, self.asked = 0, 0, True
            return False
        self.quiet += 1
        if self.asked and self.quiet == 8:
            self.left, self.asked = self.frames, False
        self.left = max(0, self.left - 1)
        return self.left > 0


def one(*acts: Act, yields: float | None = None) -> Scenario:
    return Scenario(id="x", axis="pause", subject=0, voice="pico/en-US", acts=acts, yields=yields, tail=0.8)


def told(user: ScriptedUser) -> list[tuple[str, int]]:
    return [(e.what, e.frame) for e in user.events]


TURN = Act(kind="turn", parts=("one",), wait=0.8)


def test_the_scenarios_never_change() -> None:
    assert fingerprint(scenarios()) == SCENARIOS_SHA256


def test_they_are_two_hundred_balanced_and_of_their_own_text() -> None:
    made = scenarios()
    assert len({s.id for s in made}) == 200
    assert Counter(s.axis for s in made) == dict.fromkeys(AXES, 40)
    assert all(VoiceSpec.parse(s.voice).engine == "pico" for s in made)
    assert 60 <= sum(s.yields is None for s in made) <= 140
    for s in made:
        for act in s.acts:
            assert len(act.pauses) == max(0, len(act.parts) - 1)
            assert bool(act.parts) != (act.kind == "silence")
    openings = [s.acts[0].parts for s in made]
    assert len(set(openings)) == 40 * 3  # three axes open with the subject's question
    nods = {a.parts[0] for s in made for a in s.acts if a.kind == "backchannel"}
    assert all(human_lexicon().is_backchannel(plain_words(nod)) for nod in nods)


def test_a_pause_is_held_whatever_the_agent_does() -> None:
    act = Act(kind="turn", parts=("one", "two"), pauses=(1.6,), wait=0.8)
    for agent in (silent, Polite()):
        user, _ = meet(one(act), agent)
        # 0.8 s, one second in 13 frames, 1.6 s of pause.
        assert told(user)[:4] == [("begins", 10), ("pauses", 22), ("goes_on", 43), ("ends", 55)]


def test_it_takes_its_turn_when_the_agent_s_ends_and_not_before() -> None:
    user, heard = meet(one(TURN, Act(kind="turn", parts=("two",), cue="turn_end", wait=0.4)), Polite(6.0))
    begins = [e.frame for e in user.events if e.what == "begins"]
    last = max(n for n, active in enumerate(heard[: begins[1]]) if active)
    assert begins[1] == last + 5
    assert not any(e.impatient for e in user.events)


def test_a_short_noise_of_the_agent_is_not_a_turn() -> None:
    user, _ = meet(one(TURN, Act(kind="turn", parts=("two",), cue="turn_end", wait=0.4, patience=4.0)),
                   lambda n, user: 30 <= n < 35)  # fmt: skip
    second = [e for e in user.events if e.what == "begins"][1]
    assert second.impatient
    assert second.frame > 35 + 40


def test_it_breaks_in_after_so_many_seconds_of_talk() -> None:
    user, heard = meet(one(TURN, Act(kind="interruption", parts=("wait",), cue="speaking", wait=2.4)), Polite(20.0))
    begins = [e.frame for e in user.events if e.what == "begins"]
    first = next(n for n, active in enumerate(heard) if active)
    assert begins[1] - first == 29  # the 30th frame of its talk
    assert not any(heard[begins[1] + 2 : begins[1] + 16])  # and the polite agent stops


def test_it_nods_while_the_agent_talks_and_leaves_the_nod_out_when_it_does_not() -> None:
    nod = Act(kind="backchannel", parts=("uh-huh",), cue="speaking", wait=1.6, patience=2.4)
    user, _ = meet(one(TURN, nod), talking)
    assert [e.what for e in user.events] == ["begins", "ends", "begins", "ends", "leaves"]
    quiet, _ = meet(one(TURN, nod), silent)
    assert [e.what for e in quiet.events] == ["begins", "ends", "leaves_out", "leaves"]


def test_it_falls_silent_for_its_time() -> None:
    acts = (TURN, Act(kind="silence", wait=8.0), Act(kind="turn", parts=("back",)))
    for agent in (silent, Polite(), talking):
        user, _ = meet(one(*acts), agent)
        times = dict(told(user))
        assert times["comes_back"] - times["falls_silent"] == 99
        assert all(p is None for p in user.played[times["falls_silent"] : times["comes_back"] + 1])


def test_it_yields_only_if_it_is_one_who_does() -> None:
    stubborn, _ = meet(one(TURN), talking)
    meek, _ = meet(one(TURN, yields=0.4), talking)
    assert [e.what for e in stubborn.events] == ["begins", "ends", "leaves"]
    assert told(meek)[:2] == [("begins", 10), ("yields", 15)]
    assert meek.played[15] is not None
    assert meek.played[15].last
    assert meek.track().words == (Word("one", pytest.approx(0.8), pytest.approx(1.28)),)  # type: ignore[comparison-overlap]
    fading = meek.sound(meek.played[15])
    assert abs(fading[-1]) < 1e-6 < abs(fading[0])


def test_who_breaks_in_does_not_yield_at_once() -> None:
    user, _ = meet(one(TURN, Act(kind="interruption", parts=("wait",), cue="speaking", wait=0.8), yields=0.4), talking)
    assert [e.what for e in user.events] == ["begins", "yields", "begins", "ends", "leaves"]


def test_each_turn_needs_an_answer_of_its_own() -> None:
    reply = Act(kind="turn", parts=("two",), cue="turn_end", wait=0.4, patience=4.0)
    user, _ = meet(one(TURN, reply, reply), lambda n, user: 30 <= n < 60)
    assert [e.impatient for e in user.events if e.what == "begins"] == [False, False, True]


def test_an_agent_that_never_stops_is_left() -> None:
    made = replace(one(TURN, Act(kind="turn", parts=("two",), cue="turn_end", wait=0.4)), limit=20.0)
    user, _ = meet(made, talking)
    assert user.events[-1] == Event(frame=250, act=1, what="leaves", impatient=True)


@pytest.mark.parametrize("agent", ["silent", "talking", "polite"])
def test_every_scenario_ends(agent: str) -> None:
    for scenario in scenarios():
        user, _ = meet(scenario, {"silent": silent, "talking": talking, "polite": Polite()}[agent])
        assert user.events[-1].what == "leaves"
        if agent != "talking":
            assert user.state.act == len(scenario.acts)
        if agent == "polite":
            assert not any(e.impatient for e in user.events)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 199), st.lists(st.booleans(), min_size=1, max_size=400))
def test_steps_are_a_function_of_what_was_heard(which: int, heard: list[bool]) -> None:
    scenario = scenarios()[which]
    one_user, lengths = ScriptedUser(scenario, Second()), ScriptedUser(scenario, Second()).lengths
    state, before = UserState(), None
    for n, active in enumerate(heard):
        state, play, _ = advance(scenario, lengths, state, active)
        assert one_user.step(active, n) == play
        assert one_user.state == state
        if play is not None and play.frame > 0:  # a part is played frame by frame, without holes
            assert before == replace(play, frame=play.frame - 1, last=False)
        before = play
    assert state.frame == len(heard)


def test_frames_of_sound_make_up_the_line() -> None:
    user = ScriptedUser(one(TURN), Second(), level=-20.0)
    sound = np.concatenate([user.sound(user.step(False, n)) for n in range(30)])
    assert len(sound) == 30 * FRAME
    assert np.flatnonzero(sound)[0] == 10 * FRAME
    assert np.count_nonzero(sound) == 24_000
    with pytest.raises(ValueError, match="frame 5 given, 30 expected"):
        user.step(False, 5)
    mute = ScriptedUser(one(TURN))
    play = next(p for p in (mute.step(False, n) for n in range(30)) if p)
    with pytest.raises(UserError, match="has no sound"):
        mute.sound(play)


def test_it_speaks_with_the_scenario_s_own_voice() -> None:
    asked = []

    def voice_of(name: str) -> Second:
        asked.append(name)
        return Second()

    user_for(scenarios()[7], voice_of)
    assert asked == [scenarios()[7].voice]
