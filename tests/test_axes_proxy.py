"""The shipped stand-in for a judge: people's talk above word salad, repetition and silence below."""

from __future__ import annotations

import math

import numpy as np
import pytest

from duologue.axes.proxy import BEST, Proxy, WordModel, count, key, repeated, word_model
from duologue.dialogue.lexicon import plain_words
from duologue.dialogue.timeline import Word
from test_axes_judge import scene

TALK = "I think it was pretty good and I really like the food there"


def grade(text: str) -> float:
    return Proxy().grade(plain_words(text))


def test_talk_beats_salad_beats_repetition_beats_silence() -> None:
    salad = "there food really pretty the think like was good it I and I"
    assert grade(TALK) > grade(salad) + 0.5
    assert grade("yeah " * 12) < 0.2
    assert grade("xqz wvub krrt plm") == 0
    assert grade("") == 0
    assert grade("so what do you like to do for fun") > 1.5


def test_cheaters_do_not_beat_a_plain_answer() -> None:
    for cheat in ("the the the the", "I think I think I think I think", "you know " * 6, "of the of the of the"):
        assert grade(cheat) < grade(TALK)


def test_scenes_are_graded_by_what_the_agent_says_in_the_span() -> None:
    said = tuple(Word(w, 1 + 0.2 * i, 1.1 + 0.2 * i) for i, w in enumerate(TALK.split()))
    early = tuple(Word("kjhg", 0.1 * i, 0.1 * i + 0.05) for i in range(4))
    with_early, alone, silent, unknown = Proxy().score(
        [scene((*early, *said)), scene(said), scene(()), scene(None)]
    )  # fmt: skip
    assert with_early == alone == Proxy().score([scene(said)], again=3)[0] > 1
    assert silent == 0
    assert math.isnan(unknown)


def test_scores_by_hand() -> None:
    """Words a, b seen 3 and 1 times; a pair a b once; a triple a a b twice after a a three times."""
    pairs = sorted([(key(0, 1), 1), (key(0, 0), 3)])
    model = WordModel(
        {"a": 0, "b": 1}, np.array([3, 1]), np.array([k for k, _ in pairs], np.uint32),
        np.array([n for _, n in pairs], np.uint16), np.array([key(0, 0, 1)], np.uint32), np.array([2], np.uint16),
        total=4, salad=-5.0, human=-1.0,
    )  # fmt: skip
    first, second, third = math.log(3 / 4), math.log(3 / 3), math.log(2 / 3)
    assert model.score(["a", "a", "b"]) == pytest.approx((first + second + third) / 3)
    # b after b: no pair, so backed off once; x: unknown, half a count, backed off as far as there is a history.
    assert model.score(["b", "b"]) == pytest.approx((math.log(1 / 4) + math.log(0.4 / 4)) / 2)
    assert model.score(["x"]) == pytest.approx(math.log(0.5 / 4))
    assert model.score(["a", "x"]) == pytest.approx((first + math.log(0.4 * 0.5 / 4)) / 2)
    assert math.isnan(model.score([]))


def test_keys_are_found_and_others_are_not() -> None:
    keys = np.array(sorted(key(i, i + 1) for i in range(100)), np.uint32)
    counts = np.arange(100).astype(np.uint16) + 1
    assert all(count(keys, counts, int(k)) == n for k, n in zip(keys, counts, strict=True))
    assert not any(count(keys, counts, key(i, i + 2)) for i in range(100))
    assert key(1, 2) != key(2, 1)


def test_repetition_counts_runs_that_came_before() -> None:
    assert repeated(["a", "b", "a", "b"]) == pytest.approx(1 / 3)
    assert repeated(["a"]) == 0


def test_the_shipped_counts_are_small_and_whole() -> None:
    model = word_model()
    assert len(model.words) == len(model.single) == 8000
    assert model.salad < model.human < 0
    assert (np.diff(model.pairs.astype(np.int64)) > 0).all()
    assert BEST == 2
