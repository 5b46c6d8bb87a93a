"""Speech as a detector hears it, and how far that agrees with what a corpus says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from duologue.corpus.conversation import Conversation, Rejected
from duologue.corpus.defects import attempt
from duologue.corpus.sound import read_sound
from duologue.dialogue.intervals import Intervals, clip, merge

if TYPE_CHECKING:
    from duologue.audio.vad import VadConfig

FRAME_S = 0.01
KEY = "vad_agreement_{}"
"""Key in `Conversation.info` for the agreement of side {}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the corpus's speech and a detector's agree, in frames of 10 ms, the detector being judged."""

    seconds: float
    """Compared."""
    agree: float
    """Share of frames with the same answer; NaN if there are none."""
    precision: float
    """Of the frames that the detector calls speech, the share that the corpus does, too; NaN if it calls none."""
    recall: float
    """Of the frames that the corpus calls speech, the share that the detector does, too; NaN if there are none."""

    def line(self) -> str:
        """As noted in `Conversation.info`."""
        return f"{self.seconds:.2f} {self.agree:.4f} {self.precision:.4f} {self.recall:.4f}"

    @staticmethod
    def of_line(line: str) -> Agreement:
        """Read `line` back."""
        seconds, agree, precision, recall = map(float, line.split())
        return Agreement(seconds=seconds, agree=agree, precision=precision, recall=recall)


def agreement(corpus: Intervals, detected: Intervals, duration: float) -> Agreement:
    """Compare speech [N, 2] that the corpus tells with speech that was detected, over `duration` seconds.

    A frame is speech where its middle is.
    """
    a, b = (_frames(x, duration) for x in (corpus, detected))
    both = int((a & b).sum())

    def share(part: float, whole: float) -> float:
        return part / whole if whole else float("nan")

    return Agreement(
        seconds=len(a) * FRAME_S,
        agree=share(int((a == b).sum()), len(a)),
        precision=share(both, int(b.sum())),
        recall=share(both, int(a.sum())),
    )


def pooled(parts: Iterable[Agreement]) -> Agreement | None:
    """The mean over several sides, weighted by their seconds; None for no sides."""
    known = list(parts)
    if not known:
        return None

    def mean(values: list[float]) -> float:
        rows = [(v, p.seconds) for v, p in zip(values, known, strict=True) if np.isfinite(v)]
        weight = sum(w for _, w in rows)
        return sum(v * w for v, w in rows) / weight if weight > 0 else float("nan")

    return Agreement(
        seconds=sum(p.seconds for p in known),
        agree=mean([p.agree for p in known]),
        precision=mean([p.precision for p in known]),
        recall=mean([p.recall for p in known]),
    )


def with_heard_speech(conversation: Conversation, vad: VadConfig | None = None) -> Conversation | Rejected:
    """The conversation with detected speech on every side that has sound; agreement is noted in its info."""
    return attempt(conversation.id, conversation.corpus, lambda: _heard(conversation, vad))


def _heard(conversation: Conversation, vad: VadConfig | None) -> Conversation:
    from duologue.audio.vad import detect_speech

    length = conversation.duration
    info = dict(conversation.info)
    sides = list(conversation.sides)
    refs = [(i, s.sound) for i, s in enumerate(sides) if s.sound is not None]
    found = detect_speech([read_sound(ref, 0.0, length) for _, ref in refs], vad)
    for (i, _), speech in zip(refs, found, strict=True):
        heard = clip(merge(speech), 0.0, length)
        track = conversation.track(i)
        if track is not None:
            info[KEY.format(i)] = agreement(track.speech, heard, length).line()
        sides[i] = replace(sides[i], speech=heard)
    return replace(conversation, sides=(sides[0], sides[1]), info=info)


def _frames(spans: Intervals, duration: float) -> NDArray[np.bool_]:
    """Whether the middle of each 10 ms frame is in sorted, disjoint `spans`."""
    middles = (np.arange(int(duration / FRAME_S + 1e-6)) + 0.5) * FRAME_S
    if len(spans) == 0:
        return np.zeros(len(middles), bool)
    at = np.searchsorted(spans[:, 0], middles, side="right") - 1
    inside: NDArray[np.bool_] = (at >= 0) & (middles < spans[np.maximum(at, 0), 1])
    return inside
