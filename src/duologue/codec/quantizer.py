"""Split residual vector quantiser: one semantic codebook, and acoustic ones that refine the same latent in turn.

Matched: moshi 0.2.13, quantization/{vq,core_vq}.py. Codebooks are kept as sums and usage counts, as they are trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

USAGE_FLOOR = 1e-5


class Codebook(nn.Module):
    """Entries [bins, dim], as running sums over running counts."""

    embedding_sum: Tensor
    cluster_usage: Tensor

    def __init__(self, bins: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("_initialized", torch.ones(1))
        self.register_buffer("cluster_usage", torch.ones(bins))
        self.register_buffer("embedding_sum", torch.randn(bins, dim))

    def entries(self) -> Tensor:
        return self.embedding_sum / self.cluster_usage.clamp(min=USAGE_FLOOR)[:, None]


class ResidualQuantizer(nn.Module):
    """Codebooks of which each quantises what the ones before it left. Names are Kyutai's."""

    def __init__(self, n_q: int, bins: int, dim: int, outer: int) -> None:
        super().__init__()
        self.input_proj = nn.Conv1d(outer, dim, 1, bias=False)
        self.output_proj = nn.Conv1d(dim, outer, 1, bias=False)
        layers = nn.ModuleList(nn.ModuleDict({"_codebook": Codebook(bins, dim)}) for _ in range(n_q))
        self.vq = nn.ModuleDict({"layers": layers})

    def codebooks(self) -> list[Codebook]:
        return [layer["_codebook"] for layer in self.vq["layers"]]  # type: ignore[attr-defined]

    def encode(self, x: Tensor, n_q: int) -> Tensor:
        """Latent [B, outer, T] to codes int64 [B, n_q, T]."""
        rest = self.input_proj(x).transpose(1, 2)
        codes = []
        for book in self.codebooks()[:n_q]:
            entries = book.entries()
            nearest = torch.cdist(rest.reshape(1, -1, rest.shape[-1]), entries[None])[0].argmin(dim=-1)
            nearest = nearest.view(rest.shape[:-1])
            rest = rest - F.embedding(nearest, entries)
            codes.append(nearest)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, n, T] to latent [B, outer, T]."""
        books = self.codebooks()
        found = [F.embedding(codes[:, i], books[i].entries()) for i in range(codes.shape[1])]
        return self.output_proj(torch.stack(found).sum(0).transpose(1, 2))  # type: ignore[no-any-return]


class SplitQuantizer(nn.Module):
    """A semantic quantiser of one codebook beside an acoustic one; their latents are added."""

    def __init__(self, n_q: int, bins: int, dim: int, outer: int) -> None:
        super().__init__()
        self.rvq_first = ResidualQuantizer(1, bins, dim, outer)
        self.rvq_rest = ResidualQuantizer(n_q - 1, bins, dim, outer)

    def encode(self, x: Tensor, n_q: int) -> Tensor:
        """Latent [B, outer, T] to codes int64 [B, n_q, T], the semantic one first."""
        first = self.rvq_first.encode(x, 1)
        return first if n_q == 1 else torch.cat((first, self.rvq_rest.encode(x, n_q - 1)), dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, n, T] to latent [B, outer, T]."""
        latent = self.rvq_first.decode(codes[:, :1])
        return latent if codes.shape[1] == 1 else latent + self.rvq_rest.decode(codes[:, 1:])
