"""Whose weights a model is made of, layer by layer, each under its own licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One training that the weights went through."""

    what: str
    """A name for people."""
    weights: str
    """Where they were published."""
    licence: str
    """Its name; "unknown" where nothing is known."""


MOSHI = Layer(what="Moshi", weights="kyutai/moshiko-pytorch-bf16", licence="CC BY 4.0")
MOSHIKA = Layer(what="Moshi (Moshika)", weights="kyutai/moshika-pytorch-bf16", licence="CC BY 4.0")
PERSONAPLEX = Layer(
    what="PersonaPlex, a change of Moshi", weights="nvidia/personaplex-7b-v1", licence="NVIDIA Open Model License"
)
INTERACTIVITY = Layer(
    what="Alignment of PersonaPlex by reinforcement learning",
    weights="kyutai/personaplex-rl-seamless",
    licence="CC BY-NC 4.0",
)
KNOWN: Mapping[str, tuple[Layer, ...]] = {
    MOSHI.weights: (MOSHI,),
    MOSHIKA.weights: (MOSHIKA,),
    PERSONAPLEX.weights: (MOSHI, PERSONAPLEX),
    INTERACTIVITY.weights: (MOSHI, PERSONAPLEX, INTERACTIVITY),
}
"""From the model cards of these repositories, oldest layer first."""
NONE = "none needed"
"""The licence of random weights."""
SPDX: Mapping[str, str] = {"CC BY 4.0": "cc-by-4.0", "CC BY-NC 4.0": "cc-by-nc-4.0", "CC BY-SA 3.0": "cc-by-sa-3.0"}
"""Names of licences on the Hugging Face hub."""


def lineage(repo: str) -> tuple[Layer, ...]:
    """The layers of a repository; one unknown layer if it is not among those known here."""
    return KNOWN.get(repo) or (Layer(what="Model", weights=repo, licence="unknown"),)


def learned(before: tuple[Layer, ...], what: str, weights: str, licence: str) -> tuple[Layer, ...]:
    """The layers after a training: those before, without random weights and without an earlier part of the same."""
    layer = Layer(what=what, weights=weights, licence=licence)
    return (*(x for x in before if x.licence != NONE and x != layer), layer)


def no_lineage(name: str) -> tuple[Layer, ...]:
    """Of random weights, in which nobody's work lies."""
    return (Layer(what="Random weights: nothing was learned", weights=name, licence=NONE),)
