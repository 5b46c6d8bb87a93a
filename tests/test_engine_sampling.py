"""Draws follow the probabilities, hang on the slot's own seed alone, and honour temperature, top-k and top-p."""

from __future__ import annotations

import pytest
import torch

from duologue.base.errors import UserError
from duologue.engine.sampling import GREEDY, Draw, Sampling, Settings, chances

CPU = torch.device("cpu")


def draw(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, *, rows: int = 1, card: int = 6) -> Draw:
    return Draw.of([temperature] * rows, [top_k] * rows, [top_p] * rows, card, CPU)


def frequencies(how: Draw, logits: torch.Tensor, n: int = 40_000) -> torch.Tensor:
    chance = chances(torch.full((n, 1), 11), torch.arange(n))[:, 0]
    tokens = how.pick(logits.expand(n, -1), chance)
    return torch.bincount(tokens, minlength=logits.shape[1]) / n


LOGITS = torch.tensor([[1.0, 3.0, 2.0, 0.0, 2.5, -1.0]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probability_says(temperature: float) -> None:
    got = frequencies(draw(temperature), LOGITS)
    torch.testing.assert_close(got, torch.softmax(LOGITS[0] / temperature, -1), atol=0.01, rtol=0)


def test_top_k_keeps_the_likeliest() -> None:
    got = frequencies(draw(top_k=3), LOGITS)
    kept = torch.tensor([1, 4, 2])
    assert got[kept].sum() == pytest.approx(1)
    torch.testing.assert_close(got[kept], torch.softmax(LOGITS[0, kept], -1), atol=0.01, rtol=0)


def test_top_p_keeps_the_likeliest_that_reach_it() -> None:
    p = torch.softmax(LOGITS[0], -1)
    got = frequencies(draw(top_p=float(p[1]) + 0.01), LOGITS)  # one token is not enough, two are
    assert (got > 0).nonzero()[:, 0].tolist() == [1, 4]
    assert frequencies(draw(top_p=0.01), LOGITS)[1] == 1


class TestPadTemperature:
    """PAD is token 1 here: whether to speak is drawn at one temperature, and what to say at another."""

    def settings(self, *temperatures: tuple[float, float | None]) -> Settings:
        slots = [Sampling(text_temperature=t, text_top_k=0, pad_temperature=p) for t, p in temperatures]
        return Settings.of(slots, 8, 6, 16, CPU)

    @pytest.mark.parametrize(("words", "pad"), [(0.3, 1.0), (0.5, 2.0), (1.5, 0.7), (1.0, 1.0)])
    def test_each_has_its_own(self, words: float, pad: float) -> None:
        how = self.settings((words, pad))
        got = torch.softmax(how.pause(LOGITS, torch.tensor([1])) / words, -1)[0]
        rest = torch.tensor([0, 2, 3, 4, 5])
        learned = torch.stack([LOGITS[0, 1], LOGITS[0, rest].logsumexp(0)])
        assert float(got[1]) == pytest.approx(float(torch.softmax(learned / pad, -1)[0]), abs=1e-6)
        torch.testing.assert_close(got[rest] / got[rest].sum(), torch.softmax(LOGITS[0, rest] / words, -1))

    def test_slots_without_one_and_greedy_ones_are_as_before(self) -> None:
        how = self.settings((0.5, None), (0.0, 1.0), (0.5, 1.0))
        found = how.pause(LOGITS.expand(3, -1), torch.tensor([1]))
        assert torch.equal(found[:2], LOGITS.expand(2, -1))
        assert torch.equal(found[2:], self.settings((0.5, 1.0)).pause(LOGITS, torch.tensor([1])))
        assert self.settings((0.5, None)).pad is None

    def test_it_is_taken_along_with_other_tensors(self) -> None:
        how = self.settings((0.5, 1.0), (0.7, None))
        again = how.with_tensors([x.clone() for x in how.tensors()])
        assert again.pad is not None
        assert torch.equal(again.pad, torch.tensor([[1.0], [0.0]]))
        assert how.kind() == again.kind() != self.settings((0.5, None), (0.7, None)).kind()


def test_rows_of_one_batch_keep_their_own_settings() -> None:
    how = Draw.of([0.0, 1.0, 1.0], [0, 2, 6], [1.0, 1.0, 0.01], 6, CPU)
    chance = torch.tensor([0.999, 0.999, 0.999])
    assert how.pick(LOGITS.expand(3, -1), chance).tolist() == [1, 4, 1]
    assert how.pick(LOGITS.expand(3, -1), torch.zeros(3)).tolist() == [1, 1, 1]


def test_greedy_takes_the_likeliest_whatever_the_chance() -> None:
    assert draw(0.0).pick(LOGITS, torch.tensor([0.7])).tolist() == [1]
    settings = Settings.of([GREEDY, GREEDY], 8, 32, 16, CPU)
    assert settings.text.all_greedy
    assert settings.audio.all_greedy
    assert settings.bonus is None


def test_the_largest_chance_stays_within_the_vocabulary() -> None:
    largest = torch.tensor([1 - 2**-23])
    for logits in torch.randn(200, 1, 6):
        assert draw(top_k=3).pick(logits, largest).item() in logits[0].topk(3)[1].tolist()
        assert draw(top_k=3).pick(logits, torch.zeros(1)).item() in logits[0].topk(3)[1].tolist()


def test_a_row_s_draw_does_not_hang_on_the_settings_of_others() -> None:
    torch.manual_seed(0)
    logits, chance = torch.randn(1, 40), chances(torch.full((50, 1), 1), torch.arange(50))[:, 0]
    alone = [draw(top_k=7, card=40).pick(logits, c[None]).item() for c in chance]
    for other in ((0.0, 3, 1.0), (1.0, 0, 0.5), (2.0, 40, 1.0), (1.0, 7, 0.2)):
        both = Draw.of([1.0, other[0]], [7, other[1]], [1.0, other[2]], 40, CPU)
        assert [both.pick(logits.expand(2, -1), c.expand(2))[0].item() for c in chance] == alone


class TestChances:
    def test_they_are_even_and_independent_between_streams_and_frames(self) -> None:
        x = chances(torch.full((20_000, 9), 5), torch.arange(20_000))
        assert x.min() >= 0
        assert x.max() < 1
        counts = torch.histc(x[:, 0], bins=20, min=0, max=1)
        assert ((counts - 1000).abs() < 5 * 1000**0.5).all()
        assert (torch.corrcoef(x.T) - torch.eye(9)).abs().max() < 0.03
        assert torch.corrcoef(torch.stack((x[:-1, 0], x[1:, 0])))[0, 1].abs() < 0.03

    def test_seeds_differ_and_repeat(self) -> None:
        frames = torch.arange(100)
        a, b, again = (chances(torch.full((100, 3), seed), frames) for seed in (1, 2, 1))
        assert torch.equal(a, again)
        assert not torch.equal(a, b)
        assert torch.corrcoef(torch.stack((a[:, 0], b[:, 0])))[0, 1].abs() < 0.35

    def test_a_row_does_not_hang_on_its_neighbours(self) -> None:
        seeds, frames = torch.tensor([[3, 4], [5, 6], [7, 8]]), torch.tensor([10, 20, 30])
        assert torch.equal(chances(seeds, frames)[1:2], chances(seeds[1:2], frames[1:2]))

    def test_neighbouring_seeds_and_frames_are_unlike(self) -> None:
        grid = torch.stack([chances(torch.full((200, 1), seed), torch.arange(200))[:, 0] for seed in range(200)])
        assert grid.flatten().unique().numel() > 39_900


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"text_temperature": -1.0}, "text_temperature"),
        ({"audio_temperature": float("nan")}, "audio_temperature"),
        ({"text_top_k": -1}, "text_top_k"),
        ({"audio_top_p": 0.0}, "audio_top_p"),
        ({"audio_top_p": 1.1}, "audio_top_p"),
        ({"text_seed": -1}, "text_seed"),
        ({"audio_seed": 2**31}, "audio_seed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        Sampling(**settings)
