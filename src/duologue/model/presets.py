"""Named shapes of a language model and its codec, from one for tests to those of the released models.

What weights of the depth transformer in common save, in millions of parameters of the language model:

    weights of the depth steps                                     nano    mini
    each step its own                                              24.6   166.1
    four sets: semantic, 1, 2-3, 4-7    (0, 1, 2, 2, 3, 3, 3, 3)   19.0   136.2
    two sets: semantic, acoustic        (0, 1, 1, 1, 1, 1, 1, 1)   16.1   121.3

In nano each step its own would be half as much again, for near-copies of one acoustic step. In mini the first acoustic
codebooks, which carry most of the sound, keep weights of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from duologue.codec.config import MimiConfig
from duologue.codec.seanet import SEANetConfig
from duologue.codec.spectral import SpectralConfig
from duologue.codec.transformer import TransformerConfig
from duologue.model.config import LMConfig

SEMANTIC_APART = (0, 1, 1, 1, 1, 1, 1, 1)
"""One set of depth weights for the semantic codebook, one for all acoustic ones. Steps are still told apart: the
embedding of the codebook before and the output layer stay each step's own."""
FOUR_SETS = (0, 1, 2, 2, 3, 3, 3, 3)
"""Finer for the first codebooks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Shapes that belong together."""

    lm: LMConfig
    """The language model."""
    codec: MimiConfig | SpectralConfig
    """The codec whose codes it reads and writes."""

    @property
    def n_codebooks(self) -> int:
        """Codebooks of the codec that the model uses."""
        return codebooks(self.lm)


def codebooks(config: LMConfig) -> int:
    """Codebooks that a model's codec has to give and take."""
    return max(config.agent_streams, config.user_streams)


PRESETS: Mapping[str, Preset] = {
    "moshi-7b": Preset(lm=LMConfig(), codec=MimiConfig()),
    "personaplex-7b": Preset(lm=LMConfig(dep_q=16, user_lag=0), codec=MimiConfig()),
    "mini": Preset(
        lm=LMConfig(
            text_card=8000, dim=640, num_layers=12, num_heads=10, context=1500, depformer_dim=384,
            depformer_num_layers=4, depformer_num_heads=6, depformer_weights_per_step_schedule=FOUR_SETS,
        ),
        codec=MimiConfig(),
    ),
    "nano": Preset(
        lm=LMConfig(
            card=512, text_card=512, dim=320, num_layers=7, num_heads=5, context=1000, depformer_dim=192,
            depformer_num_layers=3, depformer_num_heads=3, depformer_weights_per_step_schedule=SEMANTIC_APART,
        ),
        codec=SpectralConfig(),
    ),
    "nano-ears": Preset(
        lm=LMConfig(
            n_q=8, dep_q=0, delays=(0,) * 9, card=512, text_card=512, dim=320, num_layers=6, num_heads=5, context=250,
        ),
        codec=SpectralConfig(),
    ),
    "tiny": Preset(
        lm=LMConfig(
            card=64, text_card=128, dim=32, num_layers=2, num_heads=2, context=50, depformer_dim=16,
            depformer_num_layers=2, depformer_num_heads=2,
        ),
        codec=MimiConfig(
            seanet=SEANetConfig(dimension=16, n_filters=2),
            transformer=TransformerConfig(num_layers=1, num_heads=2, dim_feedforward=32, context=25),
            n_q=8, bins=64, quantizer_dim=8,
        ),
    ),
}  # fmt: skip
"""moshi-7b and personaplex-7b are the released shapes. mini takes Mimi's own codes. nano is small enough to talk on two
CPU cores; nano-ears writes down what it hears, from the same codes. tiny is for tests."""
