"""Clips: the sound of a segment with its context, both people in one FLAC file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from duologue.audio.wave import Audio, write_audio
from duologue.base.errors import UserError
from duologue.corpus.candidates import SoundReader, unpack
from duologue.corpus.store import Row


def cut_clip(payload: bytes, folder: Path, read: SoundReader | None) -> tuple[Row, str]:
    """Write the clip of a packed row, unless it is there; the row that names it, and the problem if there was one.

    A row without sound of both sides, or without a reader, stays without a clip, and that is no problem.
    """
    row = unpack(payload)
    agent, user = row.sounds
    if agent is None or user is None or read is None:
        return row, ""
    name = f"clips/{row.axis}/{row.id}.flac"
    if not (folder / name).is_file():
        try:
            sides = [read(sound, row.offset, row.offset + row.end) for sound in (agent, user)]
            write_audio(folder / name, side_by_side(sides[0], sides[1], row.end))
        except UserError as error:
            return row, str(error)
    return replace(row, clip=name), ""


def side_by_side(agent: Audio, user: Audio, seconds: float) -> Audio:
    """Two one-channel sounds as two channels of exactly `seconds`, at the higher of their rates."""
    rate = max(agent.rate, user.rate)
    samples = round(seconds * rate)
    out = np.zeros((2, samples), np.float32)
    for row, side in zip(out, (agent, user), strict=True):
        if side.samples.shape[1]:  # a channel may end before the segment begins
            wave = side.resampled(rate).samples[0, :samples]
            row[: len(wave)] = wave
    return Audio(out, rate)
