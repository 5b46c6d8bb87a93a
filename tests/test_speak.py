"""`duologue speak`: the words asked for are the words that are written, at moments that the model chooses."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.base.command import Group, Verb, run
from duologue.base.config import to_dict
from duologue.base.errors import UserError
from duologue.base.files import read_json, write_json
from duologue.codec.tokens import read_tokens
from duologue.dialogue.timeline import Word
from duologue.engine import speak as verb
from duologue.engine.bundle import Bundle, load
from duologue.engine.engine import FREE, Engine
from duologue.engine.export import export
from duologue.engine.modes import Mode, Modes, read_modes
from duologue.engine.prompts import Voice, prompt_codes, tones
from duologue.engine.reading import Due, Pace, Reader, Spelled, spell
from duologue.engine.sampling import GREEDY, Sampling, Script
from duologue.engine.speaking import HUSH_FRAMES, SETTLE_FRAMES, Manner, speak, speak_all, speak_stream
from duologue.model.config import LMConfig
from duologue.model.presets import PRESETS
from duologue.model.text import TextTokenizer, system_prompt
from duologue.model.words import TextLayout, words
from test_engine_parity import PAIRED
from test_engine_slots import record
from test_model_parity import random_model
from test_model_text import EPAD, PAD, _sentencepiece

TINY = PRESETS["tiny"].lm
TEXT = "well hello my friend"
LETTERS = "abcdefghijklmnopqrstuvwxyz.?<>"


def _encode(text: str) -> list[int]:
    """One id a letter; those that begin a word are 64 higher."""
    known = [[4 + LETTERS.find(c) % len(LETTERS) for c in word.lower()] for word in text.split()]
    return [token + 64 * (i == 0) for word in known for i, token in enumerate(word)]


_ROW = [b""] * 4 + [c.encode() for c in LETTERS] + [b""] * (60 - len(LETTERS))
SPELLING = TextTokenizer(_encode, (*_ROW, *(b" " + x if x else x for x in _ROW)), prefix=True)
"""A tokenizer for tiny's 128 ids."""


def tiny(*, modes: Modes | None = None, lag: int = 1, seed: int = 0) -> Bundle:
    """A random model that has a tokenizer."""
    bundle = load(f"random:tiny@{seed}", device="cpu")
    config = bundle.config if modes is None else replace(bundle.config, modes=modes)
    return replace(bundle, text=SPELLING, lm=random_model(replace(TINY, user_lag=lag), seed), config=config)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return tiny()


def manner(seed: int = 0, **sampling: float) -> Manner:
    drawn = Sampling(text_seed=seed, audio_seed=seed, **sampling)
    return Manner(sampling=drawn, pace=Pace(max_silence=0.8, tail=0.4))


class TestReader:
    """With a model that chooses at random."""

    LAYOUT = TextLayout(delay=-0.16)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.sampled_from(["a", "it", "words", "well", "yes."]), min_size=1, max_size=5),
        st.integers(0, 12), st.integers(0, 3), st.randoms(use_true_random=False),
    )  # fmt: skip
    def test_what_is_written_reads_back_as_the_words(
        self, asked: list[str], most: int, eager: int, chance: random.Random
    ) -> None:
        spelled = spell(" ".join(asked), SPELLING, self.LAYOUT, 128)
        reader = Reader(spelled, Pace(max_silence=most * 0.08), self.LAYOUT)
        longest, stream, told = reader.longest(), [], []
        while not reader.done:
            due = reader.due()
            free = due.among[:2] + due.among[2:] * eager
            stream.append(chance.choice(free) if due.forced == FREE else due.forced)
            told.append(reader.wrote(stream[-1]))
        assert [word.text for word in words(stream, SPELLING)] == asked
        assert [word for word in told if word is not None] == words(stream, SPELLING, self.LAYOUT)
        assert len(stream) <= longest
        silences = "".join("x" if t in (PAD, EPAD) else " " for t in stream).split()
        assert max(map(len, silences), default=0) <= max(most, 1)
        assert reader.due() == Due(PAD)

    def test_silence_is_ended_by_an_epad_and_a_word(self) -> None:
        reader = Reader([Spelled("it", (77, 23))], Pace(max_silence=0.32), self.LAYOUT)
        forced = []
        for _ in range(6):
            due = reader.due()
            forced.append(due.forced)
            reader.wrote(PAD if due.forced == FREE else due.forced)
        assert forced == [FREE, FREE, FREE, EPAD, 77, 23]
        assert reader.hurried == 1

    def test_a_word_that_the_model_begins_is_not_hurried(self) -> None:
        reader = Reader([Spelled("a", (68,)), Spelled("it", (76, 23))], Pace(), self.LAYOUT)
        said = [reader.wrote(token) for token in (PAD, EPAD, 68, 76, 23)]
        assert reader.hurried == 0
        assert said[2] == Word("a", 2 / 12.5 + 0.16, 3 / 12.5 + 0.16)
        assert said[4] == Word("it", 3 / 12.5 + 0.16, 5 / 12.5 + 0.16)


class TestScript:
    def test_a_word_s_first_piece_stands_for_all_that_begin_one(self) -> None:
        logits = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
        begins = torch.tensor([SPELLING.begins_word(i) for i in range(128)])
        script = Script(torch.tensor([[PAD, EPAD, 70], [-1, -1, -1]]), torch.tensor([70, -1]), begins)
        got = script.restrict(logits)
        assert got[0].isfinite().nonzero()[:, 0].tolist() == [EPAD, PAD, 70]
        events = torch.stack((logits[0, EPAD], logits[0, PAD], logits[0, begins].logsumexp(0)))
        torch.testing.assert_close(got[0, [EPAD, PAD, 70]], events)
        assert torch.equal(got[1], logits[1])

    def test_a_piece_without_a_space_counts_once(self) -> None:
        logits = torch.zeros(1, 8)
        begins = torch.zeros(8, dtype=torch.bool)
        got = Script(torch.tensor([[3, 0, 5]]), torch.tensor([5]), begins).restrict(logits)
        assert got[0, 5] == 0

    def test_captured_frames_draw_as_run_ones(self) -> None:
        """With scripts in some calls and not in others, and forced text beside them."""
        model = random_model(replace(PAIRED, context=200))
        engines = Engine(model, 2), Engine(model, 2, capture=record)
        states = [engine.initial_state(Sampling(text_temperature=2.0)) for engine in engines]
        begins = torch.arange(PAIRED.text_card) > 30
        user = torch.zeros(2, PAIRED.user_streams, dtype=torch.long)
        seen = set()
        for t in range(60):
            script = Script(torch.tensor([[3, 0, 32], [-1] * 3]), torch.tensor([32, -1]), begins) if t % 5 else None
            forced = torch.full((2, 4), FREE)
            forced[1, 0] = 7 if t % 3 == 0 else FREE
            steps = [
                engine.advance(state, user, forced=forced, script=script)
                for engine, state in zip(engines, states, strict=True)
            ]
            assert torch.equal(steps[0].tokens, steps[1].tokens)
            assert torch.equal(steps[0].text, steps[1].text)
            assert t % 3 or steps[0].text[1] == 7
            if script is not None:
                seen.add(int(steps[0].text[0]))
        assert seen == {0, 3, 32}


class TestSpeak:
    def test_the_words_are_those_that_were_asked_for(self, bundle: Bundle) -> None:
        said = speak(bundle, f"  {TEXT}\n", manner())
        assert [word.text for word in said.words] == TEXT.split()
        assert words(said.codes[0], SPELLING) == list(said.words)
        assert said.audio.samples.shape == (1, 1920 * said.codes.shape[1])
        assert said.audio.rate == 24000
        assert said.cut
        assert said.prompt_frames == 0

    def test_words_have_the_times_of_their_sound(self, bundle: Bundle) -> None:
        ahead = replace(bundle, config=replace(bundle.config, modes=Modes(speak=Mode(text_delay=-0.16))))
        first, later = speak(bundle, TEXT, manner()), speak(ahead, TEXT, manner())
        assert torch.equal(first.codes, later.codes[:, : first.codes.shape[1]])
        for a, b in zip(first.words, later.words, strict=True):
            assert b.start - a.start == pytest.approx(0.16)

    def test_the_model_chooses_when(self, bundle: Bundle) -> None:
        """A model that would pad for ever has each word forced; one that never would says them in one breath."""
        slow = speak(bundle, TEXT, manner(padding_bonus=1e4))
        quick = speak(bundle, TEXT, manner(padding_bonus=-1e4))
        own = speak(bundle, TEXT, manner())
        count = len(TEXT.split())
        assert slow.hurried == count
        assert quick.hurried == own.hurried == 0
        gaps = [b.start - a.end for a, b in zip(slow.words, slow.words[1:], strict=False)]
        np.testing.assert_allclose(gaps, [0.8] * (count - 1), atol=1e-9)
        assert (quick.codes[0] == PAD).sum() == 4  # the tail alone, less the frame that is not whole
        assert own.words[-1].end > quick.words[-1].end - 1e-9

    def test_a_seed_says_the_same_in_any_company(self, bundle: Bundle) -> None:
        texts = [TEXT, "yes", "no it is", "what"]
        alone = [speak(bundle, text, manner(3)) for text in texts]
        found = speak_all(bundle, texts, manner(3), slots=3)
        for one, other in zip(alone, found, strict=True):
            assert torch.equal(one.codes, other.codes)
            assert one.words == other.words
            np.testing.assert_allclose(one.audio.samples, other.audio.samples, atol=1e-5)
        assert not torch.equal(speak(bundle, TEXT, manner(4)).codes[:, :10], alone[0].codes[:, :10])

    def test_a_stream_gives_the_same_frame_by_frame(self, bundle: Bundle) -> None:
        whole = speak(bundle, TEXT, manner())
        frames = list(speak_stream(bundle, TEXT, manner()))
        assert torch.equal(torch.stack([f.tokens for f in frames], 1), whole.codes[:9])
        np.testing.assert_array_equal(torch.cat([f.sound for f in frames]), whole.audio.samples[0])
        assert tuple(word for f in frames for word in f.words) == whole.words
        word = next(i for i, f in enumerate(frames) if f.words)
        assert word <= int(whole.words[0].end * 12.5) + 1  # not at the end only

    @pytest.mark.parametrize("lag", [1, 0])
    @pytest.mark.parametrize("prompt", ["", "be kind"])
    def test_its_codes_are_what_the_model_scores_highest(self, lag: int, prompt: str) -> None:
        """Every audio code is the likeliest given all codes before it, prompt included, with the user silent."""
        bundle = tiny(lag=lag)
        said = speak(bundle, TEXT, replace(manner(), sampling=GREEDY, text_prompt=prompt))
        tone, config = tones(bundle.need_codec(), kyutai=False), bundle.lm.config
        ids = SPELLING.encode(system_prompt(prompt)) if prompt else []
        before = prompt_codes(config, tone, ids, None)
        if lag == 0:
            before = before[:, 1:]
        assert said.prompt_frames == before.shape[1]
        codes = torch.cat((before, said.codes), 1)
        with torch.no_grad():
            scored = bundle.lm(codes[None]).audio_logits[0].argmax(-1)
        begun, end = before.shape[1], codes.shape[1] - 1  # the last frame's acoustic logits lie beyond the end
        assert end - begun > 15
        assert torch.equal(scored[:8, begun:end], said.codes[1:9, : end - begun])

    def test_a_voice_comes_before_and_is_not_heard(self, bundle: Bundle) -> None:
        codes = torch.randint(0, 64, (8, 10), generator=torch.Generator().manual_seed(1))
        plain = speak(bundle, TEXT, manner())
        voiced = speak(bundle, TEXT, replace(manner(), voice=Voice(codes=codes)))
        assert voiced.prompt_frames == 22
        assert [w.text for w in voiced.words] == TEXT.split()
        assert voiced.audio.samples.shape[1] == 1920 * voiced.codes.shape[1]
        assert not torch.equal(voiced.codes[1:, :5], plain.codes[1:, :5])

    def test_a_mode_s_prompt_is_given_unless_another_is(self, bundle: Bundle) -> None:
        told = replace(bundle, config=replace(bundle.config, modes=Modes(speak=Mode(prompt="read"))))
        assert speak(told, "yes", manner()).prompt_frames > 12
        assert speak(told, "yes", replace(manner(), text_prompt="")).prompt_frames == 0

    def test_a_mode_s_guidance_is_taken_unless_another_is_asked_for(self, bundle: Bundle) -> None:
        told = replace(bundle, config=replace(bundle.config, modes=Modes(speak=Mode(guidance=3.0))))
        own = bundle.config.sampling
        as_told, asked, plain, guided = (
            speak(b, "yes", Manner(sampling=s))
            for b, s in (
                (told, None),
                (told, replace(own, guidance=1.0)),
                (bundle, None),
                (bundle, replace(own, guidance=3.0)),
            )
        )
        assert torch.equal(as_told.codes, guided.codes)
        assert torch.equal(asked.codes, plain.codes)
        assert not torch.equal(as_told.codes, plain.codes)

    def test_it_ends_when_the_sound_has_fallen_silent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bundle = tiny(modes=Modes(speak=Mode(text_delay=-0.16)))
        codec = bundle.need_codec()
        decode: Callable = codec.decode_step
        sounding = 30

        def planned(said: torch.Tensor, state: dict, active: torch.Tensor, **how: bool) -> object:
            nonlocal calls
            calls += int(active[0])
            sound, after = decode(said, state, active, **how)
            loud = 0.1 if calls <= sounding else 1e-4
            return torch.full_like(sound, loud), after

        monkeypatch.setattr(codec, "decode_step", planned)
        calls = 0
        said = speak(bundle, TEXT, replace(manner(padding_bonus=-1e4), pace=Pace(tail=9.0)))
        assert not said.cut
        assert said.codes.shape[1] == sounding + HUSH_FRAMES
        calls, sounding = 0, 0  # never a sound: at least what the last word needs
        said = speak(bundle, TEXT, replace(manner(padding_bonus=-1e4), pace=Pace(tail=9.0)))
        begun = round(said.words[-1].end * 12.5)  # where its text ends, and the two frames by which that is ahead
        assert said.codes.shape[1] == begun + SETTLE_FRAMES + HUSH_FRAMES

    def test_what_cannot_be_said_is_one_line(self, bundle: Bundle) -> None:
        with pytest.raises(UserError, match="no words"):
            speak(bundle, " \n")
        with pytest.raises(UserError, match="has no text tokenizer"):
            speak(load("random:tiny", device="cpu"), TEXT)
        with pytest.raises(UserError, match="has not learned to speak"):
            speak(replace(bundle, config=replace(bundle.config, modes=Modes())), TEXT)
        with pytest.raises(UserError, match="0 is no number of texts"):
            speak_all(bundle, [TEXT], slots=0)
        with pytest.raises(UserError, match="gives id 127"):
            spell("a", replace(SPELLING, encoder=lambda _: [127]), TextLayout(), 100)
        for wrong in ({"max_silence": -1.0}, {"tail": float("inf")}):
            with pytest.raises(UserError, match=next(iter(wrong))):
                Pace(**wrong)

    def test_no_texts_are_nothing(self, bundle: Bundle) -> None:
        assert speak_all(bundle, []) == []


class TestModes:
    STT = LMConfig(n_q=4, dep_q=0, delays=(0,) * 5, audio_delay_seconds=0.5)

    def test_kinds_of_models_have_theirs(self) -> None:
        assert read_modes(None, self.STT, "m") == Modes(transcribe=Mode(text_delay=0.5))
        assert read_modes(None, TINY, "m") == Modes(speak=Mode())

    def test_what_is_declared_is_taken(self) -> None:
        given = {
            "transcribe": {"prompt": "transcribe", "text_delay": 1.04, "guidance": None, "model": None},
            "speak": {"prompt": None, "text_delay": -0.16, "guidance": 2.0, "model": None},
        }
        transcribe, speaks = Mode(prompt="transcribe", text_delay=1.04), Mode(text_delay=-0.16, guidance=2.0)
        assert read_modes(given, TINY, "m") == Modes(transcribe=transcribe, speak=speaks)
        assert {name: to_dict(mode) for name, mode in (("transcribe", transcribe), ("speak", speaks))} == given

    @pytest.mark.parametrize(
        ("given", "named"),
        [
            ({"sing": {}}, "sing"),
            ({"speak": {"delay": 1}}, "delay"),
            ({"speak": {"text_delay": "late"}}, "late"),
            ({"speak": {"text_delay": 1e9}}, "is no delay"),
            ({"speak": {"guidance": -1}}, "is no guidance"),
            ({"transcribe": {"guidance": 2.0}}, "writes no sound"),
            (["speak"], "modes is not an object"),
        ],
    )
    def test_what_nobody_knows_is_refused(self, given: object, named: str) -> None:
        with pytest.raises(UserError, match=named) as raised:
            read_modes(given, TINY, "folder, duologue.json")
        assert str(raised.value).startswith("folder, duologue.json")
        assert "\n" not in str(raised.value)

    def test_a_model_without_a_voice_cannot_speak(self) -> None:
        with pytest.raises(UserError, match="declares speak"):
            read_modes({"speak": {}}, self.STT, "m")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SentencePiece tokenizer and a speak mode."""
    folder = tmp_path_factory.mktemp("speak")
    bundle = load("random:tiny@1", device="cpu")
    config = replace(bundle.config, text_file=_sentencepiece(folder / "spm.model"))
    export(replace(bundle, lm=random_model(replace(TINY, text_card=320)), config=config), folder / "model")
    ours = folder / "model" / "duologue.json"
    write_json(ours, read_json(ours) | {"modes": {"speak": {"text_delay": -0.16}}})
    return folder / "model"


class TestVerb:
    @staticmethod
    def speak(model: Path, out: Path, **options: object) -> int:
        return verb.main(verb.SpeakConfig(model=str(model), out=out, device="cpu", tail=0.3, **options))

    def test_it_writes_sound_words_and_tokens(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = "hello there, the café is open"
        assert self.speak(model, tmp_path / "a.wav", text=text, seed=5) == 0
        assert "6 words" in capsys.readouterr().out
        sound = read_audio(tmp_path / "a.wav")
        codes, header = read_tokens(tmp_path / "a.safetensors")
        assert sound.samples.shape == (1, 1920 * codes.shape[1])
        assert (header.agent_streams, header.user_streams) == (8, 8)
        said = json.loads((tmp_path / "a.json").read_text())
        assert said["lines"][0]["text"] == text
        assert [w["word"] for w in said["lines"][0]["words"]] == text.split()
        read = words(codes[0], load(model, device="cpu").need_text(), TextLayout(delay=-0.16))
        assert [w.text for w in read] == text.split()
        assert [w["start"] for w in said["lines"][0]["words"]] == [w.start for w in read]
        assert said["made"]["weights"] == header.model
        assert self.speak(model, tmp_path / "b.wav", text=text, seed=5) == 0
        assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()

    def test_each_line_of_a_file_is_said_apart(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "lines.txt").write_text("hello there\n\n  well thank you \n")
        words_file = tmp_path / "words.json"
        assert self.speak(model, tmp_path / "out.wav", file=tmp_path / "lines.txt", json=words_file, greedy=True) == 0
        said = json.loads(words_file.read_text())["lines"]
        assert [(line["text"], line["sound"]) for line in said] == [
            ("hello there", "out-001.wav"), ("well thank you", "out-002.wav"),
        ]  # fmt: skip
        assert read_audio(tmp_path / "out-002.wav").duration == pytest.approx(said[1]["duration"])
        assert (tmp_path / "out-001.safetensors").is_file()
        assert not (tmp_path / "out.wav").exists()

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({}, "no text given"),
            ({"text": "a", "file": Path("x.txt")}, "a text and a file"),
            ({"text": "  "}, "has no words"),
            ({"file": Path("gone.txt")}, "gone.txt"),
            ({"text": "a", "seed": -1}, "-1 is no seed"),
            ({"text": "a", "max_silence": -1.0}, "max_silence"),
            ({"text": "a", "batch": 0}, "0 is no number"),
            ({"text": "a", "voice_prompt": "NATF0"}, "no voice of this model"),
            ({"text": "a", "out": Path("a.mp3")}, "name a file that ends in"),
        ],
    )
    def test_mistakes_are_one_line(self, model: Path, tmp_path: Path, options: dict, named: str) -> None:
        out = tmp_path / options.pop("out", "a.wav")
        with pytest.raises(UserError, match=named) as raised:
            self.speak(model, out, **options)
        assert "\n" not in str(raised.value)
        assert not list(tmp_path.iterdir())

    def test_a_recording_is_a_voice(self, model: Path, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        write_audio(tmp_path / "v.wav", Audio(0.2 * rng.standard_normal((1, 24000)).astype(np.float32), 24000))
        assert self.speak(model, tmp_path / "a.wav", text="hello", voice_prompt=str(tmp_path / "v.wav")) == 0
        assert json.loads((tmp_path / "a.json").read_text())["lines"][0]["prompt_frames"] == 25

    def test_the_command_line_says_the_same(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commands = Group("", {"speak": Verb("", "duologue.engine.speak:main")})
        options = ["--model", str(model), "--device", "cpu", "--tail", "0.3"]
        assert run(commands, ["speak", "hello there", "-o", str(tmp_path / "a.wav"), *options]) == 0
        assert self.speak(model, tmp_path / "b.wav", text="hello there") == 0
        assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
        assert run(commands, ["speak", "-o", str(tmp_path / "c.wav"), *options]) == 2
        assert capsys.readouterr().err.count("\n") == 1
