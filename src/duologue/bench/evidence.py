"""What a report of an alignment shows, from what both models did: differences and how sure they are, reference agents,
the listening check, and content that nothing rewarded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from duologue.bench.before_after import MEASURED, SAYING, Outcome, Trial
from duologue.bench.content import content_of, diversity_of
from duologue.bench.reference import model_row, reference_rows
from duologue.bench.rows import Row
from duologue.bench.segment_scores import (
    WHEN,
    Difference,
    Played,
    When,
    by_segment,
    differences,
    hearing,
    paired,
    plain_rows,
)
from duologue.bench.significance import LEVEL, Comparisons, Estimate, estimated, holm
from duologue.dialogue.scenes import Scene

SCORED = "scored.json"
"""The file, in a run's folder, of what both models did in every segment: what `duologue compare` reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What somebody says where there is something to say, by measures that nothing rewards (`bench.content`)."""

    words: int
    """Words that diversity is counted over: equally many of everybody."""
    distinct_words: float
    distinct_bigrams: float
    """As a share of all."""
    entropy: float
    """Of words, in bits."""
    words_said: float
    """All words that count."""
    pmi: Estimate
    """Mutual information of answer and turn, nats a word."""
    echo: Estimate
    """Share of words that the user said just before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Two models on the same segments."""

    part: str
    """Which segments: "test", "dev", or the held-out part of a corpus."""
    played: Sequence[Played]
    """Segment by segment."""
    changed: Mapping[str, Difference]
    """By metric: sums over axes first, then rewards, hearing and the rest."""
    comparisons: Comparisons
    """Which of these hold when their number is accounted for."""
    agents: Mapping[str, Mapping[str, float]]
    """What reference agents earn and do (`reference.reference_rows`)."""
    models: Mapping[str, Mapping[str, float]]
    """What the models do, in the same units."""
    listening: Mapping[When, Mapping[str, Estimate]]
    """The gain of hearing, by axis, and their sum."""
    content: Mapping[str, Content]
    """Of "before", "after" and "human", on the same segments; empty where nobody has anything to say."""
    live: tuple[Sequence[Row], Sequence[Row]]
    """Rows of talks with scripted users, before and after."""


def evidence_of(trial: Trial, part: str, before: Outcome, after: Outcome) -> Evidence:
    """What two models' outcomes of a trial say."""
    rows = paired(before.scored, after.scored, (before.other, after.other))
    changed = dict(sorted(differences(rows).items(), key=_order))
    scenes = {axis: [Scene.of(r.segment) for r in recorded] for axis, recorded in trial.segments.items()}
    return Evidence(
        part=part, played=rows, changed=changed,
        comparisons=holm({metric: d.p for metric, d in changed.items()}),
        agents=reference_rows(scenes, MEASURED),
        models={
            when: model_row(by_segment(outcome.scored), scenes, MEASURED)
            for when, outcome in zip(WHEN, (before, after), strict=True)
        },
        listening={when: hearing(rows, when) for when in WHEN},
        content=contents(trial, before, after),
        live=(before.live, after.live),
    )  # fmt: skip


def contents(trial: Trial, before: Outcome, after: Outcome) -> dict[str, Content]:
    """What both models and the human say where there is something to say."""
    human = [Scene.of(r.segment) for axis in SAYING for r in trial.segments.get(axis, ())]
    scenes = {"before": before.said, "after": after.said, "human": human}
    if not human:
        return {}
    rows = {}
    for name, row in diversity_of(scenes).items():
        each = [content_of(scene, trial.answer_model) for scene in scenes[name]]
        pmi, echo = (_known([x[metric] for x in each]) for metric in ("content_pmi", "content_echo"))
        rows[name] = Content(
            words=int(row["words"]), distinct_words=row["distinct_words"], distinct_bigrams=row["distinct_bigrams"],
            entropy=row["entropy"], words_said=row["words_said"], pmi=pmi, echo=echo,
        )  # fmt: skip
    return rows


def plain_evidence(evidence: Evidence) -> dict[str, Any]:
    """For JSON: every metric before, after and its difference [mean, low, high], and all that stands beside it."""
    changed, comparisons = evidence.changed, evidence.comparisons
    hearings = {name: d for name, d in changed.items() if name.startswith("hearing_")}
    return {
        "part": evidence.part,
        "rules": MEASURED.rules,
        "before": {metric: d.before for metric, d in changed.items()},
        "after": {metric: d.after for metric, d in changed.items()},
        "difference": {metric: [d.mean, d.low, d.high] for metric, d in changed.items()},
        "reference_agents": evidence.agents,
        "beside_agents": evidence.models,
        "listening": {
            **{when: {axis: [e.mean, e.low, e.high] for axis, e in evidence.listening[when].items()} for when in WHEN},
            "difference": {name.removeprefix("hearing_"): [d.mean, d.low, d.high] for name, d in hearings.items()},
        },
        "content": {name: _plain_content(content) for name, content in evidence.content.items()},
        "comparisons": {
            "count": comparisons.total, "correction": "Holm", "level": LEVEL, "p": comparisons.p,
            "surviving": sorted(comparisons.surviving), "seeds": 1,
        },
    }  # fmt: skip


def plain_played(evidence: Evidence) -> dict[str, Any]:
    """For the file `SCORED`."""
    return {"part": evidence.part, "rules": MEASURED.rules, "segments": plain_rows(evidence.played)}


def _plain_content(content: Content) -> dict[str, Any]:
    intervals = {name: list(getattr(content, name)[:3]) for name in ("pmi", "echo")}
    return {**asdict(content), **intervals}


def _known(values: Sequence[float]) -> Estimate:
    """The mean of those that are known, with its interval; NaN for none."""
    known = np.array([[x for x in values if not math.isnan(x)]])
    return estimated([known]) if known.size else Estimate(math.nan, math.nan, math.nan, math.nan, 0, (math.nan,))


def _order(item: tuple[str, Difference]) -> int:
    """Sums over axes, rewards, hearing, the rest; each in their own order."""
    kinds = ("reward_sum", "reward_", "hearing_sum", "hearing_")
    return next((i for i, kind in enumerate(kinds) if item[0].startswith(kind)), len(kinds))
