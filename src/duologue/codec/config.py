"""Shape of a Mimi codec, and the two forms in which it stands in JSON: Kyutai's and transformers'.

Kyutai's is the argument of moshi's loaders.get_mimi; transformers' is the config.json of its MimiConfig. Both have keys
for what no Mimi does otherwise; those are accepted at their one value and refused at any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from duologue.base.errors import UserError
from duologue.base.typed import from_plain
from duologue.codec.seanet import SEANetConfig
from duologue.codec.transformer import TransformerConfig


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
    """Codebooks, the semantic one included."""
    bins: int = 2048
    """Entries of each."""
    quantizer_dim: int = 256
    """Width of an entry."""

    def __post_init__(self) -> None:
        if self.n_q < 2:
            raise ValueError(f"n_q {self.n_q} is not a semantic codebook and at least one acoustic")
        if self.frame_size % self.hop or not math.isclose(self.frame_size * self.frame_rate, self.sample_rate):
            problem = f"{self.sample_rate} samples a second at {self.frame_rate} frames a second"
            raise ValueError(f"{problem} are no whole number of hops of {self.hop} samples a frame")
        if self.seanet.dimension % (2 * self.transformer.num_heads):
            heads = f"{self.transformer.num_heads} heads of even width"
            raise ValueError(f"dimension {self.seanet.dimension} does not divide into {heads}")

    @property
    def channels(self) -> int:
        """Channels of the sound."""
        return self.seanet.channels

    @property
    def delay(self) -> int:
        """Samples by which decoded sound is behind what was encoded: none."""
        return 0

    @property
    def hop(self) -> int:
        """Samples of a latent step of SEANet: the product of its strides."""
        return math.prod(self.seanet.ratios)

    @property
    def frame_size(self) -> int:
        """Samples of a frame."""
        return round(self.sample_rate / self.frame_rate)

    @property
    def downsampling(self) -> int:
        """Latent steps of a frame; at 1 nothing is resampled."""
        return self.frame_size // self.hop


SEANET_FIXED = {
    "causal": True, "activation": "ELU", "activation_params": {"alpha": 1.0}, "disable_norm_outer_blocks": 0,
    "norm": "none", "norm_params": {}, "pad_mode": "constant", "true_skip": True, "final_activation": None,
    "trim_right_ratio": 1.0,
}  # fmt: skip
TRANSFORMER_FIXED = {
    "causal": True, "conv_layout": True, "gating": "none", "norm": "layer_norm", "positional_embedding": "rope",
}  # fmt: skip
QUANTIZER_FIXED = {"n_q_semantic": 1}
QUANTIZER_TRAINING = ("q_dropout", "no_quantization_rate", "decay", "threshold_usage_ratio", "replaced_usage_ratio")
"""What says how to train, not what the codec is: read over."""


def to_kyutai(config: MimiConfig) -> dict[str, Any]:
    """The JSON that moshi's loaders.get_mimi takes as `mimi_config`."""
    seanet, transformer = asdict(config.seanet), asdict(config.transformer)
    channels, dim = config.seanet.channels, config.seanet.dimension
    shape = {"d_model": dim, "input_dimension": dim, "output_dimensions": [dim]}
    drop = ("activation_params", "norm_params", "final_activation", "trim_right_ratio")  # at upstream's defaults
    fixed = {key: value for key, value in SEANET_FIXED.items() if key not in drop}
    quantizer = {"dimension": config.quantizer_dim, "n_q": config.n_q, "bins": config.bins}
    return {
        "sample_rate": config.sample_rate,
        "channels": channels,
        "frame_rate": config.frame_rate,
        "seanet": seanet | {"ratios": list(config.seanet.ratios)} | fixed,
        "quantizer": quantizer | {"input_dimension": dim, "output_dimension": dim},
        "transformer": transformer | shape | TRANSFORMER_FIXED,
    }


def from_kyutai(values: Mapping[str, Any], place: object = "") -> MimiConfig:
    """Read Kyutai's form.

    Raises:
        UserError: a key that no Mimi has, a value that this codec cannot have, or widths that contradict one another.
    """
    top = dict(values)
    seanet = _known(top.pop("seanet", {}), SEANET_FIXED, f"{place}, seanet")
    transformer = _known(top.pop("transformer", {}), TRANSFORMER_FIXED, f"{place}, transformer")
    quantizer = _known(top.pop("quantizer", {}), QUANTIZER_FIXED, f"{place}, quantizer")
    for key in QUANTIZER_TRAINING:
        quantizer.pop(key, None)
    width = seanet.get("dimension", SEANetConfig().dimension)
    for part, keys in ((transformer, ("d_model", "input_dimension", "output_dimensions")),
                       (quantizer, ("input_dimension", "output_dimension"))):  # fmt: skip
        for key in keys:
            if part.pop(key, width) not in (width, [width]):
                raise UserError(f"{key} is not seanet's dimension, {width}", place=place, mend="make them alike")
    if top.pop("channels", 1) != seanet.get("channels", 1):
        raise UserError("channels differ from seanet's", place=place, mend="make them alike")
    if "dimension" in quantizer:
        quantizer["quantizer_dim"] = quantizer.pop("dimension")
    for key in quantizer.keys() & {"sample_rate", "frame_rate", "seanet", "transformer"}:
        raise UserError(f"unknown field {key!r}", place=f"{place}, quantizer")
    config: MimiConfig = from_plain(top | quantizer | {"seanet": seanet, "transformer": transformer}, MimiConfig, place)
    return config


TRANSFORMERS_NAMES = {
    "sampling_rate": "sample_rate",
    "num_quantizers": "n_q",
    "codebook_size": "bins",
    "vector_quantization_hidden_dimension": "quantizer_dim",
    "audio_channels": "seanet.channels",
    "hidden_size": "seanet.dimension",
    "num_filters": "seanet.n_filters",
    "num_residual_layers": "seanet.n_residual_layers",
    "upsampling_ratios": "seanet.ratios",
    "kernel_size": "seanet.kernel_size",
    "last_kernel_size": "seanet.last_kernel_size",
    "residual_kernel_size": "seanet.residual_kernel_size",
    "dilation_growth_rate": "seanet.dilation_base",
    "compress": "seanet.compress",
    "num_hidden_layers": "transformer.num_layers",
    "num_attention_heads": "transformer.num_heads",
    "intermediate_size": "transformer.dim_feedforward",
    "sliding_window": "transformer.context",
    "rope_theta": "transformer.max_period",
    "layer_scale_initial_scale": "transformer.layer_scale",
}
"""transformers' keys, and where their values are here. Its defaults are Mimi's, as ours are."""
TRANSFORMERS_FIXED = {
    "use_causal_conv": True, "pad_mode": "constant", "trim_right_ratio": 1.0, "use_conv_shortcut": False,
    "num_semantic_quantizers": 1, "hidden_act": "gelu", "norm_eps": 1e-5, "attention_bias": False,
}  # fmt: skip


def from_transformers(values: Mapping[str, Any], place: object = "") -> MimiConfig:
    """Read the config.json of transformers' MimiModel. Keys that change no number are read over.

    Raises:
        UserError: a value that this codec cannot have, or widths that contradict one another.
    """
    found = {key: value for key, value in values.items() if value is not None}
    rope = found.get("rope_parameters", {})
    if rope.get("rope_type", "default") != "default":
        raise UserError(f"rope_type {rope['rope_type']!r} is not supported", place=place, mend="use another model")
    found.setdefault("rope_theta", rope.get("rope_theta", TransformerConfig().max_period))
    _known(found, TRANSFORMERS_FIXED, place)
    parts: dict[str, dict[str, Any]] = {"": {}, "seanet": {}, "transformer": {}}
    for key, ours in TRANSFORMERS_NAMES.items():
        if key in found:
            part, _, name = ours.rpartition(".")
            parts[part][name] = found[key]
    top, seanet, transformer = parts[""], parts["seanet"], parts["transformer"]
    dim = seanet.get("dimension", SEANetConfig().dimension)
    heads = transformer.get("num_heads", TransformerConfig().num_heads)
    alike = {
        "codebook_dim": top.get("quantizer_dim", MimiConfig().quantizer_dim),
        "num_key_value_heads": heads, "head_dim": dim // heads, "upsample_groups": dim,
    }  # fmt: skip
    _known(found, alike, place)
    hop = math.prod(seanet.get("ratios", SEANetConfig().ratios))
    top["frame_rate"] = found.get("frame_rate", top.get("sample_rate", MimiConfig().sample_rate) / (2 * hop))
    config: MimiConfig = from_plain(top | {"seanet": seanet, "transformer": transformer}, MimiConfig, place)
    return config


def _known(values: object, fixed: Mapping[str, object], place: object) -> dict[str, Any]:
    """The values without those that are fixed, once they are what they must be."""
    if not isinstance(values, Mapping):
        raise UserError("is not an object", place=place, mend="take the file that came with the weights")
    for key, only in fixed.items():
        if key in values and values[key] != only:
            raise UserError(f"{key} {values[key]!r} is not supported", place=place, mend=f"only {only!r} is")
    return {key: value for key, value in values.items() if key not in fixed}
