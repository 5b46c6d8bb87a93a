"""The HTTP side: routes, headers that protect the page, uploads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import BodyPartReader, web

from duologue.serve.chat import SERVICE, chat
from duologue.serve.protocol import RefusedError
from duologue.serve.service import Service
from duologue.serve.voices import MEGABYTES

STATIC = Path(__file__).with_name("static")
PATROL = 0.25
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(service: Service) -> web.Application:
    """The application; it looks after the sessions' times while it runs."""
    app = web.Application(middlewares=[_protect], client_max_size=MEGABYTES << 20)
    app[SERVICE] = service
    app.router.add_get("/api/chat", chat)
    app.router.add_get("/api/info", _info)
    app.router.add_post("/api/voices", _upload)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", _ready)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/", _index)
    if STATIC.is_dir():
        app.router.add_static("/", STATIC)
    app.cleanup_ctx.append(_patrolled)
    return app


async def _patrolled(app: web.Application) -> AsyncIterator[None]:
    async def walk() -> None:
        while True:
            await asyncio.sleep(PATROL)
            app[SERVICE].sessions.patrol()

    task = asyncio.create_task(walk())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@web.middleware
async def _protect(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what may not come, in words; add headers that protect the page."""
    try:
        if request.path != "/api/chat":  # which says it over the WebSocket
            origin = request.headers.get("Origin") if request.method != "GET" else None
            request.app[SERVICE].guard.check_origin(origin, request.host)
        response = await handler(request)
    except RefusedError as refusal:
        request.app[SERVICE].metrics.refused.labels(refusal.kind).inc()
        status = {"token": 401, "origin": 403, "host": 403}.get(refusal.kind, 400)
        response = web.json_response({"error": refusal.reason}, status=status)
    if not response.prepared:
        response.headers.update(HEADERS)
    return response


async def _index(request: web.Request) -> web.StreamResponse:
    page = STATIC / "index.html"
    if not page.is_file():
        return web.Response(text="duologue: there is no page in this installation; /api/chat speaks WebSocket\n")
    return web.FileResponse(page)


async def _info(request: web.Request) -> web.Response:
    return web.json_response(request.app[SERVICE].info())


async def _health(request: web.Request) -> web.Response:
    alive = request.app[SERVICE].alive
    return web.Response(status=200 if alive else 503, text="alive\n" if alive else "the engine failed\n")


async def _ready(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    if service.ready:
        return web.Response(text="ready\n")
    why = "draining" if service.sessions.draining else "loading" if service.scheduler is None else "the engine failed"
    return web.Response(status=503, text=f"{why}\n")


async def _metrics(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    service.guard.check_token(request.headers.get("Authorization", ""), request.query.get("token", ""))
    return web.Response(body=service.metrics.page(), headers={"Content-Type": "text/plain; version=0.0.4"})


async def _upload(request: web.Request) -> web.Response:
    """Take a voice in."""
    service = request.app[SERVICE]
    service.guard.check_token(request.headers.get("Authorization", ""), request.query.get("token", ""))
    if not service.uploads:
        raise RefusedError("this server takes no uploads", kind="voice")
    if service.shelf is None:
        raise RefusedError("the server is still loading; try again", kind="loading")
    return web.json_response({"voice": await service.shelf.add(await _file(request))})


async def _file(request: web.Request) -> bytes:
    """The field `file` of a multipart body, at most so many megabytes. Errors: RefusedError."""
    if not request.content_type.startswith("multipart/"):
        raise RefusedError("an upload is multipart/form-data with a field file", kind="voice")
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if isinstance(part, BodyPartReader) and part.name == "file":
                return await _bounded(part)
    except (ValueError, AssertionError) as error:
        raise RefusedError(f"the upload cannot be read: {error}"[:200], kind="voice") from None
    raise RefusedError("the upload has no field file", kind="voice")


async def _bounded(part: BodyPartReader) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(1 << 16):
        data += chunk
        if len(data) > MEGABYTES << 20:
            raise RefusedError(f"the upload is larger than {MEGABYTES} MB", kind="voice")
    return bytes(data)
