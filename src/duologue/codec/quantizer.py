"""Split residual vector quantiser: one semantic codebook, and acoustic ones that refine the same latent in turn.

Matched: moshi 0.2.13, quantization/{vq,core_vq}.py; Zeghidour et al., arXiv 2107.03312, algorithm 1; in training a
straight-through estimator (van den Oord et al., arXiv 1711.00937) and quantiser dropout, as upstream has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.codec.codebook import Codebook, Learning


@dataclass(frozen=True, slots=True)
class Quantized:
    """A latent through the codebooks, in training."""

    latent: Tensor
    """[B, outer, T]; its gradient passes straight through to the latent that was quantised."""
    codes: Tensor
    """int64 [B, n, T]; n is smaller than the number of codebooks under quantiser dropout."""
    commitment: Tensor
    """Mean squared distance between what each codebook was given and its entry; the mean over codebooks."""
    entropy: Tensor
    """Entropy of the running use of entries over its greatest value, 1: all used alike; the mean over codebooks."""
    semantic: Tensor
    """[B, outer, T], what the semantic codebook adds to the latent: where a distillation loss goes."""


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
        B, _, T = x.shape
        rest = self.input_proj(x).transpose(1, 2).reshape(B * T, -1)
        codes = []
        for book in self.codebooks()[:n_q]:
            nearest = book.nearest(rest)
            rest = rest - F.embedding(nearest, book.entries())
            codes.append(nearest.view(B, T))
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, n, T] to latent [B, outer, T]."""
        books = self.codebooks()
        found = [F.embedding(codes[:, i], books[i].entries()) for i in range(codes.shape[1])]
        return self.output_proj(torch.stack(found).sum(0).transpose(1, 2))  # type: ignore[no-any-return]

    def train_step(
        self, x: Tensor, n_q: int, *, learn: Learning | None, step: int, generator: torch.Generator | None
    ) -> Quantized:
        """As `SplitQuantizer.train_step`, by the first n_q codebooks."""
        x = self.input_proj(x).transpose(1, 2)
        flat = x.reshape(-1, x.shape[-1])
        rest, total = flat, torch.zeros_like(flat)
        books = self.codebooks()[:n_q]
        begun = torch.cat([book.begun for book in books]).bool().tolist()
        codes, losses, measures = [], [], []
        for i, book in enumerate(books):
            given = rest.detach()
            # One codebook begins at a step: the next would find nothing left of vectors that are now entries.
            if learn is not None and not begun[i] and all(begun[:i]):
                book.begin(given, learn, generator)
            with torch.no_grad():
                nearest = book.nearest(given)
                chosen = F.embedding(nearest, book.entries())
            if learn is not None and all(begun[:i]):
                book.learn(given, nearest, learn, step, generator)
            codes.append(nearest.view(x.shape[:-1]))
            losses.append(F.mse_loss(rest, chosen))
            measures.append(book.entropy())
            rest, total = rest - chosen, total + chosen
        quantized = x + (total.view_as(x) - x).detach()
        if learn is not None and learn.no_quantization_rate:
            kept = torch.rand(len(x), 1, 1, generator=generator).to(x.device) < learn.no_quantization_rate
            quantized = torch.where(kept, x, quantized)
        latent = self.output_proj(quantized.transpose(1, 2))
        loss, entropy = torch.stack(losses).mean(), torch.stack(measures).mean()
        return Quantized(latent, torch.stack(codes, dim=1), loss, entropy, latent)


class SplitQuantizer(nn.Module):
    """A semantic quantiser of one codebook beside an acoustic one; their latents are added."""

    def __init__(self, n_q: int, bins: int, dim: int, outer: int) -> None:
        super().__init__()
        self.rvq_first = ResidualQuantizer(1, bins, dim, outer)
        self.rvq_rest = ResidualQuantizer(n_q - 1, bins, dim, outer)

    def codebooks(self) -> list[Codebook]:
        """All codebooks, the semantic one first."""
        return [*self.rvq_first.codebooks(), *self.rvq_rest.codebooks()]

    def encode(self, x: Tensor, n_q: int) -> Tensor:
        """Latent [B, outer, T] to codes int64 [B, n_q, T], the semantic one first."""
        first = self.rvq_first.encode(x, 1)
        return first if n_q == 1 else torch.cat((first, self.rvq_rest.encode(x, n_q - 1)), dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, n, T] to latent [B, outer, T]."""
        latent = self.rvq_first.decode(codes[:, :1])
        return latent if codes.shape[1] == 1 else latent + self.rvq_rest.decode(codes[:, 1:])

    def through(self, x: Tensor) -> Quantized:
        """A latent [B, outer, T] past the codebooks, as if each entry were what is asked for: before they begin."""
        first, rest = (part.output_proj(part.input_proj(x)) for part in (self.rvq_first, self.rvq_rest))
        none = x.new_zeros(())
        return Quantized(first + rest, x.new_zeros(len(x), 0, x.shape[-1], dtype=torch.long), none, none, first)

    def train_step(
        self, x: Tensor, n_q: int, *, learn: Learning | None = None, step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Quantized:  # fmt: skip
        """Quantise a latent so that gradients pass, and let the codebooks learn from it.

        Args:
            x: latent [B, outer, T].
            n_q: codebooks, the semantic one included.
            learn: how the codebooks learn; None leaves them as they are.
            step: number of this training step, from 0; it says when unused entries are looked for.
            generator: of random numbers, on the CPU.
        """
        rest = n_q - 1
        if rest and learn is not None and learn.q_dropout:
            rest = int(torch.randint(1, rest + 1, (), generator=generator))
        first = self.rvq_first.train_step(x, 1, learn=learn, step=step, generator=generator)
        if not rest:
            return first
        other = self.rvq_rest.train_step(x, rest, learn=learn, step=step, generator=generator)
        n = 1 + rest  # means over codebooks, not over the two quantisers
        return Quantized(
            first.latent + other.latent,
            torch.cat((first.codes, other.codes), dim=1),
            (first.commitment + rest * other.commitment) / n,
            (first.entropy + rest * other.entropy) / n,
            first.latent,
        )
