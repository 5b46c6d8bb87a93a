"""Exchanges: what the user said, and what the agent said to it, as plain words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from duologue.dialogue.lexicon import human_lexicon, is_fragment, plain_words
from duologue.dialogue.scenes import Scene
from duologue.dialogue.timeline import Word

ASKING = ("turn", "interruption")
"""Events of a scene in which the user says what is to be answered."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Plain words (`lexicon.plain_words`) of the user's turn and of the agent's answer to it, without disfluencies."""

    user: tuple[str, ...]
    agent: tuple[str, ...]


def exchanges(scene: Scene) -> list[Exchange] | None:
    """The exchanges of a scene in order, one for each turn and interruption of the user; None where nobody knows the
    words of both.

    The agent's words within the span belong to the last of these events that has begun, and words before the first
    one's beginning to the first. A scene without such events is one exchange, of all that the user says before the
    agent's last word. An event that ended before the span and whose answer lies before it too has no place here.
    """
    said, heard = scene.timeline.agent.words, scene.timeline.user.words
    if said is None or heard is None:
        return None
    inside = [w for w in said if scene.start <= w.start < scene.end]
    asking = sorted((e for e in scene.events if e.side == 1 and e.kind in ASKING), key=lambda e: e.start)
    asking = [e for e in asking if e.start < scene.end]
    if not asking:
        until = inside[-1].start if inside else scene.end
        return [Exchange(plain(w for w in heard if w.start < until), plain(inside))]
    edges = [min(asking[0].start, scene.start), *(e.start for e in asking[1:]), scene.end]
    parts = [(event, a, b) for event, (a, b) in zip(asking, pairwise(edges), strict=True) if b > scene.start]
    return [
        Exchange(
            plain(w for w in heard if event.start <= w.start < event.end), plain(w for w in inside if a <= w.start < b)
        )
        for event, a, b in parts
    ]


def plain(words: Iterable[Word]) -> tuple[str, ...]:
    """Plain words of recognised or written ones, in order, as they would be without disfluencies."""
    return tuple(fluent([p for word in words for p in plain_words(word.text)]))


def fluent(words: Sequence[str]) -> list[str]:
    """Plain words without fillers, words broken off, and words said twice in a row."""
    fillers = human_lexicon().fillers
    whole = [word for word in words if word not in fillers and not is_fragment(word)]
    return [word for i, word in enumerate(whole) if i == 0 or word != whole[i - 1]]
