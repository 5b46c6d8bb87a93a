"""GAE, the two-action view and preference pairs, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from duologue.rl.actions import SILENT, SPEAK, action_of, speak_or_silent
from duologue.rl.gae import gae
from duologue.rl.preference import dpo_loss


def near(x: torch.Tensor, expected: list) -> None:
    torch.testing.assert_close(x, torch.tensor(expected, dtype=x.dtype), atol=1e-5, rtol=1e-5)


class TestGae:
    REWARDS = torch.tensor([[1.0, 0.0, 2.0]])
    VALUES = torch.tensor([[0.5, 1.0, 0.2]])
    AFTER = torch.tensor([[1.0, 0.2, 3.0]])
    NO = torch.zeros(1, 3, dtype=torch.bool)

    def found(self, ended: torch.Tensor, cut: torch.Tensor) -> torch.Tensor:
        values, returns = gae(self.REWARDS, self.VALUES, self.AFTER, ended, cut, discount=0.9, trace=0.5)
        torch.testing.assert_close(returns, values + self.VALUES)
        return values

    def test_a_sequence_that_goes_on(self) -> None:
        d = [1 + 0.9 * 1.0 - 0.5, 0.9 * 0.2 - 1.0, 2 + 0.9 * 3.0 - 0.2]
        a2, a1 = d[2], d[1] + 0.45 * d[2]
        near(self.found(self.NO, self.NO), [[d[0] + 0.45 * a1, a1, a2]])

    def test_nothing_comes_after_an_end(self) -> None:
        d0, d1, d2 = 1.4, -1.0, 4.5
        near(self.found(torch.tensor([[False, True, False]]), self.NO), [[d0 + 0.45 * d1, d1, d2]])

    def test_an_abandoned_episode_is_worth_what_it_still_promised(self) -> None:
        """A time limit is no end: the value after counts, but nothing of the next episode does."""
        d0, d1, d2 = 1.4, 0.9 * 0.2 - 1.0, 4.5
        near(self.found(self.NO, torch.tensor([[False, True, False]])), [[d0 + 0.45 * d1, d1, d2]])


class TestActions:
    SILENT_IDS = torch.tensor([True, False, False, True])

    def test_the_marginal_is_the_probability_of_the_class(self) -> None:
        logits = torch.tensor([0.3, 1.0, -0.5, 2.0])
        p = logits.softmax(0)
        near(speak_or_silent(logits, self.SILENT_IDS).exp(), [float(p[0] + p[3]), float(p[1] + p[2])])
        near(speak_or_silent(logits + 5, self.SILENT_IDS).exp(), [float(p[0] + p[3]), float(p[1] + p[2])])

    def test_the_published_form_adds_logits_and_hangs_on_their_offset(self) -> None:
        logits = torch.tensor([0.5, 1.0, -0.5, 1.0, 0.0])
        silent = torch.tensor([True, False, False, False, False])
        near(
            speak_or_silent(logits, silent, "sum_of_logits").exp(), [1 / (1 + math.exp(1.0)), 1 / (1 + math.exp(-1.0))]
        )
        assert not torch.allclose(
            speak_or_silent(logits, silent, "sum_of_logits"), speak_or_silent(logits + 1, silent, "sum_of_logits")
        )

    def test_tokens_become_actions(self) -> None:
        assert action_of(torch.tensor([[0, 1, 3]]), self.SILENT_IDS).tolist() == [[SILENT, SPEAK, SILENT]]

    def test_one_class_alone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="both classes"):
            speak_or_silent(torch.zeros(3), torch.ones(3, dtype=torch.bool))


class TestPreference:
    def test_the_loss_by_hand(self) -> None:
        chosen = torch.tensor([[-1.0, -1.0, -9.0]], requires_grad=True)
        rejected = torch.tensor([[-2.0]], requires_grad=True)
        masks = torch.tensor([[True, True, False]]), torch.tensor([[True]])
        reference = torch.tensor([[-2.0, -1.0, 0.0]]), torch.tensor([[-1.0]])
        got = dpo_loss(chosen, rejected, *reference, *masks, beta=0.5)
        margin = 0.5 * (0.5 - (-1.0))
        assert got.loss.item() == pytest.approx(math.log(1 + math.exp(-margin)))
        assert (got.accuracy.item(), got.margin.item()) == (1.0, pytest.approx(margin))
        got.loss.backward()
        pull = 0.5 / (1 + math.exp(margin))
        near(chosen.grad, [[-pull / 2, -pull / 2, 0.0]])
        near(rejected.grad, [[pull]])
        summed = dpo_loss(chosen, rejected, *reference, *masks, beta=0.5, by_length=False)
        assert summed.margin.item() == pytest.approx(0.5 * 2.0)
