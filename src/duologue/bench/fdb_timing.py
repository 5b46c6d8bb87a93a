"""Full-Duplex-Bench v1.5, timing: how fast the agent stops and answers when something is heard over its turn.

Matched in compat: v1_v1.5/evaluation/get_timing.py at commit d7336bd, which writes lists of intervals and aggregates
nothing. The aggregation here takes, per sample, the intervals that belong to the overlap event of metadata.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from duologue.audio.vad import VadConfig, speech_samples
from duologue.bench import fdb_corrected
from duologue.bench.fdb_played import Play, recorded_sound, user_speech
from duologue.bench.fdb_samples import OverlapEvent, attempt, need, read_overlap_event, sample_folders
from duologue.bench.hearing import VAD_RATE, Recordings, official_audio
from duologue.bench.results import SampleScore, TaskScore, counts, mean, median
from duologue.dialogue.intervals import Intervals, as_intervals

USER_JOIN_SECONDS = 0.6
AGENT_JOIN_SECONDS = 0.5
BELONGS_SECONDS = 0.6
"""How far an interval may lie from the event and still belong to it: the user's own joining gap."""

Span = tuple[float, float]


def score_timing(root: Path, mode: str, recordings: Recordings) -> TaskScore:
    """Stop and response latency of every sample, given what was heard in its output.wav.

    Compat hears for itself, by the official resampling, and its samples also carry the official interval lists.
    """
    if mode == "corrected":
        notes = []
        samples = corrected_samples(root, recordings)
    else:
        notes = ["The official script aggregates nothing: the latencies per sample are ours."]
        samples = {f.name: attempt(_compat, f) for f in sample_folders(root)}
    return TaskScore(
        benchmark="fdb-v1.5", task="timing", mode=mode, summary=summarise(samples), samples=samples, notes=notes
    )


def corrected_samples(root: Path, recordings: Recordings, play: Play = recorded_sound) -> dict[str, SampleScore]:
    """Each sample folder by the corrected rules; `play` says what the agent, recorded or not, did in it."""
    return {f.name: attempt(_corrected, f, recordings, play) for f in sample_folders(root)}


def _corrected(folder: Path, recordings: Recordings, play: Play) -> SampleScore:
    event = read_overlap_event(need(folder, "metadata.json"))
    played = play(recordings, folder)
    onset = fdb_corrected.heard_onset(user_speech(recordings, folder), event.start, event.end)
    return fdb_corrected.score_interruption(played.agent, onset, event.end)


def _compat(folder: Path) -> SampleScore:
    users = joined(speech_of(folder, "input.wav"), USER_JOIN_SECONDS)
    agents = joined(speech_of(folder, "output.wav"), AGENT_JOIN_SECONDS)
    stops, answers = overlap_intervals(users, agents), response_intervals(users, agents)
    metadata = folder / "metadata.json"
    event = read_overlap_event(metadata) if metadata.is_file() else None
    stop = None if event is None else _stop_of(event, stops)
    answer = None if event is None else _answer_of(event, answers)
    return SampleScore(
        latency_s=answer,
        why=f"{len(stops)} stretches of double talk, {len(answers)} responses"
        + ("" if event else "; no metadata.json, so none of them can be tied to the overlap event"),
        details={
            "stop_latency_s": stop,
            "latency_stop_list": [list(s) for s in stops],
            "latency_resp_list": [list(s) for s in answers],
        },
    )


def speech_of(folder: Path, name: str) -> Intervals:
    return as_intervals(speech_samples(official_audio(need(folder, name)).samples[0], VadConfig())) / VAD_RATE


def joined(speech: Intervals, gap: float) -> list[Span]:
    """Speech united over silences of at most `gap` seconds (no tolerance, as in the official script)."""
    spans: list[Span] = []
    for start, end in sorted((float(s), float(e)) for s, e in speech):
        if spans and start - spans[-1][1] <= gap:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    return spans


def overlap_intervals(users: Sequence[Span], agents: Sequence[Span]) -> list[Span]:
    """Where both speak, in order of end; of several that end in the same millisecond the shortest. Rounded to 1 ms."""
    shortest: dict[int, Span] = {}
    for user in users:
        for agent in agents:
            start, end = max(user[0], agent[0]), min(user[1], agent[1])
            if end > start:
                key = round(end * 1000)
                if key not in shortest or end - start < shortest[key][1] - shortest[key][0]:
                    shortest[key] = (start, end)
    return [(round(s, 3), round(e, 3)) for s, e in sorted(shortest.values(), key=lambda span: span[1])]


def response_intervals(users: Sequence[Span], agents: Sequence[Span]) -> list[Span]:
    """From each end of the user to the next start of the agent; one per start, the latest end. Rounded to 1 ms."""
    latest: dict[int, Span] = {}
    for _, end in users:
        start = next((s for s, _ in agents if s > end), None)
        if start is not None:
            key = round(start * 1000)
            span = (round(end, 3), round(start, 3))
            if key not in latest or span[0] > latest[key][0]:
                latest[key] = span
    return sorted(latest.values(), key=lambda span: span[1])


def _stop_of(event: OverlapEvent, stops: Sequence[Span]) -> float | None:
    """How long both spoke in the event: the first double talk that starts within it."""
    found = next((s for s in stops if event.start - BELONGS_SECONDS <= s[0] < event.end), None)
    return None if found is None else found[1] - found[0]


def _answer_of(event: OverlapEvent, answers: Sequence[Span]) -> float | None:
    """The response whose user end lies within 0.6 s of the event's end."""
    found = next((a for a in answers if abs(a[0] - event.end) <= BELONGS_SECONDS), None)
    return None if found is None else found[1] - found[0]


def summarise(samples: Mapping[str, SampleScore]) -> dict[str, Any]:
    """Counts, and means and medians over the samples that were scored."""
    ok = [s for s in samples.values() if s.status == "ok"]
    stops = [v for s in ok if isinstance(v := s.details.get("stop_latency_s"), float)]
    latencies = [s.latency_s for s in ok if s.latency_s is not None]
    through = [bool(v) for s in ok if (v := s.details.get("talked_through")) is not None]
    return {
        "n": len(samples),
        "counts": counts(samples.values()),
        "stop_latency_s": mean(stops),
        "stop_latency_median_s": median(stops),
        "n_stop": len(stops),
        "latency_s": mean(latencies),
        "latency_median_s": median(latencies),
        "n_response": len(latencies),
        "talked_through_rate": sum(through) / len(through) if through else None,
    }
