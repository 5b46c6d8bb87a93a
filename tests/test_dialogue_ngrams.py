"""The small language model of people's chats."""

from __future__ import annotations

import numpy as np
import pytest

from duologue.dialogue.lexicon import plain_words
from duologue.dialogue.ngrams import NGrams, shipped_ngrams


def small() -> NGrams:
    """Words a, b seen 3 and 1 times; pairs a a twice, a b once; the triple a a b once."""
    return NGrams(
        words={"a": 0, "b": 1}, single=np.array([3, 1]), pairs=np.array([0, 1]), pair_counts=np.array([2, 1]),
        triples=np.array([1]), triple_counts=np.array([1]), total=5,
    )  # fmt: skip


def test_probabilities_by_hand() -> None:
    found = small().probabilities(small().ids(["a", "a", "b", "x"]))
    # The last: after "a b", which was counted, nothing was; so all that is left is half a count of an unknown word.
    by_hand = [3 / 5, (0.2 * 3 / 5 + 0.4 * 2 / 3) / 0.6, 0.2 / 5 + 0.4 / 3 + 0.4 / 2, 0.2 * 0.5 / 5]
    assert found == pytest.approx(by_hand)


def test_expected_values_are_over_the_models_own_mass() -> None:
    model, ids = small(), small().ids(["a", "a", "b"])
    values = np.array([2.0, 5.0])
    for place in range(3):
        each = np.array([model.probabilities(np.append(ids[:place], w))[-1] for w in (0, 1)])
        assert model.expected(ids, values)[place] == pytest.approx(each @ values / each.sum())


def test_talk_is_likelier_than_its_words_in_another_order() -> None:
    model = shipped_ngrams()
    talk, salad = "i really like the food there", "there food like the really i"
    one, two = (np.log(model.probabilities(model.ids(plain_words(x)))).mean() for x in (talk, salad))
    assert one > two + 1


def test_the_shipped_counts_are_small_and_whole() -> None:
    model = shipped_ngrams()
    assert len(model.words) == len(model.single) == 8000
    for keys, counts in ((model.pairs, model.pair_counts), (model.triples, model.triple_counts)):
        assert (np.diff(keys) > 0).all()
        assert len(keys) == len(counts)
        assert counts.min() > 1
    assert (model.triples // 8000).max() < len(model.pairs)
