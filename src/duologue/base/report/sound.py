"""Sound for the page: FLAC in base64, made coarser step by step until all samples fit into the page's budget.

FLAC, because every current browser decodes it to the exact sample, so that what is heard lies where it is drawn. The
lossy formats are shifted by their encoder's delay (1,105 samples for MP3, 69 ms at 16 kHz) wherever a browser does not
trim it. A coarser grade keeps fewer samples a second, and fewer bits of each: the rest are zeros, which FLAC drops.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from duologue.base.errors import UserError
from duologue.base.report.model import Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PEAKS_PER_SECOND = 50
MOST_PEAKS = 3000
PROBES = 6
MOST_CHANNELS = 8  # FLAC's limit


class Grade(NamedTuple):
    """The highest sample rate in Hz, and the bits kept of each sample."""

    rate: int
    bits: int


# From speech as given by the models to what can still be understood; each step saves a third to a half.
GRADES = (Grade(24_000, 16), Grade(24_000, 12), Grade(16_000, 12), Grade(16_000, 10), Grade(8_000, 10))


class Pressed(NamedTuple):
    """A sample's sound as the page holds it."""

    flac: str
    """Base64, or empty."""
    note: str
    """The grade ("24 kHz, 16 bit"), or why there is no audio."""
    seconds: float
    peaks: tuple[str, ...]
    """The envelope: per channel base64 of one byte for each bucket."""
    peak_rate: float
    """Buckets a second."""


NO_AUDIO = Pressed("", "no audio", 0.0, (), 1.0)


class SoundPress:
    """Turns the samples of a page, one after the other in order, into sound that stays within `budget` bytes.

    The first choice rests on a few samples spread over the page; while the page is written the grade can only fall.
    Of a sample that does not fit at the coarsest grade only the envelope is kept, and `left_out` counts it.
    """

    def __init__(self, samples: Sequence[Sample], budget: float) -> None:
        self.budget = budget
        self.used = 0
        self.grade = 0
        self.left_out = 0
        self._remaining = sum(s.duration for s in samples if s.audio is not None)
        self._costs = _costs(samples, self._remaining, budget)

    def press(self, sample: Sample) -> Pressed:
        """The sound of `sample`. A file that cannot be read becomes the note that says so."""
        if sample.audio is None:
            return NO_AUDIO
        try:
            sound = sample.audio()
        except (UserError, OSError) as error:
            return NO_AUDIO._replace(note=f"no audio: {error}")
        while self.grade < len(GRADES) - 1 and self.used + self._costs[self.grade] * self._remaining > self.budget:
            self.grade += 1
        self._remaining -= sample.duration
        if sound is None:
            return NO_AUDIO
        waves, rate = _checked(*sound)
        if waves.shape[1] == 0:
            return NO_AUDIO._replace(note="no audio: the recording is empty")
        peaks, peak_rate = envelope(waves, rate)
        pressed = Pressed("", "", waves.shape[1] / rate, peaks, peak_rate)
        flac, label = encode(waves, rate, GRADES[self.grade])
        if self.used + len(flac) > self.budget:
            self.left_out += 1
            return pressed._replace(note=f"no audio: it does not fit into the page's {self.budget / 1e6:g} MB")
        self.used += len(flac)
        return pressed._replace(flac=flac, note=label)

    def summary(self) -> str:
        """What was done to fit, or an empty line when nothing was."""
        limit = f"{self.budget / 1e6:g} MB"
        lines = []
        if self.grade:
            rate, bits = GRADES[self.grade]
            lines.append(f"To keep the audio within {limit} it was reduced, down to {rate / 1000:g} kHz, {bits} bit.")
        if self.left_out:
            lines.append(f"{self.left_out} of the samples have no audio: it did not fit into {limit}.")
        return " ".join(lines)


def encode(waves: NDArray[np.float32], rate: int, grade: Grade) -> tuple[str, str]:
    """`waves` [C, S] in [-1, 1] as FLAC in base64, at most as fine as `grade`; and its label."""
    import numpy as np
    import soundfile

    if rate > grade.rate:
        import soxr

        waves, rate = soxr.resample(waves.T, rate, grade.rate).T, grade.rate
    step = 2 ** (16 - grade.bits)
    levels = np.clip(np.rint(waves * (32768 / step)), -32768 // step, 32768 // step - 1) * step
    file = io.BytesIO()
    soundfile.write(file, levels.T.astype(np.int16), rate, format="FLAC", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode("ascii"), f"{rate / 1000:g} kHz, {grade.bits} bit"


def envelope(waves: NDArray[np.float32], rate: int) -> tuple[tuple[str, ...], float]:
    """The outline of `waves` [C, S]: per channel one byte a bucket in base64, and the buckets a second.

    A byte is the root of the bucket's peak, so that quiet speech is seen; 255 is the loudest peak of all channels
    (at least 0.1, so that the noise of an empty room does not look like speech).
    """
    import numpy as np

    size = waves.shape[1]
    buckets = max(1, min(MOST_PEAKS, size, round(size / rate * PEAKS_PER_SECOND)))
    starts = np.arange(buckets) * size // buckets
    peaks = np.maximum.reduceat(np.abs(waves), starts, axis=1)
    levels = np.sqrt(peaks / max(0.1, float(peaks.max()))) * 255
    rows = tuple(base64.b64encode(row.tobytes()).decode("ascii") for row in np.rint(levels).astype(np.uint8))
    return rows, buckets * rate / size


def _checked(waves: NDArray[np.float32], rate: int) -> tuple[NDArray[np.float32], int]:
    """`waves` as finite float32 [C, S]."""
    import numpy as np

    waves = np.atleast_2d(np.asarray(waves, dtype=np.float32))
    if waves.ndim != 2 or len(waves) > MOST_CHANNELS or rate <= 0:
        raise ValueError(f"audio of shape {waves.shape} at {rate} Hz; expected [C, S], C <= {MOST_CHANNELS}, rate > 0")
    return np.nan_to_num(waves), int(rate)


def _costs(samples: Sequence[Sample], seconds: float, budget: float) -> list[float]:
    """Bytes a second of every grade, measured on a few samples; zeros where even plain 16-bit stereo would fit."""
    heard = [s for s in samples if s.audio is not None]
    if seconds * GRADES[0].rate * 2 * 2 * 4 / 3 <= budget:
        return [0.0] * len(GRADES)
    totals = [0.0] * len(GRADES)
    length = 0.0
    for sample in heard[:: -(-len(heard) // PROBES)]:
        try:
            sound = sample.audio() if sample.audio else None
        except (UserError, OSError):
            continue  # reported when its turn comes
        if sound is None:
            continue
        waves, rate = _checked(*sound)
        length += sample.duration
        for index, grade in enumerate(GRADES):
            totals[index] += len(encode(waves, rate, grade)[0])
    return [total / length if length else 0.0 for total in totals]
