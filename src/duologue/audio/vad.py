"""Speech detection: which stretches of a channel are speech, in many files at once or in live audio, equally.

Detectors work at 16 kHz; other rates are resampled. A live stream and a whole file run through the same code, and their
intervals are equal whatever the size of the pieces.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from duologue.audio.energy import EnergyDetector
from duologue.audio.resample import StreamResampler
from duologue.audio.segmenter import SegmenterRules, Span, SpeechSegmenter
from duologue.audio.silero import load_silero
from duologue.audio.wave import Audio, open_audio
from duologue.base.errors import UserError
from duologue.dialogue.intervals import Intervals

Samples = NDArray[np.float32]

RATE = 16_000
"""Rate that the detectors expect, and unit of all sample numbers here."""
_ROWS = 32
"""Channels that are in work at once."""
_ROUND_S = 4.096
"""Seconds of each channel per round: 128 windows of silero. Memory is about rows x round, however long the files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VadConfig:
    """How speech is found. The defaults are those of silero-vad 6.2.3's `get_speech_timestamps`."""

    backend: Literal["silero", "energy"] = "silero"
    """silero: a neural network; energy: level above an adaptive noise floor"""
    threshold: float = 0.5
    """score from which a window is speech (0.01 to 1)"""
    neg_threshold: float | None = None
    """score below which speech may end; by default threshold - 0.15, at least 0.01"""
    min_speech_s: float = 0.25
    """speech not longer than this is dropped, in seconds"""
    min_silence_s: float = 0.1
    """silence shorter than this does not end speech, in seconds"""
    pad_s: float = 0.03
    """what is added at both ends of speech, in seconds"""

    def __post_init__(self) -> None:
        if self.backend not in ("silero", "energy"):
            raise UserError(f"unknown backend {self.backend!r}", place="vad.backend", mend="use silero or energy")
        if not 0.01 <= self.threshold <= 1:
            raise UserError(f"{self.threshold} is not in 0.01 to 1", place="vad.threshold", mend="the default is 0.5")
        if self.neg_threshold is not None and not 0 <= self.neg_threshold <= self.threshold:
            problem = f"{self.neg_threshold} is not between 0 and the threshold, {self.threshold}"
            raise UserError(problem, place="vad.neg_threshold", mend="leave it out for threshold - 0.15")
        for name, value in (
            ("min_speech_s", self.min_speech_s),
            ("min_silence_s", self.min_silence_s),
            ("pad_s", self.pad_s),
        ):
            if not 0 <= value < float("inf"):
                raise UserError(f"{value} is not a length in seconds", place=f"vad.{name}", mend="use 0 or more")

    def rules(self, window: int) -> SegmenterRules:
        """The same in samples, for scores of windows of `window` samples."""
        neg = self.neg_threshold
        return SegmenterRules(
            window=window,
            threshold=self.threshold,
            neg_threshold=max(self.threshold - 0.15, 0.01) if neg is None else neg,
            # 0.06 s must be 960 samples sharp: these are bounds of strict comparisons.
            min_speech=round(self.min_speech_s * RATE, 6),
            min_silence=round(self.min_silence_s * RATE, 6),
            pad=round(self.pad_s * RATE, 6),
        )


UNPADDED = VadConfig(pad_s=0.0)
"""The detector of segments and of rollouts. Without padding: silero's 30 ms on either side make every silence 60 ms
shorter, and criteria and rewards are lengths of silence and of speech."""


def detect_speech(audios: Sequence[Audio], config: VadConfig | None = None) -> list[Intervals]:
    """Speech of each one-channel waveform, of any rate: [N, 2] in seconds, exact multiples of 1/16000.

    Errors: UserError for a waveform with several channels, or with samples that are NaN or infinite.
    """
    for i, audio in enumerate(audios):
        if audio.channels != 1:
            mend = "choose one with channel(i), or mix them with mono()"
            raise UserError(f"has {audio.channels} channels", place=f"waveform {i}", mend=mend)
        _one_row(audio.samples[0], place=f"waveform {i}")
    spans = _detect([_memory(audio.samples, audio.rate) for audio in audios], config or VadConfig())
    return [_seconds(channels[0]) for channels in spans]


def detect_speech_files(
    paths: Iterable[str | os.PathLike[str]], config: VadConfig | None = None
) -> list[list[Intervals]]:
    """Speech of each channel of each file: per file, per channel, [N, 2] in seconds as `detect_speech`.

    Files are decoded and resampled as they are scored, in bounded memory. Errors: UserError as `read_audio`.
    """
    spans = _detect([_file(path) for path in paths], config or VadConfig())
    return [[_seconds(channel) for channel in channels] for channels in spans]


def speech_samples(wave: Samples, config: VadConfig | None = None) -> NDArray[np.int64]:
    """Speech in raw samples [S], taken as 16 kHz whatever they are: int64 [N, 2], first sample and one after the last.

    Errors: UserError for another shape, or values that are NaN or infinite.
    """
    return _spans(_detect([_memory(_one_row(wave), RATE)], config or VadConfig())[0][0])


def speech_probabilities(waves: Sequence[Samples]) -> list[NDArray[np.float32]]:
    """Silero's speech probability of every 512 samples (32 ms, the last window filled up with zeros).

    Args:
        waves: float32 [S] at 16 kHz, each of its own length.

    Returns:
        Per wave float32 [ceil(S / 512)].
    """
    scores: list[list[NDArray[np.float32]]] = [[] for _ in waves]
    for step in _score(load_silero(), [_memory(_one_row(wave), RATE) for wave in waves]):
        scores[step.recording].append(step.scores)
    return [np.concatenate(parts) for parts in scores]


class StreamingVad:
    """Speech detection in live audio of one channel. All intervals together equal those of `detect_speech`.

    An interval is given once nothing that follows can change it: after the minimum silence behind it (0.1 s), the
    padding, the rest of a 32 ms window, and up to 0.04 s in the resampler (0.12 s from 8 kHz).
    """

    def __init__(self, rate: int, config: VadConfig | None = None) -> None:
        config = config or VadConfig()
        self._detector = _detector(config)
        self._resampler = StreamResampler(rate, RATE)
        self._channel = _Channel(self._detector.start())
        self._segmenter = SpeechSegmenter(config.rules(self._detector.window))

    def push(self, samples: Samples) -> Intervals:
        """Take float32 [n]; give the intervals that became final, [N, 2] in seconds from the start of the stream.

        Errors: UserError for another shape, or NaN or infinite samples, which would spoil all that follows.
        """
        block = self._resampler.push(_one_row(samples).T)
        return _seconds(self._segmenter.push(self._score(block, last=False)))

    def flush(self) -> Intervals:
        """End the stream: give the rest. Call once, last."""
        scores = self._score(self._resampler.finish(), last=True)
        return _seconds(self._segmenter.finish(scores, self._channel.total))

    def _score(self, block: Samples, *, last: bool) -> list[float]:
        windows = self._channel.windows(block[:, 0], self._detector.window, last=last)
        (scores,), (self._channel.state,) = self._detector.score([windows], [self._channel.state])
        return [float(score) for score in scores]


class _Detector(Protocol):
    """What scores windows at 16 kHz: silero's network or the energy detector."""

    @property
    def window(self) -> int: ...

    def start(self) -> Any: ...

    def score(
        self, blocks: Sequence[Samples], states: Sequence[Any]
    ) -> tuple[list[NDArray[np.float32]], list[Any]]: ...


def _detector(config: VadConfig) -> _Detector:
    return load_silero() if config.backend == "silero" else EnergyDetector()


@dataclass(slots=True)
class _Channel:
    """One channel on its way through a detector: the detector's state, and samples that do not fill a window yet."""

    state: Any
    rest: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    total: int = 0

    def windows(self, samples: Samples, size: int, *, last: bool) -> Samples:
        """Add samples; take whole windows [n, size], the very last one filled up with zeros."""
        self.total += len(samples)
        joined = np.concatenate((self.rest, samples))
        if last:
            joined = np.pad(joined, (0, -len(joined) % size))
        whole = len(joined) // size * size
        self.rest = joined[whole:]
        return joined[:whole].reshape(-1, size)


def _memory(samples: Samples, rate: int) -> Iterator[Samples]:
    """A waveform [C, S] in memory as blocks [n, C] at 16 kHz."""
    size = round(_ROUND_S * rate)
    blocks = (samples[:, i : i + size].T for i in range(0, samples.shape[1], size))
    yield from _resampled(blocks, rate, len(samples))


def _file(path: str | os.PathLike[str]) -> Iterator[Samples]:
    """A file as blocks [n, C] at 16 kHz; it is opened when the first is asked for."""
    with open_audio(path) as reader:
        yield from _resampled(reader.blocks(round(_ROUND_S * reader.rate)), reader.rate, reader.channels)


def _resampled(blocks: Iterable[Samples], rate: int, channels: int) -> Iterator[Samples]:
    resampler = StreamResampler(rate, RATE, channels)
    for block in blocks:
        yield resampler.push(block)
    yield resampler.finish()


@dataclass(frozen=True, slots=True)
class _Recording:
    """A recording in work: its place in the list, the blocks [n, C] to come, and its channels."""

    index: int
    blocks: Iterator[Samples]
    channels: list[_Channel]


@dataclass(frozen=True, slots=True)
class _Step:
    """Scores of the next windows of one channel; `total` is the channel's length in samples, once it has ended."""

    recording: int
    channel: int
    scores: NDArray[np.float32]
    total: int | None


def _score(detector: _Detector, recordings: Iterable[Iterator[Samples]]) -> Iterator[_Step]:
    """Score recordings in rounds, a block of each in work; new ones take the rows of those that ended."""
    waiting = enumerate(recordings)
    running: list[_Recording] = []
    while True:
        blocks = [next(recording.blocks, None) for recording in running]
        rows = sum(len(recording.channels) for recording in running)
        while rows < _ROWS and (item := next(waiting, None)) is not None:
            index, source = item
            first = next(source)
            running.append(_Recording(index, source, [_Channel(detector.start()) for _ in range(first.shape[1])]))
            blocks.append(first)
            rows += first.shape[1]
        if not running:
            return
        yield from _round(detector, running, blocks)
        running = [recording for recording, block in zip(running, blocks, strict=True) if block is not None]


def _round(detector: _Detector, running: list[_Recording], blocks: list[Samples | None]) -> Iterator[_Step]:
    """Score one block of each recording, or, where it is None, what is left over."""
    nothing = np.zeros(0, np.float32)
    work = [
        (recording.index, i, channel, nothing if block is None else block[:, i], block is None)
        for recording, block in zip(running, blocks, strict=True)
        for i, channel in enumerate(recording.channels)
    ]
    windows = [channel.windows(samples, detector.window, last=last) for _, _, channel, samples, last in work]
    scores, states = detector.score(windows, [channel.state for _, _, channel, _, _ in work])
    for (index, i, channel, _, last), new, state in zip(work, scores, states, strict=True):
        channel.state = state
        yield _Step(index, i, new, channel.total if last else None)


def _detect(recordings: Sequence[Iterator[Samples]], config: VadConfig) -> list[list[list[Span]]]:
    """Spans per recording, per channel."""
    detector = _detector(config)
    rules = config.rules(detector.window)
    segmenters: dict[tuple[int, int], SpeechSegmenter] = {}
    found: list[list[list[Span]]] = [[] for _ in recordings]
    for step in _score(detector, recordings):
        key = step.recording, step.channel
        if key not in segmenters:
            segmenters[key] = SpeechSegmenter(rules)
            found[step.recording].append([])
        spans, scores = found[step.recording][step.channel], step.scores.tolist()
        if step.total is None:
            spans += segmenters[key].push(scores)
        else:
            spans += segmenters.pop(key).finish(scores, step.total)
    return found


def _one_row(wave: Samples, place: str = "") -> Samples:
    """Check raw samples [S]; give them as [1, S]."""
    row = np.asarray(wave, np.float32)
    if row.ndim != 1:
        raise UserError(f"samples have shape {list(row.shape)}", place=place, mend="give one channel, [S]")
    if not np.isfinite(row).all():
        first = np.flatnonzero(~np.isfinite(row))[0]
        raise UserError(f"sample {first} is NaN or infinite", place=place, mend="mend what made it")
    return row[None]


def _spans(spans: list[Span]) -> NDArray[np.int64]:
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _seconds(spans: list[Span]) -> Intervals:
    return _spans(spans) / RATE
