"""The mixes that nano was taught with train a step, on a tiny corpus in place of theirs."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.base.metrics import read_rows
from duologue.codec import save_codec
from duologue.codec.tokens import codes_hash
from duologue.model.initial import random_codec
from duologue.model.presets import PRESETS
from duologue.train.lm import TrainLMConfig, main
from duologue.train.lm_learner import LMLearning
from duologue.train.lm_loss import Weights
from duologue.train.loop import LoopConfig
from duologue.train.tokenizer import trained
from test_train_data import SENTENCES, tiny_corpus

MIXES = Path(__file__).parents[1] / "docs" / "nano"
HOW: dict[str, dict[str, Any]] = {
    "words": {},
    "mix": {"blind": 0.1, "text_dropout": 0.1},
    "heard": {"spelling": 1.0, "text_dropout": 0.5},
    "listen": {"spelling": 1.0, "blind": 0.05, "text_dropout": 0.25},
    "mix2": {"spelling": 0.5, "foresight": 0.5, "blind": 0.1, "text_dropout": 0.1},
}
"""What docs/nano.md asks for with each."""


def test_each_mix_is_tried() -> None:
    if MIXES.is_dir():
        assert {path.stem for path in MIXES.glob("*.yaml")} == set(HOW)


@pytest.mark.parametrize("name", HOW)
def test_a_mix_trains_a_step(name: str, tmp_path: Path) -> None:
    if not MIXES.is_dir():
        pytest.skip("the documentation is not here")
    codec = random_codec(PRESETS["tiny"].codec, 8, 0, device="cpu")
    save_codec(codec, tmp_path / "codec.safetensors")
    (tmp_path / "text.model").write_bytes(trained(SENTENCES, 90))
    tiny_corpus(tmp_path, codec=codes_hash(codec))
    chats = [f"A: {said}\nB: {answer}\n" for said, answer in pairwise(SENTENCES)]
    (tmp_path / "chats.txt").write_text("\n".join(chats))
    mix = (MIXES / f"{name}.yaml").read_text().replace("corpus: chitchat", "corpus: chats.txt")
    mix = re.sub(r"\bcorpus: \w+\b(?!\.)", "corpus: corpus", re.sub(r"\btokens: [\w/]+", "tokens: tokens", mix))
    (tmp_path / "mix.yaml").write_text(mix)
    how = LMLearning(batch=4, frames=80, autocast=False, weights=Weights(quiet=0.5), **HOW[name])
    once = LoopConfig(steps=1, log_every=1, validate_every=100)
    config = TrainLMConfig(
        mix=tmp_path / "mix.yaml", out=tmp_path / "run", codec=tmp_path / "codec.safetensors",
        tokenizer=tmp_path / "text.model", preset="tiny", learning=how, loop=once, device="cpu",
    )  # fmt: skip
    assert main(config) == 0
    row = read_rows(tmp_path / "run" / "metrics.jsonl")[0]
    assert all(np.isfinite(value) for value in row.values())
    assert ("letters" in row, "ahead" in row) == ("spelling" in HOW[name], "foresight" in HOW[name])
