"""Defects that only the sound shows: a silent channel, clipping, one speaker in the other's channel."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from duologue.audio.wave import Audio, clipping
from duologue.base.errors import UserError
from duologue.corpus.conversation import Conversation, Defect
from duologue.corpus.sound import SoundInfo, read_sound, sound_info

if TYPE_CHECKING:
    from duologue.corpus.defects import DefectRules

RATE = 8_000
"""Rate at which the channels are compared."""
BLOCK_S = 0.5
PIECE_S = 60.0
"""Seconds in memory at once."""
AUDIBLE_DB = -50.0
"""Level of a block, in dBFS, from which on it is compared."""

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bleed:
    """How one side is heard in the other's channel."""

    share: float
    """Of the blocks in which the side is audible and the louder: how many are copied."""
    level_db: float
    """Median level of the copies against the original."""


def sound_defects(conversation: Conversation, rules: DefectRules) -> list[Defect]:
    """Listen to both sides, minute by minute. Sides without sound are passed over; what cannot be read is a defect."""
    refs = [side.sound for side in conversation.sides]
    infos: list[SoundInfo | None] = [None, None]
    peaks, clipped, samples = np.zeros(2), np.zeros(2), np.zeros(2)
    copies: tuple[list[Rows], list[Rows]] = ([], [])
    try:
        infos = [None if ref is None else sound_info(ref) for ref in refs]
        for start in np.arange(0.0, conversation.duration, PIECE_S):
            piece: list[Audio | None] = [None, None]
            for i, (ref, info) in enumerate(zip(refs, infos, strict=True)):
                if ref is None or info is None:
                    continue
                audio = read_sound(ref, start, min(start + PIECE_S, conversation.duration))
                n = audio.samples.shape[1]
                peaks[i] = max(peaks[i], float(np.abs(audio.samples).max(initial=0.0)))
                # Scaled so that the coding's own full scale is full scale: u-law ends at 0.98.
                clipped[i] += clipping(Audio(audio.samples / np.float32(info.top), audio.rate)) * n
                samples[i] += n
                piece[i] = audio
            if piece[0] is not None and piece[1] is not None:
                found = _blocks(piece[0], piece[1], rules)
                copies[0].append(found[0])
                copies[1].append(found[1])
    except UserError as error:
        return [Defect(kind="unreadable", detail=str(error), mended=False)]
    defects = []
    for i in range(2):
        if refs[i] is None:
            continue
        level = 20 * log10(max(peaks[i], 1e-10))
        if level < rules.silent_db:
            defects.append(Defect(kind="silent", detail=f"its peak is {level:.0f} dBFS", mended=False, side=i))
        share = clipped[i] / max(samples[i], 1)
        if share > rules.clipping:
            detail = f"{share:.2%} of its samples are at full scale"
            defects.append(Defect(kind="clipping", detail=detail, mended=False, side=i))
    for i in range(2):
        bleed = _summed(copies[i], rules)
        if bleed is not None and bleed.share > rules.bleed_share and bleed.level_db > rules.bleed_db:
            detail = f"copied into the other channel at {bleed.level_db:.0f} dB in {bleed.share:.0%} of its blocks"
            defects.append(Defect(kind="bleed", detail=detail, mended=False, side=i))
    return defects


def bleed(first: Audio, second: Audio, rules: DefectRules) -> tuple[Bleed | None, Bleed | None]:
    """How each of two mono sounds is heard in the other; None: it is never audible and the louder."""
    found = _blocks(first, second, rules)
    return _summed([found[0]], rules), _summed([found[1]], rules)


def _summed(blocks: list[Rows], rules: DefectRules) -> Bleed | None:
    rows = np.concatenate([*blocks, np.zeros((0, 2), np.float32)])
    if len(rows) == 0:
        return None
    copied = rows[rows[:, 0] >= rules.bleed_correlation]
    if len(copied) == 0:
        return Bleed(0.0, -np.inf)
    return Bleed(len(copied) / len(rows), float(np.median(copied[:, 1])))


def _blocks(first: Audio, second: Audio, rules: DefectRules) -> tuple[Rows, Rows]:
    """For each side: [N, 2], correlation at the best lag and level of the copy in dB, of the blocks where it is louder.

    The level is the least-squares gain: correlation times the ratio of the norms.
    """
    size = round(BLOCK_S * RATE)
    rows = [a.resampled(RATE).samples[0] for a in (first, second)]
    n = min(map(len, rows)) // size
    a, b = (row[: n * size].reshape(n, size) for row in rows)
    na, nb = (np.sqrt((x.astype(np.float64) ** 2).sum(axis=1)) for x in (a, b))
    floor = 10 ** (AUDIBLE_DB / 20) * np.sqrt(size)
    heard = np.maximum(na, nb) >= floor
    a, b, na, nb = a[heard], b[heard], na[heard], nb[heard]
    lags = round(rules.bleed_lag_s * RATE)
    width = 2 * size
    product = np.fft.irfft(np.fft.rfft(a, width) * np.conj(np.fft.rfft(b, width)), width)
    near = np.abs(np.concatenate((product[:, : lags + 1], product[:, width - lags :]), axis=1)).max(axis=1, initial=0.0)
    correlation = near / np.maximum(na * nb, 1e-20)

    def of(mine: NDArray[np.float64], other: NDArray[np.float64]) -> Rows:
        louder = mine >= other
        gain = correlation * other / np.maximum(mine, 1e-20)
        level = 20 * np.log10(np.maximum(gain, 1e-10))
        return np.stack([correlation[louder], level[louder]], axis=1).astype(np.float32)

    return of(na, nb), of(nb, na)
