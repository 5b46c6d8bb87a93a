"""Streams of the codec: equal to the whole signal however it is cut, with rows that pause, restart and are cloned."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_models import TINY, noise, random_codec
from duologue.codec import split
from duologue.codec.mimi import Mimi
from duologue.codec.stream import CodecState, clone_state, keep_rows

FRAME = TINY.frame_size


def talk(codec: Mimi, audio: torch.Tensor, chunks: list[int], *, reuse: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and decoded audio of a stream cut into so many frames."""
    state, codes, waves = codec.initial_state(len(audio)), [], []
    with torch.no_grad():
        for chunk in audio.split([FRAME * n for n in chunks], dim=-1):
            part, state = codec.encode_step(chunk, state, reuse=reuse)
            sound, state = codec.decode_step(part, state, reuse=reuse)
            codes.append(part)
            waves.append(sound)
    return torch.cat(codes, -1), torch.cat(waves, -1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.booleans())
def test_a_stream_equals_the_whole_however_it_is_cut(chunks: list[int], reuse: bool) -> None:
    """The context is 10 steps, 5 frames: chunks are shorter and longer than it, and streams leave it behind."""
    codec = random_codec()
    audio = noise(2, 1, FRAME * sum(chunks))
    codes, wave = talk(codec, audio, chunks, reuse=reuse)
    with torch.no_grad():
        assert torch.equal(codes, codec.encode(audio))
        torch.testing.assert_close(wave, codec.decode(codes), atol=1e-5, rtol=0)


def test_long_signals_are_taken_in_parts_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, audio = random_codec(), noise(2, 1, FRAME * 150 + 5)
    parts = [(codec.encode(audio), codec.decode(codec.encode(audio)).detach())]
    for chunk, block in ((14, 256), (10**6, 7)):
        monkeypatch.setitem(split.CHUNK, "cpu", chunk)
        monkeypatch.setattr("duologue.codec.transformer.BLOCK", block)
        with torch.no_grad():
            codes = codec.encode(audio)
            parts.append((codes, codec.decode(codes)))
    assert parts[0][0].shape == (2, 4, 151)
    for codes, wave in parts[1:]:
        assert torch.equal(codes, parts[0][0])
        torch.testing.assert_close(wave, parts[0][1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("reuse", [False, True])
def test_a_paused_row_goes_on_where_it_stopped_and_a_reset_row_starts_anew(reuse: bool) -> None:
    codec = random_codec()
    audio = noise(2, 1, FRAME * 22)
    a, b, c = audio.split([FRAME * 7, FRAME * 6, FRAME * 9], dim=-1)
    _, state = codec.encode_step(a, codec.initial_state(2))
    old = clone_state(state)
    _, state = codec.encode_step(b[..., :FRAME], state, active=torch.tensor([True, False]), reuse=reuse)
    _, state = codec.encode_step(b[..., FRAME:], state, active=torch.tensor([True, False]), reuse=reuse)
    codes, _ = codec.encode_step(c, state, reuse=reuse)
    assert torch.equal(codes[:1], codec.encode(audio)[:1, :, 13:])
    assert torch.equal(codes[1:], codec.encode(torch.cat((a, c), dim=-1))[1:, :, 7:])
    fresh = keep_rows(codec.initial_state(2), old, torch.tensor([True, False]))
    codes, _ = codec.encode_step(b, fresh, reuse=reuse)
    assert torch.equal(codes[:1], codec.encode(b)[:1])
    assert torch.equal(codes[1:], codec.encode(audio)[1:, :, 7:13])


def test_a_step_leaves_the_state_that_it_was_given_as_it_was() -> None:
    codec = random_codec()
    state: CodecState = codec.initial_state(1)
    for frames in (1, 8):
        before = clone_state(state)
        codes, after = codec.encode_step(noise(1, 1, FRAME * frames), state)
        with torch.no_grad():
            codec.decode_step(codes, state)
        assert all(torch.equal(x, before[name]) for name, x in state.items())
        state = after


def test_one_state_serves_both_directions() -> None:
    codec = random_codec()
    audio = noise(1, 1, FRAME * 2)
    codes = codec.encode(audio)
    with torch.no_grad():
        _, state = codec.encode_step(audio[..., :FRAME], codec.initial_state(1))
        _, state = codec.decode_step(codes[..., :1], state)
        assert torch.equal(codec.encode_step(audio[..., FRAME:], state)[0], codes[..., 1:])
        second = codec.decode(codes)[..., FRAME:]
        torch.testing.assert_close(codec.decode_step(codes[..., 1:], state)[0], second, atol=1e-5, rtol=0)


def test_rows_and_columns_of_weights_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deep convolutions are matrix products where steps are few: as PyTorch's own convolutions."""
    codec = random_codec()
    audio = noise(2, 1, FRAME * 3)
    with torch.no_grad():
        monkeypatch.setattr("duologue.codec.conv.MANY_WEIGHTS", 10**9)
        latent, codes = codec.latent(audio), codec.encode(audio)
        wave = codec.decode(codes)
        monkeypatch.setattr("duologue.codec.conv.MANY_WEIGHTS", 1)
        torch.testing.assert_close(codec.latent(audio), latent, atol=1e-5, rtol=0)
        torch.testing.assert_close(codec.decode(codes), wave, atol=1e-5, rtol=0)
        few, _ = codec.encode_step(audio, codec.initial_state(2))
        assert torch.equal(few, codes)
