"""Two traps in which others were caught; the rest have their tests beside what they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duologue.audio.babble import babble
from duologue.audio.vad import VadConfig, detect_speech, detect_speech_files
from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.base.errors import UserError
from duologue.bench.conversations import Recording, hear_conversations
from duologue.bench.fdb_timing import speech_of
from duologue.bench.hearing import hear
from duologue.corpus.conversation import Conversation, Side, SoundRef
from duologue.corpus.heard import with_heard_speech
from duologue.dialogue.intervals import Intervals
from duologue.engine import export as exporting
from duologue.engine.bundle import load
from test_audio_vad import stream


def test_speech_is_where_it_is_at_every_entry_whatever_the_rate(tmp_path: Path) -> None:
    """A detector that takes 24 kHz for 16 kHz puts everything half as late again, as a published script does."""
    samples, _ = babble(8, 24_000, seed=5)
    audio, path = Audio(samples[None], 24_000), tmp_path / "sound.wav"
    write_audio(path, audio)
    audio = read_audio(path)
    (expected,) = detect_speech([audio])
    assert len(expected) > 1
    entries: dict[str, Intervals] = {
        "files": detect_speech_files([path])[0][0],
        "live": stream(audio.samples[0], 24_000, None, [1920]),
        "scored": hear([path])[path].speech,  # type: ignore[union-attr]
        "timing": speech_of(tmp_path, path.name),
    }
    write_audio(tmp_path / "copy.wav", audio)
    recording = Recording("x", ((path, 0), (tmp_path / "copy.wav", 0)))
    (described,) = hear_conversations([recording], VadConfig(), "vad", ("a", "b"))
    entries |= {"described": described.timeline.agent.speech}
    side = Side(speaker="a", sound=SoundRef(path=path))
    mined = with_heard_speech(Conversation(id="x", corpus="y", duration=audio.duration, sides=(side, side)))
    assert isinstance(mined, Conversation)
    heard = mined.sides[0].speech
    assert heard is not None
    entries |= {"mined": heard}
    for rate in (8000, 16_000, 48_000):
        entries[f"at {rate}"] = detect_speech([audio.resampled(rate)])[0]
    for name, found in entries.items():
        assert found.shape == expected.shape, name
        np.testing.assert_allclose(found, expected, atol=0.07 if name.startswith("at") else 0.035, err_msg=name)


def test_a_model_that_is_half_written_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder appears by one rename when all is in it; until then, and after a failure, there is none."""
    bundle, out = load("random:tiny", device="cpu"), tmp_path / "model"
    seen: list[Path] = []

    def interrupted(*_: object, **__: object) -> str:
        (aside,) = tmp_path.iterdir()
        seen.append(aside)
        assert not out.exists()
        assert any(p.suffix == ".safetensors" for p in aside.iterdir())  # weights are there, and no config yet
        with pytest.raises(UserError):
            load(str(out), device="cpu")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("duologue.engine.card.model_card", interrupted)
        with pytest.raises(KeyboardInterrupt):
            exporting.export(bundle, out)
    assert len(seen) == 1
    assert list(tmp_path.iterdir()) == []
    exporting.export(bundle, out)
    load(str(out), device="cpu")
    for name in ("model.safetensors", "config.json"):  # as a copy that was broken off leaves it
        (out / name).rename(tmp_path / name)
        with pytest.raises(UserError):
            load(str(out), device="cpu")
        (tmp_path / name).rename(out / name)
