"""Adapters in `duologue train lm`: which are trained, and what of them is written. Defaults are moshi-finetune's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from duologue.base.config import overridden, to_dict
from duologue.base.errors import UserError
from duologue.base.files import write_json
from duologue.engine.bundle import Bundle
from duologue.engine.export import export
from duologue.engine.modes import Modes
from duologue.model.checkpoint import OURS
from duologue.model.lm import DuplexLM
from duologue.model.lora import LoRAConfig, add_lora, embeddings
from duologue.model.lora_files import save_lora

FOLDER = "lora"
"""Of a run: where its adapters go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRATraining(LoRAConfig):
    """Adapters to train beside frozen weights."""

    embeddings: bool = False
    """Also train the embeddings of text and codes, whole: moshi-finetune's ft_embed."""
    merged: bool = False
    """Also write the model with the adapters merged."""


def read_training(assignments: tuple[str, ...]) -> LoRATraining:
    """What --lora says. Errors: UserError, no such field, or a value that makes no sense."""
    return overridden(LoRATraining(), assignments, place="--lora")


def prepare(model: DuplexLM, config: LoRATraining, seed: int) -> None:
    """Give the model adapters, in place; they alone learn from here on, with the embeddings if asked for.

    Args:
        model: alike in all processes.
        config: which adapters.
        seed: of what they begin as.

    Raises:
        UserError: no layer of that name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        add_lora(model, config)
    if config.embeddings:
        for table in embeddings(model).values():
            table.requires_grad_(True)


def publish(bundle: Bundle, config: LoRATraining, run: Path) -> None:
    """Write the adapters into lora/ of a run, with what they were taught and whose they are; and the merged model."""
    save_lora(bundle.lm, run / FOLDER)
    said: dict[str, Any] = {"lineage": [asdict(layer) for layer in bundle.config.lineage]}
    taught = {name: mode for name, mode in _modes(bundle.config.modes).items() if mode is not None}
    write_json(run / FOLDER / OURS, said | ({"modes": taught} if taught else {}))
    if config.merged:
        export(bundle, run / "model", force=True)


def check_start(start: str | None, config: LoRATraining, *, embed_codes: bool) -> None:
    """Errors: UserError, adapters of a model that nobody else has."""
    if start is None:
        raise UserError("is for a model that exists", place="--lora", mend="name it: --start MODEL")
    if embed_codes and not config.embeddings:
        problem = "changes embeddings, which adapters leave as they are"
        raise UserError(problem, place="--embed-codes", mend="leave it out, or add --lora embeddings=true")


def _modes(modes: Modes) -> dict[str, Any]:
    """The modes that the model itself has; one that another model does is not the adapters' own."""
    if modes.transcribe is not None and modes.transcribe.model is not None:
        modes = replace(modes, transcribe=None)
    return to_dict(modes)
