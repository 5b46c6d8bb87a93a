"""The alignment step: what is rewarded is learned, nothing else moves, and a killed run goes on to the same numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from duologue.axes.aspirin import AspirinReward
from duologue.axes.duplexpo import DuplexPOReward
from duologue.axes.judge import Judge, JudgeConfig
from duologue.axes.proxy import Proxy
from duologue.base.endpoint import Endpoint, EndpointConfig
from duologue.base.errors import UserError
from duologue.base.runs import RunFolder
from duologue.dialogue.segments import ReferenceEvent, Segment
from duologue.dialogue.timeline import Track, Word
from duologue.engine.bundle import Bundle
from duologue.engine.prompts import Voice
from duologue.engine.sampling import Sampling, Settings, chances
from duologue.model.likelihood import log_probs
from duologue.model.lora import LoRAConfig
from duologue.rl.advantages import AdvantageConfig
from duologue.rl.gates import GateConfig
from duologue.rl.policy import PolicyConfig
from duologue.train import align_learner
from duologue.train.align_critic import Critic
from duologue.train.align_learner import AlignLearner, cropped, drawn_axes, longest_frames, shaped
from duologue.train.align_loss import KLConfig, Tokens, pack, rollout_loss, scores
from duologue.train.align_recipes import RECIPES
from duologue.train.align_sampler import under_sampler
from duologue.train.align_settings import (
    AlignSettings,
    CriticSettings,
    GuardSettings,
    ImitationSettings,
    PreferenceSettings,
    RewardSettings,
    RolloutSettings,
    SafetySettings,
    UpdateSettings,
)
from duologue.train.align_watch import Watch
from duologue.train.loop import LoopConfig, rate_at, train
from duologue.train.optimizers import OptimizerConfig
from duologue.train.parallel import ALONE, World
from duologue.train.rewarding import AtOnce, AxesRewarder, Group, Rewarder, Rewards
from duologue.train.rollout_batches import Batch, load_batch, save_batch
from duologue.train.rollouts import Episode, Roller, Rollout, record
from test_rollouts import DRAWN, bundle, segment

WHERE = EndpointConfig(url="http://judge.test", model="m", retries=0, breaker_failures=99)
FAST = OptimizerConfig(kind="adamw", rate=3e-3, warmup=0, flat=1.0, decay=0.0, clip=1.0)


def settings(steps: int = 8, *, lora: LoRAConfig | None = None, **update: Any) -> AlignSettings:
    rollouts = RolloutSettings(
        axes=("pause",), groups=2, group=4, slots=8, context_s=(0.0, 1.0), text_temperature=1.0, audio_top_k=5
    )
    how = {"updates": 2, "rows": 3, "optimizer": FAST, "kl": KLConfig(beta=0.001), "lora": lora} | update
    free = GuardSettings(kl=None, entropy=None)  # a known optimum is far away
    return AlignSettings(steps=steps, rollouts=rollouts, update=UpdateSettings(**how), guard=free)


def speaks(rollout: Rollout) -> float:
    """Share of acted frames whose text is not padding."""
    text = rollout.codes[0, rollout.scored]
    return float(((text != 0) & (text != 3)).float().mean())


def quiet(axis: str, group: Group) -> dict[str, list[float]]:
    return {"quiet": [-speaks(r) for r in group]}


def learner(
    how: AlignSettings, reward: Rewarder | Callable[[str, Group], Rewards] = quiet,
    model: Bundle | None = None, seen: list[Any] | None = None,
    replay: Callable[[int], Batch] | None = None, publish: Callable[[RunFolder, str], None] | None = None,
    world: World | None = None, groups: int | None = None,
) -> AlignLearner:  # fmt: skip
    model = model or bundle()
    if groups is not None:
        how = replace(how, rollouts=replace(how.rollouts, groups=groups))
    segments = {"pause": record(model, [segment(1.0, 2.0), segment(1.0, 2.4, "t")])}

    def keep(number: int, batch: Batch, gains: torch.Tensor) -> None:
        if seen is not None:
            seen.append((batch, gains))

    return AlignLearner(
        model,
        segments,
        how,
        seed=1,
        reward=AtOnce(reward) if callable(reward) else reward,
        publish=publish or (lambda run, name: None),
        keep=keep,
        replay=replay,
        world=world or ALONE,
    )


def heard(part: Segment) -> Segment:
    """The same with the user's words."""
    user = Track.of([(2.0, 3.5)], [Word("well", 2.0, 2.4), Word("yes", 3.0, 3.4)])
    return replace(part, timeline=replace(part.timeline, user=user))


def interrupted(rollout: Rollout) -> Rollout:
    """The same, as if the user had broken in."""
    events = (ReferenceEvent("interruption", 2.0, 3.5, 1),)
    return replace(rollout, scene=replace(rollout.scene, events=events))


def rollouts(model: Bundle, context_s: float = 0.6) -> list[Rollout]:
    (recorded,) = record(model, [segment()])
    (group,) = Roller(model, 3, text_prompt="be kind").play([Episode(recorded, context_s, DRAWN)])
    return group


class TestScores:
    @pytest.mark.parametrize(("tokens", "streams"), [("text", 1), ("text_semantic", 2), ("all", 9)])
    def test_they_are_the_log_probabilities_of_all_acted_frames(self, tokens: Tokens, streams: int) -> None:
        model = bundle()
        group = rollouts(model)
        rows = pack(group, model.lm)
        found = scores(model.lm, rows, tokens, chunk=7)
        assert len(found) == streams
        wanted = log_probs(model.lm, rows.codes, depth_steps=8)
        assert int(found[0].mask.sum()) == sum(int(r.scored.sum()) for r in group) > 0
        torch.testing.assert_close(found[0].new, torch.where(rows.mask, wanted.text, 0.0), atol=1e-5, rtol=1e-5)
        for q in range(1, streams):
            mask = rows.mask & wanted.audio_mask[:, q - 1]
            torch.testing.assert_close(found[q].new, torch.where(mask, wanted.audio[:, q - 1], 0.0), atol=1e-5, rtol=0)

    def test_a_batch_of_many_lengths_scores_each_as_alone(self) -> None:
        model = bundle()
        recorded = record(model, [segment(), segment(1.0, 2.0, "t")])
        groups = Roller(model, 4).play([Episode(r, 0.5, DRAWN[:2]) for r in recorded])
        each = [r for group in groups for r in group]
        together = scores(model.lm, pack(each, model.lm), "text")[0]
        for i, rollout in enumerate(each):
            alone = scores(model.lm, pack([rollout], model.lm), "text")[0]
            torch.testing.assert_close(together.new[i, : alone.new.shape[1]], alone.new[0], atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("held", [False, True], ids=["learned", "held"])
    def test_company_does_not_change_a_rollout_s_scores_on_any_stream(self, held: bool) -> None:
        """Late codes of a shorter one's last frame would have come after its end: they are not scored beside a longer
        one either."""
        model = bundle()
        recorded = record(model, [segment(), segment(1.0, 2.0, "t")])
        long, short = (g[0] for g in Roller(model, 4).play([Episode(r, 0.5, DRAWN[:1]) for r in recorded]))
        torch.manual_seed(2)
        other = copy.deepcopy(model.lm)
        for p in other.parameters():
            p.data += 0.02 * torch.randn_like(p)
        how: dict[str, Any] = {"reference": lambda: nullcontext(other), "kl": KLConfig(audio=1.0, audio_streams=3)}
        both, alone = pack([long, short], model.lm), pack([short], model.lm)
        together = scores(model.lm, both, "text" if held else "all", **how)
        apart = scores(model.lm, alone, "text" if held else "all", **how)
        assert len(together) == (4 if held else 9)
        frames = short.codes.shape[1]
        for q, (a, b) in enumerate(zip(together, apart, strict=True)):
            assert a.mask[1].sum() == b.mask[0].sum() == int(short.scored.sum()) - (q > 1)
            torch.testing.assert_close(a.new[1, :frames], b.new[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(a.kl[1, :frames], b.kl[0], atol=1e-5, rtol=1e-4)
            assert torch.equal(a.mask, both.counted(q))
        whole, single = model.lm(both.codes), model.lm(alone.codes)
        assert torch.equal(whole.audio_mask[1, :, :frames], single.audio_mask[0])
        assert not whole.audio_mask[1, :, frames:].any()

    def test_the_output_layer_sees_no_frame_of_prompt_or_context(self) -> None:
        model, seen = bundle(), []
        model.lm.text_linear.register_forward_hook(lambda layer, given, out: seen.append(len(given[0])))
        rows = pack(group := rollouts(model), model.lm)
        seen.clear()
        scores(model.lm, rows, "text")
        assert sum(seen) == sum(int(r.scored.sum()) for r in group) < rows.mask.numel()

    @pytest.mark.parametrize("estimator", ["exact", "k3"])
    def test_the_policy_does_not_diverge_from_itself(self, estimator: Any) -> None:
        model = bundle()
        rows, kl = pack(rollouts(model), model.lm), KLConfig(estimator=estimator)
        found = scores(model.lm, rows, "text", reference=lambda: nullcontext(model.lm), kl=kl)
        assert float(found[0].kl.detach().abs().max()) < 1e-6
        loss = rollout_loss(found, [found[0].new.detach()], torch.tensor([1.0, -1.0, 0.0]), PolicyConfig(), 0.01)
        assert float(loss.policy[0].ratio) == pytest.approx(1)
        assert float(loss.policy[0].clipped) == 0
        assert abs(float(loss.loss.detach())) < 1e-5  # says nothing of progress: its gradient does

    @pytest.mark.parametrize(
        "how",
        [
            {"text_temperature": 0.5, "text_top_k": 0},
            {"text_temperature": 1.3, "text_top_k": 7},
            {"text_temperature": 0.8, "text_top_k": 0, "text_top_p": 0.6},
            {"text_temperature": 0.6, "text_top_k": 9, "pad_temperature": 1.2, "padding_bonus": -0.5},
        ],
        ids=["temperature", "top-k", "top-p", "PAD"],
    )
    def test_log_probabilities_under_the_sampler_are_the_shares_of_its_draws(self, how: dict[str, Any]) -> None:
        """By hand: draw often, and count."""
        torch.manual_seed(3)
        logits, settings = 2 * torch.randn(1, 12), Sampling(**how)
        every = Settings.of([settings], 1, 12, 12, torch.device("cpu"))
        scores = logits if every.bonus is None else logits.index_add(1, torch.tensor([3]), every.bonus[:, None])
        chance = chances(torch.full((60_000, 1), 5), torch.arange(60_000))[:, 0]
        drawn = every.text.pick(every.pause(scores, torch.tensor([3])).expand(60_000, -1), chance)
        shares = torch.bincount(drawn, minlength=12) / 60_000
        able = (shares > 0).nonzero()[:, 0]
        found, outside = under_sampler(logits.expand(len(able), -1), able, settings, 3)
        torch.testing.assert_close(found.exp(), shares[able], atol=0.01, rtol=0)
        assert float(found.exp().sum()) == pytest.approx(1, abs=1e-3)
        assert float(outside[0]) == pytest.approx(float(logits.softmax(-1)[0, shares == 0].sum()), abs=5e-3)

    def test_a_token_that_could_not_be_drawn_any_more_still_has_a_gradient(self) -> None:
        logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]], requires_grad=True)
        found, _ = under_sampler(logits, torch.tensor([3]), Sampling(audio_temperature=1.0, audio_top_k=2), None)
        assert torch.isfinite(found).all()
        found.sum().backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
        assert float(logits.grad[0, 3]) > 0

    def test_the_surrogate_may_take_either(self) -> None:
        rows = []
        for under in ("model", "sampler"):
            one = learner(settings(updates=2, rows=8, logprob_under=under))
            rows.append(one.step(0))
            assert rows[-1]["outside"] >= 0
        assert rows[0]["gradient"] != rows[1]["gradient"]
        greedy = settings(logprob_under="sampler")
        with pytest.raises(UserError, match="greedy sampler"):
            learner(replace(greedy, rollouts=replace(greedy.rollouts, text_temperature=0.0)))

    @pytest.mark.parametrize("projection", ["marginal", "sum_of_logits"])
    def test_two_actions_instead_of_the_vocabulary(self, projection: Any) -> None:
        model = bundle()
        rows = pack(rollouts(model), model.lm)
        found = scores(model.lm, rows, "text", projection=projection)[0]
        with torch.no_grad():
            logits = model.lm(rows.codes, depth_steps=0).text_logits
        text = rows.codes[:, 0]
        silent = torch.tensor([i in (0, 3) for i in range(logits.shape[-1])])
        fold = torch.logsumexp if projection == "marginal" else torch.sum
        both = torch.stack([fold(logits[..., silent], -1), fold(logits[..., ~silent], -1)], -1).log_softmax(-1)
        wanted = torch.where((text == 0) | (text == 3), both[..., 0], both[..., 1])
        torch.testing.assert_close(found.new[rows.mask], wanted[rows.mask], atol=1e-4, rtol=1e-4)


@pytest.fixture
def even_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops of the longest length, two seconds before what happens."""
    monkeypatch.setattr(align_learner, "CROPPED", (1.0, 1.0))
    monkeypatch.setattr(align_learner, "LEAD_S", (2.0, 2.0))


class TestStep:
    @pytest.mark.parametrize("wanted", [{0, 3}, set(range(8, 40))], ids=["silence", "some words"])
    def test_what_is_rewarded_is_learned_in_seconds(self, wanted: set[int]) -> None:
        """A known optimum: nothing but these tokens."""

        def share(rollout: Rollout) -> float:
            text = rollout.codes[0, rollout.scored].tolist()
            return sum(token in wanted for token in text) / len(text)

        how = settings(24, updates=4, optimizer=replace(FAST, rate=5e-3))
        trained = learner(how, lambda axis, group: {"share": [share(r) for r in group]})
        rows = [trained.step(n) for n in range(24)]
        first, last = (sum(r["reward_share"] for r in part) / 3 for part in (rows[:3], rows[-3:]))
        assert first < 0.4
        assert last > max(first + 0.3, 0.5)
        assert all(math.isfinite(x) for row in rows for x in row.values())

    def test_better_tokens_gain_probability_and_the_depth_transformer_stays_bit_for_bit(self) -> None:
        seen: list[Any] = []
        one = learner(settings(updates=1, rows=8), seen=seen)
        before = {name: p.detach().clone() for name, p in one.model.named_parameters()}
        row = one.step(0)
        ((batch, gains),) = seen
        groups = batch.groups
        changed = {name for name, p in one.model.named_parameters() if not torch.equal(p, before[name])}
        assert {"text_linear.weight", "transformer.layers.0.self_attn.in_projs.0.weight"} <= changed
        assert not any(name.startswith(("depformer", "linears")) for name in changed)
        assert row["change"] > 0
        assert row["gradient"] > 0
        good = [groups[i][j] for i, j in (gains > 0.5).nonzero().tolist()]
        rows = pack(good, one.model)
        now = scores(one.model, rows, "text")[0].new.sum()
        for name, p in one.model.named_parameters():
            p.data.copy_(before[name])
        assert now > scores(one.model, rows, "text")[0].new.sum()

    def test_sound_can_be_held_where_it_is(self) -> None:
        """Nothing is learned from it, but the divergence of its streams counts."""
        runs = []
        for audio in (0.0, 1e-6, 30.0):
            kl = KLConfig(beta=0.001, audio=audio, audio_streams=2)
            one = learner(settings(updates=1, rows=8, kl=kl, optimizer=replace(FAST, rate=1e-3)))
            runs.append([one.step(n) for n in range(6)])
        free, told, held = runs
        assert "kl_audio" not in free[0]
        assert told[0]["kl_audio"] == pytest.approx(0, abs=1e-6)
        assert told[2]["kl"] == pytest.approx(free[2]["kl"], rel=0.05)  # before a draw differs
        assert 0 < held[-1]["kl_audio"] < 0.8 * told[-1]["kl_audio"]
        with pytest.raises(UserError, match="weights are 0 or more"):
            KLConfig(audio=-1.0)

    def test_pairs_teach_what_was_better(self) -> None:
        how = settings(20, updates=1, preference=PreferenceSettings(), optimizer=replace(FAST, rate=5e-3))
        one = learner(how)
        rows = [one.step(n) for n in range(12)]
        assert rows[0]["margin"] == pytest.approx(0, abs=1e-6)
        assert rows[0]["pairs"] >= 1
        assert rows[-1]["reward_quiet"] > rows[0]["reward_quiet"] + 0.1
        flat = learner(how, lambda axis, group: {"same": [1.0] * len(group)}).step(0)
        assert (flat["pairs"], flat["gradient"]) == (0, 0)

    def test_a_critic_learns_what_is_to_come(self) -> None:
        one = learner(settings(12, updates=1, critic=CriticSettings(rate=0.03)))
        rows = [one.step(n) for n in range(10)]
        assert rows[0]["critic"] > 0
        assert rows[-1]["reward_quiet"] > rows[0]["reward_quiet"]
        flat = learner(settings(critic=CriticSettings()), lambda axis, group: {"same": [1.0] * len(group)}).step(0)
        assert flat["critic"] == 0

    def test_before_it_has_learned_a_critic_gives_every_frame_its_rollout_s_advantage(self) -> None:
        """It expects nothing; what it then learns to expect is taken off; a shorter trace lets early frames fade."""
        model = bundle()
        rows = pack(rollouts(model), model.lm)
        gains = torch.tensor([1.0, -1.0, 0.5])
        critic = Critic(model.lm, CriticSettings())
        (credit,) = critic.credit([(rows, gains)])
        assert torch.equal(credit.advantages, torch.where(rows.mask, gains[:, None], 0.0))
        assert set(credit.returns.tolist()) == {-1.0, 0.5, 1.0}
        first_error = critic.learn([credit])
        errors = [critic.learn([credit]) for _ in range(20)]
        assert errors[-1] < first_error
        (learned,) = critic.credit([(rows, gains)])
        expected = critic.head(learned.seen)[:, 0].detach()
        wanted = credit.advantages[rows.mask] - expected
        torch.testing.assert_close(learned.advantages[rows.mask], wanted, atol=1e-5, rtol=1e-5)
        (faded,) = Critic(model.lm, CriticSettings(trace=0.5)).credit([(rows, gains)])
        first, last = rows.mask[0].nonzero()[[0, -1], 0].tolist()
        assert faded.advantages[0, first] == pytest.approx(0.5 ** (last - first))

    def test_the_reference_is_without_adapters_in_its_output_layer_too(self) -> None:
        one = learner(settings(lora=LoRAConfig(rank=4, targets="text_linear")))
        assert one.step(0)["kl"] == pytest.approx(0, abs=2e-3)
        assert one.step(1)["kl"] > 1e-5

    @pytest.mark.parametrize("threshold", [None, 1.5])
    def test_probes_are_played_beside_segments_and_graded(self, threshold: float | None) -> None:
        """With a threshold their weight is none at first, and grows while the grades are below it."""
        model, grades = bundle(), iter([[0.0, 1.0, 2.0, 1.0]] * 7)
        safety = SafetySettings(probes=Path("p"), judge=JudgeConfig(endpoint=WHERE), groups=1, threshold=threshold)
        how = replace(settings(3, updates=1), rewards=RewardSettings(safety=safety))
        probe = replace(segment(1.0, 2.0, "probe"), axis="safety", start=0.0)
        segments = {"pause": record(model, [segment(1.0, 2.0)]), "safety": record(model, [probe])}
        seen: list[Any] = []

        def reward(axis: str, group: Group) -> dict[str, list[float]]:
            return {"safety": next(grades)} if axis == "safety" else quiet(axis, group)

        one = AlignLearner(
            model, segments, how, seed=0, reward=AtOnce(reward), publish=lambda run, name: None,
            keep=lambda number, batch, gains: seen.append((batch.axes, gains)),
        )  # fmt: skip
        rows = [one.step(n) for n in range(2)]
        assert seen[0][0] == ("pause", "pause", "safety")
        assert rows[0]["reward_safety"] == 1.0
        _, shown = one._roll(np.random.default_rng(0), 0)  # what is imitated: nobody answered the probes
        assert [r.segment.axis for r in shown] == ["pause", "pause"]
        first, second = (gains[2].abs().max() for _, gains in seen)
        if threshold is None:
            assert first == second > 0
        else:
            assert (first, rows[0]["safety_weight"], rows[1]["safety_weight"]) == (0, 0.25, 0.5)
            assert second > 0
            assert one.state()["bound"] == 0.5

    def test_probes_that_are_not_there_are_named(self) -> None:
        safety = SafetySettings(probes=Path("p"), judge=JudgeConfig(endpoint=WHERE))
        with pytest.raises(UserError, match="names no probes"):
            learner(replace(settings(), rewards=RewardSettings(safety=safety)))

    def test_gradients_of_text_and_audio_can_be_compared(self) -> None:
        how = settings(updates=1, compare_gradients_every=2)
        one, plain = learner(how), learner(settings(updates=1))
        rows = [one.step(n) for n in range(2)]
        assert -1 <= rows[0]["gradient_cosine"] <= 1
        assert rows[0]["gradient_text"] > 0
        assert rows[0]["gradient_audio"] > 0
        assert "gradient_cosine" not in rows[1]
        plain.step(0)
        other = plain.step(1)
        assert {k: v for k, v in rows[1].items() if "fps" not in k} == {
            k: v for k, v in other.items() if "fps" not in k
        }

    def test_bfloat16_moves_weights_nearly_the_same_way_and_keeps_them_in_float32(self) -> None:
        moved = []
        for autocast in (False, True):
            one = learner(settings(updates=1, rows=8, autocast=autocast))
            before = [p.detach().clone() for p in one.model.parameters()]
            row = one.step(0)
            assert row["kl"] == pytest.approx(0, abs=1e-6)
            assert all(p.dtype == torch.float32 for p in one.model.parameters())
            moves = [b.detach() - a for a, b in zip(before, one.model.parameters(), strict=True)]
            moved.append(torch.cat([m.flatten() for m in moves]))
        assert torch.cosine_similarity(*moved, dim=0) > 0.9
        assert not torch.equal(*moved)

    def test_the_first_update_is_on_policy_and_later_ones_are_not(self) -> None:
        assert learner(settings(updates=1)).step(0)["old_kl"] == pytest.approx(0, abs=1e-6)
        assert learner(settings(updates=4)).step(0)["old_kl"] > 1e-5

    @pytest.mark.parametrize("tokens", ["text_semantic", "all"])
    def test_audio_tokens_bring_in_the_depth_transformer(self, tokens: Tokens) -> None:
        one = learner(settings(tokens=tokens))
        before = {name: p.detach().clone() for name, p in one.model.named_parameters()}
        one.step(0)
        assert any(name.startswith("depformer") and not torch.equal(p, before[name])
                   for name, p in one.model.named_parameters())  # fmt: skip

    def test_adapters_alone_move_and_the_reference_is_the_model_without_them(self) -> None:
        one = learner(settings(lora=LoRAConfig(rank=4, targets="transformer.*")))
        frozen = {name: p.detach().clone() for name, p in one.model.named_parameters() if "lora" not in name}
        rows = [one.step(n) for n in range(3)]
        assert rows[-1]["kl"] > 0
        for name, p in one.model.named_parameters():
            if "lora" not in name:
                assert torch.equal(p, frozen[name]), name
        assert any(float(p.detach().abs().sum()) > 0 for name, p in one.model.named_parameters() if "lora_B" in name)

    def test_imitation_makes_what_the_human_did_likelier(self) -> None:
        """With lambda 0 nothing but the human counts, on every stream; with lambda 1 the human is not looked at."""
        one = learner(settings(imitation=ImitationSettings(share=1.0), kl=KLConfig(beta=0)))
        first, last = (one.step(n)["imitation"] for n in range(2))
        assert last < first
        assert "imitation" not in learner(settings(imitation=ImitationSettings(share=0.0))).step(0)

    def test_the_gate_opens_with_good_rewards_that_differ(self) -> None:
        how = settings(imitation=ImitationSettings(gate=GateConfig(low=0, high=2), reward="judge"))
        good = learner(how, lambda axis, group: {"judge": [2.0, 0.0, 2.0, 0.0][: len(group)]})
        assert good.step(0)["lambda"] > 0.7
        bad = learner(how, lambda axis, group: {"judge": [0.1, 0.0, 0.1, 0.0][: len(group)]})
        assert bad.step(0)["lambda"] < 0.1
        assert learner(how).step(0)["lambda"] == 0  # no such reward

    def test_what_cannot_be_scored_is_left_out_and_counted(self) -> None:
        seen: list[Any] = []

        def reward(axis: str, group: Group) -> dict[str, list[float]]:
            return {"judge": [math.nan, *(float(i) for i in range(1, len(group)))], "flat": [0.0] * len(group)}

        row = learner(settings(), reward, seen=seen).step(0)
        gains = seen[0][1]
        assert row["unscored"] == 2
        assert row["flat_groups"] == 2
        assert row["reward_judge"] == 2
        assert (gains[:, 0] == 0).all()
        assert gains[0, 1:].sum().abs() < 1e-5

    def test_dropped_groups_without_spread_move_nothing(self) -> None:
        how = settings(kl=KLConfig(beta=0.1), flat_groups="drop")
        one = learner(how, lambda axis, group: {"same": [1.0] * len(group)})
        before = [p.detach().clone() for p in one.model.parameters()]
        row = one.step(0)
        assert row["flat_groups"] == 2
        assert all(torch.equal(a, b) for a, b in zip(before, one.model.parameters(), strict=True))

    def test_a_dropped_group_without_spread_changes_nothing_for_the_others(self) -> None:
        """It must not thin their gradient."""
        model = bundle()
        groups, gains = [rollouts(model), rollouts(model, 0.0)], torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
        after = []
        for count in (1, 2):
            how = settings(updates=1, flat_groups="drop")
            one = learner(how, model=replace(model, lm=copy.deepcopy(model.lm)))
            one._updater.update(0, groups[:count], gains[:count], [], None)
            after.append([p.detach() for p in one.model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*after, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(after[0], model.lm.parameters(), strict=True))

    def test_a_checkpoint_of_other_parameters_is_refused(self) -> None:
        adapted = learner(settings(lora=LoRAConfig(rank=4, targets="transformer.*")))
        other = learner(settings(lora=LoRAConfig(rank=4, targets="text_linear")))
        for taker, giver in ((adapted, other), (other, adapted), (learner(settings()), adapted)):
            with pytest.raises(ValueError, match="other parameters"):
                taker.restore(giver.state())

    def test_slots_have_room_for_the_longest_rollout_and_hardly_more(self) -> None:
        model = bundle()
        how = RolloutSettings(axes=("pause",), slots=4, group=4, context_s=(0.0, 30.0), lead_s=0.5, text_prompt="hi")
        voice = Voice(codes=torch.zeros(8, 20, dtype=torch.long))
        parts = [segment(1.0, 2.0), segment(1.5, 2.4, "t")]
        one = AlignLearner(
            model, {"pause": record(model, parts)}, replace(settings(), rollouts=how), seed=0, reward=AtOnce(quiet),
            publish=lambda run, name: None, voice=voice,
        )  # fmt: skip
        for recorded in one.segments["pause"]:
            for context in (0.0, 30.0):
                one.roller.play([Episode(recorded, context, DRAWN)])
        assert longest_frames(parts, how, 12.5) == 30 + 4
        assert longest_frames(parts, replace(how, context_s=(0.0, 0.2)), 12.5) == 19 + 4  # 1 s behind a lead of 0.5

    def test_the_axes_rules_reward_what_was_heard(self) -> None:
        group = rollouts(bundle())
        (begun,) = AxesRewarder(RewardSettings()).begin(["pause"], [group])
        found = begun.result().rewards
        assert set(found) == {"pause"}
        for value, rollout in zip(found["pause"], group, strict=True):
            speech = rollout.scene.timeline.agent.clipped(rollout.scene.start, rollout.scene.end).speech
            assert value == -float(any(b - a > 1 for a, b in speech.tolist()))

    def test_a_judge_grades_answers_and_its_outage_is_not_a_bad_grade(self) -> None:
        down = True

        def serve(request: httpx.Request) -> httpx.Response:
            return (
                httpx.Response(500) if down else httpx.Response(200, json={"choices": [{"message": {"content": "2"}}]})
            )

        judge = Judge(JudgeConfig(endpoint=WHERE), Endpoint(WHERE, transport=httpx.MockTransport(serve)))
        model = bundle()
        (recorded,) = record(model, [heard(segment())])
        (group,) = Roller(model, 3).play([Episode(recorded, 0.0, DRAWN)])
        both = AxesRewarder(RewardSettings(), judge)
        (begun,) = both.begin(["turn_taking"], [group])
        lost = begun.result()
        assert all(math.isnan(x) for x in lost.rewards["judge"])
        assert {verdict.reason for verdict in lost.verdicts} == {"http"}
        down = False
        turn, pause = (each.result() for each in both.begin(["turn_taking", "pause"], [group, group]))
        assert turn.rewards["judge"] == [2.0] * 3
        assert len(turn.rewards["turn_taking"]) == 3
        assert {verdict.reply for verdict in turn.verdicts} == {"2"}
        assert "judge" not in pause.rewards
        (begun,) = AxesRewarder(RewardSettings(proxy=True), Proxy()).begin(
            ["interruption"], [[interrupted(r) for r in group]]
        )
        assert all(0 <= x <= 2 for x in begun.result().rewards["judge"])

    def test_kept_rollouts_replayed_give_the_same_update(self, tmp_path: Path) -> None:
        seen: list[Any] = []

        def reward(axis: str, group: Group) -> dict[str, list[float]]:
            return quiet(axis, group) | {"other": [math.nan, 1.0, 2.0, 3.0]}

        rolled = learner(settings(), reward, seen=seen)
        first = dict(rolled.step(0))
        save_batch(tmp_path / "batch.safetensors", seen[0][0])
        again = learner(settings(), reward, replay=lambda number: load_batch(tmp_path / "batch.safetensors"))
        second = dict(again.step(0))
        for row in (first, second):
            del row["rollout_fps"], row["update_fps"]
        assert first.pop("outside") > 0, "how they were drawn is not kept"
        assert first == second
        for a, b in zip(rolled.model.parameters(), again.model.parameters(), strict=True):
            assert torch.equal(a, b)
        (tmp_path / "batch.safetensors").write_bytes(b"x")
        with pytest.raises(UserError, match="holds no rollouts"):
            load_batch(tmp_path / "batch.safetensors")

    def test_windows_lie_around_what_the_human_did(self) -> None:
        model = bundle()
        acts = (ReferenceEvent("turn", 1.0, 2.0, 1), ReferenceEvent("answer", 2.2, 3.0, 0))
        (recorded,) = record(model, [replace(segment(1.0, 4.0), events=acts)])
        parts = {"turn_taking": [recorded], "pause": record(model, [segment(1.0, 3.0)])}
        found = shaped(parts, RolloutSettings(window=(1.0, 2.0)))
        (window,), (whole,) = found["turn_taking"], found["pause"]
        assert (window.segment.start, window.segment.end) == pytest.approx((1.2, 4.0))
        assert (whole.segment.start, whole.segment.end) == (1.0, 3.0)
        how = settings()
        how = replace(how, rollouts=replace(how.rollouts, window=(0.5, 0.5)))
        seen: list[Any] = []
        one = learner(how, AxesRewarder(RewardSettings(duplexpo=DuplexPOReward())), seen=seen)
        assert "reward_duplexpo" in one.step(0)
        assert not seen[0][0].groups[0][0].scored[:8].any()  # the whole recording before it is given

    @pytest.mark.parametrize(
        ("longest", "events", "start"),
        [
            (1.5, (), 4.5),
            (9.0, (), 1.0),
            (1.0, (ReferenceEvent("backchannel", 4.0, 4.5, 0),), 2.0),
            (1.0, (ReferenceEvent("turn", 1.0, 3.5, 1), ReferenceEvent("answer", 3.6, 5.8, 0)), 1.5),
            (1.0, (ReferenceEvent("backchannel", 2.0, 2.4, 0),), 1.0),
            (3.0, (ReferenceEvent("turn", 1.0, 5.9, 1), ReferenceEvent("turn", 0.0, 0.5, 1)), 3.0),
        ],
    )
    @pytest.mark.usefixtures("even_crops")
    def test_a_long_segment_is_acted_from_before_what_happens_in_it(
        self, longest: float, events: tuple[ReferenceEvent, ...], start: float
    ) -> None:
        """Two seconds before; of a turn, before its end. What ended before the segment does not count."""
        (recorded,) = record(bundle(), [replace(segment(1.0, 6.0), events=events)])
        found = cropped(recorded.segment, longest)
        assert found.start == pytest.approx(start)
        assert found.end == 6.0
        ((same,),) = shaped({"pause": [recorded]}, RolloutSettings(longest_s=longest)).values()
        assert same.segment.start == found.start

    def test_a_step_has_as_many_segments_of_each_axis_as_of_the_others(self) -> None:
        rng = np.random.default_rng(0)
        drawn = [drawn_axes(("a", "b", "c"), 5, rng) for _ in range(600)]
        assert all(1 <= axes.count(name) <= 2 for axes in drawn for name in "abc")
        assert sum(axes.count("a") for axes in drawn) == pytest.approx(1000, rel=0.05)
        assert len({tuple(axes) for axes in drawn}) > 20

    @pytest.mark.usefixtures("even_crops")
    def test_what_is_to_be_answered_says_where_a_segment_ends(self) -> None:
        """And where a short one begins: two seconds before the interruption, whatever was before that."""
        events = (ReferenceEvent("turn", 1.0, 2.0, 1), ReferenceEvent("interruption", 3.5, 4.5, 1))
        (recorded,) = record(bundle(), [replace(segment(1.0, 6.0), axis="interruption", events=events)])
        for longest, after, span in ((1.0, 1.0, (1.5, 5.5)), (None, 0.5, (1.0, 5.0)), (None, 9.0, (1.0, 6.0))):
            s = cropped(recorded.segment, longest, after)
            assert (s.start, s.end) == span
        pause = replace(recorded, segment=replace(recorded.segment, axis="pause"))
        assert cropped(pause.segment, None, 0.5) == pause.segment

    def test_cropped_segments_do_not_tell_by_the_clock_when_the_user_ends(self) -> None:
        events = (ReferenceEvent("turn", 1.0, 20.0, 1), ReferenceEvent("answer", 20.0, 40.0, 0))
        whole = replace(segment(1.0, 40.0), axis="turn_taking", events=events)
        crops = [cropped(replace(whole, id=f"s{i}"), 8.0, 4.0) for i in range(40)]
        for place in ([20 - s.start for s in crops], [s.end - 20 for s in crops]):
            assert np.std(place) > 0.3
            assert min(place) >= 1.0
        assert all(s.end - s.start <= 8.0 and s.end <= 24.0 for s in crops)
        assert crops == [cropped(replace(whole, id=f"s{i}"), 8.0, 4.0) for i in range(40)]

    def test_an_axis_without_segments_is_named(self) -> None:
        how = settings()
        wrong = replace(how, rollouts=replace(how.rollouts, axes=("pause", "backchannel")))
        with pytest.raises(UserError, match="no segments of the axis backchannel"):
            learner(wrong)


def rows_of(run: RunFolder) -> list[Mapping[str, Any]]:
    timed = ("seconds", "rollout_fps", "update_fps")
    return [{k: v for k, v in row.items() if k not in timed} for row in run.rows()]


@pytest.mark.parametrize(
    "more",
    [{}, {"lora": LoRAConfig(rank=4)}, {"imitation": ImitationSettings(reward="quiet")}, {"critic": CriticSettings()}],
    ids=str,
)
def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path: Path, more: dict[str, Any]) -> None:
    how, loop = settings(4, **more), LoopConfig(steps=4, log_every=1, save_minutes=0.0)
    # Adapters begin at random.
    torch.manual_seed(5)
    with RunFolder.create(tmp_path / "whole", "align", how) as whole:
        train(learner(how), whole, loop)
    torch.manual_seed(5)
    with RunFolder.create(tmp_path / "cut", "align", how) as run:
        train(learner(how), run, replace(loop, steps=2))
    torch.manual_seed(5)
    with RunFolder.create(tmp_path / "cut", "align", how, resume=True) as run:
        train(learner(how), run, loop)
        assert rows_of(run) == rows_of(whole)


class TestWatch:
    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ({"kl": 3.0}, "kl is 3, above 2"), ({"repetition": 0.9}, "repetition is 0.9, above 0.8"),
            ({"entropy": 0.001}, "entropy is 0.001, below 0.01"), ({"loss": math.nan}, "loss is nan"),
        ],
    )  # fmt: skip
    def test_a_run_beyond_a_limit_for_too_long_stops(self, row: dict[str, float], said: str) -> None:
        watch = Watch(GuardSettings(patience=2))
        watch.see(row, "step 1")
        watch.see({"kl": 0.1}, "step 2")  # it came back
        watch.see(row, "step 3")
        with pytest.raises(UserError, match=f"step 4: {said}, 2 steps in a row"):
            watch.see(row, "step 4")

    def test_limits_can_be_lifted(self) -> None:
        watch = Watch(GuardSettings(kl=None, patience=1))
        watch.see({"kl": 99.0}, "step 1")


class TestSettings:
    @pytest.mark.parametrize("recipe", RECIPES)
    def test_every_recipe_is_one(self, recipe: str) -> None:
        assert RECIPES[recipe]().steps > 0

    def test_the_paper_s_recipe_is_as_published(self) -> None:
        how = RECIPES["kyutai-2606.11167"]()
        o = how.update.optimizer
        assert (how.steps, how.rollouts.groups, how.rollouts.group, how.update.updates) == (100, 32, 16, 16)
        assert (o.kind, o.rate, o.shape, o.decay, o.clip) == ("adamw", 2e-7, "cosine", 0.1, 2.0)
        assert (how.update.policy.low, how.update.policy.high, how.update.kl) == (0.2, 0.2, KLConfig(beta=0.01))
        assert (how.rollouts.context, how.rollouts.context_s) == (0.5, (0.0, 30.0))
        assert how.update.lora is None
        assert how.update.advantage == AdvantageConfig()
        assert (how.update.policy.aggregate, how.update.flat_groups) == ("sequence_mean", "keep")
        assert how.rewards.rules == "literal"

    def test_duplexpo_reaches_its_rate_early_and_its_floor_at_the_end(self) -> None:
        how = RECIPES["duplexpo"]()
        o, steps = how.update.optimizer, how.steps * how.update.updates
        rates = [o.rate * rate_at(n, steps, o.warmup, o.flat, o.end, o.shape) for n in range(steps)]
        assert rates.index(max(rates)) <= steps / 5
        assert max(rates) == pytest.approx(1e-5)
        assert rates[-1] == pytest.approx(1e-6, rel=0.01)
        assert sum(rates) / steps > 0.5e-5

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_every_recipe_reaches_its_rate_and_says_what_it_rewards(self, recipe: str) -> None:
        how = RECIPES[recipe]()
        o, steps = how.update.optimizer, how.steps * how.update.updates
        assert o.warmup <= steps / 5
        assert max(rate_at(n, steps, o.warmup, o.flat, o.end, o.shape) for n in range(steps)) > 0.99
        assert "Rewards: " in " ".join((RECIPES[recipe].__doc__ or "").split())

    def test_wavalign_and_aspirin_are_as_published(self) -> None:
        wavalign, aspirin = RECIPES["wavalign"](), RECIPES["aspirin"]()
        assert wavalign.update.imitation is not None
        weights = wavalign.update.imitation.weights
        assert (weights.padding, weights.semantic, weights.audio) == (1, 1, 1)
        assert (wavalign.rollouts.text_temperature, wavalign.rollouts.text_top_p) == (0.7, 0.9)
        assert aspirin.rewards.aspirin is not None
        assert aspirin.steps * aspirin.rollouts.groups == pytest.approx(3 * 1300, abs=8)

    @pytest.mark.parametrize(
        ("make", "named"),
        [
            (lambda: UpdateSettings(projection="marginal", tokens="all"), "update.projection"),
            (lambda: UpdateSettings(preference=PreferenceSettings()), "update.preference"),
            (lambda: RewardSettings(proxy=True, judge=JudgeConfig(endpoint=WHERE)), "two judges"),
            (lambda: PreferenceSettings(beta=0), "update.preference.beta"),
            (lambda: RewardSettings(duplexpo=DuplexPOReward(), aspirin=AspirinReward()), "rewards.aspirin"),
            (lambda: UpdateSettings(shard=True, lora=LoRAConfig()), "update.shard"),
            (lambda: UpdateSettings(shard=True, updates=1, preference=PreferenceSettings()), "update.shard"),
            (lambda: RolloutSettings(group=16, slots=8), "rollouts.slots"),
            (lambda: RolloutSettings(axes=("pauses",)), "no axis 'pauses'"),
            (lambda: RolloutSettings(axes=()), "names no axis"),
            (lambda: RolloutSettings(context=2.0), "rollouts.context"),
            (lambda: AlignSettings(rollouts=RolloutSettings(group=4)), "update.updates"),
            (lambda: AlignSettings(steps=0), "steps"),
        ],
    )
    def test_choices_that_cannot_be_are_refused(self, make: Callable[[], object], named: str) -> None:
        with pytest.raises(UserError, match=named):
            make()

    def test_settings_that_are_not_given_are_the_model_s(self) -> None:
        from duologue.train.align_learner import sampling_of

        own = Sampling(text_temperature=0.3, audio_top_k=7)
        asked = RolloutSettings(text_temperature=None, audio_temperature=0.5, audio_top_k=None)
        assert sampling_of(asked, own) == replace(own, audio_temperature=0.5)
        assert sampling_of(replace(asked, text_top_k=0), own) == replace(own, audio_temperature=0.5, text_top_k=0)
