"""Engines that bring no voice of their own: Kokoro, Piper, flite and espeak-ng, each through a stand-in."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.base.errors import UserError
from duologue.corpus import voice_program, voices
from duologue.corpus.voices import VoiceSpec, find_voice

MARKED = "see [[him]] go"


@pytest.fixture(autouse=True)
def _fresh_engines() -> Iterator[None]:
    voices._engine.cache_clear()
    yield
    voices._engine.cache_clear()


def module(monkeypatch: pytest.MonkeyPatch, name: str, **contents: object) -> None:
    stand_in = types.ModuleType(name)
    vars(stand_in).update(contents)
    monkeypatch.setitem(sys.modules, name, stand_in)


# Kokoro


@pytest.fixture
def kokoro(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the stand-in is asked; its weights are in `tmp_path`."""
    calls: list[Any] = []

    class Kokoro:
        def __init__(self, model: str, file: str) -> None:
            calls.append((Path(model).name, Path(file).name))

        def get_voices(self) -> list[str]:
            return ["af_heart", "am_adam", "bf_emma"]

        def get_voice_style(self, name: str) -> np.ndarray:
            return np.full((2, 1, 3), self.get_voices().index(name), np.float32)

        def create(self, text: str, voice: np.ndarray, speed: float, lang: str) -> tuple[np.ndarray, int]:
            calls.append((voice.shape, voice.dtype.name, float(voice.mean()), speed, lang))
            return np.full(12_000, 0.5, np.float32), 24_000

    module(monkeypatch, "kokoro_onnx", Kokoro=Kokoro)
    for name in ("kokoro-v1.0.onnx", "voices-v1.0.bin"):
        (tmp_path / name).write_bytes(b"x")
    return calls


def test_kokoro_speaks_with_the_user_s_weights(kokoro: list[Any], tmp_path: Path) -> None:
    voice = find_voice("kokoro/bf_emmax1.25", weights=tmp_path, times="letters")
    assert voice.speak("hello").duration == 0.5
    assert kokoro == [("kokoro-v1.0.onnx", "voices-v1.0.bin"), ((2, 1, 3), "float32", 2, 1.25, "en-gb")]
    (tmp_path / "other.onnx").write_bytes(b"x")
    voices._engine.cache_clear()
    with pytest.raises(UserError, match=r"holds 2 \.onnx files"):
        find_voice("kokoro/bf_emma", weights=tmp_path)


def test_kokoro_mixes_voices_in_equal_parts(kokoro: list[Any], tmp_path: Path) -> None:
    mixed = find_voice("kokoro/af_heart.am_adam.bf_emma@1.1", weights=tmp_path, times="letters")
    assert (mixed.spec.voice, mixed.spec.pitch) == ("af_heart.am_adam.bf_emma", 1.1)
    mixed.speak("hello")
    shape, kind, mean, _, language = kokoro[-1]
    assert (shape, kind, mean, language) == ((2, 1, 3), "float32", 1, "en-us")


@pytest.mark.parametrize("name", ["af_nobody", "af_heart.af_nobody", "af_heart.", ".af_heart", "af_heart..am_adam"])
def test_kokoro_refuses_a_mixture_with_a_voice_that_is_not_there(
    kokoro: list[Any], tmp_path: Path, name: str
) -> None:  # fmt: skip
    with pytest.raises(UserError, match=f"no voice '{name}'; use one of af_heart, am_adam, bf_emma"):
        find_voice(f"kokoro/{name}", weights=tmp_path)


# Piper


@pytest.fixture
def piper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the stand-in is asked; in `tmp_path` is a voice at its usual rate, and a small and slow one."""
    calls: list[Any] = []

    class Given(types.SimpleNamespace):
        pass

    class Config(Given):
        @staticmethod
        def from_dict(said: dict[str, Any]) -> Config:
            return Config(sample_rate=said["audio"]["sample_rate"], length_scale=said["inference"]["length_scale"])

    class Voice(Given):
        def synthesize(self, text: str, how: Given) -> Iterator[Given]:
            calls.append((text, vars(how)))
            for _ in text.split(". "):  # a chunk a sentence
                yield Given(audio_float_array=np.full(self.config.sample_rate // 2, 0.5, np.float32))

    def session(path: str, options: Given, providers: list[str]) -> object:
        calls.append((Path(path).name, options.intra_op_num_threads, providers))
        if not Path(path).read_bytes():
            raise RuntimeError("Protobuf parsing failed.\nmore")
        return object()

    module(monkeypatch, "onnxruntime", SessionOptions=Given, InferenceSession=session)
    module(monkeypatch, "piper", PiperConfig=Config, PiperVoice=Voice, SynthesisConfig=Given)
    for name, rate, length in (("en_US-joe-medium", 22_050, 1.0), ("en_GB-small-low", 16_000, 1.2)):
        (tmp_path / f"{name}.onnx").write_bytes(b"x")
        told = {"audio": {"sample_rate": rate}, "inference": {"length_scale": length}}
        (tmp_path / f"{name}.onnx.json").write_text(json.dumps(told))
    (tmp_path / "half.onnx").write_bytes(b"x")  # no .json: not whole
    return calls


def test_piper_speaks_without_chance_on_one_thread(piper: list[Any], tmp_path: Path) -> None:
    voice = find_voice("piper/en_US-joe-mediumx1.25", weights=tmp_path, times="letters")
    assert voice.speak("-well. hello").duration == pytest.approx(1.0, abs=1e-4)
    assert voice.speak("hello").duration == pytest.approx(0.5, abs=1e-4)
    still = {"noise_scale": 0.0, "noise_w_scale": 0.0, "length_scale": 0.8}
    loaded = ("en_US-joe-medium.onnx", 1, ["CPUExecutionProvider"])
    assert piper == [loaded, ("-well. hello", still), ("hello", still)]
    assert voice.licence == "see the card of Piper's voice en_US-joe-medium"


def test_piper_s_small_voices_keep_their_pace_and_their_pitch(piper: list[Any], tmp_path: Path) -> None:
    voice = find_voice("piper/en_GB-small-low", weights=tmp_path, times="letters")
    assert voice.speak("hello").duration == pytest.approx(0.5, abs=1e-4)  # at 16 kHz
    assert piper[-1][1]["length_scale"] == pytest.approx(1.2)  # its own


def test_piper_reads_no_phonemes_out_of_a_text(piper: list[Any], tmp_path: Path) -> None:
    find_voice("piper/en_US-joe-medium", weights=tmp_path, times="letters").speak(MARKED)
    assert "[[" not in piper[-1][0]


def test_what_piper_said_is_kept_by_its_version_and_its_voices(
    piper: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"piper-tts": "1.4.1"}[name])
    for _ in range(2):
        find_voice("piper/en_US-joe-medium", weights=tmp_path, cache_folder=tmp_path / "c", times="letters").speak("hi")
    assert [call[0] for call in piper] == ["en_US-joe-medium.onnx", "hi"]
    (tmp_path / "en_US-joe-medium.onnx").write_bytes(b"another")
    voices._engine.cache_clear()
    find_voice("piper/en_US-joe-medium", weights=tmp_path, cache_folder=tmp_path / "c", times="letters").speak("hi")
    assert [call[0] for call in piper[2:]] == ["en_US-joe-medium.onnx", "hi"]


def test_piper_s_mistakes_are_one_line(piper: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(voice: str, folder: Path = tmp_path) -> str:
        voices._engine.cache_clear()
        with pytest.raises(UserError) as caught:
            find_voice(f"piper/{voice}", weights=folder, times="letters").speak("hello")
        return str(caught.value)

    assert "no voice 'half'; use one of en_GB-small-low, en_US-joe-medium" in told("half")
    assert "nowhere: is no folder; " in told("en_US-joe-medium", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty: holds no voice of Piper; " in told("en_US-joe-medium", tmp_path / "empty")
    settings = tmp_path / "en_US-joe-medium.onnx.json"
    for broken, why in (("[]", "does not describe a voice"), ("{}", "does not describe a voice"), ("{", "not JSON")):
        settings.write_text(broken)
        assert f"{settings.name}" in told("en_US-joe-medium")
        assert why in told("en_US-joe-medium")
    (tmp_path / "en_GB-small-low.onnx").write_bytes(b"")
    assert "small-low.onnx: cannot be loaded: Protobuf parsing failed.; fetch" in told("en_GB-small-low")
    module(monkeypatch, "piper")  # before 1.3
    assert "pip install 'piper-tts>=1.3'" in told("en_GB-small-low")
    monkeypatch.setitem(sys.modules, "piper", None)
    assert "pip install 'piper-tts>=1.3'" in told("en_GB-small-low")


# Programs

PROGRAM = """#!{python} -SI
import json, sys, wave
args = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(args) + "\\n")
if args[0] in {answers!r}:
    print({answers!r}[args[0]])
    sys.exit({status} if args[0] == "--version" else 0)
{act}
out = args[args.index("-w" if "-w" in args else "-o") + 1]
with wave.open(out, "wb") as file:
    file.setparams((1, 2, 16000, 0, "NONE", ""))
    file.writeframes(b"\\x00\\x40" * 8000)
"""
FLITE = {"-lv": "Voices available: kal16 slt awb_time", "--version": "flite-2.2"}
ESPEAK = {
    "--voices=en": " 5  en-029  --/M  Caribbean  gmw/en-029  (en 10)\n 2  en-us  --/M  America  gmw/en-US",
    "--voices=variant": " 5  variant  --/F  female2  !v/f2",
    "--version": "eSpeak NG 1.51",
}


class Fake:
    """Writes a program into the one folder of PATH; keeps what it is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, answers: dict[str, str], *, act: str = "", status: int = 0) -> None:
        path = self._folder / name
        log = str(self._folder / "log")
        path.write_text(PROGRAM.format(python=sys.executable, log=log, answers=answers, act=act, status=status))
        path.chmod(0o755)

    def asked(self) -> list[list[str]]:
        return [json.loads(line) for line in (self._folder / "log").read_text().splitlines()]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return Fake(folder)


def without_file(call: Sequence[str]) -> list[str]:
    """The arguments of a call, but for the name of the file to write."""
    return ["FILE" if word.endswith("said.wav") else word for word in call]


@pytest.mark.parametrize("text", ["-5 degrees out", "--version", "- no", "-o x"])
def test_a_text_that_begins_with_a_dash_is_no_option(fake: Fake, text: str) -> None:
    fake.write("flite", FLITE)
    fake.write("espeak-ng", ESPEAK)
    assert find_voice("flite/slt", times="letters").speak(text).duration == 0.5
    stretched = ["-voice", "slt", "--setf", "duration_stretch=1.0000"]
    assert without_file(fake.asked()[-1]) == [*stretched, "-t", text, "-o", "FILE"]
    assert find_voice("espeak/en-us", times="letters").speak(text).duration == 0.5
    assert without_file(fake.asked()[-1]) == ["-v", "en-us", "-s", "175", "-w", "FILE", "--", text]


def test_voices_are_those_worth_using_that_the_program_has(fake: Fake) -> None:
    fake.write("flite", FLITE)
    fake.write("espeak-ng", ESPEAK)
    with pytest.raises(UserError, match=r"flite has no voice 'rms'; use one of slt, kal16$"):
        find_voice("flite/rms")
    with pytest.raises(UserError, match=r"espeak has no voice 'en-us.Annie'; use one of en-us, en-029, en-us.f2$"):
        find_voice("espeak/en-us.Annie")


def test_a_dot_is_espeak_s_plus_and_tempo_stays_in_its_range(fake: Fake) -> None:
    fake.write("espeak-ng", ESPEAK)
    for tempo, words in ((1.2, "210"), (0.4, "80"), (4.0, "450")):
        voices._engine("espeak", None).say(MARKED, "en-us.f2", tempo)
        call = fake.asked()[-1]
        assert call[:4] == ["-v", "en-us+f2", "-s", words]
        assert call[-1] == "see [ [him]] go"
    assert str(VoiceSpec.parse("espeak/en-us.f2@1.1x1.2")) == "espeak/en-us.f2@1.1x1.2"


def test_flite_tells_its_version_and_ends_with_1(fake: Fake, tmp_path: Path) -> None:
    fake.write("flite", FLITE, status=1)
    voice = find_voice("flite/slt", cache_folder=tmp_path / "cache", times="letters")
    first, again = voice.speak("hello"), voice.speak("hello")
    assert np.array_equal(first.samples, again.samples)  # type: ignore[arg-type]
    assert sum("-t" in call for call in fake.asked()) == 1


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("print('one\\nno such voice', file=sys.stderr); sys.exit(3)", "espeak-ng failed: no such voice; try"),
        ("sys.exit(3)", "espeak-ng failed: status 3; try"),
        ("sys.stderr.buffer.write(b'caf\\xe9'); sys.exit(1)", "espeak-ng failed: caf\ufffd; try"),
        ("sys.exit(0)", "espeak-ng wrote no sound of 'hello'"),
        ("open(args[5], 'w').write('RIFF'); sys.exit(0)", "espeak-ng wrote no sound of 'hello'"),
        ("sys.stdin.read(); import threading; threading.Event().wait(30)", "espeak-ng did not end in 0.5 s"),
    ],
    ids=["told", "untold", "not UTF-8", "no file", "no sound", "hangs"],
)
def test_a_program_that_fails_is_one_line(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, act: str, told: str
) -> None:  # fmt: skip
    fake.write("espeak-ng", ESPEAK, act=act)
    voice = find_voice("espeak/en-us", times="letters")
    monkeypatch.setattr(voice_program, "PATIENCE_S", 0.5 if "did not end" in told else 60.0)
    with pytest.raises(UserError) as caught:
        voice.speak("hello")
    assert str(caught.value).startswith(f"voice espeak: {told}")


def test_a_program_that_is_not_there_or_cannot_run_is_one_line(fake: Fake, tmp_path: Path) -> None:
    for name, program in (("flite/slt", "flite"), ("espeak/en-us", "espeak-ng")):
        with pytest.raises(UserError, match=f"{program} is not installed; install it .*: {program}$"):
            find_voice(name)
    broken = tmp_path / "bin" / "flite"
    broken.write_bytes(b"\x7fELF no program")
    broken.chmod(0o755)
    with pytest.raises(UserError, match="voice flite: flite cannot be started: "):
        find_voice("flite/slt")


@pytest.mark.parametrize("name", ["flite/slt", "espeak/en-gb-x-rp"])
def test_the_programs_themselves_speak(name: str) -> None:
    engine, voice = name.split("/")
    try:
        there = voices._engine(engine, None).knows(voice)
    except UserError as error:
        pytest.skip(str(error))
    if not there:
        pytest.skip(f"{engine} without {voice}")
    slow, fast = (
        find_voice(f"{name}x{tempo}", times="letters").speak("-5 is cold, is it not?") for tempo in (0.8, 1.2)
    )
    assert 0.6 < fast.duration < 0.85 * slow.duration < 5
