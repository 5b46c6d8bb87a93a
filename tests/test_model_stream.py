"""The streaming view gives the logits of teacher forcing, and of PersonaPlex's own streaming code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from duologue.model import load_lm
from duologue.model.checkpoint import read_config
from duologue.model.config import LMConfig
from duologue.model.lm import DuplexLM
from duologue.model.stream import DepthPass, initial_state, read
from test_model_parity import SHAPES, TINY, random_codes, random_model


def streamed(model: DuplexLM, delayed: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Text logits [B, S, V] and audio logits [B, steps, S, card] of delayed tokens [B, K, 1 + S], frame by frame."""
    S = delayed.shape[2] - 1
    state = initial_state(model, len(delayed), S)
    texts, audios = [], []
    for s in range(S):
        hidden, text = read(model, delayed[:, :, s], state)
        depth = DepthPass(model, hidden)
        audios.append(torch.stack([depth.step(delayed[:, q, s + 1]) for q in range(steps)], 1))
        texts.append(text)
    return torch.stack(texts, 1), torch.stack(audios, 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_streaming_equals_teacher_forcing(shape: str) -> None:
    model = random_model(SHAPES[shape])
    codes = random_codes(model.config, 30, holes=True)  # longer than the context of 12
    with torch.no_grad():
        delayed = model.delayed(codes)
        hidden = model.temporal(delayed[:, :, :-1])
        deep = model.depth(hidden, delayed[:, :, 1:], model.config.dep_q)
        text, audio = model.text_linear(hidden), torch.stack([f(deep[:, :, q]) for q, f in enumerate(model.linears)], 1)
        got_text, got_audio = streamed(model, delayed, model.config.dep_q)
    torch.testing.assert_close(got_text, text, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(got_audio, audio, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("session", ["plain_wide", "prompted_wide", "partial"])
def test_sessions_equal_personaplex_s(shared_data: Path, session: str) -> None:
    """All streams but the last: PersonaPlex's ring of depth keys is full at its 16th step and forgets the first.

    Nothing that is spoken hangs on that step, a user stream's.
    """
    folder = shared_data / "goldens" / "personaplex_tiny"
    golden = load_file(folder / "golden.safetensors")
    config = replace(read_config(folder / "config.json"), context=256)
    model = load_lm(folder, device="cpu", config=config)
    tokens = golden[f"{session}.model_input"]
    state = initial_state(model, 1)
    with torch.no_grad():
        for call in range(1, len(tokens) - 1):  # call 0 only starts the session
            hidden, text = read(model, tokens[call][None], state)
            depth = DepthPass(model, hidden)
            audio = torch.stack([depth.step(tokens[call + 1, q][None])[0] for q in range(config.dep_q - 1)])
            torch.testing.assert_close(text[0], golden[f"{session}.text_logits"][call], atol=1e-5, rtol=0)
            torch.testing.assert_close(audio, golden[f"{session}.audio_logits"][call, :-1], atol=1e-5, rtol=0)


class TestRows:
    """Streams of one batch do not know of each other."""

    @pytest.fixture
    def model(self) -> DuplexLM:
        return random_model(replace(TINY, context=6))

    @staticmethod
    def tokens(config: LMConfig, n: int) -> torch.Tensor:
        return random_codes(config, n, holes=False).permute(2, 0, 1)

    def test_a_paused_row_goes_on_where_it_stopped(self, model: DuplexLM) -> None:
        a, b, c, *_ = self.tokens(model.config, 3)
        state, alone = initial_state(model, 2), initial_state(model, 2)
        with torch.no_grad():
            read(model, a, state)
            read(model, b, state, active=torch.tensor([True, False]))
            _, got = read(model, c, state)
            read(model, a, alone)
            _, expected = read(model, c, alone)
        torch.testing.assert_close(got[1], expected[1], atol=1e-5, rtol=0)
        assert state.steps.tolist() == [3, 2]

    def test_a_reset_row_starts_anew(self, model: DuplexLM) -> None:
        frames = self.tokens(model.config, 9)
        state, fresh = initial_state(model, 2), initial_state(model, 2)
        with torch.no_grad():
            for frame in frames[:8]:
                read(model, frame, state)
            state.reset(torch.tensor([False, True]))
            _, got = read(model, frames[8], state)
            _, expected = read(model, frames[8], fresh)
        torch.testing.assert_close(got[1], expected[1], atol=1e-5, rtol=0)
        assert not torch.allclose(got[0], expected[0], atol=1e-3)

    def test_a_copied_row_shares_the_prefix_and_not_the_future(self, model: DuplexLM) -> None:
        frames = self.tokens(model.config, 5)
        state = initial_state(model, 2)
        with torch.no_grad():
            for frame in frames[:4]:
                read(model, frame, state)
            state.copy_row(0, 1)
            other = state.clone()
            _, got = read(model, frames[4][:1].expand(2, -1), state)
        torch.testing.assert_close(got[0], got[1], atol=1e-5, rtol=0)
        assert other.steps.tolist() == [4, 4]


def test_a_model_without_limit_needs_to_know_how_long() -> None:
    with pytest.raises(ValueError, match="number of frames"):
        initial_state(random_model(replace(TINY, context=None)), 1)
