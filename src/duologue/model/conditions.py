"""Conditions that are added to every frame: an entry of a table, or a vector, projected to the model's width.

Matched: moshi 0.2.13, conditioners/{base,text,tensors}.py and the `sum` half of its fuser. Parameter names are
Kyutai's: `condition_provider.conditioners.{name}.(embed|output_proj).weight` and `.learnt_padding`, kept in float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from duologue.base.config import from_dict
from duologue.base.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionConfig:
    """One condition of a model, such as the quality of the speech that it learned from."""

    name: str
    """Under which it is given."""
    kind: Literal["lut", "tensor"]
    """A table that a word is looked up in, or a vector that is given as it is."""
    dim: int
    """Width before the projection."""
    n_bins: int = 0
    """Entries of the table; one more stands for no word."""
    possible_values: tuple[str, ...] | None = None
    """The words of the entries; without them a word's entry is found by its hash."""
    force_linear: bool = True
    """Whether there is a projection even where the widths are equal."""
    learn_padding: bool = True
    """Whether an absent condition is a learnt vector, or else zero."""

    def entry(self, word: str | None) -> int:
        """The table's entry of a word; the last one for None.

        Raises:
            UserError: a word that the table has not.
        """
        if word is None:
            return self.n_bins
        if self.possible_values is None:
            return int(hashlib.sha256(word.encode("utf-8")).hexdigest(), 16) % self.n_bins
        if word not in self.possible_values:
            mend = f"use one of {', '.join(self.possible_values)}"
            raise UserError(f"{word!r} is no value of it", place=f"condition {self.name}", mend=mend)
        return self.possible_values.index(word)


KINDS: Mapping[str, frozenset[str]] = {
    "lut": frozenset({"n_bins", "dim", "tokenizer", "possible_values", "force_linear", "learn_padding"}),
    "tensor": frozenset({"dim", "force_linear", "learn_padding"}),
}
"""Keys of each kind that say something of its shape."""
WITHOUT_EFFECT = frozenset({"init_scale", "pad_empty", "output_bias", "device", "output_dim"})


def read_conditions(values: Mapping[str, Any], place: str) -> tuple[ConditionConfig, ...]:
    """The keys `conditioners` and `fuser` of a config.json.

    Raises:
        UserError: a condition that is not summed, of another kind, or with keys that nobody knows.
    """
    conditioners, fuser = values.get("conditioners") or {}, values.get("fuser") or {}
    for method in ("cross", "prepend"):
        if fuser.get(method):
            problem = f"conditions {fuser[method]} are fused by {method!r}"
            raise UserError(problem, place=f"{place}: fuser", mend="only sum is supported")
    loose = sorted(set(conditioners) ^ set(fuser.get("sum", ())))
    if loose:
        raise UserError(f"{loose[0]!r} is in only one of conditioners and fuser.sum", place=place)
    found = []
    for name in fuser.get("sum", ()):
        where, kind = f"{place}: conditioners.{name}", conditioners[name].get("type")
        if kind not in KINDS:
            raise UserError(f"type {kind!r} is not supported", place=where, mend=f"use {' or '.join(KINDS)}")
        given = {k: v for k, v in conditioners[name].get(kind, {}).items() if k not in WITHOUT_EFFECT}
        if given.get("tokenizer", "noop") != "noop":
            raise UserError(f"tokenizer {given['tokenizer']!r} is not supported", place=where, mend="use noop")
        strange = sorted(set(given) - KINDS[kind])
        if strange:
            raise UserError(f"unknown key {strange[0]!r}", place=where)
        given.pop("tokenizer", None)
        found.append(from_dict(ConditionConfig, {"name": name, "kind": kind, **given}, place=where))
    return tuple(found)


def kyutai_conditions(conditions: Sequence[ConditionConfig]) -> dict[str, Any]:
    """The keys `conditioners` and `fuser` for these conditions; none of them for no conditions."""
    if not conditions:
        return {}
    conditioners = {}
    for c in conditions:
        shape: dict[str, Any] = {"dim": c.dim, "force_linear": c.force_linear, "learn_padding": c.learn_padding}
        if c.kind == "lut":
            values = None if c.possible_values is None else list(c.possible_values)
            shape |= {"n_bins": c.n_bins, "tokenizer": "noop", "possible_values": values}
        conditioners[c.name] = {"type": c.kind, c.kind: shape}
    return {"conditioners": conditioners, "fuser": {"sum": [c.name for c in conditions]}}


class Conditioner(nn.Module):
    """One condition, from what is given to a vector of the model's width."""

    def __init__(self, config: ConditionConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        if config.kind == "lut":
            self.embed = nn.Embedding(config.n_bins + 1, config.dim)
        straight = config.dim == dim and not config.force_linear
        self.output_proj = nn.Identity() if straight else nn.Linear(config.dim, dim, bias=False)
        if config.learn_padding:
            self.learnt_padding = nn.Parameter(0.2 * torch.randn(1, 1, dim))

    def forward(self, given: Sequence[str | Tensor | None]) -> Tensor:
        """One value per row, None where there is none, to [B, 1, dim]."""
        like = next(self.parameters())
        present = torch.tensor([x is not None for x in given], device=like.device)[:, None, None]
        if self.config.kind == "lut":
            entries = [self.config.entry(x if isinstance(x, str) else None) for x in given]
            inner = self.embed(torch.tensor(entries, device=like.device))[:, None]
        else:
            rows = [x if isinstance(x, Tensor) else like.new_zeros(self.config.dim) for x in given]
            inner = torch.stack([row.to(like) for row in rows])[:, None]
        y: Tensor = self.output_proj(inner)
        absent = self.learnt_padding if self.config.learn_padding else torch.zeros_like(y)
        return torch.where(present, y, absent)


class ConditionProvider(nn.Module):
    """All conditions of a model. What they add up to is given to `DuplexLM.forward` and to a session."""

    def __init__(self, conditions: Sequence[ConditionConfig], dim: int) -> None:
        super().__init__()
        self.conditioners = nn.ModuleDict({c.name: Conditioner(c, dim) for c in conditions})

    def forward(self, rows: Sequence[Mapping[str, str | Tensor | None]]) -> Tensor:
        """The sum of all conditions [B, 1, dim]; a row that does not name a condition goes without it.

        Raises:
            UserError: a condition that the model has not, or a value of the wrong kind or shape.
        """
        for row in rows:
            self._check(row)
        return torch.stack([f([row.get(name) for row in rows]) for name, f in self.conditioners.items()]).sum(0)

    def _check(self, row: Mapping[str, str | Tensor | None]) -> None:
        for name, value in row.items():
            if name not in self.conditioners:
                mend = f"it has {', '.join(self.conditioners) or 'none'}"
                raise UserError("is no condition of this model", place=f"condition {name}", mend=mend)
            conditioner = self.conditioners[name]
            assert isinstance(conditioner, Conditioner)
            c = conditioner.config
            fits = isinstance(value, str) if c.kind == "lut" else isinstance(value, Tensor) and value.shape == (c.dim,)
            if value is not None and not fits:
                wanted = "a word" if c.kind == "lut" else f"a vector of {c.dim}"
                raise UserError(f"is not {wanted}", place=f"condition {name}")
