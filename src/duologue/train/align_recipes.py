"""The recipes of alignment: what papers publish, as settings, and what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from duologue.axes.aspirin import AspirinReward
from duologue.axes.duplexpo import DuplexPOReward
from duologue.model.lora import LoRAConfig
from duologue.rl.advantages import AdvantageConfig
from duologue.rl.policy import PolicyConfig
from duologue.train.align_loss import KLConfig
from duologue.train.align_settings import (
    AlignSettings,
    CriticSettings,
    GuardSettings,
    ImitationSettings,
    PreferenceSettings,
    RewardSettings,
    RolloutSettings,
    UpdateSettings,
)
from duologue.train.lm_loss import Weights
from duologue.train.optimizers import OptimizerConfig


def kyutai() -> AlignSettings:
    """arXiv 2606.11167, section 5: full fine-tuning. Prompts and lead are those of the model's kind. Every group weighs
    the same, those without spread too. Segments of more than a minute are left out, which is ours: the paper has no
    bound, and the longest one sets how much memory rollouts need. Rewards: the paper's literal rules, and a judge."""
    return AlignSettings(
        rollouts=RolloutSettings(most_s=60.0), rewards=RewardSettings(rules="literal", needs_judge=True)
    )


def kyutai_lora() -> AlignSettings:
    """The same with adapters on the temporal transformer, for one GPU; the rate is this project's choice, as are
    segments that are cropped to 30 s, which save memory. Rewards: the paper's literal rules, and a judge."""
    base = kyutai()
    optimizer = replace(base.update.optimizer, rate=1e-5)
    return replace(
        base, rollouts=replace(base.rollouts, longest_s=30.0, most_s=30.0),
        update=replace(base.update, optimizer=optimizer, lora=LoRAConfig(targets="transformer.*")),
    )  # fmt: skip


def aspirin() -> AlignSettings:
    """ASPIRin's action space (arXiv 2604.10065): the policy is over speaking and silence, groups of 2, no clip that
    matters, adapters. Its 3 epochs of about 1,300 clips on 8 devices are 488 steps of 8 groups; it also trains the
    embeddings whole, which is not done here. A sum over hundreds of logits makes one of the two actions certain, so
    that their entropy says nothing and is not guarded.

    Rewards: its own, of detected speech instead of recognised words, on segments that ask for an answer."""
    update = UpdateSettings(
        updates=1, projection="sum_of_logits", kl=KLConfig(beta=0.001), lora=LoRAConfig(rank=256),
        optimizer=OptimizerConfig(kind="adamw", rate=1e-5, warmup=0, flat=1.0, decay=0.0, clip=1.0),
    )  # fmt: skip
    rollouts = RolloutSettings(axes=("turn_taking", "interruption"), groups=8, group=2)
    return AlignSettings(
        steps=488, rollouts=rollouts, rewards=RewardSettings(aspirin=AspirinReward()), update=update,
        guard=GuardSettings(entropy=None),
    )  # fmt: skip


def wavalign() -> AlignSettings:
    """WavAlign (arXiv 2604.14932, official code): groups of 4, one update, rewards on the text's tokens, and imitation
    of all tokens as the gate says, a word, PAD and every code of sound weighing the same. Its judge scores answers from
    1 to 5 and was not for full-duplex models: here the gate takes the axes' judge, from 0 to 2; without one lambda is
    0, and imitation.share fixes it. All weights learn: for a model of 7B, several processes with update.shard=true.

    Rewards: one unit of speech on every axis, and a judge."""
    optimizer = OptimizerConfig(
        kind="adamw", rate=1e-6, warmup=20, flat=0.0, end=0.0, shape="cosine", decay=0.01, clip=1.2
    )
    imitation = ImitationSettings(weights=Weights(padding=1.0, semantic=1.0))
    update = UpdateSettings(
        updates=1, kl=KLConfig(beta=0.001, estimator="k3"), optimizer=optimizer, imitation=imitation
    )
    rollouts, rewards = RolloutSettings(groups=4, group=4, text_top_p=0.9), RewardSettings(needs_judge=True)
    return AlignSettings(steps=2000, rollouts=rollouts, rewards=rewards, update=update)


def duplexpo() -> AlignSettings:
    """DuplexPO (arXiv 2607.07148): windows around what the human did, everything before them given, its factored
    reward, groups of 4, temperature 1, top-p 0.9. Its rate rises to 1e-5 in 100 steps and goes down to 1e-6: the 1,000
    steps and the cosine are this project's choice, since the paper gives neither. Its clipping of advantages to +-5
    never binds in groups of 4 and is left out, as is the limit of windows in a conversation.

    Rewards: its own."""
    optimizer = OptimizerConfig(
        kind="adamw", rate=1e-5, warmup=100, flat=0.1, end=0.1, shape="cosine", decay=0.0, clip=1.0
    )
    rolled = RolloutSettings(
        group=4, window=(1.0, 2.0), context=1.0, text_temperature=1.0, audio_temperature=1.0, text_top_p=0.9
    )
    update = UpdateSettings(updates=1, kl=KLConfig(beta=0.2), optimizer=optimizer)
    rewards = RewardSettings(duplexpo=DuplexPOReward())
    return AlignSettings(steps=1000, rollouts=rolled, rewards=rewards, update=update)


def ppo() -> AlignSettings:
    """PPO with a value head on frames (arXiv 1707.06347), the rest as arXiv 2606.11167. Rewards: that paper's literal
    rules and a judge, so that the critic is the only difference."""
    base = kyutai()
    return replace(base, update=replace(base.update, critic=CriticSettings()))


def dpo() -> AlignSettings:
    """Direct preference optimisation on the text's tokens (arXiv 2506.21463), adapters on the temporal transformer.
    With duologue align --replay it is offline, as there. Rewards: one unit of speech on every axis and a judge, whose
    sum says which rollout of a group is the better; the paper's pairs are a judge's."""
    optimizer = OptimizerConfig(kind="adamw", rate=1e-5, warmup=10, flat=1.0, decay=0.0, clip=1.0)
    update = UpdateSettings(
        updates=1, preference=PreferenceSettings(), optimizer=optimizer, lora=LoRAConfig(targets="transformer.*")
    )
    return AlignSettings(rewards=RewardSettings(needs_judge=True), update=update)


def nano_demo() -> AlignSettings:
    """For the small model that comes with the package, on two CPU cores: cropped segments, all with some context, one
    optimiser step for each batch of rollouts at a rate for so few. Answers weigh more than silence, for of a model that
    hears little silence is learned first. Every frame weighs the same, and groups without spread are dropped. The voice
    is held by its divergence. Rewards: timing alone, one unit of speech on every axis: nothing that is said about
    content was optimised.
    """
    optimizer = OptimizerConfig(kind="adamw", rate=4e-4, warmup=2, flat=0.5, end=0.1, decay=0.0, clip=1.0)
    rollouts = RolloutSettings(
        groups=8, group=8, slots=32, longest_s=8.0, after_s=4.0, context=1.0, context_s=(4.0, 4.0),
        text_temperature=None, audio_temperature=None, audio_top_k=None, guidance=1.0,
    )  # fmt: skip
    update = UpdateSettings(
        updates=1, rows=32, optimizer=optimizer, kl=KLConfig(beta=0.05, audio=1.0, audio_streams=2),
        policy=PolicyConfig(aggregate="frame_mean"), flat_groups="drop",
        advantage=AdvantageConfig(
            weights={"pause": 0.75, "backchannel": 0.75, "turn_taking": 1.25, "interruption": 1.25}
        ),
    )  # fmt: skip
    return AlignSettings(steps=16, rollouts=rollouts, update=update)


RECIPES: Mapping[str, Callable[[], AlignSettings]] = MappingProxyType({
    "kyutai-2606.11167": kyutai,
    "kyutai-lora": kyutai_lora,
    "aspirin": aspirin,
    "wavalign": wavalign,
    "duplexpo": duplexpo,
    "ppo": ppo,
    "dpo": dpo,
    "nano-demo": nano_demo,
})  # fmt: skip
"""Settings by name."""
