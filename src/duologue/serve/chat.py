"""`/api/chat`: one WebSocket, from its query to its close. What a client sends is read in one task and what it is sent
is written in another; both belong to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from enum import Enum

from aiohttp import WSMsgType, web

from duologue.client.sound import SoundError, writer
from duologue.client.wire import PING_BYTES, Close, Kind, build, build_meta, build_text, parse
from duologue.serve.link import End, Link
from duologue.serve.protocol import Asked, RefusedError, ask
from duologue.serve.security import MESSAGE_BYTES, Pace
from duologue.serve.service import Service
from duologue.serve.session import Session, State
from duologue.serve.sound import Hearing

SERVICE = web.AppKey("service", Service)
MOST_BYTES = 4 * MESSAGE_BYTES
"""Where reading of a message stops; up to here its length is told."""
HEARTBEAT = 10.0
"""Seconds between pings of the WebSocket; a client that answers none is gone."""
SENDING = 10.0
"""Seconds that one message may take to leave."""
BREACHES = {1002: "not a WebSocket message", 1007: "text that is not UTF-8", 1009: "the message is too long"}

log = logging.getLogger("duologue.serve")


class Way(Enum):
    """How a connection ends."""

    GOODBYE = "the client closed it"
    LOST = "it broke"
    OURS = "we close it"


class Socket(web.WebSocketResponse):
    """A WebSocket that says why it closes, also when aiohttp closes it for a breach of the protocol."""

    def __init__(self) -> None:
        super().__init__(max_msg_size=MOST_BYTES, heartbeat=HEARTBEAT, timeout=2.0, compress=False)
        self._told = False
        self.breached = False
        """Whether the client broke the protocol, and was told."""

    async def close(self, *, code: int = Close.NORMAL, message: bytes = b"", drain: bool = True) -> bool:
        """Close, after a reason if nobody gave one."""
        if code in BREACHES and not self._told and not self.closed:
            self._told = self.breached = True
            with contextlib.suppress(ConnectionError, RuntimeError):
                await self.send_bytes(build_text(Kind.ERROR, BREACHES[code]))
        return await super().close(code=code, message=message, drain=drain)

    async def refuse(self, reason: str, code: Close) -> None:
        """Say why, and close."""
        if self.closed:
            return
        self._told = True
        with contextlib.suppress(ConnectionError, RuntimeError, TimeoutError):
            async with asyncio.timeout(SENDING):
                await self.send_bytes(build_text(Kind.ERROR, reason))
        await self.close(code=code, message=reason.encode()[:120].decode(errors="ignore").encode())


async def chat(request: web.Request) -> web.StreamResponse:
    """Serve one connection."""
    service, socket = request.app[SERVICE], Socket()
    if not socket.can_prepare(request):
        return web.Response(status=426, text="this address speaks WebSocket\n")
    await socket.prepare(request)
    asked: Asked | None = None
    try:
        with service.addresses.enter(address(request, service)):
            asked = await _admit(request, service)
            await _talk(socket, service, asked)
    except RefusedError as refusal:
        service.metrics.refused.labels(refusal.kind).inc()
        if asked is not None and asked.meta:
            with contextlib.suppress(ConnectionError, RuntimeError):
                await socket.send_bytes(build_meta({"type": "end", "reason": refusal.reason}))
        await socket.refuse(refusal.reason, refusal.code)
    except ConnectionError:
        pass
    except Exception:
        log.exception("a client could not be taken in")
        await socket.refuse("the server failed; try again", Close.INTERNAL)
    return socket


def address(request: web.Request, service: Service) -> str:
    """Where a client is."""
    if service.proxied:
        forwarded = request.headers.get("X-Forwarded-For", "")
        if forwarded:
            return forwarded.split(",")[-1].strip()[:64]
    return request.remote or ""


async def _admit(request: web.Request, service: Service) -> Asked:
    """What the client asks for, if it may ask. Errors: RefusedError."""
    service.guard.check_origin(request.headers.get("Origin"), request.host)
    service.guard.check_token(request.headers.get("Authorization", ""), request.query.get("token", ""))
    asked = ask(request.query, service.sampling)
    service.check(asked)
    return asked


async def _talk(socket: Socket, service: Service, asked: Asked) -> None:
    link = Link(asked.format, meta=asked.meta)
    if asked.resume is not None:
        session = service.sessions.take_up(asked, link)
    else:
        assert service.shelf is not None
        voice = None if asked.voice is None else await service.shelf.get(asked.voice)
        session = service.sessions.open(asked, voice, link)
    sending = asyncio.create_task(_send(socket, link))
    receiving = asyncio.create_task(_receive(socket, service, session, link))
    try:
        await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
    finally:  # also where the handler is cancelled, as aiohttp can when a connection is lost
        way = Way.LOST
        if receiving.done():
            way = _judge(receiving, service, session, link)
        elif sending.done() and sending.result() is not None:
            way = Way.OURS
        receiving.cancel()
        if way is Way.OURS:
            _fail(service, session, link)  # unless it has ended already
        else:
            sending.cancel()
            service.sessions.lose(session, link, clean=way is Way.GOODBYE or socket.breached)
        await asyncio.gather(receiving, sending, return_exceptions=True)
    if way is Way.OURS and (end := sending.result()) is not None:
        await socket.refuse(end.reason, end.code)


def _judge(receiving: asyncio.Task[Way], service: Service, session: Session, link: Link) -> Way:
    """How a connection ended; where it was by what the client sent, its session is ended."""
    try:
        return receiving.result()
    except SoundError as error:
        refused = RefusedError(f"sound: {error}", kind="sound")
    except RefusedError as error:
        refused = error
    except Exception:
        log.exception("a connection failed")
        _fail(service, session, link)
        return Way.OURS
    service.metrics.refused.labels(refused.kind).inc()
    if session.link is link:
        service.sessions.end(session, refused.reason, refused.code, why=refused.kind)
    return Way.OURS


def _fail(service: Service, session: Session, link: Link) -> None:
    """End a session by a fault of ours, unless it goes on over another connection."""
    if session.link is link:
        service.sessions.end(session, "this conversation failed; try again", Close.INTERNAL, why="failed")


async def _receive(socket: Socket, service: Service, session: Session, link: Link) -> Way:
    """Read until the client says goodbye or is lost. Errors: RefusedError, SoundError: send it away."""
    ear, ignored = session.line.ear, service.metrics.ignored
    hearing = Hearing(link.format, service.clock.now, ear.lose)
    pace = Pace(service.clock.now)
    while True:
        message = await socket.receive()
        if message.type is WSMsgType.CLOSE:
            return Way.GOODBYE
        if message.type in (WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
            return Way.LOST
        pace.count()
        if message.type is not WSMsgType.BINARY:
            raise RefusedError("a text message: every message must be binary", kind="text")
        if len(message.data) > MESSAGE_BYTES:
            reason = f"a message of {len(message.data)} bytes; at most {MESSAGE_BYTES}"
            raise RefusedError(reason, Close.TOO_BIG, kind="long")
        if not message.data:
            ignored.labels("empty").inc()
            continue
        kind, payload = parse(message.data)
        if kind == Kind.SOUND and session.state is State.TALKING and session.link is link:
            ear.put(hearing.read(payload))
            session.heard_at = service.clock.now()
        elif kind == Kind.PING and len(payload) <= PING_BYTES:
            link.message(build(Kind.PING, payload))
        else:
            ignored.labels(str(kind) if kind < 10 else "other").inc()


async def _send(socket: Socket, link: Link) -> End | None:
    """Write what the link holds until it ends, which is left to the caller; None if the connection is lost."""
    out = writer(link.format)
    try:
        while True:
            item = await link.next()
            if isinstance(item, End):
                return item
            data = item if isinstance(item, bytes) else _sound(out.write(item[0]))
            if data:
                async with asyncio.timeout(SENDING):
                    await socket.send_bytes(data)
    except (ConnectionError, TimeoutError):
        return None
    except RuntimeError as error:
        if socket.closed:
            return None
        problem: Exception = error
    except Exception as error:
        problem = error
    log.error("sending failed", exc_info=problem)
    return End("this conversation failed; try again", Close.INTERNAL)


def _sound(data: bytes) -> bytes:
    """A message of sound; nothing while a packet fills."""
    return build(Kind.SOUND, data) if data else b""
