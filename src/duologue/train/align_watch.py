"""Watching over a run: it stops before a policy is ruined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from duologue.base.errors import UserError
from duologue.train.align_settings import GuardSettings

UNSCORED = "unscored_share"
"""Of a row: share of the answers to be graded that a judge did not grade."""


class Watch:
    """Sees every row of metrics.

    Args:
        guard: when to stop.
    """

    def __init__(self, guard: GuardSettings) -> None:
        self._guard = guard
        self._beyond = 0

    def see(self, row: Mapping[str, float], place: object) -> None:
        """Take note of a step. Errors: UserError, what was measured has been beyond a limit for too many steps."""
        wrong = self._wrong(row)
        self._beyond = self._beyond + 1 if wrong else 0
        if wrong and self._beyond >= self._guard.patience:
            mend = "lower the rate or raise kl.beta; best/ holds the best model on held-out segments"
            if wrong.startswith(UNSCORED):
                mend = "see its replies in rollouts/step-*/judge.jsonl, mend its server, and go on with --resume"
            raise UserError(f"{wrong}, {self._beyond} steps in a row", place=place, mend=mend)

    def state(self) -> dict[str, Any]:
        return {"beyond": self._beyond}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._beyond = state["beyond"]

    def _wrong(self, row: Mapping[str, float]) -> str:
        """What is beyond its limit; empty if nothing is."""
        guard = self._guard
        for name, limit, above in (
            ("kl", guard.kl, True), ("repetition", guard.repetition, True), ("entropy", guard.entropy, False),
            (UNSCORED, guard.unscored, True),
        ):  # fmt: skip
            value = row.get(name)
            if value is not None and limit is not None and (value > limit if above else value < limit):
                return f"{name} is {value:.3g}, {'above' if above else 'below'} {limit:g}"
        lost = [name for name in ("loss", "kl", "gradient") if not math.isfinite(row.get(name, 0.0))]
        return f"{lost[0]} is {row[lost[0]]}" if lost else ""
