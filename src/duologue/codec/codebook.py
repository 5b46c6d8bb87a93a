"""One codebook: its entries, the search for the nearest, and how entries follow the data in training.

Matched: moshi 0.2.13, quantization/core_vq.py (EuclideanCodebook); van den Oord et al., arXiv 1711.00937, appendix A.1,
for the moving averages. Entries are kept as running sums over running counts, under Kyutai's names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

USAGE_FLOOR = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """How codebooks learn. The defaults are upstream's; what it leaves at 0 or False is so here."""

    decay: float = 0.99
    """Share of the running sums and counts that a step keeps."""
    threshold_usage_ratio: float = 0.1
    """An entry is restarted when it is used less than this share of the mean use."""
    replaced_usage_ratio: float = 1.0
    """Use that a restarted entry is given, as a share of the mean use."""
    check_unused_every: int = 5
    """Steps between two looks for unused entries; 0 never restarts any."""
    start: Literal["kmeans", "batch"] = "kmeans"
    """First entries of a codebook that has none: clusters of a batch, or vectors of it."""
    kmeans_iterations: int = 50
    """Rounds of k-means."""
    q_dropout: bool = False
    """Whether each batch is quantised by a random number of acoustic codebooks, from 1 to all."""
    no_quantization_rate: float = 0.0
    """Chance of a row that its latent is decoded unquantised (the codebooks still learn from it)."""

    def __post_init__(self) -> None:
        for name, low, high in (("decay", 0, 1), ("no_quantization_rate", 0, 1), ("threshold_usage_ratio", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} {getattr(self, name)} is not between {low} and {high}")
        if self.check_unused_every < 0 or self.kmeans_iterations < 1:
            raise ValueError("check_unused_every is at least 0 and kmeans_iterations at least 1")


class Codebook(nn.Module):
    """Entries [bins, dim], as running sums over running counts.

    Outside of training mode the entries are computed once; loading, moving, switching the mode and `learn` forget them.
    Who changes the buffers by hand in evaluation mode calls `forget`.
    """

    embedding_sum: Tensor
    cluster_usage: Tensor
    _initialized: Tensor

    def __init__(self, bins: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("_initialized", torch.ones(1))
        self.register_buffer("cluster_usage", torch.ones(bins))
        self.register_buffer("embedding_sum", torch.randn(bins, dim))
        self._kept: tuple[Tensor, Tensor] | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    @property
    def begun(self) -> Tensor:
        """[1], 0 for a codebook that has no entries yet."""
        return self._initialized

    def entries(self) -> Tensor:
        """Entries [bins, dim]."""
        return self._tables()[0]

    def nearest(self, x: Tensor) -> Tensor:
        """Index int64 [N] of the entry nearest to each row of x [N, dim].

        The sums are those of torch.cdist for many rows, of which the entries' part is kept.
        """
        norms = x.square().sum(-1, keepdim=True)
        rows = torch.cat((x * -2, norms, torch.ones_like(norms)), dim=-1)
        distances: Tensor = rows @ self._tables()[1]
        return distances.clamp_(min=0).sqrt_().argmin(dim=-1)

    def forget(self) -> None:
        """Compute the entries anew when they are next asked for."""
        self._kept = None

    def empty(self) -> None:
        """Drop all entries; `begin` finds new ones."""
        self.embedding_sum.zero_()
        self.cluster_usage.fill_(1)
        self._initialized.zero_()
        self.forget()

    def begin(self, x: Tensor, learning: Learning, generator: torch.Generator | None) -> None:
        """Take first entries from x [N, dim]."""
        if learning.start == "kmeans":
            entries, usage = kmeans(x, len(self.cluster_usage), learning.kmeans_iterations, generator)
        else:
            entries, usage = draw(x, len(self.cluster_usage), generator), torch.ones_like(self.cluster_usage)
        self.embedding_sum.copy_(entries * usage[:, None])
        self.cluster_usage.copy_(usage)
        self._initialized.fill_(1)
        self.forget()

    def learn(self, x: Tensor, codes: Tensor, learning: Learning, step: int, generator: torch.Generator | None) -> None:
        """Move the running sums and counts toward those of x [N, dim], whose nearest entries are codes [N].

        At every `check_unused_every`-th step, entries that are hardly used are first replaced by rows of x.
        """
        if learning.check_unused_every and (step + 1) % learning.check_unused_every == 0:
            mean = self.cluster_usage.mean()
            unused = self.cluster_usage < learning.threshold_usage_ratio * mean
            usage = learning.replaced_usage_ratio * mean
            fresh = usage * draw(x, len(unused), generator)
            self.embedding_sum.copy_(torch.where(unused[:, None], fresh, self.embedding_sum))
            self.cluster_usage.copy_(torch.where(unused, usage, self.cluster_usage))
        counts = torch.zeros_like(self.cluster_usage).index_add_(0, codes, torch.ones_like(x[:, 0]))
        sums = torch.zeros_like(self.embedding_sum).index_add_(0, codes, x)
        self.cluster_usage.mul_(learning.decay).add_(counts, alpha=1 - learning.decay)
        self.embedding_sum.mul_(learning.decay).add_(sums, alpha=1 - learning.decay)
        self.forget()

    def entropy(self) -> Tensor:
        """Entropy of the running use over its greatest value: 1 = all entries are used alike."""
        share = self.cluster_usage / self.cluster_usage.sum()
        return -torch.xlogy(share, share).sum() / math.log(len(share))

    def train(self, mode: bool = True) -> Codebook:
        self.forget()
        return super().train(mode)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """The entries [bins, dim]; and on their side, with 1 and their squared norms beneath, [dim + 2, bins]."""
        kept, here = self._kept, self.embedding_sum
        if kept is not None and (kept[0].device, kept[0].dtype) == (here.device, here.dtype):
            return kept
        with torch.inference_mode(False), torch.no_grad():
            entries = here / self.cluster_usage.clamp(min=USAGE_FLOOR)[:, None]
            norms = entries.square().sum(-1)[None]
            tables = entries, torch.cat((entries.t(), torch.ones_like(norms), norms))
        if not self.training:
            self._kept = tables
        return tables


def kmeans(x: Tensor, bins: int, rounds: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Means [bins, dim] of clusters of x [N, dim], and the rows of each (at least 1). Empty clusters are drawn anew."""
    means, counts = draw(x, bins, generator), x.new_ones(bins)
    for _ in range(rounds):
        nearest = torch.cdist(x, means).argmin(dim=-1)
        found = torch.zeros_like(counts).index_add_(0, nearest, torch.ones_like(x[:, 0]))
        counts = found.clamp(min=1)
        sums = torch.zeros_like(means).index_add_(0, nearest, x)
        means = torch.where(found[:, None] > 0, sums / counts[:, None], draw(x, bins, generator))
    return means, counts


def draw(x: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """`count` random rows of x [N, dim], each at most once where there are enough."""
    if len(x) >= count:
        chosen = torch.randperm(len(x), generator=generator)[:count]
    else:
        chosen = torch.randint(0, len(x), (count,), generator=generator)
    return x[chosen.to(x.device)]


def _forget(module: nn.Module, keys: object) -> None:
    if isinstance(module, Codebook):
        module.forget()
