"""One conversation over a WebSocket: sound and words as they come, sound that is said.

async with connect("http://localhost:8998", {"seed": "3"}) as line:
    await line.say(samples)
    async for event in line: ...
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from duologue.base.errors import UserError
from duologue.client.sound import Format, Samples, reader, writer
from duologue.client.wire import Close, Kind, build, parse, parse_meta

SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
LONGEST = 1 << 20
"""Bytes of the longest message that a server may send."""


class Ended(Exception):  # noqa: N818 - an end is no error
    """The server ended the conversation: why, and the code of the close."""

    def __init__(self, reason: str, code: int) -> None:
        self.reason, self.code = reason, code
        super().__init__(f"{reason} ({code})")


@dataclass(frozen=True, slots=True)
class Sound:
    """The agent's next sound, float32 [S] at 24 kHz."""

    samples: Samples
    at: float
    """When it came, on the loop's clock."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the agent's words."""

    piece: str


@dataclass(frozen=True, slots=True)
class Meta:
    """What the server tells: ready, queued, stats, words, end."""

    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to `Connection.ping`."""

    payload: bytes


Event: TypeAlias = Sound | Text | Meta | Pong


def address(url: str, path: str = "/api/chat") -> str:
    """Where a server's WebSocket is: ws, wss, http or https, with or without the path.

    Raises:
        UserError: no such address.
    """
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise UserError("is no address of a server", place=url, mend="use one such as ws://localhost:8998")
    bare = parts.path.rstrip("/").removesuffix("/api/chat")
    return urlunsplit((SCHEMES[parts.scheme], parts.netloc, bare + path, "", ""))


class Connection:
    """A conversation that has its handshake. Made by `connect`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, format: Format) -> None:
        self.socket, self._format = socket, format
        self._reader, self._writer = reader(format), writer(format)
        self.ready: dict[str, Any] = {}
        """What the server told before the handshake, if it tells."""
        self._reason = ""

    async def say(self, samples: Samples) -> None:
        """Send sound, float32 [S] at 24 kHz. Errors: Ended, the connection is closed."""
        data = self._writer.write(samples)
        if data:
            await self.send(build(Kind.SOUND, data))

    async def send(self, message: bytes) -> None:
        """Send a message as it is. Errors: Ended."""
        try:
            await self.socket.send_bytes(message)
        except (ConnectionError, RuntimeError):
            raise Ended(self._reason or "the line was lost", self.socket.close_code or 1006) from None

    async def ping(self, payload: bytes = b"") -> None:
        """Ask for a `Pong`, which comes after everything that was sent before was read."""
        await self.send(build(Kind.PING, payload))

    async def receive(self) -> Event | None:
        """The next event; None for the handshake. Errors: Ended."""
        while True:
            message = await self.socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                now = asyncio.get_running_loop().time()
                kind, payload = parse(message.data)
                match kind:
                    case Kind.HANDSHAKE:
                        return None
                    case Kind.SOUND:
                        samples = self._reader.read(payload)
                        if len(samples):
                            return Sound(samples, now)
                    case Kind.TEXT:
                        return Text(payload.decode("utf-8", "replace"))
                    case Kind.META:
                        return Meta(parse_meta(payload))
                    case Kind.ERROR:
                        self._reason = payload.decode("utf-8", "replace")
                    case Kind.PING:
                        return Pong(payload)
            elif message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
                told = message.data if message.type is aiohttp.WSMsgType.CLOSE else None
                code = int(told or self.socket.close_code or 1006)
                raise Ended(self._reason or "the line was lost", code)
            elif message.type is aiohttp.WSMsgType.ERROR:
                raise Ended(self._reason or "the line was lost", 1006)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events until the end. Errors: Ended, with the server's reason if it gave one."""
        while True:
            event = await self.receive()
            if event is not None:
                yield event

    async def wait_ready(self) -> list[dict[str, Any]]:
        """Read until the handshake; what was told before, places in the queue among it. Errors: Ended."""
        told = []
        while (event := await self.receive()) is not None:
            if isinstance(event, Meta):
                told.append(event.value)
                if event.value.get("type") == "ready":
                    self.ready = event.value
        return told


@asynccontextmanager
async def connect(
    url: str, query: Mapping[str, str] | None = None, *, token: str | None = None, format: Format = "pcm",
    wait: bool = True, verify: bool = True,
) -> AsyncIterator[Connection]:  # fmt: skip
    """Open a conversation.

    Args:
        url: of the server.
        query: what is asked for; metadata too, if it says nothing of it.
        token: the server's.
        format: of the sound, unless the query has one.
        wait: for the handshake, which may take as long as the queue does.
        verify: the server's certificate.

    Raises:
        UserError: nobody listens there.
        Ended: the server refused.
    """
    asked = {"meta": "1", "format": format} | dict(query or {})
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session:
        try:
            socket = await session.ws_connect(
                address(url), params=asked, headers=headers, max_msg_size=LONGEST, heartbeat=20.0,
                ssl=verify,
            )  # fmt: skip
        except (aiohttp.ClientError, OSError) as error:
            problem = f"cannot be reached: {error}"
            raise UserError(problem, place=url, mend="start one with duologue serve") from None
        line = Connection(socket, "opus" if asked["format"] == "opus" else "pcm")
        try:
            if wait:
                await line.wait_ready()
            yield line
        finally:
            with contextlib.suppress(ConnectionError):
                await socket.close(code=Close.NORMAL)
