"""`duologue serve`: a model that anybody on this machine, or with a token, can talk to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.base.errors import UserError
from duologue.client.wire import FRAME, RATE, TOKEN
from duologue.engine.asked import ModelOptions

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle
    from duologue.serve.scheduler import Scheduler
    from duologue.serve.service import Service

PROMPT_FRAMES = 4096
"""Room for the longest prompt: 1000 characters of up to four bytes, and a voice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig(ModelOptions):
    """Serve a model in real time: web page, Moshi's and PersonaPlex's clients, `duologue talk --url`.

    Without other options it is reached from this machine only. Ends with 0 on Ctrl-C or SIGTERM, after the talks that
    go on have had their time.
    """

    host: str = "localhost"
    """Where to listen. Any host but this machine itself needs --token and --origins."""
    port: int = 8998
    """The port; 0 for any that is free."""
    slots: int | None = None
    """Conversations at once: 2 on a CPU and 16 on a GPU, if not said. Each costs memory and time whether it is used or
    not."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; one process serves one device."""
    threads: int = 1
    """Threads of the engine's matrix products on a CPU. One leaves the other cores to the network and its codecs."""
    token: str | None = None
    """What clients must show: a bearer token. Better kept out of the list of processes: DUOLOGUE_TOKEN in the
    environment."""
    origins: tuple[str, ...] = ()
    """Origins of pages that may connect, such as https://talk.example.org. The server's own page always may."""
    certificate: Path | None = None
    """A PEM certificate: the server speaks https and wss."""
    key: Path | None = None
    """Its key."""
    queue: int = 16
    """Clients that may wait for a slot; more are sent away."""
    seconds: float = 600.0
    """The longest talk."""
    idle: float = 30.0
    """A talk ends after so many seconds without the user's sound."""
    grace: float = 10.0
    """For so many seconds the slot is kept of a client that lost its line and can take it up."""
    drain: float = 30.0
    """When the server is told to stop, talks may go on for so many seconds."""
    connections: int | None = None
    """At most so many from one address: 8, if not said; on localhost as many as can talk or wait."""
    buffer_ms: float = 400.0
    """Of a user's sound that may wait; the oldest is dropped beyond."""
    record: Path | None = None
    """Record talks into this folder, those of clients that agree (record=1)."""
    uploads: bool | None = None
    """Whether clients may upload voices: if not said, only on localhost."""
    proxied: bool = False
    """The server stands behind a proxy that sets X-Forwarded-For."""
    json: Path | None = None
    """When it is ready, also write its address, model and slots to this file."""


def main(config: ServeConfig) -> int:
    """Serve a model in real time: web page, Moshi's and PersonaPlex's clients, `duologue talk --url`."""
    import asyncio

    service = make_service(config)
    from duologue.serve.security import tls
    from duologue.serve.serving import serve

    return asyncio.run(serve(config, service, tls(config.certificate, config.key)))


def make_service(config: ServeConfig) -> Service:
    """A server without its model. Errors: UserError, options that are unsafe or out of range."""
    from duologue.serve.clock import SystemClock
    from duologue.serve.metrics import Metrics
    from duologue.serve.recording import Archive
    from duologue.serve.security import Addresses, Guard, is_local
    from duologue.serve.service import Service
    from duologue.serve.sessions import Limits, Sessions

    local, token = is_local(config.host), config.token or os.environ.get(TOKEN) or None
    if not local and token is None:
        raise UserError(f"{config.host} can be reached by others", place="--host", mend=f"set {TOKEN}, or --token")
    if not local and not config.origins:
        mend = "name the origins of pages that may connect: --origins https://talk.example.org"
        raise UserError(f"{config.host} can be reached by others", place="--host", mend=mend)
    _check_numbers(config)
    clock, metrics = SystemClock(), Metrics()
    service: list[Service] = []

    def about() -> dict[str, Any]:
        return {"model": service[0].model, "version": service[0].info()["version"]}

    archive = None
    if config.record is not None:
        archive = Archive(config.record, FRAME, about, metrics.recordings.inc)
    limits = Limits(
        queue=config.queue, idle=config.idle, seconds=config.seconds, grace=config.grace,
        buffer=config.buffer_ms / 1000,
    )  # fmt: skip
    sessions = Sessions(limits, metrics, clock.now, archive)
    most = config.connections or (10_000 if local else 8)
    guard = Guard(token=token, origins=tuple(o.rstrip("/") for o in config.origins), local=local)
    uploads = local if config.uploads is None else config.uploads
    made = Service(
        guard=guard, sessions=sessions, metrics=metrics, clock=clock, addresses=Addresses(most), uploads=uploads,
        records=archive is not None, proxied=config.proxied, model=config.model,
    )  # fmt: skip
    service.append(made)
    return made


def _check_numbers(config: ServeConfig) -> None:
    least = {
        "slots": 1, "threads": 1, "queue": 0, "seconds": 1, "idle": 1, "grace": 0, "drain": 0, "connections": 1,
        "buffer_ms": 80, "port": 0,
    }  # fmt: skip
    for name, bound in least.items():
        value = getattr(config, name)
        if value is not None and not bound <= value < 1e9:
            raise UserError(f"{value} is not {bound} or more", place=f"--{name.replace('_', '-')}")
    if config.port > 65535:
        raise UserError(f"{config.port} is no port", place="--port", mend="use 0 to 65535")


def load_model(config: ServeConfig, service: Service) -> tuple[Bundle, Scheduler]:
    """Load the model and make it ready to step. Errors: UserError as `load`, or it cannot talk at this rate."""
    import torch

    from duologue.engine.duplex import Duplex
    from duologue.engine.prompts import Prompter, tones
    from duologue.serve.scheduler import Scheduler

    torch.set_num_threads(config.threads)
    bundle = config.load()
    codec = bundle.need_codec()
    if codec.sample_rate != RATE:
        raise UserError(f"speaks at {codec.sample_rate} Hz", place=config.model, mend=f"clients send {RATE} Hz")
    cuda = bundle.lm.text_linear.weight.device.type == "cuda"
    slots = config.slots or (16 if cuda else 2)
    frames = PROMPT_FRAMES + int(config.seconds * codec.frame_rate) + 1
    duplex = Duplex(bundle.lm, codec, slots, frames=frames)
    prompter = Prompter(duplex.engine, tones(codec, kyutai=bundle.config.kyutai_codec), bundle.need_text)
    scheduler = Scheduler(
        duplex, prompter, bundle.config.sampling, service.metrics, service.sessions.post, clock=service.clock
    )
    scheduler.warm()
    return bundle, scheduler
