"""`duologue transcribe`: the words are those that the model writes beside the sound, at the times of the sound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from duologue.audio.wave import Audio, write_audio
from duologue.base.command import Group, Verb, run
from duologue.base.errors import UserError
from duologue.base.files import read_json, write_json
from duologue.dialogue.timeline import Word
from duologue.engine import transcribe as verb
from duologue.engine.bundle import Bundle, load
from duologue.engine.export import export
from duologue.engine.listening import LATE_SECONDS, Transcriber, transcribe, transcribe_all, transcribe_stream
from duologue.engine.modes import Mode, Modes, read_modes
from duologue.engine.prompts import prompt_codes, tones
from duologue.engine.sampling import Sampling
from duologue.model.text import system_prompt
from duologue.model.words import TextLayout, words
from test_model_parity import random_model
from test_model_text import EPAD, PAD, _sentencepiece
from test_speak import SPELLING, TINY, tiny

STT = replace(TINY, n_q=8, dep_q=0, delays=(0,) * 9, audio_delay_seconds=0.5, audio_silence_prefix_seconds=0.3)
TOLD = Modes(transcribe=Mode(prompt="transcribe", text_delay=0.4))


def listener(kind: str, seed: int = 4) -> Bundle:
    """A random model that transcribes: speech-to-text, or a duplex one that is told to."""
    if kind != "stt":
        return tiny(modes=TOLD, lag=int(kind == "moshi"), seed=seed)
    bundle = load(f"random:tiny@{seed}", device="cpu")
    config = replace(bundle.config, modes=read_modes(None, STT, "m"))
    return replace(bundle, text=SPELLING, lm=random_model(STT, seed), config=config)


def sound(seconds: float, seed: int = 0, rate: int = 24000) -> Audio:
    rng = np.random.default_rng(seed)
    return Audio(0.3 * rng.standard_normal((1, int(seconds * rate))).astype(np.float32), rate)


@torch.no_grad()
def read_by_forward(bundle: Bundle, audio: Audio) -> list[Word]:
    """The same by teacher forcing alone: each frame's likeliest text given the sound before it, one after another."""
    mode, c, codec = bundle.config.modes.transcribe, bundle.lm.config, bundle.need_codec()
    assert mode is not None
    before = np.zeros(round(c.audio_silence_prefix_seconds * 24000), np.float32)
    samples = np.concatenate((before, audio.samples[0]))
    late = int(np.ceil(mode.text_delay * 12.5)) + round(LATE_SECONDS * 12.5)
    padded = np.pad(samples, (0, -len(samples) % 1920 + late * 1920))
    user = codec.encode(torch.from_numpy(padded)[None, None])[0, : c.user_streams]
    tone = tones(codec, kyutai=False)
    ids = SPELLING.encode(system_prompt(mode.prompt)) if mode.prompt else []
    prompt = prompt_codes(c, tone, ids, None)[:, 1 - c.user_lag :]
    user = torch.cat((user, user[:, : c.user_lag]), 1)  # of a call more: the text after the last frame that is heard
    T = user.shape[1]
    agent = tone.silence[: c.agent_streams, None].expand(-1, T)
    codes = torch.cat((prompt, torch.cat((torch.zeros(1, T, dtype=torch.long), agent, user))), 1)
    text = []
    for t in range(T):
        logits = bundle.lm(codes[None]).text_logits[0, prompt.shape[1] + t]
        silent = t < int(mode.text_delay * 12.5) - 1
        text.append(PAD if silent else int(logits.argmax()))
        codes[0, prompt.shape[1] + t] = text[-1]
    layout = TextLayout(delay=mode.text_delay + c.audio_silence_prefix_seconds)
    found = [word for word in words(text, SPELLING, layout) if word.end > 1e-6]
    return [Word(word.text, max(0.0, word.start), word.end) for word in found]


@pytest.mark.parametrize("kind", ["stt", "moshi", "personaplex"])
def test_words_are_those_that_the_model_scores_highest(kind: str) -> None:
    bundle, audio = listener(kind), sound(0.77)
    got, expected = transcribe(bundle, audio), read_by_forward(bundle, audio)
    assert len(expected) > 3
    assert [w.text for w in got] == [w.text for w in expected]
    np.testing.assert_allclose([w[1:] for w in got], [w[1:] for w in expected], atol=1e-9)


@pytest.fixture(scope="module")
def told() -> Bundle:
    return listener("moshi")


def test_recordings_of_any_company_rate_and_length(told: Bundle) -> None:
    recordings = [sound(0.3, 1), sound(1.3, 2), sound(0.7, 3, 16000), sound(0.05, 4), sound(0.9, 5)]
    alone = [transcribe(told, audio) for audio in recordings]
    assert len({tuple(w.text for w in found) for found in alone}) == 5
    heard: list[float] = []
    assert transcribe_all(told, recordings, slots=2, on_seconds=heard.append) == alone
    assert sum(heard) > 3.25
    assert transcribe_all(told, []) == []


@pytest.mark.parametrize("kind", ["stt", "moshi"])
def test_a_stream_gives_each_word_when_it_is_complete(kind: str) -> None:
    bundle, audio = listener(kind), sound(1.5)
    given = 0

    def pieces() -> Iterator[np.ndarray]:
        nonlocal given
        for piece in np.split(audio.samples[0], [1, 500, 1920, 9000, 9001, 20000, 30000]):
            given += len(piece)
            yield piece

    found = []
    for word in transcribe_stream(bundle, pieces()):
        if not found:
            assert given < len(audio.samples[0])
        found.append(word)
    assert found == transcribe(bundle, audio)


def test_the_delay_is_taken_off_the_times(told: Bundle) -> None:
    """A model that writes a word in one certain frame: it was said the delay earlier."""
    bundle = replace(told, config=replace(told.config, modes=Modes(transcribe=Mode(text_delay=0.4))))
    ears = Transcriber(bundle, 1)
    advance, calls = ears.engine.advance, 0

    def planned(*given: object, **options: object) -> object:
        nonlocal calls
        step = advance(*given, **options)
        token = {11: EPAD, 12: 68, 13: 5}.get(calls, PAD)
        calls += 1
        return step._replace(text=torch.tensor([token]))

    ears.engine.advance = planned
    ears.begin(0)
    assert calls == 1
    found = ears.feed(torch.zeros(1, 20 * 1920), [20])[0] + ears.finish(0)
    assert [w.text for w in found] == ["ab"]
    assert found[0].start == pytest.approx(12 * 0.08 - 0.4)
    assert found[0].end == pytest.approx(14 * 0.08 - 0.4)


def test_nothing_is_made_up_before_the_sound_can_be_known(told: Bundle) -> None:
    late = replace(told, config=replace(told.config, modes=Modes(transcribe=Mode(text_delay=1.6))))
    ears = Transcriber(late, 1, seconds=1.0)
    ears.begin(0)
    ears.feed(torch.from_numpy(ears.padded(sound(1.0).samples[0])[None]), [20])
    text = ears._state.tokens[0, :, 0]
    assert text[ears._state.calls[0] % len(text) - 1] != PAD
    assert all(word.start >= 0 < word.end for word in transcribe(late, sound(1.0)))


def test_a_folder_s_stt_config_is_its_mode(tmp_path: Path) -> None:
    export(listener("stt"), tmp_path / "model")
    bundle = replace(load(tmp_path / "model", device="cpu"), text=SPELLING)
    assert bundle.config.modes == Modes(transcribe=Mode(text_delay=0.5))
    assert transcribe(bundle, sound(0.5)) == transcribe(listener("stt"), sound(0.5))


def test_draws_follow_the_seed(told: Bundle) -> None:
    warm = [Sampling(text_temperature=1.0, text_seed=seed) for seed in (1, 1, 2)]
    a, b, c = (transcribe(told, sound(0.6), sampling=drawn) for drawn in warm)
    assert a == b != c


def test_the_mode_s_prompt_is_given(told: Bundle) -> None:
    (plain,) = transcribe_all(told, [sound(0.6)], text_prompt="")
    (given,) = transcribe_all(told, [sound(0.6)], text_prompt="transcribe")
    assert given == transcribe(told, sound(0.6)) != plain


def test_models_and_sounds_that_do_not_fit_are_one_line(told: Bundle) -> None:
    with pytest.raises(UserError, match="has not learned to transcribe"):
        transcribe(tiny(), sound(0.1))
    with pytest.raises(UserError, match="has no text tokenizer"):
        transcribe(replace(told, text=None), sound(0.1))
    with pytest.raises(UserError, match="has 2 channels"):
        transcribe(told, Audio(np.zeros((2, 100), np.float32), 8000))
    with pytest.raises(UserError, match="16000 samples a second"):
        transcribe_stream(told, [], rate=16000)
    with pytest.raises(UserError, match="0 is no number"):
        transcribe_all(told, [sound(0.1)], slots=0)
    wide = replace(listener("stt"), lm=random_model(replace(STT, n_q=9, delays=(0,) * 10)))
    with pytest.raises(UserError, match="needs 9 of 64"):
        transcribe(wide, sound(0.1))
    endless = replace(listener("stt"), lm=random_model(replace(STT, context=None)))
    with pytest.raises(UserError, match="remembers without limit"):
        transcribe_stream(endless, [])
    assert transcribe(endless, sound(0.1)) == transcribe(endless, sound(0.1))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SentencePiece tokenizer and a transcribe mode."""
    folder = tmp_path_factory.mktemp("transcribe")
    bundle = load("random:tiny@1", device="cpu")
    config = replace(bundle.config, text_file=_sentencepiece(folder / "spm.model"))
    export(replace(bundle, lm=random_model(replace(TINY, text_card=320)), config=config), folder / "model")
    ours = folder / "model" / "duologue.json"
    write_json(ours, read_json(ours) | {"modes": {"transcribe": {"prompt": "transcribe", "text_delay": 0.24}}})
    return folder / "model"


class TestVerb:
    @staticmethod
    def hear(model: Path, *recordings: Path, **options: object) -> int:
        config = verb.TranscribeConfig(model=str(model), recordings=recordings, device="cpu", **options)
        return verb.main(config)

    def test_text_goes_to_standard_output_and_words_to_files(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_audio(tmp_path / "a.wav", sound(0.8))
        assert self.hear(model, tmp_path / "a.wav", json=tmp_path / "a.json", out=tmp_path / "a.txt") == 0
        said = capsys.readouterr()
        (heard,) = json.loads((tmp_path / "a.json").read_text())["recordings"]
        assert said.out == (tmp_path / "a.txt").read_text() == heard["text"] + "\n"
        assert "0.8 s of sound" in said.err
        assert " ".join(w["word"] for w in heard["words"]) == heard["text"] != ""
        assert heard["duration"] == pytest.approx(0.8)

    def test_several_recordings_are_named(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name, seed in (("a", 1), ("b", 2)):
            write_audio(tmp_path / f"{name}.wav", sound(0.5, seed))
        assert self.hear(model, tmp_path / "a.wav", tmp_path / "b.wav", out=tmp_path / "both.json") == 0
        lines = capsys.readouterr().out.splitlines()
        heard = json.loads((tmp_path / "both.json").read_text())["recordings"]
        assert lines == [f"{one['file']}: {one['text']}" for one in heard]
        assert heard[0]["file"].endswith("a.wav")

    def test_the_channel_that_is_named_is_heard(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one = sound(0.5).samples
        write_audio(tmp_path / "one.wav", Audio(one, 24000))
        write_audio(tmp_path / "two.wav", Audio(np.concatenate((0 * one, one)), 24000))
        found = []
        for name, channel in (("one", None), ("two", "right"), ("two", "left"), ("two", "mix")):
            assert self.hear(model, tmp_path / f"{name}.wav", channel=channel) == 0
            found.append(capsys.readouterr().out)
        assert found[0] == found[1] != found[2]
        assert len(set(found)) == 3

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({}, "has 2 channels.*--channel left, right or mix"),
            ({"out": Path("words.srt")}, "ends in .txt or .json"),
            ({"channel": "left", "seed": -1}, "-1 is no seed"),
            ({"channel": "left", "batch": 0}, "0 is no number"),
            ({"channel": "left", "text_temperature": -1.0}, "text_temperature"),
        ],
    )
    def test_mistakes_are_one_line(self, model: Path, tmp_path: Path, options: dict, named: str) -> None:
        write_audio(tmp_path / "two.wav", Audio(np.zeros((2, 800), np.float32), 8000))
        with pytest.raises(UserError, match=named) as raised:
            self.hear(model, tmp_path / "two.wav", **options)
        assert "\n" not in str(raised.value)

    def test_no_or_an_absent_recording_is_named(self, model: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"gone\.wav"):
            self.hear(model, tmp_path / "gone.wav")
        with pytest.raises(UserError, match="no recording given"):
            self.hear(model)

    def test_the_command_line_says_the_same(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_audio(tmp_path / "a.wav", sound(0.5))
        assert self.hear(model, tmp_path / "a.wav") == 0
        expected = capsys.readouterr().out
        commands = Group("", {"transcribe": Verb("", "duologue.engine.transcribe:main")})
        options = ["--model", str(model), "--device", "cpu", "-o", str(tmp_path / "a.txt")]
        assert run(commands, ["transcribe", str(tmp_path / "a.wav"), *options]) == 0
        assert capsys.readouterr().out == (tmp_path / "a.txt").read_text() == expected
        assert run(commands, ["transcribe", "--model", str(model)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
