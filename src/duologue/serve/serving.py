"""Runs a server from its first to its last moment."""

from __future__ import annotations

import asyncio
import signal
import ssl
import threading
from typing import TYPE_CHECKING

from aiohttp import web

from duologue.base.errors import UserError
from duologue.base.files import write_json
from duologue.serve.command import ServeConfig, load_model
from duologue.serve.server import make_app
from duologue.serve.service import Service

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle
    from duologue.serve.scheduler import Scheduler


async def serve(config: ServeConfig, service: Service, context: ssl.SSLContext | None) -> int:
    """Listen, load the model, serve until SIGTERM or Ctrl-C, drain; the exit status."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    runner = web.AppRunner(make_app(service), access_log=None, handle_signals=False, shutdown_timeout=3.0)
    await runner.setup()
    try:
        url = await _listen(runner, config, context)
        loading, stopping = _load(config, service), asyncio.ensure_future(stopped.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stopped.is_set():
            return 0
        bundle, scheduler = await loading
        service.begin(bundle, scheduler, config.short)
        scheduler.start(config.threads)
        if config.json is not None:
            write_json(config.json, {"url": url, "model": service.model, "slots": scheduler.slots})
        print(f"duologue serves {service.model} to {scheduler.slots} at once at {url}", flush=True)
        await stopped.wait()
        print("duologue: stopping; talks may go on for a while (again: at once)", flush=True)
        stopped.clear()
        await _drain(config, service, stopped)
        await asyncio.to_thread(scheduler.stop)
    finally:
        await runner.cleanup()
        service.close()
    return 0 if service.alive else 1


async def _drain(config: ServeConfig, service: Service, again: asyncio.Event) -> None:
    draining = asyncio.ensure_future(service.sessions.drain(config.drain))
    hurry = asyncio.ensure_future(again.wait())
    await asyncio.wait((draining, hurry), return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        draining.cancel()
        await service.sessions.drain(0)
    hurry.cancel()


async def _listen(runner: web.AppRunner, config: ServeConfig, context: ssl.SSLContext | None) -> str:
    """Open the port; where it is. Errors: UserError, it is taken or not ours."""
    site = web.TCPSite(runner, config.host, config.port, ssl_context=context)
    try:
        await site.start()
    except OSError as error:
        problem = f"cannot listen on {config.host}:{config.port}: {error.strerror}"
        raise UserError(problem, place="--port", mend="choose another, or 0 for any that is free") from None
    port = runner.addresses[0][1]
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{'http' if context is None else 'https'}://{host}:{port}"


def _load(config: ServeConfig, service: Service) -> asyncio.Future[tuple[Bundle, Scheduler]]:
    """Load the model in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[tuple[Bundle, Scheduler]] = loop.create_future()

    def settle(result: tuple[Bundle, Scheduler] | None, error: BaseException | None) -> None:
        if found.done():
            return
        if result is not None:
            found.set_result(result)
        elif error is not None:
            found.set_exception(error)

    def work() -> None:
        try:
            result, error = load_model(config, service), None
        except BaseException as problem:
            result, error = None, problem
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="duologue-load", daemon=True).start()
    return found
