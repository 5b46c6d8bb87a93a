"""What a rollout weighs in an update: the same however it is batched, and whatever the length of its group."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from duologue.engine.bundle import Bundle
from duologue.rl.policy import PolicyConfig
from duologue.train.align_loss import KLConfig
from duologue.train.align_recipes import RECIPES
from duologue.train.align_settings import ImitationSettings
from duologue.train.align_update import Updater
from duologue.train.lm_loss import Weights
from duologue.train.rollouts import Episode, Recorded, Roller, Rollout, record
from test_align_learner import learner, settings
from test_rollouts import DRAWN, bundle, segment


def unequal(model: Bundle) -> list[list[Rollout]]:
    """Two groups of four, of segments of 1 s and of 2.6 s."""
    recorded = record(model, [segment(1.0, 2.0), segment(0.5, 3.1, "t")])
    draws = (*DRAWN, replace(DRAWN[0], text_seed=9, audio_seed=9))
    return Roller(model, 8).play([Episode(r, 0.0, draws) for r in recorded])


def gradient(
    model: Bundle, groups: list[list[Rollout]], gains: torch.Tensor, monkeypatch: pytest.MonkeyPatch,
    shown: list[Recorded] | None = None, share: float | None = None, **update: Any,
) -> torch.Tensor:  # fmt: skip
    """Of one part of these groups, in place of an optimiser step."""
    how = settings(**{"updates": 1, "autocast": False, "kl": KLConfig(beta=0.0)} | update)
    lm = copy.deepcopy(model.lm).requires_grad_(True)
    updater, taken = Updater(lm, how, Roller(replace(model, lm=lm), 4).demonstration), []

    def step(share: float) -> torch.Tensor:
        taken.append(torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
                                for p in lm.parameters()]))  # fmt: skip
        return taken[0].norm()

    monkeypatch.setattr(updater.optimizers, "step", step)
    updater.update(1, groups, gains, shown or [], share)
    return taken[0].clone()


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """How far gradients differ, as a share of their length."""
    return float((a - b).double().norm() / b.double().norm())


GAINS = torch.tensor([[1.0, -1.0, 0.5, -0.5], [0.5, 1.0, -1.0, -0.5]])


@pytest.mark.parametrize(
    "more",
    [
        {"policy": PolicyConfig(aggregate="frame_mean")},
        {"policy": PolicyConfig(aggregate="sequence_mean")},
        {"policy": PolicyConfig(aggregate="constant", constant=50.0)},
        {"policy": PolicyConfig(aggregate="sequence_mean"), "tokens": "all"},
        {"policy": PolicyConfig(aggregate="frame_mean"), "tokens": "all"},
    ],
    ids=["frames", "sequences", "constant", "sequences of all tokens", "frames of all tokens"],
)
def test_gradients_do_not_hang_on_micro_batches(more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = bundle()
    groups = unequal(model)
    whole = gradient(model, groups, GAINS, monkeypatch, rows=8, **more)
    rounding = 1e-5 if "tokens" in more else 1e-6  # streams of sound nearly cancel out
    for rows in (4, 3, 2, 1):
        assert apart(gradient(model, groups, GAINS, monkeypatch, rows=rows, **more), whole) < rounding


def test_imitation_is_a_mean_over_all_frames_however_they_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bundle()
    shown = record(model, [segment(1.0, 2.0), segment(0.5, 3.1, "t"), segment(1.0, 2.4, "u")])
    how = {"imitation": ImitationSettings(share=1.0, weights=Weights(padding=0.5, semantic=10.0))}
    found = [
        gradient(model, [[], [], []], torch.zeros(3, 4), monkeypatch, shown, 0.0, rows=rows, **how)
        for rows in (3, 2, 1)
    ]
    assert apart(found[1], found[0]) < 1e-6
    assert apart(found[2], found[0]) < 1e-6


def test_groups_of_any_length_weigh_the_same_in_the_paper_s_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = RECIPES["kyutai-2606.11167"]().update.policy
    model = bundle()
    groups = unequal(model)
    short, long = (gradient(model, groups[i : i + 1], GAINS[i : i + 1], monkeypatch, policy=policy) for i in range(2))
    assert groups[1][0].scored.sum() > 2 * groups[0][0].scored.sum()
    both = gradient(model, groups, GAINS, monkeypatch, policy=policy)
    assert apart(both, (short + long) / 2) < 1e-5
    frames = [sum(int(r.scored.sum()) for r in group) for group in groups]
    by_frames = gradient(model, groups, GAINS, monkeypatch, policy=PolicyConfig(aggregate="frame_mean"))
    assert apart(by_frames, (frames[0] * short + frames[1] * long) / sum(frames)) < 1e-5
    assert apart(by_frames, both) > 0.1


def test_kept_groups_without_spread_count_in_the_mean_with_their_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    how = RECIPES["kyutai-2606.11167"]().update
    assert how.flat_groups == "keep"
    model = bundle()
    groups, gains = unequal(model), GAINS * torch.tensor([[1.0], [0.0]])
    kept, dropped = (gradient(model, groups, gains, monkeypatch, flat_groups=x) for x in ("keep", "drop"))
    assert apart(kept, dropped / 2) < 1e-5
    one = learner(settings(updates=2, flat_groups="keep", kl=KLConfig(beta=1.0)), model=bundle())
    one.step(0)  # away from the reference
    drawn = unequal(bundle())
    before = [p.detach().clone() for p in one.model.parameters()]
    row = one._updater.update(1, drawn, torch.zeros(2, 4), [], None)
    assert row["kl"] > 0
    assert not all(torch.equal(a, b) for a, b in zip(before, one.model.parameters(), strict=True))
