"""How a codec learns: the numbers of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from duologue.base.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecLearning:
    """How a codec learns."""

    batch: int = 6
    """Stretches of a step."""
    frames: int = 20
    """Length of a stretch, in frames."""
    skipped: int = 2
    """First frames of a stretch that count for no loss: the codec knows nothing of what came before."""
    rate: float = 1e-3
    """Highest learning rate (AdamW, betas 0.8 and 0.99)."""
    flat: float = 0.5
    """Share of the steps after which the rate goes down in a line, to a thirtieth."""
    quantize_from: int = 300
    """Step at which the codebooks begin; 0: they are those of the codec that training starts from."""
    unquantized: float = 0.2
    """Share of stretches that are decoded from the latent itself."""
    mel: float = 4.0
    """Weight of the log-mel distance."""
    log: float = 1.5
    """Weight of the log-magnitude distance."""
    linear: float = 0.5
    """Weight of the magnitude distance."""
    commitment: float = 0.5
    """Weight of the distance of latents from their entries."""
    teach: float = 0.5
    """Weight of 1 - cosine similarity between what the semantic codebook tells and the teacher's features."""
    taught: float = 0.5
    """Share of the stretches that are drawn where the teacher listened."""
    adversarial_from: int | None = None
    """Step at which the discriminators begin; none: they never do."""
    judge_rate: float = 3e-4
    """Learning rate of the discriminators. With half of the codec's they never told sound from sound."""
    head_start: int = 200
    """Steps in which they learn before any of it reaches the codec."""
    adversarial: float = 1.0
    """Weight of fooling them."""
    matching: float = 2.0
    """Weight of matching what their layers find."""
    train: Literal["all", "decoder"] = "all"
    """decoder: what encodes stays as it is, and so do the codes."""
    autocast: bool = True
    """Compute in bfloat16 where that is safe."""

    def __post_init__(self) -> None:
        if not 0 <= self.skipped < self.frames:
            raise UserError(f"{self.skipped} of {self.frames} frames", place="learning.skipped", mend="skip fewer")
        if min(self.batch, self.rate) <= 0:
            raise UserError("a batch and a rate are above 0", place="learning")
