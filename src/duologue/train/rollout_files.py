"""Rollouts to look at and listen to: the best and the worst of each group, as sound with a timeline beside it."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from duologue.audio.wave import Audio, write_audio
from duologue.base.files import json_line, write_bytes, write_json
from duologue.dialogue.scenes import Scene
from duologue.dialogue.timeline import Track
from duologue.train.rollout_batches import Batch
from duologue.train.rollouts import Rollout

VERDICTS = "judge.jsonl"
"""What a judge said in a step."""


def keep_rollouts(folder: Path, batch: Batch, gains: Tensor) -> None:
    """Write the best and the worst rollout of each group by its advantage: GG-AXIS-best.wav (left agent, right user)
    and .json. A group without differences has one file, GG-AXIS.wav."""
    for at, (axis, group) in enumerate(zip(batch.axes, batch.groups, strict=True)):
        if not group:  # another process plays it
            continue
        best, worst = int(gains[at].argmax()), int(gains[at].argmin())
        chosen = {"": best} if gains[at, best] == gains[at, worst] else {"-best": best, "-worst": worst}
        for what, place in chosen.items():
            stem = folder / f"{at:02d}-{axis}{what}"
            rollout = group[place]
            assert isinstance(rollout, Rollout)
            scene = rollout.scene
            write_audio(stem.with_suffix(".wav"), stereo(scene))
            earned = {name: values[place] for name, values in batch.rewards[at].items()}
            told = {"rewards": earned, "advantage": float(gains[at, place])}
            write_json(stem.with_suffix(".json"), timeline(scene) | told)


def keep_verdicts(folder: Path, batch: Batch) -> None:
    """Write what a judge said of every rollout that it was to grade, so that it can be audited: judge.jsonl, a line
    each, anew for a step that is played again. Nothing for a batch without a judge."""
    lines = [
        {
            "axis": axis,
            "segment": verdict.scene,
            "rollout": place,
            "grade": None if isnan(verdict.grade) else verdict.grade,
            "reason": verdict.reason,
            "reply": verdict.reply,
            "transcript": verdict.transcript,
            "sent": verdict.sent,
        }
        for axis, verdicts in zip(batch.axes, batch.verdicts, strict=False)
        for place, verdict in enumerate(verdicts)
    ]
    if lines:
        write_bytes(folder / VERDICTS, b"".join(map(json_line, lines)))


def stereo(scene: Scene) -> Audio:
    """Agent and user, as they were heard, at the agent's rate."""
    assert scene.agent_audio is not None
    samples, rate = scene.agent_audio()
    both = np.zeros((2, len(samples)), np.float32)
    both[0] = samples
    if scene.user_audio is not None:
        user, other = scene.user_audio()
        wave = Audio(np.asarray(user, np.float32)[None], other).resampled(rate).samples[0][: both.shape[1]]
        both[1, : len(wave)] = wave
    return Audio(both, rate)


def timeline(scene: Scene) -> dict[str, Any]:
    """Who speaks when, in which words, and what the human did there."""

    def track(side: Track) -> dict[str, Any]:
        said = None if side.words is None else [{"word": w.text, "start": w.start, "end": w.end} for w in side.words]
        return {"speech": side.speech.tolist(), "words": said}

    return {
        "segment": scene.id, "start": scene.start, "end": scene.end,
        "agent": track(scene.timeline.agent), "user": track(scene.timeline.user),
        "events": [{"kind": e.kind, "start": e.start, "end": e.end, "side": e.side} for e in scene.events],
    }  # fmt: skip
