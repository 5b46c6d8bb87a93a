"""A model live against scripted users: who hears what when, slots that take the next scenario, and what comes of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from duologue.audio.babble import babble
from duologue.audio.vad import detect_speech
from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.bench.live import (
    BabbleVoice,
    LiveResult,
    level_dbfs,
    live,
    run_live,
    seed_of,
    speaks,
    user_voices,
)
from duologue.corpus.scenarios import FRAME_S, Act, Scenario, scenarios
from duologue.corpus.scripted import FRAME
from duologue.corpus.spoken import Spoken
from duologue.corpus.voices import VoiceSpec
from duologue.dialogue.timeline import Word
from duologue.engine.bundle import Bundle, load
from duologue.engine.converse import Setup, converse
from duologue.engine.duplex import Duplex, Frame
from duologue.engine.prompts import Prompter, tones
from duologue.model.text import TextTokenizer

Plan = Callable[[int, int], bool]
"""Whether to speak, given the call and for how many calls the user has been silent (0: speaks; -1: never spoke)."""


def _steady(seconds: float, seed: int) -> NDArray[np.float32]:
    """Babble without its pauses."""
    sound, spans = babble(12.0, 24_000, seed)
    talk = np.concatenate([sound[round(a * 24_000) : round(b * 24_000)] for a, b in spans])
    return np.resize(talk, round(seconds * 24_000))


class Speaker:
    """A voice that says everything in 1.2 s, whole frames of it."""

    name, licence = "speaker", "none"
    sound = _steady(1.2, 1)

    def speak(self, text: str) -> Spoken:
        return Spoken(text=text, words=(Word(text, 0.0, 1.2),), samples=self.sound)


class Planned:
    """A stand-in agent: it hears when the user speaks, and speaks as planned; each slot starts its plan anew."""

    sound = _steady(4.0, 2)

    def __init__(self, slots: int, plan: Callable[[], Plan]) -> None:
        self.slots, self._plan, self.calls = slots, plan, 0
        self._plans = [plan() for _ in range(slots)]
        self._call, self._quiet, self._spoke = [0] * slots, [-1] * slots, [0] * slots

    def begin(self, slot: int, seed: int) -> int:
        self._plans[slot], self._call[slot], self._quiet[slot], self._spoke[slot] = self._plan(), 0, -1, 0
        return 0

    def step(self, sound: torch.Tensor, active: Sequence[bool]) -> Frame:
        self.calls += 1
        out = np.zeros((self.slots, FRAME), np.float32)
        for slot in range(self.slots):
            if not active[slot]:
                assert not sound[slot].any()
                continue
            if sound[slot].any():
                self._quiet[slot] = 0
            elif self._quiet[slot] >= 0:
                self._quiet[slot] += 1
            if self._plans[slot](self._call[slot], self._quiet[slot]):
                at = self._spoke[slot] * FRAME % (len(self.sound) - FRAME)
                out[slot] = self.sound[at : at + FRAME]
                self._spoke[slot] += 1
            self._call[slot] += 1
        nothing = torch.zeros(self.slots, 0, dtype=torch.long)
        return Frame(torch.from_numpy(out), nothing, nothing)

    def read(self, tokens: torch.Tensor, heard: torch.Tensor) -> tuple[torch.Tensor, None]:
        return tokens, None


class Answers:
    """Speaks for `seconds`, `after` frames of the user's silence; when spoken to it stops after `stops` frames."""

    def __init__(self, after: int = 5, seconds: float = 6.0, stops: int = 0) -> None:
        self.after, self.frames, self.stops = after, round(seconds / FRAME_S), stops
        self.left, self.spoken_to = 0, 0

    def __call__(self, call: int, quiet: int) -> bool:
        if quiet == self.after:
            self.left = self.frames
        self.spoken_to = self.spoken_to + 1 if quiet == 0 else 0
        if self.spoken_to > self.stops:
            self.left = 0
        self.left = max(0, self.left - 1)
        return self.left > 0


def never_stops() -> Plan:
    return lambda call, quiet: True


def silent() -> Plan:
    return lambda call, quiet: False


def scenario(*acts: Act, name: str = "x", yields: float | None = None, limit: float = 30.0) -> Scenario:
    return Scenario(
        id=name, axis="pause", subject=0, voice="pico/en-US", acts=acts, yields=yields, tail=2.4, limit=limit
    )


TURN = Act(kind="turn", parts=("one",), wait=0.8)
SHORT = scenario(TURN, limit=2.4)


def meet(plan: Callable[[], Plan], *acts: Act, yields: float | None = None) -> LiveResult:
    (found,) = live(Planned(1, plan), [scenario(*acts, yields=yields)], seed=0, voice=lambda s: Speaker())
    return found


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    return load("random:tiny@0", device="cpu")


@pytest.fixture(scope="module")
def wordy(tiny: Bundle) -> Bundle:
    """The same with a tokenizer: two ids for each word given, and a word for each id."""
    spelt = tuple(b" w%d" % i for i in range(128))
    return replace(tiny, text=TextTokenizer(lambda t: [5, 6] * len(t.split()), spelt, silent=frozenset({0, 3})))


def begun(result: LiveResult) -> list[int]:
    return [e.frame for e in result.events if e.what == "begins"]


class TestClock:
    """What is heard when."""

    def test_a_call_s_sound_is_heard_in_the_next_frame(self) -> None:
        found = meet(lambda: lambda call, quiet: 20 <= call < 30, TURN)
        heard = np.flatnonzero(found.active).tolist()
        assert heard == list(range(21, 31))
        loud = [bool(frame.any()) for frame in found.audio.samples[0].reshape(-1, FRAME)]
        assert np.flatnonzero(loud).tolist() == heard

    def test_the_user_reacts_to_what_was_heard_in_the_frame_before(self) -> None:
        cut_in = Act(kind="interruption", parts=("wait",), cue="speaking", wait=1.6)
        found = meet(Answers, TURN, cut_in)
        # The turn lasts 15 frames; five silent frames later the agent speaks, and is heard a frame after that.
        assert begun(found) == [10, 30 + 20]
        assert np.flatnonzero(found.active)[0] == 30
        # The agent hears it in the same frame, and stops a frame later.
        assert found.active[30:52].tolist() == [True] * 21 + [False]

    def test_lines_are_what_was_played(self) -> None:
        act = Act(kind="turn", parts=("one", "two"), pauses=(0.8,), wait=0.8)
        found = meet(silent, act)
        assert [(x.act, x.part, x.cut) for x in found.lines] == [(0, 0, False), (0, 1, False)]
        times = [t for x in found.lines for t in (x.start, x.end)]
        assert times == pytest.approx([0.8, 2.0, 2.8, 4.0])
        loud = np.flatnonzero(np.abs(found.audio.samples[1]) > 0)
        assert loud[0] / 24_000 == pytest.approx(0.8, abs=0.01)
        assert loud[-1] / 24_000 == pytest.approx(4.0, abs=0.01)

    def test_a_user_who_gives_up_is_cut(self) -> None:
        found = meet(never_stops, TURN, yields=0.4)
        (line,) = found.lines
        assert line.cut
        assert line.end - line.start == pytest.approx(6 * FRAME_S)  # 0.4 s of both, and the frame in which it fades

    def test_both_timelines_are_what_a_detector_finds(self) -> None:
        found = meet(Answers, TURN)
        agent, user = (track.speech for track in found.timeline.tracks)
        assert user[0, 0] == pytest.approx(0.8, abs=0.1)
        assert user[-1, 1] == pytest.approx(2.0, abs=0.1)
        assert agent[0, 0] == pytest.approx(2.4, abs=0.1)
        assert np.array_equal(agent, detect_speech([found.audio.channel(0)])[0])
        assert found.timeline.duration == found.audio.duration == pytest.approx(len(found.active) * FRAME_S)
        assert [w.text for w in found.timeline.user.words or ()] == ["one"]
        assert found.timeline.agent.words is None


class TestSlots:
    """Talks do not know of each other."""

    def test_a_slot_takes_the_next_scenario(self) -> None:
        many = [scenario(replace(TURN, wait=0.4 * n), name=f"s{n}") for n in range(1, 6)]
        found = {}
        for slots in (1, 2, 5):
            results = list(live(Planned(slots, Answers), many, seed=0, voice=lambda s: Speaker()))
            assert len(results) == 5
            found[slots] = {r.scenario.id: r for r in results}
        for name, alone in found[1].items():
            for slots in (2, 5):
                assert np.array_equal(found[slots][name].audio.samples, alone.audio.samples)
                assert found[slots][name].events == alone.events

    def test_results_come_one_by_one_as_talks_end(self) -> None:
        talker = Planned(1, silent)
        results = live(talker, [SHORT, SHORT], seed=0, voice=lambda s: Speaker())
        first = next(results)
        assert talker.calls == len(first.active)

    def test_a_model_says_the_same_in_any_number_of_slots(self, tiny: Bundle) -> None:
        many = [scenario(replace(TURN, wait=0.4 * n), name=f"s{n}", limit=1.6 + 0.4 * n) for n in range(1, 4)]
        found = []
        for slots in (1, 3):
            results = run_live(tiny, many, slots=slots, seed=5, voice=lambda s: Speaker())
            found.append({r.scenario.id: r for r in results})
        for other in found[1:]:
            assert found[0].keys() == other.keys()
            for name, alone in found[0].items():
                assert torch.equal(other[name].codes, alone.codes)
                np.testing.assert_allclose(other[name].audio.samples, alone.audio.samples, atol=1e-5)

    def test_each_scenario_has_draws_of_its_own(self, tiny: Bundle) -> None:
        named = [replace(SHORT, id=name) for name in ("a", "b")]
        one, other, again = (
            list(run_live(tiny, named, slots=2, seed=seed, voice=lambda s: Speaker())) for seed in (1, 2, 1)
        )
        codes = [r.codes for r in (*one, *other)]
        assert not any(torch.equal(a, b) for i, a in enumerate(codes) for b in codes[:i])
        assert all(torch.equal(a.codes, b.codes) for a, b in zip(one, again, strict=True))
        assert one[0].seed == seed_of(1, "a") != seed_of(2, "a")


class TestModel:
    """What comes of a model's talk."""

    def test_it_equals_the_talk_with_the_user_s_recording(self, wordy: Bundle) -> None:
        (found,) = run_live(wordy, [SHORT], slots=1, seed=3, voice=lambda s: Speaker())
        codec = wordy.need_codec()
        duplex = Duplex(wordy.lm, codec, 1)
        sampling = replace(wordy.config.sampling, text_seed=found.seed, audio_seed=found.seed)
        prompter = Prompter(duplex.engine, tones(codec, kyutai=False), wordy.need_text)
        user = Audio(found.audio.samples[1:], found.audio.rate)
        (talk,) = converse(duplex, [user], [Setup(sampling=sampling)], prompter, wordy.text)
        assert np.array_equal(talk.audio.samples, found.audio.samples)
        assert torch.equal(talk.codes, found.codes)
        assert found.codes.shape == (17, len(found.active) - wordy.lm.config.user_lag)
        assert talk.words == found.timeline.agent.words
        assert found.timeline.agent.words
        assert found.audio.samples[0].any()

    def test_a_prompt_comes_before_every_talk(self, wordy: Bundle) -> None:
        found = list(run_live(wordy, [SHORT, SHORT], slots=1, seed=0, voice=lambda s: Speaker(), text_prompt="be kind"))
        # "<system> be kind <system>": eight tokens, between six frames of silence twice.
        assert [r.prompt_frames for r in found] == [6 + 8 + 6] * 2
        assert torch.equal(found[0].codes, found[1].codes)

    def test_no_scenarios_are_no_results(self, tiny: Bundle) -> None:
        assert list(run_live(tiny, [], slots=4, seed=0)) == []

    def test_mistakes_end_in_one_line(self, tiny: Bundle) -> None:
        with pytest.raises(UserError, match="0 talks at once"):
            next(run_live(tiny, [SHORT], slots=0, seed=0))
        with pytest.raises(UserError, match="has no text tokenizer"):
            next(run_live(tiny, [SHORT], slots=1, seed=0, voice=lambda s: Speaker(), text_prompt="be kind"))


class TestActivity:
    """Whether the agent is heard to speak: the level of its frames, with hysteresis."""

    @given(st.lists(st.floats(-90, 0), max_size=30))
    def test_it_changes_only_beyond_the_thresholds(self, levels: list[float]) -> None:
        now = False
        for level in levels:
            frame = np.full(FRAME, 10 ** (level / 20), np.float32)
            before, now = now, speaks(now, frame)
            assert now == (level > -40 or (before and level > -50)) or min(abs(level + 40), abs(level + 50)) < 1e-3

    def test_levels(self) -> None:
        assert level_dbfs(np.zeros(FRAME, np.float32)) == -200
        sine = np.sin(np.arange(FRAME) * 2 * np.pi * 100 / 24_000).astype(np.float32)
        assert level_dbfs(sine) == pytest.approx(-3.01, abs=0.01)


class TestVoices:
    """Who speaks for the user."""

    def test_babble_is_taken_for_speech_and_repeats(self) -> None:
        voice = BabbleVoice(3)
        text = "I would like to know how the old lighthouse was built"
        said = voice.speak(text)
        assert said.samples is not None
        assert len(said.samples) == round(said.duration * 24_000)
        assert np.array_equal(said.samples, voice.speak(text).samples)
        assert not np.array_equal(said.samples[:1000], BabbleVoice(4).speak(text).samples[:1000])  # type: ignore[index]
        padded = np.pad(said.samples, 12_000)[None]
        (speech,) = detect_speech([Audio(padded, 24_000)])
        assert (speech[:, 1] - speech[:, 0]).sum() > 0.8 * said.duration

    def test_without_its_engine_a_user_babbles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert user_voices()(scenarios()[0]).name == "mock/babble-0"
        assert user_voices("mock")(scenarios()[1]).name == "mock/babble-1"
        assert user_voices("pico/en-GB@1.1")(scenarios()[0]).name == "pico/en-GB@1.1"
        with pytest.raises(UserError, match="names no voice"):
            user_voices("nobody")(scenarios()[0])

    def test_with_it_each_has_its_own_voice(self) -> None:
        pytest.importorskip("py_nanotts")
        for one in scenarios()[:3]:
            assert user_voices()(one).name == str(VoiceSpec.parse(one.voice))
