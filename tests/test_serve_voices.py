"""Voice prompts: by name alone, uploaded ones by what they decode to."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile

from duologue.engine.asked import pick_voice
from duologue.engine.sampling import Sampling
from duologue.engine.voices import Voices
from serving import Running, alone, bundle, exchange, noise, running, talker
from test_serve_server import get, refusal
from test_serve_talks import assert_same


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def recording(seconds: float, rate: int = 16000, format: str = "WAV") -> bytes:
    out = io.BytesIO()
    sound = 0.3 * np.random.default_rng(0).standard_normal(int(seconds * rate))
    soundfile.write(out, sound, rate, format=format)
    return out.getvalue()


LARGE = bytes((10 << 20) + 1)


async def upload(server: Running, data: bytes, name: str = "file", **options: Any) -> tuple[int, dict[str, str]]:
    form = aiohttp.FormData()
    form.add_field(name, io.BytesIO(data), filename="../../evil.pt")
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/api/voices", data=form, **options) as answer,
    ):
        return answer.status, await answer.json()


class TestVoices:
    def test_an_uploaded_one_is_spoken_with(self, tmp_path: Path) -> None:
        model, user = bundle(), noise(4, 1)

        async def test() -> None:
            async with running(model) as server:
                status, told = await upload(server, recording(0.8))
                assert status == 200
                assert told["voice"] in json.loads((await get(server, "/api/info"))[1])["voices"]
                async with talker(server, seed="5", voice_prompt=told["voice"]) as one:
                    for frame in user:
                        await exchange(server, [one], [frame])
                    path = tmp_path / "voice.wav"
                    path.write_bytes(recording(0.8))
                    sampling = replace(Sampling(), text_seed=5, audio_seed=5)
                    assert_same(one.heard, alone(model, user, sampling, voice=pick_voice(str(path), model))[0])

        run(test())

    def test_the_model_s_own_go_by_name_or_file_name(self, tmp_path: Path) -> None:
        (tmp_path / "NATF0.wav").write_bytes(recording(0.8))
        voices = Voices()
        voices._found = {"NATF0": tmp_path / "NATF0.wav"}
        model = replace(bundle(), voices=voices)

        async def test() -> None:
            async with running(model) as server:
                for name in ("NATF0", "NATF0.pt"):
                    async with talker(server, voice_prompt=name) as one:
                        await exchange(server, [one], [noise(1, 1)[0]])
                reason, _ = await refusal(server, voice_prompt="NATF1")
                assert reason == "voice_prompt='NATF1' is no voice of this server; there are NATF0"

        run(test())

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (b"not a sound file at all", "the upload is no WAV, FLAC or Ogg file"),
            (b"", "the upload is no WAV"),
            (recording(31.0), "the upload lasts longer than 30 s"),
            (recording(0.5, format="AIFF"), "the upload is AIFF"),
            (recording(0.1), "voice: is shorter than 0.4 s"),
            (recording(1.0, rate=4000), "the upload has 1 channels at 4000 Hz"),
            (LARGE, "the upload is larger than 10 MB"),
        ],
        ids=["text", "empty", "long", "aiff", "short", "slow", "large"],
    )
    def test_what_is_no_voice_is_refused(self, data: bytes, error: str) -> None:
        async def test() -> None:
            async with running() as server:
                status, told = await upload(server, data)
                assert status == 400
                assert told["error"].startswith(error)

        run(test())

    def test_where_uploads_may_come_from(self) -> None:
        async def test() -> None:
            async with running(uploads=False) as server:
                assert await upload(server, recording(1.0)) == (400, {"error": "this server takes no uploads"})
            async with running() as server:
                status, _ = await upload(server, recording(1.0), headers={"Origin": "https://evil.example"})
                assert status == 403
                assert (await upload(server, recording(1.0), name="other"))[1] == {
                    "error": "the upload has no field file"
                }

        run(test())
