"""Full-Duplex-Bench v1.5, before and after: how the agent's voice changes when something is heard over its turn.

Matched in compat: v1_v1.5/evaluation/eval_general_before_after.py and significance_test.py at commit d7336bd: the
answer is split at the first word at or after the overlap's end; words per minute come from the words, pitch and
intensity from the audio without its silences. The corrected mode writes null where upstream writes 0 for "not
measurable" and averages only samples that were measured on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duologue.audio.prosody import SILENT_DB, intensity_curve, intensity_stats, pitch_curve, pitch_stats
from duologue.audio.quality import available_predictors, measure_quality
from duologue.audio.vad import VadConfig, speech_samples
from duologue.audio.wave import Audio, read_audio
from duologue.audio.words import Chunk, read_fdb_chunks
from duologue.base.errors import UserError
from duologue.base.progress import track
from duologue.bench.fdb_samples import attempt, need, read_overlap_event, read_tags, sample_folders
from duologue.bench.hearing import VAD_RATE, official_audio
from duologue.bench.results import SampleScore, TaskScore, counts

TRIM = VadConfig(min_speech_s=0.06, min_silence_s=0.05)
TRIM_SHARE = 0.05
MIN_VALUES_TO_TRIM = 3
LEVEL_FRAME = 160
OUTLIER_MADS = 3.5
MAD_TO_SD = 1.4826
SIDES = ("pre", "post", "clean")

Span = tuple[float, float]
Measures = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """The agent's answer: its samples [S] at 16 kHz and its words as (start, end)."""

    samples: NDArray[np.float32]
    words: list[Span]

    @property
    def duration(self) -> float:
        return len(self.samples) / VAD_RATE


def score_before_after(root: Path, mode: str) -> TaskScore:
    """Measure every sample's voice before the overlap's end, after it, and in the answer to the clean input."""
    official = mode != "corrected"
    samples = {
        folder.name: attempt(_score, folder, official) for folder in track(sample_folders(root), "measuring voices")
    }
    measured = {name: s for name, s in samples.items() if s.status == "ok"}
    return TaskScore(
        benchmark="fdb-v1.5",
        task="before_after",
        mode=mode,
        summary={
            "n": len(samples),
            "counts": counts(samples.values()),
            **{side: _average(measured.values(), side, official) for side in SIDES},
            "tests": paired_tests(root, measured),
        },
        samples=samples,
        notes=_notes(measured.values(), official),
    )


def _score(folder: Path, official: bool) -> SampleScore:
    event = read_overlap_event(need(folder, "metadata.json"))
    answer = _answer(folder, "output", official)
    split = min(max(0.0, split_time(event.end, answer.words)), answer.duration)
    before = [w for w in answer.words if w[1] <= split]
    after = [w for w in answer.words if w[1] > split]
    parts = {
        "pre": _measure(answer, 0.0, split, before, official),
        "post": _measure(answer, split, answer.duration, after, official),
    }
    if (folder / "clean_output.wav").is_file() and (folder / "clean_output.json").is_file():
        clean = _answer(folder, "clean_output", official)
        parts["clean"] = _measure(clean, 0.0, clean.duration, clean.words, official)
    silent = [side for side, words in (("pre", before), ("post", after)) if not words]
    details: dict[str, Any] = {f"{side}_{k}": v for side, part in parts.items() for k, v in part.items()}
    return SampleScore(
        status="not_exercised" if silent and not official else "ok",
        why=f"the answer is split at {split:.2f} s"
        + (f"; the agent says nothing in {' and '.join(silent)}" if silent else ""),
        details={
            "split_s": split,
            "overlap_end_s": event.end,
            **details,
            "backend": pitch_stats(answer.samples[:0], VAD_RATE).backend,
        },
    )


def _notes(samples: Iterable[SampleScore], official: bool) -> list[str]:
    """Which back end measured the voice, and what nothing measured."""
    backends = {str(s.details["backend"]) for s in samples}
    absent = [f"{name}: {why}" for name, why in available_predictors().items() if why]
    notes = [f"Pitch and intensity are measured by the back end {' and '.join(sorted(backends))}."] if backends else []
    if official and "builtin" in backends:
        notes.append("The official numbers are Praat's: pip install 'duologue[prosody]' to have them.")
    return notes + ([f"Naturalness not measured by {'; '.join(absent)}."] if absent else [])


def _answer(folder: Path, name: str, official: bool) -> Answer:
    path = need(folder, f"{name}.wav")
    words = [_whole(c) for c in read_fdb_chunks(need(folder, f"{name}.json")).chunks]
    audio = official_audio(path) if official else read_audio(path).mono().resampled(VAD_RATE)
    return Answer(audio.samples[0], words)


def _whole(chunk: Chunk) -> Span:
    if chunk.start is None or chunk.end is None:
        raise UserError(f"word {chunk.text!r} has a null time, on which the official script raises")
    return chunk.start, chunk.end


def split_time(overlap_end: float, words: Sequence[Span]) -> float:
    """Start of the first word that is running at, or begins after, the overlap's end; else the last word's end."""
    ordered = sorted(words, key=lambda w: w[0])
    if not ordered:
        return overlap_end
    return next((s for s, e in ordered if overlap_end < s or s <= overlap_end < e), ordered[-1][1])


def _measure(answer: Answer, start: float, end: float, words: Sequence[Span], official: bool) -> Measures:
    """Words per minute, pitch, intensity and naturalness of one stretch of the answer, its silences left out."""
    first, last = round(start * VAD_RATE), round(end * VAD_RATE)
    if last <= first:
        return {}
    part = answer.samples[first:last]
    voiced = [part[s:e] for s, e in speech_samples(part, TRIM)]
    spoken = np.concatenate(voiced) if voiced else part
    span = words[-1][1] - words[0][0] if words else 0.0
    measures: Measures = {
        "wpm": len(words) / span * 60 if span > 0 else 0.0 if official else None,
        "speech_dur_s": max(0.0, span),
    }
    measures |= official_voice(spoken) if official else _voice(spoken)
    return measures | measure_quality(Audio(spoken[None], VAD_RATE))


def _voice(samples: NDArray[np.float32]) -> Measures:
    pitch, loud = pitch_stats(samples, VAD_RATE), intensity_stats(samples, VAD_RATE)
    return {
        "mean_pitch": pitch.mean_hz,
        "std_pitch": pitch.sd_hz,
        "mean_intensity": loud.mean_db,
        "std_intensity": loud.sd_db,
    }


def official_voice(samples: NDArray[np.float32]) -> Measures:
    """Pitch and intensity as the official script reports them: in float32, with 0 where there is nothing to measure.

    Where Praat has no intensity (silence, under 0.064 s), the script takes levels in dB re full scale, -200 for
    silence, and averages them with Praat's, which are re 2e-5.
    """
    hertz = pitch_curve(samples, VAD_RATE).astype(np.float32)
    levels = intensity_curve(samples, VAD_RATE)
    levels = levels[levels > SILENT_DB]
    if len(levels) == 0:
        whole = samples[: len(samples) // LEVEL_FRAME * LEVEL_FRAME].reshape(-1, LEVEL_FRAME)
        power = np.mean(whole**2, axis=1) if len(whole) else np.mean(samples[None] ** 2, axis=1) + 1e-10
        levels = 20 * np.log10(np.maximum(np.sqrt(power), 1e-10))
    (pitch, pitch_sd), (level, level_sd) = _official_stats(hertz[hertz > 0]), _official_stats(levels.astype(np.float32))
    return {"mean_pitch": pitch, "std_pitch": pitch_sd, "mean_intensity": level, "std_intensity": level_sd}


def _official_stats(values: NDArray[np.float32]) -> tuple[float, float]:
    mean = float(np.mean(values)) if len(values) else 0.0
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _average(samples: Iterable[SampleScore], side: str, official: bool) -> dict[str, float]:
    """Mean per measure after cutting what lies outside the 5th to 95th percentile (with at least 3 values)."""
    samples = list(samples)
    names = sorted({k.removeprefix(f"{side}_") for s in samples for k in s.details if k.startswith(f"{side}_")})
    averages = {}
    for name in names:
        chosen = [
            s for s in samples if official or all(s.details.get(f"{x}_{name}") is not None for x in ("pre", "post"))
        ]
        values = np.array([v for s in chosen if isinstance(v := s.details.get(f"{side}_{name}"), float)])
        if len(values) >= MIN_VALUES_TO_TRIM:
            low, high = np.percentile(values, [100 * TRIM_SHARE, 100 * (1 - TRIM_SHARE)])
            values = values[(values >= low) & (values <= high)]
        if len(values):
            averages[name] = float(values.mean())
    return averages


def paired_tests(root: Path, samples: Mapping[str, SampleScore]) -> list[dict[str, Any]]:
    """Paired t-tests, before against after and clean against after, over the samples tagged C_RESPOND, Holm-corrected.

    As in significance_test.py: 0 (and an intensity of -190 dB or less) counts as missing, samples with any 0 words per
    minute are left out, and pairs whose difference is over 3.5 scaled median absolute deviations away are dropped.
    """
    tagged = [s for name, s in samples.items() if _responds(root / name / "content_tag.json")]
    tagged = [s for s in tagged if all(s.details.get(f"{side}_wpm") != 0.0 for side in SIDES)]
    names = sorted({k.removeprefix("pre_") for s in tagged for k in s.details if k.startswith("pre_")})
    tests = [
        test
        for name in names
        for side in ("pre", "clean")
        if (
            test := _paired_test(
                [(_valid(s, side, name), _valid(s, "post", name)) for s in tagged], f"{side}_vs_post:{name}"
            )
        )
    ]
    # Holm (1979): the smallest p is multiplied by the number of tests, the next by one less, never decreasing.
    running = 0.0
    for rank, test in enumerate(sorted(tests, key=lambda t: t["p"])):
        running = max(running, min(1.0, test["p"] * (len(tests) - rank)))
        test["p_holm"] = running
    return tests


def _responds(path: Path) -> bool:
    try:
        return path.is_file() and "C_RESPOND" in read_tags(path)
    except UserError:
        return False


def _valid(sample: SampleScore, side: str, name: str) -> float:
    value = sample.details.get(f"{side}_{name}")
    if not isinstance(value, float) or (value <= -190.0 if name == "mean_intensity" else value == 0.0):
        return float("nan")
    return value


def _paired_test(pairs: Sequence[tuple[float, float]], name: str) -> dict[str, Any] | None:
    from scipy import stats

    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    table = table[~np.isnan(table).any(axis=1)]
    change = table[:, 1] - table[:, 0]
    if len(change) < 2:
        return None
    centre = np.median(change)
    scale = MAD_TO_SD * np.median(np.abs(change - centre))
    if scale > 0:
        table = table[np.abs(change - centre) <= OUTLIER_MADS * scale]
        change = table[:, 1] - table[:, 0]
    n = len(change)
    if n < 2 or change.std(ddof=1) == 0:
        return None
    t, p = stats.ttest_rel(table[:, 1], table[:, 0])
    half = stats.t.ppf(0.975, df=n - 1) * change.std(ddof=1) / np.sqrt(n)
    return {
        "test": name,
        "n": n,
        "n_dropped": len(pairs) - n,
        "mean_before": float(table[:, 0].mean()),
        "mean_after": float(table[:, 1].mean()),
        "mean_change": float(change.mean()),
        "ci95": [float(change.mean() - half), float(change.mean() + half)],
        "t": float(t),
        "p": float(p),
    }
