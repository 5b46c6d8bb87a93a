"""Scripts for simulated conversations: cleaned chats, joined into turns, and the user's text files."""

from __future__ import annotations

import json
import sys
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from duologue.base.errors import UserError
from duologue.corpus import script as script_module
from duologue.corpus import simulate
from duologue.corpus.chats import Message, clean_chat, spoken_text
from duologue.corpus.script import MAX_DRIFT, belongs, held_out, join_messages, load_scripts, read_scripts
from duologue.corpus.simulate import SimulateConfig, jobs


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("haha lol thats so funny :)", "that's so funny"),
        ("u there???", "you there?"),
        ("sooooo good...  right", "soo good, right"),
        ("look at https://example.org/x", ""),
        ("asdkjh$$%%@@!!##^^", ""),
        (":D", ""),
        ("I LOVE PIZZAS!!", "I LOVE pizzas!"),
        ("ok, haha, fine", "okay, fine"),
    ],
)
def test_messages_are_written_as_they_are_said(written: str, said: str) -> None:
    assert spoken_text(written) == said


def chat(lines: list[tuple[str, str]]) -> list[list[dict[str, str]]]:
    return [[{"text": text, "sender": sender, "timestamp": ""}] for sender, text in lines]


def long_chat(extra: str = "") -> list[list[dict[str, str]]]:
    lines = [("ab"[i % 2], f"this is message number {i} and it has several more words in it") for i in range(14)]
    return chat([*lines, ("a", extra)])


def test_a_good_chat_is_kept_and_its_sides_can_be_exchanged() -> None:
    kept, swapped = clean_chat(long_chat(), False), clean_chat(long_chat(), True)
    assert [m.side for m in kept[:4]] == [0, 1, 0, 1]
    assert [m.side for m in swapped[:4]] == [1, 0, 1, 0]
    assert [m.text for m in kept] == [m.text for m in swapped]


@pytest.mark.parametrize(
    "spoiled",
    [
        long_chat("what the fuck"),
        long_chat("caf\u00e9"),
        chat([("a", f"only one side says this many times {i} and goes on and on") for i in range(20)]),
        chat([("ab"[i % 2], "buy my very cheap and very good watches now or never") for i in range(20)]),
        long_chat()[:8],
        [],
    ],
    ids=["offensive", "not ASCII", "one side", "spam", "short", "empty"],
)
def test_unfit_chats_are_left_out(spoiled: list[list[dict[str, str]]]) -> None:
    assert clean_chat(spoiled, False) == []


def test_joined_turns_alternate_keep_each_sides_words_in_order_and_stay_near_each_other() -> None:
    rng = np.random.default_rng(1)
    messages = [Message(int(rng.random() < 0.5), f"m{i} " + "word " * int(rng.integers(1, 9))) for i in range(200)]
    turns = join_messages(messages, lambda: float(rng.integers(1, 60)))
    assert all(a.side != b.side for a, b in pairwise(turns))
    said = [(t.side, int(w[1:])) for t in turns for w in t.text.split() if w[0] == "m"]
    for side in (0, 1):
        own = [i for s, i in said if s == side]
        written = [i for i, m in enumerate(messages) if m.side == side]
        assert own == written[: len(own)]
        assert len(own) > 0.8 * len(written)
    for turn in turns:
        numbers = [int(w[1:]) for w in turn.text.split() if w[0] == "m"]
        # Only a turn's first message may be said without a look at what the other side still has to say.
        assert all(n <= highest_waiting(said, turn.side, numbers[0], messages) + MAX_DRIFT for n in numbers[1:])


def highest_waiting(said: list[tuple[int, int]], side: int, first: int, messages: list[Message]) -> int:
    """The number of the other side's first message that was not said before message `first`."""
    before = {n for s, n in said[: said.index((side, first))] if s != side}
    return next((i for i, m in enumerate(messages) if m.side != side and i not in before), len(messages))


def test_longer_turns_are_made_when_longer_ones_are_wanted_and_feedback_is_left_to_the_simulator() -> None:
    messages = [Message(i % 2, "this has four words" if i % 5 else "oh okay") for i in range(60)]
    short, long = (join_messages(messages, lambda n=n: n) for n in (4.0, 16.0))  # type: ignore[misc]
    mean = [np.mean([len(t.text.split()) for t in turns]) for turns in (short, long)]
    assert mean[0] < 6 < 10 < mean[1]
    assert not any("okay" in t.text for t in short)


def test_a_text_file_is_read_in_an_order_drawn_from_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "talks.txt"
    path.write_text("# mine\nA: hello there\nB: hi\nB: how are you\n\n\n" + "a: one\nb: two: three\n\n" * 7)
    scripts = read_scripts(path)
    assert [(t.side, t.text) for t in scripts[0].turns] == [(0, "hello there"), (1, "hi. how are you")]
    assert scripts[1].turns[1].text == "two: three"
    ids = [[s.id for s in load_scripts(path, seed)] for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]
    assert sorted(ids[2]) == sorted(s.id for s in scripts)


@pytest.mark.parametrize(
    ("text", "line", "wrong"),
    [
        ("A: hi\nhello there\n", "line 2", "hello there"),
        ("A: hi\nC: hello\n", "line 2", "C: hello"),
        ("A: hi\nB: ...\n", "line 2", "without words"),
        ("B: hi\n\nA: x\n", "line 1", "only one side"),
        ("\n# nothing\n", "talks.txt", "no conversation"),
    ],
)
def test_mistakes_in_a_text_file_name_the_line(tmp_path: Path, text: str, line: str, wrong: str) -> None:
    path = tmp_path / "talks.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=wrong) as caught:
        next(load_scripts(path, 0))
    assert line in caught.value.place


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chitchat_dataset", None)
    with pytest.raises(UserError, match=r"pip install 'duologue\[simulate\]'"):
        next(load_scripts("chitchat", 0))


def test_the_shipped_chats_give_the_same_scripts_for_the_same_seed() -> None:
    pytest.importorskip("chitchat_dataset")
    scripts, again = load_scripts("chitchat", 3), load_scripts("chitchat", 3)
    first, second = next(scripts), next(scripts)
    assert [first, second] == [next(again), next(again)]
    assert first.id != second.id
    assert {t.side for t in first.turns} == {0, 1}


@pytest.fixture
def many_chats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred chats whose turns are as long as the random numbers say."""

    def chats(rng: np.random.Generator):
        for i in rng.permutation(200):
            yield f"chitchat/{i}", [Message(k % 2, f"number {k} of many more words") for k in range(120)]

    monkeypatch.setattr(script_module, "chats", chats)


@pytest.mark.usefixtures("many_chats")
def test_training_and_held_out_chats_share_none_and_are_all_together_in_their_order() -> None:
    whole, train, kept = (list(load_scripts("chitchat", 0, part)) for part in ("all", "training", "held-out"))
    assert len(whole) > len(train) > 5 * len(kept) > 0
    assert train == [s for s in whole if not held_out(s)]
    assert kept == [s for s in whole if held_out(s)]
    # The part that a chat belongs to stays: another seed, another order, other turns.
    assert {s.id for s in load_scripts("chitchat", 1, "held-out")} == {s.id for s in kept}


def test_held_out_chats_are_dev_or_test_and_never_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_module, "dev_chats", lambda: frozenset({"16", "35"}))
    scripts = [script_module.Script(id=f"chitchat/{i}", turns=(), source="chitchat") for i in range(60)]
    parts = {
        part: {s.id for s in scripts if belongs(s, part)} for part in ("all", "training", "held-out", "dev", "test")
    }
    assert parts["dev"] == {"chitchat/16", "chitchat/35"}
    assert parts["dev"] | parts["test"] == parts["held-out"]
    assert not parts["dev"] & parts["test"]
    assert parts["training"] | parts["held-out"] == parts["all"]


def test_every_dev_chat_is_held_out() -> None:
    chats = [script_module.Script(id=f"chitchat/{i}", turns=(), source="chitchat") for i in script_module.dev_chats()]
    assert len(chats) == 54
    assert all(held_out(s) for s in chats)


def test_which_chats_are_held_out_never_changes() -> None:
    ids = [f"chitchat/{i}" for i in range(60)]
    kept = [s.id for s in (script_module.Script(id=i, turns=(), source="chitchat") for i in ids) if held_out(s)]
    assert kept == [
        "chitchat/16",
        "chitchat/27",
        "chitchat/29",
        "chitchat/35",
        "chitchat/45",
        "chitchat/48",
        "chitchat/59",
    ]


@pytest.mark.usefixtures("many_chats")
def test_simulated_conversations_are_made_of_what_may_be_trained_on(tmp_path: Path) -> None:
    first = jobs(SimulateConfig(out=tmp_path, hours=1))
    assert not any(held_out(job.script) for job in islice(first, 400))  # more than a lap
    kept = jobs(SimulateConfig(out=tmp_path, hours=1, scripts="held-out"))
    assert all(held_out(job.script) for job in islice(kept, 30))
    whole = jobs(SimulateConfig(out=tmp_path, hours=1, scripts="all"))
    assert any(held_out(job.script) for job in islice(whole, 200))


def test_a_text_file_is_not_split(tmp_path: Path) -> None:
    path = tmp_path / "talks.txt"
    path.write_text("A: hello there\nB: hi\n\n" * 100)
    assert sum(held_out(s) for s in read_scripts(path)) > 0
    assert sorted(s.id for s in load_scripts(path, 0, "training")) == sorted(s.id for s in read_scripts(path))
    config = SimulateConfig(out=tmp_path / "corpus", hours=1, script=str(path), scripts="held-out")
    with pytest.raises(UserError, match=r"--scripts held-out: nothing of the file .* is held out; leave it out"):
        simulate.main(config)
    assert not (tmp_path / "corpus").exists()


def test_a_corpus_goes_on_with_the_chats_that_it_was_begun_with(tmp_path: Path) -> None:
    config = SimulateConfig(out=tmp_path / "corpus", hours=1)
    simulate._settle(config)
    simulate._settle(config)
    with pytest.raises(UserError, match="made with another scripts"):
        simulate._settle(SimulateConfig(out=tmp_path / "corpus", hours=1, scripts="all"))
    # Corpora from before there was a choice were made of all.
    path = tmp_path / "corpus" / simulate.SETTINGS
    told = json.loads(path.read_text())
    del told["settings"]["scripts"]
    path.write_text(json.dumps(told))
    simulate._settle(SimulateConfig(out=tmp_path / "corpus", hours=1, scripts="all"))
    with pytest.raises(UserError, match="made with another scripts"):
        simulate._settle(config)
