"""Voices by name: what they say begins and ends with speech, with a time for every word, and always the same."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.base.errors import UserError
from duologue.corpus import align as align_module
from duologue.corpus import voices
from duologue.corpus.align import align, proportional, sounds, spelled
from duologue.corpus.voices import SynthVoice, VoiceSpec, draw_voice, find_voice, fluent_text, trimmed

RATE = 24_000


class ToneEngine:
    """Says 0.1 s of tone a letter, between silences of 0.2 s; counts how often it was asked."""

    name = "tone"
    version = "1"
    rate = 16_000
    voices = ("low",)

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def knows(self, voice: str) -> bool:
        return voice in self.voices

    def licence(self, voice: str) -> str:
        return "none"

    def say(self, text: str, voice: str, speed: float) -> np.ndarray:
        self.asked.append((text, speed))
        n = round(0.1 * self.rate * sum(c.isalnum() for c in text) / speed)
        tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(n) / self.rate)
        return np.pad(tone, 3200).astype(np.float32)


def tone(spec: str, folder: Path | None = None) -> tuple[SynthVoice, ToneEngine]:
    engine = ToneEngine()
    return SynthVoice(VoiceSpec.parse(spec), engine, folder, "letters"), engine


def test_a_spec_reads_back_as_it_was_written() -> None:
    spec = VoiceSpec.parse("pico/en-US@1.08x0.95-2.5dB")
    assert (spec.engine, spec.voice, spec.pitch, spec.tempo, spec.gain) == ("pico", "en-US", 1.08, 0.95, -2.5)
    assert str(spec) == "pico/en-US@1.08x0.95-2.5dB"
    assert str(VoiceSpec.parse("kokoro/af_heart")) == "kokoro/af_heart"


@given(st.floats(0.5, 2).map(lambda x: round(x, 3)), st.floats(0.5, 2).map(lambda x: round(x, 3)),
       st.floats(-40, 20).map(lambda x: round(x, 1)))  # fmt: skip
def test_every_spec_survives_its_text(pitch: float, tempo: float, gain: float) -> None:
    spec = VoiceSpec(engine="pico", voice="en-GB", pitch=pitch, tempo=tempo, gain=gain)
    assert VoiceSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pico", "names no voice"),
        ("pico/en-US@3", "pitch 3"),
        ("festival/slt", "no engine 'festival'"),
        ("pico/en-AU", "pico has no voice 'en-AU'; use one of en-US, en-GB"),
        ("kokoro/af_heart", "weights are not given"),
        ("piper/en_US-joe-medium", "voices are not given; name a folder .*--piper FOLDER"),
    ],
)
def test_a_wrong_name_is_one_line_that_helps(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        find_voice(name)


def test_speech_begins_and_ends_with_sound_and_words_fill_it() -> None:
    voice, _ = tone("tone/low")
    spoken = voice.speak("ten cats - sleep")
    assert [w.text for w in spoken.words] == ["ten", "cats", "sleep"]
    assert spoken.samples is not None
    assert spoken.duration == pytest.approx(len(spoken.samples) / RATE)
    assert spoken.duration == pytest.approx(1.2, abs=0.02)
    assert spoken.words[0].start == 0
    assert np.abs(spoken.samples[120:480]).max() > 0.25
    assert np.abs(spoken.samples[-480:-120]).max() > 0.25


def test_pitch_moves_the_sound_and_not_the_pace() -> None:
    plain, _ = tone("tone/low")
    high, engine = tone("tone/low@1.25")
    a, b = plain.speak("hello there").samples, high.speak("hello there").samples
    assert a is not None
    assert b is not None
    assert engine.asked == [("hello there", 0.8)]
    assert len(b) == pytest.approx(len(a), rel=0.02)
    peaks = [np.argmax(np.abs(np.fft.rfft(x))) * RATE / len(x) for x in (a, b)]
    assert peaks == pytest.approx([200, 250], abs=3)


def test_tempo_makes_it_shorter() -> None:
    slow, fast = (tone(name)[0].speak("hello there").duration for name in ("tone/low", "tone/lowx1.25"))
    assert fast == pytest.approx(slow / 1.25, rel=0.02)


def test_what_was_said_is_kept_and_a_broken_copy_is_made_again(tmp_path: Path) -> None:
    voice, engine = tone("tone/low", tmp_path)
    first = voice.speak("hello")
    again = tone("tone/low", tmp_path)
    kept = again[0].speak("hello")
    assert len(engine.asked) == 1
    assert again[1].asked == []
    assert kept.words == first.words
    assert first.samples is not None
    assert np.array_equal(kept.samples, first.samples)  # type: ignore[arg-type]
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    third = tone("tone/low", tmp_path)
    assert np.array_equal(third[0].speak("hello").samples, first.samples)  # type: ignore[arg-type]
    assert len(third[1].asked) == 1
    again[0].speak("goodbye then")
    assert again[0].speak("hello").words == first.words
    assert len(again[0].speak("goodbye then").words) == 2
    other = tone("tone/low@1.1", tmp_path)
    other[0].speak("hello")
    assert len(other[1].asked) == 1


def test_a_text_without_words_is_refused() -> None:
    with pytest.raises(UserError, match="has no words"):
        tone("tone/low")[0].speak(" ... - ")


def test_fluent_texts_keep_only_their_last_mark() -> None:
    assert fluent_text("well, I know. at 3.30, you know - it's late?") == "well I know at 3.30 you know it's late?"


def test_trimming_keeps_soft_sounds_and_drops_silence() -> None:
    sound = np.concatenate([np.zeros(1600), np.full(1600, 0.02), np.full(1600, 0.9), np.zeros(1600)]).astype(np.float32)
    assert len(trimmed(sound, 16_000)) == 3200
    assert len(trimmed(np.zeros(1600, np.float32), 16_000)) == 0


def test_drawn_users_differ_from_each_other_and_from_the_agent() -> None:
    names = [draw_voice(("pico/en-US", "pico/en-GB"), np.random.default_rng([0, i]), apart_from="pico/en-US")
             for i in range(60)]  # fmt: skip
    assert len(set(names)) == 60
    assert names[5] == draw_voice(("pico/en-US", "pico/en-GB"), np.random.default_rng([0, 5]), apart_from="pico/en-US")
    specs = [VoiceSpec.parse(name) for name in names]
    assert {s.voice for s in specs} == {"en-US", "en-GB"}
    assert all(abs(np.log(s.pitch)) > np.log(1.079) for s in specs if s.voice == "en-US")
    assert np.std([s.gain for s in specs]) > 1.5
    assert np.std([s.tempo for s in specs]) > 0.04


def test_numbers_and_unknown_words_get_sounds() -> None:
    assert spelled(0) == ["zero"]
    assert spelled(120) == ["one", "hundred", "twenty"]
    assert spelled(42_007) == ["forty", "two", "thousand", "seven"]
    assert spelled(1_000_001) == ["one", *["zero"] * 5, "one"]
    assert sounds("zorblax") == "Z AA R B L AE K S"
    assert sounds("shade") == "SH AE D"


@given(st.text(alphabet="ab1 -.,é", min_size=1, max_size=40), st.floats(0.05, 30))
def test_shares_by_letters_fill_the_time_in_order(text: str, duration: float) -> None:
    words = proportional(text, duration)
    if words:
        assert words[0].start == 0
        assert words[-1].end == pytest.approx(duration)
        assert all(a.end == b.start for a, b in pairwise(words))
        assert all(w.end > w.start for w in words)


def test_a_missing_engine_or_aligner_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py_nanotts", None)
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    voices._engine.cache_clear()
    align_module._aligner.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'duologue\[simulate\]'"):
        find_voice("pico/en-US", times="letters").speak("hello")
    with pytest.raises(UserError, match=r"duologue\[simulate\].*--times letters"):
        align(np.ones(16_000, np.float32), 16_000, "hello")
    voices._engine.cache_clear()


def test_pico_with_the_aligner_finds_the_words() -> None:
    pytest.importorskip("py_nanotts")
    pytest.importorskip("pocketsphinx")
    voice = find_voice("pico/en-US")
    spoken, method = voice.speak_told("The tall man, who was tired, went home at 7.")
    assert method == "aligned"
    assert [w.text for w in spoken.words][-3:] == ["home", "at", "7."]
    assert spoken.samples is not None
    gaps = [b.start - a.end for a, b in pairwise(spoken.words)]
    widest = int(np.argmax(gaps))
    assert spoken.words[widest].text in ("man,", "tired,")  # Pico pauses at a comma, and nowhere longer
    middle = (spoken.words[widest].end + spoken.words[widest + 1].start) / 2
    loud, quiet = np.abs(spoken.samples).max(), np.abs(spoken.samples[round(middle * RATE) :][:480]).max()
    assert quiet < 0.05 * loud
    assert voice.speak_told("Zorblax went home")[1] == "guessed"
    whole = find_voice("pico/en-US", fluent=True).speak("The tall man, who was tired, went home at 7.")
    assert max(b.start - a.end for a, b in pairwise(whole.words)) < max(gaps)
    assert [w.text for w in whole.words] == [w.text for w in spoken.words]


def test_pico_says_the_same_twice_whatever_came_between() -> None:
    pytest.importorskip("py_nanotts")
    voice = find_voice("pico/en-GB", times="letters")
    first = voice.speak("how are you").samples
    rng = np.random.default_rng(0)
    rubbish = [rng.bytes(int(n)) for n in rng.integers(1000, 300_000, 40)]
    for _ in range(4):
        voice.speak("something else that is a little longer")
        del rubbish[::2]
        assert np.array_equal(voice.speak("how are you").samples, first)  # type: ignore[arg-type]


def test_an_aligner_that_finds_no_way_leaves_shares_by_letters() -> None:
    pytest.importorskip("pocketsphinx")
    rng = np.random.default_rng(0)
    words, method = align(
        rng.standard_normal(1600).astype(np.float32), 16_000, "many more words than fit in here at all"
    )
    assert method == "proportional"
    assert words[-1].end == pytest.approx(0.1)
