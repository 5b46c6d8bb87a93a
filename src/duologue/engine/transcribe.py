"""`duologue transcribe`: what is said in recordings, with times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from duologue.base.errors import UserError
from duologue.engine.asked import ModelOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duologue.audio.wave import Audio
    from duologue.dialogue.timeline import Word

WRITTEN = (".txt", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscribeConfig(ModelOptions):
    """Write down what is said in recordings: the text to standard output, and words with times to a file.

    Several recordings are heard at once. Each is one stream, however long it is.
    """

    recordings: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RECORDING.wav ...")]
    """Sound of any rate, one speaker each."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """Also write to this file: the text (.txt), or words with times (.json)."""
    model: str = "nano"
    """nano, a folder or file, or owner/name on the Hugging Face hub: one that transcribes, with a tokenizer."""
    channel: Literal["left", "right", "mix"] | None = None
    """Which channel is heard, if recordings have two; mix: their mean."""
    text_prompt: str | None = None
    """What the model is told before; what its transcribe mode says if left out."""
    text_temperature: float = 0.0
    """Of the text; 0: the likeliest token always."""
    padding_bonus: float = 0.0
    """Added to the logit of PAD: below 0 fewer words are missed, above 0 fewer are made up."""
    seed: int = 0
    """Of the draws, where the temperature is not 0."""
    batch: int = 8
    """Recordings heard at once."""
    json: Path | None = None
    """Also write words with times and all settings as JSON to this file."""


def main(config: TranscribeConfig) -> int:
    """Write down what is said in recordings: the text to standard output, and words with times to a file."""
    import sys
    import time

    if not config.recordings:
        raise UserError("no recording given", place="RECORDING.wav", mend="name one or more files of sound")
    if config.out is not None and config.out.suffix not in WRITTEN:
        raise UserError(f"cannot be written as {config.out.suffix or 'a file without a suffix'}", place=config.out,
                        mend=f"name a file that ends in {' or '.join(WRITTEN)}")  # fmt: skip
    sounds = [read_recording(path, config.channel) for path in config.recordings]
    from duologue.base.progress import meter
    from duologue.engine.listening import transcribe_all
    from duologue.engine.sampling import SEEDS, Sampling

    if not 0 <= config.seed < SEEDS:
        raise UserError(f"{config.seed} is no seed", place="--seed", mend=f"use 0 to {SEEDS - 1}")
    drawn = Sampling(
        text_temperature=config.text_temperature, text_seed=config.seed, padding_bonus=config.padding_bonus
    )
    bundle = config.load()
    ears = bundle.config.modes.transcribe
    if config.lora is not None and ears is not None and ears.model is not None:
        problem = f"{config.model} transcribes with a model of its own, which these adapters are not for"
        raise UserError(problem, place="--lora", mend=f"name that model: --model {ears.model}")
    total, start = sum(sound.duration for sound in sounds), time.perf_counter()
    with meter("listening", total=total) as progress:
        found = transcribe_all(
            bundle, sounds, slots=config.batch, sampling=drawn, text_prompt=config.text_prompt,
            on_seconds=progress.advance,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    write(config, bundle.config.name, sounds, found)
    sys.stdout.write(plain_text(config, found))
    print(f"{total:.1f} s of sound took {seconds:.1f} s ({total / seconds:.2f} times real time)", file=sys.stderr)
    return 0


def read_recording(path: Path, channel: Literal["left", "right", "mix"] | None) -> Audio:
    """One channel of a recording. Errors: UserError, it cannot be read, or which channel is heard is not said."""
    from duologue.audio.wave import read_audio

    audio = read_audio(path)
    if channel == "mix":
        return audio.mono()
    if audio.channels > 1 and (channel is None or audio.channels > 2):
        which = "--channel left, right or mix" if audio.channels == 2 else "--channel mix"
        raise UserError(f"has {audio.channels} channels", place=path, mend=f"say which is heard: {which}")
    return audio.channel(1 if audio.channels == 2 and channel == "right" else 0)


def plain_text(config: TranscribeConfig, found: Sequence[Sequence[Word]]) -> str:
    """One line for each recording; its name comes first if there are several."""
    lines = [" ".join(word.text for word in words) for words in found]
    if len(lines) > 1:
        lines = [f"{path}: {line}" for path, line in zip(config.recordings, lines, strict=True)]
    return "".join(f"{line}\n" for line in lines)


def write(config: TranscribeConfig, model: str, sounds: Sequence[Audio], found: Sequence[Sequence[Word]]) -> None:
    """Write what was asked for, each file whole or not at all."""
    import shlex
    import sys

    from duologue import __version__
    from duologue.base.config import to_dict
    from duologue.base.files import write_json, write_text

    recordings = [
        {
            "file": path, "duration": sound.duration, "text": " ".join(word.text for word in words),
            "words": [{"word": w.text, "start": w.start, "end": w.end} for w in words],
        }
        for path, sound, words in zip(config.recordings, sounds, found, strict=True)
    ]  # fmt: skip
    made = {
        "command": shlex.join(["duologue", *sys.argv[1:]]), "version": __version__, "config": to_dict(config),
        "model": model,
    }  # fmt: skip
    for path in (config.out, config.json):
        if path is not None and (path.suffix == ".json" or path is config.json):
            write_json(path, {"recordings": recordings, "made": made})
        elif path is not None:
            write_text(path, plain_text(config, found))
