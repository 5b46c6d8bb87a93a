"""Voices for a server."""

from __future__ import annotations

import io
from pathlib import Path

import aiohttp

from duologue.base.errors import UserError
from duologue.client.connection import address


async def upload(url: str, path: Path, token: str | None = None) -> str:
    """Send a recording as a voice prompt; its name at the server.

    Raises:
        UserError: the file cannot be read, or the server refuses it or is not there.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", place=path) from None
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(data), filename=path.name)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.post(address(url, "/api/voices"), data=form, headers=headers) as answer,
        ):
            told = await answer.json(content_type=None)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise UserError(f"cannot be reached: {error}", place=url, mend="start one with duologue serve") from None
    if not isinstance(told, dict) or not isinstance(told.get("voice"), str):
        reason = told.get("error", "no answer") if isinstance(told, dict) else "no answer"
        raise UserError(f"the server does not take this voice: {reason}", place=path)
    name: str = told["voice"]
    return name
