"""What a language model is built from, under the names that Kyutai's checkpoints carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from duologue.base.config import from_dict
from duologue.base.errors import UserError
from duologue.model.conditions import ConditionConfig, kyutai_conditions, read_conditions

USER_STREAMS = 8
"""Streams in which Moshi and PersonaPlex hear the user: one Mimi frame of 8 codebooks."""

CARRIED = frozenset({
    "moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name", "lora_name", "model_type", "lm_gen_config",
    "stt_config", "tts_config", "model_id", "lora", "lora_rank", "lora_scaling", "quantize", "conditioners", "fuser",
    "duologue",
})  # fmt: skip
"""Keys of a config.json that are no arguments of the model: moshi's CheckpointInfo takes them out."""
IGNORED = frozenset({"depformer_causal", "depformer_context", "depformer_max_period", "gradient_checkpointing"})
"""Keys that upstream accepts without any effect on this architecture: the depth transformer's context is always its own
number of steps, and it has no positions."""
NEUTRAL: Mapping[str, Any] = {
    "causal": True,
    "layer_scale": None,
    "depformer_layer_scale": None,
    "norm": "rms_norm_f32",
    "gating": "silu",
    "depformer_gating": "silu",
    "depformer_pos_emb": "none",
    "norm_emb": False,
    "bias_proj": False,
    "demux_second_stream": False,
    "demux_second_text_stream": False,
    "cross_attention": False,
    "text_card_out": None,
    "depformer_low_rank_embeddings": None,
    "depformer_norm": None,
}
"""Keys that are understood with this one value only, which all Moshi, PersonaPlex and STT models have."""

STT_KEYS = ("audio_delay_seconds", "audio_silence_prefix_seconds")
"""Keys of `stt_config`."""
MOSHI_DELAYS = (0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LMConfig:
    """Shape of a language model. The defaults are Moshi 7B's (kyutai/moshiko-pytorch-bf16)."""

    n_q: int = 16
    """Audio streams that are read."""
    dep_q: int = 8
    """Audio streams that the depth transformer writes: the first of them."""
    card: int = 2048
    """Entries of an audio codebook."""
    text_card: int = 32000
    """Text tokens."""
    delays: tuple[int, ...] = MOSHI_DELAYS
    """Frames by which each stream is late, text first: 1 + n_q entries."""
    existing_text_padding_id: int = 3
    """PAD: no text in this frame."""
    existing_text_end_padding_id: int = 0
    """EPAD: the last padding before a word."""
    dim: int = 4096
    """Width of the temporal transformer."""
    num_layers: int = 32
    """Its layers."""
    num_heads: int = 32
    """Its attention heads."""
    kv_repeat: int = 1
    """Heads that share one key and value head."""
    hidden_scale: float = 4.125
    """Its feed-forward width over `dim`, before two thirds of it go to gating."""
    context: int | None = 3000
    """Frames that it sees, itself included."""
    positional_embedding: str = "rope"
    """Positions of the temporal transformer: rope (interleaved) or none."""
    max_period: float = 10000.0
    """Longest period of the rotary positions."""
    depformer_dim: int = 1024
    """Width of the depth transformer."""
    depformer_num_layers: int = 6
    """Its layers."""
    depformer_num_heads: int = 16
    """Its attention heads."""
    depformer_kv_repeat: int | None = None
    """Its heads that share one key and value head; `kv_repeat` if None, as upstream."""
    depformer_dim_feedforward: int | None = None
    """Its feed-forward width before gating; int(hidden_scale * depformer_dim) if None."""
    depformer_multi_linear: bool = True
    """One input projection per codebook."""
    depformer_weights_per_step: bool = True
    """Attention and feed-forward weights of its own for each codebook."""
    depformer_weights_per_step_schedule: tuple[int, ...] | None = None
    """Which of these weights each codebook uses, if not each its own."""
    extra_heads_num_heads: int = 0
    """Further outputs of the temporal transformer, such as STT's voice activity."""
    extra_heads_dim: int = 6
    """Classes of each of them."""
    conditions: tuple[ConditionConfig, ...] = ()
    """What is added to every frame: Kyutai's `conditioners` and `fuser`."""
    audio_delay_seconds: float = 0.0
    """How late the text is behind the audio that it transcribes (STT, from `stt_config`)."""
    audio_silence_prefix_seconds: float = 0.0
    """How much silence the audio begins with (STT, from `stt_config`)."""
    user_lag: int = 1
    """Which call's user frame a forward frame holds: frame j is the user frame of call j + user_lag. Moshi hears a
    frame in the call that it is given to (1), PersonaPlex in the next (0)."""

    def __post_init__(self) -> None:
        if len(self.delays) != 1 + self.n_q or min(self.delays) < 0:
            raise UserError(f"{len(self.delays)} delays for {1 + self.n_q} streams", place="delays")
        if not 0 <= self.dep_q <= self.n_q:
            raise UserError(f"dep_q {self.dep_q} is not between 0 and n_q ({self.n_q})", place="dep_q")
        depth = (self.depformer_dim, self.depformer_num_heads), (self.depformer_num_heads, self.depth_kv_repeat)
        for width, heads in ((self.dim, self.num_heads), (self.num_heads, self.kv_repeat), *depth):
            if width % heads:
                raise UserError(f"{width} is no multiple of {heads}", place="num_heads")
        if self.user_lag not in (0, 1):
            raise UserError(f"{self.user_lag} is not 0 or 1", place="user_lag")
        if self.positional_embedding not in ("rope", "none"):
            raise UserError(f"{self.positional_embedding!r} is not rope or none", place="positional_embedding")
        schedule = self.depformer_weights_per_step_schedule
        if schedule is not None and len(schedule) != self.dep_q:
            place = "depformer_weights_per_step_schedule"
            raise UserError(f"{len(schedule)} steps for {self.dep_q} codebooks", place=place)

    @property
    def agent_streams(self) -> int:
        """Audio streams that are the agent's voice. PersonaPlex writes 16 and speaks with 8."""
        return min(self.dep_q, self.n_q - self.user_streams)

    @property
    def user_streams(self) -> int:
        """Audio streams that are heard: the last ones. All of them when the model writes no audio (STT)."""
        return self.n_q if self.dep_q == 0 else min(USER_STREAMS, self.n_q - min(self.dep_q, USER_STREAMS))

    @property
    def text_initial_id(self) -> int:
        """What the text stream starts with; it can be read, not written."""
        return self.text_card

    @property
    def audio_initial_id(self) -> int:
        """What every audio stream starts with."""
        return self.card

    @property
    def depth_schedule(self) -> tuple[int, ...]:
        """Which weights of the depth transformer each codebook uses."""
        if not self.depformer_weights_per_step:
            return (0,) * self.dep_q
        return self.depformer_weights_per_step_schedule or tuple(range(self.dep_q))

    @property
    def input_schedule(self) -> tuple[int, ...]:
        """Which input projection of the depth transformer each codebook uses."""
        if not self.depformer_multi_linear:
            return (0,) * self.dep_q
        return self.depformer_weights_per_step_schedule or tuple(range(self.dep_q))

    @property
    def depth_kv_repeat(self) -> int:
        return self.depformer_kv_repeat or self.kv_repeat

    @property
    def depth_hidden(self) -> int:
        return self.depformer_dim_feedforward or int(self.hidden_scale * self.depformer_dim)


def config_from_kyutai(values: Mapping[str, Any], place: str | Path = "config.json") -> LMConfig:
    """Read the fields of a config.json, or of the arguments of upstream's LMModel.

    Raises:
        UserError: a TTS or Hibiki model, an option that is not supported, or a key that nobody knows.
    """
    kind = values.get("model_type", "moshi")
    if kind in ("tts", "hibiki") or values.get("tts_config"):
        raise UserError(f"is a model of type {kind!r}", place=place, mend="use a Moshi, PersonaPlex or STT model")
    for key, expected in NEUTRAL.items():
        if key in values and values[key] != expected and values[key]:
            raise UserError(f"{key} = {values[key]!r} is not supported", place=place, mend=f"only {expected!r} is")
    known = {field.name for field in fields(LMConfig)} - {"conditions", "user_lag", *STT_KEYS}
    strange = sorted(set(values) - known - CARRIED - IGNORED - set(NEUTRAL))
    if strange:
        raise UserError(f"unknown key {strange[0]!r}", place=place, mend="take the file that came with the weights")
    taken = {k: v for k, v in values.items() if k in known}
    taken |= {k: v for k, v in (values.get("stt_config") or {}).items() if k in STT_KEYS}
    config = from_dict(LMConfig, taken, place=str(place))
    # A depth transformer that writes the user's streams too is PersonaPlex's.
    ours = {"user_lag": 0 if config.dep_q > config.agent_streams else 1} | (values.get("duologue") or {})
    return replace(config, conditions=read_conditions(values, str(place)), user_lag=int(ours["user_lag"]))


def kyutai_config(config: LMConfig) -> dict[str, Any]:
    """A config.json for upstream's loader, with what it would leave to its defaults written out."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
    stt = {key: values.pop(key) for key in STT_KEYS}
    del values["conditions"], values["user_lag"]
    values |= {
        "causal": True, "norm": "rms_norm_f32", "gating": "silu", "layer_scale": None, "depformer_gating": "silu",
        "depformer_pos_emb": "none", "depformer_layer_scale": None, "depformer_dim_feedforward": config.depth_hidden,
        "depformer_kv_repeat": config.depth_kv_repeat,
    }  # fmt: skip
    values |= kyutai_conditions(config.conditions)
    return values | ({"stt_config": stt} if any(stt.values()) else {})
