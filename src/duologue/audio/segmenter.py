"""From speech scores to speech intervals: hysteresis, minimum lengths and padding, one score at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int]
"""First sample, and one after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterRules:
    """When speech begins and ends. Lengths are in samples and need not be whole."""

    window: int
    """Samples per score."""
    threshold: float
    """Speech begins at a score of at least this."""
    neg_threshold: float
    """Silence begins at a score below this, and lasts until one of at least `threshold`."""
    min_speech: float
    """Speech not longer than this is dropped."""
    min_silence: float
    """Silence shorter than this does not end speech."""
    pad: float
    """Added at both ends of speech; neighbours that are closer than twice this share the silence between them."""


class SpeechSegmenter:
    """Turns scores into intervals, and gives each interval as soon as nothing that follows can change it.

    The intervals equal those of silero-vad 6.2.3's `get_speech_timestamps` (without a maximum length), whatever the
    number of scores per call. Requires neg_threshold <= threshold.
    """

    def __init__(self, rules: SegmenterRules) -> None:
        self._rules = rules
        self._position = 0  # samples scored
        self._start: int | None = None  # where the open speech begins
        self._quiet: int | None = None  # where the silence within or after it begins
        self._kept: int | None = None  # padded start of the open speech, once it is sure to be kept
        self._last: Span | None = None  # kept speech whose end is not padded yet: (padded start, unpadded end)

    def push(self, scores: Sequence[float]) -> list[Span]:
        """Take the scores of whole windows; give the spans that are now final."""
        done = self._walk(scores)
        if self._start is not None:
            # Windows to come can end this speech at `position` at the earliest.
            if self._quiet is None and self._position - self._start > self._rules.min_speech:
                done += self._keep(self._start)
            reach = self._start
        else:
            reach = self._position
        if self._last is not None and reach - self._last[1] >= 2 * self._rules.pad:
            done += self._release(self._last[1] + self._rules.pad)
        return done

    def finish(self, scores: Sequence[float], total: int) -> list[Span]:
        """Take the last scores (the last window may be cut short) and the signal's length in samples; give the rest."""
        done = self._walk(scores)
        if self._start is not None:
            done += self._close(self._start, total)
        if self._last is not None:
            done += self._release(min(total, self._last[1] + self._rules.pad))
        return done

    def _walk(self, scores: Sequence[float]) -> list[Span]:
        rules, done = self._rules, []
        for score in scores:
            at = self._position
            self._position += rules.window
            if score >= rules.threshold:
                self._quiet = None
                if self._start is None:
                    self._start = at
            elif self._start is not None and score < rules.neg_threshold:
                if self._quiet is None:
                    self._quiet = at
                if at - self._quiet >= rules.min_silence:
                    done += self._close(self._start, self._quiet)
        return done

    def _close(self, start: int, end: int) -> list[Span]:
        """End the open speech; keep it if it is long enough."""
        done: list[Span] = []
        if end - start > self._rules.min_speech:
            done = self._keep(start)
            assert self._kept is not None
            self._last = (self._kept, end)
        self._start = self._quiet = self._kept = None
        return done

    def _keep(self, start: int) -> list[Span]:
        """Note that the open speech will be kept: that settles where it begins, and where the one before it ends."""
        if self._kept is not None:
            return []
        pad = self._rules.pad
        if self._last is None:
            self._kept = int(max(0, start - pad))
            return []
        end = self._last[1]
        if start - end < 2 * pad:
            half = (start - end) // 2
            self._kept = start - half
            return self._release(end + half)
        self._kept = int(start - pad)
        return self._release(end + pad)

    def _release(self, end: float) -> list[Span]:
        assert self._last is not None
        span = (self._last[0], int(end))
        self._last = None
        return [span]
