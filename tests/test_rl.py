"""Reinforcement learning's pure functions against numbers computed by hand and against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.base.errors import UserError
from duologue.rl.advantages import AdvantageConfig, advantages
from duologue.rl.divergence import estimated_kl, exact_kl, masked_mean
from duologue.rl.gates import GateConfig, gate
from duologue.rl.policy import PolicyConfig, aggregate, policy_loss, size_of

NAN = math.nan
PLAIN = AdvantageConfig(eps=0.0)


def near(x: torch.Tensor, expected: list) -> None:
    torch.testing.assert_close(x, torch.tensor(expected, dtype=x.dtype), atol=1e-5, rtol=1e-5)


class TestAdvantages:
    def test_a_group_is_standardised(self) -> None:
        got = advantages({"turn": torch.tensor([[1.0, 2.0, 3.0, 6.0]])}, PLAIN)  # mean 3, std sqrt(3.5)
        near(got.values, [[-2 / 3.5**0.5, -1 / 3.5**0.5, 0.0, 3 / 3.5**0.5]])

    def test_rewards_are_normalised_apart_and_then_added(self) -> None:
        delay, judge = torch.tensor([[-1.0, -3.0]]), torch.tensor([[0.0, 2.0]])
        near(advantages({"delay": delay, "judge": judge}, PLAIN).values, [[0.0, 0.0]])
        # Added before, the judge's larger spread would win.
        near(advantages({"both": delay + 2 * judge}, PLAIN).values, [[-1.0, 1.0]])

    def test_what_could_not_be_scored_is_left_out(self) -> None:
        got = advantages({"judge": torch.tensor([[1.0, NAN, 3.0]])}, PLAIN)
        near(got.values, [[-1.0, 0.0, 1.0]])
        assert got.scored.tolist() == [[True, False, True]]
        assert got.unscored == {"judge": 1}

    def test_groups_without_spread_say_nothing_and_are_counted(self) -> None:
        got = advantages({"a": torch.tensor([[2.0, 2.0], [0.0, 1.0], [NAN, 5.0]])}, PLAIN)
        near(got.values, [[0.0, 0.0], [-1.0, 1.0], [0.0, 0.0]])
        assert got.flat == {"a": 2}

    def test_leave_one_out_compares_with_the_others(self) -> None:
        config = AdvantageConfig(baseline="leave_one_out", scale="none")
        near(advantages({"a": torch.tensor([[1.0, 2.0, 6.0]])}, config).values, [[-3.0, -1.5, 4.5]])

    def test_scales(self) -> None:
        x = torch.tensor([[0.0, 2.0], [0.0, 4.0]])
        near(advantages({"a": x}, AdvantageConfig(scale="none")).values, [[-1.0, 1.0], [-2.0, 2.0]])
        std = (((0 - 1.5) ** 2 * 2 + 0.5**2 + 2.5**2) / 4) ** 0.5
        expected = [[-1 / std, 1 / std], [-2 / std, 2 / std]]
        near(advantages({"a": x}, AdvantageConfig(scale="batch", eps=0.0)).values, expected)
        near(advantages({"a": x}, AdvantageConfig(bessel=True, eps=0.0)).values, [[-(0.5**0.5), 0.5**0.5]] * 2)

    def test_whitening_is_a_choice(self) -> None:
        a, b = torch.tensor([[0.0, 2.0], [1.0, 3.0]]), torch.tensor([[0.0, 4.0], [6.0, 2.0]])
        near(advantages({"a": a, "b": b}, PLAIN).values, [[-2.0, 2.0], [0.0, 0.0]])
        white = AdvantageConfig(eps=0.0, whiten="batch")
        near(advantages({"a": a, "b": b}, white).values, [[-(2**0.5), 2**0.5], [0.0, 0.0]])

    def test_a_reward_counts_by_its_weight(self) -> None:
        x, y = torch.tensor([[0.0, 2.0]]), torch.tensor([[5.0, 1.0]])
        near(advantages({"a": x, "b": y}, AdvantageConfig(eps=0.0, weights={"b": 0.25})).values, [[-0.75, 0.75]])
        with pytest.raises(UserError, match="is no weight"):
            AdvantageConfig(weights={"a": -1.0})

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(0.1, 10), st.floats(-9, 9))
    def test_scale_and_offset_of_a_reward_do_not_matter(self, values: list[float], scale: float, offset: float) -> None:
        x = torch.tensor([values], dtype=torch.float64)
        if x.std(correction=0) > 1e-3:
            torch.testing.assert_close(
                advantages({"a": x}, PLAIN).values, advantages({"a": x * scale + offset}, PLAIN).values,
                atol=1e-4, rtol=1e-4,
            )  # fmt: skip

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(ValueError, match="shapes"):
            advantages({"a": torch.zeros(1, 2), "b": torch.zeros(2, 1)})


class TestPolicy:
    MASK = torch.tensor([[True, True, False]])

    @staticmethod
    def old(*ratios: float) -> tuple[torch.Tensor, torch.Tensor]:
        new = torch.full((1, 3), -1.0, requires_grad=True)
        return new, new.detach() - torch.tensor([ratios]).log()

    def test_before_the_first_step_the_loss_is_the_mean_and_the_gradient_is_not_zero(self) -> None:
        new, old = self.old(1, 1, 1)
        got = policy_loss(new, old, torch.tensor([2.0]), self.MASK, PolicyConfig())
        got.loss.backward()
        assert got.loss.item() == pytest.approx(-2.0)
        near(new.grad, [[-1.0, -1.0, 0.0]])
        assert (got.clipped.item(), got.ratio.item(), got.old_kl.item()) == (0.0, 1.0, 0.0)

    def test_ratios_beyond_the_clip_lose_their_gradient_on_the_side_that_pays(self) -> None:
        new, old = self.old(1.5, 0.5, 9)
        got = policy_loss(new, old, torch.tensor([[1.0, 1.0, 1.0]]), self.MASK, PolicyConfig())
        assert got.loss.item() == pytest.approx(-(1.2 + 0.5) / 2)
        got.loss.backward()
        near(new.grad, [[0.0, -0.25, 0.0]])
        assert got.clipped.item() == pytest.approx(0.5)
        new, old = self.old(1.5, 0.5, 9)
        got = policy_loss(new, old, torch.tensor([[-1.0, -1.0, 1.0]]), self.MASK, PolicyConfig())
        assert got.loss.item() == pytest.approx((1.5 + 0.8) / 2)
        got.loss.backward()
        near(new.grad, [[0.75, 0.0, 0.0]])

    def test_the_upper_clip_may_be_higher(self) -> None:
        new, old = self.old(1.25, 1.0, 1)
        got = policy_loss(new, old, torch.tensor([1.0]), self.MASK, PolicyConfig(high=0.28))
        assert got.loss.item() == pytest.approx(-(1.25 + 1.0) / 2)

    def test_cispo_keeps_every_token_s_gradient(self) -> None:
        new, old = self.old(1.5, 0.5, 9)
        policy_loss(new, old, torch.tensor([1.0]), self.MASK, PolicyConfig(objective="cispo")).loss.backward()
        near(new.grad, [[-0.6, -0.4, 0.0]])

    def test_a_sequence_s_ratio_is_the_geometric_mean(self) -> None:
        new, old = self.old(1.1, 0.95, 9)
        got = policy_loss(new, old, torch.tensor([1.0]), self.MASK, PolicyConfig(level="sequence"))
        ratio = (1.1 * 0.95) ** 0.5
        assert got.loss.item() == pytest.approx(-ratio, rel=1e-5)
        got.loss.backward()
        near(new.grad, [[-ratio / 2, -ratio / 2, 0.0]])

    def test_aggregates(self) -> None:
        new = torch.zeros(2, 3)
        mask = torch.tensor([[True, False, False], [True, True, True]])
        gain = torch.tensor([1.0, 3.0])
        found = [
            policy_loss(new, new, gain, mask, PolicyConfig(aggregate=a, constant=c)).loss.item()
            for a, c in (("frame_mean", None), ("sequence_mean", None), ("constant", 5.0))
        ]
        assert found == pytest.approx([-10 / 4, -(1 + 3) / 2, -10 / 5])

    @pytest.mark.parametrize(
        "config",
        [
            PolicyConfig(aggregate="frame_mean"), PolicyConfig(aggregate="sequence_mean"),
            PolicyConfig(aggregate="constant", constant=7.0),
        ],
        ids=lambda config: config.aggregate,
    )  # fmt: skip
    def test_the_parts_of_a_batch_add_up_to_it(self, config: PolicyConfig) -> None:
        torch.manual_seed(0)
        terms, mask = torch.randn(5, 6), torch.rand(5, 6) < 0.5
        mask[1] = False  # a sequence without tokens is none
        parts = [(terms[:2], mask[:2]), (terms[2:3], mask[2:3]), (terms[3:], mask[3:])]
        size = sum(size_of(m, config) for _, m in parts)
        added = sum(aggregate(x, m, config, size) for x, m in parts)
        torch.testing.assert_close(added, aggregate(terms, mask, config))

    def test_masked_infinities_spoil_nothing(self) -> None:
        new = torch.tensor([[-1.0, -math.inf]], requires_grad=True)
        mask = torch.tensor([[True, False]])
        old = torch.tensor([[-1.0, -math.inf]])
        got = policy_loss(
            new.masked_fill(~mask, 0.0), old.masked_fill(~mask, 0.0), torch.tensor([1.0]), mask, PolicyConfig()
        )
        got.loss.backward()
        assert got.loss.isfinite()
        near(new.grad, [[-1.0, 0.0]])

    @pytest.mark.parametrize(
        ("values", "named"),
        [
            ({"low": 1.5}, "clip.low"),
            ({"aggregate": "constant"}, "constant"),
            ({"constant": 3.0}, "constant"),
            ({"objective": "reinforce", "level": "sequence"}, "reinforce"),
        ],
    )
    def test_choices_that_do_not_go_together_are_refused(self, values: dict, named: str) -> None:
        with pytest.raises(UserError, match=named):
            PolicyConfig(**values)


class TestDivergence:
    def test_exact_values_by_hand(self) -> None:
        p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
        expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
        assert exact_kl(p.log() + 7, q.log() - 3).item() == pytest.approx(expected, rel=1e-5)
        assert exact_kl(p.log(), p.log()).item() == pytest.approx(0.0, abs=1e-7)

    def test_estimators_have_the_exact_mean_but_k2(self) -> None:
        torch.manual_seed(0)
        logits, reference = torch.randn(8), torch.randn(8) * 0.3
        p, q = logits.log_softmax(0), reference.log_softmax(0)
        exact = exact_kl(logits, reference)
        for name in ("k1", "k3"):
            torch.testing.assert_close((p.exp() * estimated_kl(p, q, name)).sum(), exact, atol=1e-5, rtol=1e-5)
        assert (estimated_kl(p, q, "k3") >= 0).all()

    def test_k2_s_expected_gradient_is_the_exact_one_s(self) -> None:
        torch.manual_seed(1)
        logits, reference = torch.randn(6, requires_grad=True), torch.randn(6)
        (wanted,) = torch.autograd.grad(exact_kl(logits, reference), logits)
        for name, right in (("k1", False), ("k2", True), ("k3", False)):
            p = logits.log_softmax(0)
            loss = (p.exp().detach() * estimated_kl(p, reference.log_softmax(0), name)).sum()
            (got,) = torch.autograd.grad(loss, logits)
            assert torch.allclose(got, wanted, atol=1e-5) == right

    def test_a_mean_of_nothing_is_zero(self) -> None:
        assert masked_mean(torch.tensor([NAN]), torch.tensor([False])).item() == 0.0


class TestGate:
    def test_the_official_constants(self) -> None:
        rewards = torch.tensor([[1.0, 5.0, 3.0, 3.0]])  # best 5, variance 2
        expected = 0.8 / (1 + math.exp(-5 * (5 - 3))) * 2 / 4
        assert gate(rewards, None) == pytest.approx(expected)
        assert gate(rewards, 0.6) == pytest.approx(0.1 * expected + 0.9 * 0.6)

    def test_no_good_rollout_or_no_difference_means_imitation(self) -> None:
        assert gate(torch.tensor([[1.0, 1.0], [5.0, 5.0]]), None) == 0.0
        assert gate(torch.tensor([[1.0, 1.2]]), None) < 1e-4
        assert gate(torch.tensor([[NAN, NAN]]), None) == 0.0

    def test_it_follows_the_range_of_the_reward(self) -> None:
        five = torch.tensor([[2.0, 4.0, 5.0, 1.0]])
        unit = (five - 1) / 4
        assert gate(unit, None, GateConfig(low=0, high=1)) == pytest.approx(gate(five, None))

    def test_constants_without_sense_are_refused(self) -> None:
        with pytest.raises(UserError, match="no range"):
            GateConfig(low=2, high=1)
