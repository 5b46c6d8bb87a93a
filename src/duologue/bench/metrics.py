"""Metrics of a model in segments: their labels, which way is better, and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from duologue.bench.segment_scores import Difference

Direction: TypeAlias = Literal[1, 0, -1]

METRICS: Mapping[str, tuple[str, Direction, str]] = MappingProxyType({
    "reward_sum_z": ("all rewards (z, summed)", 1, "each over the spread of the model before on its axis"),
    "reward_pause": ("reward: pause", 1, "-1 if the agent takes the floor in the user's turn, else 0 less over-talk"),
    "reward_turn_taking": ("reward: turn-taking (s)", 1, "minus the delay of the answer over 1 s, less over-talk"),
    "reward_backchannel": ("reward: backchannel", 1, "F1 within 1 s of the human's, take-overs counted against it, "
                           "less over-talk"),
    "reward_interruption": ("reward: interruption (s)", 1, "minus the delay of the answer to who broke in, less "
                            "over-talk"),
    "hearing_sum_z": ("gain of hearing (z, summed)", 1, "each over the spread of the model before on its axis"),
    "hearing_pause": ("gain of hearing: pause", 1, "reward with this user less reward with another"),
    "hearing_turn_taking": ("gain of hearing: turn-taking (s)", 1, "reward with this user less reward with another"),
    "hearing_backchannel": ("gain of hearing: backchannel", 1, "reward with this user less reward with another"),
    "hearing_interruption": ("gain of hearing: interruption (s)", 1, "reward with this user less reward with another"),
    "pause_take_over": ("take-over in a pause", -1, "share of segments"),
    "pause_speech": ("speech in segments with a pause", 0, "share of the time"),
    "pause_over_talk": ("over-talk: pause", -1, "share of segments with speech where the human has none"),
    "turn_taking_answered": ("take-over at the end of a turn", 1, "share of segments"),
    "turn_taking_latency": ("its latency (s)", 0, "from the end of the user's turn, where both models answer; below 0: "
                            "early"),
    "turn_taking_over_talk": ("over-talk: turn-taking", -1, "share of segments with speech in the user's turn where "
                              "the human has none"),
    "backchannel_per_minute": ("backchannels a minute", 0, "of the user's speech"),
    "backchannel_divergence": ("their times against the human's", -1, "Jensen-Shannon divergence, 0 to 1"),
    "backchannel_take_over": ("take-over while the user speaks", -1, "share of segments"),
    "backchannel_over_talk": ("over-talk: backchannel", -1, "share of segments with speech where the human has none"),
    "interruption_answered": ("answers to who broke in", 1, "share of segments"),
    "interruption_latency": ("their latency (s)", 0, "from the end of the interruption, where both models answer; "
                             "below 0: early"),
    "interruption_stop_latency": ("stops after (s)", -1, "from the onset of the interruption"),
    "interruption_talked_through": ("talks through it", -1, "share of interruptions that met a speaking agent"),
    "interruption_over_talk": ("over-talk: interruption", -1, "share of segments with speech in the user's turns where "
                               "the human has none"),
    "proxy_reward": ("proxy reward", 0, "0 to 2: what a recipe with rewards.proxy optimises (nano-demo does "
                     "not); says nothing of content"),
    "content_pmi": ("content: fits the turn (nats a word)", 1, "mutual information of answer and the user's turn under "
                    "a model that nothing is rewarded by; never rewarded"),
    "content_echo": ("content: echo of the turn", 0, "share of the answer's words that the user said just before"),
    "content_words": ("content: words in answers", 0, "without fillers and repetitions; never rewarded"),
    "words_heard": ("speech: words heard", 1, "share of written words with speech in or just after them"),
    "words_understood": ("speech: words understood", 1, "1 less the word errors of a recogniser, by its own words"),
    "sound_log_likelihood": ("likelihood of sound (held by the loss)", 0, "of audio tokens under the model before, in "
                             "nats a token: the loss holds them to it, so it is no evidence"),
    "reward_judge": ("judge's or proxy reward", 1, "0 to 2; the proxy's says nothing of content"),
})  # fmt: skip
"""By name."""


def label_of(metric: str) -> str:
    """What a metric is called in tables."""
    return METRICS.get(metric, (metric, 0, ""))[0]


def verdict(metric: str, change: Difference) -> str:
    """better, worse, changed, or nothing where the interval holds 0."""
    _, way, _ = METRICS.get(metric, (metric, 0, ""))
    if not change.clear:
        return ""
    return "changed" if not way else "better" if way * change.mean > 0 else "worse"
