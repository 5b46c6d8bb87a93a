"""`duologue train lm --lora`: adapters alone learn, are written in Kyutai's format, and go on to the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from duologue.base.errors import UserError
from duologue.base.files import read_json
from duologue.cli import main as cli
from duologue.engine.bundle import Bundle, load
from duologue.engine.modes import Mode
from duologue.model.lora import adapted_layers
from duologue.train.lm import TrainLMConfig, main
from duologue.train.lm_learner import LMLearner
from duologue.train.lm_lora import read_training
from duologue.train.optimizers import OptimizerConfig
from test_train_lm import config, files  # noqa: F401 (a fixture)
from test_train_parallel import ADAMW, rows, same, together


@pytest.fixture(scope="module")
def start(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The folder of a model to begin with."""
    out = tmp_path_factory.mktemp("start")
    assert main(config(files, out / "run", 1)) == 0
    return out / "run" / "model"


def lora_config(files: Path, start: Path, out: Path, *said: str, steps: int = 4, **how: Any) -> TrainLMConfig:  # noqa: F811
    learning = {"optimizer": OptimizerConfig(rate=2e-2, warmup=1)} | how
    given = config(files, out, steps, **learning)
    return replace(given, start=str(start), codec=None, tokenizer=None, lora=("rank=4", "scaling=1.5", *said))


def weights(bundle: Bundle) -> dict[str, torch.Tensor]:
    return dict(bundle.lm.state_dict())


def test_adapters_are_written_and_loaded_over_the_model_that_they_began_from(
    files: Path,  # noqa: F811
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(lora_config(files, start, tmp_path / "run", "merged=true")) == 0
    assert "M parameters, of which 0." in capsys.readouterr().out
    folder = tmp_path / "run" / "lora"
    said = read_json(folder / "config.json")
    assert {k: v for k, v in said.items() if "lora" in k} == {"lora": True, "lora_rank": 4, "lora_scaling": 1.5}
    assert all(".lora_" in name for name in load_file(folder / "lora.safetensors"))
    before, tuned = load(start, device="cpu"), load(start, device="cpu", lora=folder)
    for name, x in weights(tuned).items():
        moved = not torch.equal(x, weights(before)[name])
        assert moved == (x.dim() == 2 and "emb" not in name), name
    # Merged before writing, or at load: the same model.
    merged = load(tmp_path / "run" / "model", device="cpu")
    assert all(torch.equal(x, weights(tuned)[name]) for name, x in weights(merged).items())
    assert tuned.config.modes.transcribe == merged.config.modes.transcribe == Mode(prompt="transcribe", text_delay=0.4)
    assert tuned.config.lineage == merged.config.lineage


def test_only_what_learns_is_kept_in_a_checkpoint(files: Path, start: Path, tmp_path: Path) -> None:  # noqa: F811
    assert main(lora_config(files, start, tmp_path / "run", "targets=transformer.*", "embeddings=true", steps=1)) == 0
    assert not (tmp_path / "run" / "model").exists()
    kept = torch.load(tmp_path / "run" / "checkpoints" / "step-0000001.pt", weights_only=True)["learner"]["model"]
    assert all(name.startswith("transformer.") for name in kept if ".lora_" in name)
    tables = {name for name in kept if ".lora_" not in name}
    assert tables == {
        "text_emb.weight", *(f"emb.{i}.weight" for i in range(16)), "depformer_text_emb.weight",
        *(f"depformer_emb.{i}.weight" for i in range(7)),
    }  # fmt: skip
    tuned = load(start, device="cpu", lora=tmp_path / "run" / "lora", fuse=False)
    assert all(name.startswith("transformer.") for name in adapted_layers(tuned.lm))
    assert torch.equal(tuned.lm.text_emb.weight, kept["text_emb.weight"])
    assert not torch.equal(tuned.lm.text_emb.weight, load(start, device="cpu").lm.text_emb.weight)


def test_after_a_kill_adapters_are_the_same_to_the_last_bit(
    files: Path,  # noqa: F811
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = LMLearner.step

    def killed(self: LMLearner, number: int) -> Mapping[str, float]:
        if number == 5:
            raise KeyboardInterrupt
        return step(self, number)

    whole, cut = (lora_config(files, start, tmp_path / name, "embeddings=true", steps=6) for name in ("whole", "cut"))
    main(whole)
    with monkeypatch.context() as patched:
        patched.setattr(LMLearner, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            main(cut)
    main(replace(cut, resume=True))
    one, two = (load_file(tmp_path / name / "lora" / "lora.safetensors") for name in ("whole", "cut"))
    assert one.keys() == two.keys()
    assert all(torch.equal(x, two[name]) for name, x in one.items())


def test_a_run_does_not_go_on_with_other_adapters(files: Path, start: Path, tmp_path: Path) -> None:  # noqa: F811
    given = lora_config(files, start, tmp_path / "run", steps=1)
    main(given)
    with pytest.raises(UserError, match="holds a run with lora"):
        main(replace(given, lora=("rank=8",), resume=True))


def test_two_processes_train_the_adapters_that_one_does(files: Path, start: Path, tmp_path: Path) -> None:  # noqa: F811
    how: dict[str, Any] = {"optimizer": ADAMW, "loop": {"log_every": 1}}
    main(lora_config(files, start, tmp_path / "alone", "merged=true", steps=3, passes=2, **how))
    pair = lora_config(files, start, tmp_path / "pair", "merged=true", steps=3, passes=1, **how)
    first, second = together(pair, tmp_path)
    assert first[0] == second[0] == 0, first[2] + second[2]
    for one, two in zip(rows(tmp_path / "alone"), rows(tmp_path / "pair"), strict=True):
        assert two == pytest.approx(one, rel=2e-5)
    a, b = (load_file(tmp_path / name / "lora" / "lora.safetensors") for name in ("alone", "pair"))
    assert same(a, b) > 100
    c, d = (load(tmp_path / name / "model", device="cpu").lm.state_dict() for name in ("alone", "pair"))
    assert same(c, d) > 100


def test_options_are_names_and_values() -> None:
    assert read_training(()).rank == 128
    given = read_training(("rank=8", "scaling=2", "targets=transformer.*", "embeddings=true"))
    assert (given.rank, given.scaling, given.targets, given.embeddings) == (8, 2.0, "transformer.*", True)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--lora", "rnk=4"], "--lora: unknown field 'rnk' of LoRATraining; did you mean rank?"),
        (["--lora", "rank=0"], "rank 0 is not 1 or more"),
        (["--lora", "rank"], "--lora: 'rank' sets nothing"),
        (["--lora", "targets=nothing"], "lora.targets: 'nothing' matches no layer"),
        (["--lora", "--embed-codes"], "--embed-codes: changes embeddings, which adapters leave as they are"),
    ],
)
def test_mistakes_are_one_line(
    files: Path,  # noqa: F811
    start: Path,
    tmp_path: Path,
    options: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["train", "lm", str(files / "mix.yaml"), "-o", str(tmp_path / "run"), "--start", str(start)]
    assert cli([*given, "--device", "cpu", *options]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_new_model_has_no_adapters(files: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(UserError, match="--lora: is for a model that exists; name it: --start MODEL"):
        main(replace(config(files, tmp_path / "run"), lora=()))


def test_frozen_weights_get_no_gradient(files: Path, start: Path, tmp_path: Path) -> None:  # noqa: F811
    seen: list[set[str]] = []
    step = LMLearner.step

    def looked(self: LMLearner, number: int) -> Mapping[str, float]:
        zero = self.optimizers.zero
        self.optimizers.zero = lambda: (  # type: ignore[method-assign]
            seen.append({n for n, p in self.model.named_parameters() if p.grad is not None}), zero()
        )[1]  # fmt: skip
        return step(self, number)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LMLearner, "step", looked)
        main(lora_config(files, start, tmp_path / "run", steps=1))
    assert seen[0]
    assert all(".lora_" in name for name in seen[0])
