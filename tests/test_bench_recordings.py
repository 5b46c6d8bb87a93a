"""Recordings of a server as samples to be scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.base.errors import UserError
from duologue.base.files import read_json, write_json
from duologue.bench.recordings import recordings, unfold
from duologue.cli import main

AGENT, USER = np.full(48_000, 0.25, np.float32), np.full(48_000, -0.5, np.float32)


def recorded(folder: Path, name: str, channels: int = 2) -> Path:
    """As `duologue serve --record` leaves it: the agent says two words."""
    write_audio(folder / f"{name}.flac", Audio(np.stack((AGENT, USER))[:channels], 24_000))
    words = [["good", [0.4, 0.6], "SPEAKER_MAIN"], ["morning", [0.6, 1.0], "SPEAKER_MAIN"]]
    write_json(folder / f"{name}.json", {"alignments": words})
    return folder / f"{name}.flac"


def test_each_recording_becomes_a_sample(tmp_path: Path) -> None:
    (tmp_path / "told").mkdir()
    recorded(tmp_path / "told", "b")
    recorded(tmp_path / "told", "a")
    (tmp_path / "told" / "c.flac").write_bytes(b"no words beside it")
    found = recordings(tmp_path / "told")
    assert [p.stem for p in found] == ["a", "b"]
    into = unfold(found, tmp_path / "samples")
    for name in "ab":
        np.testing.assert_allclose(read_audio(into / name / "output.wav").samples, AGENT[None], atol=1e-4)
        np.testing.assert_allclose(read_audio(into / name / "input.wav").samples, USER[None], atol=1e-4)
        chunks = [{"text": "good", "timestamp": [0.4, 0.6]}, {"text": "morning", "timestamp": [0.6, 1.0]}]
        assert read_json(into / name / "output.json") == {"text": "good morning", "chunks": chunks}
    (into / "a" / "output.json").write_text("kept")
    unfold(found, into)
    assert (into / "a" / "output.json").read_text() == "kept"


def test_a_folder_of_samples_is_none_of_recordings(tmp_path: Path) -> None:
    recorded(tmp_path, "a")
    (tmp_path / "1").mkdir()
    assert recordings(tmp_path) == []
    assert recordings(tmp_path / "nowhere") == []


def test_one_channel_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = recorded(tmp_path, "a", channels=1)
    with pytest.raises(UserError, match="has 1 channels"):
        unfold([path], tmp_path / "samples")
    assert not (tmp_path / "samples" / "a").exists()


def test_a_folder_of_recordings_is_scored(tmp_path: Path) -> None:
    (tmp_path / "told").mkdir()
    recorded(tmp_path / "told", "a")
    out = tmp_path / "run"
    run = ["score", "fdb-v1", "backchannel", str(tmp_path / "told"), "--out", str(out), "--no-report"]
    assert main(run) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["samples"]["a"]["status"] == "ok"
    assert sorted(p.name for p in (tmp_path / "told").iterdir()) == ["a.flac", "a.json"]
