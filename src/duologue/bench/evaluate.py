"""`duologue evaluate nano`: a small model against its targets, everything filled in by one command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import tyro

from duologue.base.errors import UserError
from duologue.engine.asked import ModelOptions

if TYPE_CHECKING:
    from duologue.audio.words import Recogniser
    from duologue.base.run_record import RunRecord
    from duologue.engine.bundle import Bundle

Group: TypeAlias = Literal["timing", "codec", "speech", "text", "prompts", "speed"]
STYLES = ("You are a quiet listener who says little.", "You are very talkative and love to tell stories.")
"""What nano was taught."""
GROUPS: tuple[Group, ...] = ("timing", "codec", "speech", "text", "prompts", "speed")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateNanoConfig(ModelOptions):
    """Measure a model against the targets of nano: timing, codec, speech, text, speed and size.

    The run folder holds config.yaml, metrics.jsonl (a line a row), result.json, samples/ and report.html. What needs a
    package or data that are not there is printed as "not measured", with the reason.
    """

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="RUN")] = None
    """The run folder; by default the next free runs/evaluate-nano-N."""
    rows: tuple[Group, ...] = GROUPS
    """Which groups of rows."""
    scenarios: int = 200
    """Live talks with scripted users, in a fixed order; the first 24 are in the report. There are 200; past
    them the same come again with other draws."""
    seconds: float | None = None
    """The user of a talk leaves after so long; by default as each scenario says."""
    slots: int = 8
    """Talks at once."""
    seed: int = 0
    """Of the agent's draws."""
    text_prompt: str | None = None
    """What the agent is told before each scripted talk."""
    styles: tuple[str, ...] = STYLES
    """Text prompts to compare, from one under which the agent says little to one under which it says much."""
    voice_prompts: tuple[Path, ...] = ()
    """Recordings of voices, whose pitch the agent's is compared with."""
    prompted: int = 24
    """Talks under each prompt."""
    recogniser: str | None = None
    """Whisper's size or folder, or parakeet (extras asr, parakeet), for word error rates. Targets: Whisper base."""
    quality: bool = False
    """Predict quality with DistillMOS (pip install distillmos)."""
    heard: int = 48
    """Talks that are recognised and judged for quality, the first in the order."""
    user_voice: str | None = None
    """The scripted users' voice; by default each scenario's own (pico), or babble without py-nanotts."""
    agent_voice: str = "pico/en-US"
    """The agent's voice for the codec's rows, if there is no --agent-voice-dir."""
    agent_voice_dir: Path | None = None
    """Recordings of the agent's voice (.wav, .flac, each with a .txt of its words)."""
    user_voices: tuple[str, ...] = ("pico/en-GB@1.14x0.95", "pico/en-US@0.88", "pico/en-GB@0.92x1.08")
    """Users' voices for the codec's rows, on which it was not trained."""
    utterances: int = 40
    """Utterances of each voice's rows of the codec, at most 120."""
    recordings: Path | None = None
    """Recorded human speech for the codec (.wav, .flac, with a .txt or without)."""
    users: tuple[Path, ...] = ()
    """Recorded users (one channel) to talk with; such talks stand in the report too."""
    texts: str = "chitchat"
    """Held-out human chat: chitchat (one chat in twenty), or a text file as duologue simulate --script reads it."""
    text_count: int = 200
    """Held-out texts, at most."""
    corpus: Path | None = None
    """Held-out conversations with words, side 0 the agent, for perplexity on real streams."""
    tokens: Path | None = None
    """Their codec tokens, from duologue encode."""
    threads: int = 2
    """Of the CPU, for the rows on speed."""
    speed_seconds: float = 6.0
    """Seconds of sound that each row on speed is timed by."""
    batch: int = 64
    """Conversations of the row on batched generation."""
    report: bool = True
    """Write report.html."""
    json: Path | None = None
    """Also write the result to this file."""


def main(config: EvaluateNanoConfig) -> int:
    """Measure a model against the targets of nano: timing, codec, speech, text, speed and size."""
    check(config)
    import shlex
    import sys
    from dataclasses import asdict

    from duologue.base.files import write_json
    from duologue.base.runs import RunFolder
    from duologue.bench.nano_page import Shown, page
    from duologue.bench.nano_parts import Job, parts, recorded
    from duologue.bench.nano_reference import dev_references
    from duologue.bench.nano_speech import talk_facts
    from duologue.bench.provenance import provenance, provenance_notes, provenance_table
    from duologue.bench.rows import Row, table

    recogniser = _recogniser(config)
    bundle = config.load()
    record = run_record(config, bundle)
    free = ("out", "json", "report")
    with RunFolder.create(config.out, "evaluate nano", config, free=free, record=record) as run:
        job = Job(config, bundle, run.path / "samples", recogniser)
        rows: list[Row] = []
        scripted: list[Shown] = []
        for found, shown in parts(job):
            scripted += shown
            rows += found
            for row in found:
                run.log(asdict(row))
        users = recorded(job)
        references = dev_references() if "timing" in config.rows else None
        result = {
            "model": config.title,
            "rows": rows,
            "scripted": [{"name": s.title, **talk_facts(s.talk)} for s in scripted],
            "users": [{"name": s.title, **talk_facts(s.talk)} for s in users],
            "reference_agents": None if references is None else references.to_json(),
            "notes": provenance_notes(record),
            "made": provenance(record),
        }
        write_json(run.path / "result.json", result)
        if config.json is not None:
            write_json(config.json, result)
        if config.report:
            from duologue.base.report import write_report

            command = shlex.join(["duologue", *sys.argv[1:]])
            more = [] if references is None else [references.table()]
            made = page(
                config.title, rows, scripted, users, command,
                notes=provenance_notes(record), more=[*more, provenance_table(record)],
            )  # fmt: skip
            write_report(run.report_path, made)
        if rows:
            print(table(rows))
        print(run.report_path if config.report else run.path / "result.json")
    return 0


def run_record(config: EvaluateNanoConfig, bundle: Bundle) -> RunRecord:
    """What an evaluation of a model really uses: for the run's folder."""
    from duologue.base.run_record import RunRecord
    from duologue.bench.provenance import NO_WORDS, OWN_TEXT, draws, model_identity, words_by

    words = OWN_TEXT if bundle.text is not None else NO_WORDS
    return RunRecord(
        model=config.title, settings=model_identity(bundle), text_prompt=config.text_prompt or "",
        sampling=draws(bundle.config.sampling),
        agent_words=words if config.recogniser is None or words == OWN_TEXT else words_by(config.recogniser),
        user_words="script", rules="corrected",
    )  # fmt: skip


def _recogniser(config: EvaluateNanoConfig) -> Recogniser | None:
    if config.recogniser is None:
        return None
    from duologue.audio.asr import load_recogniser

    return load_recogniser(config.recogniser, config.device)


def check(config: EvaluateNanoConfig) -> None:
    """Refuse what cannot be measured, before anything is loaded. Errors: UserError."""
    from duologue.audio.wave import open_audio
    from duologue.corpus.voices import VOICES, VoiceSpec
    from duologue.engine.sampling import SEEDS

    whole = {
        "--scenarios": (config.scenarios, None), "--slots": (config.slots, None), "--threads": (config.threads, None),
        "--batch": (config.batch, None), "--utterances": (config.utterances, 120),
        "--text-count": (config.text_count, None), "--prompted": (config.prompted, 200),
    }  # fmt: skip
    for place, (value, most) in whole.items():
        if value < 1 or (most is not None and value > most):
            mend = "use 1 or more" if most is None else f"use 1 to {most}"
            raise UserError(f"{value} is too few" if value < 1 else f"there are {most}", place=place, mend=mend)
    for place, length in (("--seconds", config.seconds), ("--speed-seconds", config.speed_seconds)):
        if length is not None and not 0 < length < float("inf"):
            raise UserError(f"{length} is no length", place=place, mend="use more than 0")
    if not 0 <= config.seed < SEEDS:
        raise UserError(f"{config.seed} is no seed", place="--seed", mend=f"use 0 to {SEEDS - 1}")
    if not config.rows and not config.users:
        raise UserError("nothing to measure", place="--rows", mend=f"use some of {', '.join(GROUPS)}")
    if (config.corpus is None) != (config.tokens is None):
        missing = "--tokens" if config.tokens is None else "--corpus"
        raise UserError("is missing", place=missing, mend="give --corpus and --tokens together")
    for name in (config.agent_voice, *config.user_voices):
        spec = VoiceSpec.parse(name)
        if spec.engine not in VOICES:
            raise UserError(f"no engine {spec.engine!r}", place=f"voice {name}", mend=f"use one of {', '.join(VOICES)}")
    if not config.user_voices:
        raise UserError("no voice", place="--user-voices", mend="name one, such as pico/en-GB@1.1")
    for folder in (config.agent_voice_dir, config.recordings, config.corpus, config.tokens):
        if folder is not None and not folder.is_dir():
            raise UserError("no such folder", place=folder, mend="check the path")
    for path in config.users:
        with open_audio(path) as reader:
            if reader.channels != 1:
                raise UserError(f"has {reader.channels} channels", place=path, mend="write the user's alone")
