"""Mimi: 24 kHz speech to 12.5 frames a second of up to 32 codes, and back, whole or as a stream.

Matched: moshi 0.2.13, models/compression.py. Streaming state is explicit (`codec.stream`); a stream gives the codes and
samples that the whole signal would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from duologue.base.compute import pick_device
from duologue.base.errors import UserError
from duologue.codec.conv import CausalConv, CausalConvTranspose
from duologue.codec.quantizer import SplitQuantizer
from duologue.codec.seanet import Decoder, Encoder, SEANetConfig
from duologue.codec.stream import CodecState, Pass, keep_rows
from duologue.codec.transformer import Attention, Transformer, TransformerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MimiConfig:
    """Shape of a Mimi codec; the defaults are Kyutai's."""

    sample_rate: int = 24_000
    """Samples a second."""
    frame_rate: float = 12.5
    """Frames a second."""
    seanet: SEANetConfig = field(default_factory=SEANetConfig)
    """The convolutional parts."""
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """The two transformers."""
    n_q: int = 32
    """Codebooks."""
    bins: int = 2048
    """Entries of each."""
    quantizer_dim: int = 256
    """Width of an entry."""

    @property
    def frame_size(self) -> int:
        """Samples of a frame."""
        return round(self.sample_rate / self.frame_rate)

    @property
    def downsampling(self) -> int:
        """Latent steps of a frame."""
        hop = 1
        for ratio in self.seanet.ratios:
            hop *= ratio
        return self.frame_size // hop


class Mimi(nn.Module):
    """The codec. `n_codebooks` says how many codebooks `encode` uses (Moshi's models use 8)."""

    def __init__(self, config: MimiConfig | None = None, n_codebooks: int = 8) -> None:
        super().__init__()
        self.config = c = config or MimiConfig()
        self.n_codebooks = min(n_codebooks, c.n_q)
        dim, stride = c.seanet.dimension, c.downsampling
        self.encoder, self.decoder = Encoder(c.seanet), Decoder(c.seanet)
        self.encoder_transformer = Transformer(dim, c.transformer)
        self.decoder_transformer = Transformer(dim, c.transformer)
        self.downsample = nn.ModuleDict({
            "conv": CausalConv(dim, dim, 2 * stride, stride=stride, bias=False, pad="replicate")
        })  # fmt: skip
        # Kyutai's upsampling is depth-wise by mistake, and stays so for their weights.
        self.upsample = nn.ModuleDict({
            "convtr": CausalConvTranspose(dim, dim, 2 * stride, stride=stride, bias=False, groups=dim)
        })  # fmt: skip
        self.quantizer = SplitQuantizer(c.n_q, c.bins, c.quantizer_dim, dim)
        for name, module in self.named_modules():
            if isinstance(module, CausalConv | CausalConvTranspose | Attention):
                module.name = name

    def initial_state(self, batch: int) -> CodecState:
        """State of `batch` streams before their first frame."""
        like = self.quantizer.rvq_first.input_proj.weight
        state: CodecState = {}
        for module in self.modules():
            if isinstance(module, CausalConv | CausalConvTranspose | Attention):
                state |= module.initial(batch, like)
        return state

    def latent(self, audio: Tensor, run: Pass | None = None) -> Tensor:
        """Waveform [B, 1, S], S a multiple of the frame size, to the latent [B, D, T] that is quantised."""
        x = self.encoder_transformer(self.encoder(audio, run), run)
        return self.downsample["conv"](x, run)  # type: ignore[no-any-return]

    def encode(self, audio: Tensor) -> Tensor:
        """Waveform [B, 1, S] to codes int64 [B, n_codebooks, T]; the last frame is filled up with silence.

        Raises:
            UserError: another number of channels, or no samples.
        """
        self._check(audio)
        padded = F.pad(audio, (0, -audio.shape[-1] % self.config.frame_size))
        return self.quantizer.encode(self.latent(padded), self.n_codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, n, T] to waveform [B, 1, T * frame size]."""
        return self._wave(codes, None)

    def encode_step(
        self, audio: Tensor, state: Mapping[str, Tensor], active: Tensor | None = None
    ) -> tuple[Tensor, CodecState]:
        """Encode the next whole frames of each stream.

        Args:
            audio: [B, 1, S], S a positive multiple of the frame size.
            state: from `initial_state`, or from the step before.
            active: [B]; the state of rows that are false stays as it was.

        Returns:
            codes int64 [B, n_codebooks, S / frame size], and the next state.
        """
        self._check(audio)
        if audio.shape[-1] % self.config.frame_size:
            mend = f"give multiples of {self.config.frame_size}"
            raise UserError(f"{audio.shape[-1]} samples are no whole frames", mend=mend)
        run = Pass(state)
        codes = self.quantizer.encode(self.latent(audio, run), self.n_codebooks)
        return codes, _next(run, active)

    def decode_step(
        self, codes: Tensor, state: Mapping[str, Tensor], active: Tensor | None = None
    ) -> tuple[Tensor, CodecState]:
        """Decode the next frames of each stream: [B, n, T] to [B, 1, T * frame size], and the next state."""
        run = Pass(state)
        return self._wave(codes, run), _next(run, active)

    def _wave(self, codes: Tensor, run: Pass | None) -> Tensor:
        x = self.upsample["convtr"](self.quantizer.decode(codes), run)
        return self.decoder(self.decoder_transformer(x, run), run)  # type: ignore[no-any-return]

    def _check(self, audio: Tensor) -> None:
        if audio.dim() != 3 or audio.shape[1] != self.config.seanet.channels or audio.shape[2] == 0:
            mend = f"give [batch, {self.config.seanet.channels}, samples]"
            raise UserError(f"audio is {list(audio.shape)}", mend=mend)


def _next(run: Pass, active: Tensor | None) -> CodecState:
    """The state after a pass: layers that it did not visit, and rows that are not active, keep theirs."""
    state = {**run.before, **run.after}
    return state if active is None else keep_rows(state, run.before, active)


def load_mimi(
    path: str | Path, *, device: str = "auto", n_codebooks: int = 8, config: MimiConfig | None = None
) -> Mimi:
    """Load Kyutai's safetensors (`tokenizer-e351c8d8-checkpoint125.safetensors`), always in float32.

    Raises:
        UserError: no such file, a broken one, or weights of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    place = Path(path)
    if not place.is_file():
        raise UserError("no such file", place=place, mend="name the codec's .safetensors file")
    try:
        state = load_file(place)
    except SafetensorError as error:
        raise UserError(f"cannot be read: {error}", place=place, mend="download it again") from None
    model = Mimi(config, n_codebooks)
    expected = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    named = {_own_name(name): x for name, x in state.items()}
    for name in sorted(expected.keys() ^ named.keys())[:1]:
        problem = f"lacks {name}" if name in expected else f"holds {name}, which this codec has not"
        raise UserError(problem, place=place, mend="is it Mimi, in Kyutai's format?")
    for name, shape in expected.items():
        if tuple(named[name].shape) != shape:
            raise UserError(f"{name} is {list(named[name].shape)}, not {list(shape)}", place=place)
    model.load_state_dict({name: x.float() for name, x in named.items()})
    return model.to(pick_device(device)).eval()


OLD_NAMES = {
    "self_attn.in_proj_weight": "self_attn.in_projs.0.weight",
    "self_attn.out_proj.weight": "self_attn.out_projs.0.weight",
    "_codebook.inited": "_codebook._initialized",
    "_codebook.cluster_size": "_codebook.cluster_usage",
    "_codebook.embed_sum": "_codebook.embedding_sum",
    "_codebook.embed_avg": "_codebook.embedding_sum",
}
"""Names in older files, and what they are now."""


def _own_name(name: str) -> str:
    """A name on disk as the model has it: older attention names, older codebook names."""
    for old, new in OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
