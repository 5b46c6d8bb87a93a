"""The page of a scored Full-Duplex-Bench task: a summary, and every sample to be seen and heard with its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duologue.audio.wave import read_audio
from duologue.audio.words import read_fdb_chunks, read_two_sided_words
from duologue.base.errors import UserError
from duologue.base.report import Band, Bracket, Fact, Lane, Mark, Page, Sample, Span, Status, Table, TimedWord
from duologue.bench.fdb_samples import read_interruption, read_overlap_event, read_pauses, read_turn_end
from duologue.bench.hearing import Heard, Recordings, listen
from duologue.bench.results import SampleScore, TaskScore

VERDICTS: Mapping[str, tuple[tuple[str, Status], tuple[str, Status]]] = {
    "pause_handling": (("waits", "good"), ("take-over", "bad")),
    "smooth_turn_taking": (("no answer", "bad"), ("takes the turn", "good")),
    "user_interruption": (("no answer", "bad"), ("answers", "good")),
    "backchannel": (("listens", "good"), ("take-over", "bad")),
    "timing": (("no answer", "info"), ("answers", "info")),
}
"""What take_over 0 and 1 mean for each task."""
MEASURED = {
    "pause_handling": ("n", "take_over_rate"),
    "smooth_turn_taking": ("n", "take_over_rate", "latency_s"),
    "user_interruption": ("n", "take_over_rate", "latency_s", "judge_score", "stop_latency_s"),
    "backchannel": ("n", "take_over_rate", "backchannel_frequency", "jsd"),
    "timing": ("n", "stop_latency_s", "latency_s"),
}
"""What a task is there to measure: shown as not measured where it was not; other empty values are left out."""
OVERVIEW = ("n", "take_over_rate", "latency_s", "stop_latency_s", "backchannel_frequency", "jsd", "judge_score")
SHOWN = {
    "take_over": "take-over",
    "latency_s": "latency (s)",
    "frequency": "backchannels per second",
    "jsd": "JSD",
    "judge_score": "judge score (0-5)",
    "stop_latency_s": "stop latency (s)",
    "onset_s": "interruption heard at (s)",
    "latency_if_not_interrupted_s": "latency, not interrupted (s)",
    "split_s": "split at (s)",
    "overlap_end_s": "overlap ends (s)",
}
SUMMARY_NAMES = {
    "n": "samples",
    "n_scored": "scored",
    "n_attempted": "in the denominator",
    "take_over_rate": "take-over rate",
    "take_over_rate_range": "take-over rate, the unscored going either way",
    "take_over_rate_ci95": "take-over rate, 95 % interval",
    "latency_s": "mean latency (s)",
    "latency_median_s": "median latency (s)",
    "backchannel_frequency": "backchannels per second",
    "jsd": "JSD",
    "judge_score": "judge score (0-5)",
    "n_judged": "judged",
    "early_start_rate": "early starts",
    "talked_through_rate": "talked through",
    "stop_latency_s": "mean stop latency (s)",
    "stop_latency_median_s": "median stop latency (s)",
}
BESIDE: Mapping[str, tuple[str, ...]] = {"take_over_rate": ("take_over_rate_range", "take_over_rate_ci95")}
"""How far a measure can be trusted: shown below it, and not where the summary happens to have it."""


def score_page(
    scores: Sequence[tuple[Path, TaskScore]],
    recordings: Recordings,
    *,
    title: str,
    command: str,
    notes: Sequence[str] = (),
    more: Sequence[Table] = (),
) -> Page:
    """Lay out one or more scored tasks, each with the folder that it was scored from; `more` tables come after them."""
    several = len(scores) > 1
    together = several and all(score.task in MEASURED for _, score in scores)
    summaries = [overview_table([s for _, s in scores])] if together else [summary_table(s) for _, s in scores]
    samples = [
        sample_card(
            root / name.split("/")[0], score, name, recordings, prefix=f"{root.name}-{score.task}-" if several else ""
        )
        for root, score in scores
        for name in score.samples
    ]
    return Page(
        title=title,
        subtitle=", ".join(dict.fromkeys(f"{s.benchmark}, mode {s.mode}" for _, s in scores)),
        tables=[*summaries, *more],
        samples=samples,
        notes=list(dict.fromkeys([*notes, *(note for _, score in scores for note in score.notes)])),
        command=command,
    )


def overview_table(scores: Sequence[TaskScore]) -> Table:
    """Several tasks side by side, one row each."""
    keys = [k for k in OVERVIEW if any(score.summary.get(k) is not None for score in scores)]
    rows = [
        [s.task.replace("_", " "), *(s.summary.get(k) if k in MEASURED[s.task] else "" for k in keys)] for s in scores
    ]
    return Table("tasks", ["task", *(SUMMARY_NAMES[k] for k in keys)], rows)


def summary_table(score: TaskScore) -> Table:
    """The summary as a two-column table; the counts of each status in one row."""
    rows: list[tuple[str, Fact]] = []
    for key in _ordered(score.summary):
        value = score.summary[key]
        if (value is None and key not in MEASURED.get(score.task, ())) or _says_nothing(key, value, score.summary["n"]):
            continue
        if key == "counts":
            rows.append(("statuses", ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in value.items() if n)))
        elif isinstance(value, Mapping):
            rows += [(f"{key} {name.replace('_', ' ')}", v) for name, v in value.items()]
        elif isinstance(value, list | tuple):
            rows.append((SUMMARY_NAMES.get(key, key.replace("_", " ")), _listed(value)))
        else:
            rows.append((SUMMARY_NAMES.get(key, key.replace("_", " ")), value))
    return Table(score.task.replace("_", " "), ("measure", "value"), rows)


def _ordered(summary: Mapping[str, Any]) -> list[str]:
    """The keys of a summary in its order, each interval below the measure that it is of."""
    moved = {key for keys in BESIDE.values() for key in keys}
    ordered = [key for first in summary if first not in moved for key in (first, *BESIDE.get(first, ()))]
    return [key for key in ordered if key in summary]


def sample_card(folder: Path, score: TaskScore, name: str, recordings: Recordings, prefix: str) -> Sample:
    """One sample: both sides on a timeline, the event, the verdict and why, and the sound."""
    result = score.samples[name]
    verdict, status = _verdict(score.task, result)
    user, agent = _quiet(recordings, folder / "input.wav"), _quiet(recordings, folder / "output.wav")
    bands, marks = _events(folder, score.task)
    lanes = [
        Lane("user", _spans(user), _user_words(folder), wave=1),
        Lane("agent", _spans(agent), _agent_words(folder), wave=0),
    ]
    official = result.details.get("segments")
    if isinstance(official, list):
        lanes.append(Lane("agent, as the official script hears it", [Span(float(s[0]), float(s[1])) for s in official]))
    duration = max((h.duration for h in (user, agent) if h is not None), default=0.0)
    edges = [b.end for b in bands] + [span.end for lane in lanes for span in lane.spans]
    edges += [word[2] for lane in lanes for word in lane.words or ()]
    measured = result.to_json()
    facts: dict[str, Fact] = {
        SHOWN.get(key, key.replace("_", " ")): value
        for key, value in measured.items()
        if isinstance(value, float | int | str) and key not in ("status", "why")
    }
    return Sample(
        id=f"{prefix}{name}".replace("/", "-"),
        title=f"{score.task.replace('_', ' ')} {name}",
        duration=max([duration, *edges, 0.1]),
        lanes=lanes,
        bands=bands,
        marks=marks,
        brackets=_brackets(folder, score.task, result),
        verdict=verdict,
        status=status,
        why=result.why,
        facts=facts,
        audio=lambda: _sound(folder),
    )


def _says_nothing(key: str, value: Any, n: int) -> bool:
    """Whether a row would only repeat that every sample was scored."""
    return (key in ("n_scored", "n_attempted") and value == n) or (
        key == "take_over_rate_range" and value and value[0] == value[1]
    )


def _verdict(task: str, result: SampleScore) -> tuple[str, Status]:
    if result.status == "not_exercised":
        return "not exercised", "not exercised"
    if result.status != "ok":
        return result.status, result.status
    if result.take_over is None or task not in VERDICTS:
        tag = result.details.get("tag")
        return (tag if isinstance(tag, str) else "measured"), "info"
    return VERDICTS[task][result.take_over]


def _events(folder: Path, task: str) -> tuple[list[Band], list[Mark]]:
    """The task's event file as bands and marks; a broken one was already reported by the sample's status."""
    try:
        if task == "pause_handling":
            return [Band(s, e, "pause", "pause") for s, e in read_pauses(folder / "pause.json")], []
        if task == "smooth_turn_taking":
            return [], [Mark(read_turn_end(folder / "turn_taking.json"), "user's end", "user")]
        if task == "user_interruption":
            event = read_interruption(folder / "interrupt.json")
            return [Band(event.start, event.end, "interruption", "interruption")], []
        if task in ("timing", "behavior", "before_after"):
            overlap = read_overlap_event(folder / "metadata.json")
            return [Band(overlap.start, overlap.end, "interruption", overlap.text)], []
    except UserError:
        pass
    return [], []


def _brackets(folder: Path, task: str, result: SampleScore) -> list[Bracket]:
    """Latency from the user's end to the agent's onset, and how long the agent went on after being interrupted."""
    try:
        if task == "smooth_turn_taking":
            end = read_turn_end(folder / "turn_taking.json")
            start = end
        elif task == "user_interruption":
            event = read_interruption(folder / "interrupt.json")
            start, end = event.start, event.end
        elif task == "timing":
            overlap = read_overlap_event(folder / "metadata.json")
            start, end = overlap.start, overlap.end
        else:
            return []
    except UserError:
        return []
    stop = result.details.get("stop_latency_s")
    onset = result.details.get("onset_s")
    start = onset if isinstance(onset, float) else start
    brackets = [Bracket(start, start + stop, f"stops after {stop:.2f} s")] if isinstance(stop, float) else []
    if result.latency_s is not None:
        brackets.append(Bracket(end, end + result.latency_s, f"latency {result.latency_s:+.2f} s"))
    return brackets


def _user_words(folder: Path) -> list[TimedWord] | None:
    """The user's words where the sample has them: v1.5's input.json, or transcription.json's first speaker to talk."""
    try:
        if (folder / "input.json").is_file():
            return _timed(folder / "input.json")
        if (folder / "transcription.json").is_file():
            sides = [list(side) for side in read_two_sided_words(folder / "transcription.json") if side]
            return [*min(sides, key=lambda words: words[0].start)] if sides else None
    except UserError:
        pass
    return None


def _agent_words(folder: Path) -> list[TimedWord] | None:
    try:
        return _timed(folder / "output.json") if (folder / "output.json").is_file() else None
    except UserError:
        return None


def _timed(path: Path) -> list[TimedWord]:
    return [
        (c.text.strip(), c.start, c.start if c.end is None else c.end)
        for c in read_fdb_chunks(path).chunks
        if c.start is not None
    ]


def _quiet(recordings: Recordings, path: Path) -> Heard | None:
    """What was heard, or None where the file is absent or broken (its sample's status says so)."""
    try:
        return listen(recordings, path)
    except UserError:
        return None


def _spans(heard: Heard | None) -> list[Span]:
    return [] if heard is None else [Span(float(s), float(e)) for s, e in heard.speech]


def _sound(folder: Path) -> tuple[NDArray[np.float32], int] | None:
    """Both sides as [2, S], agent first, at the lower of their rates; a side that is absent or broken is silent."""
    sides = []
    for name in ("output.wav", "input.wav"):
        try:
            sides.append(read_audio(folder / name).mono() if (folder / name).is_file() else None)
        except UserError:
            sides.append(None)
    rates = [side.rate for side in sides if side is not None]
    if not rates:
        return None
    rate = min(rates)
    rows = [np.zeros(0, np.float32) if side is None else side.resampled(rate).samples[0] for side in sides]
    both = np.zeros((2, max(map(len, rows))), np.float32)
    for row, samples in zip(both, rows, strict=True):
        row[: len(samples)] = samples
    return both, rate


def _listed(values: Sequence[Any]) -> str:
    return " to ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values)
