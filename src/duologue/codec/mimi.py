"""Mimi: 24 kHz speech to 12.5 frames a second of up to 32 codes, and back, whole or as a stream.

Matched: moshi 0.2.13, models/compression.py; Défossez et al., arXiv 2410.00037, section 3.3. Streaming state is
explicit (`codec.stream`); a stream gives the codes and samples that the whole signal would.
"""

from __future__ import annotations

from torch import Tensor, nn

from duologue.codec.config import MimiConfig as MimiConfig
from duologue.codec.conv import CausalConv, CausalConvTranspose
from duologue.codec.quantizer import SplitQuantizer
from duologue.codec.seanet import Decoder, Encoder
from duologue.codec.split import SplitCodec
from duologue.codec.stream import CodecState, Pass
from duologue.codec.transformer import Attention, Transformer

WITH_STATE = (CausalConv, CausalConvTranspose, Transformer, Attention)


class Mimi(SplitCodec):
    """The codec. `n_codebooks` says how many codebooks `encode` uses (Moshi's models use 8, which is the default).

    Raises:
        UserError: more codebooks than the config has, or none.
    """

    def __init__(self, config: MimiConfig | None = None, n_codebooks: int | None = None) -> None:
        self.config = c = config or MimiConfig()
        super().__init__(c, n_codebooks)
        dim, stride = c.seanet.dimension, c.downsampling
        self.encoder, self.decoder = Encoder(c.seanet), Decoder(c.seanet)
        self.encoder_transformer = Transformer(dim, c.transformer, spare=stride)
        self.decoder_transformer = Transformer(dim, c.transformer, spare=stride)
        self.downsample, self.upsample = nn.ModuleDict(), nn.ModuleDict()
        if stride > 1:
            self.downsample["conv"] = CausalConv(dim, dim, 2 * stride, stride=stride, bias=False, pad="replicate")
            # Kyutai's upsampling is depth-wise by mistake, and stays so for their weights.
            self.upsample["convtr"] = CausalConvTranspose(dim, dim, 2 * stride, stride=stride, bias=False, groups=dim)
        self.quantizer = SplitQuantizer(c.n_q, c.bins, c.quantizer_dim, dim)
        for name, module in self.named_modules():
            if isinstance(module, WITH_STATE):
                module.name = name

    def initial_state(self, batch: int) -> CodecState:
        """State of `batch` streams before their first frame."""
        like = self.quantizer.rvq_first.input_proj.weight
        state: CodecState = {}
        for module in self.modules():
            if isinstance(module, WITH_STATE):
                state |= module.initial(batch, like.detach())
        return state

    def latent(self, audio: Tensor, run: Pass | None = None) -> Tensor:
        """Waveform [B, 1, S], S a multiple of the frame size, to the latent [B, D, T] that is quantised."""
        x: Tensor = self.encoder_transformer(self.encoder(audio, run), run)
        return self.downsample["conv"](x, run) if self.downsample else x

    def wave(self, latent: Tensor, run: Pass | None = None) -> Tensor:
        """Latent [B, D, T] after the quantiser to waveform [B, 1, T * frame size]."""
        x = self.upsample["convtr"](latent, run) if self.upsample else latent
        return self.decoder(self.decoder_transformer(x, run), run)  # type: ignore[no-any-return]
