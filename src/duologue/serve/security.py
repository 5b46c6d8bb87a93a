"""Who may talk to the server: tokens, origins, addresses, and how much each may send."""

from __future__ import annotations

import hmac
import ipaddress
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from duologue.base.errors import UserError
from duologue.client.wire import Close
from duologue.serve.protocol import RefusedError

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
MESSAGE_BYTES = 64 * 1024
"""The longest message of a client's."""
MESSAGES, MESSAGE_BURST = 200.0, 400.0
"""Messages a second, and at once."""


def is_local(host: str) -> bool:
    """Whether a host to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is asked of every client.

    Errors are `RefusedError`s of kind "token", "origin" or "host".
    """

    token: str | None = None
    """The bearer token; None: none is asked for."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that may use the server, besides its own page."""
    local: bool = True
    """Whether the server listens on this machine only: then it answers to local names only."""

    def check_token(self, authorization: str, given: str) -> None:
        """Refuse a client without the token, from the header or else the query."""
        if self.token is None:
            return
        scheme, _, value = authorization.partition(" ")
        offered = value.strip() if scheme.lower() == "bearer" else given
        if not hmac.compare_digest(offered.encode("utf-8", "replace"), self.token.encode("utf-8", "replace")):
            raise RefusedError("the token is missing or wrong", Close.POLICY, kind="token")

    def check_origin(self, origin: str | None, host: str) -> None:
        """Refuse web pages of others. Clients that are no browsers send no origin.

        Locally the name by which the server was reached must be a local one, so that no page of a stranger's whose
        name was pointed at this machine (DNS rebinding) counts as its own.
        """
        if self.local and _name(host) not in LOCAL_NAMES:
            raise RefusedError(f"this server does not answer to {host[:80]!r}", Close.POLICY, kind="host")
        if origin is None or origin.rstrip("/") in self.origins:
            return
        parts = urlsplit(origin)
        if parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower():
            return
        raise RefusedError(f"pages of {origin[:80]!r} may not use this server", Close.POLICY, kind="origin")


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class Addresses:
    """How many connections each address has."""

    def __init__(self, most: int) -> None:
        self._most, self._open = most, Counter[str]()

    @contextmanager
    def enter(self, address: str) -> Iterator[None]:
        """Count a connection while it lasts. Errors: RefusedError, it is one too many."""
        if self._open[address] >= self._most:
            raise RefusedError(f"more than {self._most} connections from one address", Close.TRY_LATER, kind="address")
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]


class Pace:
    """How fast a client may send messages."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._at, self._left = now, now(), MESSAGE_BURST

    def count(self) -> None:
        """One message more. Errors: RefusedError, that is too fast."""
        now = self._now()
        self._left, self._at = min(MESSAGE_BURST, self._left + MESSAGES * (now - self._at)), now
        if self._left < 1:
            raise RefusedError(f"more than {MESSAGES:g} messages a second", Close.POLICY, kind="pace")
        self._left -= 1


def tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """TLS by a certificate and its key; None without both. Errors: UserError, one without the other, or unreadable."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        given, missing = ("--key", "--certificate") if certificate is None else ("--certificate", "--key")
        raise UserError(f"is not enough without {missing}", place=given, mend="give both files")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        problem = error.strerror or str(error)
        raise UserError(f"cannot be used: {problem}", place=f"{certificate}, {key}", mend="give PEM files") from None
    return context
