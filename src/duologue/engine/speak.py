"""`duologue speak`: a model says a given text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from duologue.base.errors import UserError
from duologue.engine.asked import ModelOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duologue.engine.bundle import Bundle
    from duologue.engine.sampling import Sampling
    from duologue.engine.speaking import Speech

SOUND = (".wav", ".flac")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakConfig(ModelOptions):
    """Say a text in the model's voice: sound, words with times, tokens.

    The text is the model's inner monologue, word by word; when each word begins is the model's own choice. Beside
    OUT.wav come OUT.json (words with times, every setting) and OUT.safetensors (the tokens). With --file each line is
    said apart, several at once, into OUT-001.wav, OUT-002.wav and so on.
    """

    text: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="TEXT")] = None
    """What to say."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT.wav")]
    """The sound to write (.wav or .flac), one channel."""
    file: Path | None = None
    """A file of texts instead: one paragraph a line, empty lines left out."""
    model: str = "nano"
    """nano, a folder or file, or owner/name on the Hugging Face hub; it needs a tokenizer."""
    text_prompt: str | None = None
    """What the model is told before; what its speak mode says if left out."""
    voice_prompt: str | None = None
    """Whose voice it takes: a recording, a .pt file of PersonaPlex's, or the name of a voice of the model."""
    seed: int = 0
    """Of all draws: the same seed says the same."""
    greedy: bool = False
    """Take the likeliest token always."""
    text_temperature: float | None = None
    """Of when words begin; the model's own if left out, as the next two."""
    audio_temperature: float | None = None
    """Of the audio."""
    audio_top_k: int | None = None
    """Audio tokens that can be drawn; 0: all."""
    guidance: float | None = None
    """How closely the sound follows the words: 1 as learned, above 1 more closely, at twice the work; as its speak mode
    says if left out."""
    padding_bonus: float = 0.0
    """Added to the logit of PAD: above 0 words come later, below 0 sooner."""
    max_silence: float = 1.2
    """Seconds after the last word's text at which the next is made to begin."""
    tail: float = 2.0
    """Seconds after the last word's text at which the sound is cut, if it has not fallen silent before."""
    batch: int = 8
    """Lines said at once."""
    json: Path | None = None
    """Where words and settings go, if not to OUT.json."""


def main(config: SpeakConfig) -> int:
    """Say a text in the model's voice: sound, words with times, tokens."""
    import time

    texts = read_texts(config)
    if config.out.suffix not in SOUND:
        raise UserError(f"cannot be written as {config.out.suffix or 'a file without a suffix'}", place=config.out,
                        mend=f"name a file that ends in {' or '.join(SOUND)}")  # fmt: skip
    from duologue.base.progress import meter
    from duologue.engine.asked import pick_voice, settings
    from duologue.engine.modes import speaking_sampling
    from duologue.engine.reading import Pace
    from duologue.engine.speaking import Manner, speak_all

    pace = Pace(max_silence=config.max_silence, tail=config.tail)
    bundle = config.load()
    drawn = settings(
        speaking_sampling(bundle), config.seed, config.padding_bonus, greedy=config.greedy,
        text_temperature=config.text_temperature, audio_temperature=config.audio_temperature,
        audio_top_k=config.audio_top_k, guidance=config.guidance,
    )  # fmt: skip
    voice = pick_voice(config.voice_prompt, bundle)
    manner = Manner(sampling=drawn, text_prompt=config.text_prompt, voice=voice, pace=pace)
    start = time.perf_counter()
    with meter("speaking", total=sum(len(text.split()) for text in texts)) as progress:
        said = speak_all(bundle, texts, manner, slots=config.batch, on_word=progress.advance)
    seconds = time.perf_counter() - start
    write(config, bundle, drawn, said)
    sound = sum(speech.audio.duration for speech in said)
    where = str(config.out) if config.file is None else f"{len(said)} lines, {sound_path(config, 1)} and on"
    forced = sum(speech.hurried for speech in said)
    notes = f", {forced} begun by --max-silence" if forced else ""
    cut = sum(speech.cut for speech in said)
    notes += f", {cut} cut by --tail" if cut else ""
    words = sum(len(speech.words) for speech in said)
    print(f"{where}: {sound:.1f} s, {words} words{notes}; took {seconds:.1f} s ({sound / seconds:.2f} times real time)")
    return 0


def read_texts(config: SpeakConfig) -> list[str]:
    """What to say. Errors: UserError, neither a text nor a file, both, or nothing in it."""
    from duologue.base.files import read_text

    if (config.text is None) == (config.file is None):
        problem = "no text given" if config.text is None else "a text and a file given"
        raise UserError(problem, place="TEXT", mend='give one: "what to say", or --file TEXT.txt')
    if config.file is None:
        texts, place = [config.text or ""], "TEXT"
    else:
        texts, place = [line for line in read_text(config.file).splitlines() if line.strip()], str(config.file)
    if not texts or not any(text.strip() for text in texts):
        raise UserError("has no words", place=place, mend="write what to say")
    return [" ".join(text.split()) for text in texts]


def sound_path(config: SpeakConfig, number: int) -> Path:
    """Where the sound of a line goes; numbers begin at 1."""
    return config.out if config.file is None else config.out.with_stem(f"{config.out.stem}-{number:03d}")


def write(config: SpeakConfig, bundle: Bundle, drawn: Sampling, said: Sequence[Speech]) -> None:
    """Write sounds, tokens, and one file of words, each whole or not at all."""
    from duologue.audio.wave import write_audio
    from duologue.base.config import to_dict
    from duologue.base.files import write_json
    from duologue.codec.tokens import write_tokens
    from duologue.engine.asked import made, token_header

    header = token_header(bundle)
    lines = []
    for number, speech in enumerate(said, start=1):
        path = sound_path(config, number)
        write_audio(path, speech.audio)
        write_tokens(path.with_suffix(".safetensors"), speech.codes, header)
        lines.append({
            "text": speech.text, "sound": path.name, "duration": speech.audio.duration,
            "words": [{"word": w.text, "start": w.start, "end": w.end} for w in speech.words],
            "prompt_frames": speech.prompt_frames, "begun_by_max_silence": speech.hurried, "cut_by_tail": speech.cut,
        })  # fmt: skip
    write_json(config.json or config.out.with_suffix(".json"), {
        "lines": lines,
        "sampling": to_dict(drawn),
        "made": made(bundle, header, config),
    })  # fmt: skip
