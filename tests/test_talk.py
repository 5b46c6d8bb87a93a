"""`duologue talk`: three files that belong together, and one line for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.cli import main
from duologue.codec.tokens import read_tokens
from duologue.engine.bundle import load


@pytest.fixture
def user(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    write_audio(tmp_path / "user.wav", Audio(0.2 * rng.standard_normal((1, 16000)).astype(np.float32), 16000))
    return tmp_path / "user.wav"


def talk(user: Path, out: Path, *options: str) -> int:
    return main(["talk", str(user), "-o", str(out), "--model", "random:tiny@3", "--device", "cpu", *options])


def test_it_writes_sound_words_and_tokens(user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talk(user, tmp_path / "out.wav") == 0
    assert "1.0 s, no tokenizer, so no words" in capsys.readouterr().out
    sound = read_audio(tmp_path / "out.wav")
    assert (sound.rate, sound.samples.shape) == (24000, (2, 24000))
    assert not sound.samples[0, :3840].any()
    assert sound.samples[0, 3840:].any()
    codes, header = read_tokens(tmp_path / "out.safetensors")
    assert codes.shape == (17, 12)
    assert (header.agent_streams, header.user_streams, header.user_lag) == (8, 8, 1)
    said = json.loads((tmp_path / "out.json").read_text())
    assert said["agent"]["words"] is None
    assert said["made"]["weights"] == header.model
    assert said["made"]["config"]["model"] == "random:tiny@3"


def test_the_same_seed_says_the_same_and_another_does_not(user: Path, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert talk(user, tmp_path / f"{name}.wav", "--seed", seed) == 0
        found.append(read_tokens(tmp_path / f"{name}.safetensors")[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_greedy_tokens_are_the_model_s_likeliest(user: Path, tmp_path: Path) -> None:
    assert talk(user, tmp_path / "out.wav", "--greedy", "--seconds", "0.8") == 0
    codes, _ = read_tokens(tmp_path / "out.safetensors")
    with torch.no_grad():
        scored = load("random:tiny@3", device="cpu").lm(codes[None]).text_logits[0].argmax(-1)
    assert torch.equal(scored[codes[0] >= 0], codes[0][codes[0] >= 0])


def test_a_voice_comes_before_the_conversation(user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert talk(user, tmp_path / "out.wav", "--voice-prompt", str(user)) == 0
    assert "after a prompt of 25 frames" in capsys.readouterr().out  # 13 of the voice, twice 6 of silence
    assert read_audio(tmp_path / "out.wav").samples.shape == (2, 24000)


def test_one_channel_of_two_is_the_user(user: Path, tmp_path: Path) -> None:
    one = read_audio(user)
    both = np.concatenate((np.zeros_like(one.samples), one.samples))
    write_audio(tmp_path / "both.wav", Audio(both, one.rate))
    assert talk(tmp_path / "both.wav", tmp_path / "a.wav", "--channel", "right") == 0
    assert talk(user, tmp_path / "b.wav") == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--text-prompt", "Be kind."], "has no text tokenizer"),
        (["--voice-prompt", "NATF0"], "'NATF0' is no voice of this model"),
        (["--voice-prompt", "none.wav"], "none.wav"),
        (["--seed", "-1"], "-1 is no seed"),
        (["--audio-temperature", "-2"], "audio_temperature"),
        (["--seconds", "0"], "--seconds"),
        (["--model", "random:nanoo"], "'nanoo' is no preset"),
        (["--dtype", "fp8"], "--dtype"),
    ],
)
def test_mistakes_are_one_line(
    user: Path, tmp_path: Path, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(user, tmp_path / "out.wav", *options) == 2
    said = capsys.readouterr().err.strip()
    assert named in said
    assert said.count("\n") == 0
    assert not list(tmp_path.glob("out*"))


def test_recordings_that_cannot_be_talked_to(user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_audio(tmp_path / "two.wav", Audio(np.zeros((2, 800), np.float32), 8000))
    (tmp_path / "empty.wav").write_bytes(b"")
    for file, out, named in (
        ("two.wav", "out.wav", "--channel left or right"),
        ("empty.wav", "out.wav", "empty.wav"),
        ("gone.wav", "out.wav", "gone.wav"),
        ("user.wav", "out.mp4", "name a file that ends in .wav or .flac"),
    ):
        assert talk(tmp_path / file, tmp_path / out) == 2
        assert named in capsys.readouterr().err
