"""What an alignment run does: every choice named and typed. The papers' choices are in `align_recipes`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from duologue.axes import AXES
from duologue.axes import aspirin as aspirin_axis
from duologue.axes import duplexpo as duplexpo_axis
from duologue.axes.aspirin import AspirinReward
from duologue.axes.backchannel import BackchannelReward
from duologue.axes.duplexpo import DuplexPOReward
from duologue.axes.interruption import InterruptionReward
from duologue.axes.judge import JudgeConfig
from duologue.axes.pause import PauseReward
from duologue.axes.scoring import Rules
from duologue.axes.turn_taking import TurnTakingReward
from duologue.base.errors import UserError
from duologue.dialogue.scenes import Scene
from duologue.model.lora import LoRAConfig
from duologue.rl.actions import Projection
from duologue.rl.advantages import AdvantageConfig
from duologue.rl.gates import GateConfig
from duologue.rl.policy import PolicyConfig
from duologue.train.align_loss import KLConfig, Tokens, Under
from duologue.train.align_player import Precision
from duologue.train.lm_loss import Weights
from duologue.train.optimizers import OptimizerConfig

SLOTS, ROWS = 64, 8
"""Rollouts at once, played and in a forward pass, where nothing says how much memory there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSettings:
    """What is rolled out in a step. The defaults are those of arXiv 2606.11167 for PersonaPlex."""

    axes: tuple[str, ...] = tuple(AXES)
    """Each has the same part of a step's segments; the paper does not say otherwise."""
    groups: int = 32
    """Segments of a step."""
    group: int = 16
    """Rollouts of a segment."""
    slots: int | None = None
    """Rollouts at once; more groups follow in turn. Null: as many as the device's memory has room for (--plan), 64 on a
    CPU."""
    dtype: Precision = "auto"
    """Number format of the model that plays, of its keys and values: fp32, bf16, or auto, which is bf16 on a GPU and
    fp32 on a CPU. What learns is in float32 in any case."""
    window: tuple[float, float] | None = None
    """Instead of whole segments, windows around what the human did there, from so many seconds before its onset to so
    many after its end (DuplexPO: 1 and 2); all of the recording before it is given. Null: whole segments."""
    longest_s: float | None = None
    """Only the last so many seconds of a segment are acted, but all from 2 s before the first thing that happens in it
    (where the axis has a turn to answer, its end; where it has an interruption, that); what was before counts as
    context. Null: whole segments."""
    most_s: float | None = None
    """Segments that are to be acted for longer than this even so are left out, and counted: the longest of all sets how
    much memory rollouts need. Null: none are. Not in the papers."""
    after_s: float | None = None
    """A segment ends so many seconds after the user's turn or interruption, where the axis asks for an answer, if it
    does not before: who has not answered until then is not waited for. Null: whole segments."""
    context: float = 0.5
    """Chance that the recording before a segment is given."""
    context_s: tuple[float, float] = (0.0, 30.0)
    """Longest context, in seconds, at the run's first and last step: what is given is uniform below it."""
    lead_s: float | None = None
    """Seconds of silence before a segment without context, in which a model says what it says first; null: by the kind
    of model, 3 for Moshi, else 0."""
    text_prompt: str | None = None
    """What the agent is told before; null: by the kind of model, PersonaPlex's system prompt for PersonaPlex, else
    nothing."""
    voice_prompt: str | None = None
    """Whose voice it takes: a recording (the paper: 3 s of a woman's voice before PersonaPlex), or the name of a voice
    of the model; null: its own."""
    text_temperature: float | None = 0.7
    """Of the text; the model's own if null, as all that follow."""
    text_top_k: int | None = None
    """Pieces of text that can be drawn; 0: all."""
    text_top_p: float | None = None
    """Of the text."""
    audio_temperature: float | None = 0.8
    """Of the audio."""
    audio_top_k: int | None = 250
    """Audio tokens that can be drawn."""
    pad_temperature: float | None = None
    """Of the choice whether to speak, apart from that of words."""
    guidance: float | None = None
    """Of the sound by the words: above 1 each frame is read twice."""

    def __post_init__(self) -> None:
        for name in ("groups", "group", "slots"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{value} is less than 1", place=f"rollouts.{name}")
        if self.slots is not None and self.group > self.slots:
            problem = f"a group of {self.group} does not fit {self.slots} slots"
            raise UserError(problem, place="rollouts.slots", mend="use as many slots as rollouts of a group, or more")
        if not 0 <= self.context <= 1:
            raise UserError(f"{self.context} is no chance", place="rollouts.context", mend="use 0 to 1")
        if min(self.context_s) < 0 or (self.lead_s or 0.0) < 0:
            raise UserError("a length is below 0", place="rollouts.context_s or lead_s", mend="use seconds from 0 on")
        for name in ("longest_s", "most_s", "after_s"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise UserError(f"{value} is not a length", place=f"rollouts.{name}", mend="use seconds above 0")
        if self.window is not None and min(self.window) < 0:
            raise UserError("a length is below 0", place="rollouts.window", mend="use seconds from 0 on")
        for axis in self.axes:
            if axis not in AXES:
                raise UserError(f"no axis {axis!r}", place="rollouts.axes", mend=f"use {', '.join(AXES)}")
        if not self.axes:
            raise UserError("names no axis", place="rollouts.axes", mend=f"use {', '.join(AXES)}")

    @property
    def at_once(self) -> int:
        """Rollouts at once: `slots`, or where nobody chose, 64, and a whole group."""
        return self.slots or max(SLOTS, self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetySettings:
    """Requests that should be refused, played beside the segments and graded by a judge. Not in the papers."""

    probes: Path
    """Folder of recordings (NAME.wav) with their words (NAME.txt)."""
    judge: JudgeConfig
    """Who grades: 2 for a refusal, 1 for neither, and for silence, 0 for help."""
    groups: int = 2
    """Groups of a step, besides the others."""
    tail_s: float = 6.0
    """Seconds after a request in which the agent may answer."""
    threshold: float | None = None
    """Mean grade that has to be kept: below it the weight of these groups grows, above it shrinks to none (Lagrange).
    Null: a reward like the others, always."""
    rate: float = 0.5
    """How fast that weight moves, a step and a point of the grade."""

    def __post_init__(self) -> None:
        if self.groups < 1 or not self.tail_s > 0 or not self.rate > 0:
            raise UserError("groups, tail_s and rate are above 0", place="rewards.safety")
        if self.threshold is not None and not 0 <= self.threshold <= 2:
            raise UserError(
                f"{self.threshold} is no grade", place="rewards.safety.threshold", mend="use 0 to 2, or null"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSettings:
    """What is rewarded on each axis."""

    rules: Rules = "one_unit"
    """What a unit of speech is: "one_unit", the same on every axis, as the settings of the axes below say; or
    "literal", the rules of arXiv 2606.11167, by which a deaf agent can earn more than people unless a judge reads what
    it says. The literal rules leave no place for settings of axes."""
    pause: PauseReward = field(default_factory=PauseReward)
    """R_pause."""
    turn_taking: TurnTakingReward = field(default_factory=TurnTakingReward)
    """R_turn."""
    backchannel: BackchannelReward = field(default_factory=BackchannelReward)
    """R_bc."""
    interruption: InterruptionReward = field(default_factory=InterruptionReward)
    """R_int."""
    duplexpo: DuplexPOReward | None = None
    """DuplexPO's reward instead of those of the axes; null: those."""
    aspirin: AspirinReward | None = None
    """ASPIRin's reward instead of those of the axes; null: those."""
    judge: JudgeConfig | Literal["none"] | None = None
    """Who grades answers on the axes turn_taking and interruption: R_llm, a reward of its own; none: nobody, and that
    is meant; null: nobody is named, which a recipe may refuse."""
    needs_judge: bool = False
    """Whether the recipe's paper rewards with a judge, so that one has to be named, or judge=none."""
    proxy: bool = False
    """Let the shipped proxy reward grade them instead: how much they are a person's answers to what the user said, to a
    small model. Content is measured by other numbers."""
    recogniser: str | None = None
    """Who hears the words of both sides for all that reads them: parakeet, or a folder, size or hub name of Whisper.
    Null: the agent's own text and the corpus' transcript are read."""
    safety: SafetySettings | None = None
    """Also play probes, and reward refusals; null: none."""

    def of(self, axis: str) -> object:
        """What the rewards of an axis depend on, of the type `Axis.reward_type`."""
        return AXES[axis].literal() if self.rules == "literal" else getattr(self, axis)

    def score(self, axis: str, scene: Scene) -> dict[str, float]:
        """Named rewards of a scene of an axis by rule, without those of judges; NaN = could not be scored."""
        if self.duplexpo is not None:
            return duplexpo_axis.reward(scene, self.duplexpo)
        if self.aspirin is not None:
            return aspirin_axis.reward(scene, self.aspirin)
        return AXES[axis].reward(scene, self.of(axis))

    def __post_init__(self) -> None:
        for axis in AXES.values() if self.rules == "literal" else ():
            if getattr(self, axis.name) != axis.reward_type()():
                mend = "leave the settings of axes out, or use rewards.rules=one_unit"
                raise UserError("is set beside literal rules", place=f"rewards.{axis.name}", mend=mend)
        if self.duplexpo is not None and self.aspirin is not None:
            place = "rewards.duplexpo and rewards.aspirin"
            raise UserError("two rewards instead of the axes' own", place=place, mend="use one of them")
        if self.proxy and isinstance(self.judge, JudgeConfig):
            raise UserError("two judges were named", place="rewards.judge and rewards.proxy", mend="use one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImitationSettings:
    """Learning from what the human did in the same segments, beside the rewards (WavAlign, arXiv 2604.14932): a step's
    loss is lambda times that of the rewards and 1 - lambda times the cross-entropy of all of the human's tokens."""

    share: float | None = None
    """1 - lambda, fixed; null: the gate decides at every step."""
    gate: GateConfig = field(default_factory=lambda: GateConfig(low=0.0, high=2.0))
    """Lambda from a reward and its range."""
    reward: str = "judge"
    """Which reward opens the gate; groups without it do not count."""
    weights: Weights = field(default_factory=Weights)
    """What counts how much in the cross-entropy."""

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= self.share <= 1:
            raise UserError(f"{self.share} is no share", place="update.imitation.share", mend="use 0 to 1, or null")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSettings:
    """Learning from pairs instead of advantages: DPO (arXiv 2305.18290), by length as 2506.21463 does for Moshi. The
    pair of a group is its best and its worst rollout; groups without spread have none."""

    beta: float = 0.1
    """How closely the policy is held to its reference."""
    by_length: bool = True
    """A rollout's gain is the mean over its tokens, not the sum."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise UserError(f"{self.beta} holds nothing", place="update.preference.beta", mend="use more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticSettings:
    """A value head on frames, and generalised advantages from it (PPO)."""

    discount: float = 1.0
    """Of what comes a frame later."""
    trace: float = 1.0
    """Lambda: the nearer to 1, the less is left to the critic's judgement. At 1 a frame's advantage is its rollout's
    less what the critic expected there; below it, credit of early frames fades until the critic has learned: at 0.98
    to 0.37 of it 4 s before the end."""
    rate: float = 1e-2
    """Its learning rate."""

    def __post_init__(self) -> None:
        if not (0 < self.discount <= 1 and 0 <= self.trace <= 1 and self.rate > 0):
            raise UserError("discount and trace are shares, the rate above 0", place="update.critic")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettings:
    """How a step's rollouts change the model. The defaults are those of arXiv 2606.11167."""

    updates: int = 16
    """Optimiser steps of a step: each takes an equal part of every group."""
    rows: int | None = None
    """Rollouts of one forward pass; gradients add up. Null: as many as the device's memory has room for (--plan), 8 on
    a CPU and at most."""
    tokens: Tokens = "text"
    """What carries the policy gradient."""
    logprob_under: Under = "model"
    """Whose log-probabilities the surrogate takes: the model's, over the whole vocabulary at temperature 1, whatever
    the draws had; or those of the sampler, with temperature, top-k, top-p and the choice of PAD. The papers do not
    say."""
    projection: Projection | None = None
    """Two actions instead of the vocabulary (ASPIRin); null: the vocabulary."""
    advantage: AdvantageConfig = field(default_factory=AdvantageConfig)
    """From rewards to advantages."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """The surrogate. Frames that count are those that were acted in, padding too: not those of prompt, lead and
    context. A group's rollouts are equally long and many, so that a mean over rollouts is the mean over groups of each
    group's mean over frames."""
    flat_groups: Literal["keep", "drop"] = "keep"
    """Groups whose rollouts all earn the same: keep, they count in the mean, by their divergence alone, as the paper's
    formula has it; drop, they neither thin the others' gradient nor pull to the reference alone."""
    kl: KLConfig = field(default_factory=KLConfig)
    """The leash."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            kind="adamw", rate=2e-7, warmup=0, flat=0.0, end=0.0, shape="cosine", decay=0.1, clip=2.0
        )
    )
    """How weights move."""
    imitation: ImitationSettings | None = None
    """Learn from the human too; null: from rewards alone."""
    critic: CriticSettings | None = None
    """Give each frame an advantage of its own (PPO); null: all frames of a rollout share its own."""
    preference: PreferenceSettings | None = None
    """Learn from pairs, one optimiser step a batch; null: policy gradient."""
    lora: LoRAConfig | None = None
    """Learn adapters instead of all weights; the reference is then the model without them."""
    compare_gradients_every: int = 0
    """Steps between two in which the policy gradients of text and of audio tokens are compared (WavAlign); 0: never. It
    costs a backward pass of the whole model on one part of the batch."""
    shard: bool = False
    """With several processes: what learns, gradients, moments and the reference lie in shards, beside a whole copy in
    each process, which plays. For all weights of a large model; adapters need none of it."""
    recompute: bool = False
    """Keep less for the gradient and compute it again."""
    autocast: bool = True
    """Compute in bfloat16 where that is safe: not the weights, nor what follows the last hidden state."""

    def __post_init__(self) -> None:
        for name in ("updates", "rows"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{value} is less than 1", place=f"update.{name}")
        if self.projection is not None and self.tokens != "text":
            problem = f"two actions of the text, and a gradient on {self.tokens}"
            raise UserError(problem, place="update.projection", mend="use tokens: text")
        if self.logprob_under == "sampler" and (self.projection or self.preference):
            problem = "the sampler draws tokens, neither two actions nor pairs"
            raise UserError(problem, place="update.logprob_under", mend="use logprob_under: model")
        if self.shard and (self.lora or self.preference or self.compare_gradients_every):
            problem = "shards are for all weights: not for adapters, nor for pairs or compared gradients"
            raise UserError(problem, place="update.shard", mend="leave them out, or shard=false")
        if self.shard and self.optimizer.kind == "muon":
            raise UserError("muon needs whole matrices", place="update.shard", mend="use update.optimizer.kind=adamw")
        if self.preference is not None and (
            self.projection or self.imitation or self.critic or self.updates > 1 or self.tokens != "text"
        ):
            problem = "pairs of texts leave no place for other tokens, two actions, imitation, a critic or more updates"
            raise UserError(problem, place="update.preference", mend="leave those at their defaults, updates=1")

    @property
    def at_once(self) -> int:
        """Rollouts of one forward pass: `rows`, or 8 where nobody chose."""
        return self.rows or ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """When a run stops by itself. Null: never for that reason; a loss that is not finite always counts."""

    kl: float | None = 2.0
    """Mean divergence from the reference above which a policy has gone astray, in nats a token."""
    repetition: float | None = 0.8
    """Share of pairs of pieces that came before in the same rollout."""
    entropy: float | None = 0.01
    """Mean entropy of the text below which nothing is left to explore, in nats."""
    unscored: float | None = 0.5
    """Share of the answers to be graded that a judge did not grade."""
    patience: int = 3
    """Steps in a row."""

    def __post_init__(self) -> None:
        if self.unscored is not None and not 0 <= self.unscored <= 1:
            raise UserError(f"{self.unscored} is no share", place="guard.unscored", mend="use 0 to 1, or null")
        if self.patience < 1:
            raise UserError(f"{self.patience} is less than 1", place="guard.patience")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignSettings:
    """All of a run."""

    steps: int = 100
    """Batches of rollouts: the paper's epochs."""
    rollouts: RolloutSettings = field(default_factory=RolloutSettings)
    """What is rolled out."""
    rewards: RewardSettings = field(default_factory=RewardSettings)
    """What is rewarded."""
    update: UpdateSettings = field(default_factory=UpdateSettings)
    """How that changes the model."""
    guard: GuardSettings = field(default_factory=GuardSettings)
    """When to stop early."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"{self.steps} is less than 1", place="steps")
        if self.update.updates > self.rollouts.group:
            problem = f"{self.update.updates} updates of groups of {self.rollouts.group}"
            raise UserError(problem, place="update.updates", mend="use at most one for each rollout of a group")
