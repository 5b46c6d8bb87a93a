"""One conversation of one client, from the queue to its end. Belongs to the event loop."""

from __future__ import annotations

import secrets
from enum import Enum

from duologue.client.wire import RATE, Kind
from duologue.engine.prompts import Voice
from duologue.model.text import TextStream, TextTokenizer
from duologue.serve.ear import Ear
from duologue.serve.line import Line, Spoken
from duologue.serve.link import Link
from duologue.serve.metrics import Metrics
from duologue.serve.protocol import Asked
from duologue.serve.recording import Recorder

STATS = 12
"""Frames between two messages of statistics, about a second."""


class State(Enum):
    """Where a session stands."""

    QUEUED = "queued"
    READING = "reading"
    """It has a slot; its prompt is being read."""
    TALKING = "talking"
    ENDED = "ended"


class Session:
    """One conversation.

    Args:
        asked: what the client wants.
        voice: the voice prompt.
        ear: for the user's sound.
        link: the connection.
        text: to read the agent's words; None without a tokenizer.
        delay: seconds by which the model writes a word before it says it.
        now: when it began.
    """

    def __init__(
        self, asked: Asked, voice: Voice | None, ear: Ear, link: Link, text: TextTokenizer | None, delay: float,
        now: float,
    ) -> None:  # fmt: skip
        self.id, self.token = secrets.token_hex(8), secrets.token_urlsafe(24)
        self.asked, self.link, self.state = asked, link, State.QUEUED
        self.line = Line(asked.sampling, asked.text_prompt, voice, ear)
        self.slot = -1
        self.opened = self.heard_at = now
        self.lost_at: float | None = None
        """When its connection was lost, if it is."""
        self.begun: float | None = None
        """When it got its handshake."""
        self.frames = 0
        self.position = 0
        """In the queue, as it was told last."""
        self.recorder: Recorder | None = None
        self._pieces = None if text is None else TextStream(text)
        self._delay = delay
        self._late = 0.0
        self._counted = (0, 0)

    @property
    def connected(self) -> bool:
        """Whether a client is there."""
        return self.lost_at is None

    def speak(self, got: Spoken, metrics: Metrics, period: float) -> None:
        """Pass a frame on to the client."""
        self.frames = got.call + 1
        at = round((got.call + 1) * period - self._delay, 3)
        piece = "" if self._pieces is None else self._pieces.feed(got.token)
        if self.recorder is not None:
            self.recorder.add(got.sound, got.heard)
            if piece:
                self.recorder.word(piece, at)
        if self.connected:
            if self.link.sound(got.sound):
                metrics.unsent.inc()
            if piece:
                self.link.text(Kind.TEXT, piece)
                self.link.meta({"type": "words", "frame": got.call, "piece": piece, "at": at})
        self._late = max(self._late, got.late)
        if self.frames % STATS == 0:
            self.stats(metrics)

    def stats(self, metrics: Metrics) -> None:
        """Tell the client, and the metrics, how it goes."""
        counts = self.line.ear.counts()
        dropped, starved = self._counted
        metrics.dropped.inc((counts.dropped - dropped) / RATE)
        metrics.starved.inc((counts.starved - starved) / RATE)
        self._counted = counts.dropped, counts.starved
        if self.connected:
            self.link.meta({
                "type": "stats", "late_ms": round(1000 * self._late, 1), "buffered_ms": _ms(counts.buffered),
                "dropped_ms": _ms(counts.dropped), "starved_ms": _ms(counts.starved), "frames": self.frames,
                "unsent": self.link.unsent,
            })  # fmt: skip
        self._late = 0.0


def _ms(samples: int) -> float:
    return round(1000 * samples / RATE, 1)
