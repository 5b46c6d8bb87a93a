"""What the listener does while the other holds the floor: backchannels, and interruptions that are given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from duologue.corpus.sim_timing import Knobs, answered_share, draw, feedback
from duologue.corpus.sim_turn import MARGIN_S, Turn
from duologue.corpus.spoken import Placed, Spoken
from duologue.dialogue.lexicon import human_lexicon, plain_words
from duologue.dialogue.reference import human_reference
from duologue.dialogue.utterances import HUMAN_RULES

Speak = Callable[[int, str], Spoken]

APART_S = HUMAN_RULES.utterance_silence_s + MARGIN_S
"""Silence kept around what a listener says: nearer to their own speech it would belong to that."""
SPEECH_MORE, SILENCE_MORE = 1.35, 1.25
"""Where backchannels are drawn, as multiples of the human rates: not every place drawn has room."""
INSERTION_MORE = 1.9
REMARKS = (
    "that's good", "oh my goodness", "I know it", "that's true too", "what was that", "I bet it was", "that's funny",
    "how about that", "that would be nice", "you're kidding", "I think so too", "well that's great", "is that so",
    "I never knew that", "that makes sense", "me too", "I can imagine that", "that sounds good to me",
)  # fmt: skip
"""Short comments that are not backchannels by the lexicon; ours."""


@dataclass(slots=True)
class _Room:
    """When a listener may speak: between their own turns, and apart from what they say meanwhile."""

    start: float
    stop: float
    said: list[tuple[float, float]] = field(default_factory=list)

    def take(self, start: float, end: float) -> bool:
        """Take a place if it is free."""
        free = self.start <= start and end <= self.stop
        free = free and all(end + APART_S < a or start > b + APART_S for a, b in self.said)
        if free:
            self.said.append((start, end))
        return free


def listen(turns: list[Turn], speak: Speak, knobs: Knobs, rng: np.random.Generator) -> list[Placed]:
    """What both listeners say during the turns."""
    found: list[Placed] = []
    for k, turn in enumerate(turns):
        before = turns[k - 1].end + APART_S if k else 0.0
        after = turns[k + 1].start - APART_S if k + 1 < len(turns) else turn.end - MARGIN_S
        room = _Room(before, min(after, turn.end - MARGIN_S))
        upcoming = turns[k + 1].placed[0].spoken.text if k + 1 < len(turns) else ""
        found.extend(_insertions(turn, room, upcoming, speak, knobs, rng))
        found.extend(_backchannels(turn, room, speak, knobs, rng))
    return found


def _backchannels(turn: Turn, room: _Room, speak: Speak, knobs: Knobs, rng: np.random.Generator) -> Iterator[Placed]:
    side = 1 - turn.side
    units = turn.units()
    for start in _moments(units, knobs.backchannels, rng):
        spoken = _feedback(side, speak, rng)
        if room.take(start, start + spoken.duration):
            yield Placed(side=side, start=start, spoken=spoken, kind="backchannel")


def _moments(units: list[tuple[float, float]], knob: float, rng: np.random.Generator) -> Iterator[float]:
    """Where a listener would start: in pauses, more often in longer ones, and inside speech."""
    rate = human_reference()["backchannels"]["start_rate_per_s_of_partner_speech"] * SPEECH_MORE * knob
    for k, (a, b) in enumerate(units):
        for t in np.sort(rng.uniform(a, b, rng.poisson(rate * (b - a)))):
            if t > a + 0.3:
                yield float(t)
        if k + 1 == len(units):
            break
        pause = units[k + 1][0] - b
        if rng.random() < answered_share(pause) * SILENCE_MORE * knob:
            delay = draw("backchannel_delay", rng)
            yield b + (delay if delay < pause else float(rng.uniform(0.0, pause)))


def _feedback(side: int, speak: Speak, rng: np.random.Generator) -> Spoken:
    """A backchannel of at most a second (longer ones would be utterances)."""
    forms, shares, _ = feedback()
    for _ in range(8):
        spoken = speak(side, forms[int(rng.choice(len(forms), p=shares))])
        if 0.0 < spoken.duration <= HUMAN_RULES.short_s - 0.01:
            return spoken
    return speak(side, "yeah")


def _insertions(
    turn: Turn, room: _Room, upcoming: str, speak: Speak, knobs: Knobs, rng: np.random.Generator
) -> Iterator[Placed]:
    """Remarks, and beginnings of the listener's next turn that are given up, each inside one unit of the holder.

    Were the middle of one in a silence of the holder, the rules would let it take the floor.
    """
    side = 1 - turn.side
    rates = human_reference()["rates_per_call"]
    per_s = rates["insertions_per_min"]["pooled"] / rates["speech_exactly_one_s_per_min"]["pooled"]
    for a, b in turn.units():
        for _ in range(rng.poisson(per_s * INSERTION_MORE * knobs.insertions * (b - a))):
            placed = _insertion(side, a, b, upcoming, speak, rng)
            if placed is not None and room.take(placed.start, placed.end):
                yield placed


def _insertion(side: int, a: float, b: float, upcoming: str, speak: Speak, rng: np.random.Generator) -> Placed | None:
    wanted = draw("gives_up", rng, low=0.05)
    lexicon = human_lexicon()
    if len(upcoming.split()) >= 4 and rng.random() < 0.5:
        spoken = speak(side, upcoming)
        until: float | None = min(max(wanted, 0.2), spoken.duration - 0.05)
    else:
        spoken, until = speak(side, REMARKS[int(rng.integers(len(REMARKS)))]), None
    length = spoken.duration if until is None else until
    said = plain_words(" ".join(w.text for w in spoken.words if w.end <= length + 1e-9))
    if length <= 0.1 or lexicon.is_backchannel(said) or lexicon.is_filler_only(said):
        return None
    latest = b - MARGIN_S - length
    if latest <= a + MARGIN_S:
        return None
    start = float(rng.uniform(a + MARGIN_S, latest))
    fade = 0.0 if until is None else min(0.12, until / 2)
    return Placed(side=side, start=start, spoken=spoken, kind="interruption", until=until, fade=fade)
