"""Which words of the agent answer which words of the user."""

from __future__ import annotations

from duologue.dialogue.exchange import Exchange, exchanges, fluent
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.timeline import Timeline, Track, Word


def words(text: str, start: float) -> list[Word]:
    """A word each half second."""
    return [Word(w, start + i / 2, start + i / 2 + 0.4) for i, w in enumerate(text.split())]


def scene(agent: list[Word] | None, user: list[Word] | None, *events: ReferenceEvent, start: float = 0.0) -> Scene:
    tracks = (Track.of([], agent), Track.of([], user))
    return Scene(id="s", timeline=Timeline(*tracks, 20.0), start=start, end=20.0, events=events)


TURN = ReferenceEvent("turn", 1.0, 3.0, 1)
BREAK = ReferenceEvent("interruption", 8.0, 10.0, 1)


def test_a_turn_and_its_answer() -> None:
    user = [*words("before", 0.2), *words("do you ski", 1.0), *words("mhm", 6.0)]
    agent = words("Yes, every winter.", 3.2)
    assert exchanges(scene(agent, user, TURN)) == [Exchange(("do", "you", "ski"), ("yes", "every", "winter"))]


def test_an_interruption_makes_two() -> None:
    user = [*words("do you ski", 1.0), *words("which winter though", 8.0)]
    agent = [*words("well i did ski a lot", 5.2), *words("the last one", 10.2)]
    first, second = exchanges(scene(agent, user, TURN, BREAK)) or ()
    assert first == Exchange(("do", "you", "ski"), ("well", "i", "did", "ski", "a", "lot"))
    assert second == Exchange(("which", "winter", "though"), ("the", "last", "one"))


def test_words_before_the_span_are_context() -> None:
    agent = [*words("old words", 3.2), *words("new words", 11.0)]
    found = exchanges(scene(agent, words("x", 8.0), TURN, BREAK, start=8.5))
    assert found == [Exchange(("x",), ("new", "words"))]


def test_an_answer_that_begins_early_counts() -> None:
    assert exchanges(scene(words("sure", 2.8), words("do you ski", 1.0), TURN)) == [
        Exchange(("do", "you", "ski"), ("sure",))
    ]


def test_without_events_the_user_is_heard_until_the_last_word() -> None:
    found = exchanges(scene(words("a b", 3.0), [*words("hello you", 1.0), *words("later", 6.0)]))
    assert found == [Exchange(("hello", "you"), ("a", "b"))]


def test_unknown_words_of_either_side_are_no_exchange() -> None:
    assert exchanges(scene(None, words("hi", 1.0), TURN)) is None
    assert exchanges(scene(words("hi", 3.0), None, TURN)) is None
    assert exchanges(scene([], [], TURN)) == [Exchange((), ())]


def test_disfluencies_are_no_words() -> None:
    assert fluent(["uh", "i", "i", "i", "lo-", "love", "um", "it"]) == ["i", "love", "it"]
