"""Prompts are laid out as PersonaPlex lays them, computed once, and refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from duologue.audio.wave import Audio, write_audio
from duologue.base.errors import UserError
from duologue.engine.engine import FREE, Engine
from duologue.engine.prompts import SILENCE, SINE, Prompter, Tones, Voice, prompt_codes, read_voice, tones
from duologue.engine.sampling import GREEDY
from duologue.model import load_lm
from duologue.model.checkpoint import read_config
from duologue.model.initial import random_codec
from duologue.model.lm import DuplexLM
from duologue.model.presets import PRESETS
from duologue.model.text import TextTokenizer

TINY = PRESETS["tiny"]


def letters() -> TextTokenizer:
    """A tokenizer of one id per letter."""
    return TextTokenizer(lambda text: [5 + ord(c) % 50 for c in text], tuple(bytes([i]) for i in range(128)))


def golden(shared_data: Path, **changes: object) -> tuple[DuplexLM, dict[str, torch.Tensor]]:
    folder = shared_data / "goldens" / "personaplex_tiny"
    config = replace(read_config(folder / "config.json"), **changes)
    return load_lm(folder, device="cpu", config=config), load_file(folder / "golden.safetensors")


def test_the_prompted_session_is_personaplex_s(shared_data: Path) -> None:
    """Prompt by parallel prefill, then free calls: the tokens that its code returned."""
    lm, recorded = golden(shared_data, context=256)
    session = {k.removeprefix("prompted_wide."): v for k, v in recorded.items() if k.startswith("prompted_wide.")}
    engine = Engine(lm, 1)
    tone = Tones(recorded["in.silence_codes"].flatten(), recorded["in.sine_codes"].flatten())
    voice = recorded["in.voice_codes"].reshape(8, 8).t()  # frames first, as recorded
    codes = prompt_codes(lm.config, tone, recorded["in.text_ids"].flatten().tolist(), voice)
    assert torch.equal(codes[0], session["forced_text"][:32])
    assert torch.equal(codes[1:9].t(), session["forced_agent"][:32])
    assert torch.equal(codes[9:].t(), session["given_user"][:32])
    state = engine.initial_state(GREEDY)
    engine.prefill(state, [0], codes[None, :, 1:])  # its first call drops what it is given
    for call in range(32, 92):
        got = engine.advance(state, session["given_user"][call][None])
        assert got.tokens[0].tolist() == session["returned"][call, :9].tolist()
        torch.testing.assert_close(got.text_logits[0], session["text_logits"][call], atol=1e-5, rtol=0)


def test_tones_are_published_constants_or_the_codec_s_steady_state() -> None:
    codec = random_codec(TINY.codec, 8, 0, device="cpu")
    assert tones(codec, kyutai=True).silence.tolist() == list(SILENCE)
    assert tones(codec, kyutai=True).sine.tolist() == list(SINE)
    own = tones(codec, kyutai=False)
    assert own.silence.shape == own.sine.shape == (8,)
    with torch.no_grad():
        long = codec.encode(torch.zeros(1, 1, 60 * codec.frame_size))[0]
    assert torch.equal(own.silence, long[:, 24])
    assert torch.equal(own.silence, long[:, -1])


class TestPrompter:
    @pytest.fixture
    def engine(self) -> Engine:
        torch.manual_seed(0)
        return Engine(DuplexLM(replace(TINY.lm, user_lag=0, dep_q=16)).eval(), 2)

    @pytest.fixture
    def prompter(self, engine: Engine) -> Prompter:
        tone = Tones(torch.arange(8), torch.arange(8, 16))
        return Prompter(engine, tone, letters)

    def test_no_prompt_is_no_frames(self, engine: Engine, prompter: Prompter) -> None:
        state = engine.initial_state()
        assert prompter.apply(state, 0, "  ") == 0
        assert state.calls == [0, 0]

    def test_frames_are_counted_as_personaplex_s(self, engine: Engine, prompter: Prompter) -> None:
        state = engine.initial_state()
        voice = Voice(codes=torch.ones(8, 5, dtype=torch.long))
        assert prompter.apply(state, 0, "Hi", voice) == 5 + 6 + len("<system> Hi <system>") + 6 - 1
        assert prompter.apply(state, 0, "", voice) == 5 + 6 + 6 - 1

    def test_a_prompt_that_comes_again_is_copied(
        self, engine: Engine, prompter: Prompter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state = engine.initial_state(GREEDY)
        n = prompter.apply(state, 0, "Hi")
        monkeypatch.setattr(engine, "prefill", lambda *_: pytest.fail("computed again"))
        user = torch.zeros(2, 8, dtype=torch.long)
        engine.step(state, user)
        assert prompter.apply(state, 1, "<system> Hi <system>") == n  # the same content
        assert prompter.apply(state, 0, "Hi") == n
        for _ in range(5):
            tokens, _ = engine.step(state, user)
            assert torch.equal(tokens[0], tokens[1])

    def test_the_last_prompt_s_frame_comes_first(self, engine: Engine, prompter: Prompter) -> None:
        state = engine.initial_state(GREEDY)
        prompter.apply(state, 1, "Hi")
        tokens, _ = engine.step(state, torch.zeros(2, 8, dtype=torch.long))
        assert tokens[1].tolist() == [3, *range(8)]
        assert (tokens[0] == FREE).all()

    def test_a_prompt_longer_than_the_context_is_refused(self, engine: Engine, prompter: Prompter) -> None:
        with pytest.raises(UserError, match=r"the prompt has 2\d\d frames, and the model remembers 50"):
            prompter.apply(engine.initial_state(), 0, "x" * 200)


class TestVoices:
    def test_a_recording_is_taken_at_its_level(self, tmp_path: Path) -> None:
        codec = random_codec(TINY.codec, 8, 0, device="cpu")
        wave = np.sin(np.arange(16000 * 2) * 0.1).astype(np.float32)
        write_audio(tmp_path / "loud.wav", Audio(np.stack((wave * 0.9, wave * 0)), 16000), encoding="FLOAT")
        write_audio(tmp_path / "quiet.wav", Audio(wave[None] * 0.05, 16000), encoding="FLOAT")
        loud, quiet = (read_voice(tmp_path / f"{x}.wav", codec, TINY.lm).codes for x in ("loud", "quiet"))
        assert loud is not None
        assert quiet is not None
        assert loud.shape == (8, 25)
        assert (loud == quiet).float().mean() > 0.95

    @pytest.mark.parametrize(("seconds", "level", "named"), [(0.2, 0.5, "shorter than 0.4 s"), (2, 0.0, "is silent")])
    def test_nothing_to_imitate_is_refused(self, tmp_path: Path, seconds: float, level: float, named: str) -> None:
        codec = random_codec(TINY.codec, 8, 0, device="cpu")
        wave = level * np.sin(np.arange(int(24000 * seconds)) * 0.1, dtype=np.float32)
        write_audio(tmp_path / "a.wav", Audio(wave[None].astype(np.float32), 24000))
        with pytest.raises(UserError, match=named):
            read_voice(tmp_path / "a.wav", codec, TINY.lm)

    def test_what_personaplex_keeps_of_a_voice_goes_on_as_the_voice(self, shared_data: Path, tmp_path: Path) -> None:
        """A .pt file as its code writes it, from our own steps: embeddings of each call, and its ring of tokens."""
        lm, recorded = golden(shared_data, context=256)
        codec = random_codec(TINY.codec, 8, 0, device="cpu")
        tone = Tones(recorded["in.silence_codes"].flatten(), recorded["in.sine_codes"].flatten())
        spoken = recorded["prompted_wide.forced_agent"][:8].t()
        whole = prompt_codes(lm.config, tone, [], spoken)[:, :8]
        with torch.no_grad():
            read = lm.delayed(whole[None, :, 1:])[:, :, :-1]  # N = 7 calls
            x = lm.text_emb(read[:, 0]) + sum(e(read[:, 1 + q]) for q, e in enumerate(lm.emb))
        ring = torch.full((1, 17, 4), -2)
        for frame in range(7):
            for k, delay in enumerate(lm.config.delays):
                ring[0, k, (frame + 1 + delay) % 4] = whole[k, frame + 1]
        torch.save({"embeddings": x[0, :, None, None], "cache": ring}, tmp_path / "voice.pt")
        voice = read_voice(tmp_path / "voice.pt", codec, lm.config)
        engine = Engine(lm, 2)
        prompter = Prompter(engine, tone, letters)
        state = engine.initial_state(GREEDY)
        frames = [prompter.apply(state, 0, "Hello", voice), prompter.apply(state, 1, "Hello", Voice(codes=spoken))]
        assert frames[0] == frames[1]
        user = recorded["prompted_wide.given_user"][40:60]
        for call in user:
            got = engine.advance(state, call.expand(2, -1))
            assert torch.equal(got.tokens[0], got.tokens[1])
            torch.testing.assert_close(got.text_logits[0], got.text_logits[1], atol=1e-5, rtol=1e-5)

    def test_files_that_are_no_voice_are_refused(self, tmp_path: Path) -> None:
        codec = random_codec(TINY.codec, 8, 0, device="cpu")
        torch.save({"embeddings": torch.zeros(3, 1, 1, 7), "cache": torch.zeros(1, 17, 4)}, tmp_path / "a.pt")
        with pytest.raises(UserError, match=r"this model needs \[N, 1, 1, 32\]"):
            read_voice(tmp_path / "a.pt", codec, TINY.lm)
        torch.save({"other": 1}, tmp_path / "b.pt")
        with pytest.raises(UserError, match="holds no embeddings"):
            read_voice(tmp_path / "b.pt", codec, TINY.lm)
        torch.save({"embeddings": Path("code")}, tmp_path / "c.pt")
        with pytest.raises(UserError, match="cannot be read safely"):
            read_voice(tmp_path / "c.pt", codec, TINY.lm)
