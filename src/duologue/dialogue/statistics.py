"""Timing statistics of conversations in one structure, beside those of human telephone talk.

    description = describe_many(timelines)
    description.both["floor_transfer_offset"].p50_s

Conversations are pooled as in the human reference: rates are all events over all minutes, quantiles are those of all
events together, never means of means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from duologue.dialogue.distance import DISTANCE_RULES, DistanceRules, Divergence, divergence
from duologue.dialogue.observe import Observed, RuleName, Rules, Values, observe
from duologue.dialogue.reference import DISTRIBUTIONS, human_distribution
from duologue.dialogue.timeline import Timeline
from duologue.dialogue.utterances import HUMAN_RULES, FormRule


@dataclass(frozen=True, slots=True)
class Summary:
    """One quantity: events, their rate, summed seconds per minute, and the distribution of their values in seconds.

    Without events the mean and percentiles are NaN. `human` is the divergence from human talk, None where the reference
    has no distribution of this quantity.
    """

    n: int
    per_min: float
    s_per_min: float
    mean_s: float
    sd_s: float
    p5_s: float
    p25_s: float
    p50_s: float
    p75_s: float
    p95_s: float
    negative_share: float
    human: Divergence | None


@dataclass(frozen=True, slots=True)
class Description:
    """Statistics of one or several conversations.

    `both`, `agent` and `user` hold the same quantities (`observe.QUANTITIES`) of all events and of those that belong to
    one side; rates are per minute of conversation in all three. `form_rule` says how backchannels were known: by
    words, by duration alone, or ("mixed") not in all conversations alike.
    """

    rules: RuleName
    form_rule: FormRule | Literal["mixed"]
    conversations: int
    minutes: float
    seconds_per_min: dict[str, float]
    both: dict[str, Summary]
    agent: dict[str, Summary]
    user: dict[str, Summary]
    values: dict[str, tuple[Values, Values]]

    def to_json(self) -> dict[str, Any]:
        """Everything but the single values, in plain values (NaN stays NaN)."""
        sides = {s: {q: asdict(x) for q, x in d.items()} for s, d in self.sides().items()}
        head = {k: getattr(self, k) for k in ("rules", "form_rule", "conversations", "minutes", "seconds_per_min")}
        return head | sides

    def sides(self) -> dict[str, dict[str, Summary]]:
        """The three tables by name."""
        return {"both": self.both, "agent": self.agent, "user": self.user}


def describe(timeline: Timeline, rules: Rules = HUMAN_RULES, distance: DistanceRules = DISTANCE_RULES) -> Description:
    """Statistics of one conversation."""
    return summarise([observe(timeline, rules)], distance)


def describe_many(
    timelines: Iterable[Timeline], rules: Rules = HUMAN_RULES, distance: DistanceRules = DISTANCE_RULES
) -> Description:
    """Statistics of several conversations, pooled."""
    return summarise([observe(t, rules) for t in timelines], distance)


def summarise(observed: Sequence[Observed], distance: DistanceRules = DISTANCE_RULES) -> Description:
    """Pool what was observed in conversations, all by one rule set.

    Raises:
        ValueError: no conversation, or two rule sets.
    """
    if len({o.rules for o in observed}) != 1:
        raise ValueError("needs conversations observed by one rule set")
    minutes = sum(o.duration_s for o in observed) / 60.0
    values = {
        q: (np.concatenate([o.values[q][0] for o in observed]), np.concatenate([o.values[q][1] for o in observed]))
        for q in observed[0].values
    }
    seconds = {k: _rate(sum(o.seconds[k] for o in observed), minutes) for k in observed[0].seconds}
    forms = {o.form_rule for o in observed}

    def table(side: int | None) -> dict[str, Summary]:
        of_side = {q: np.concatenate(pair) if side is None else pair[side] for q, pair in values.items()}
        return {q: _summary(q, x, minutes, distance) for q, x in of_side.items()}

    return Description(
        rules=observed[0].rules,
        form_rule=forms.pop() if len(forms) == 1 else "mixed",
        conversations=len(observed),
        minutes=minutes,
        seconds_per_min=seconds,
        both=table(None),
        agent=table(0),
        user=table(1),
        values=values,
    )


def _summary(quantity: str, values: Values, minutes: float, distance: DistanceRules) -> Summary:
    n = len(values)
    nan = float("nan")
    p5, p25, p50, p75, p95 = np.percentile(values, [5, 25, 50, 75, 95]).tolist() if n else [nan] * 5
    return Summary(
        n=n,
        per_min=_rate(n, minutes),
        s_per_min=_rate(float(values.sum()), minutes),
        mean_s=float(values.mean()) if n else nan,
        sd_s=float(values.std()) if n else nan,
        p5_s=p5,
        p25_s=p25,
        p50_s=p50,
        p75_s=p75,
        p95_s=p95,
        negative_share=float((values < 0).mean()) if n else nan,
        human=divergence(values, human_distribution(quantity), distance) if quantity in DISTRIBUTIONS else None,
    )


def _rate(amount: float, minutes: float) -> float:
    return amount / minutes if minutes > 0 else float("nan")
