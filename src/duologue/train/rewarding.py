"""What alignment rewards: the axes' rules, a judge where the paper asks one, and a judge that grades probes.

Judges answer while other rollouts are played: `begin` gives each group's rewards as something to be waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

from duologue.audio.asr import load_recogniser
from duologue.axes.judge import AXES as JUDGED
from duologue.axes.judge import Grading, Judge, JudgeConfig, Verdict
from duologue.axes.proxy import Proxy
from duologue.base.errors import UserError
from duologue.corpus.probes import AXIS as PROBE
from duologue.corpus.probes import read_probes
from duologue.dialogue.scenes import Scene
from duologue.train.align_settings import AlignSettings, RewardSettings
from duologue.train.recognising import Transcriber
from duologue.train.rollouts import Recorded, Rollout, record

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle

Group: TypeAlias = Sequence[Rollout]
Rewards: TypeAlias = Mapping[str, Sequence[float]]
"""Named rewards of each rollout of a group; NaN: could not be scored."""
JUDGE_MEND = "--set rewards.judge.endpoint.url=URL rewards.judge.endpoint.model=NAME, or rewards.judge=none without one"


@dataclass(frozen=True, slots=True)
class Rewarded:
    """What became of a group."""

    rewards: Rewards
    verdicts: tuple[Verdict, ...] = ()
    """What a judge said of each rollout, if one was asked."""


class Pending(Protocol):
    """Rewards of a group that may still be on their way."""

    def result(self) -> Rewarded:
        """The rewards, waited for if they are not there yet."""


class Rewarder(Protocol):
    """Anything that rewards rollouts."""

    def begin(self, axes: Sequence[str], groups: Sequence[Group]) -> Sequence[Pending]:
        """Begin to reward groups that were played together; the axis of each, and one result for each."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A group whose rewards by rule are there, and whose grades may be on their way."""

    rewards: Rewards
    grading: tuple[str, Grading] | None = None
    """The reward's name, and the grades."""

    def result(self) -> Rewarded:
        if self.grading is None:
            return Rewarded(self.rewards)
        name, grading = self.grading
        verdicts = grading.result()
        return Rewarded({**self.rewards, name: [verdict.grade for verdict in verdicts]}, tuple(verdicts))


@dataclass(frozen=True, slots=True)
class AtOnce:
    """A rewarder for which nothing has to be waited."""

    reward: Callable[[str, Group], Rewards]
    """Rewards of a group of an axis."""

    def begin(self, axes: Sequence[str], groups: Sequence[Group]) -> list[Begun]:
        return [Begun(self.reward(axis, group)) for axis, group in zip(axes, groups, strict=True)]


class AxesRewarder:
    """The rewards of the axes' rules, of a judge where the paper asks one, and of one that grades probes alone.

    Args:
        settings: what is rewarded.
        judge: who grades answers.
        safety: who grades probes.
        transcriber: who tells what was said; None: the model's own text and the corpus' transcript do.
    """

    def __init__(
        self, settings: RewardSettings, judge: Judge | Proxy | None = None, safety: Judge | None = None,
        transcriber: Transcriber | None = None,
    ) -> None:  # fmt: skip
        self._settings, self._judge, self._safety, self._transcriber = settings, judge, safety, transcriber

    def begin(self, axes: Sequence[str], groups: Sequence[Group]) -> list[Begun]:
        """The rules at once, the words of all groups together, and questions to the judges, without waiting."""
        scenes = [[rollout.scene for rollout in group] for group in groups]
        if self._transcriber is not None:
            places = [i for i, axis in enumerate(axes) if axis == PROBE or axis in JUDGED]
            heard = iter(self._transcriber.scenes([rollout for i in places for rollout in groups[i]]))
            for i in places:
                scenes[i] = [next(heard) for _ in groups[i]]
        return [self._group(axis, group) for axis, group in zip(axes, scenes, strict=True)]

    def close(self) -> None:
        """Ask nothing more."""
        for judge in (self._judge, self._safety):
            if isinstance(judge, Judge):
                judge.endpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _group(self, axis: str, scenes: Sequence[Scene]) -> Begun:
        if axis == PROBE:
            assert self._safety is not None
            return Begun({}, ("safety", self._safety.begin(scenes)))
        settings = self._settings
        each = [settings.score(axis, scene) for scene in scenes]
        rewards = {name: [one[name] for one in each] for name in each[0]}
        if self._judge is None or axis not in JUDGED:
            return Begun(rewards)
        if isinstance(self._judge, Proxy):
            return Begun({**rewards, "judge": self._judge.score(scenes)})
        return Begun(rewards, ("judge", self._judge.begin(scenes)))


def rewarder_of(settings: AlignSettings, device: str = "auto") -> AxesRewarder:
    """A rewarder with the judges and the recogniser that the settings name; close it, or use it in a `with` block.

    Raises:
        UserError: a recipe whose paper rewards with a judge names none, an endpoint does not answer or cannot tell good
            from bad, or the recogniser cannot be loaded.
    """
    rewards = settings.rewards
    judged = [axis for axis in settings.rollouts.axes if axis in JUDGED]
    if rewards.needs_judge and judged and rewards.judge is None and not rewards.proxy:
        problem = f"the paper of this recipe rewards answers ({', '.join(judged)}) with a judge, and none is named"
        raise UserError(problem, place="rewards.judge", mend=JUDGE_MEND)
    judge: Judge | Proxy | None = Proxy() if rewards.proxy else None
    if isinstance(rewards.judge, JudgeConfig):
        judge = answering(Judge(rewards.judge))
    safety = None
    if rewards.safety is not None:
        safety = answering(Judge(rewards.safety.judge, asks="safety", silent=1.0))
    transcriber = None
    if rewards.recogniser is not None:
        transcriber = Transcriber(load_recogniser(rewards.recogniser, device))
    return AxesRewarder(rewards, judge, safety, transcriber)


def answering(judge: Judge) -> Judge:
    """A judge that was tried. Errors: UserError."""
    judge.check()
    return judge


def reward_remarks(settings: AlignSettings) -> list[str]:
    """What has to be known of how answers are rewarded, a line each."""
    rewards, imitation = settings.rewards, settings.update.imitation
    lines = []
    if rewards.judge == "none" and not rewards.proxy:
        lines.append(
            "rewards.judge=none: the paper's ablation without R_llm; nothing rewards what is said, and in the paper "
            "content then fell below that of the model before alignment"
        )
        if imitation is not None and imitation.share is None and imitation.reward == "judge":
            lines.append("without a judge the gate stays shut: imitation alone; set update.imitation.share to mix")
    if rewards.proxy:
        lines.append("answers are graded by the proxy reward: a small model that tells people's answers from others")
    if rewards.recogniser is not None:
        lines.append(f"words of both sides: recognised by {rewards.recogniser}")
    elif rewards.proxy or isinstance(rewards.judge, JudgeConfig) or rewards.safety is not None:
        lines.append("words: the agent's own text, the user's of the corpus' transcript; rewards.recogniser hears both")
    return lines


def check_words(settings: RewardSettings, segments: Mapping[str, Sequence[Recorded]], bundle: Bundle) -> None:
    """See that a judge who reads has something to read.

    Raises:
        UserError: it is given no words, of any segment, and nobody recognises them.
    """
    judge = settings.judge
    asked = [recorded.segment for axis in JUDGED for recorded in segments.get(axis, ())]
    if not asked or not isinstance(judge, JudgeConfig) or judge.audio or settings.recogniser is not None:
        return
    mend = "name a recogniser: --set rewards.recogniser=parakeet"
    if bundle.text is None:
        raise UserError("has no tokenizer, so that no judge can read what it says", place=bundle.config.name, mend=mend)
    if all(segment.timeline.user.words is None for segment in asked):
        problem = f"none of {len(asked)} segments has the user's words, so that no answer can be judged"
        raise UserError(problem, place="--segments", mend=f"{mend}, or duologue mine --recogniser")


def probes_of(settings: RewardSettings, bundle: Bundle) -> dict[str, list[Recorded]]:
    """The probes that the settings name, under their axis; nothing if they name none. Errors: UserError."""
    if settings.safety is None:
        return {}
    return {PROBE: record(bundle, read_probes(settings.safety.probes, settings.safety.tail_s))}
