"""Clients: `duologue talk --url`, and Moshi's own, unchanged."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.base.errors import UserError
from duologue.cli import main
from duologue.client.connection import Ended, address, connect
from duologue.client.sound import Samples
from duologue.client.talking import talk
from serving import Running, bundle, noise, running

NOISE = noise(12, 1).ravel()


class Ticking:
    """Lets the server's time go on whenever its sound is there, as fast as everybody is done."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._task = asyncio.ensure_future(self._tick())

    async def _tick(self) -> None:
        while True:
            await self._server.clock.quiet()
            lines = [s.line.ear for s in self._server.service.sessions._seated.values()]
            if (
                not lines
                or all(ear.counts().buffered >= 1920 for ear in lines)
                or not any(s.begun is not None for s in self._server.service.sessions._seated.values())
            ):
                self._server.clock.advance()
            await asyncio.sleep(0.001)

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@pytest.fixture
def url() -> Iterator[str]:
    """A server in a thread of its own, for commands that have their own loop."""
    found: list[str] = []
    ready, done = threading.Event(), threading.Event()

    def serve() -> None:
        async def run() -> None:
            async with running() as server, Ticking(server):
                found.append(server.url.replace("http", "ws"))
                ready.set()
                await asyncio.to_thread(done.wait)

        asyncio.run(run())

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(20)
    yield found[0]
    done.set()
    thread.join(20)


def user_file(folder: Path) -> Path:
    write_audio(folder / "user.wav", Audio(NOISE[None], 24000))
    return folder / "user.wav"


def test_talk_with_a_server_writes_what_talk_writes(url: str, tmp_path: Path, capsys: Any) -> None:
    user, out = user_file(tmp_path), tmp_path / "out.wav"
    assert main(["talk", str(user), "-o", str(out), "--url", url, "--seed", "5"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{out}: 1.0 s, ")
    audio = read_audio(out)
    assert (audio.rate, audio.samples.shape) == (24000, (2, len(NOISE)))
    np.testing.assert_array_equal(audio.samples[1], NOISE)
    assert not audio.samples[0, :3840].any()
    assert audio.samples[0, 3840:].any()
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["server"]["settings"]["text_seed"] == 5
    assert told["agent"]["words"][0]["word"].startswith("w")
    assert told["made"]["config"]["url"] == url


def test_a_voice_file_is_uploaded(url: str, tmp_path: Path) -> None:
    user = user_file(tmp_path)
    options = ["--url", url, "--voice-prompt", str(user)]
    assert main(["talk", str(user), "-o", str(tmp_path / "out.wav"), *options]) == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["server"]["settings"]["voice_prompt"].startswith("upload-")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--url", "URL", "--voice-prompt", "none"], "the server ended the talk: voice_prompt='none' is no voice"),
        (["--url", "URL", "--text-prompt", "x" * 1001], "text_prompt has 1001 characters"),
        (["--url", "URL", "--model", "mini"], "--model: is the server's to decide"),
        (["--url", "ws://127.0.0.1:9"], "ws://127.0.0.1:9: cannot be reached"),
        (["--url", "ftp://x"], "ftp://x: is no address of a server"),
    ],
)
def test_mistakes_are_one_line(url: str, tmp_path: Path, capsys: Any, options: list[str], named: str) -> None:
    given = [url if option == "URL" else option for option in options]
    assert main(["talk", str(user_file(tmp_path)), "-o", str(tmp_path / "out.wav"), *given]) == 2
    assert named in capsys.readouterr().err


def test_addresses() -> None:
    assert address("localhost:8998") == "http://localhost:8998/api/chat"
    assert address("wss://talk.example.org/duologue/") == "https://talk.example.org/duologue/api/chat"
    assert address("ws://h:1/api/chat", "/api/voices") == "http://h:1/api/voices"
    with pytest.raises(UserError, match="no address"):
        address("ws://")


def test_a_server_that_ends_a_talk_leaves_what_was_said() -> None:
    async def test() -> None:
        async with running() as server, Ticking(server):
            frames = 0

            def end() -> None:
                nonlocal frames
                frames += 1
                if frames == 10:
                    (session,) = server.service.sessions._seated.values()
                    server.service.sessions.end(session, "enough", 1012, why="test")  # type: ignore[arg-type]

            talked = await talk(server.url, NOISE, on_frame=end)
            assert talked.ended == "enough"
            assert talked.agent.shape == NOISE.shape
            with pytest.raises(Ended, match="no such session"):
                async with connect(server.url, {"resume": "x"}):
                    pass

    asyncio.run(asyncio.wait_for(test(), 60))


class Devices(types.ModuleType):
    """sounddevice without devices."""

    class InputStream:
        def __init__(self, **options: Any) -> None:
            self.options = options

        def __enter__(self) -> None:
            return None

        def __exit__(self, *_: object) -> None:
            return None

    OutputStream = InputStream


@pytest.fixture
def moshi_client(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """moshi 0.2.13's client, with a sounddevice that has no devices."""
    import warnings

    monkeypatch.setitem(sys.modules, "sounddevice", Devices("sounddevice"))
    monkeypatch.delitem(sys.modules, "moshi.client", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("moshi.client", reason="moshi is not installed")


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"text_prompt": "", "voice_prompt": "", "text_temperature": "0.7", "text_topk": "25", "pad_mult": "0"},
        {"text_prompt": "Be kind.", "voice_prompt": "", "text_seed": "12", "audio_seed": "13"},
    ],
    ids=["moshi", "personaplex", "prompted"],
)
def test_moshi_s_client_talks_unchanged(moshi_client: Any, query: dict[str, str]) -> None:
    """Its `Connection` is driven by what its sound card would give and take, frame by frame."""
    import aiohttp
    from moshi.client_utils import RawPrinter

    printed = io.StringIO()

    async def test() -> list[Samples]:
        async with running(bundle()) as server, Ticking(server), aiohttp.ClientSession() as session:
            url = f"{server.url.replace('http', 'ws')}/api/chat"
            async with session.ws_connect(url, params=query) as socket:
                client = moshi_client.Connection(RawPrinter(printed, printed), socket, asyncio.get_event_loop())
                running_client = asyncio.ensure_future(client.run())
                while not any(s.begun is not None for s in server.service.sessions._seated.values()):
                    await asyncio.sleep(0.001)
                heard = []
                for frame in noise(10, 2) * 0.3:
                    client._on_audio_input(frame[:, None], 1920, None, None)
                    while client._output_queue.empty():
                        await asyncio.sleep(0.001)
                    out = np.zeros((1920, 1), np.float32)
                    client._on_audio_output(out, 1920, None, None)
                    heard.append(out[:, 0])
                await socket.close()
                await running_client
                return heard

    heard = asyncio.run(asyncio.wait_for(test(), 60))
    assert np.abs(np.stack(heard)[3:]).max() > 0.01
    assert " w" in printed.getvalue()
