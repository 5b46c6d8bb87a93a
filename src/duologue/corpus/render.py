"""A plan becomes sound: two channels, each at a stated loudness, with the words and their times beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duologue.audio.loudness import loudness
from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.corpus.sim_heard import plan_timeline
from duologue.corpus.spoken import Placed, Plan
from duologue.dialogue.timeline import Timeline, Track

RATE = 24_000
CEILING = 0.98
"""No sample is larger; a side that would be is turned down as a whole, and the loudness that it has is reported."""
_EDGE_S = 0.005
"""A cut without a fade of its own still falls to nothing within this time, so that it does not click."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A conversation as sound, and its truth."""

    audio: Audio
    """Two channels at 24 kHz: row 0 the agent, row 1 the user."""
    timeline: Timeline
    """Words and speech of both, as placed and cut."""
    loudness: tuple[float | None, float | None]
    """LUFS of each side; None for a side that says nothing."""


def render(plan: Plan, levels: tuple[float, float] = (-24.0, -24.0)) -> Rendered:
    """Place every stretch of a plan in its channel, cut and faded as it says.

    Args:
        plan: its stretches hold samples at 24 kHz.
        levels: loudness of agent and user in LUFS (ITU-R BS.1770, gated, so silence does not count).

    Raises:
        UserError: a stretch has no samples, or others than at 24 kHz.
    """
    sides = np.zeros((2, round(plan.duration * RATE)), np.float32)
    for item in plan.placed:
        sound = heard(item)
        at = round(item.start * RATE)
        room = sides[item.side, max(at, 0) : at + len(sound)]
        room += sound[max(-at, 0) :][: len(room)]
    levelled = np.stack([levelled_to(side, level) for side, level in zip(sides, levels, strict=True)])
    return Rendered(
        audio=Audio(levelled, RATE),
        timeline=plan_timeline(plan),
        loudness=(measured(levelled[0]), measured(levelled[1])),
    )


def heard(item: Placed) -> NDArray[np.float32]:
    """The samples [S] of a stretch that are heard: up to `until`, falling to nothing over its last `fade` seconds."""
    samples = item.spoken.samples
    if samples is None or item.spoken.rate != RATE:
        held = "no sound" if samples is None else f"sound at {item.spoken.rate} Hz"
        mend = f"use voices that make sound at {RATE} Hz"
        raise UserError(f"{item.spoken.text!r} has {held}", place=f"at {item.start:.2f} s", mend=mend)
    if item.until is None:
        return samples
    cut = samples[: max(0, round(item.until * RATE))].copy()
    ramp = min(len(cut), round(max(item.fade, _EDGE_S) * RATE))
    cut[len(cut) - ramp :] *= np.cos(np.linspace(0, np.pi / 2, ramp, dtype=np.float32)) ** 2
    return cut


def levelled_to(samples: NDArray[np.float32], target: float) -> NDArray[np.float32]:
    """One channel [S] at a loudness of `target` LUFS, or as near as `CEILING` allows; silence stays silence."""
    now = measured(samples)
    if now is None:
        return samples
    gain = 10 ** ((target - now) / 20)
    return (samples * np.float32(min(gain, CEILING / float(np.abs(samples).max())))).astype(np.float32)


def measured(samples: NDArray[np.float32]) -> float | None:
    """Loudness of one channel [S] at 24 kHz in LUFS; None for silence.

    Less than 0.4 s, and sound too quiet for the gate, have no integrated loudness; for them it is the mean power.
    """
    if not samples.any():
        return None
    value = loudness(Audio(samples[None], RATE))
    if math.isfinite(value):
        return value
    loud = samples[samples != 0].astype(np.float64)
    return float(-0.691 + 10 * np.log10(np.mean(loud**2)))


def truth(rendered: Rendered) -> dict[str, object]:
    """Words, speech and loudness of both sides as plain values: what is written beside the sound."""
    sides = zip(("agent", "user"), rendered.timeline.tracks, rendered.loudness, strict=True)
    return {
        "duration": rendered.audio.duration,
        "rate": rendered.audio.rate,
        **{name: _side(track, level) for name, track, level in sides},
    }


def _side(track: Track, level: float | None) -> dict[str, object]:
    words = [{"word": w.text, "start": round(w.start, 4), "end": round(w.end, 4)} for w in track.words or ()]
    return {
        "words": words,
        "speech": [[round(float(a), 4), round(float(b), 4)] for a, b in track.speech],
        "lufs": None if level is None else round(level, 2),
    }


def plan_record(plan: Plan) -> dict[str, object]:
    """A plan without its sound as plain values; the words' own times are in the timeline."""
    placed = [
        {"side": p.side, "start": round(p.start, 4), "end": round(p.end, 4), "kind": p.kind, "text": p.spoken.text,
         "cut": p.until is not None, "fade": p.fade}
        for p in plan.placed
    ]  # fmt: skip
    return {"id": plan.id, "seed": plan.seed, "duration": plan.duration, "voices": list(plan.voices),
            "asked": plan.truth, "placed": placed}  # fmt: skip
