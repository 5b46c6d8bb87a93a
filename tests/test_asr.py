"""Recognisers: what they get, what comes back, and what is said of what is missing. Real weights only where given."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import duologue.bench
from duologue.audio.asr import RecogniserConfig, load_recogniser, words_in_speech
from duologue.audio.wave import Audio, read_audio
from duologue.base.errors import UserError
from duologue.dialogue.timeline import Word

DIALOGUES = Path(duologue.bench.__file__).parent / "dialogues"
NO_GATE = RecogniserConfig(gate_s=None)


def tone(seconds: float, rate: int, channels: int = 1) -> Audio:
    wave = 0.1 * np.sin(np.arange(round(seconds * rate)) * 0.05)
    return Audio(np.tile(wave.astype(np.float32), (channels, 1)), rate)


@pytest.fixture
def whisper(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for faster-whisper that says the same words of every recording and records what it is given."""
    seen = SimpleNamespace(made=None, sizes=[], options=[])

    class WhisperModel:
        def __init__(self, name: str, **options: Any) -> None:
            if name == "no-such-size":
                raise ValueError("Invalid model size 'no-such-size'\nexpected one of: tiny")
            seen.made = (name, options)

        def transcribe(self, sound: np.ndarray, **options: Any) -> tuple[Iterable[Any], None]:
            seen.sizes.append((sound.dtype, sound.shape))
            seen.options.append(options)
            words = [(" there.", 0.5, 9.0), (" Hi", -0.1, 0.3), (" ", 0.3, 0.4), (" oops", 0.45, 0.4)]
            heard = [SimpleNamespace(word=w, start=s, end=e) for w, s, e in words]
            return iter([SimpleNamespace(words=heard), SimpleNamespace(words=None)]), None

    module = ModuleType("faster_whisper")
    module.WhisperModel = WhisperModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    return seen


@pytest.fixture
def parakeet(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for NeMo."""
    seen = SimpleNamespace(loaded=[], sizes=[], options={})

    class ASRModel:
        @classmethod
        def from_pretrained(cls, name: str, map_location: str) -> ASRModel:
            seen.loaded.append(("hub", name))
            return cls()

        @classmethod
        def restore_from(cls, name: str, map_location: str) -> ASRModel:
            seen.loaded.append(("file", name))
            if not Path(name).exists():
                raise FileNotFoundError(f"Can't find {name}")
            return cls()

        def to(self, device: object) -> ASRModel:
            return self

        def eval(self) -> ASRModel:
            return self

        def transcribe(self, sounds: list[np.ndarray], **options: Any) -> list[Any]:
            seen.sizes += [len(s) for s in sounds]
            seen.options = options
            words = [{"word": "yes", "start": 0.08, "end": 0.32, "start_offset": 1, "end_offset": 4}]
            return [SimpleNamespace(text="yes", timestamp={"word": words, "char": []}) for _ in sounds]

    module = ModuleType("nemo.collections.asr.models")
    module.ASRModel = ASRModel  # type: ignore[attr-defined]
    for name in ("nemo", "nemo.collections", "nemo.collections.asr"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "nemo.collections.asr.models", module)
    return seen


def test_whisper_hears_16_khz_and_its_words_are_put_in_order(whisper: SimpleNamespace) -> None:
    found = load_recogniser("base.en", "cpu", NO_GATE).transcribe([tone(1.0, 24_000), tone(2.0, 16_000)])
    assert whisper.made == ("base.en", {"device": "cpu", "device_index": 0, "compute_type": "int8"})
    assert whisper.sizes == [(np.float32, (16_000,)), (np.float32, (32_000,))]
    assert whisper.options[0]["word_timestamps"] is True
    assert found[0] == (Word("Hi", 0.0, 0.3), Word("oops", 0.45, 0.45), Word("there.", 0.5, 1.0))
    assert found[1][-1] == Word("there.", 0.5, 2.0)


def test_empty_recordings_and_empty_lists(whisper: SimpleNamespace, parakeet: SimpleNamespace) -> None:
    assert load_recogniser("tiny", "cpu", NO_GATE).transcribe([tone(0.0, 16_000)]) == [()]
    for name in ("tiny", "parakeet"):
        assert load_recogniser(name, "cpu").transcribe([]) == []


def test_two_channels_are_refused(whisper: SimpleNamespace) -> None:
    with pytest.raises(UserError, match="waveform 1: has 2 channels; choose one"):
        load_recogniser("tiny", "cpu").transcribe([tone(1, 16_000), tone(1, 16_000, channels=2)])


def test_words_on_silence_are_dropped_unless_asked_for(whisper: SimpleNamespace) -> None:
    silence = Audio(np.zeros((1, 48_000), np.float32), 16_000)
    assert load_recogniser("tiny", "cpu").transcribe([silence]) == [()]
    assert len(load_recogniser("tiny", "cpu", NO_GATE).transcribe([silence])[0]) == 3


def test_the_gate_measures_from_the_word_s_middle_to_the_nearest_speech() -> None:
    speech = np.array([[2.0, 3.0], [6.0, 7.0]])
    words = (Word("far", 0.0, 1.9), Word("near", 1.0, 2.0), Word("in", 2.2, 2.4), Word("edge", 3.4, 3.6))
    assert [w.text for w in words_in_speech(words, speech, 0.5)] == ["near", "in", "edge"]
    assert [w.text for w in words_in_speech(words, speech, 0.0)] == ["in"]
    assert words_in_speech(words, np.empty((0, 2)), 10.0) == ()


def test_parakeet_by_name_and_file(parakeet: SimpleNamespace, tmp_path: Path) -> None:
    file = tmp_path / "mine.nemo"
    file.touch()
    for name in ("parakeet", "nvidia/parakeet-tdt-0.6b-v3", file):
        found = load_recogniser(name, "cpu", NO_GATE).transcribe([tone(0.2, 48_000), tone(3.0, 24_000)])
        assert found == [(Word("yes", 0.08, 0.2),), (Word("yes", 0.08, 0.32),)]
    assert parakeet.loaded == [
        ("hub", "nvidia/parakeet-tdt-0.6b-v2"), ("hub", "nvidia/parakeet-tdt-0.6b-v3"), ("file", str(file)),
    ]  # fmt: skip
    assert parakeet.sizes[:2] == [16_000, 48_000]  # the short one is padded at its end, not by NeMo on both sides
    assert parakeet.options == {"batch_size": 2, "timestamps": True, "verbose": False}


def test_weights_that_cannot_be_loaded(whisper: SimpleNamespace, parakeet: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="no-such-size: cannot be loaded: Invalid model size 'no-such-size'; give a folder"
    ):
        load_recogniser("no-such-size", "cpu")
    with pytest.raises(UserError, match=r"holds no model\.bin"):
        load_recogniser(tmp_path, "cpu")
    with pytest.raises(UserError, match=r"absent\.nemo: cannot be loaded: Can't find"):
        load_recogniser("absent.nemo", "cpu")


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("tiny", "faster_whisper", "asr"), ("parakeet", "nemo", "parakeet")]
)
def test_what_is_not_installed_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    real = builtins.__import__

    def absent(module: str, *rest: Any, **named: Any) -> Any:
        if module.partition(".")[0] == package:
            raise ImportError(f"No module named {module!r}")
        return real(module, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError) as caught:
        load_recogniser(name, "cpu")
    assert f"pip install 'duologue[{extra}]'" in caught.value.mend


@pytest.mark.parametrize("bad", [{"beam": 0}, {"batch": 0}, {"gate_s": -1.0}, {"gate_s": float("nan")}])
def test_settings_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"recogniser.{next(iter(bad))}"):
        RecogniserConfig(**bad)


def test_real_whisper_hears_a_shipped_dialogue() -> None:
    pytest.importorskip("faster_whisper", reason="the extra `asr` is not installed")
    weights = os.environ.get("DUOLOGUE_WHISPER")
    if not weights:
        pytest.skip("no Whisper weights are here (set DUOLOGUE_WHISPER to a folder or name)")
    audio = read_audio(DIALOGUES / "smooth_turn_taking" / "1" / "output.wav")
    silence = Audio(np.zeros((1, 160_000), np.float32), 16_000)
    words, nothing = load_recogniser(weights, "cpu").transcribe([audio, silence])
    assert {"cat", "laptop", "box"} <= {w.text.lower().strip(".,") for w in words}
    assert 3.0 < words[0].start < words[-1].end < audio.duration
    assert nothing == ()
