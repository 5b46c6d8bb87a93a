"""Recordings: only with consent, both sides at their time, readable by `describe`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from duologue.audio.wave import read_audio
from duologue.audio.words import read_two_sided_words
from duologue.cli import main
from duologue.engine.sampling import Sampling
from duologue.serve.recording import BLOCK, Archive
from serving import alone, bundle, exchange, noise, running, talker


def test_a_talk_is_written_with_both_sides_and_words(tmp_path: Path) -> None:
    model, user = bundle(), noise(30, 1)

    async def test() -> str:
        async with running(model, record=tmp_path) as server:
            async with talker(server, record="1", seed="5") as one:
                assert one.line.ready["settings"]["record"] is True
                for frame in user:
                    await exchange(server, [one], [frame])
                assert not [p for p in tmp_path.iterdir() if not p.name.startswith(".")]  # whole, or absent
            async with talker(server) as quiet:
                assert quiet.line.ready["settings"]["record"] is False
                await exchange(server, [quiet], [user[0]])
            return str(one.line.ready["session"])

    name = asyncio.run(asyncio.wait_for(test(), 60))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{name}.flac", f"{name}.json"]
    audio = read_audio(tmp_path / f"{name}.flac")
    assert audio.rate == 24000
    sound, tokens = alone(model, user, replace(Sampling(), text_seed=5, audio_seed=5))
    heard = np.concatenate((np.zeros(1920), sound.ravel()))[:-1920].clip(-1, 1)
    np.testing.assert_allclose(audio.samples[0], heard, atol=2 / 32768)
    np.testing.assert_array_equal(audio.samples[1], user.ravel())
    agent, other = read_two_sided_words(tmp_path / f"{name}.json")
    assert agent is not None
    assert other is None
    assert [word.text for word in agent] == [f"w{t}" for t in tokens if t >= 0 and t not in (0, 3)]
    about = json.loads((tmp_path / f"{name}.json").read_text())
    assert about["duration"] == 2.4
    assert about["settings"]["text_seed"] == 5
    run = ["describe", str(tmp_path / f"{name}.flac"), "--agent", "left", "--vad", "energy", "--no-report"]
    assert main([*run, "--out", str(tmp_path / "run")]) == 0


def test_nothing_is_recorded_where_the_server_does_not(tmp_path: Path) -> None:
    async def test() -> None:
        async with running() as server, talker(server, record="1") as one:
            assert one.line.ready["settings"]["record"] is False
            await exchange(server, [one], [noise(1, 1)[0]])

    asyncio.run(asyncio.wait_for(test(), 60))
    assert not list(tmp_path.iterdir())


def test_a_recording_that_could_not_be_written_whole_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def write(self: soundfile.SoundFile, sound: np.ndarray) -> None:
        written.append(len(sound))
        if len(written) == 2:
            raise OSError("no space left on device")

    done: list[bool] = []
    archive = Archive(tmp_path, 1920, dict, lambda: done.append(True))
    recorder = archive.record("x", {})
    monkeypatch.setattr(soundfile.SoundFile, "write", write)
    for _ in range(3 * BLOCK):
        recorder.add(np.zeros(1920, np.float32), None)
    recorder.close("goodbye")
    archive.close()
    assert len(written) == 2
    assert not done
    assert list(tmp_path.iterdir()) == []
