"""The engine writes what moshi's LMGen and PersonaPlex's code write, and what `forward` scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from duologue.engine.engine import FREE, Engine
from duologue.engine.sampling import GREEDY, Sampling
from duologue.model import load_lm
from duologue.model.alignment import to_calls, to_forward
from duologue.model.checkpoint import read_config
from duologue.model.config import LMConfig, kyutai_config
from duologue.model.initial import random_lm
from duologue.model.likelihood import log_probs
from duologue.model.lm import DuplexLM
from duologue.model.lora import LoRAConfig, add_lora
from duologue.model.presets import PRESETS
from test_model_parity import SHAPES, TINY, random_model

PAIRED = replace(TINY, n_q=6, dep_q=3, delays=(0, 0, 1, 1, 0, 1, 1))
"""Moshi's pattern, three codebooks a side."""


def talk(engine: Engine, user: torch.Tensor, sampling: Sampling = GREEDY) -> tuple[torch.Tensor, ...]:
    """Tokens [B, written, T - delay], text logits [B, T, V], audio logits [B, streams, T, card] of user [B, U, T]."""
    state = engine.initial_state(sampling)
    steps = [engine.advance(state, user[:, :, t]) for t in range(user.shape[2])]
    tokens = torch.stack([s.tokens for s in steps], 2)
    assert (tokens[:, :, : engine.delay] == FREE).all()
    return (
        tokens[:, :, engine.delay :],
        torch.stack([s.text_logits for s in steps], 1),
        torch.stack([s.audio_logits for s in steps], 2),
    )


def random_user(config: LMConfig, B: int, T: int, seed: int = 3) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randint(0, config.card, (B, config.user_streams, T))


@pytest.mark.parametrize(
    "config",
    [
        PAIRED,
        replace(PAIRED, context=50, kv_repeat=2, depformer_kv_repeat=1),
        replace(PAIRED, depformer_weights_per_step_schedule=(0, 1, 1)),
        replace(PAIRED, dep_q=0, delays=(0,) * 7),
        PRESETS["nano"].lm,
    ],
    ids=["paired", "grouped heads", "shared depth weights", "listener", "nano"],
)
def test_greedy_tokens_equal_lmgen_s_over_200_frames(moshi_lm: ModuleType, config: LMConfig) -> None:
    ours = random_model(config) if config.dim < 100 else random_lm(config, 0, device="cpu", dtype="fp32")
    theirs = moshi_lm.LMModel(**kyutai_config(config)).eval()
    theirs.load_state_dict(ours.state_dict())
    user = random_user(config, 2, 200)
    generator = moshi_lm.LMGen(theirs, use_sampling=False, check=True)
    expected = []
    with torch.no_grad(), generator.streaming(2):
        for t in range(200):
            out = generator.step(user[:, :, t, None])
            expected += [] if out is None else [out]
    tokens, _, _ = talk(Engine(ours, 2), user)
    assert torch.equal(tokens, torch.cat(expected, 2))
    assert len(tokens[0, 0].unique()) > 20  # it says something


def test_guidance_by_text_equals_lmgen_s(moshi_lm: ModuleType) -> None:
    ours = random_model(PAIRED)
    theirs = moshi_lm.LMModel(**kyutai_config(PAIRED)).eval()
    theirs.load_state_dict(ours.state_dict())
    user = random_user(PAIRED, 2, 60)
    generator = moshi_lm.LMGen(theirs, use_sampling=False, check=True, cfg_coef=2.5, cfg_is_no_text=True)
    expected = []
    with torch.no_grad(), generator.streaming(2):
        for t in range(60):
            out = generator.step(user[:, :, t, None])
            expected += [] if out is None else [out]
    tokens, _, _ = talk(Engine(ours, 2), user, replace(GREEDY, guidance=2.5))
    assert torch.equal(tokens, torch.cat(expected, 2))
    plain, _, _ = talk(Engine(ours, 2), user)
    assert not torch.equal(plain, tokens)


def test_extra_heads_equal_lmgen_s(moshi_lm: ModuleType) -> None:
    config = replace(PAIRED, dep_q=0, delays=(0,) * 7, extra_heads_num_heads=3)
    ours = random_model(config)
    theirs = moshi_lm.LMModel(**kyutai_config(config)).eval()
    theirs.load_state_dict(ours.state_dict())
    user = random_user(config, 2, 10)
    generator = moshi_lm.LMGen(theirs, use_sampling=False)
    engine = Engine(ours, 2)
    state = engine.initial_state(GREEDY)
    with torch.no_grad(), generator.streaming(2):
        for t in range(10):
            _, expected = generator.step_with_extra_heads(user[:, :, t, None])
            got = ours.extra(engine.advance(state, user[:, :, t]).hidden).softmax(-1)
            torch.testing.assert_close(got, torch.cat(expected, 1), atol=1e-5, rtol=0)


class TestPersonaPlex:
    """Its call c is our call c - 1: its first call only starts the session. The `_wide` ones are free of its quirk."""

    @pytest.mark.parametrize("session", ["plain_wide", "prompted_wide", "partial"])
    def test_greedy_sessions_are_the_recorded_ones(self, shared_data: Path, session: str) -> None:
        folder = shared_data / "goldens" / "personaplex_tiny"
        golden = load_file(folder / "golden.safetensors")
        config = replace(read_config(folder / "config.json"), context=256)
        assert config.user_lag == 0
        engine = Engine(load_lm(folder, device="cpu", config=config), 1, write_user=session == "partial")
        forced = torch.cat((golden[f"{session}.forced_text"][:, None], golden[f"{session}.forced_agent"]), 1)
        forced = forced.masked_fill(forced == -9, FREE)
        user = golden[f"{session}.given_user"]
        user = user.masked_fill(user == -9, FREE)
        returned = golden[f"{session}.returned"]
        if session == "partial":
            forced = torch.cat((forced, user), 1)
        state = engine.initial_state(GREEDY)
        for call in range(1, len(returned)):
            got = engine.advance(state, user[call][None], forced=forced[call][None])
            if call < 2:
                assert (got.tokens == FREE).all()
                continue
            assert got.tokens[0].tolist() == returned[call, : 1 + engine.audio_streams].tolist()


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("tuned", [False, True], ids=["", "after a LoRA update"])
@pytest.mark.parametrize("context", [12, None], ids=["limited", "unlimited"])
def test_forward_scores_what_was_streamed(lag: int, tuned: bool, context: int | None) -> None:
    config = replace(PAIRED, user_lag=lag, context=context)
    model = random_model(config, spread=0.1)
    if tuned:
        add_lora(model, LoRAConfig(rank=3))
        torch.manual_seed(9)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
    T = 40
    user = random_user(config, 3, T)
    engine = Engine(model, 3, frames=T)
    tokens, text, audio = talk(engine, user, Sampling(text_seed=4, audio_seed=5))
    whole = T - engine.delay
    codes = to_forward(tokens, user[:, :, :whole], lag)
    if lag == 0:
        assert codes.shape[2] == whole
    with torch.no_grad():
        scored = model(codes)
        chosen = log_probs(model, codes, depth_steps=3)
    frames = codes.shape[2]
    torch.testing.assert_close(scored.text_logits, text[:, :frames], atol=1e-5, rtol=1e-5)
    for q, delay in enumerate(config.delays[1:4]):
        n = frames - delay  # a stream's frame f is written in call f + delay
        torch.testing.assert_close(scored.audio_logits[:, q, :n], audio[:, q, delay : delay + n], atol=1e-5, rtol=1e-5)
    expected = text[:, :frames].log_softmax(-1).gather(-1, codes[:, 0, :, None])[..., 0]
    torch.testing.assert_close(chosen.text, expected, atol=1e-5, rtol=1e-5)


def test_the_wrong_alignment_is_far_off() -> None:
    """The trap that the mapping by user_lag avoids: one frame off, and log-probabilities are another model's."""
    model = random_model(PAIRED)
    user = random_user(PAIRED, 1, 30)
    tokens, text, _ = talk(Engine(model, 1), user)
    with torch.no_grad():
        wrong = model(to_forward(tokens, user[:, :, :29], 0))
    assert (wrong.text_logits[:, 5:28] - text[:, 5:28]).abs().mean() > 0.05


@pytest.mark.parametrize("lag", [0, 1])
def test_calls_and_frames_convert_both_ways(lag: int) -> None:
    torch.manual_seed(0)
    agent, user = torch.randint(0, 30, (2, 4, 9)), torch.randint(0, 30, (2, 3, 9))
    codes = to_forward(agent, user, lag)
    assert codes.shape == (2, 7, 9 - lag)
    spoken, heard = to_calls(codes, 3, lag)
    assert torch.equal(spoken[:, :, : 9 - lag], agent[:, :, : 9 - lag])
    assert torch.equal(heard[:, :, lag:], user[:, :, lag:])
    assert torch.equal(to_forward(spoken, heard, lag), codes)
    with pytest.raises(ValueError, match="9 frames"):
        to_forward(agent, user[:, :, 1:], lag)


def test_every_shape_streams_what_forward_scores() -> None:
    for shape in ("one set of depth weights", "one input projection", "extra heads"):
        config = replace(SHAPES[shape], n_q=6, dep_q=3, delays=PAIRED.delays)
        model: DuplexLM = random_model(config)
        user = random_user(config, 1, 20)
        tokens, text, _ = talk(Engine(model, 1), user)
        with torch.no_grad():
            scored = model(to_forward(tokens, user[:, :, :19], 1), depth_steps=0)
        torch.testing.assert_close(scored.text_logits, text[:, :18], atol=1e-5, rtol=1e-5)


def test_a_stream_that_is_not_late_may_follow_one_that_is() -> None:
    """Before a late stream's first frame the next one is fed its initial token, as in `forward`."""
    config = replace(PAIRED, delays=(0, 0, 1, 0, 0, 1, 1))
    model = random_model(config)
    user = random_user(config, 1, 6)
    tokens, _, audio = talk(Engine(model, 1), user)
    with torch.no_grad():
        scored = model(to_forward(tokens, user[:, :, :5], 1))
    torch.testing.assert_close(scored.audio_logits[:, 2], audio[:, 2, :4], atol=1e-5, rtol=1e-5)
