"""A recorded user talks with a server, in real time: what `duologue talk` does without one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from duologue.client.connection import Connection, Ended, Meta, Sound, connect
from duologue.client.sound import Format, Samples
from duologue.client.wire import FRAME, RATE

PATIENCE = 5.0
"""Seconds without anything from the server after which a talk is given up."""


@dataclass(slots=True)
class Talked:
    """What came of a talk."""

    agent: Samples
    """[S], as long as the user's sound: a frame of sound is heard in the frame after its own."""
    pieces: list[tuple[str, float]] = field(default_factory=list)
    """Of the agent's words, and when each is heard, in seconds."""
    ready: dict[str, Any] = field(default_factory=dict)
    """What the server told at first."""
    stats: dict[str, Any] = field(default_factory=dict)
    """What it told last of sound that was dropped or missing."""
    arrivals: list[float] = field(default_factory=list)
    """When each frame came, in seconds after the first sound was sent."""
    ended: str = ""
    """Why the server ended it, if it did."""


async def talk(
    url: str, user: Samples, query: Mapping[str, str] | None = None, *, token: str | None = None,
    format: Format = "pcm", speed: float = 1.0, on_frame: Callable[[], None] = lambda: None,
) -> Talked:  # fmt: skip
    """Let a recorded user talk with a server.

    Args:
        url: of the server.
        user: float32 [S] at 24 kHz.
        query: as in `connect`.
        token: likewise.
        format: likewise.
        speed: how many times faster than real time the user speaks; a server that is slower drops sound.
        on_frame: called for each frame that is sent.

    Raises:
        UserError: nobody listens there.
        Ended: the server refused, or ended the talk before any sound.
    """
    frames = [user[i : i + FRAME] for i in range(0, len(user), FRAME)]
    if frames:
        frames[-1] = np.pad(frames[-1], (0, FRAME - len(frames[-1])))
    async with connect(url, query, token=token, format=format) as line:
        found = Talked(np.zeros(0, np.float32), ready=line.ready)
        heard: list[Samples] = []
        begun = asyncio.get_running_loop().time()
        saying = asyncio.create_task(_say(line, frames, begun, FRAME / RATE / speed, on_frame))
        try:
            await _listen(line, found, heard, len(frames) * FRAME, begun)
        except Ended as end:
            if not heard:
                raise
            found.ended = end.reason
        except TimeoutError:
            found.ended = f"nothing came for {PATIENCE:g} s"
        finally:
            saying.cancel()
            with contextlib.suppress(asyncio.CancelledError, Ended):
                await saying
    agent = np.concatenate([np.zeros(FRAME, np.float32), *heard])
    found.agent = np.pad(agent, (0, max(0, len(user) - len(agent))))[: len(user)]
    return found


async def _say(
    line: Connection, frames: list[Samples], begun: float, period: float, on_frame: Callable[[], None]
) -> None:
    """Send the frames on time, each when it would have been spoken; then silence, so that the last is answered."""
    loop, silence = asyncio.get_running_loop(), np.zeros(FRAME, np.float32)
    n = 0
    while True:
        await line.say(frames[n] if n < len(frames) else silence)
        if n < len(frames):
            on_frame()
        n += 1
        await asyncio.sleep(max(0.0, begun + n * period - loop.time()))


async def _listen(line: Connection, found: Talked, heard: list[Samples], samples: int, begun: float) -> None:
    missing = samples
    while missing > 0:
        async with asyncio.timeout(PATIENCE):
            event = await line.receive()
        match event:
            case Sound():
                heard.append(event.samples)
                found.arrivals.append(event.at - begun)
                missing -= len(event.samples)
            case Meta(value={"type": "words", "piece": str(piece), "at": float(at) | int(at)}):
                found.pieces.append((piece, float(at)))
            case Meta(value={"type": "stats"} as stats):
                found.stats = stats
