"""Interactivity axes: one file for each. To add one, add its file and its line in `AXES`.

An axis' file holds `find`, which selects segments in a timeline, `reward`, which scores what the model did in one,
`measure`, which says it in plain numbers, and the configs with their thresholds. The roles are given by the caller:
`timeline.user` is the user, and `timeline.agent` the human whose place the model takes.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from duologue.axes.finding import AxisConfig, Found
    from duologue.dialogue.scenes import Scene
    from duologue.dialogue.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its name, a line about it, and the names of its module and of the configs there."""

    name: str
    summary: str
    module: str
    config: str
    scoring: str

    def config_type(self) -> type[AxisConfig]:
        """The class of its thresholds; made without arguments, it holds those of the paper."""
        return cast("type[AxisConfig]", getattr(importlib.import_module(self.module), self.config))

    def find(self, timeline: Timeline, config: AxisConfig | None = None) -> list[Found]:
        """Segments of this axis in a timeline, in order of start. `config` is of this axis' own type."""
        module = importlib.import_module(self.module)
        return cast("list[Found]", module.find(timeline, config))

    def reward_type(self) -> type[object]:
        """The class of what its rewards depend on; made without arguments, it holds the rules of one unit."""
        return cast("type[object]", getattr(importlib.import_module(self.module), self.scoring))

    def literal(self) -> object:
        """The rewards' literal rules of arXiv 2606.11167, of `reward_type`."""
        return cast("object", importlib.import_module(self.module).LITERAL)

    def reward(self, scene: Scene, config: object | None = None) -> dict[str, float]:
        """Named rewards of a scene, higher is better; NaN = could not be scored. `config` is of `reward_type`."""
        return cast("dict[str, float]", importlib.import_module(self.module).reward(scene, config))

    def measure(self, scene: Scene, config: object | None = None) -> dict[str, float]:
        """What the agent did in a scene, in plain numbers; NaN where there is none."""
        return cast("dict[str, float]", importlib.import_module(self.module).measure(scene, config))


AXES: Mapping[str, Axis] = MappingProxyType(
    {
        axis.name: axis
        for axis in (
            Axis("pause", "the user thinks in mid-turn", "duologue.axes.pause", "PauseConfig", "PauseReward"),
            Axis(
                "turn_taking",
                "the user ends a turn",
                "duologue.axes.turn_taking",
                "TurnTakingConfig",
                "TurnTakingReward",
            ),
            Axis(
                "backchannel",
                "the user talks on and on",
                "duologue.axes.backchannel",
                "BackchannelConfig",
                "BackchannelReward",
            ),
            Axis(
                "interruption",
                "the user breaks in",
                "duologue.axes.interruption",
                "InterruptionConfig",
                "InterruptionReward",
            ),
        )
    }
)
"""Every axis by its name. Their files are imported when they are first used."""
