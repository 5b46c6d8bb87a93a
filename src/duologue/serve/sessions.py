"""All sessions of a server: who has a slot, who waits, who lost the line, and when each must end.

Belongs to the event loop: every method is called there but `post`, which the step thread calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from duologue.client.wire import RATE, Close, Kind, build
from duologue.engine.prompts import Voice
from duologue.model.text import TextTokenizer
from duologue.serve.ear import Ear
from duologue.serve.line import Failed, Line, Ready, Report, Spoken
from duologue.serve.link import Link
from duologue.serve.metrics import Metrics
from duologue.serve.protocol import Asked, RefusedError
from duologue.serve.recording import Archive
from duologue.serve.session import Session, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a session may take. Times are in seconds."""

    queue: int = 16
    """Clients that may wait for a slot."""
    idle: float = 30.0
    """Without any sound from the client."""
    seconds: float = 600.0
    """Of a talk."""
    grace: float = 10.0
    """For which the slot of a client that lost its line is kept."""
    buffer: float = 0.4
    """Of a user's sound that may wait."""


class Steps(Protocol):
    """The scheduler, as sessions see it."""

    slots: int
    frame: int
    period: float

    def join(self, line: Line, slot: int) -> None: ...
    def leave(self, line: Line) -> None: ...
    def pause(self, line: Line) -> None: ...
    def resume(self, line: Line) -> None: ...
    def poke(self) -> None: ...


class Sessions:
    """Gives slots to clients.

    Args:
        limits: of each session.
        metrics: where they are counted.
        now: the time.
        archive: where recordings go; None: nothing is recorded.
    """

    def __init__(self, limits: Limits, metrics: Metrics, now: Callable[[], float], archive: Archive | None) -> None:
        self.limits, self._metrics, self._now, self._archive = limits, metrics, now, archive
        self.draining = False
        self._steps: Steps | None = None
        self._text: TextTokenizer | None = None
        self._delay = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free: list[int] = []
        self._waiting: deque[Session] = deque()
        self._seated: dict[Line, Session] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def attach(self, steps: Steps, text: TextTokenizer | None, delay: float) -> None:
        """Begin to serve: the model is loaded."""
        self._loop = asyncio.get_running_loop()
        self._steps, self._text, self._delay = steps, text, delay
        self._free = list(range(steps.slots))[::-1]
        self._metrics.slots.set(steps.slots)

    @property
    def free(self) -> int:
        """Slots that nobody has."""
        return len(self._free)

    @property
    def waiting(self) -> int:
        """Clients in the queue."""
        return len(self._waiting)

    # What clients do.

    def open(self, asked: Asked, voice: Voice | None, link: Link) -> Session:
        """Take a client in, or let it wait. Errors: RefusedError."""
        if self.draining:
            raise RefusedError("the server is about to stop", Close.RESTART, kind="draining")
        if self._steps is None:
            raise RefusedError("the server is still loading; try again", Close.TRY_LATER, kind="loading")
        if not self._free and len(self._waiting) >= self.limits.queue:
            reason = f"all {self._steps.slots} places are taken, and {len(self._waiting)} wait; try again later"
            raise RefusedError(reason, Close.TRY_LATER, kind="full")
        ear = Ear(self._steps.frame, round(self.limits.buffer * RATE), self._now, self._steps.poke)
        session = Session(asked, voice, ear, link, self._text, self._delay, self._now())
        self._empty.clear()
        self._waiting.append(session)
        self._seat()
        self._tell_queue()
        return session

    def take_up(self, asked: Asked, link: Link) -> Session:
        """Go on with a session whose line was lost. Errors: RefusedError, there is none with this token."""
        token = (asked.resume or "").encode("utf-8", "replace")
        found = [s for s in self._seated.values() if hmac.compare_digest(s.token.encode(), token)]
        if not found:
            raise RefusedError("there is no such session to resume, or no longer", Close.POLICY, kind="resume")
        session = found[0]
        if session.connected:
            session.link.end("taken up over another connection", Close.POLICY)
        session.link, session.lost_at, session.heard_at = link, None, self._now()
        session.line.ear.clear()
        self._metrics.resumed.inc()
        if session.state is State.TALKING:
            self._greet(session, resumed=True)
        if self._steps is not None:
            self._steps.resume(session.line)
        self._gauge()
        return session

    def lose(self, session: Session, link: Link, *, clean: bool) -> None:
        """A connection is gone. Its session is kept for a while if its client can take it up, and did not say goodbye.

        A link that is no longer the session's, or a session that has ended, changes nothing.
        """
        if session.state is State.ENDED or session.link is not link:
            return
        kept = session.state is not State.QUEUED and link.wants_meta and self.limits.grace > 0
        if clean or not kept or self.draining:
            self.end(session, "closed", Close.NORMAL, why="closed" if clean else "lost")
            return
        session.lost_at = self._now()
        if self._steps is not None:
            self._steps.pause(session.line)
        self._gauge()

    def end(self, session: Session, reason: str, code: Close, *, why: str) -> None:
        """End a session, tell its client why, and let the next one in."""
        if session.state is State.ENDED:
            return
        if session.state is State.QUEUED:
            self._waiting.remove(session)
        else:
            assert self._steps is not None
            self._steps.leave(session.line)
            del self._seated[session.line]
            self._free.append(session.slot)
            session.stats(self._metrics)
            self._metrics.length.observe(session.frames * self._steps.period)
        session.state = State.ENDED
        self._metrics.ended.labels(why).inc()
        if session.connected and why != "closed":
            session.link.end(reason, code)
        if session.recorder is not None:
            session.recorder.close(reason)
        self._seat()
        self._tell_queue()
        if not self._seated and not self._waiting:
            self._empty.set()

    # What time does.

    def patrol(self) -> None:
        """End what has gone on for too long; call it a few times a second."""
        now = self._now()
        for session in list(self._seated.values()):
            since = session.begun if session.begun is not None else now
            if session.lost_at is not None:
                if now - session.lost_at > self.limits.grace:
                    self.end(session, "the line was lost", Close.POLICY, why="lost")
            elif session.link.stuck:
                self.end(session, "the client does not read what it is sent", Close.POLICY, why="stuck")
            elif now - since > self.limits.seconds:
                reason = f"a talk lasts at most {self.limits.seconds:g} s"
                self.end(session, reason, Close.POLICY, why="length")
            elif session.begun is not None and now - max(since, session.heard_at) > self.limits.idle:
                reason = f"no sound came for {self.limits.idle:g} s"
                self.end(session, reason, Close.POLICY, why="idle")

    async def drain(self, seconds: float) -> None:
        """Take nobody in, send those away who wait, let talks go on for a while, then end them."""
        self.draining = True
        for session in list(self._waiting):
            self.end(session, "the server is about to stop", Close.RESTART, why="drain")
        for session in list(self._seated.values()):
            if not session.connected:
                self.end(session, "the server is about to stop", Close.RESTART, why="drain")
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            for session in list(self._seated.values()):
                self.end(session, "the server stops", Close.RESTART, why="drain")

    def close(self) -> None:
        """Wait until recordings are written."""
        if self._archive is not None:
            self._archive.close()

    # What the engine does.

    def post(self, reports: list[Report]) -> None:
        """Reports of a frame; from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(self._take, reports)

    def _take(self, reports: list[Report]) -> None:
        assert self._steps is not None
        for report in reports:
            session = self._seated.get(report.line)
            if session is None:  # it has ended meanwhile
                continue
            match report:
                case Ready():
                    self._begin(session)
                case Spoken():
                    session.speak(report, self._metrics, self._steps.period)
                case Failed(reason=reason, mistake=mistake):
                    code = Close.POLICY if mistake else Close.INTERNAL
                    self.end(session, reason, code, why="asked" if mistake else "failed")

    def _begin(self, session: Session) -> None:
        session.state = State.TALKING
        session.begun = session.heard_at = self._now()
        self._metrics.waited.observe(session.begun - session.opened)
        self._metrics.begun.inc()
        if session.asked.record and self._archive is not None:
            session.recorder = self._archive.record(session.id, session.asked.told())
        if session.connected:
            self._greet(session, resumed=False)

    def _greet(self, session: Session, *, resumed: bool) -> None:
        assert self._steps is not None
        settings: dict[str, Any] = session.asked.told() | {"record": session.recorder is not None}
        session.link.meta({
            "type": "ready", "session": session.id, "resume": session.token, "rate": RATE, "frame": self._steps.frame,
            "format": session.link.format, "resumed": resumed, "settings": settings,
            "at": round(session.frames * self._steps.period, 3),
        })  # fmt: skip
        session.link.message(build(Kind.HANDSHAKE))

    def _seat(self) -> None:
        """Give free slots to those who wait."""
        while self._free and self._waiting and self._steps is not None:
            session = self._waiting.popleft()
            session.slot, session.state = self._free.pop(), State.READING
            self._seated[session.line] = session
            self._steps.join(session.line, session.slot)
            if session.position:
                session.position = 0
                session.link.meta({"type": "queued", "position": 0})
        self._gauge()

    def _tell_queue(self) -> None:
        for position, session in enumerate(self._waiting, 1):
            if session.position != position:
                session.position = position
                session.link.meta({"type": "queued", "position": position})

    def _gauge(self) -> None:
        self._metrics.active.set(len(self._seated))
        self._metrics.queued.set(len(self._waiting))
        self._metrics.paused.set(sum(not s.connected for s in self._seated.values()))
