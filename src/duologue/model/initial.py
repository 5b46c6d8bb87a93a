"""Random weights to start from: the same for a seed, on any machine and in any number format.

Truncated normal of standard deviation 1 / sqrt(inputs), cut at three of them, as moshi 0.2.13's LMModel._init_weights;
unlike there, all layers get it. Every tensor has a random stream of its own, so that a model of 15 GB is made tensor by
tensor.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn

from duologue.base.compute import pick_device, pick_dtype
from duologue.codec.config import MimiConfig
from duologue.codec.mimi import Mimi
from duologue.codec.spectral import SpectralCodec, SpectralConfig
from duologue.codec.split import SplitCodec
from duologue.model.checkpoint import FLOAT32
from duologue.model.config import LMConfig
from duologue.model.lm import DuplexLM

SOUND = 0.3
"""Standard deviation of an embedding that begins as what the codec's first codebooks say."""
ENTRY = 0.1
"""Standard deviation of an entry of a random codec's codebooks."""


def random_lm(config: LMConfig, seed: int = 0, *, device: str = "auto", dtype: str = "auto") -> DuplexLM:
    """A language model that has learned nothing; device and dtype as `load_lm`."""
    target = pick_device(device)
    precision = pick_dtype(dtype, target)
    with torch.device("meta"):
        model = DuplexLM(config)
    state = {}
    for name, x in model.state_dict().items():
        kept = torch.float32 if name.startswith(FLOAT32) else precision
        state[name] = initial_tensor(name, tuple(x.shape), seed).to(target, kept)
    model.load_state_dict(state, assign=True)
    return model


def initial_tensor(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """One tensor of a new model, float32: ones for the scale of a norm, else random."""
    if name.endswith(".alpha"):
        return torch.ones(shape)
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    std = 1 / math.sqrt(shape[-1])
    return nn.init.trunc_normal_(torch.empty(shape), 0.0, std, -3 * std, 3 * std, generator=generator)


@torch.no_grad()
def embed_codes(model: DuplexLM, codec: SplitCodec, seed: int = 0, *, agent: bool = True) -> None:
    """Let codes be embedded as the vectors that they stand for in the codec, turned at random into the model's width.

    Semantic codes are turned in one way and acoustic ones in another, so that all refinements of a latent add up as in
    the codec, which says much more in the first of them: their sizes stay as they are to one another. Without `agent`,
    only the user's streams are.
    """
    generator = torch.Generator().manual_seed(seed)
    c = model.config
    first, rest = codec.quantizer.rvq_first, codec.quantizer.rvq_rest
    sides = [(0, c.agent_streams)] * agent + [(c.n_q - c.user_streams, c.user_streams)]
    for part, begin in ((first, 0), (rest, 1)):
        vectors = [book.entries().cpu() for book in part.codebooks()]
        vectors = [x - x.mean(0) for x in vectors]
        turned = torch.randn(vectors[0].shape[1], c.dim, generator=generator)
        scale = SOUND / (vectors[0] @ turned).std()
        for side, streams in sides:
            for embedding, x in zip(model.emb[side + begin : side + streams], vectors, strict=False):
                table = embedding.get_parameter("weight")
                table[: len(x)] = (scale * x @ turned).to(table)


def random_codec(
    config: MimiConfig | SpectralConfig, n_codebooks: int, seed: int = 0, *, device: str = "auto"
) -> Mimi | SpectralCodec:
    """A codec that has learned nothing, but whose codes follow its input and whose speech is about as loud.

    Convolutions keep the size of what passes through them, and codebooks have about the size of the latent; torch's own
    defaults would shrink every input to the same codes.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        codec: Mimi | SpectralCodec
        if isinstance(config, SpectralConfig):
            codec = SpectralCodec(config, n_codebooks)
        else:
            codec = Mimi(config, n_codebooks)
        for module in codec.modules():
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                turned = isinstance(module, nn.ConvTranspose1d)
                inputs = module.in_channels // module.groups * module.kernel_size[0]
                module.weight.normal_(0, 1 / math.sqrt(inputs / (module.stride[0] if turned else 1)))
                if module.bias is not None:
                    module.bias.zero_()
        if isinstance(codec, SpectralCodec):
            for module in codec.modules():
                if isinstance(module, nn.Linear):
                    module.weight.normal_(0, 1 / math.sqrt(module.in_features))
                    module.bias.zero_()
            codec.head.out.weight.mul_(0.1 * math.sqrt(codec.head.out.in_features))  # else it could not be heard
        for name, x in codec.state_dict().items():
            if name.endswith("embedding_sum"):
                x.normal_(0, ENTRY)
    return codec.to(pick_device(device)).eval()
