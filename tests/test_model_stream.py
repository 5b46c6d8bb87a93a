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
from duologue.model.stream import StreamLM
from test_model_parity import SHAPES, TINY, random_codes, random_model


def streamed(model: DuplexLM, delayed: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Text logits [B, S, V] and audio logits [B, steps, S, card] of delayed tokens [B, K, 1 + S], frame by frame."""
    S = delayed.shape[2] - 1
    stream = StreamLM(model)
    state = stream.initial_state(len(delayed), S)
    texts, audios = [], []
    for s in range(S):
        hidden, text = stream.read(delayed[:, :, s], state)
        depth = stream.depth(hidden)
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
    stream = StreamLM(model)
    state = stream.initial_state(1)
    with torch.no_grad():
        for call in range(1, len(tokens) - 1):  # call 0 only starts the session
            hidden, text = stream.read(tokens[call][None], state)
            depth = stream.depth(hidden)
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
        stream = StreamLM(model)
        state, alone = stream.initial_state(2), stream.initial_state(2)
        with torch.no_grad():
            stream.read(a, state)
            stream.read(b, state, active=torch.tensor([True, False]))
            _, got = stream.read(c, state)
            stream.read(a, alone)
            _, expected = stream.read(c, alone)
        torch.testing.assert_close(got[1], expected[1], atol=1e-5, rtol=0)
        assert state.steps.tolist() == [3, 2]

    def test_a_reset_row_starts_anew(self, model: DuplexLM) -> None:
        frames = self.tokens(model.config, 9)
        stream = StreamLM(model)
        state, fresh = stream.initial_state(2), stream.initial_state(2)
        with torch.no_grad():
            for frame in frames[:8]:
                stream.read(frame, state)
            state.reset(torch.tensor([False, True]))
            _, got = stream.read(frames[8], state)
            _, expected = stream.read(frames[8], fresh)
        torch.testing.assert_close(got[1], expected[1], atol=1e-5, rtol=0)
        assert not torch.allclose(got[0], expected[0], atol=1e-3)

    def test_a_copied_row_shares_the_prefix_and_not_the_future(self, model: DuplexLM) -> None:
        frames = self.tokens(model.config, 5)
        stream = StreamLM(model)
        state = stream.initial_state(2)
        with torch.no_grad():
            for frame in frames[:4]:
                stream.read(frame, state)
            state.copy_row(0, 1)
            other = state.clone()
            _, got = stream.read(frames[4][:1].expand(2, -1), state)
        torch.testing.assert_close(got[0], got[1], atol=1e-5, rtol=0)
        assert other.steps.tolist() == [4, 4]


def test_a_model_without_limit_needs_to_know_how_long() -> None:
    with pytest.raises(ValueError, match="number of frames"):
        StreamLM(random_model(replace(TINY, context=None))).initial_state(1)


@pytest.mark.parametrize("shape", ["moshi", "grouped heads", "no limit of context"])
@pytest.mark.parametrize("parts", [[30], [1, 2, 27], [14, 16]])
def test_reading_many_frames_at_once_equals_reading_them_one_by_one(shape: str, parts: list[int]) -> None:
    model = random_model(SHAPES[shape])
    stream = StreamLM(model)
    tokens = model.delayed(random_codes(model.config, 34, holes=True))
    slow, quick = stream.initial_state(3, 40), stream.initial_state(3, 40)
    first = torch.tensor([True, False, True])
    three = tokens[torch.tensor([0, 1, 1])]
    with torch.no_grad():
        for s in range(30):
            stream.read(three[:, :, s], slow, active=first)
        begin = 0
        for n in parts:
            stream.prefill(three[[0, 2], :, begin : begin + n], quick, [0, 2])
            begin += n
        assert torch.equal(slow.steps, quick.steps)
        for s in range(30, 34):
            expected, got = (stream.read(three[:, :, s], state)[1] for state in (slow, quick))
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-5)


def test_rows_that_stand_apart_are_not_filled_together() -> None:
    model = random_model(TINY)
    stream = StreamLM(model)
    state = stream.initial_state(2)
    tokens = model.delayed(random_codes(TINY, 3, holes=False))
    with torch.no_grad():
        stream.prefill(tokens[:1], state, [0])
        with pytest.raises(ValueError, match="different steps"):
            stream.prefill(tokens, state, [0, 1])


def test_training_in_place_is_seen_and_packing_changes_no_parameter() -> None:
    model = random_model(TINY)
    before = {name: p.clone() for name, p in model.named_parameters()}
    parameters = list(model.parameters())
    stream, again = StreamLM(model), StreamLM(model)
    assert stream.table.data_ptr() == again.table.data_ptr()
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    tokens = model.delayed(random_codes(TINY, 3, holes=False))[:, :, 1]
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(1.5)
        _, got = stream.read(tokens, stream.initial_state(2))
        _, expected = StreamLM(model).read(tokens, stream.initial_state(2))
        hidden = model.temporal(tokens[:, :, None])
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(got, model.text_linear(hidden)[:, 0], atol=1e-5, rtol=1e-5)
