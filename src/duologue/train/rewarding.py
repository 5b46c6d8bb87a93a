"""What alignment rewards: the axes' rules, a judge where the paper asks one, and a judge that grades probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from duologue.axes import AXES, duplexpo
from duologue.axes.judge import AXES as JUDGED
from duologue.axes.judge import Judge
from duologue.axes.proxy import Proxy
from duologue.corpus.probes import AXIS as PROBE
from duologue.corpus.probes import read_probes
from duologue.train.align_settings import RewardSettings
from duologue.train.rollouts import Recorded, Rollout, record

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle

Group: TypeAlias = Sequence[Rollout]
Rewarder: TypeAlias = Callable[[str, Group], Mapping[str, Sequence[float]]]
"""Named rewards of each rollout of a group of an axis; NaN: could not be scored."""


def rewarder(settings: RewardSettings, judge: Judge | Proxy | None = None, safety: Judge | None = None) -> Rewarder:
    """The rewards of the axes' rules, of a judge where the paper asks one, and of one that grades probes alone."""

    def reward(axis: str, group: Group) -> dict[str, list[float]]:
        scenes = [rollout.scene for rollout in group]
        if axis == PROBE:
            assert safety is not None
            return {"safety": safety.score(scenes)}
        if settings.duplexpo is None:
            each = [AXES[axis].reward(scene, settings.of(axis)) for scene in scenes]
        else:
            each = [duplexpo.reward(scene, settings.duplexpo) for scene in scenes]
        found = {name: [rewards[name] for rewards in each] for name in each[0]}
        if judge is not None and axis in JUDGED:
            found["judge"] = judge.score(scenes)
        return found

    return reward


def rewarder_of(settings: RewardSettings) -> Rewarder:
    """The same with the judges that the settings name. Errors: UserError, an endpoint that does not answer."""
    judge: Judge | Proxy | None = Proxy() if settings.proxy else None
    if settings.judge is not None:
        judge = answering(Judge(settings.judge))
    safety = settings.safety
    return rewarder(
        settings, judge, None if safety is None else answering(Judge(safety.judge, asks="safety", silent=1.0))
    )


def answering(judge: Judge) -> Judge:
    """A judge whose endpoint was tried. Errors: UserError."""
    judge.endpoint.check()
    return judge


def probes_of(settings: RewardSettings, bundle: Bundle) -> dict[str, list[Recorded]]:
    """The probes that the settings name, under their axis; nothing if they name none. Errors: UserError."""
    if settings.safety is None:
        return {}
    return {PROBE: record(bundle, read_probes(settings.safety.probes, settings.safety.tail_s))}
