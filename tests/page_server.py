"""A server for the page's tests that speaks the wire's language and does what a test tells it, with no model.

It answers every 80 ms of the user's sound with 80 ms of the agent's: a hum, with a word every fifth frame, or silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import sphn
from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType, web

import duologue.serve

STATIC = Path(duologue.serve.__file__).parent / "static"
RATE, FRAME = 24_000, 1920
WORDS = (" so", " tell", " me", " all", " ab", "out", " it")
INFO = {
    "name": "duologue", "version": "0", "model": "scripted", "rate": RATE, "frame": FRAME, "slots": 4, "free": 4,
    "queue": 0, "prompts": True, "voices": ["joe", "amy"], "limits": {"text_prompt": 1000, "seconds": 600},
    "settings": {"text_temperature": 0.7, "text_topk": 25, "audio_temperature": 0.8, "audio_topk": 250,
                 "pad_temperature": 1.0, "padding_bonus": 0.0}, "record": False, "upload": False, "auth": False,
}  # fmt: skip


@dataclass
class Call:
    """One connection, as the server sees it."""

    query: dict[str, str]
    heard: list[np.ndarray] = field(default_factory=list)
    raw: bytes = b""
    """All that came in messages of sound."""
    frames: int = 0

    def sound(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.float32), *self.heard])


class PageServer:
    """Runs in a thread of its own; what a test sets holds from the next message on."""

    def __init__(self) -> None:
        self.info = dict(INFO)
        self.queue: list[int] = []
        """Positions told before the handshake, one for each time that `go` is set."""
        self.go = threading.Event()
        self.hold = False
        """Whether the handshake waits for `go`, too."""
        self.refuse: tuple[int, str] | None = None
        """Close code and reason for whoever connects."""
        self.speaks = True
        self.tells_at = True
        """Whether it says where on the clock a session goes on."""
        self.remembers = True
        """Whether sessions are taken up."""
        self.stats = {"late_ms": 2, "buffered_ms": 0, "dropped_ms": 0, "starved_ms": 0}
        self.uploaded: list[bytes] = []
        self.tokens: list[str | None] = []
        """Those that came with voices."""
        self.no_voice = ""
        """Why voices are refused."""
        self.calls: list[Call] = []
        self.sockets: set[web.WebSocketResponse] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/"

    def run(self, work) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def start(self) -> None:
        self.run(self.serve())

    def stop(self) -> None:
        """As a process that dies: connections break without a word."""
        self.run(self.break_off())

    def close(self) -> None:
        self.go.set()
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    async def serve(self) -> None:
        app = web.Application()
        app.router.add_get("/api/info", self.tell)
        app.router.add_get("/api/chat", self.chat)
        app.router.add_post("/api/voices", self.take_voice)
        app.router.add_get("/", self.index)
        app.router.add_static("/", STATIC)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "localhost", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def break_off(self) -> None:
        for socket in list(self.sockets):
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()
        await self.runner.cleanup()

    async def index(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(STATIC / "index.html")

    async def tell(self, _request: web.Request) -> web.Response:
        return web.json_response(self.info)

    async def take_voice(self, request: web.Request) -> web.Response:
        if self.no_voice:
            return web.json_response({"error": self.no_voice}, status=400)
        self.tokens.append(request.headers.get("Authorization"))
        part = await (await request.multipart()).next()
        self.uploaded.append(await part.read())
        return web.json_response({"voice": "uploaded-1"})

    async def chat(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.add(socket)
        call = Call(dict(request.query))
        self.calls.append(call)
        try:
            with contextlib.suppress(ClientConnectionResetError):
                await self.converse(socket, call)
        finally:
            self.sockets.discard(socket)
        return socket

    async def meta(self, socket: web.WebSocketResponse, **message) -> None:
        await socket.send_bytes(b"\x04" + json.dumps(message).encode())

    async def gate(self) -> None:
        await asyncio.to_thread(self.go.wait, 60)
        self.go.clear()

    async def converse(self, socket: web.WebSocketResponse, call: Call) -> None:
        token = call.query.get("resume")
        if token and not self.remembers:
            await self.turn_away(socket, 1008, "resume: this session is not known")
            return
        if self.refuse:
            await self.turn_away(socket, *self.refuse)
            return
        for position in self.queue:
            await self.meta(socket, type="queued", position=position)
            await self.gate()
        if self.hold:
            await self.meta(socket, type="queued", position=0)
            await self.gate()
        before = next((old for old in reversed(self.calls[:-1]) if token), None)
        call.frames = before.frames if before else 0
        index = self.calls.index(call) if before is None else 0
        form = call.query.get("format", "opus")
        at = {"at": call.frames * 0.08} if self.tells_at else {}
        await self.meta(socket, type="ready", session=f"s{index}", resume="T", rate=RATE, frame=FRAME, format=form,
                        resumed=before is not None, settings={}, **at)  # fmt: skip
        await socket.send_bytes(b"\x00")
        reader, writer = sphn.OpusStreamReader(RATE), sphn.OpusStreamWriter(RATE)
        waiting = np.zeros(0, np.float32)
        async for message in socket:
            if message.type != WSMsgType.BINARY:
                continue
            kind, rest = message.data[0], message.data[1:]
            if kind == 6:
                await socket.send_bytes(message.data)
            if kind != 1:
                continue
            call.raw += rest
            samples = reader.append_bytes(rest) if form == "opus" else np.frombuffer(rest, "<i2").astype("f4") / 32768
            call.heard.append(samples)
            waiting = np.concatenate([waiting, samples])
            while len(waiting) >= FRAME:
                waiting = waiting[FRAME:]
                await self.frame(socket, call, form, writer)

    async def turn_away(self, socket: web.WebSocketResponse, code: int, reason: str) -> None:
        await socket.send_bytes(b"\x05" + reason.encode())
        await socket.close(code=WSCloseCode(code))

    async def frame(self, socket: web.WebSocketResponse, call: Call, form: str, writer: sphn.OpusStreamWriter) -> None:
        n = call.frames
        call.frames += 1
        time = (n * FRAME + np.arange(FRAME)) / RATE
        hum = 0.3 * np.sin(2 * np.pi * 220 * time) * np.abs(np.sin(2 * np.pi * 2 * time))
        sound = (hum if self.speaks else 0 * hum).astype(np.float32)
        data = writer.append_pcm(sound) if form == "opus" else (32767 * sound).astype("<i2").tobytes()
        if data:
            await socket.send_bytes(b"\x01" + data)
        if self.speaks and n % 5 == 0:
            piece = WORDS[n // 5 % len(WORDS)]
            await socket.send_bytes(b"\x02" + piece.encode())
            if call.query.get("meta"):
                await self.meta(socket, type="words", frame=n, piece=piece, at=(n + 1) * 0.08)
        if n % 12 == 0:
            await self.meta(socket, type="stats", frames=n, **self.stats)
