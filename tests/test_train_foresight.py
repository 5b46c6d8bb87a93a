"""Who speaks in the next two seconds: what is asked for, of which frames, and that it is learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from duologue.base.errors import UserError
from duologue.model.initial import random_lm
from duologue.model.presets import PRESETS
from duologue.train.foresight import AHEAD, SPANS, ahead_bits
from duologue.train.lessons import UNKNOWN
from duologue.train.lm_learner import LMLearner, LMLearning
from duologue.train.optimizers import OptimizerConfig
from duologue.train.spelling import letter_bits
from test_train_data import excerpts, found_at, talk

TINY = PRESETS["tiny"].lm


def by_hand(agent: list[bool], user: list[bool], frame: int) -> int:
    told = 0
    for row, side in enumerate((agent, user)):
        at = frame
        for i, span in enumerate(SPANS):
            if sum(side[at : at + span]) >= span / 2:
                told |= 1 << (row * len(SPANS) + i)
            at += span
    return told


def test_two_seconds_from_each_frame_are_told_by_whoever_speaks_for_half_of_a_span() -> None:
    rng = np.random.default_rng(0)
    agent, user = (np.repeat(rng.random(30) < 0.5, rng.integers(1, 9, 30))[:60] for _ in range(2))
    found = ahead_bits(agent, user)
    assert AHEAD == 25
    assert found[:36].tolist() == [by_hand(agent.tolist(), user.tolist(), t) for t in range(36)]
    assert set(found[36:].tolist()) == {UNKNOWN}
    assert len(set(found[:36].tolist())) > 10


def test_what_is_too_short_tells_nothing() -> None:
    assert ahead_bits(np.ones(3, bool), np.ones(3, bool)).tolist() == [UNKNOWN] * 3


@pytest.mark.parametrize("swap", [0.0, 1.0])
def test_an_excerpt_knows_what_comes_behind_its_end(swap: float) -> None:
    made = talk()
    drawn = excerpts(60, made, swap=swap, prompts=("be kind",))
    agent = int(swap == 1)
    whole = ahead_bits(made.speaks[agent], made.speaks[1 - agent])
    for seed in range(5):
        batch = drawn.batch(np.random.default_rng(seed), 1)
        where = batch.learn[0].nonzero()[:, 0]
        (start,) = found_at(batch.codes[0, 9:17, where], made.codes[1 - agent])
        assert batch.ahead[0, where].tolist() == whole[start : start + len(where)].tolist()
        assert set(batch.ahead[0, ~batch.learn[0]].tolist()) == {UNKNOWN}


def test_who_is_silenced_to_listen_is_not_foreseen() -> None:
    batch = excerpts(60, task="transcribe").batch(np.random.default_rng(0), 2)
    assert set(batch.ahead.flatten().tolist()) == {UNKNOWN}


def test_nothing_is_asked_where_a_side_s_words_are_not_known() -> None:
    made = talk()
    letters = np.stack([made.letters[0], letter_bits(None, made.frames, 12.5)])
    batch = excerpts(60, replace(made, letters=letters)).batch(np.random.default_rng(0), 2)
    assert set(batch.ahead.flatten().tolist()) == {UNKNOWN}


def test_where_nobody_ever_speaks_nobody_will() -> None:
    batch = excerpts(60, silent=1.0).batch(np.random.default_rng(0), 2)
    assert not batch.ahead.any()


class TestLearning:
    def learner(self, **given: float) -> LMLearner:
        how = LMLearning(batch=3, frames=60, autocast=False, optimizer=OptimizerConfig(warmup=1, rate=0.01), **given)  # type: ignore[arg-type]
        return LMLearner(
            random_lm(TINY, 0, device="cpu", dtype="fp32"), excerpts(60), None, how, steps=9, seed=1,
            publish=lambda _: None,
        )  # fmt: skip

    def test_it_is_told_beside_letters_and_learned(self) -> None:
        plain, asked = self.learner(), self.learner(spelling=1.0, foresight=0.5)
        a, b = plain.step(0), asked.step(0)
        assert "ahead" not in a
        assert b["loss"] == pytest.approx(a["loss"] + b["letters"] + 0.5 * b["ahead"], rel=1e-5)
        assert b["ahead"] == pytest.approx(8 * np.log(2), rel=0.1), "before it knows anything"
        assert [asked.step(n)["ahead"] for n in range(1, 9)][-1] < 0.9 * b["ahead"]

    def test_it_asks_of_what_has_not_been_read(self) -> None:
        learner = self.learner(foresight=1.0)
        hidden = torch.zeros(1, 5, TINY.dim)
        hidden[:, 2] = 1
        lesson = learner.lessons["foresight"]
        known = torch.full((1, 4), UNKNOWN)
        known[:, 2] = 255
        with torch.no_grad():
            lesson.out.weight.fill_(1.0)
            sure = lesson.loss(hidden, known, torch.ones(1, 4, dtype=torch.bool))
        assert float(sure) == pytest.approx(0, abs=1e-3), "step 2 has read frames 0 and 1, and is asked of frame 2 on"

    def test_weights_below_nothing_are_one_line(self) -> None:
        with pytest.raises(UserError, match=r"learning\.foresight: -1\.0 is no weight; use 0 or more"):
            LMLearning(foresight=-1.0)
