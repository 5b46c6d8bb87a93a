"""Reference agents: what a person, nobody, and simple machines do in a scene, so that a reward can be read beside them.

Each is a function from a scene to the agent's speech. All but the human and the voice-activity rule are deaf to what is
said: they keep time, or react to any silence. A reward that pays a deaf agent more than the human teaches rhythm, not
listening.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias
from zlib import crc32

import numpy as np

from duologue.dialogue.intervals import Intervals, as_intervals, clip, merge
from duologue.dialogue.scenes import Scene
from duologue.dialogue.timeline import Timeline, Track

METRONOME_S = (0.4, 0.3, 0.4, 1.1)
"""Noise, silence, noise, silence."""
UH_HUH_S = 0.9
"""Length of a reactive "uh-huh"."""
UH_HUH_AFTER_S = 0.24
"""It comes when the user and the agent have been silent for so long."""
RULE_WAIT_S = 0.7
"""The voice-activity rule speaks when the user has been silent for so long."""
RULE_YIELD_S = 0.5
"""It stops when the user has spoken for so long."""
MHM_S = 0.4
MHM_EVERY_S = 3.0
BURST_S = (0.3, 2.0)
"""Random bursts are of uniform length in this range."""
BURST_SILENCE_S = (0.5, 3.0)
"""So are the silences between them."""

Speech: TypeAlias = Callable[[Scene], Intervals]
"""The speech [N, 2] of an agent in [start, end] of a scene, in the scene's seconds."""


@dataclass(frozen=True, slots=True)
class ReferenceAgent:
    """An agent without a model."""

    name: str
    label: str
    """Its name in tables."""
    hears: bool
    """Whether the user's speech, rather than a clock or any silence, decides what it does."""
    speech: Speech

    def play(self, scene: Scene) -> Scene:
        """The scene with this agent in the human's place: what the human said before the span stays, no words."""
        if self.name == HUMAN:
            return scene
        before = clip(scene.timeline.agent.speech, 0.0, scene.start)
        spoken = clip(merge(self.speech(scene)), scene.start, scene.end)
        agent = Track.of(np.concatenate((before, spoken)))
        return replace(scene, timeline=Timeline(agent, scene.timeline.user, scene.timeline.duration), agent_audio=None)


HUMAN = "human"


def human(scene: Scene) -> Intervals:
    """What the person said whose place the agent takes."""
    return clip(scene.timeline.agent.speech, scene.start, scene.end)


def silence(scene: Scene) -> Intervals:
    """Nothing."""
    return np.empty((0, 2))


def periodic(scene: Scene, pattern_s: tuple[float, ...], phase_s: float = 0.0) -> Intervals:
    """Noise and silence in turn by `pattern_s` (s, noise first), over and over, begun `phase_s` before the span."""
    edges = np.cumsum((0.0, *pattern_s))
    length = float(edges[-1])
    starts = scene.start - phase_s + length * np.arange(math.ceil((scene.end - scene.start + phase_s) / length))
    spans = np.stack([edges[:-1:2], edges[1::2]], axis=1)
    return clip(as_intervals(starts[:, None, None] + spans[None]), scene.start, scene.end)


def metronome(scene: Scene) -> Intervals:
    """Two noises and a longer silence, for ever."""
    return periodic(scene, METRONOME_S)


def mhm(scene: Scene) -> Intervals:
    """A short "mhm" at equal distances."""
    return periodic(scene, (MHM_S, MHM_EVERY_S - MHM_S))


def babble(scene: Scene) -> Intervals:
    """Speech without end."""
    return as_intervals([(scene.start, scene.end)])


def bursts(scene: Scene) -> Intervals:
    """Bursts and silences of random lengths, the same in every run (seeded by the scene's id)."""
    rng = np.random.default_rng(crc32(scene.id.encode()))
    count = math.ceil((scene.end - scene.start) / (BURST_S[0] + BURST_SILENCE_S[0])) + 1
    lengths = np.stack([rng.uniform(*BURST_SILENCE_S, count), rng.uniform(*BURST_S, count)], axis=1)
    edges = scene.start + np.cumsum(lengths.ravel())
    return clip(edges.reshape(-1, 2), scene.start, scene.end)


def uh_huh(scene: Scene) -> Intervals:
    """A burst whenever both have been silent for a moment."""
    spans, free = [], scene.start
    for start, end in silences(scene):
        at = max(start + UH_HUH_AFTER_S, free)
        while at < end:
            spans.append((at, at + UH_HUH_S))
            at += UH_HUH_S + UH_HUH_AFTER_S
            free = at
    return clip(as_intervals(spans), scene.start, scene.end)


def vad_rule(scene: Scene) -> Intervals:
    """Speech from some time after the user falls silent until some time after the user speaks again."""
    spans = [(start + RULE_WAIT_S, end + RULE_YIELD_S) for start, end in silences(scene) if end - start > RULE_WAIT_S]
    return clip(merge(spans), scene.start, scene.end)


def silences(scene: Scene) -> list[tuple[float, float]]:
    """The user's silences that reach into the span, each from its true beginning on."""
    speech = scene.timeline.user.speech
    edges = np.concatenate(([0.0], speech.ravel(), [scene.end])).reshape(-1, 2)
    return [(a, min(b, scene.end)) for a, b in edges.tolist() if b > max(a, scene.start) and a < scene.end]


REFERENCE_AGENTS: Mapping[str, ReferenceAgent] = MappingProxyType(
    {
        agent.name: agent
        for agent in (
            ReferenceAgent(HUMAN, "human", True, human),
            ReferenceAgent("silence", "silence", False, silence),
            ReferenceAgent("metronome", "deaf metronome", False, metronome),
            ReferenceAgent("uh_huh", 'reactive "uh-huh"', False, uh_huh),
            ReferenceAgent("vad_rule", "voice-activity rule", True, vad_rule),
            ReferenceAgent("babble", "constant babble", False, babble),
            ReferenceAgent("bursts", "random bursts", False, bursts),
            ReferenceAgent("mhm", '"mhm" every 3 s', False, mhm),
        )
    }
)
"""Every reference agent by its name, the human first."""
