"""Places a script in time as people would say it: `arrange` gives a plan from a script, a voice, knobs and a seed.

First the turns, each against the end of the one before (`_follow`), then what the listener does meanwhile
(`sim_listener`). Places are chosen so that the rules of the human reference, when they measure the plan, find what was
meant: a backchannel is kept apart from its speaker's own turns, a turn that overlaps ends later than the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from zlib import crc32

import numpy as np

from duologue.corpus.script import Script
from duologue.corpus.sim_listener import listen
from duologue.corpus.sim_phrasing import Piece, phrase
from duologue.corpus.sim_timing import Knobs, Offsets
from duologue.corpus.sim_turn import Turn
from duologue.corpus.spoken import Placed, Plan, Spoken

Speak = Callable[[int, str], Spoken]

__all__ = ["Knobs", "Speak", "arrange"]

REPAIR_GAP_S = (0.05, 0.18)
"""Silence between a broken-off beginning and the new one: below 0.2 s, one inter-pausal unit."""
WORDS_PER_S = 4.0
"""The rate that counts as human, over stretches of five words and more; the mean of the reference's rates is 4.19."""
FADE_S = 0.12
"""Seconds over which a speaker who is interrupted trails off, at most."""
TRAILS_OFF = 0.5
"""Share of those interrupted half a second or more before their end who break off."""


def arrange(script: Script, speak: Speak, knobs: Knobs, seed: int) -> Plan:
    """Place a script in time. The same arguments give the same plan.

    Args:
        script: who says what.
        speak: (side, text) -> speech; asked for each stretch of a turn, backchannel and filler on its own.
        knobs: how often things happen.
        seed: with the script's id it decides everything.

    Returns:
        The plan; `voices` is ("", "") for the caller to replace. `truth` holds the knobs and how many of each kind
        were placed.
    """
    rng = np.random.default_rng([seed, crc32(script.id.encode())])
    offsets = Offsets(rng, knobs)
    tempos = (_Tempo(), _Tempo())
    turns: list[Turn] = []
    for line in script.turns:
        pieces = phrase(line.text, knobs, rng, tempos[line.side].value())
        turn = Turn(line.side, _say(line.side, pieces, speak, rng))
        tempos[line.side].hear(turn)
        if not turn.placed:
            continue
        if turns and turns[-1].side == line.side:
            turns[-1] = turns[-1].joined(turn, float(rng.uniform(0.3, 0.9)))
        else:
            turns.append(_follow(turns, turn, offsets, rng))
    heard = listen(turns, speak, knobs, rng)
    placed = sorted((p for t in turns for p in t.placed), key=lambda p: (p.start, p.side))
    placed = sorted([*placed, *heard], key=lambda p: (p.start, p.side))
    duration = max((p.end for p in placed), default=0.0) + 0.5
    counts = {f"{kind}s": float(sum(p.kind == kind for p in placed)) for kind in _KINDS}
    truth = {f"knob_{k}": float(v) for k, v in asdict(knobs).items()} | counts | {"turns": float(len(turns))}
    return Plan(id=script.id, duration=duration, placed=tuple(placed), voices=("", ""), seed=seed, truth=truth)


_KINDS = ("backchannel", "filler", "interruption", "false_start")


@dataclass(slots=True)
class _Tempo:
    """How fast a voice speaks, as a multiple of people: known better with each turn."""

    words: float = 20.0 * WORDS_PER_S
    seconds: float = 20.0

    def hear(self, turn: Turn) -> None:
        for p in turn.placed:
            if len(p.spoken.words) >= 5 and p.until is None:
                self.words += len(p.spoken.words)
                self.seconds += p.spoken.duration

    def value(self) -> float:
        return min(max(self.words / self.seconds / WORDS_PER_S, 0.7), 1.5)


def _say(side: int, pieces: list[Piece], speak: Speak, rng: np.random.Generator) -> tuple[Placed, ...]:
    """A turn's stretches from time 0, with broken-off beginnings before those that are to have one."""
    placed: list[Placed] = []
    now = 0.0
    for piece in pieces:
        spoken = speak(side, piece.text)
        if spoken.duration <= 0:
            continue
        now += piece.pause_s if placed else 0.0
        if piece.repair and len(spoken.words) >= 3:
            broken = spoken.words[int(rng.integers(0, 2))]
            until = broken.start + float(rng.uniform(0.35, 0.8)) * (broken.end - broken.start)
            if until > 0.06:
                placed.append(Placed(side=side, start=now, spoken=spoken, kind="false_start", until=until, fade=0.03))
                now += until + float(rng.uniform(*REPAIR_GAP_S))
        placed.append(Placed(side=side, start=now, spoken=spoken, kind=piece.kind))
        now += spoken.duration
    return tuple(placed)


def _follow(turns: list[Turn], turn: Turn, offsets: Offsets, rng: np.random.Generator) -> Turn:
    """Place a turn after those before it; the last of them may be cut short because this one interrupts it."""
    if not turns:
        return turn.shifted(float(rng.uniform(0.05, 1.2)))
    own_end = turns[-2].end if len(turns) > 1 else -10.0
    for k, offset in enumerate(offsets.kept):
        if turn.can_follow(turns[-1], offset, own_end):
            del offsets.kept[k]
            break
    else:
        for _ in range(12):
            offset = offsets.draw()
            if turn.can_follow(turns[-1], offset, own_end):
                break
            offsets.kept.append(offset)
        else:
            offset = abs(offset)
    interrupts = offset <= -0.5
    if interrupts and rng.random() < TRAILS_OFF:
        cut = _trail_off(turns[-1], rng)
        if turn.can_follow(cut, offset, own_end):
            turns[-1] = cut
    placed = turn.shifted(turns[-1].end + offset)
    if interrupts:
        first = replace(placed.placed[0], kind="interruption") if placed.placed[0].kind == "turn" else placed.placed[0]
        placed = Turn(placed.side, (first, *placed.placed[1:]))
    return placed


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where a stretch breaks off."""

    until: float
    fade: float


def _trail_off(turn: Turn, rng: np.random.Generator) -> Turn:
    """The turn with its last words unsaid: it breaks off inside one of its last three words, fading."""
    last = turn.placed[-1]
    words = last.spoken.words
    if len(words) < 4 or last.until is not None:
        return turn
    word = words[-int(rng.integers(1, 4))]
    cut = _Cut(word.start + float(rng.uniform(0.4, 0.9)) * (word.end - word.start), FADE_S)
    return Turn(turn.side, (*turn.placed[:-1], replace(last, until=cut.until, fade=min(cut.fade, cut.until / 2))))
