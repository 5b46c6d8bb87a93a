"""Integrated loudness by ITU-R BS.1770."""

from __future__ import annotations

import math

import numpy as np

from duologue.audio.wave import Audio
from duologue.base.errors import UserError

_BLOCK_S = 0.4
"""BS.1770's gating block; shorter audio has no integrated loudness."""
_MAX_CHANNELS = 5


def loudness(audio: Audio) -> float:
    """Integrated loudness in LUFS, gated, K-weighted (pyloudnorm's implementation of ITU-R BS.1770-4).

    Returns -inf for silence (no block above the absolute gate of -70 LUFS), and NaN, "cannot be measured", for audio
    shorter than 0.4 s. Errors: UserError for more than 5 channels.
    """
    import pyloudnorm

    if audio.channels > _MAX_CHANNELS:
        raise UserError(
            f"loudness of {audio.channels} channels is not defined", mend="measure each, or mix them to one"
        )
    if audio.samples.shape[1] < _BLOCK_S * audio.rate:
        return math.nan
    # pyloudnorm takes the logarithm of zero, and the mean of no blocks, on its way to -inf.
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(pyloudnorm.Meter(audio.rate).integrated_loudness(audio.samples.T.astype(np.float64)))
