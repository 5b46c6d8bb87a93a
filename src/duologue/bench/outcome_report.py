"""Two models put to the same segments, reported: what `duologue demo` does after training, and `duologue evaluate
align` with a run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.base.errors import UserError
from duologue.base.files import write_json
from duologue.base.report import write_report
from duologue.bench.before_after import Outcome, Trial, most_changed, put_to, replay
from duologue.bench.change_page import ONE_SEED, Pair, comparisons_note, heard_in_short, in_short, marked, page, span
from duologue.bench.evidence import SCORED, Evidence, evidence_of, plain_evidence, plain_played
from duologue.bench.metrics import label_of
from duologue.train.align_learner import sampling_of, shaped

if TYPE_CHECKING:
    from duologue.audio.words import Recogniser
    from duologue.bench.content_model import AnswerModel
    from duologue.corpus.sample import SegmentPart
    from duologue.dialogue.segments import LazyWaveform
    from duologue.engine.bundle import Bundle
    from duologue.engine.prompts import Voice
    from duologue.train.align_settings import AlignSettings
    from duologue.train.rollouts import Recorded

SIMULATED = (
    "The segments are simulated: people's chats in synthetic voices, with human timing. What is heard of the user was "
    "decoded from tokens."
)
LIVE_S = 25.0
"""Scripted users leave after so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFiles:
    """Where a report goes, and what stands on it."""

    folder: Path
    """The run's: gets report.html, result.json and scored.json."""
    title: str
    """What was aligned."""
    curve: Sequence[Mapping[str, Any]]
    """Rows of metrics of the training."""
    shown: int
    """Segments of each axis to be heard."""
    notes: Sequence[str]
    """What must be known to read the numbers."""
    json: Path | None = None
    """A further place for the result."""


def shipped_segments(part: SegmentPart, axes: Sequence[str], bundle: Bundle) -> dict[str, list[Recorded]]:
    """The segments of a part that come with the package, by axis.

    Raises:
        UserError: the model has another codec than that of their tokens.
    """
    from duologue.corpus.encoding import header_of
    from duologue.corpus.sample import sample_segments
    from duologue.corpus.token_cache import read_header
    from duologue.train.align import read_segments

    folder = sample_segments(part)
    if read_header(folder / "tokens") != header_of(bundle.need_codec()):
        mend = "give a corpus, or segments, with sound"
        raise UserError("has another codec than the shipped segments", place=bundle.config.name, mend=mend)
    return read_segments(folder, axes, bundle, folder / "tokens")


def trial_of(
    segments: Mapping[str, Sequence[Recorded]], settings: AlignSettings, bundle: Bundle, voice: Voice | None, *,
    context_s: float, scenarios: int, seed: int, answer_model: AnswerModel | None = None,
) -> Trial:  # fmt: skip
    """What both models are put to: drawn as in the alignment, with other seeds, and whole segments for windows."""
    return Trial(
        segments=shaped(segments, replace(settings.rollouts, window=None)), settings=settings,
        sampling=sampling_of(settings.rollouts, bundle.config.sampling), voice=voice, context_s=context_s,
        scenarios=scenarios, seconds=LIVE_S, seed=seed + 1, answer_model=answer_model,
    )  # fmt: skip


def report(
    trial: Trial, part: str, before: Bundle, after: Bundle, files: ReportFiles, recogniser: Recogniser | None = None
) -> tuple[Evidence, dict[str, Any]]:
    """Put both models to a trial and write down what they did; returns the evidence and what result.json holds.

    Args:
        trial: what is played.
        part: which segments they are.
        before: the model before alignment.
        after: the aligned one.
        files: what is written.
        recogniser: who hears what they say, if somebody does.
    """
    outcomes = put_to(trial, before, before.lm, recogniser), put_to(trial, after, before.lm, recogniser)
    evidence = evidence_of(trial, part, *outcomes)
    pairs = pairs_of(trial, before, after, outcomes, files.shown)
    command = shlex.join(["duologue", *sys.argv[1:]])
    made = page(files.title, evidence, files.curve, pairs, notes=files.notes, command=command)
    write_report(files.folder / "report.html", made)
    write_json(files.folder / SCORED, plain_played(evidence))
    return evidence, plain_evidence(evidence)


def write_result(result: Mapping[str, Any], files: ReportFiles) -> None:
    """result.json in the run's folder, and where else it is wanted."""
    for path in (files.folder / "result.json", files.json):
        if path is not None:
            write_json(path, dict(result))


def pairs_of(trial: Trial, before: Bundle, after: Bundle, outcomes: tuple[Outcome, Outcome], count: int) -> list[Pair]:
    """The segments whose reward changed most, as both models played them, with the user to be heard."""
    chosen = most_changed(trial, outcomes[0].scored, outcomes[1].scored, count)
    earned = [{s.segment: s.values[f"reward_{s.axis}"] for s in o.scored} for o in outcomes]
    pairs = []
    for (axis, place), was, now in zip(
        chosen, replay(trial, before, chosen), replay(trial, after, chosen), strict=True
    ):
        recorded = trial.segments[axis][place]
        scenes = [replace(r.scene, user_audio=r.scene.user_audio or decoded(after, recorded)) for r in (was, now)]
        first, last = (e[recorded.segment.id] for e in earned)
        pairs.append(Pair(axis, scenes[0], scenes[1], (first, last)))
    return pairs


def decoded(bundle: Bundle, recorded: Recorded) -> LazyWaveform:
    """Reads the user's sound, decoded from tokens."""
    import torch

    def read() -> tuple[Any, int]:
        codec = bundle.need_codec()
        with torch.no_grad():
            sound = codec.decode(recorded.user.clamp(min=0)[None].to(bundle.lm.text_emb.weight.device))
        return sound[0, 0].cpu().numpy(), codec.sample_rate

    return read


def model_notes(model: str, recogniser: str | None, language_model: str | None) -> list[str]:
    """What must be known of a model, and of who judges it, to read its numbers."""
    notes = []
    if model == "nano":
        notes.append(
            "nano is a small demonstration model with one synthetic voice. A quarter of its words is misheard."
        )
    heard = "a recogniser hears" if recogniser else "nobody hears"
    notes.append(f"Words are the model's own text; {heard} whether its sound says them. No person judged anything.")
    reader = language_model or "the shipped model, which is of one family with the proxy reward"
    notes.append(f"How well answers fit their turns is said by {reader}.")
    return notes


def show(evidence: Evidence) -> None:
    """Print what changed, and what it says."""
    from rich.console import Console
    from rich.table import Table

    from duologue.bench.rows import number

    table = Table("metric", "before", "after", "difference", "95 % interval", "segments", "", title_justify="left",
                  title=f"Before and after alignment ({evidence.part})")  # fmt: skip
    for metric, d in evidence.changed.items():
        mark = marked(metric, d, evidence.comparisons)
        cells = (number(d.before), number(d.after), number(d.mean), span(d), str(d.segments), mark)
        table.add_row(label_of(metric), *cells)
    agents = Table("", *evidence.models, "human", "voice-activity rule", "deaf metronome", title_justify="left",
                   title="The same segments beside people and machines (sums over axes)")  # fmt: skip
    rows = [*evidence.models.values(), *(evidence.agents[name] for name in ("human", "vad_rule", "metronome"))]
    for name, label in (("sum_raw", "rewards"), ("sum_z", "z-scores over the agents of a segment")):
        agents.add_row(label, *(number(row[name]) for row in rows))
    console = Console()
    wide = console if console.is_terminal else Console(width=120)
    wide.print(table)
    wide.print(agents)
    for line in (*heard_in_short(evidence), f"{in_short(evidence)}. {ONE_SEED}"):
        print(line)
    print(comparisons_note(evidence.comparisons))
