"""Distinct words, distinct bigrams and entropy, compared at equal counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from duologue.dialogue.diversity import counted, diversities, diversity, first_words


def test_counts_by_hand() -> None:
    """ "a b a b" and "b b": 6 words, 2 of them a; the bigrams ab, ba, ab, bb."""
    d = counted([["a", "b", "a", "b"], ["b", "b"]])
    assert (d.words, d.distinct_words, d.distinct_bigrams) == (6, 2, 3 / 4)
    plain = -(2 / 6 * math.log2(2 / 6) + 4 / 6 * math.log2(4 / 6))
    assert d.entropy == pytest.approx(plain + 1 / (12 * math.log(2)))


def test_bigrams_do_not_cross_texts() -> None:
    assert counted([["a", "b"], ["a", "b"]]).distinct_bigrams == 1 / 2
    assert math.isnan(counted([["a"], ["b"]]).distinct_bigrams)


def test_nothing_said_is_nan_not_zero() -> None:
    for texts in ([], [[]]):
        d = diversity(texts)
        assert d.words == 0
        assert all(math.isnan(x) for x in (d.distinct_words, d.distinct_bigrams, d.entropy))


def test_talking_more_is_not_richer() -> None:
    """The same speaker, twice as long: at its own count it has more words, at equal counts it has not."""
    rng = np.random.default_rng(0)
    texts = [[f"w{i}" for i in rng.zipf(1.5, 12) % 500] for _ in range(200)]
    each = diversities({"half": texts[:100], "whole": texts})
    assert each["half"].words == each["whole"].words == 1200
    assert each["whole"].distinct_words == pytest.approx(each["half"].distinct_words, rel=0.08)
    assert diversity(texts).distinct_words > 1.3 * diversity(texts[:100]).distinct_words


def test_few_phrases_show() -> None:
    rng = np.random.default_rng(1)
    rich = [[f"w{i}" for i in rng.zipf(1.5, 10) % 500] for _ in range(50)]
    canned = [["yeah", "that's", "cool"], ["i", "love", "it"]] * 60
    each = diversities({"rich": rich, "canned": canned})
    assert each["canned"].distinct_words < each["rich"].distinct_words
    assert each["canned"].distinct_bigrams < each["rich"].distinct_bigrams
    assert each["canned"].entropy < each["rich"].entropy


def test_draws_hang_on_the_seed_alone() -> None:
    texts = [[f"w{i * j % 17}" for i in range(8)] for j in range(30)]
    assert diversity(texts, 50, seed=3) == diversity(texts, 50, seed=3)
    assert diversity(texts, 50, seed=3) != diversity(texts, 50, seed=4)
    assert diversity(texts, 50).words == 50


def test_the_last_text_is_cut() -> None:
    assert first_words([["a", "b"], ["c", "d"], ["e"]], 3) == [["a", "b"], ["c"]]
