"""A server's parts, and what the model is: made before the model is loaded, filled when it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duologue
from duologue.client.wire import FRAME, RATE, Close
from duologue.engine.bundle import Bundle
from duologue.engine.sampling import Sampling
from duologue.serve.clock import Clock
from duologue.serve.metrics import Metrics
from duologue.serve.protocol import PROMPT_CHARACTERS, Asked, RefusedError
from duologue.serve.scheduler import Scheduler
from duologue.serve.security import MESSAGE_BYTES, Addresses, Guard
from duologue.serve.sessions import Sessions
from duologue.serve.voices import Shelf


@dataclass(slots=True, kw_only=True)
class Service:
    """What handlers of requests need. Belongs to the event loop."""

    guard: Guard
    sessions: Sessions
    metrics: Metrics
    clock: Clock
    addresses: Addresses
    uploads: bool = True
    records: bool = False
    proxied: bool = False
    """Whether a proxy before the server tells clients' addresses (X-Forwarded-For)."""
    model: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    """The model's own."""
    bundle: Bundle | None = None
    shelf: Shelf | None = None
    scheduler: Scheduler | None = None

    def begin(self, bundle: Bundle, scheduler: Scheduler, name: str | None = None) -> None:
        """Serve a model that is loaded, on a scheduler that delivers to `sessions.post`, under a name that clients may
        see. In the event loop."""
        self.bundle, self.scheduler, self.sampling = bundle, scheduler, bundle.config.sampling
        self.model, self.shelf = name or Path(bundle.config.name).name, Shelf(bundle)
        self.sessions.attach(scheduler, bundle.text, bundle.lm.config.audio_delay_seconds)

    def close(self) -> None:
        """End what has threads of its own."""
        if self.shelf is not None:
            self.shelf.close()
        self.sessions.close()

    @property
    def alive(self) -> bool:
        """Whether the process is of any use."""
        return self.scheduler is None or not self.scheduler.broken

    @property
    def ready(self) -> bool:
        """Whether it takes sessions."""
        return self.scheduler is not None and self.alive and not self.sessions.draining

    def check(self, asked: Asked) -> None:
        """Refuse what this model cannot do. Errors: RefusedError."""
        if self.bundle is None:
            raise RefusedError("the server is still loading; try again", Close.TRY_LATER, kind="loading")
        if asked.text_prompt and self.bundle.text is None:
            raise RefusedError("text_prompt: this model has no text tokenizer")

    def info(self) -> dict[str, Any]:
        """What `/api/info` tells."""
        s, scheduler, limits = self.sampling, self.scheduler, self.sessions.limits
        return {
            "name": "duologue", "version": duologue.__version__, "model": self.model, "ready": self.ready,
            "rate": RATE, "frame": FRAME if scheduler is None else scheduler.frame,
            "slots": 0 if scheduler is None else scheduler.slots, "free": self.sessions.free,
            "queue": self.sessions.waiting, "prompts": self.bundle is not None and self.bundle.text is not None,
            "voices": [] if self.shelf is None else self.shelf.names(),
            "settings": {
                "text_temperature": s.text_temperature, "text_topk": s.text_top_k,
                "audio_temperature": s.audio_temperature, "audio_topk": s.audio_top_k,
                "pad_temperature": s.pad_temperature, "padding_bonus": s.padding_bonus,
            },
            "limits": {
                "text_prompt": PROMPT_CHARACTERS, "seconds": limits.seconds, "idle": limits.idle,
                "grace": limits.grace, "message": MESSAGE_BYTES, "queue": limits.queue,
            },
            "record": self.records, "upload": self.uploads, "auth": self.guard.token is not None,
        }  # fmt: skip
