"""The rows of `duologue evaluate nano` besides timing: each has a case whose value is known beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corpus_files import noise, put, wav_bytes
from duologue.audio.wave import Audio
from duologue.audio.words import Words
from duologue.base.errors import UserError
from duologue.bench import nano_codec, nano_modes, nano_text
from duologue.bench.nano_codec import (
    Unavailable,
    Utterance,
    codec_rows,
    quiet_frames,
    read_utterances,
    silence_rows,
    through_codec,
)
from duologue.bench.nano_modes import mode_rows
from duologue.bench.nano_ngram import BEGIN, NGram
from duologue.bench.nano_speech import measure_talk, repetition_row, speech_of, speech_rows
from duologue.bench.nano_speed import size_row, speed_rows, threads
from duologue.bench.nano_text import (
    ON_STREAMS,
    held_out,
    on_silence,
    on_streams,
    score_pieces,
    text_rows,
    word_pieces,
)
from duologue.bench.nano_words import count_edits, mean_interval, rate_interval, repetition, spoken_form, word_edits
from duologue.codec.mimi import Mimi
from duologue.corpus.script import Line, Script
from duologue.corpus.token_cache import CacheHeader, TokenCacheWriter
from duologue.dialogue.timeline import Word
from duologue.engine import listening
from duologue.engine.bundle import Bundle, load
from duologue.engine.modes import Mode, Modes
from duologue.engine.prompts import tones
from duologue.model.text import TextTokenizer

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
FIRST = 10
"""Id of the first word."""


class Told:
    """A recogniser that hears what it was told to, call after call."""

    def __init__(self, *calls: Sequence[str]) -> None:
        self._calls = iter(calls)

    def transcribe(self, audios: Sequence[Audio]) -> list[Words]:
        heard = next(self._calls)
        assert len(heard) == len(audios)
        return [tuple(Word(w, i, i + 1) for i, w in enumerate(text.split())) for text in heard]


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    return load("random:tiny@0", device="cpu")


@pytest.fixture(scope="module")
def speaking(tiny: Bundle) -> Bundle:
    """With a tokenizer of eight words."""
    table = [b""] * FIRST + [f" {word}".encode() for word in WORDS] + [b""]
    text = TextTokenizer(lambda said: [FIRST + WORDS.index(w) for w in said.split() if w in WORDS], tuple(table))
    return replace(tiny, text=text)


def sound(seconds: float, level: float = 0.1) -> Audio:
    return Audio(noise(seconds, level=level, rate=24_000).astype(np.float32)[None], 24_000)


def plain_distance(a: Sequence[str], b: Sequence[str]) -> int:
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y)))
        rows.append(row)
    return rows[-1][-1]


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abcd"), max_size=9))
def test_edits_are_levenshtein_s(a: list[str], b: list[str]) -> None:
    assert word_edits(a, b) == plain_distance(a, b)


def test_words_are_compared_as_they_sound() -> None:
    assert spoken_form("OK, twenty-one cats!") == spoken_form("okay 21 Cats") == ["okay", "twenty", "one", "cats"]
    assert spoken_form("It’s 5 o'clock.") == ["it's", "five", "o'clock"]
    assert spoken_form("in 1984") == ["in", "1984"]
    assert spoken_form(" - ... ") == []


def test_a_rate_is_of_all_words_and_its_difference_is_paired() -> None:
    meant = ["a b c d"] * 10
    base, worse = count_edits(meant, ["a b c x"] * 10), count_edits(meant, ["a b x x", "a b c x"] * 5)
    assert (base.rate, worse.rate) == (25.0, 37.5)
    assert rate_interval(base, base) == (0.0, 0.0)
    low, high = rate_interval(worse, base) or (0, 0)
    assert 0 <= low < 12.5 < high <= 25
    assert rate_interval(count_edits(["a"], ["a"])) is None
    assert count_edits([""], ["a"]).rate is None


def test_an_interval_narrows_with_more_values() -> None:
    few, many = (mean_interval([0.0, 1.0] * n) or (0, 0) for n in (5, 500))
    assert few[0] < many[0] < 0.5 < many[1] < few[1]
    assert mean_interval([1.0]) is None


def test_runs_that_came_before_are_repeated() -> None:
    assert repetition(["a", "b", "c", "d", "a", "b", "c", "d"]) == (1, 5)
    assert repetition(["a", "b", "c"]) == (0, 0)


@given(st.lists(st.lists(st.integers(0, 4), max_size=12), max_size=6), st.lists(st.integers(0, 4), max_size=3))
def test_an_n_gram_model_s_probabilities_add_up_to_one(texts: list[list[int]], history: list[int]) -> None:
    model = NGram.train(texts, 5)
    for past in (history, [BEGIN] * 3, []):
        chances = [model.probability(past, token) for token in range(5)]
        assert min(chances) > 0
        assert sum(chances) == pytest.approx(1)


def test_an_n_gram_model_counts_where_a_word_can_stand_not_how_often() -> None:
    # 1 comes five times, always behind 0; 2 comes three times, behind three others.
    model = NGram.train([[0, 1]] * 5 + [[3, 2], [4, 2], [5, 2]], 6, order=2)
    assert model.probability([2], 2) > model.probability([2], 1)
    assert model.probability([0], 1) > 0.7


def test_an_n_gram_model_knows_what_it_saw_and_nothing_of_noise() -> None:
    seen = [[1, 2, 3, 4] * 20] * 3
    assert math.exp(-NGram.train(seen, 8).log_probability(seen[0]) / 80) < 1.1
    unseen = math.exp(-NGram.train([], 8).log_probability([0, 5, 7]) / 3)
    assert unseen == pytest.approx(8)


def test_a_codec_in_pieces_is_the_codec_in_one(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nano_codec, "STEP", 2)
    codec, audio = tiny.need_codec(), sound(0.5)
    with torch.no_grad():
        whole = codec.decode(codec.encode(torch.from_numpy(audio.samples)[None]))[0].numpy()
    found = through_codec(codec, audio)
    assert found.samples.shape == audio.samples.shape
    assert found.samples == pytest.approx(whole[:, :12_000], abs=1e-4)


def test_a_codec_is_judged_by_the_words_that_it_costs(tiny: Bundle) -> None:
    said = [Utterance(str(i), sound(0.2), "a b c d e") for i in range(4)]

    def row(points: float, heard: Told) -> Any:
        (found,) = codec_rows("voices", lambda: said, tiny.need_codec(), points=points, least_mos=None,
                              recogniser=heard, quality=False)  # fmt: skip
        return found

    before, after = ["a b c d"] * 4, ["a b c"] * 4
    worse = row(8, Told(before, after))
    assert (worse.value, worse.passed, worse.n, worse.interval) == (pytest.approx(20), False, 4, (20, 20))
    assert "original 20.0 %, decoded 40.0 %, 20 words" in worse.note
    assert row(25, Told(before, after)).passed is True
    said[:] = [replace(u, text=None) for u in said]
    alone = row(25, Told(before, after))
    assert alone.value == pytest.approx(25)
    assert "4 of 4 have no transcript" in alone.note


def test_what_is_not_there_is_not_measured_and_says_why(tiny: Bundle) -> None:
    def voice() -> list[Utterance]:
        raise Unavailable("no such engine here")

    codec = tiny.need_codec()
    silent = codec_rows("x", voice, codec, points=8, least_mos=3.2, recogniser=None, quality=False)
    assert [row.value for row in silent] == [None, None]
    assert ["--recogniser" in silent[0].note, "--quality" in silent[1].note] == [True, True]
    lost = codec_rows("x", voice, codec, points=8, least_mos=3.2, recogniser=Told(), quality=False)
    assert [row.note for row in lost] == ["no such engine here"] * 2
    assert [row.passed for row in lost] == [None, None]


def test_recordings_come_with_the_texts_beside_them(tmp_path: Path) -> None:
    put(tmp_path, "b.wav", wav_bytes(noise(0.1)))
    put(tmp_path, "a.wav", wav_bytes(noise(0.1)))
    put(tmp_path, "a.txt", "Hello\n there. ")
    assert [(u.name, u.text) for u in read_utterances(tmp_path)] == [("a", "Hello there."), ("b", None)]
    put(tmp_path, "c.wav", wav_bytes(noise(0.1), noise(0.1)))
    with pytest.raises(UserError, match=r"c\.wav: has 2 channels"):
        read_utterances(tmp_path)
    with pytest.raises(UserError, match="holds no recordings"):
        read_utterances(put(tmp_path, "none/x.txt", "x").parent)


def test_silence_is_silent_below_fifty_decibels() -> None:
    level = np.repeat([0.0, 0.001, 0.01, 0.1], 1920).astype(np.float32)
    assert quiet_frames(Audio(level[None], 24_000)).tolist() == [True, True, False, False]


def test_a_codec_without_a_voice_keeps_silence(tiny: Bundle) -> None:
    codec = load("random:tiny@0", device="cpu").need_codec()
    assert isinstance(codec, Mimi)
    loud = silence_rows(tiny, seed=0, slots=2)
    assert [row.passed for row in loud] == [False, False]
    with torch.no_grad():
        for weights in codec.decoder.parameters():
            weights.zero_()
    quiet = silence_rows(replace(tiny, codec=codec), seed=0, slots=2)
    assert [(row.value, row.passed, row.n) for row in quiet] == [(1.0, True, 125), (1.0, True, 250)]


def test_speech_is_judged_by_what_is_heard_of_its_own_words() -> None:
    agent = Audio(np.concatenate((np.zeros((1, 24_000), np.float32), sound(1.0).samples), axis=1), 24_000)
    words = [Word(w, i, i + 0.5) for i, w in enumerate(["a", "b", "c", "d", "a", "b", "c", "d"])]
    speech = np.array([[1.0, 2.0]])
    talk = measure_talk("t", agent, speech, words, recogniser=Told(["a b c d a b c"]), quality=False)
    assert (talk.silent, talk.repeated, talk.clipped) == (pytest.approx(12 / 25), (1, 5), 0.0)
    assert -30 < talk.level < -15
    errors, mos = speech_rows([talk, talk], quality=False)
    assert (errors.value, errors.passed, errors.n) == (12.5, True, 2)
    assert mos.value is None
    assert repetition_row([talk, talk]).value == pytest.approx(0.2)
    deaf = measure_talk("t", agent, speech, None, recogniser=None, quality=False)
    assert [row.value for row in (*speech_rows([deaf], quality=False), repetition_row([deaf]))] == [None] * 3


def test_quality_is_judged_on_speech_alone() -> None:
    audio = Audio(np.arange(10, dtype=np.float32)[None], 1)
    spans = np.array([[1.0, 3.0], [5.0, 9.0]])
    found = speech_of(audio, spans, most=5, least=1)
    assert found is not None
    assert found.samples.tolist() == [[1, 2, 5, 6, 7]]
    assert speech_of(audio, spans[:0]) is None


def test_a_model_that_knows_nothing_is_as_perplexed_as_there_are_words(
    speaking: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [Script(id=str(i), turns=(Line(side=0, text="one two one two"),), source="x") for i in range(60)]
    monkeypatch.setattr(nano_text, "load_scripts", lambda source, seed: iter(lines))
    blank = load("random:tiny@0", device="cpu").lm
    with torch.no_grad():
        blank.text_linear.weight.zero_()
    even = replace(speaking, lm=blank)
    kept = sum(held_out(script) for script in lines)
    assert 0 < kept < 10
    model, counted, streams = text_rows(even, source="chitchat", most=50, seed=0, corpus=None, cache=None)
    assert (model.value, model.passed, model.n) == (pytest.approx(8), False, 4 * kept)
    assert counted.value is not None
    assert counted.value < 2
    assert (streams.what, streams.value) == (ON_STREAMS, None)


def test_pieces_are_scored_among_pieces_only(speaking: Bundle) -> None:
    known = word_pieces(speaking.need_text(), speaking.lm.config.text_card)
    assert known.nonzero()[:, 0].tolist() == list(range(FIRST, FIRST + 8))
    tone = tones(speaking.need_codec(), kyutai=False)
    codes = on_silence([FIRST, FIRST + 3], speaking, tone)
    assert codes.shape == (17, 4)
    assert codes[0].tolist() == [3, 0, FIRST, FIRST + 3]
    assert (tone.silence == codes[1:9].T).all()
    assert (tone.silence == codes[9:].T).all()
    with torch.no_grad():
        logits = speaking.lm(codes[None]).text_logits[0, 2:, FIRST : FIRST + 8].log_softmax(-1)
    assert score_pieces(speaking.lm, codes, known) == pytest.approx(float(logits[0, 0] + logits[1, 3]), abs=1e-4)


def test_streams_of_a_corpus_are_scored_with_the_words_on_them(
    speaking: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from duologue.codec.tokens import codes_hash

    lines = [Script(id=str(i), turns=(Line(side=0, text="one two"),), source="x") for i in range(60)]
    monkeypatch.setattr(nano_text, "load_scripts", lambda source, seed: iter(lines))
    put(tmp_path / "talks", "data.jsonl", '{"path": "a.wav", "duration": 8.0}\n')
    put(tmp_path / "talks", "a.wav", wav_bytes(noise(8.0), noise(8.0)))
    said = [["one", [0.5, 0.9], "SPEAKER_MAIN"], ["six", [7.0, 7.4], "SPEAKER_MAIN"], ["two", [2.0, 2.5], "USER"]]
    put(tmp_path / "talks", "a.json", {"alignments": said})
    codec = speaking.need_codec()
    header = CacheHeader(codec=codes_hash(codec), codebooks=8, card=64, frame_rate=12.5)  # type: ignore[arg-type]
    writer = TokenCacheWriter(tmp_path / "tokens", header)
    made = np.random.default_rng(0).integers(64, size=(16, 100))
    writer.add([("data/000001", made)])
    writer.finish()
    rows = text_rows(speaking, source="chitchat", most=9, seed=0, corpus=tmp_path / "talks", cache=tmp_path / "tokens")
    found = {row.what: row for row in rows}[ON_STREAMS]
    assert found.n == 2  # the agent's words, not the user's, in two cuts of the model's 50 frames
    assert found.value is not None
    assert found.value > 1
    known = word_pieces(speaking.need_text(), speaking.lm.config.text_card)
    cuts = list(on_streams(speaking, tmp_path / "talks", tmp_path / "tokens", known, 60))
    assert [pieces for pieces, _ in cuts] == [[FIRST], [FIRST + 5]]
    assert torch.cat([codes for _, codes in cuts], 1)[1:].tolist() == made.tolist()
    assert [int((codes[0] == pieces[0]).nonzero()) for pieces, codes in cuts] == [6, 87 - 60]
    other = replace(speaking, codec=load("random:tiny@1", device="cpu").codec)
    with pytest.raises(UserError, match="comes from another codec"):
        text_rows(other, source="chitchat", most=9, seed=0, corpus=tmp_path / "talks", cache=tmp_path / "tokens")


def test_about_one_chat_in_twenty_is_held_out() -> None:
    ids = [Script(id=f"chitchat/{i}", turns=(), source="chitchat") for i in range(4000)]
    assert 0.03 < sum(map(held_out, ids)) / 4000 < 0.07


def test_modes_are_measured_where_the_model_has_them(speaking: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [Utterance("u", sound(0.4), "one two"), Utterance("v", sound(0.4), "three four")]
    both = replace(speaking, config=replace(speaking.config, modes=Modes(transcribe=Mode(), speak=Mode())))
    speak, transcribe = mode_rows(both, lambda: said, recogniser=Told(["one", "three four"]), seed=0)
    assert (speak.value, speak.n) == (25.0, 2)
    assert transcribe.value is not None
    none = replace(speaking, config=replace(speaking.config, modes=Modes()))
    assert all("no such mode" in row.note for row in mode_rows(none, lambda: said, recogniser=Told(), seed=0))
    monkeypatch.setattr(nano_modes, "NO_RECOGNISER", "deaf")
    assert mode_rows(both, lambda: said, recogniser=None, seed=0)[0].note == "deaf"


def test_recordings_of_people_are_transcribed_too(speaking: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "transcribe_all", lambda _, heard: [[Word("one", 0.0, 0.1)] for _ in heard])
    both = replace(speaking, config=replace(speaking.config, modes=Modes(transcribe=Mode())))
    people = [Utterance("p", sound(0.2), "one two"), Utterance("q", sound(0.2), None)]
    voices = [Utterance("u", sound(0.4), "one")]
    *_, transcribe, row = mode_rows(both, lambda: voices, recogniser=None, seed=0, recorded=lambda: people)
    assert (transcribe.value, row.value, row.n) == (0.0, 50.0, 1)
    none = replace(speaking, config=replace(speaking.config, modes=Modes()))
    assert mode_rows(none, lambda: voices, recogniser=None, seed=0, recorded=lambda: people)[2].value is None


def test_speed_is_measured_and_threads_stay_as_they_were(tiny: Bundle) -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    rows = speed_rows(tiny, seconds=0.32, cores=1, seed=0, batch=4)
    assert len(rows) == 4
    for row in rows:
        assert row.value is not None
        assert row.interval is not None
        assert 0 < row.interval[0] <= row.value <= row.interval[1]
        assert "1 thread" in row.note


def test_the_size_of_the_shipped_model_is_that_of_its_files(tmp_path: Path) -> None:
    assert size_row(tmp_path).value is None
    put(tmp_path, "a.bin", b"0" * 1_500_000)
    put(tmp_path, "voices/b.bin", b"0" * 500_000)
    row = size_row(tmp_path)
    assert (row.value, row.n, row.passed) == (2.0, 2, True)
