"""`--lora` on every verb that runs a model: adapters are merged as it is loaded, and mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from duologue.audio.wave import Audio, write_audio
from duologue.bench.evaluate import EvaluateNanoConfig
from duologue.bench.evaluate_fdb import EvaluateFdbConfig
from duologue.bench.fdb_run import Ref, loaded
from duologue.cli import main
from duologue.codec.tokens import read_tokens, weights_hash
from duologue.engine.asked import ModelOptions
from duologue.engine.bundle import load
from duologue.engine.export import export
from duologue.engine.speak import SpeakConfig
from duologue.engine.talk import TalkConfig
from duologue.engine.transcribe import TranscribeConfig
from duologue.model.lora import LoRAConfig, adapted_layers, add_lora
from duologue.model.lora_files import save_lora
from duologue.serve.command import ServeConfig

TINY = "random:tiny"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lora/ and the model into which it was merged."""
    folder, bundle = tmp_path_factory.mktemp("adapters"), load(TINY, device="cpu")
    add_lora(bundle.lm, LoRAConfig(rank=3, scaling=1.5))
    generator = torch.Generator().manual_seed(0)
    for layer in adapted_layers(bundle.lm).values():
        layer.lora_B.weight.data.normal_(0, 0.1, generator=generator)
    save_lora(bundle.lm, folder / "lora")
    export(bundle, folder / "model")
    return folder


@pytest.fixture
def user(tmp_path: Path) -> Path:
    sound = 0.2 * np.random.default_rng(0).standard_normal((1, 16000)).astype(np.float32)
    write_audio(tmp_path / "user.wav", Audio(sound, 16000))
    return tmp_path / "user.wav"


def test_a_talk_with_adapters_is_one_with_the_merged_model(adapters: Path, user: Path, tmp_path: Path) -> None:
    given = ["talk", str(user), "--device", "cpu", "-o"]
    assert main([*given, str(tmp_path / "a.wav"), "--model", TINY, "--lora", str(adapters / "lora")]) == 0
    assert main([*given, str(tmp_path / "b.wav"), "--model", str(adapters / "model")]) == 0
    assert main([*given, str(tmp_path / "c.wav"), "--model", TINY]) == 0
    one, two, plain = (read_tokens(tmp_path / f"{name}.safetensors")[0] for name in "abc")
    assert torch.equal(one, two)
    assert not torch.equal(one, plain)
    said, other = (json.loads((tmp_path / f"{name}.json").read_text())["made"] for name in "ab")
    assert said["weights"] == other["weights"]
    assert said["config"]["lora"] == str(adapters / "lora")


@pytest.mark.parametrize(
    "verb", [TalkConfig, SpeakConfig, TranscribeConfig, ServeConfig, EvaluateNanoConfig, EvaluateFdbConfig]
)
def test_every_verb_that_runs_a_model_takes_adapters(verb: type) -> None:
    assert issubclass(verb, ModelOptions)


def test_what_is_loaded_has_them_merged_and_says_so(adapters: Path) -> None:
    options = ModelOptions(model=TINY, lora=str(adapters / "lora"), device="cpu")
    lm = options.load().lm
    assert not adapted_layers(lm)
    assert weights_hash(lm) == weights_hash(load(adapters / "model", device="cpu").lm)
    assert options.title == f"{TINY} with {adapters / 'lora'}"
    assert options.short == f"{TINY} with lora"
    again = loaded(Ref(TINY, "cpu", "auto", str(adapters / "lora"))).lm
    assert weights_hash(again) == weights_hash(lm)


def test_an_export_is_the_merged_model(adapters: Path, tmp_path: Path) -> None:
    assert main(["export", TINY, "-o", str(tmp_path / "out"), "--lora", str(adapters / "lora")]) == 0
    assert weights_hash(load(tmp_path / "out", device="cpu").lm) == weights_hash(
        load(adapters / "model", device="cpu").lm
    )


@pytest.mark.parametrize(
    "verb",
    [
        ["talk", "USER", "-o", "OUT.wav"],
        ["speak", "hello", "-o", "OUT.wav"],
        ["transcribe", "USER"],
        ["serve", "--port", "0"],
        ["evaluate", "nano", "-o", "OUT"],
        ["evaluate", "fdb-v1", "--data", "SAMPLES", "-o", "OUT"],
    ],
    ids=lambda verb: " ".join(verb[:2]),
)
def test_a_file_without_adapters_is_one_line(
    verb: list[str], adapters: Path, user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "samples" / "1").mkdir(parents=True)
    user.rename(tmp_path / "samples" / "1" / "input.wav")
    names = {"USER": tmp_path / "samples" / "1" / "input.wav", "SAMPLES": tmp_path / "samples"}
    given = [str(names.get(x, tmp_path / x if x.startswith("OUT") else x)) for x in verb]
    file = adapters / "model" / "model.safetensors"
    assert main([*given, "--model", TINY, "--device", "cpu", "--lora", str(file)]) == 2
    error = capsys.readouterr().err
    assert error == f"duologue: {file}: holds no adapters; name a file of lora_A and lora_B weights\n"


def test_adapters_are_not_for_the_model_that_nano_transcribes_with(
    user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = load("nano", device="cpu")
    add_lora(bundle.lm, LoRAConfig(rank=1, targets="text_linear"))
    save_lora(bundle.lm, tmp_path / "lora")
    assert main(["transcribe", str(user), "--device", "cpu", "--lora", str(tmp_path / "lora")]) == 2
    assert (
        "--lora: nano transcribes with a model of its own, which these adapters are not for" in capsys.readouterr().err
    )


def test_a_server_s_adapters_are_its_own(user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["talk", str(user), "-o", str(tmp_path / "x.wav"), "--url", "ws://localhost:1", "--lora", "x"]
    assert main(given) == 2
    assert "--lora: is the server's to decide" in capsys.readouterr().err
