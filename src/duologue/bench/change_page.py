"""The report of an alignment: what it changed and whether that is listening, beside people and machines, and rollouts
before and after to hear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from duologue.axes import AXES
from duologue.base.charts import curves
from duologue.base.report import Band, Cell, Fact, Figure, Lane, Page, Sample, Span, Table
from duologue.bench.evidence import Evidence
from duologue.bench.metrics import METRICS, label_of, verdict
from duologue.bench.reference_table import OVER_TALK, REWARDS, reference_rows_table
from duologue.bench.rows import Row, number
from duologue.bench.segment_scores import SUM_Z, WHEN, Difference
from duologue.bench.significance import LEVEL, Comparisons, Estimate
from duologue.dialogue.scenes import Scene
from duologue.train.rollout_files import stereo

if TYPE_CHECKING:
    from duologue.base.report.model import Sound

ONE_SEED = "This model, not the method: one training seed. Runs of several seeds: duologue compare RUN RUN RUN."
LISTENING = (
    "Listening check: the same model with another segment's user in its ear is scored against this segment's events; "
    "the gain is the reward with its own user less that. Near 0: its timing would suit anybody, and what alignment "
    "taught is a rhythm; above 0: it listens."
)
SURVIVES = "*"
"""Marks a verdict that holds for all comparisons together."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One segment as both models played it."""

    axis: str
    before: Scene
    after: Scene
    rewards: tuple[float, float]


def page(
    model: str, evidence: Evidence, curve: Sequence[Mapping[str, Any]], pairs: Sequence[Pair], *,
    notes: Sequence[str], command: str,
) -> Page:  # fmt: skip
    """The whole page.

    Args:
        model: what was aligned.
        evidence: what both models did.
        curve: rows of metrics of the training.
        pairs: segments to be heard.
        notes: what must be known to read the numbers.
        command: that made them.
    """
    return Page(
        title=f"{model}, before and after alignment",
        subtitle=f"part: {evidence.part}; {in_short(evidence)}; one training seed",
        tables=outcome_tables(evidence),
        figures=[reward_curve(name, curve) for name in reward_names(curve)],
        samples=[sample for i, pair in enumerate(pairs) for sample in both(i, pair)],
        notes=[*heard_in_short(evidence), ONE_SEED, *notes],
        command=command,
    )


def outcome_tables(evidence: Evidence) -> list[Table]:
    """What the models earn beside people and machines, whether they listen, and what changed."""
    shown = {name: d for name, d in evidence.changed.items() if not name.startswith("hearing_")}
    tables = [
        reference_rows_table(
            "Rewards beside people and machines", REWARDS, evidence.agents, evidence.models,
            note="The same segments and rules for all. Nobody but the human and the voice-activity rule hears.",
        ),
        *([listening_table(evidence)] if evidence.listening["after"] else []),
        *([content_table(evidence)] if evidence.content else []),
        change_table(shown, evidence.comparisons),
        reference_rows_table(
            "Over-talking", OVER_TALK, evidence.agents, evidence.models,
            note="Shares of segments with speech where the human says nothing; the human's backchannels a minute are "
            "those of the same segments.",
        ),
    ]  # fmt: skip
    return [*tables, *([live_table(*evidence.live)] if evidence.live[0] else [])]


def in_short(evidence: Evidence) -> str:
    """How many comparisons there are, and what is left of them when their number is accounted for."""
    held = evidence.comparisons
    verdicts = [verdict(metric, d) for metric, d in evidence.changed.items() if metric in held.surviving]
    counts = f"{verdicts.count('better')} better and {verdicts.count('worse')} worse"
    return f"{held.total} comparisons, {counts} after Holm's correction for their number"


def heard_in_short(evidence: Evidence) -> list[str]:
    """The listening check in a sentence, if there was one."""
    metric = f"hearing_{SUM_Z}"
    if metric not in evidence.changed:
        return []
    before, after = (with_span(evidence.listening[when][SUM_Z]) for when in WHEN)
    difference = with_span(evidence.changed[metric])
    return [
        f"Does it listen? By hearing this user rather than another it gains {before} before and {after} after "
        f"alignment (all axes, in spreads of the model before): a difference of {difference}. A rhythm that suits "
        "anybody would gain 0."
    ]


def listening_table(evidence: Evidence) -> Table:
    """The gain of hearing of both models on each axis, and in sum."""
    rows: list[tuple[Fact | Cell, ...]] = []
    for axis in (*AXES, SUM_Z):
        metric = f"hearing_{axis}"
        if metric not in evidence.changed:
            continue
        gains = [with_span(evidence.listening[when][axis]) for when in WHEN]
        d = evidence.changed[metric]
        mark = marked(metric, d, evidence.comparisons)
        rows.append((Cell(label_of(metric), METRICS[metric][2]), *gains, with_span(d), mark))
    return Table("Does it listen?", ("gain (95 % interval)", *WHEN, "difference", ""), rows, LISTENING)


def content_table(evidence: Evidence) -> Table:
    """What both models and the human say, by measures that nothing rewards."""
    said = evidence.content
    counted = next(iter(said.values())).words
    rows: list[tuple[Fact | Cell, ...]] = [
        (Cell(f"distinct words in {counted}", "equally many words of everybody"),
         *(c.distinct_words for c in said.values())),
        (Cell("distinct bigrams", "share of all, in as many words"), *(c.distinct_bigrams for c in said.values())),
        (Cell("entropy of words (bits)", "in as many words"), *(c.entropy for c in said.values())),
        (Cell(label_of("content_pmi"), METRICS["content_pmi"][2]), *(with_span(c.pmi) for c in said.values())),
        (Cell(label_of("content_echo"), METRICS["content_echo"][2]), *(with_span(c.echo) for c in said.values())),
        (Cell("words said", "in turn-taking and interruption segments, without fillers and repetitions"),
         *(c.words_said for c in said.values())),
    ]  # fmt: skip
    note = (
        "Nothing here is rewarded. Words are the models' own text. Worse than the human on the first four is "
        "poorer speech; an echo fits its turn without answering it."
    )
    return Table("Content, never rewarded", ("", *said), rows, note)


def with_span(estimate: Difference | Estimate) -> Fact:
    """A value with its interval; None if nothing is known."""
    if math.isnan(estimate.mean):
        return None
    return f"{number(estimate.mean)} ({span(estimate)})" if span(estimate) else number(estimate.mean)


def change_table(changed: Mapping[str, Difference], comparisons: Comparisons) -> Table:
    """Every metric with both models' means, and the difference over segments with its interval."""
    rows: list[tuple[Fact | Cell, ...]] = []
    for metric, d in changed.items():
        label, way, what = METRICS.get(metric, (metric, 0, ""))
        better = {1: "up", -1: "down", 0: ""}[way]
        mark = marked(metric, d, comparisons)
        rows.append((Cell(label, what), better, d.before, d.after, d.mean, span(d), d.segments, mark))
    heads = ("", "better", "before", "after", "difference", "95 % interval", "segments", "")
    return Table("What changed", heads, rows, comparisons_note(comparisons))


def comparisons_note(comparisons: Comparisons) -> str:
    """How intervals and marks are to be read."""
    return (
        "Paired: equal segments, settings and draws; intervals by bootstrap over segments. A verdict says that the "
        f"interval of one metric excludes 0. {comparisons.total} comparisons were made: {SURVIVES} marks what survives "
        f"Holm's correction for all of them at {LEVEL:.0%} (sign flips over segments)."
    )


def marked(metric: str, change: Difference, comparisons: Comparisons) -> str:
    """The verdict of a metric, with its mark if it holds for all comparisons together."""
    said = verdict(metric, change)
    return f"{said} {SURVIVES}" if said and metric in comparisons.surviving else said


def span(estimate: Difference | Estimate) -> str:
    """The 95 % interval in words; nothing if there is none."""
    return "" if math.isnan(estimate.low) else f"{number(estimate.low)} to {number(estimate.high)}"


def live_table(before: Sequence[Row], after: Sequence[Row]) -> Table:
    """Rows of both models beside each other."""
    rows: list[tuple[Fact | Cell, ...]] = []
    for was, now in zip(before, after, strict=True):
        rows.append((Cell(was.what, was.note), was.value, _span(was), was.n, now.value, _span(now), now.n, was.target))
    heads = ("live talks with scripted users", "before", "interval", "n", "after", "interval", "n", "target of nano")
    return Table("Talks", heads, rows, "Nothing here was rewarded; the users answer what they hear, so talks differ.")


def reward_names(curve: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rewards that the rows of metrics hold."""
    return list(dict.fromkeys(name for row in curve for name in row if name.startswith("reward_")))


def reward_curve(name: str, curve: Sequence[Mapping[str, Any]]) -> Figure:
    """A reward over the steps of the training."""
    label = label_of(name)
    points = [(float(row["step"]), float(row[name])) for row in curve if name in row]
    return Figure(label, curves({"mean of the step's rollouts": points}, x_label="step", y_label="reward"))


def both(number: int, pair: Pair) -> list[Sample]:
    """Two cards."""
    return [
        card(f"{number + 1}-{when}", f"{pair.axis}, {when}", pair.axis, scene, reward)
        for when, scene, reward in zip(("before", "after"), (pair.before, pair.after), pair.rewards, strict=True)
    ]


def card(name: str, title: str, axis: str, scene: Scene, reward: float) -> Sample:
    """A scene on its timeline."""
    lanes = [
        Lane(who, [Span(a, b) for a, b in track.speech.tolist()], track.words and list(track.words), wave=wave)
        for wave, (who, track) in enumerate(zip(("agent", "user"), scene.timeline.tracks, strict=True))
    ]
    bands = [Band(scene.start, scene.end, "window", "scored")]
    return Sample(
        id=name, title=title, duration=scene.end, lanes=lanes, bands=bands, verdict=axis, facts={"reward": reward},
        audio=partial(_sound, scene), why=f"segment {scene.id}",
    )  # fmt: skip


def _span(row: Row) -> str:
    return "" if row.interval is None else f"{number(row.interval[0])} to {number(row.interval[1])}"


def _sound(scene: Scene) -> Sound:
    audio = stereo(scene)
    return audio.samples, audio.rate
