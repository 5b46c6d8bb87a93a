"""The words of rollouts as a recogniser hears them, instead of what the model wrote and what the corpus has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from duologue.audio.wave import Audio
from duologue.audio.words import Recogniser, Words
from duologue.dialogue.intervals import clip
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import LazyWaveform
from duologue.dialogue.timeline import Timeline, Track, Word
from duologue.train.rollouts import Rollout


class Transcriber:
    """Tells what was said in rollouts. A segment's user is heard once in a run.

    Args:
        recogniser: who hears.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._users: dict[str, Words] = {}
        """By the scene's id."""

    def scenes(self, rollouts: Sequence[Rollout]) -> list[Scene]:
        """The rollouts' scenes with the words that are heard in them, recognised all together.

        The agent is heard from where the model acts; before that its words are the recording's. Who does not speak
        there is not recognised: recognisers write words where there are none. A user without sound keeps its words.
        """
        users = {r.scene.id: r.scene for r in rollouts if r.scene.id not in self._users and r.scene.user_audio}
        speaking = [i for i, r in enumerate(rollouts) if len(clip(r.scene.timeline.agent.speech, r.since, r.scene.end))]
        sounds = [_cut(scene.user_audio, 0.0, scene.end) for scene in users.values()]
        sounds += [_cut(rollouts[i].scene.agent_audio, rollouts[i].since, rollouts[i].scene.end) for i in speaking]
        words = iter(self._recogniser.transcribe(sounds) if sounds else [])
        self._users |= {name: next(words) for name in users}
        agents = {i: next(words) for i in speaking}
        return [self._scene(rollout, agents.get(i, ())) for i, rollout in enumerate(rollouts)]

    def _scene(self, rollout: Rollout, words: Words) -> Scene:
        scene = rollout.scene
        agent, user = scene.timeline.tracks
        before = [w for w in agent.words or () if w.start < rollout.since]
        acted = [Word(w.text, w.start + rollout.since, w.end + rollout.since) for w in words]
        heard = self._users.get(scene.id, user.words)
        tracks = Track.of(agent.speech, [*before, *acted]), Track.of(user.speech, heard)
        return replace(scene, timeline=Timeline(*tracks, scene.timeline.duration))


def _cut(read: LazyWaveform | None, start: float, end: float) -> Audio:
    """Seconds start to end of a sound."""
    assert read is not None
    samples, rate = read()
    return Audio(np.asarray(samples, np.float32)[None, round(start * rate) : round(end * rate)], rate)
