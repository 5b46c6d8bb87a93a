"""Content that nothing is rewarded by: diversity at equal counts, mutual information with the user's turn, echoes."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from duologue.base.errors import UserError
from duologue.base.files import read_json
from duologue.bench.content import content_of, diversity_of
from duologue.bench.content_model import NamedModel, ShippedModel, model_named, shipped_model
from duologue.dialogue.diversity import diversities
from duologue.dialogue.ngrams import NGrams
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.timeline import Timeline, Track, Word
from duologue.dialogue.turn_model import TurnModel


def words(text: str, start: float) -> list[Word]:
    return [Word(w, start + i / 4, start + i / 4 + 0.2) for i, w in enumerate(text.split())]


def scene(turn: str | None, answer: str | None) -> Scene:
    """The user's turn in the first ten seconds, then an answer."""
    user, agent = (None if x is None else words(x, at) for x, at in ((turn, 0.0), (answer, 10.0)))
    timeline = Timeline(Track.of([], agent), Track.of([], user), 30.0)
    return Scene(id="s", timeline=timeline, start=0.0, end=30.0, events=(ReferenceEvent("turn", 0.0, 10.0, 1),))


class Half:
    """A model that gains half a nat a word."""

    def log_ratio(self, turn: Sequence[str], answer: Sequence[str]) -> float:
        return len(answer) / 2


def test_content_is_by_word_and_counts_words() -> None:
    found = content_of(scene("do you like to ski", "i do like um skiing a lot"), Half())
    assert found == {"content_words": 6.0, "content_pmi": 0.5, "content_echo": pytest.approx(2 / 6)}


def test_silence_scores_nothing_and_is_not_good() -> None:
    found = content_of(scene("do you ski", ""), Half())
    assert found["content_words"] == 0
    assert math.isnan(found["content_pmi"])
    assert math.isnan(found["content_echo"])


def test_unknown_words_of_either_side_score_nothing() -> None:
    for made in (scene(None, "hello there"), scene("do you ski", None)):
        assert all(math.isnan(x) for x in content_of(made, Half()).values())


def tiny(weight: float) -> ShippedModel:
    """Words a, b, c; a turn of c makes b likely."""
    ngrams = NGrams({"a": 0, "b": 1, "c": 2}, np.array([4, 3, 1]), np.array([0, 1]), np.array([2, 2]), np.array([1]),
                    np.array([2]), total=8)  # fmt: skip
    turns, answers = np.zeros((3, 1), np.float32), np.zeros((3, 1), np.float32)
    turns[2], answers[1] = 1, 2
    mean = np.log(np.array([0.5, 0.4, 0.1], np.float32))
    return ShippedModel(ngrams, TurnModel(turns, answers, mean, mean), weight)


def test_probabilities_after_a_turn_add_up_to_what_they_were() -> None:
    """Over every word that could stand in a place, p(w | history, turn) has the mass of p(w | history)."""
    model = tiny(0.7)
    for history in ([], ["a"], ["a", "a"]):
        ids = [model.ngrams.ids([*history, w]) for w in "abc"]
        before = np.array([model.ngrams.probabilities(x)[-1] for x in ids])
        gains = [model.log_ratio(["c"], [*history, w]) - model.log_ratio(["c"], history) for w in "abc"]
        assert (before * np.exp(gains)).sum() == pytest.approx(before.sum())
    assert model.log_ratio(["c"], ["b"]) > 0 > model.log_ratio(["c"], ["a"])


def test_what_says_nothing_gains_nothing() -> None:
    model = tiny(1.0)
    assert model.log_ratio(["x"], ["b", "a"]) == pytest.approx(0)
    assert model.log_ratio(["c"], []) == 0
    assert model.log_ratio(["c"], ["x", "y"]) == 0
    assert tiny(0.0).log_ratio(["c"], ["b"]) == pytest.approx(0)


PAIRS = (
    ("what kind of movies do you like", "my favorite is star wars but i love all of the marvel films"),
    ("what are you studying here", "i am a computer science major and my classes are so hard"),
    ("do you have any siblings", "yeah i have two brothers and one sister and i am the oldest"),
    ("do you like to cook", "i love to bake and eat cookies and my mom makes the best pizza"),
    ("i want to travel to europe next summer", "i lived in germany and france for a year and italy is beautiful"),
)


def test_the_shipped_model_knows_which_answer_is_whose() -> None:
    model = shipped_model()
    table = np.array([[model.log_ratio(t.split(), a.split()) for _, a in PAIRS] for t, _ in PAIRS])
    own, others = np.diag(table), table[~np.eye(len(PAIRS), dtype=bool)]
    assert own.mean() > others.mean() + 0.2
    assert own.mean() > 0


def test_sets_are_compared_at_equal_counts() -> None:
    rich = [scene("hi", f"w{i} w{i + 1} w{i + 2} w{i + 3}") for i in range(20)]
    canned = [scene("hi", "yeah that's cool") for _ in range(20)]
    found = diversity_of({"human": rich, "agent": canned})
    assert found["human"]["words"] == found["agent"]["words"] == 60
    assert found["human"]["words_said"] == 80
    assert found["agent"]["distinct_words"] == 3 < found["human"]["distinct_words"]
    assert found["agent"]["entropy"] < found["human"]["entropy"]


def test_people_say_more_than_models_in_the_dev_segments() -> None:
    """Answers of people, of nano, and of nano aligned by a reward that likes "yeah": see `test_axes_proxy`."""
    told = read_json(Path(__file__).parent / "data" / "answers.json")
    assert isinstance(told, dict)
    rows, model = told["exchanges"], shipped_model()
    said = {name: [(r["user"].split(), r[name][0].split()) for r in rows] for name in told["models"]}
    said |= {"human": [(r["user"].split(), r["human"].split()) for r in rows]}
    rich = diversities({name: [answer for _, answer in x] for name, x in said.items()})
    gained = {}
    for name, pairs in said.items():
        pairs = [(turn, answer) for turn, answer in pairs if turn and answer]
        each = np.array([model.log_ratio(turn, answer) for turn, answer in pairs])
        count = np.array([len(answer) for _, answer in pairs])
        mean = each.sum() / count.sum()
        spread = 1.96 * np.std(each - mean * count) / (math.sqrt(len(pairs)) * count.mean())
        gained[name] = (mean, mean - spread, mean + spread)
        told_of = "{:+.3f} ({:+.3f} to {:+.3f})".format(*gained[name])
        print(f"\n{name}: {len(pairs)} answers, {told_of} nats a word; {rich[name]}", end="")
    assert gained["human"][1] > 0
    assert gained["human"][0] > max(gained["base"][0], gained["aligned"][0])
    for name in ("distinct_words", "distinct_bigrams", "entropy"):
        human, base, aligned = (getattr(rich[x], name) for x in ("human", "base", "aligned"))
        assert human > base > aligned


def test_a_language_model_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(model_named(None), ShippedModel)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="transformers"):
        NamedModel("gpt2")


def test_a_named_model_says_how_much_likelier_a_turn_makes_an_answer(tmp_path: Path) -> None:
    """A tiny network of random weights: the difference of two sums of log-probabilities, made by hand."""
    transformers, tokenizers = (pytest.importorskip(name) for name in ("transformers", "tokenizers"))
    ids = {word: i for i, word in enumerate(("<unk>", "\n", "do", "you", "ski", "yes", "no"))}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Split(" ", "removed"), tokenizers.pre_tokenizers.Split("\n", "isolated")]
    )
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=len(ids), n_embd=8, n_layer=1, n_head=1, n_positions=16)
    network = transformers.GPT2LMHeadModel(config).eval()
    network.save_pretrained(tmp_path)

    def log(tokens: list[int], given: int) -> float:
        with torch.no_grad():
            scores = network(torch.tensor([tokens])).logits[0].log_softmax(-1)
        return sum(float(scores[i - 1, tokens[i]]) for i in range(given, len(tokens)))

    wanted = log([2, 3, 4, 1, 5, 6], 4) - log([1, 5, 6], 1)
    assert NamedModel(tmp_path).log_ratio(["do", "you", "ski"], ["yes", "no"]) == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(UserError, match="cannot be read"):
        NamedModel(tmp_path / "nobody")
