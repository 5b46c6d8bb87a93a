"""Full-Duplex-Bench v1: four tasks, scored as the official scripts do (compat) or without their faults (corrected)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from duologue.audio.words import Chunk, read_fdb_chunks
from duologue.base.errors import UserError
from duologue.base.files import read_json
from duologue.bench import fdb_corrected, fdb_official
from duologue.bench.fdb_played import Play, Played, recorded, user_speech
from duologue.bench.fdb_samples import (
    Interruption,
    attempt,
    need,
    read_interruption,
    read_pauses,
    read_rating,
    read_turn_end,
    sample_folders,
)
from duologue.bench.hearing import Recordings, official_segments
from duologue.bench.results import SampleScore, TaskScore
from duologue.bench.summaries import summarise_compat, summarise_corrected

Task = Literal["pause_handling", "smooth_turn_taking", "user_interruption", "backchannel"]
Mode = Literal["compat", "compat-2025", "corrected"]
TASKS: tuple[Task, ...] = get_args(Task)
MODES: tuple[Mode, ...] = get_args(Mode)

Bins: TypeAlias = Sequence[float] | None
"""When people backchannel in a sample: a histogram over time, 0.2 s a bin; None: unknown."""
Reference: TypeAlias = Mapping[str, Sequence[float]]
"""Such histograms by the sample's folder."""
Rate = Callable[[Sequence[tuple[Interruption, str]]], Sequence[float | None]]
"""A judge: interruptions and the agent's answers in, ratings from 0 to 5 out; None where a reply cannot be scored."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a task is scored with, beside the samples themselves."""

    mode: Mode = "corrected"
    reference: Reference | None = None
    """Backchannel task: when people backchannel in each sample, as 0.2 s histograms keyed by folder name."""
    judge: Rate | None = None
    """Interruption task: rates the answers; without one, each folder's rating.json is read where it is present."""


def score_task(root: Path, task: Task, options: Options, recordings: Recordings) -> TaskScore:
    """Score every sample folder under `root`, given what was heard in each input.wav and output.wav.

    The compat modes need no recordings: the official rules hear for themselves.

    Errors: UserError when `root` holds no sample; what is wrong with one sample becomes that sample's status.
    """
    corrected = options.mode == "corrected"
    samples: dict[str, SampleScore] = {}
    if corrected:
        samples = corrected_samples(root, task, options.reference, recordings)
    else:
        for folder in sample_folders(root):
            for name, transcript in _official_transcripts(folder, task):
                samples[name] = attempt(COMPAT[task], transcript, options)
    if task == "user_interruption":
        samples |= _rated(root, samples, options)
    summary = (summarise_corrected if corrected else summarise_compat)(task, samples)
    return TaskScore(
        benchmark="fdb-v1",
        task=task,
        mode=options.mode,
        summary=summary,
        samples=samples,
        notes=_notes(task, samples, options),
    )


def read_reference(path: Path) -> dict[str, list[float]]:
    """Read icc_gt_distribution.json: sample id -> histogram of human backchannels over time (any sum above 0)."""
    value = read_json(path)
    if not isinstance(value, dict) or not value:
        raise UserError(
            "is not an object of histograms", place=path, mend="give the benchmark's icc_gt_distribution.json"
        )
    for key, bins in value.items():
        numbers = isinstance(bins, list) and all(isinstance(b, int | float) and b >= 0 for b in bins)
        if not numbers or not sum(bins) > 0:
            raise UserError(
                f"entry {key!r} is not a histogram", place=path, mend="give numbers >= 0 with a sum above 0"
            )
    return value


def _official_transcripts(folder: Path, task: Task) -> list[tuple[str, Path]]:
    """The transcripts of a folder that the official scripts count as samples, named.

    The pause and turn-taking scripts count every file that ends in "output.json", so that clean_output.json of v1.5
    makes a second sample; the backchannel script passes over folders whose name is not a number.
    """
    if task == "backchannel" and not folder.name.isdigit():
        return []
    main = (folder.name, folder / "output.json")
    if task not in ("pause_handling", "smooth_turn_taking"):
        return [main]
    others = sorted(p for p in folder.glob("*output.json") if p.name != "output.json" and p.is_file())
    extra = [(f"{folder.name}/{p.name}", p) for p in others]
    return [main, *extra] if main[1].is_file() or not extra else extra


# The official rules -------------------------------------------------------------------------------------------------


def _compat_pause(transcript: Path, options: Options) -> SampleScore:
    chunks = _chunks(transcript)
    return _compat_verdict(chunks, fdb_official.took_turn(chunks, open_end_is_start=True), None)


def _compat_turn_taking(transcript: Path, options: Options) -> SampleScore:
    chunks = _chunks(transcript)
    turn_end = read_turn_end(need(transcript.parent, "turn_taking.json"))
    return _compat_verdict(chunks, fdb_official.took_turn(chunks, open_end_is_start=False), turn_end)


def _compat_interruption(transcript: Path, options: Options) -> SampleScore:
    chunks = _chunks(transcript)
    event = read_interruption(need(transcript.parent, "interrupt.json"))
    return _compat_verdict(chunks, fdb_official.took_turn(chunks, open_end_is_start=False), event.end)


def _compat_verdict(chunks: Sequence[Chunk], taken: bool, turn_end: float | None) -> SampleScore:
    latency = fdb_official.clipped_latency(chunks, turn_end) if taken and turn_end is not None else None
    rule = "at least 1 s or more than 3 words" if taken else "under 1 s and at most 3 words" if chunks else "no words"
    return SampleScore(take_over=int(taken), latency_s=latency, why=f"the whole file holds {rule}: {len(chunks)} words")


def _compat_backchannel(transcript: Path, options: Options) -> SampleScore:
    segments, duration = official_segments(need(transcript.parent, "output.wav"))
    chunks = _chunks(transcript)
    forget = options.mode == "compat-2025"
    taken, counted = fdb_official.backchannel_verdict(segments, chunks, forget_on_take_over=forget)
    reference = _reference(transcript.parent.name, options)
    if counted and reference is None and options.reference is not None:
        raise UserError(
            f"sample {transcript.parent.name!r} has no entry in the reference, on which the official script raises",
            mend="give the reference that belongs to these samples",
        )
    if duration <= 0:
        raise UserError("output.wav is empty, on which the official script raises")
    jsd = fdb_official.NO_BACKCHANNEL_JSD if not counted else None
    if counted and reference is not None:
        jsd = fdb_official.backchannel_distance(counted, duration, reference)
    return SampleScore(
        take_over=int(taken),
        jsd=jsd,
        frequency=len(counted) / duration,
        why=f"{len(counted)} of {len(segments)} speech segments count as backchannels; the last decides the take-over",
        details={"segments": [list(s) for s in segments]},
    )


# The corrected rules ------------------------------------------------------------------------------------------------


def corrected_samples(
    root: Path, task: Task, reference: Reference | None, recordings: Recordings, play: Play = recorded
) -> dict[str, SampleScore]:
    """Each sample folder by the corrected rules.

    Args:
        root: the samples.
        task: whose event files they have.
        reference: as in `Options`.
        recordings: what was heard.
        play: what the agent, recorded or not, did in a sample.
    """
    bins, score = reference or {}, CORRECTED[task]
    return {f.name: attempt(score, f, bins.get(f.name), recordings, play) for f in sample_folders(root)}


def _corrected_pause(folder: Path, reference: Bins, recordings: Recordings, play: Play) -> SampleScore:
    pauses = read_pauses(need(folder, "pause.json"))
    played = play(recordings, folder)
    return _with_evidence(fdb_corrected.score_pauses(played.agent, pauses, played.duration), played)


def _corrected_turn_taking(folder: Path, reference: Bins, recordings: Recordings, play: Play) -> SampleScore:
    turn_end = read_turn_end(need(folder, "turn_taking.json"))
    played = play(recordings, folder)
    if played.duration is not None and played.duration <= turn_end:
        why = f"the recording ends ({played.duration:.2f} s) before the user's turn does ({turn_end:.2f} s)"
        return _with_evidence(SampleScore(status="not_exercised", why=why), played)
    return _with_evidence(fdb_corrected.score_turn_taking(played.agent, turn_end), played)


def _corrected_interruption(folder: Path, reference: Bins, recordings: Recordings, play: Play) -> SampleScore:
    event = read_interruption(need(folder, "interrupt.json"))
    played = play(recordings, folder)
    onset = fdb_corrected.heard_onset(user_speech(recordings, folder), event.start, event.end)
    return _with_evidence(fdb_corrected.score_interruption(played.agent, onset, event.end), played)


def _corrected_backchannel(folder: Path, reference: Bins, recordings: Recordings, play: Play) -> SampleScore:
    played = play(recordings, folder)
    if not played.duration:
        output = need(folder, "output.wav")
        raise UserError("holds no sound", place=output, mend="run the system on this sample again")
    speech = user_speech(recordings, folder)
    listening = float(speech[-1, 1]) if speech is not None and len(speech) else played.duration
    listening = min(listening, played.duration)
    return _with_evidence(fdb_corrected.score_backchannels(played.agent, listening, played.duration, reference), played)


COMPAT: Mapping[Task, Callable[[Path, Options], SampleScore]] = {
    "pause_handling": _compat_pause,
    "smooth_turn_taking": _compat_turn_taking,
    "user_interruption": _compat_interruption,
    "backchannel": _compat_backchannel,
}
CORRECTED: Mapping[Task, Callable[[Path, Bins, Recordings, Play], SampleScore]] = {
    "pause_handling": _corrected_pause,
    "smooth_turn_taking": _corrected_turn_taking,
    "user_interruption": _corrected_interruption,
    "backchannel": _corrected_backchannel,
}


def _chunks(transcript: Path) -> Sequence[Chunk]:
    return read_fdb_chunks(need(transcript.parent, transcript.name)).chunks


def _with_evidence(score: SampleScore, played: Played) -> SampleScore:
    return replace(score, details={**score.details, "evidence": played.evidence})


def _reference(name: str, options: Options) -> Sequence[float] | None:
    return None if options.reference is None else options.reference.get(name)


def _rated(root: Path, samples: Mapping[str, SampleScore], options: Options) -> dict[str, SampleScore]:
    """The samples in which the agent answered, with the judge's rating: asked now, or read from rating.json."""
    answered = {name: s for name, s in samples.items() if s.take_over == 1}
    if options.judge is not None:
        asked = [
            (read_interruption(root / name / "interrupt.json"), read_fdb_chunks(root / name / "output.json").text)
            for name in answered
        ]
        return {
            name: replace(s, judge_score=rating)
            for (name, s), rating in zip(answered.items(), options.judge(asked), strict=True)
        }
    rated: dict[str, SampleScore] = {}
    for name, sample in answered.items():
        path = root / name / "rating.json"
        try:
            rated[name] = replace(sample, judge_score=read_rating(path)) if path.is_file() else sample
        except UserError as error:
            rated[name] = replace(sample, details={**sample.details, "judge_problem": str(error)})
    return rated


def _notes(task: Task, samples: Mapping[str, SampleScore], options: Options) -> list[str]:
    notes = []
    if task == "backchannel" and options.reference is None:
        notes.append("JSD is not measured where there are backchannels: no --reference was given.")
    elif task == "backchannel" and options.reference is not None:
        absent = [name for name in samples if name not in options.reference]
        if absent:
            notes.append(f"JSD is not measured for {len(absent)} samples without an entry in the reference.")
    if (
        task == "user_interruption"
        and options.judge is None
        and any(s.judge_score is not None for s in samples.values())
    ):
        notes.append(
            "Judge scores were read from the folders' rating.json; which judge wrote them is not recorded there."
        )
    if task != "backchannel" and any(
        "evidence" in s.details and "words only" in str(s.details["evidence"]) for s in samples.values()
    ):
        notes.append("Some samples have no output.wav: there the agent's speech is read from its words alone.")
    return notes
