"""What can be heard in the recordings of many samples: speech and lengths, in blocks, with errors kept per file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from duologue.audio.resample import sinc_resample
from duologue.audio.vad import VadConfig, detect_speech, speech_samples
from duologue.audio.wave import Audio, read_audio
from duologue.base.errors import UserError
from duologue.base.progress import track
from duologue.dialogue.intervals import Intervals

BLOCK = 64
"""Recordings in memory at once; enough to keep the batched detector busy."""
VAD_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Heard:
    """Speech of one recording [N, 2] in seconds, and the recording's length in seconds."""

    speech: Intervals
    duration: float


Recordings = Mapping[Path, Heard | UserError]


def hear(paths: Iterable[Path], config: VadConfig | None = None) -> dict[Path, Heard | UserError]:
    """Detect speech in each recording (all channels mixed to one) at its true rate. A broken file maps to its error."""
    heard: dict[Path, Heard | UserError] = {}
    for block in _blocks(track(list(paths), "listening"), BLOCK):
        good: list[tuple[Path, Audio]] = []
        for path in block:
            try:
                good.append((path, read_audio(path).mono()))
            except UserError as error:
                heard[path] = error
        found = detect_speech([audio for _, audio in good], config or VadConfig())
        heard |= {path: Heard(speech, audio.duration) for (path, audio), speech in zip(good, found, strict=True)}
    return heard


def listen(heard: Recordings, path: Path) -> Heard | None:
    """What was heard in one recording; None when it was not there. Errors: the UserError of a broken file."""
    found = heard.get(path)
    if isinstance(found, UserError):
        raise found
    return found


def official_segments(path: Path) -> tuple[list[tuple[float, float]], float]:
    """Speech as Full-Duplex-Bench v1's backchannel script hears it; (segments, true length), both in its seconds.

    That script gives the samples to silero-vad without their rate: they count as 16 kHz whatever they are, so every
    time of a 24 kHz file is 1.5 times too late. Times are rounded to 0.1 s (silero's default resolution), but an end is
    never past the supposed end of the file.
    Errors: UserError for a file with more than one channel, on which the script raises.
    """
    audio = _one_channel(path)
    supposed_end = audio.samples.shape[1] / VAD_RATE
    samples = speech_samples(audio.samples[0], VadConfig()).tolist()
    segments = [(round(s / VAD_RATE, 1), min(round(e / VAD_RATE, 1), supposed_end)) for s, e in samples]
    return segments, audio.duration


def official_audio(path: Path) -> Audio:
    """A recording as the v1.5 scripts hear it: resampled to 16 kHz by torchaudio's rule. Errors: as above."""
    audio = _one_channel(path)
    return Audio(sinc_resample(audio.samples, audio.rate, VAD_RATE), VAD_RATE)


def _one_channel(path: Path) -> Audio:
    audio = read_audio(path)
    if audio.channels != 1:
        raise UserError(
            f"has {audio.channels} channels, on which the official script raises", place=path, mend="write one channel"
        )
    return audio


def _blocks(items: Iterable[Path], size: int) -> Iterator[Sequence[Path]]:
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block
