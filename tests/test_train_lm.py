"""`duologue train lm`: optimizers, the loop, and the command end to end; after a kill, the same numbers."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duologue.audio.wave import Audio
from duologue.base.command import Group, Verb, run
from duologue.base.errors import UserError
from duologue.base.files import read_json
from duologue.base.metrics import read_rows
from duologue.base.runs import RunFolder
from duologue.codec import save_codec
from duologue.codec.tokens import codes_hash
from duologue.corpus.token_cache import CacheHeader
from duologue.engine.bundle import Bundle, load
from duologue.engine.converse import Conversation, Setup, converse
from duologue.engine.duplex import Duplex
from duologue.engine.listening import transcribe
from duologue.engine.modes import Mode, Modes
from duologue.engine.prompts import Prompter, tones
from duologue.engine.sampling import GREEDY
from duologue.model.initial import random_codec
from duologue.model.presets import PRESETS
from duologue.train.lm import TrainLMConfig, begin, declared, main
from duologue.train.lm_learner import LMLearner, LMLearning
from duologue.train.lm_loss import Weights
from duologue.train.loop import LoopConfig, train
from duologue.train.optimizers import OptimizerConfig, Optimizers
from duologue.train.talks import cache_header, read_mix
from duologue.train.tokenizer import trained
from test_model_parity import random_model
from test_train_data import SENTENCES, excerpts, put, tiny_corpus

TINY = PRESETS["tiny"].lm
MIX = """
text_delay: 0.4
speak_prompt: be kind
sources:
- {corpus: corpus, tokens: tokens, prompts: [be kind], voiced: 0.3, dense: 0.3}
- {corpus: corpus, tokens: tokens, prompts: [transcribe, write it down], prompted: 1, task: transcribe, weight: 0.5}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec, a tokenizer, a corpus with tokens, and a mix.yaml of two tasks."""
    folder = tmp_path_factory.mktemp("lm")
    codec = random_codec(PRESETS["tiny"].codec, 8, 0, device="cpu")
    save_codec(codec, folder / "codec.safetensors")
    (folder / "text.model").write_bytes(trained(SENTENCES, 90))
    tiny_corpus(folder, codec=codes_hash(codec))
    put(folder, "mix.yaml", MIX)
    return folder


BIG = ["perhaps another sentence with quite different words would make the vocabulary somewhat larger"] * 3


def header(files: Path) -> CacheHeader:
    return cache_header(read_mix(files / "mix.yaml"), files)


def talk(bundle: Bundle, user: Audio) -> Conversation:
    """A conversation with a recorded user."""
    duplex = Duplex(bundle.lm, bundle.need_codec(), 1)
    prompter = Prompter(duplex.engine, tones(bundle.need_codec(), kyutai=False), bundle.need_text)
    return converse(duplex, [user], [Setup(sampling=GREEDY, text_prompt="be kind")], prompter, bundle.text)[0]


def config(files: Path, out: Path, steps: int = 4, *, loop: Mapping[str, Any] = {}, **learning: Any) -> TrainLMConfig:
    small = {"batch": 2, "frames": 40, "autocast": False, "weights": Weights(quiet=0.5)} | learning
    return TrainLMConfig(
        mix=files / "mix.yaml", out=out, codec=files / "codec.safetensors", tokenizer=files / "text.model",
        preset="tiny", held_out=0.34, learning=LMLearning(**small), seed=3, device="cpu",
        loop=LoopConfig(**{"steps": steps, "log_every": 2, "validate_every": 100, "save_minutes": 0.0} | loop),
    )  # fmt: skip


class TestOptimizers:
    def test_muon_moves_the_matrices_of_layers_and_nothing_else(self) -> None:
        model = random_model(TINY)
        adam, muon = Optimizers(model, OptimizerConfig()).parts
        assert isinstance(muon, torch.optim.Muon)
        names = {id(p): name for name, p in model.named_parameters()}
        by_muon = {names[id(p)] for g in muon.param_groups for p in g["params"]}
        matrices = {
            f"{stack}.layers.{i}.{part}"
            for stack, sets in (("transformer", 1), ("depformer", 8)) for i in range(2)
            for part in [
                *(f"self_attn.{p}_projs.{s}.weight" for p in ("in", "out") for s in range(sets)),
                *(f"gating{f'.{s}' * (sets > 1)}.linear_{p}.weight" for p in ("in", "out") for s in range(sets)),
            ]
        }  # fmt: skip
        assert by_muon == matrices
        tables, scales = ({names[id(p)] for p in g["params"]} for g in adam.param_groups)
        assert by_muon | tables | scales == set(names.values())
        assert all(name.endswith("alpha") for name in scales)
        assert {"text_emb.weight", "text_linear.weight", "linears.3.weight"} <= tables
        assert [g["weight_decay"] for g in adam.param_groups] == [0.02, 0.0]

    @pytest.mark.parametrize("kind", ["muon", "adamw"])
    def test_steps_lower_a_loss_and_a_restored_state_goes_on_alike(self, kind: Any) -> None:
        def loss(model: torch.nn.Module) -> torch.Tensor:
            codes = torch.randint(0, 60, (2, 17, 12), generator=torch.Generator().manual_seed(0))
            out = model(codes, depth_steps=0)
            return torch.nn.functional.cross_entropy(out.text_logits.flatten(0, 1), codes[:, 0].flatten())

        def walk(model: torch.nn.Module, optimizers: Optimizers, steps: int) -> list[float]:
            found = []
            for _ in range(steps):
                now = loss(model)
                now.backward()
                optimizers.step(1.0)
                found.append(float(now.detach()))
            return found

        how = OptimizerConfig(kind=kind, rate=3e-3)
        model = random_model(TINY)
        optimizers = Optimizers(model, how)
        values = walk(model, optimizers, 8)
        assert values[-1] < 0.7 * values[0]
        other = random_model(TINY, seed=5)
        again = Optimizers(other, how)
        walk(other, again, 1)
        other.load_state_dict(model.state_dict())
        again.restore(deepcopy(optimizers.state()))
        assert walk(other, again, 3) == walk(model, optimizers, 3)

    def test_a_gradient_that_is_not_finite_moves_nothing(self) -> None:
        model = random_model(TINY)
        optimizers, before = Optimizers(model, OptimizerConfig()), model.out_norm.alpha.detach().clone()
        model.out_norm.alpha.grad = torch.full_like(before, torch.inf)
        assert not torch.isfinite(optimizers.step(1.0))
        assert torch.equal(model.out_norm.alpha, before)
        assert model.out_norm.alpha.grad is None

    def test_gradients_are_clipped(self) -> None:
        model = torch.nn.Linear(2, 1, bias=False)
        model.weight.grad = torch.tensor([[30.0, 40.0]])
        optimizers = Optimizers(model, OptimizerConfig(kind="adamw", clip=1.0))
        seen = []
        optimizers.parts[0].register_step_pre_hook(lambda *_: seen.append(model.weight.grad.clone()))
        assert float(optimizers.step(1.0)) == 50
        torch.testing.assert_close(seen[0], torch.tensor([[0.6, 0.8]]))

    @pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"clip": 0.0}, {"decay": -1.0}, {"flat": 2.0}, {"warmup": -1}])
    def test_what_makes_no_sense_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(UserError, match="optimizer"):
            OptimizerConfig(**wrong)


@dataclass
class Counter:
    """Something to learn: a number that is multiplied in each step."""

    value: float = 1.0
    die_at: int = -1
    loss: float = 1.0
    published: int = 0

    def step(self, number: int) -> dict[str, float]:
        if number == self.die_at:
            raise KeyboardInterrupt
        self.value = self.value * 1.5 + number
        return {"loss": self.loss, "value": self.value}

    def state(self) -> dict[str, Any]:
        return {"value": self.value}

    def restore(self, state: dict[str, Any]) -> None:
        self.value = state["value"]

    def validate(self) -> dict[str, float]:
        return {"loss": 2 * self.value}

    def publish(self, run: RunFolder) -> None:
        self.published += 1


@dataclass(frozen=True, kw_only=True)
class Nothing:
    seed: int = 0


class TestLoop:
    HOW = LoopConfig(steps=7, log_every=2, validate_every=3, save_minutes=0.0)

    def go(
        self, folder: Path, learner: Counter, *, resume: bool = False, how: LoopConfig = HOW
    ) -> list[dict[str, Any]]:
        with RunFolder.create(folder, "train x", Nothing(), resume=resume) as run:
            train(learner, run, how)
            return [{k: v for k, v in row.items() if k != "seconds"} for row in run.rows()]

    def test_rows_are_means_over_steps(self, tmp_path: Path) -> None:
        rows = self.go(tmp_path / "a", learner := Counter())
        values, value = [], 1.0
        for n in range(7):
            value = value * 1.5 + n
            values.append(value)
        assert [r for r in rows if "loss" in r] == [
            {"step": s, "loss": 1.0, "value": pytest.approx(np.mean(values[a:s]))}
            for a, s in ((0, 2), (2, 4), (4, 6), (6, 7))
        ]
        assert [(r["step"], r["held_out_loss"]) for r in rows if "held_out_loss" in r] == [
            (3, 2 * values[2]), (6, 2 * values[5]), (7, 2 * values[6]),
        ]  # fmt: skip
        assert learner.published == 4  # with each checkpoint

    @pytest.mark.parametrize("at", range(1, 7))
    def test_after_a_kill_the_rows_are_those_of_a_run_that_was_left_alone(self, tmp_path: Path, at: int) -> None:
        whole = self.go(tmp_path / "whole", Counter())
        with pytest.raises(KeyboardInterrupt):
            self.go(tmp_path / "cut", Counter(die_at=at))
        assert self.go(tmp_path / "cut", Counter(), resume=True) == whole

    def test_what_is_done_is_only_published_again(self, tmp_path: Path) -> None:
        rows = self.go(tmp_path / "a", Counter())
        learner = Counter(die_at=0)
        assert self.go(tmp_path / "a", learner, resume=True) == rows
        assert learner.published == 1

    @pytest.mark.parametrize(
        "content",
        [b"", b"hello", b"PK\x03\x04 broken", b"\x80\x02}q\x00.", None],
        ids=["empty", "text", "zip", "pickle", "other"],
    )
    def test_a_broken_checkpoint_is_one_line(self, tmp_path: Path, content: bytes | None) -> None:
        self.go(tmp_path / "a", Counter())
        last = tmp_path / "a" / "checkpoints" / "step-0000007.pt"
        if content is None:
            torch.save([1, 2], last)
        else:
            last.write_bytes(content)
        with pytest.raises(
            UserError, match=r"step-0000007.pt: is no checkpoint.*; remove it to go on from step-0000006"
        ):
            self.go(tmp_path / "a", Counter(), resume=True)
        last.unlink()
        assert self.go(tmp_path / "a", Counter(), resume=True)[-1]["step"] == 7

    def test_the_last_checkpoints_are_kept_and_a_killed_write_leaves_the_former_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a full disk or a kill cuts it; nothing but whole checkpoints is left, and the run goes on from one."""
        whole = self.go(tmp_path / "whole", Counter())
        torch_save, count = torch.save, itertools.count()

        def cut(content: object, path: Path) -> None:
            if next(count) == 2:
                Path(path).write_bytes(b"PK half of it")
                raise KeyboardInterrupt
            torch_save(content, path)

        monkeypatch.setattr(torch, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            self.go(tmp_path / "a", Counter())
        folder = tmp_path / "a" / "checkpoints"
        assert sorted(path.name for path in folder.iterdir()) == ["step-0000002.pt", "step-0000004.pt"]
        assert self.go(tmp_path / "a", Counter(), resume=True) == whole
        assert sorted(path.name for path in folder.iterdir()) == ["step-0000006.pt", "step-0000007.pt"]

    def test_a_run_of_one_checkpoint_by_its_former_name_goes_on(self, tmp_path: Path) -> None:
        whole = self.go(tmp_path / "whole", Counter())
        with pytest.raises(KeyboardInterrupt):
            self.go(tmp_path / "a", Counter(die_at=3))
        folder = tmp_path / "a" / "checkpoints"
        (folder / "step-0000002.pt").rename(folder / "last.pt")
        assert self.go(tmp_path / "a", Counter(), resume=True) == whole

    def test_a_checkpoint_of_something_else_is_one_line(self, tmp_path: Path) -> None:
        self.go(tmp_path / "a", Counter())
        torch.save({"step": 2, "learner": {"weight": 1}}, tmp_path / "a" / "checkpoints" / "step-0000007.pt")
        with pytest.raises(UserError, match="does not fit this model: 'value'"):
            self.go(tmp_path / "a", Counter(), resume=True)

    def test_a_loss_that_stays_infinite_ends_the_run(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="not been finite for 100 steps"):
            self.go(tmp_path / "a", Counter(loss=float("nan")), how=LoopConfig(steps=200, validate_every=500))

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"log_every": 0}, {"save_minutes": -1.0}, {"keep_checkpoints": 0}])
    def test_what_makes_no_sense_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(UserError, match="loop"):
            LoopConfig(**wrong)


class TestLearner:
    def test_passes_are_a_larger_batch_and_each_draws_its_own(self) -> None:
        """The gradient of two passes is the mean of theirs."""

        def learner(passes: int) -> LMLearner:
            how = LMLearning(batch=2, frames=30, passes=passes, autocast=False)
            return LMLearner(random_model(TINY), excerpts(30), None, how, steps=5, seed=1, publish=lambda _: None)

        made = learner(2)
        drawn: list[torch.Tensor] = []
        batch = made.excerpts.batch
        made.excerpts.batch = lambda rng, count: (drawn.append(x := batch(rng, count)), x)[1]  # type: ignore[method-assign,func-returns-value,assignment]
        made.step(0)
        first, second = drawn[0].codes, drawn[1].codes  # type: ignore[attr-defined]
        assert not torch.equal(first, second)
        alone = learner(1)
        again = alone.excerpts.batch(np.random.default_rng([1, 0, 0]), 2)
        assert torch.equal(first, again.codes)

    def test_learning_lowers_the_loss(self) -> None:
        how = LMLearning(batch=4, frames=30, autocast=False, optimizer=OptimizerConfig(warmup=2))
        made = LMLearner(random_model(TINY, spread=0.02), excerpts(30), excerpts(30, held=True), how, steps=30, seed=1,
                         publish=lambda _: None)  # fmt: skip
        before = made.validate()
        rows = [made.step(n) for n in range(12)]
        after = made.validate()
        assert after["loss"] < before["loss"] - 0.3
        assert rows[0]["rate"] == pytest.approx(1e-3)
        assert set(rows[0]) == {"loss", "text", "words", "semantic", "acoustic", "gradient", "rate"}
        assert made.model.training

    def test_validation_is_repeatable_and_leaves_what_follows_alone(self) -> None:
        made, same = (
            LMLearner(random_model(TINY), excerpts(30), excerpts(30, held=True), LMLearning(batch=1, frames=30),
                      steps=5, seed=1, publish=lambda _: None)
            for _ in range(2)
        )  # fmt: skip
        assert made.validate() == made.validate()
        assert made.step(0) == same.step(0)


class TestVerb:
    def test_the_model_that_is_written_loads_talks_and_transcribes(
        self, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(replace(config(files, tmp_path / "run"), json=tmp_path / "last.json")) == 0
        bundle = load(tmp_path / "run" / "model", device="cpu")
        modes = bundle.config.modes
        assert modes.transcribe == Mode(prompt="transcribe", text_delay=0.4)
        assert modes.speak == Mode(prompt="be kind")
        start = begin(config(files, tmp_path), header(files))
        assert not torch.equal(bundle.lm.text_emb.weight, start.lm.text_emb.weight)
        sound = Audio(0.1 * np.random.default_rng(0).standard_normal((1, 24_000)).astype(np.float32), 24_000)
        assert talk(bundle, sound).codes.shape[0] == 17
        assert isinstance(transcribe(bundle, sound), list)
        rows = read_rows(tmp_path / "run" / "metrics.jsonl")
        assert [row["step"] for row in rows] == [2, 4, 4]
        assert all(np.isfinite(v) for row in rows for v in row.values())
        assert rows[-1]["held_out_loss"] == read_json(tmp_path / "last.json")["held_out_loss"] > 0
        assert "M parameters, 4 steps" in capsys.readouterr().out

    def test_how_closely_it_speaks_outlives_more_training(self, files: Path, tmp_path: Path) -> None:
        start = begin(config(files, tmp_path), header(files))
        guided = Modes(speak=Mode(prompt="as before", guidance=2.0))
        told = declared(replace(start, config=replace(start.config, modes=guided)), read_mix(files / "mix.yaml"))
        assert told.config.modes.speak == Mode(prompt="be kind", guidance=2.0)

    def test_after_a_kill_the_weights_are_the_same_to_the_last_bit(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        main(config(files, tmp_path / "whole", 6))
        step = LMLearner.step

        def killed(self: LMLearner, number: int) -> Mapping[str, float]:
            if number == 5:
                raise KeyboardInterrupt
            return step(self, number)

        with monkeypatch.context() as patched:
            patched.setattr(LMLearner, "step", killed)
            with pytest.raises(KeyboardInterrupt):
                main(config(files, tmp_path / "cut", 6))
        main(replace(config(files, tmp_path / "cut", 6), resume=True))
        one, two = (load(tmp_path / name / "model", device="cpu").lm.state_dict() for name in ("whole", "cut"))
        for name, x in one.items():
            assert torch.equal(x, two[name]), name

    def test_a_model_goes_on_from_another(self, files: Path, tmp_path: Path) -> None:
        main(config(files, tmp_path / "first", 2))
        follow = replace(config(files, tmp_path / "second", 1), start=str(tmp_path / "first" / "model"), codec=None,
                         tokenizer=None)  # fmt: skip
        begun = begin(follow, header(files))
        first = load(tmp_path / "first" / "model", device="cpu")
        assert torch.equal(begun.lm.text_emb.weight, first.lm.text_emb.weight)
        assert main(follow) == 0
        second = load(tmp_path / "second" / "model", device="cpu")
        assert not torch.equal(second.lm.text_emb.weight, first.lm.text_emb.weight)

    def test_a_text_model_s_weights_are_where_a_new_model_begins(self, files: Path, tmp_path: Path) -> None:
        transformers = pytest.importorskip("transformers", reason="it makes the text model")
        shape = transformers.LlamaConfig(
            vocab_size=90, hidden_size=32, intermediate_size=45, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=True,
        )  # fmt: skip
        llama = transformers.LlamaForCausalLM(shape)
        llama.save_pretrained(tmp_path / "llama")
        given = replace(config(files, tmp_path / "run", 2), text_model=tmp_path / "llama")
        lm = begin(given, header(files)).lm
        theirs = llama.state_dict()
        assert torch.equal(lm.text_emb.weight[:90], theirs["model.embed_tokens.weight"])
        assert (lm.config.text_card, lm.config.num_layers, lm.config.card) == (92, 3, 64)
        assert lm.config.depformer_dim == TINY.depformer_dim
        assert main(given) == 0
        bundle = load(tmp_path / "run" / "model", device="cpu")
        assert not torch.equal(bundle.lm.text_emb.weight, lm.text_emb.weight)
        sound = Audio(0.1 * np.random.default_rng(0).standard_normal((1, 24_000)).astype(np.float32), 24_000)
        assert talk(bundle, sound).codes.shape[0] == 17
        assert [layer.weights for layer in bundle.config.lineage] == ["llama", "corpus"]

    def test_mistakes_are_one_line(self, files: Path, tmp_path: Path) -> None:
        def refused(named: str, **changes: Any) -> None:
            with pytest.raises(UserError, match=named):
                main(replace(config(files, tmp_path / "run"), **changes))
            assert not (tmp_path / "run").exists()

        refused("--codec: is needed for a new model", codec=None)
        refused("--tokenizer: is needed", tokenizer=None)
        refused("'tiney' is no preset", preset="tiney")
        refused("--held-out", held_out=1.0)
        refused("is for a new model; leave out --start", text_model=tmp_path, start="random:tiny")
        other = tmp_path / "other.safetensors"
        save_codec(random_codec(PRESETS["tiny"].codec, 8, 1, device="cpu"), other)
        refused("the tokens come from another codec; encode the corpus again", codec=other)
        few = tmp_path / "few"
        codec = random_codec(PRESETS["tiny"].codec, 8, 0, device="cpu")
        tiny_corpus(few, codec=codes_hash(codec), codebooks=4)
        refused("the tokens have 4 codebooks a side, the model 8", mix=few / "mix.yaml")
        (tmp_path / "big.model").write_bytes(trained([*SENTENCES, *BIG], 130))
        refused("has 130 pieces, the model 128; train one of 128", tokenizer=tmp_path / "big.model")

    def test_it_is_on_the_command_line_and_its_help_needs_no_torch(self, files: Path, tmp_path: Path) -> None:
        verbs = Group("x", {"lm": Verb("a language model", "duologue.train.lm:main")})
        given = ["lm", str(files / "mix.yaml"), "-o", str(tmp_path / "run"), "--preset", "nono"]
        assert run(verbs, given, version="1") == 2
        code = "import sys, duologue.train.lm, duologue.train.tokenizer; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
