"""A model with another of its own that transcribes: what is exported, heard, copied and refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from duologue.base.errors import UserError
from duologue.base.files import read_json, write_json
from duologue.cli import main
from duologue.codec import save_codec
from duologue.engine.bundle import Bundle, load
from duologue.engine.export import export
from duologue.engine.lineage import MOSHI, Layer
from duologue.engine.listening import transcribe
from duologue.engine.modes import Mode, Modes, read_modes, transcribing
from duologue.model.initial import random_codec
from duologue.model.presets import PRESETS
from duologue.train.tokenizer import trained
from test_model_parity import random_model
from test_model_text import _sentencepiece
from test_train_data import SENTENCES
from test_transcribe import STT, TINY, sound

HEARS = Modes(transcribe=Mode(text_delay=0.5))


EARS = Layer(what="Training", weights="calls", licence="CC BY 4.0")


def exported(folder: Path, name: str, seed: int, tokenizer: Path, **lm: object) -> Path:
    """A random model in a folder: one that talks, or (dep_q 0) one that only listens."""
    bundle = load("random:tiny@1", device="cpu")
    shape = replace(STT if lm.get("dep_q") == 0 else TINY, text_card=320)
    modes = HEARS if lm.get("dep_q") == 0 else Modes(speak=Mode())
    layers = (EARS,) if lm.get("dep_q") == 0 else (MOSHI,)
    config = replace(bundle.config, text_file=tokenizer, modes=modes, lineage=layers)
    export(replace(bundle, lm=random_model(shape, seed), config=config), folder / name)
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A talker, ears, and both together."""
    made = tmp_path_factory.mktemp("ears")
    tokenizer = _sentencepiece(made / "spm.model")
    talker = exported(made, "talker", 3, tokenizer)
    ears = exported(made, "ears", 4, tokenizer, dep_q=0)
    assert main(["export", str(talker), "-o", str(made / "both"), "--transcribe", str(ears)]) == 0
    return made


def weights(bundle: Bundle) -> dict[str, torch.Tensor]:
    return bundle.lm.state_dict()


def test_the_other_model_transcribes_and_talk_stays_as_it_is(folder: Path) -> None:
    both, talker, ears = (load(folder / name, device="cpu") for name in ("both", "talker", "ears"))
    heard = transcribe(both, sound(0.8))
    assert heard == transcribe(ears, sound(0.8)) != []
    assert all(torch.equal(x, weights(talker)[name]) for name, x in weights(both).items())
    assert both.config.modes.transcribe == Mode(text_delay=0.5, model=folder / "both" / "transcribe")
    assert all(torch.equal(x, weights(ears)[name]) for name, x in weights(transcribing(both)).items())
    assert transcribing(ears) is ears
    assert both.config.lineage == (replace(EARS, what="Training, to transcribe"), MOSHI)


def test_it_takes_the_number_format_of_the_model(folder: Path) -> None:
    both = load(folder / "both", device="cpu", dtype="bf16")
    assert {x.dtype for name, x in weights(transcribing(both)).items() if "layers" in name} >= {torch.bfloat16}


def test_copies_hold_it_too_and_moshi_s_config_does_not_change(folder: Path, tmp_path: Path) -> None:
    assert main(["export", str(folder / "both"), "-o", str(tmp_path / "copy"), "--dtype", "bf16"]) == 0
    assert transcribe(load(tmp_path / "copy", device="cpu"), sound(0.5)) != []
    copied, first = (path / "transcribe" / "model.safetensors" for path in (tmp_path / "copy", folder / "both"))
    assert copied.read_bytes() == first.read_bytes()
    assert read_json(folder / "both" / "config.json") == read_json(folder / "talker" / "config.json")


def test_what_hears_or_writes_something_else_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(ears: Path, told: str) -> None:
        assert main(["export", str(folder / "talker"), "-o", str(tmp_path / "out"), "--transcribe", str(ears)]) == 2
        said = capsys.readouterr().err
        assert told in said
        assert said.count("\n") == 1
        assert not (tmp_path / "out").exists()

    refused(folder / "talker", "has not learned to transcribe")
    shutil.copytree(folder / "ears", tmp_path / "codec")
    save_codec(random_codec(PRESETS["tiny"].codec, 8, 9, device="cpu"), tmp_path / "codec" / "mimi.safetensors")
    refused(tmp_path / "codec", "hears the codes of another codec")
    shutil.copytree(folder / "ears", tmp_path / "text")
    (tmp_path / "text" / "spm.model").write_bytes(trained(SENTENCES, 90))
    refused(tmp_path / "text", "writes with another tokenizer")


def test_the_ears_of_another_talker_are_taken(folder: Path, tmp_path: Path) -> None:
    given = ["export", str(folder / "talker"), "-o", str(tmp_path / "out"), "--transcribe", str(folder / "both")]
    assert main(given) == 0
    one, two = (path / "transcribe" / "model.safetensors" for path in (tmp_path / "out", folder / "both"))
    assert one.read_bytes() == two.read_bytes()


def test_ears_in_other_files_are_to_be_exported_first(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "ears", tmp_path / "ears")
    (tmp_path / "ears" / "model.safetensors").rename(tmp_path / "ears" / "other.safetensors")
    place = tmp_path / "ears" / "config.json"
    write_json(place, read_json(place) | {"moshi_name": "other.safetensors"})
    given = ["export", str(folder / "talker"), "-o", str(tmp_path / "out"), "--transcribe", str(tmp_path / "ears")]
    assert main(given) == 2
    assert "has no model.safetensors; write it as a folder first" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_lacks_it_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "both", tmp_path / "both")
    (tmp_path / "both" / "transcribe" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"transcribe/model\.safetensors.*modes\.transcribe\.model in duologue\.json"):
        load(tmp_path / "both", device="cpu")


def test_ears_of_fewer_words_than_the_tokenizer_s_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "both", tmp_path / "both")
    place = tmp_path / "both" / "transcribe" / "config.json"
    write_json(place, read_json(place) | {"text_card": 7})
    with pytest.raises(UserError, match="knows 7 text tokens"):
        transcribing(load(tmp_path / "both", device="cpu"))


def test_speech_has_no_model_of_its_own() -> None:
    with pytest.raises(UserError, match="declares a model of its own for speak"):
        read_modes({"speak": {"model": "mouth"}}, TINY, "m")
