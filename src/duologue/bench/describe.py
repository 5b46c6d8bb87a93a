"""`duologue describe`: the timing of two-channel recordings, beside that of human telephone talk."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.audio.words import Recogniser
    from duologue.bench.conversations import Recording
    from duologue.dialogue.observe import Rules

Role = Literal["left", "right", "0", "1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeConfig:
    """Timing statistics of recorded conversations: who speaks when, how turns pass, and how human that is."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Two-channel recordings, one speaker per channel; with --pair, mono files in twos."""
    pair: bool = False
    """The files come in twos: one mono file for each speaker of a conversation."""
    agent: Role | None = None
    """Which channel (or file of a pair) is the agent: left or 0, right or 1. Without it, sides are named by number."""
    words: tuple[Path, ...] = ()
    """Transcripts with word times, in the order of the files: two-sided, or with --pair one for each file. Without it
    x.json beside x.wav is used if it is one."""
    recogniser: str | None = None
    """Recognise the words of sides without a transcript: parakeet, or a Whisper size, folder or hub name (extras
    parakeet and asr)."""
    rules: Literal["human", "alignment"] = "human"
    """human: turns, backchannels and interruptions as in the human reference; alignment: the literal rules of
    arXiv 2606.11167."""
    speech: Literal["vad", "words"] = "vad"
    """What counts as speech: vad: what a detector finds; words: the words, as in the human reference."""
    vad: Literal["silero", "energy"] = "silero"
    """The speech detector: silero: a neural network; energy: level above the noise floor."""
    ipu: float = 0.2
    """Silence up to which one speaker's speech is one inter-pausal unit, in seconds."""
    json: Path | None = None
    """Also write the statistics as JSON to this file."""
    out: Path | None = None
    """The run folder (config.yaml, result.json, report.html); the default is the next free runs/describe-N."""
    resume: bool = False
    """Use a run folder that holds this very run already, after a kill; its results are made again."""
    report: bool = True
    """Write report.html, with every recording to be seen and heard."""


def main(config: DescribeConfig) -> int:
    """Describe recordings; print the statistics, and write the run folder."""
    recordings = find_recordings(config)
    if not config.ipu >= 0:
        raise UserError(f"{config.ipu} is not a length in seconds", place="--ipu", mend="use 0 or more")
    from duologue.audio.vad import VadConfig
    from duologue.base.files import write_json
    from duologue.base.runs import RunFolder
    from duologue.bench.conversations import hear_conversations
    from duologue.bench.describe_view import describe_page, print_tables, summary_tables
    from duologue.dialogue.observe import observe
    from duologue.dialogue.statistics import summarise
    from duologue.dialogue.utterances import AlignmentRules, HumanRules

    sides = side_names(config)
    rules: Rules = (HumanRules if config.rules == "human" else AlignmentRules)(ipu_silence_s=config.ipu)
    with RunFolder.create(config.out, "describe", config, resume=config.resume) as run:
        vad = VadConfig(backend=config.vad)
        heard = list(hear_conversations(recordings, vad, config.speech, sides, _recogniser(config)))
        observed = [observe(c.timeline, rules) for c in heard]
        single = [summarise([o]) for o in observed]
        pooled = summarise(observed) if len(observed) > 1 else single[0]
        notes = what_was_done(config, pooled.form_rule)
        result: dict[str, Any] = {
            "notes": notes,
            "sides": sides,
            "pooled": named(pooled.to_json(), sides),
            "recordings": [
                {"name": c.recording.name, "files": [f for f, _ in c.recording.channels], "warnings": c.warnings}
                | named(d.to_json(), sides)
                for c, d in zip(heard, single, strict=True)
            ],
        }
        write_json(run.path / "result.json", result)
        if config.json is not None:
            write_json(config.json, result)
        if config.report:
            from duologue.base.report import write_report

            command = shlex.join(["duologue", *sys.argv[1:]])
            write_report(run.report_path, describe_page(heard, single, pooled, sides, notes, command, rules))
        print_tables(summary_tables(heard, single, pooled, sides))
        for line in notes:
            print(f"note: {line}")
        for conversation in heard:
            for warning in conversation.warnings:
                print(f"warning: {conversation.recording.name}: {warning}")
        print(run.report_path if config.report else run.path / "result.json")
    return 0


def _recogniser(config: DescribeConfig) -> Recogniser | None:
    if config.recogniser is None:
        return None
    from duologue.audio.asr import load_recogniser

    return load_recogniser(config.recogniser)


def side_names(config: DescribeConfig) -> tuple[str, str]:
    """What to call sides 0 and 1: the agent is side 0 when it is known."""
    if config.agent is not None:
        return "agent", "user"
    return ("first file", "second file") if config.pair else ("channel 0", "channel 1")


def find_recordings(config: DescribeConfig) -> list[Recording]:
    """The conversations that the options name, agent first where it is given.

    Raises:
        UserError: no file, an odd number of files in pairs, or another number of transcripts than they need.
    """
    from duologue.bench.conversations import Recording

    files = config.files
    if not files:
        raise UserError("no recording given", mend="name two-channel files, or mono files in twos with --pair")
    if config.pair and len(files) % 2:
        raise UserError(
            f"{len(files)} files are not pairs", place="--pair", mend="give two mono files per conversation"
        )
    if config.words and len(config.words) != len(files):
        one = "one for each file" if config.pair else "one two-sided transcript for each recording"
        raise UserError(f"{len(config.words)} transcripts for {len(files)} files", place="--words", mend=f"give {one}")
    words: tuple[Path | None, ...] = config.words or tuple(_sidecar(f) for f in files)
    order = (1, 0) if config.agent in ("right", "1") else (0, 1)
    names = _short_names(files)
    if config.pair:
        return [
            Recording(
                f"{names[i]} + {names[i + 1]}",
                ((files[i + order[0]], 0), (files[i + order[1]], 0)),
                words=(words[i + order[0]], words[i + order[1]]),
                given_words=bool(config.words),
            )
            for i in range(0, len(files), 2)
        ]
    return [
        Recording(name, ((f, order[0]), (f, order[1])), both_words=w, given_words=bool(config.words))
        for name, f, w in zip(names, files, words, strict=True)
    ]


def _short_names(files: Sequence[Path]) -> list[str]:
    """The files' paths below the folder that they have in common."""
    above = Path(os.path.commonpath([f.absolute().parent for f in files]))
    return [str(f.absolute().relative_to(above)) for f in files]


def _sidecar(path: Path) -> Path | None:
    beside = path.with_suffix(".json")
    return beside if beside.is_file() else None


def what_was_done(config: DescribeConfig, form_rule: str) -> list[str]:
    """The rules behind the numbers, in a few lines that are printed with them."""
    heard = "the words of the transcripts" if config.speech == "words" else f"what {config.vad} detects"
    lines = [f"speech is {heard}; an inter-pausal unit ends at silence > {config.ipu:g} s"]
    if config.agent is None:
        lines.append("no roles were given (--agent): sides are named by their number")
    if config.rules == "alignment":
        lines.append(
            "utterances merge over silence <= 1.0 s; a backchannel is an utterance <= 1.0 s (arXiv 2606.11167)"
        )
    elif form_rule == "lexical":
        lines.append("backchannels are known by their words")
    else:
        where = "" if form_rule == "duration" else " in recordings without a transcript of both sides"
        lines.append(
            f"backchannels are known by duration alone{where} (<= 1.0 s), not by words: turns, offsets and "
            "backchannels do not quite compare with the human reference"
        )
    if config.ipu != 0.2:
        lines.append(f"the human reference has inter-pausal units by 0.2 s, these are by {config.ipu:g} s")
    lines.append(
        "JSD: Jensen-Shannon divergence in bits from human telephone talk; floor: what n human events would give"
    )
    return lines


def named(statistics: dict[str, Any], sides: Sequence[str]) -> dict[str, Any]:
    """Statistics with the two sides under the names that they have here."""
    keys = {"agent": sides[0], "user": sides[1]}
    statistics["seconds_per_min"] = {
        (f"{keys[k.removesuffix('_speaks')]} speaks" if k.removesuffix("_speaks") in keys else k): v
        for k, v in statistics["seconds_per_min"].items()
    }
    return {keys.get(k, k): v for k, v in statistics.items()}
