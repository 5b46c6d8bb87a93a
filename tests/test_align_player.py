"""Rollouts in bfloat16: they follow what is learned in float32, and the update is what it was."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from duologue.base.errors import UserError
from duologue.model.lora import LoRAConfig
from duologue.train.align_learner import shaped
from duologue.train.align_recipes import kyutai, kyutai_lora
from duologue.train.align_settings import AlignSettings
from duologue.train.rollouts import record
from test_align_learner import bundle, learner, settings
from test_rollouts import segment

LORA = LoRAConfig(rank=4, targets="transformer.*")


def in_dtype(how: AlignSettings, dtype: Any) -> AlignSettings:
    return replace(how, rollouts=replace(how.rollouts, dtype=dtype))


@pytest.mark.parametrize("more", [{}, {"lora": LORA}], ids=["all weights", "adapters"])
def test_rollouts_are_in_bfloat16_and_follow_every_step(more: dict[str, Any]) -> None:
    one = learner(in_dtype(settings(2, **more), "bf16"))
    state = one.roller._engine.initial_state()
    assert state.lm.cache.dtype == torch.bfloat16
    learned = [p for p in one.model.parameters() if p.requires_grad]
    assert {p.dtype for p in learned} == {torch.float32}
    before = [p.detach().clone() for p in one.player.parameters()]
    one.step(0)
    changed = 0
    for old, mine, theirs in zip(before, one.player.parameters(), one.model.parameters(), strict=True):
        assert mine.dtype == torch.bfloat16
        assert torch.equal(mine, theirs.to(torch.bfloat16))
        changed += not torch.equal(old, mine)
    assert changed > 0
    other = learner(in_dtype(settings(2, **more), "bf16"))
    other.restore(one.state())
    assert all(torch.equal(a, b) for a, b in zip(one.player.parameters(), other.player.parameters(), strict=True))


@pytest.mark.parametrize("more", [{}, {"lora": LORA}], ids=["all weights", "adapters"])
def test_the_same_rollouts_teach_the_same_whatever_plays(more: dict[str, Any]) -> None:
    """Weights that came in bfloat16, as Moshi's, lose nothing when the frozen ones are kept in it."""
    rounded = bundle()
    with torch.no_grad():
        for parameter in rounded.lm.parameters():
            parameter.copy_(parameter.bfloat16())
    seen: list[Any] = []
    learner(settings(), model=replace(rounded, lm=copy.deepcopy(rounded.lm)), seen=seen).step(0)
    ((batch, gains),) = seen
    rows, moves = [], []
    for dtype in ("fp32", "bf16"):
        torch.manual_seed(0)  # adapters begin at random
        model = replace(rounded, lm=copy.deepcopy(rounded.lm))
        one = learner(in_dtype(settings(2, updates=2, **more), dtype), model=model)
        learned = [p for p in one.model.parameters() if p.requires_grad]
        before = [p.detach().clone() for p in learned]
        rows.append(one._updater.update(1, batch.groups, gains, [], None))
        moves.append(torch.cat([(p.detach() - b).flatten() for p, b in zip(learned, before, strict=True)]))
    assert rows[0]["gradient"] > 0
    assert rows[1] == pytest.approx(rows[0], rel=1e-3, abs=1e-6)
    assert torch.cosine_similarity(moves[0], moves[1], dim=0) > 0.999


def test_frozen_matrices_are_in_memory_once() -> None:
    one = learner(in_dtype(settings(lora=LORA), "bf16"))
    own, theirs = dict(one.model.named_parameters()), dict(one.player.named_parameters())
    shared = {name for name, p in own.items() if p.data_ptr() == theirs[name].data_ptr()}
    matrices = {name for name in own if name.endswith("frozen_W.weight")}
    assert matrices <= shared
    assert all(own[name].dtype == torch.bfloat16 for name in shared)
    assert own["text_linear.weight"].dtype == own["text_emb.weight"].dtype == torch.float32
    whole = learner(settings(lora=LORA))
    assert whole.player is whole.model, "on a CPU it is float32 unless asked for"
    assert learner(in_dtype(settings(lora=LORA, autocast=False), "bf16")).model.get_parameter(
        "transformer.layers.0.self_attn.in_projs.0.frozen_W.weight"
    ).dtype == torch.float32  # fmt: skip


def test_segments_that_stay_too_long_are_left_out() -> None:
    model = bundle()
    parts = record(model, [segment(1.0, 2.0), segment(1.0, 2.4, "t")])
    how = settings().rollouts
    assert [r.segment.id for r in shaped({"pause": parts}, replace(how, most_s=1.2))["pause"]] == ["s"]
    with pytest.raises(UserError, match=r"all segments of the axis pause are longer than 0.5 s"):
        learner(replace(settings(), rollouts=replace(how, most_s=0.5)))


def test_recipes_of_seven_billion_weights_bound_their_segments() -> None:
    for recipe, cropped, most in ((kyutai(), None, 60.0), (kyutai_lora(), 30.0, 30.0)):
        assert (recipe.rollouts.longest_s, recipe.rollouts.most_s) == (cropped, most)
        assert recipe.rollouts.slots is recipe.update.rows is None
