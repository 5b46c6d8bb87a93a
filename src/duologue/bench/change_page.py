"""The report of `duologue demo`: what alignment changed, metric by metric, and rollouts before and after to hear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from duologue.base.charts import curves
from duologue.base.report import Band, Cell, Fact, Figure, Lane, Page, Sample, Span, Table
from duologue.bench.rows import Row, number
from duologue.bench.segment_scores import Difference
from duologue.dialogue.scenes import Scene
from duologue.train.rollout_files import stereo

if TYPE_CHECKING:
    from duologue.base.report.model import Sound

Direction = Literal[1, 0, -1]
METRICS: Mapping[str, tuple[str, Direction, str]] = {
    "reward_pause": ("reward: pause", 1, "-1 if the agent speaks for more than 1 s, else 0"),
    "reward_turn_taking": ("reward: turn-taking (s)", 1, "minus the delay of the first utterance over 1 s"),
    "reward_backchannel": ("reward: backchannel", 1, "F1 within 1 s of the human's, take-overs counted against it"),
    "reward_interruption": ("reward: interruption (s)", 1, "minus the delay of the answer to who broke in"),
    "pause_take_over": ("take-over in a pause", -1, "share of segments"),
    "pause_speech": ("speech in segments with a pause", 0, "share of the time"),
    "turn_taking_answered": ("take-over at the end of a turn", 1, "share of segments"),
    "turn_taking_latency": ("its latency (s)", -1, "from the end of the user's turn, where both models answer"),
    "backchannel_per_minute": ("backchannels a minute", 0, "of the user's speech"),
    "backchannel_divergence": ("their times against the human's", -1, "Jensen-Shannon divergence, 0 to 1"),
    "backchannel_take_over": ("take-over while the user speaks", -1, "share of segments"),
    "interruption_answered": ("answers to who broke in", 1, "share of segments"),
    "interruption_latency": ("their latency (s)", -1, "from the end of the interruption, where both models answer"),
    "interruption_stop_latency": ("stops after (s)", -1, "from the onset of the interruption"),
    "interruption_talked_through": ("talks through it", -1, "share of interruptions that met a speaking agent"),
    "content_proxy": ("content, a proxy", 1, "0 to 2: n-grams of people's chats, and repetition"),
    "words_heard": ("speech, a proxy: words heard", 1, "share of written words with speech in or just after them"),
    "words_understood": ("speech: words understood", 1, "1 less the word errors of a recogniser, by its own words"),
    "sound_log_likelihood": ("speech, a proxy: likelihood", 1, "of audio tokens under the model before, nats a token"),
}
"""Label, which way is better (0: neither), and what it is."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One segment as both models played it."""

    axis: str
    before: Scene
    after: Scene
    rewards: tuple[float, float]


def verdict(metric: str, change: Difference) -> str:
    """better, worse, changed, or nothing where the interval holds 0."""
    _, way, _ = METRICS.get(metric, (metric, 0, ""))
    if not change.clear:
        return ""
    return "changed" if not way else "better" if way * change.mean > 0 else "worse"


def page(
    model: str, changed: Mapping[str, Difference], live: tuple[Sequence[Row], Sequence[Row]],
    curve: Sequence[Mapping[str, Any]], pairs: Sequence[Pair], *, notes: Sequence[str], command: str,
) -> Page:  # fmt: skip
    """The whole page.

    Args:
        model: what was aligned.
        changed: by metric.
        live: rows of talks with scripted users, before and after.
        curve: rows of metrics of the training.
        pairs: segments to be heard.
        notes: what must be known to read the numbers.
        command: that made them.
    """
    verdicts = [verdict(metric, change) for metric, change in changed.items()]
    return Page(
        title=f"{model}, before and after alignment",
        subtitle=f"{verdicts.count('better')} metrics clearly better, {verdicts.count('worse')} clearly worse, of "
        f"{len(changed)}",
        tables=[change_table(changed), *([live_table(*live)] if live[0] else [])],
        figures=[reward_curve(name, curve) for name in reward_names(curve)],
        samples=[sample for i, pair in enumerate(pairs) for sample in both(i, pair)],
        notes=list(notes),
        command=command,
    )


def change_table(changed: Mapping[str, Difference]) -> Table:
    """Every metric with both models' means, and the difference over segments with its interval."""
    rows: list[tuple[Fact | Cell, ...]] = []
    for metric, d in changed.items():
        label, way, what = METRICS.get(metric, (metric, 0, ""))
        span = "" if math.isnan(d.low) else f"{number(d.low)} to {number(d.high)}"
        better = {1: "up", -1: "down", 0: ""}[way]
        rows.append((Cell(label, what), better, d.before, d.after, d.mean, span, d.segments, verdict(metric, d)))
    heads = ("held-out segments", "better", "before", "after", "difference", "95 % interval", "segments", "")
    note = "Paired: equal segments, settings and seeds; intervals by bootstrap over segments in which both are known."
    return Table("What changed", heads, rows, note)


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
    label = METRICS.get(name, (name.removeprefix("reward_"), 1, ""))[0]
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
