"""Random codecs for tests, and the same ones built of moshi's parts."""

from __future__ import annotations

import torch

from duologue.codec.config import MimiConfig, to_kyutai
from duologue.codec.mimi import Mimi
from duologue.codec.seanet import SEANetConfig
from duologue.codec.transformer import TransformerConfig

TINY = MimiConfig(
    sample_rate=4800,
    frame_rate=100.0,
    seanet=SEANetConfig(dimension=16, n_filters=4, ratios=(4, 3, 2), n_residual_layers=2),
    transformer=TransformerConfig(num_layers=2, num_heads=2, dim_feedforward=32, context=10),
    n_q=5,
    bins=32,
    quantizer_dim=8,
)
"""48 samples a frame, two latent steps a frame, 28 thousand weights."""
MIDDLE = MimiConfig(
    seanet=SEANetConfig(dimension=192, n_filters=20),
    transformer=TransformerConfig(num_layers=3, num_heads=4, dim_feedforward=512, context=50),
    n_q=12,
    bins=512,
    quantizer_dim=64,
)
"""Mimi's rates and strides, 6 million weights."""


def random_codec(config: MimiConfig = TINY, n_codebooks: int = 4, seed: int = 0) -> Mimi:
    """A codec on whose output every weight can be seen, and whose codes are many.

    PyTorch's initial weights let a signal fade from layer to layer until all frames have one code: these are doubled.
    """
    torch.manual_seed(seed)
    codec = Mimi(config, n_codebooks).eval()
    with torch.no_grad():
        for name, x in codec.state_dict().items():
            if "layer_scale" in name or "norm" in name or name.endswith("bias"):
                x.add_(0.3 * torch.randn_like(x))
            elif name.endswith("cluster_usage"):
                x.uniform_(0.5, 2)
            elif "conv" in name:
                x.mul_(2)
    return codec


def upstream(codec: Mimi) -> torch.nn.Module:
    """moshi's codec of the same shape, with the same weights."""
    from moshi.models.loaders import get_mimi

    theirs: torch.nn.Module = get_mimi(None, to_kyutai(codec.config), num_codebooks=codec.n_codebooks)
    theirs.load_state_dict({name: x.clone() for name, x in codec.state_dict().items()})
    return theirs


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    """The same noise for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
