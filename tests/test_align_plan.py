"""The arithmetic of memory says what small models really hold; a plan picks what fits and reads no weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from duologue.base.command import Group, Verb, run
from duologue.base.files import write_json
from duologue.codec.config import MimiConfig
from duologue.engine.engine import Engine
from duologue.engine.sampling import Sampling
from duologue.model.checkpoint import own_config
from duologue.model.config import LMConfig, kyutai_config
from duologue.model.lm import DuplexLM
from duologue.model.lora import LoRAConfig
from duologue.model.presets import PRESETS
from duologue.train.align_loss import KLConfig
from duologue.train.align_plan import activation_bytes, planned, ring_bytes, weights_of
from duologue.train.align_player import round_frozen, set_learning
from duologue.train.align_recipes import kyutai, kyutai_lora
from duologue.train.align_settings import AlignSettings, UpdateSettings
from test_align_learner import learner, settings
from test_align_player import LORA, in_dtype

VERBS = Group("x", {"align": Verb("x", "duologue.train.align:main")})
MOSHI, GB = PRESETS["moshi-7b"].lm, 10**9


def held(*models: DuplexLM) -> int:
    """Bytes of all storages of some models, each once."""
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in models for p in m.parameters()}
    return sum(storages.values())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("more", [{}, {"lora": LORA}, {"tokens": "all"}], ids=str)
def test_weights_adapters_gradients_and_moments_are_counted_to_the_byte(dtype: str, more: dict[str, Any]) -> None:
    how = in_dtype(settings(2, updates=1, **more), dtype)
    one = learner(how)
    precision = torch.float32 if dtype == "fp32" else torch.bfloat16
    counted = weights_of(one.model.config, how, precision)
    assert held(one.model, one.player) == counted.held + counted.player
    adapters = sum(p.numel() * 4 for name, p in one.model.named_parameters() if ".lora_" in name)
    assert counted.adapters == adapters
    learned = sum(p.numel() * 4 for p in one.model.parameters() if p.requires_grad)
    assert counted.gradients == learned
    for part in one.optimizers.parts:  # as after a step in which everything had a gradient
        for group in part.param_groups:
            for p in group["params"]:
                p.grad = torch.zeros_like(p)
    one.optimizers.step(0.0)
    states = [s for part in one.optimizers.parts for s in part.state.values()]
    moments = sum(s[name].numel() * s[name].element_size() for s in states for name in ("exp_avg", "exp_avg_sq"))
    assert counted.moments == moments
    assert counted.reference == (0 if "lora" in more else counted.held)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_and_values_are_counted_to_the_byte(dtype: torch.dtype, guidance: float) -> None:
    for config, frames in ((PRESETS["tiny"].lm, 31), (replace(PRESETS["tiny"].lm, context=20), 31)):
        engine = Engine(DuplexLM(config).to(dtype), 6, frames=frames)
        ring = engine.initial_state(Sampling(guidance=guidance)).lm.cache
        assert ring_bytes(config, 6, frames, dtype, guided=guidance != 1) == ring.numel() * ring.element_size()
    assert ring_bytes(MOSHI, 1, 1, torch.float32) == 1_048_576, "a frame of Moshi 7B in float32"


SMALL = LMConfig(
    card=64, text_card=128, dim=64, num_layers=12, num_heads=4, depformer_dim=32, depformer_num_layers=4,
    depformer_num_heads=2,
)  # fmt: skip


def saved(how: UpdateSettings, rows: int, frames: int, steps: int) -> int:
    """Bytes of all storages that a forward pass keeps for the gradient, besides weights."""
    torch.manual_seed(0)
    model = DuplexLM(SMALL)
    set_learning(model, how)
    if how.lora is not None and how.autocast:
        round_frozen(model)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept.setdefault(x.untyped_storage().data_ptr(), x)  # held, so that no other takes its place
        return x

    codes = torch.randint(0, SMALL.card, (rows, 1 + SMALL.n_q, frames))
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=how.autocast),
    ):
        hidden = model.hidden(codes, depth_steps=steps, recompute=how.recompute)
    assert hidden.text.requires_grad
    return sum(x.untyped_storage().nbytes() for place, x in kept.items() if place not in weights)


@pytest.mark.parametrize("steps", [0, 2], ids=["text", "two streams held"])
@pytest.mark.parametrize("adapters", [False, True], ids=["all weights", "adapters"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("autocast", [True, False], ids=["bf16", "fp32"])
def test_what_is_kept_for_the_gradient_is_what_a_model_keeps(
    autocast: bool, recompute: bool, adapters: bool, steps: int
) -> None:
    how = UpdateSettings(
        autocast=autocast, recompute=recompute, lora=LoRAConfig(rank=8, targets="transformer.*") if adapters else None,
        kl=KLConfig(audio=float(steps > 0), audio_streams=max(steps, 1)),
    )  # fmt: skip
    given = AlignSettings(update=how)
    counted = activation_bytes(SMALL, given, 200).kept
    counted += 0 if recompute else weights_of(SMALL, given).rounded
    assert counted == pytest.approx(saved(how, 2, 100, steps), rel=0.15)
    assert bool(activation_bytes(SMALL, given, 200).recomputed) is recompute


def test_slots_and_rows_are_the_most_that_fit_and_settings_of_one_s_own_stay() -> None:
    given = {"dtype": torch.bfloat16, "codec": MimiConfig()}
    found = [planned(MOSHI, kyutai_lora(), 823, memory=size * GB, **given) for size in (40, 80, 141)]  # type: ignore[arg-type]
    assert [plan.fits for plan in found] == [True, True, True]
    assert all(plan.slots % 16 == 0 and plan.total <= 0.9 * (plan.memory or 0) for plan in found)
    assert [plan.slots for plan in found] == sorted({plan.slots for plan in found}), "more memory, more slots"
    more = planned(MOSHI, replace_slots(kyutai_lora(), found[1].slots + 16), 823, memory=80 * GB, **given)  # type: ignore[arg-type]
    assert more.slots == found[1].slots + 16
    assert not more.fits
    full = planned(MOSHI, kyutai(), 1198, memory=80 * GB, **given)  # type: ignore[arg-type]
    assert not full.fits
    assert (full.slots, full.rows) == (16, 1), "the least, where nothing fits"
    shards = replace(kyutai(), update=replace(kyutai().update, shard=True))
    assert planned(MOSHI, shards, 1198, memory=80 * GB, processes=8, **given).fits  # type: ignore[arg-type]
    plain = planned(MOSHI, kyutai(), 1198, memory=None, **given)  # type: ignore[arg-type]
    assert (plain.slots, plain.rows) == (64, 8), "without a device's memory, the plain defaults"


def replace_slots(how: AlignSettings, slots: int) -> AlignSettings:
    return replace(how, rollouts=replace(how.rollouts, slots=slots))


def test_in_float32_with_copies_adapters_need_what_no_80_gb_hold() -> None:
    """As before rollouts were in bfloat16."""
    how = replace_slots(kyutai_lora(), 64)
    how = replace(how, update=replace(how.update, rows=8))
    before, now = (planned(MOSHI, how, 823, memory=80 * GB, dtype=x) for x in (torch.float32, torch.bfloat16))
    assert before.total > 80 * GB > now.total
    assert not before.fits
    assert now.fits


def align(*arguments: object) -> int:
    return run(VERBS, ["align", *map(str, arguments)], version="0")


def test_the_command_plans_from_shapes_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a preset, of a folder that holds no weights, and of nano on the shipped segments."""
    write_json(tmp_path / "config.json", kyutai_config(MOSHI))
    write_json(tmp_path / "duologue.json", own_config(MOSHI))
    said = []
    for name in ("random:moshi-7b@0", tmp_path):
        out = tmp_path / "plan.json"
        assert align("kyutai-lora", "--model", name, "--plan", "--memory-gb", "80", "--json", out) == 0
        said.append(json.loads(out.read_text()))
        assert f"{said[-1]['slots']} slots" in capsys.readouterr().out
    assert said[0]["parts"] == said[1]["parts"]
    assert said[0]["fits"]
    assert said[0]["how"] == "arithmetic on shapes, not measured"
    assert align("nano-demo", "--plan", "--device", "cpu") == 0
    assert "32 slots, 32 rows" in capsys.readouterr().out
    assert align("kyutai-2606.11167", "--model", "random:moshi-7b", "--plan", "--memory-gb", "80") == 0
    assert "does not fit 80 GB" in capsys.readouterr().out


def test_what_cannot_be_planned_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "config.json", {"model_type": "moshi"})
    for arguments, said in (
        (["kyutai-lora", "--model", str(tmp_path)], "does not tell its shape without its weights"),
        (["wavalign", "--model", "random:moshi-7b"], "nothing says how long segments are"),
    ):
        assert align(*arguments, "--plan", "--memory-gb", "80") == 2
        assert said in capsys.readouterr().err
