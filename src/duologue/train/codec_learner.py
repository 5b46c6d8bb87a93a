"""What a codec learns from: spectra that match, a teacher's features, and discriminators that must not tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.base.runs import RunFolder
from duologue.codec.checkpoint import save_codec
from duologue.codec.codebook import Learning
from duologue.codec.split import SplitCodec, Trained, encodes
from duologue.train.codec_learning import CodecLearning
from duologue.train.crops import Crops
from duologue.train.discriminators import Discriminators, fool_loss, judge_loss, match_loss
from duologue.train.loop import rate_at
from duologue.train.spectra import distances
from duologue.train.teacher import Taught

KEPT = 60
"""Batches of latents from which the first entries of the codebooks are clustered."""


class CodecLearner:
    """Trains a codec; see `loop.Learner`."""

    def __init__(
        self, codec: SplitCodec, crops: Crops, checks: Sequence[Tensor], learning: CodecLearning, *, steps: int,
        seed: int, taught: Taught | None = None, device: torch.device | None = None,
    ) -> None:  # fmt: skip
        self.codec, self.crops, self.checks, self.learning = codec, crops, checks, learning
        self.steps, self.seed, self.taught = steps, seed, taught
        self.device = device or torch.device("cpu")
        codec.to(self.device).train()
        dim = codec.quantizer.rvq_first.output_proj.out_channels
        self.teller = nn.Linear(dim, taught.width).to(self.device) if taught else None
        self.judges = Discriminators().to(self.device) if learning.adversarial_from is not None else None
        if learning.train == "decoder":
            for name, parameter in codec.named_parameters():
                parameter.requires_grad_(not encodes(name))
        elif learning.quantize_from > 0:
            for book in codec.quantizer.codebooks():
                book.empty()
        made = [p for p in codec.parameters() if p.requires_grad]
        made += list(self.teller.parameters()) if self.teller else []
        self.made = made
        self.maker = torch.optim.AdamW(made, lr=learning.rate, betas=(0.8, 0.99), weight_decay=0.01)
        self.judge = None
        if self.judges:
            self.judge = torch.optim.AdamW(self.judges.parameters(), lr=learning.judge_rate, betas=(0.8, 0.99))
        self.kept: list[Tensor] = []

    def step(self, number: int) -> Mapping[str, float]:
        """One step of the codec, and one of its judges."""
        how = self.learning
        rng = np.random.default_rng([self.seed, number])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        audio, features = self._draw(rng)
        share = rate_at(number, self.steps, 100, how.flat, 1 / 30)
        for group in self.maker.param_groups:
            group["lr"] = how.rate * share
        if how.train == "all" and number == how.quantize_from > 0:
            self._begin(generator)
        trained = self._pass(audio, number, generator)
        made, wanted = self._heard(trained.audio, audio)
        mel, log, linear = distances(made, wanted, self.codec.sample_rate)
        loss = how.mel * mel + how.log * log + how.linear * linear + how.commitment * trained.quantized.commitment
        row = {"mel": mel, "log": log, "linear": linear, "commitment": trained.quantized.commitment,
               "entropy": trained.quantized.entropy}  # fmt: skip
        if self.teller is not None and features is not None:
            told = self.teller(trained.quantized.semantic.float().transpose(1, 2)[: len(features)])
            unlike = 1 - F.cosine_similarity(told, features, dim=-1)[:, how.skipped :].mean()
            loss, row = loss + how.teach * unlike, row | {"unlike_teacher": unlike}
        begin = math.inf if how.adversarial_from is None else how.adversarial_from
        if number >= begin:
            row |= self._judge(made, wanted)
        if number >= begin + how.head_start:
            assert self.judges is not None
            with self._cast():
                real, found = self.judges(wanted), self.judges(made)
            fooled, matched = fool_loss(found), match_loss(real, found)
            loss, row = loss + how.adversarial * fooled + how.matching * matched, row | {
                "fooled": fooled, "matched": matched,
            }  # fmt: skip
        self.maker.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.made, 3.0)
        if torch.isfinite(norm):
            self.maker.step()
        row |= {"loss": loss, "gradient": norm}
        return {name: float(value.detach()) for name, value in row.items()} | {"rate": how.rate * share}

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"codec": self.codec.state_dict(), "maker": self.maker.state_dict(), "kept": self.kept}
        if self.teller:
            state["teller"] = self.teller.state_dict()
        if self.judges and self.judge:
            state |= {"judges": self.judges.state_dict(), "judge": self.judge.state_dict()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        self.codec.load_state_dict(state["codec"])
        self.maker.load_state_dict(state["maker"])
        self.kept = list(state["kept"])
        if self.teller:
            self.teller.load_state_dict(state["teller"])
        if self.judges and self.judge:
            self.judges.load_state_dict(state["judges"])
            self.judge.load_state_dict(state["judge"])

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Log-mel distance of what is held out, through its codes."""
        if not self.checks or not all(bool(b.begun.all()) for b in self.codec.quantizer.codebooks()):
            return {}
        self.codec.eval()
        found = []
        for audio in self.checks:
            wave = self.codec.decode(self.codec.encode(audio.to(self.device)))
            mel, _, _ = distances(*self._heard(wave, audio.to(self.device)), self.codec.sample_rate)
            found.append(float(mel))
        self.codec.train()
        return {"mel": float(np.mean(found))}

    def publish(self, run: RunFolder) -> None:
        """`codec.safetensors` in the run's folder."""
        save_codec(self.codec, run.path / "codec.safetensors")

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        """Sound [B, 1, S], and the teacher's features of its first rows [b, T, width]."""
        how, rate = self.learning, self.codec.sample_rate
        known = [self.taught.draw(rng, how.frames, rate) for _ in range(round(how.taught * how.batch))] if (
            self.taught) else []  # fmt: skip
        seconds = how.frames / self.codec.frame_rate
        rows = [sound for sound, _ in known] + [self.crops.draw(rng, seconds) for _ in range(how.batch - len(known))]
        audio = torch.from_numpy(np.stack(rows))[:, None].to(self.device)
        if not known:
            return audio, None
        return audio, torch.from_numpy(np.stack([f for _, f in known])).to(self.device)

    def _pass(self, audio: Tensor, number: int, generator: torch.Generator) -> Trained:
        """Through the codec; before the codebooks have begun, without them."""
        how, codec = self.learning, self.codec
        with self._cast(), torch.set_grad_enabled(how.train == "all"):
            latent = codec.latent(audio)
        latent = latent.float()
        if how.train == "all" and number < how.quantize_from:
            self.kept = [*self.kept, latent.detach()][-KEPT:]
            quantized = codec.quantizer.through(latent)
        else:
            learn = Learning(no_quantization_rate=how.unquantized) if how.train == "all" else None
            quantized = codec.quantizer.train_step(
                latent, codec.n_codebooks, learn=learn, step=number, generator=generator
            )
        with self._cast():
            wave = codec.wave(quantized.latent)
        return Trained(wave.float(), latent, quantized)

    @torch.no_grad()
    def _begin(self, generator: torch.Generator) -> None:
        """Give the codebooks entries: clusters of the latents of the last steps."""
        latents = torch.cat([x.transpose(1, 2).reshape(-1, x.shape[1]) for x in self.kept]).T[None]
        for _ in self.codec.quantizer.codebooks():  # one begins in each round, from what those before it leave
            self.codec.quantizer.train_step(
                latents, self.codec.n_codebooks, learn=Learning(kmeans_iterations=12), generator=generator
            )
        self.kept = []

    def _heard(self, made: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Both as [B, S] at the same time, without what counts for no loss."""
        late = self.codec.shape.delay
        skip = self.learning.skipped * self.codec.frame_size
        wanted = F.pad(audio[:, 0], (late, 0))[:, : made.shape[-1]]
        return made[:, 0, skip:], wanted[:, skip:]

    def _judge(self, made: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        assert self.judges is not None
        assert self.judge is not None
        with self._cast():
            loss = judge_loss(self.judges(wanted), self.judges(made.detach()))
        self.judge.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.judges.parameters(), 3.0)
        self.judge.step()
        return {"judged": loss}

    def _cast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.learning.autocast)
