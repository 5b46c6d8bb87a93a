"""The proxy reward: people's answers above models', and nothing that ignores the user above people."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from duologue.axes.proxy import BEST, ENOUGH, FEATURES, Proxy, convolved, proxy_model, repeated
from duologue.base.files import read_json
from duologue.dialogue.lexicon import plain_words
from duologue.dialogue.timeline import Word
from test_axes_judge import USER, scene

ANSWERS = Path(__file__).parent / "data" / "answers.json"
"""People's answers and two models' in the dev segments, made by `tools/collect_answers.py`: nano's, and those of nano
after 14 steps of alignment with an earlier proxy reward, which counted trigrams."""


@dataclass(frozen=True)
class Row:
    """An exchange, as plain words."""

    segment: str
    turn: list[str]
    answers: dict[str, list[str]]


@cache
def rows() -> list[Row]:
    told = read_json(ANSWERS)
    assert isinstance(told, dict)
    assert told["part"] == "dev"
    return [
        Row(f"{x['axis']} {x['segment']}", x["user"].split(),
            {"human": x["human"].split(), **{name: x[name][0].split() for name in told["models"]}})
        for x in told["exchanges"]
    ]  # fmt: skip


def by_segment(answer: Callable[[Row], Sequence[str]]) -> dict[str, float]:
    """The grade of each segment: the mean over its exchanges, as of a scene."""
    grades: dict[str, list[float]] = {}
    for row in rows():
        grades.setdefault(row.segment, []).append(Proxy().grade(row.turn, answer(row)))
    return {segment: float(np.mean(x)) for segment, x in grades.items()}


@cache
def of(name: str) -> dict[str, float]:
    return by_segment(lambda row: row.answers[name])


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean: a bootstrap over segments."""
    values, rng = np.array(differences), np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (4000, len(values)))].mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


@pytest.mark.parametrize("model", ["base", "aligned"])
def test_people_stand_above_models_in_segments_that_it_never_saw(model: str) -> None:
    human, other = of("human"), of(model)
    differences = [human[segment] - other[segment] for segment in human]
    low, high = interval(differences)
    wins = np.mean([d > 0 for d in differences]) + np.mean([d == 0 for d in differences]) / 2
    print(f"\nhuman {np.mean(list(human.values())):.2f}, {model} {np.mean(list(other.values())):.2f}: "
          f"{np.mean(differences):+.2f} ({low:+.2f} to {high:+.2f}), wins {wins:.2f} of {len(human)}")  # fmt: skip
    assert low > 0
    assert wins > 0.6


def cycled(row: Row) -> list[str]:
    """The next of a few phrases, whatever was said."""
    phrases = ("yeah that's so cool", "i don't know what do you think", "oh nice i love that", "that's true i agree")
    at = rows().index(row)
    return " ".join(phrases[(at + i) % len(phrases)] for i in range(3)).split()


def rare(row: Row) -> list[str]:
    return random.Random(" ".join(row.turn)).sample(list(proxy_model().ngrams.words)[2000:], 15)


CANNED = (
    "yeah", "uh-huh", "yeah that's cool", "i don't know", "yeah that's cool i don't know what do you think",
    "yeah i love it that's so cool what do you like to do for fun", "xqz wvub krrt plm zorb qunt",
)  # fmt: skip
"""Said to everything."""
CHEATS: dict[str, Callable[[Row], Sequence[str]]] = {
    "silence": lambda row: [],
    "yeah yeah yeah": lambda row: ["yeah"] * 12,
    "canned phrases in turn": cycled,
    "the user's words": lambda row: row.turn,
    "the user's last words": lambda row: ["yeah", *row.turn[-10:]],
    "the user's words in another order": lambda row: random.Random(0).sample(row.turn, len(row.turn)),
    "rare words": rare,
    "a loop": lambda row: ["i", "think", "it", "was", "good"] * 5,
    "people's answer, shuffled": lambda row: random.Random(0).sample(row.answers["human"], len(row.answers["human"])),
    **{text: (lambda row, text=text: plain_words(text)) for text in CANNED},
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_ignores_the_user_or_says_nothing_stands_below_people(cheat: str) -> None:
    median = float(np.median(list(of("human").values())))
    assert np.mean(list(by_segment(CHEATS[cheat]).values())) < median


def test_the_same_answer_to_another_turn_is_worse() -> None:
    """Each of people's answers to its own turn, and to all others."""
    proxy, chosen = Proxy(), [row for row in rows() if len(set(row.answers["human"])) >= ENOUGH]
    gained = []
    for row in chosen:
        answer = row.answers["human"]
        others = [proxy.grade(x.turn, answer) for x in chosen if x.segment != row.segment]
        gained.append(proxy.grade(row.turn, answer) - float(np.mean(others)))
    low, high = interval(gained)
    print(f"\nits own turn, not another: {np.mean(gained):+.3f} ({low:+.3f} to {high:+.3f})")
    assert low > 0


def test_scenes_are_graded_by_what_is_said_in_the_span_and_known() -> None:
    talk = "pretty good thanks i had a long day at work so i am happy to be home"
    said = tuple(Word(w, 1 + 0.1 * i, 1.05 + 0.1 * i) for i, w in enumerate(talk.split()))
    early = tuple(Word("kjhg", 0.1 * i, 0.1 * i + 0.05) for i in range(4))
    scenes = [scene((*early, *said)), scene(said), scene(()), scene(None), scene(said, user=None)]
    with_early, alone, silent, unknown, unasked = Proxy().score(scenes)
    assert with_early == alone == Proxy().score(scenes, again=3)[1] > 0
    assert alone == Proxy().grade([w.text for w in USER], talk.split())
    assert silent == 0
    assert math.isnan(unknown)
    assert math.isnan(unasked)


def test_few_words_and_repetition_cost_whatever_the_weights_say() -> None:
    proxy, turn = Proxy(), ["what", "do", "you", "like", "to", "do", "on", "the", "weekend"]
    answer = ["i", "like", "to", "hike", "in", "the", "mountains", "with", "my", "dog"]
    full, model = proxy.grade(turn, answer), proxy_model()
    assert 0 < full < BEST
    for n in range(1, ENOUGH):
        chance = 1 / (1 + math.exp(-model.logit(turn, answer[:n])))
        assert proxy.grade(turn, answer[:n]) == pytest.approx(BEST * chance * n / ENOUGH)
    twice = 1 / (1 + math.exp(-model.logit(turn, answer * 2)))
    assert proxy.grade(turn, answer * 2) == pytest.approx(BEST * twice * (1 - 9 / 19))


def test_disfluencies_change_nothing() -> None:
    turn = ["do", "you", "ski"]
    assert Proxy().grade(turn, ["i-", "i", "uh", "love", "to", "ski", "in", "the", "the", "winter"]) == Proxy().grade(
        turn, ["i", "love", "to", "ski", "in", "the", "winter"]
    )


def test_a_convolution_by_hand() -> None:
    """Sums of neighbours, from one channel to one, with a bias of -3."""
    kernel = np.array([[1.0], [1.0], [1.0], [-3.0]], np.float32)
    assert convolved(np.array([[1], [2], [3]], np.float32), kernel).ravel().tolist() == [0, 3, 2]


def test_repetition_counts_runs_that_came_before() -> None:
    assert repeated(["a", "b", "a", "b"]) == pytest.approx(1 / 3)
    assert repeated(["a"]) == 0


def test_the_shipped_weights_are_small_and_whole() -> None:
    model, file = proxy_model(), resources.files("duologue.axes").joinpath("proxy.npz")
    assert len(file.read_bytes()) < 2_000_000
    assert len(model.words) == len(model.ngrams.words) + 2
    assert model.scale.shape == (2, len(FEATURES))
    assert all(np.isfinite(x).all() for x in (model.words, model.first, model.second, model.inner, model.outer))
