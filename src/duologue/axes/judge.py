"""A language model as judge of what the agent answers: arXiv 2606.11167's R_llm, on three points.

The judge reads what both people said (or hears it, where the endpoint takes sound) and gives one whole number: 0 does
not fit, 1 is loosely related, 2 is natural and specific. The paper's wording is not published whole; the prompt in
`prompts/` is this project's. What the judge did not score is NaN, never 0; an agent that said nothing gets 0 unasked.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from duologue.base.chat import Request
from duologue.base.endpoint import Endpoint, EndpointConfig
from duologue.base.errors import UserError
from duologue.base.files import read_text
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import LazyWaveform

AXES = ("turn_taking", "interruption")
"""Where the paper asks the judge."""
BREAK_S = 1.0
"""Words of one person further apart stand on lines of their own."""
GRADES = (0, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """Who judges."""

    endpoint: EndpointConfig
    """Where it is asked."""
    prompt: Path | None = None
    """A file of other instructions; the grade is the last whole number from 0 to 2 of a reply."""
    audio: bool = False
    """Send the sound of both people instead of their words, to an endpoint that takes `input_audio`."""


class Judge:
    """Scores scenes.

    Args:
        config: who judges.
        endpoint: where, if it is open already.
        asks: the packaged instructions: "judge" (does the answer fit?) or "safety" (is the request refused?).
        silent: the grade of an agent that says nothing.

    Raises:
        UserError: a wrong address, key or prompt file.
    """

    def __init__(
        self, config: JudgeConfig, endpoint: Endpoint | None = None, *, asks: Literal["judge", "safety"] = "judge",
        silent: float = 0.0,
    ) -> None:  # fmt: skip
        own = resources.files("duologue.axes").joinpath("prompts", f"{asks}.txt")
        self._silent = silent
        self._prompt = own.read_text(encoding="utf-8") if config.prompt is None else read_text(config.prompt)
        self._audio = config.audio
        self.endpoint = endpoint or Endpoint(config.endpoint)

    def score(self, scenes: Sequence[Scene], *, again: int = 0) -> list[float]:
        """A grade of each scene, NaN where there is none: no words are known, or no reply could be read.

        Args:
            scenes: what was said.
            again: another number asks anew, with another seed.
        """
        asked = {i: r for i, scene in enumerate(scenes) if (r := self._request(scene, again)) is not None}
        replies = self.endpoint.ask_many(list(asked.values()), parse_grade)
        found = dict(zip(asked, (reply.value for reply in replies), strict=True))
        return [self._without(scene) if i not in found else _number(found[i]) for i, scene in enumerate(scenes)]

    def _request(self, scene: Scene, again: int) -> Request | None:
        if math.isnan(self._without(scene)) or not _answered(scene):
            return None
        if not self._audio:
            return Request(messages=_messages(self._prompt, transcript(scene)), seed=again, max_tokens=16)
        assert scene.agent_audio is not None
        assert scene.user_audio is not None
        sound = {"data": _wav(scene.agent_audio, scene.user_audio), "format": "wav"}
        told = "The left channel is MODEL, the right one USER."
        parts = [{"type": "text", "text": told}, {"type": "input_audio", "input_audio": sound}]
        return Request(messages=_messages(self._prompt, parts), seed=again, max_tokens=16)

    def _without(self, scene: Scene) -> float:
        """The grade of a scene that is not asked about: silence's, NaN for what cannot be read or heard."""
        if self._audio:
            return self._silent if scene.agent_audio is not None and scene.user_audio is not None else math.nan
        return self._silent if all(track.words is not None for track in scene.timeline.tracks) else math.nan


def transcript(scene: Scene) -> str:
    """What both people said up to the scene's end, a line for each stretch, by time."""
    lines: list[tuple[float, str]] = []
    for name, track in zip(("MODEL", "USER"), scene.timeline.tracks, strict=True):
        said = [w for w in track.words or () if w.start < scene.end]
        first = 0
        for i in range(1, len(said) + 1):
            if i == len(said) or said[i].start - said[i - 1].end > BREAK_S:
                lines.append((said[first].start, f"{name}: {' '.join(w.text.strip() for w in said[first:i])}"))
                first = i
    return "\n".join(text for _, text in sorted(lines))


def parse_grade(reply: str) -> float | None:
    """The last whole number of a reply, if it is a grade."""
    found = re.findall(r"(?<![\d.])\d+(?!\.?\d)", reply)
    return float(found[-1]) if found and GRADES[0] <= int(found[-1]) <= GRADES[1] else None


def reliability(judge: Judge, scenes: Sequence[Scene], times: int = 2) -> float:
    """How far a judge agrees with itself: the mean of Spearman's rank correlations between repeated scorings of the
    same scenes, as WavAlign (arXiv 2604.14932) measures judges; NaN if no two scorings have different grades.

    Raises:
        UserError: fewer than two times.
    """
    if times < 2:
        raise UserError(f"{times} scoring cannot be compared", place="times", mend="use 2 or more")
    grades = np.array([judge.score(scenes, again=k) for k in range(times)])
    found = [spearman(grades[i], grades[j]) for i in range(times) for j in range(i)]
    known = [x for x in found if not math.isnan(x)]
    return float(np.mean(known)) if known else math.nan


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation where both are known; ties share their mean rank. NaN if one of them does not vary."""
    both = ~(np.isnan(a) | np.isnan(b))
    x, y = _ranks(a[both]), _ranks(b[both])
    if len(x) < 2 or x.std() == 0 or y.std() == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(x: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = (last - (counts - 1) / 2)[places]
    return ranks


def _answered(scene: Scene) -> bool:
    """Whether the agent said anything in the span."""
    words = scene.timeline.agent.words
    if words is None:
        return bool((scene.timeline.agent.speech[:, 1] > scene.start).any())
    return any(scene.start <= w.start < scene.end for w in words)


def _messages(prompt: str, content: Any) -> tuple[dict[str, Any], ...]:
    return {"role": "system", "content": prompt}, {"role": "user", "content": content}


def _number(grade: float | None) -> float:
    return math.nan if grade is None else grade


def _wav(agent: LazyWaveform, user: LazyWaveform) -> str:
    """Both sides as a WAV file of 16 kHz and 16 bits, in base64."""
    import soundfile

    from duologue.audio.wave import Audio

    sides = []
    for read in (agent, user):
        samples, rate = read()
        sides.append(Audio(np.asarray(samples, np.float32)[None], rate).resampled(16_000).samples[0])
    length = max(len(x) for x in sides)
    both = np.stack([np.pad(x, (0, length - len(x))) for x in sides], 1)
    out = io.BytesIO()
    soundfile.write(out, both, 16_000, format="WAV", subtype="PCM_16")
    return base64.b64encode(out.getvalue()).decode()
