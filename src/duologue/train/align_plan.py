"""How much memory an alignment run needs, by part, and how many rollouts fit: arithmetic on shapes, before any weights.

Weights, adapters, moments and keys and values are counted to the byte. What is kept for the gradient is counted from
what each layer saves (`activation_bytes`), and what decoding and output layers need for a while is an upper bound.
Rollouts and updates follow one another, so that only the larger of their two needs counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import torch

from duologue.codec.config import MimiConfig
from duologue.codec.spectral import SpectralConfig
from duologue.model.checkpoint import FLOAT32
from duologue.model.config import LMConfig
from duologue.model.lm import DuplexLM
from duologue.train.align_loss import CHUNK
from duologue.train.align_player import is_autocast_matrix, rounds_frozen, set_learning
from duologue.train.align_settings import ROWS, AlignSettings
from duologue.train.rollouts import DECODED, DECODED_S

Phase: TypeAlias = Literal["start", "always", "rollouts", "learning", "passes", "step"]
"""When memory is taken: at the start, before all else; always; while rolling out; while updating; in that, in forward
and backward passes, or in the optimiser's step."""
Learned: TypeAlias = Literal["all", "adapters", "none"]
USED = 0.9
"""Share of a device's memory that is planned for: the rest is for libraries, captured graphs and what lies between."""
SLOTS_MOST = 256
"""Rollouts at once beyond which nothing is gained."""
VOCABULARY_COPIES = 8
"""Numbers of the vocabulary's size that a frame has at once in the output layer, its divergence and their gradient."""
SOUND_COPIES = 4.5
"""Numbers that decoding Mimi needs at once for each sample and filter of its widest layer."""


class Part(NamedTuple):
    """Something that takes memory."""

    name: str
    bytes: int
    phase: Phase
    """When it is there."""


class Activations(NamedTuple):
    """Bytes that are kept from the forward pass, and that recomputing a layer needs besides."""

    kept: int
    recomputed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The memory of a run on each of its devices."""

    parts: tuple[Part, ...]
    slots: int
    """Rollouts at once."""
    rows: int
    """Rollouts of one forward pass."""
    frames: int
    """Of the longest rollout, with prompt and context."""
    memory: int | None = None
    """Bytes of the device; None: nobody said."""

    @property
    def total(self) -> int:
        """Bytes at the worst moment."""
        learning = self.of("learning") + max(self.of("passes"), self.of("step"))
        return max(self.of("start"), self.of("always") + max(self.of("rollouts"), learning))

    @property
    def fits(self) -> bool:
        """Whether it does, with room to spare."""
        return self.memory is None or self.total <= USED * self.memory

    def line(self) -> str:
        """The plan in a line."""
        need = f"about {self.total / 1e9:.1f} GB, by arithmetic (--plan)"
        fit = "" if self.fits or self.memory is None else f", which may not fit {self.memory / 1e9:.0f} GB"
        return f"{self.slots} slots, {self.rows} rows: {need}{fit}"

    def of(self, phase: Phase) -> int:
        """Bytes of a phase's own parts."""
        return sum(part.bytes for part in self.parts if part.phase == phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Bytes of a run's weights, gradients and moments."""

    held: int
    """The policy's weights, adapters included."""
    adapters: int
    """Of these."""
    loaded: int
    """In float32, as they are loaded, and a second time before they are in shards."""
    player: int
    """A copy that plays, with the table of embeddings that the engine lays out."""
    reference: int
    """A frozen copy of the policy."""
    gradients: int
    moments: int
    rounded: int
    """Copies in bfloat16 of float32 matrices that autocast makes and the backward pass keeps."""
    gathered: int
    """What is whole for a while of weights that lie in shards: all that is outside of layers, and two layers."""


def weights_of(
    config: LMConfig, settings: AlignSettings, dtype: torch.dtype = torch.bfloat16, processes: int = 1
) -> Weights:
    """What a run holds of a model of this shape on each device.

    Args:
        config: the model's shape.
        settings: of the run.
        dtype: of rollouts.
        processes: that learn together, a device each.
    """
    how = settings.update
    with torch.device("meta"):
        model = DuplexLM(config)
    set_learning(model, how)
    shards = processes if how.shard else 1
    halves, plays_itself = rounds_frozen(how, dtype), dtype == torch.float32 and shards == 1
    used = ("transformer.", "depformer") if depth_steps(config, settings) else ("transformer.",)
    loaded = held = adapters = player = gradients = moments = rounded = outside = 0
    for name, p in model.named_parameters():
        half = halves and not p.requires_grad and is_autocast_matrix(name)
        size = p.numel() * (2 if half else 4)
        held += size
        loaded += 4 * p.numel() if ".lora_" not in name else 0
        adapters += size if ".lora_" in name else 0
        shared = plays_itself or (name.startswith(FLOAT32) and shards == 1) or (half and dtype == torch.bfloat16)
        player += 0 if shared else p.numel() * (4 if name.startswith(FLOAT32) else dtype.itemsize)
        if how.autocast and not half and is_autocast_matrix(name) and name.startswith(used):
            rounded += 2 * p.numel()
        outside += 0 if ".layers." in name else size
        if p.requires_grad:
            gradients += 4 * p.numel()
            muon = how.optimizer.kind == "muon" and ".layers." in name and p.dim() >= 2
            moments += (4 if muon else 8) * p.numel()
    layer = sum(4 * p.numel() for p in model.transformer.layers[0].parameters())
    needed = bool(how.kl.beta or how.kl.audio or how.preference) and how.lora is None
    player += config.dim * dtype.itemsize  # a row of the table for tokens that are absent
    return Weights(
        loaded=loaded * (2 if shards > 1 else 1),
        held=held // shards,
        adapters=adapters // shards,
        player=player,
        reference=held // shards if needed else 0,
        gradients=gradients // shards,
        moments=moments // shards,
        rounded=rounded,
        gathered=(outside + 2 * layer) * (2 if needed else 1) if shards > 1 else 0,
    )


def ring_bytes(config: LMConfig, slots: int, frames: int, dtype: torch.dtype, *, guided: bool = False) -> int:
    """Keys and values of so many slots (`LMState.cache`); guided ones are read twice."""
    c = config
    places = frames if c.context is None else min(frames, c.context)
    rows = slots * (2 if guided else 1)
    return c.num_layers * rows * 2 * (c.num_heads // c.kv_repeat) * places * (c.dim // c.num_heads) * dtype.itemsize


def activation_bytes(config: LMConfig, settings: AlignSettings, tokens: int) -> Activations:
    """What is kept for the gradient of so many frames, those of all rollouts of a forward pass.

    A layer of width D with a feed-forward of H keeps, for each frame: of its two norms the inputs, and the normalised
    values where their scales learn (8 D bytes each); queries and keys that were turned, the projection that holds the
    values, and attention's output (6 D numbers); gate and value, and the gate's activation (3 H); and where its
    matrices learn or have adapters, the inputs of its four projections (3 D and H). Numbers have 2 bytes under
    autocast. With recompute a layer keeps its input, and all of this is there for one layer at a time. The depth
    transformer keeps the same for each of its steps.
    """
    c, how = config, settings.update
    size = 2 if how.autocast else 4
    hidden = _gate(c.dim, int(c.hidden_scale * c.dim))
    each = _layer_bytes(
        c.dim, c.dim // c.kv_repeat, hidden, c.num_heads, size, "all" if how.lora is None else "adapters"
    )
    if how.lora is not None:
        each += 4 * how.lora.rank * size
    kept = c.num_layers * (4 * c.dim if how.recompute else each) + 2 * 4 * c.dim  # and the last norm and its output
    again = each if how.recompute else 0
    steps = depth_steps(config, settings)
    if steps:
        d, learns = c.depformer_dim, how.lora is None and (how.tokens != "text" or how.imitation is not None)
        learned: Learned = "all" if learns else "none"
        deep = _layer_bytes(d, d // c.depth_kv_repeat, _gate(d, c.depth_hidden), c.depformer_num_heads, size, learned)
        kept += steps * (c.depformer_num_layers * (4 * d if how.recompute else deep) + 4 * d)
        again = max(again, steps * deep if how.recompute else 0)
    return Activations(tokens * kept, tokens * again)


def depth_steps(config: LMConfig, settings: AlignSettings) -> int:
    """Audio streams that a gradient goes through."""
    how = settings.update
    if how.imitation is not None:
        return config.dep_q
    held = min(how.kl.audio_streams, config.agent_streams) if how.kl.audio else 0
    return max({"text": 0, "text_semantic": 1, "all": config.agent_streams}[how.tokens], held)


def parts_of(
    config: LMConfig, settings: AlignSettings, frames: int, weights: Weights, *, slots: int, rows: int,
    dtype: torch.dtype, codec: MimiConfig | SpectralConfig | None = None,
) -> tuple[Part, ...]:  # fmt: skip
    """The parts of a run's memory on each device.

    Args:
        config: the model's shape.
        settings: of the run.
        frames: of the longest rollout, with prompt and context.
        weights: what `weights_of` counts.
        slots: rollouts at once.
        rows: rollouts of one forward pass.
        dtype: of rollouts.
        codec: whose decoder makes sound of rollouts; None: it is left out.
    """
    w = weights
    guided = settings.rollouts.guidance not in (None, 1.0)
    scored = min(CHUNK, rows * frames)
    widest = max(config.text_card, config.card if depth_steps(config, settings) else 0)
    streams = depth_steps(config, settings)
    autocast_copies = 0 if settings.update.recompute else w.rounded
    return tuple(part for part in (
        Part("weights as they are loaded", w.loaded, "start"),
        Part("weights" + " in shards" * (w.gathered > 0), w.held - w.adapters, "always"),
        Part("adapters", w.adapters, "always"),
        Part("optimiser's moments", w.moments, "always"),
        Part("reference", w.reference, "always"),
        Part("copy that plays", w.player, "always"),
        Part("codec", _codec_bytes(codec), "always"),
        Part("keys and values", ring_bytes(config, slots, frames, dtype, guided=guided), "rollouts"),
        Part("decoding sound", _sound_bytes(codec, slots, frames), "rollouts"),
        Part("gradients", w.gradients, "learning"),
        Part("weights before, every tenth step", w.gradients, "learning"),
        Part("optimiser's step", w.gradients, "step"),
        Part("gathered shards", w.gathered, "passes"),
        Part("kept for the gradient", sum(activation_bytes(config, settings, rows * frames)), "passes"),
        Part("weights rounded by autocast", autocast_copies, "passes"),
        Part("output layers", VOCABULARY_COPIES * scored * widest * 4 + rows * frames * streams * 16, "passes"),
    ) if part.bytes)  # fmt: skip


def planned(
    config: LMConfig, settings: AlignSettings, frames: int, *, memory: int | None, dtype: torch.dtype,
    codec: MimiConfig | SpectralConfig | None = None, processes: int = 1,
) -> Plan:  # fmt: skip
    """The plan of a run: what its settings say of slots and rows, else the most that fit; the least if none do.

    Without a device's memory, the plain defaults. Arguments as `weights_of` and `parts_of`; `memory` in bytes.
    """
    rolled, how = settings.rollouts, settings.update
    weights = weights_of(config, settings, dtype, processes)

    def plan(slots: int, rows: int) -> Plan:
        parts = parts_of(config, settings, frames, weights, slots=slots, rows=rows, dtype=dtype, codec=codec)
        return Plan(parts=parts, slots=slots, rows=rows, frames=frames, memory=memory)

    if memory is None:
        return plan(rolled.at_once, how.at_once)
    group = rolled.group
    all_groups = -(-rolled.groups // processes) * group
    many = [rolled.slots] if rolled.slots else list(range(group, max(min(all_groups, SLOTS_MOST), group) + 1, group))
    wide = [how.rows] if how.rows else [n for n in (1, 2, 4, ROWS) if n <= ROWS]
    rows = _largest(wide, [plan(many[0], n) for n in wide])
    slots = _largest(many, [plan(n, rows) for n in many])
    return plan(slots, rows)


def fitted(settings: AlignSettings, plan: Plan) -> AlignSettings:
    """The settings with the slots and rows of a plan."""
    return replace(
        settings, rollouts=replace(settings.rollouts, slots=plan.slots), update=replace(settings.update, rows=plan.rows)
    )


def _largest(numbers: Sequence[int], plans: Sequence[Plan]) -> int:
    """The largest number whose plan fits, else the least."""
    return max((n for n, plan in zip(numbers, plans, strict=True) if plan.fits), default=min(numbers))


def _layer_bytes(dim: int, kv: int, hidden: int, heads: int, size: int, learned: Learned) -> int:
    """Of one layer and frame; see `activation_bytes`."""
    norms = 2 * 4 * dim * (2 if learned == "all" else 1) + 2 * 4
    inside = (3 * dim + 3 * kv + 3 * hidden) * size + 4 * heads
    inputs = 0 if learned == "none" else (3 * dim + hidden) * size
    return norms + inside + inputs


def _gate(dim: int, nominal: int) -> int:
    """Width of a gated feed-forward (`layers.Gating`)."""
    return 21 * dim // 8 if nominal == 4 * dim else 2 * nominal // 3


@lru_cache
def _codec_bytes(codec: MimiConfig | SpectralConfig | None) -> int:
    """The codec's weights, in float32."""
    if codec is None:
        return 0
    from duologue.codec.mimi import Mimi
    from duologue.codec.spectral import SpectralCodec

    with torch.device("meta"):
        made = SpectralCodec(codec, 8) if isinstance(codec, SpectralConfig) else Mimi(codec)
    return sum(x.numel() * x.element_size() for x in made.state_dict().values())


def _sound_bytes(codec: MimiConfig | SpectralConfig | None, slots: int, frames: int) -> int:
    """What decoding needs for a while: as many rollouts at once as `rollouts` takes."""
    if not isinstance(codec, MimiConfig):
        return 0
    seconds = frames / codec.frame_rate
    at_once = min(slots, max(1, min(DECODED, int(DECODED_S / seconds))))
    return int(at_once * seconds * codec.sample_rate * codec.seanet.n_filters * SOUND_COPIES * 4)
