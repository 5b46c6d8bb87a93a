"""Slots do not know of each other: whatever their neighbours do, they say what they would say alone."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.engine.engine import FREE, Engine, EngineState
from duologue.engine.graphs import Outputs, Run
from duologue.engine.sampling import GREEDY, Sampling
from duologue.model.config import LMConfig
from duologue.model.kernels import EAGER, Kernels, compiled, length_of
from test_engine_parity import PAIRED, random_user, talk
from test_model_conditions import QUALITY
from test_model_parity import random_model

SLOTS = 3
SHORT = replace(PAIRED, context=8)
SAMPLING = [Sampling(text_seed=3, audio_seed=4, audio_top_k=5), Sampling(audio_top_k=0), GREEDY]
GUIDED = [replace(s, guidance=g) for s, g in zip(SAMPLING, (2.0, 1.0, 3.0), strict=True)]
ACT = st.sampled_from(["step", "step", "step", "wait", "reset", "copy 0", "copy 1", "copy 2"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[ACT] * SLOTS), min_size=5, max_size=24), st.sampled_from([0, 1]), st.booleans())
def test_a_slot_says_what_it_would_say_alone(script: list[tuple[str, ...]], lag: int, guided: bool) -> None:
    """Over random joins, pauses, resets and copies, which take the source's settings with them."""
    engine = Engine(random_model(replace(SHORT, user_lag=lag)), SLOTS)
    state = engine.initial_state(GUIDED if guided else SAMPLING)
    heard: list[list[torch.Tensor]] = [[] for _ in range(SLOTS)]
    said: list[list[torch.Tensor]] = [[] for _ in range(SLOTS)]
    user = random_user(SHORT, SLOTS, len(script))
    for t, acts in enumerate(script):
        for slot, act in enumerate(acts):
            if act == "reset":
                engine.reset(state, slot)
                heard[slot], said[slot] = [], []
            elif act.startswith("copy"):
                source = int(act[-1])
                engine.copy_slot(state, source, slot)
                engine.set_sampling(state, slot, state.sampling[source])
                heard[slot], said[slot] = list(heard[source]), list(said[source])
        active = [act != "wait" for act in acts]
        tokens, state = engine.step(state, user[:, :, t], active)
        for slot in range(SLOTS):
            if active[slot]:
                heard[slot].append(user[slot, :, t])
                said[slot].append(tokens[slot])
            else:
                assert (tokens[slot] == FREE).all()
    for slot in range(SLOTS):
        alone = engine.initial_state(GUIDED if guided else SAMPLING)
        for other, sampling in enumerate(state.sampling):
            engine.set_sampling(alone, other, sampling)
        for frame, expected in zip(heard[slot], said[slot], strict=True):
            only = [other == slot for other in range(SLOTS)]
            tokens, alone = engine.step(alone, frame.expand(SLOTS, -1), only)
            assert torch.equal(tokens[slot], expected)
        assert alone.calls[slot] == state.calls[slot]


@pytest.mark.parametrize("lag", [0, 1])
def test_neighbours_change_no_bit_of_the_logits(lag: int) -> None:
    """At the same number of slots; their lengths differ, so attention looks at more places."""
    config = replace(PAIRED, context=200, user_lag=lag)
    engine = Engine(random_model(config), SLOTS)
    user = random_user(config, SLOTS, 100)
    found = []
    for neighbours in (True, False):
        state = engine.initial_state(GREEDY)
        if neighbours:
            for t in range(70):
                engine.step(state, user[:, :, t], [False, True, True])
        steps = [engine.advance(state, user[:, :, t], [True, neighbours, neighbours]) for t in range(30)]
        found.append([(s.tokens[0], s.text_logits[0], s.audio_logits[0]) for s in steps])
    for crowded, alone in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(crowded, alone, strict=True))


def test_other_batch_sizes_agree_closely() -> None:
    model = random_model(PAIRED, spread=0.1)
    user = random_user(PAIRED, 5, 30)
    text = [talk(Engine(model, n), user[:n])[1][0] for n in (1, 2, 5)]
    for other in text[1:]:
        torch.testing.assert_close(other, text[0], atol=1e-5, rtol=1e-5)


def test_seeds_repeat_and_differ() -> None:
    model = random_model(PAIRED)
    user = random_user(PAIRED, 1, 30).expand(3, -1, -1)
    engine = Engine(model, 3)
    state = engine.initial_state([Sampling(text_seed=s, audio_seed=s) for s in (1, 1, 2)])
    tokens = torch.stack([engine.step(state, user[:, :, t])[0] for t in range(30)], 2)
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2])


class TestPrefill:
    """Known frames at once leave what they leave one by one."""

    @staticmethod
    def known(config: LMConfig, T: int) -> torch.Tensor:
        torch.manual_seed(8)
        text = torch.randint(0, config.text_card, (1, 1, T))
        codes = torch.cat((text, torch.randint(0, config.card, (1, config.n_q, T))), 1)
        return codes.masked_fill(torch.rand(codes.shape) < 0.1, -1)

    @staticmethod
    def one_by_one(engine: Engine, state: EngineState, codes: torch.Tensor, begun: int = 0) -> None:
        """Forced calls in slot 1 that bring the frames `begun` and later of the codes."""
        c, written = engine.config, 1 + engine.config.agent_streams
        for t in range(begun, codes.shape[2]):
            frame = t - c.user_lag
            user = codes[0, written:, frame] if frame >= 0 else codes[0, written:, 0]
            forced = codes[0, :written, t].expand(2, -1)
            engine.step(state, user.expand(2, -1), [False, True], forced=forced)

    @pytest.mark.parametrize("lag", [0, 1])
    @pytest.mark.parametrize("parts", [[20], [1, 19], [7, 6, 7], [2, 2, 16]])
    @pytest.mark.parametrize("guidance", [1.0, 2.0])
    def test_it_equals_forced_calls(self, lag: int, parts: list[int], guidance: float) -> None:
        config = replace(SHORT, user_lag=lag)
        engine = Engine(random_model(config, spread=0.1), 2)
        codes = self.known(config, 20)
        slow, quick = (engine.initial_state(Sampling(audio_top_k=4, guidance=guidance)) for _ in range(2))
        self.one_by_one(engine, slow, codes)
        begin = 0
        for n in parts:
            engine.prefill(quick, [1], codes[:, :, begin : begin + n])
            begin += n
        assert slow.calls == quick.calls == [0, 20]
        user = random_user(config, 2, 12)
        for t in range(12):
            a, b = (engine.advance(state, user[:, :, t], [False, True]) for state in (slow, quick))
            assert torch.equal(a.tokens, b.tokens)
            torch.testing.assert_close(a.text_logits[1], b.text_logits[1], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(a.audio_logits[1], b.audio_logits[1], atol=1e-4, rtol=1e-5)

    def test_forced_frames_come_back_as_they_were_given(self) -> None:
        engine = Engine(random_model(PAIRED), 2)
        codes = self.known(PAIRED, 9).clamp(min=0)
        state = engine.initial_state()
        engine.prefill(state, [0, 1], codes.expand(2, -1, -1))
        tokens, _ = engine.step(state, random_user(PAIRED, 2, 1)[:, :, 0])
        assert torch.equal(tokens, codes[:, :4, 8].expand(2, -1))

    @pytest.mark.parametrize("guidance", [1.0, 2.0])
    def test_a_copied_prefix_equals_its_own_computation(self, guidance: float) -> None:
        engine = Engine(random_model(PAIRED), 2)
        codes, user = self.known(PAIRED, 9), random_user(PAIRED, 1, 10).expand(2, -1, -1)
        state = engine.initial_state(Sampling(text_seed=1, guidance=guidance))
        engine.prefill(state, [0], codes)
        engine.copy_slot(state, 0, 1)
        for t in range(10):
            tokens, _ = engine.step(state, user[:, :, t])
            assert torch.equal(tokens[0], tokens[1])

    def test_what_is_not_whole_cannot_be_gone_past(self) -> None:
        engine = Engine(random_model(PAIRED), 1)
        state = engine.initial_state()
        user = random_user(PAIRED, 1, 3)
        for t in range(3):
            engine.step(state, user[:, :, t])
        with pytest.raises(ValueError, match="not whole"):
            engine.prefill(state, [0], self.known(PAIRED, 4))


def test_a_kept_state_goes_on_as_the_one_it_was_taken_from() -> None:
    engine = Engine(random_model(SHORT), 2)
    user = random_user(SHORT, 2, 30)
    state = engine.initial_state(SAMPLING[:2])
    for t in range(15):
        engine.step(state, user[:, :, t])
    kept = state.clone()
    first = [engine.step(state, user[:, :, t])[0] for t in range(15, 30)]
    again = [engine.step(kept, user[:, :, t])[0] for t in range(15, 30)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_prompt_is_kept_with_its_second_reading() -> None:
    engine = Engine(random_model(PAIRED), 2)
    state = engine.initial_state(Sampling(text_seed=1, guidance=3.0))
    engine.prefill(state, [0], TestPrefill.known(PAIRED, 9))
    engine.put(state, 1, engine.take(state, 0))
    user = random_user(PAIRED, 1, 10).expand(2, -1, -1)
    for t in range(10):
        tokens, _ = engine.step(state, user[:, :, t])
        assert torch.equal(tokens[0], tokens[1])
    with pytest.raises(ValueError, match="second reading"):
        engine.set_sampling(engine.initial_state(), 0, Sampling(guidance=2.0))


def test_a_memory_in_8_bits_says_nearly_the_same() -> None:
    """Through prefill, a copied slot, and a slot that was kept and put back."""
    model = random_model(replace(PAIRED, context=20), spread=0.05)
    user = random_user(PAIRED, 1, 30).expand(2, -1, -1)
    found = []
    for int8 in (False, True):
        engine = Engine(model, 2, int8_memory=int8)
        state = engine.initial_state(GREEDY)
        engine.prefill(state, [0], TestPrefill.known(PAIRED, 12))
        engine.put(state, 1, engine.take(state, 0))
        assert (state.lm.cache.dtype == torch.int8) == int8
        first = [engine.advance(state, user[:, :, t]).text_logits for t in range(10)]
        engine.copy_slot(state, 0, 1)
        kept = state.clone()
        found.append(torch.stack([*first, *(engine.advance(kept, user[:, :, t]).text_logits for t in range(10, 14))]))
        torch.testing.assert_close(found[-1][:, 0], found[-1][:, 1], atol=1e-4, rtol=1e-4)
    assert 0 < (found[0] - found[1]).abs().max() < 0.05 * found[0].std()


def test_a_padding_bonus_keeps_the_agent_silent() -> None:
    model = random_model(PAIRED)
    user = random_user(PAIRED, 1, 20)
    loud, quiet = (talk(Engine(model, 1), user, Sampling(padding_bonus=b))[0][0, 0] for b in (0.0, 1000.0))
    assert (quiet == PAIRED.existing_text_padding_id).all()
    assert (loud != PAIRED.existing_text_padding_id).any()


def test_conditions_are_the_slot_s_own() -> None:
    config = replace(PAIRED, conditions=(QUALITY,))
    engine = Engine(random_model(config), 3)
    user = random_user(config, 1, 6).expand(3, -1, -1)
    state = engine.initial_state(GREEDY)
    with torch.no_grad():
        engine.set_condition(state, 1, {"quality": "good"})
    steps = [engine.advance(state, user[:, :, t]) for t in range(6)]
    torch.testing.assert_close(steps[-1].text_logits[0], steps[-1].text_logits[2], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(steps[-1].text_logits[0], steps[-1].text_logits[1], atol=1e-3)


def record(run: Run) -> tuple[Callable[[], None], Outputs]:
    """Stands in for a CUDA graph: what was captured runs again, from the same inputs into the same outputs."""
    outputs = run()

    def replay() -> None:
        for place, value in zip(outputs, run(), strict=True):
            place.copy_(value)

    return replay, outputs


@pytest.mark.parametrize(("bonus", "sampling"), [(0.0, SAMPLING), (1.0, SAMPLING), (1.0, GUIDED)])
def test_replayed_frames_equal_run_ones(bonus: float, sampling: list[Sampling]) -> None:
    """Through pauses, resets, new settings, forced tokens and more places than were captured at first."""
    model = random_model(replace(PAIRED, context=300))
    plain, captured = Engine(model, SLOTS), Engine(model, SLOTS, capture=record)
    states = [engine.initial_state(sampling) for engine in (plain, captured)]
    user = random_user(PAIRED, SLOTS, 140)
    forced = torch.full((SLOTS, 4), FREE)
    forced[1] = torch.tensor([-1, 2, 3, 4])
    for t in range(140):
        found = []
        for engine, state in zip((plain, captured), states, strict=True):
            if t == 20:
                engine.reset(state, 2, Sampling(text_seed=9, audio_top_k=3, audio_top_p=0.5, padding_bonus=bonus))
            active = None if t % 7 else [True, t % 3 == 0, True]
            step = engine.advance(state, user[:, :, t], active, forced=forced if t % 11 == 0 else None)
            found.append((step.tokens.clone(), step.text_logits.clone()))
        assert torch.equal(found[0][0], found[1][0])
        torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_kernels_say_the_same() -> None:
    torch.manual_seed(0)
    x, alpha = torch.randn(3, 32), torch.rand(1, 1, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, while it compiles
        quick = compiled()
        torch.testing.assert_close(quick.norm(x, alpha, length_of(alpha)), EAGER.norm(x, alpha, length_of(alpha)))
        torch.testing.assert_close(quick.gate(x), EAGER.gate(x))


def test_the_kernels_that_are_given_are_used() -> None:
    used: list[str] = []

    def norm(x: torch.Tensor, alpha: torch.Tensor, least: torch.Tensor) -> torch.Tensor:
        used.append("norm")
        return EAGER.norm(x, alpha, least)

    def gate(x: torch.Tensor) -> torch.Tensor:
        used.append("gate")
        return EAGER.gate(x)

    engine = Engine(random_model(PAIRED), 1, kernels=Kernels(norm, gate))
    engine.step(engine.initial_state(), random_user(PAIRED, 1, 1)[:, :, 0])
    layers = PAIRED.num_layers + 3 * PAIRED.depformer_num_layers
    assert (used.count("norm"), used.count("gate")) == (2 * layers + 1, layers)


class TestMistakes:
    def test_shapes_are_checked(self) -> None:
        engine = Engine(random_model(PAIRED), 2)
        state = engine.initial_state()
        with pytest.raises(ValueError, match="user codes"):
            engine.step(state, torch.zeros(2, 2, dtype=torch.long))
        user = random_user(PAIRED, 2, 1)[:, :, 0]
        with pytest.raises(ValueError, match="forced tokens"):
            engine.step(state, user, forced=torch.zeros(2, 3, dtype=torch.long))
        with pytest.raises(ValueError, match="flags"):
            engine.step(state, user, [True])
        with pytest.raises(ValueError, match="settings"):
            engine.initial_state([GREEDY])
        with pytest.raises(ValueError, match="codes are"):
            engine.prefill(state, [0], torch.zeros(1, 3, 4, dtype=torch.long))

    def test_a_conversation_ends_where_its_room_does(self) -> None:
        engine = Engine(random_model(replace(PAIRED, context=None)), 1, frames=3)
        state = engine.initial_state()
        user = random_user(PAIRED, 1, 4)
        for t in range(3):
            engine.step(state, user[:, :, t])
        with pytest.raises(ValueError, match="room for 3"):
            engine.step(state, user[:, :, 3])

    def test_only_models_that_write_the_user_do(self) -> None:
        with pytest.raises(ValueError, match="does not write"):
            Engine(random_model(PAIRED), 1, write_user=True)
