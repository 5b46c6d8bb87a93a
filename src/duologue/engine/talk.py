"""`duologue talk`: a model against a recorded user."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from duologue.base.errors import UserError
from duologue.engine.asked import ModelOptions

if TYPE_CHECKING:
    from duologue.audio.wave import Audio
    from duologue.engine.bundle import Bundle
    from duologue.engine.converse import Conversation
    from duologue.engine.prompts import Voice
    from duologue.engine.sampling import Sampling

SOUND = (".wav", ".flac")


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkConfig(ModelOptions):
    """Run a model against a recorded user: stereo sound (left agent, right user), words, timeline, tokens.

    Beside OUT.wav come OUT.json (the agent's words with times, who speaks when, every setting) and OUT.safetensors (the
    tokens). Times are a live listener's: an answer is heard one frame (80 ms) after the sound that it could know.
    """

    user: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="USER.wav")]
    """The user's recording, of any rate."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT.wav")]
    """The stereo file to write (.wav or .flac)."""
    text_prompt: str = ""
    """What the agent is told before, for models that learned from such prompts (PersonaPlex)."""
    voice_prompt: str | None = None
    """Whose voice the agent takes: a recording, a .pt file of PersonaPlex's, or the name of a voice of the model."""
    channel: Literal["left", "right"] | None = None
    """Which channel is the user, if the recording has two."""
    seed: int = 0
    """Of the agent's draws: the same seed says the same."""
    greedy: bool = False
    """Take the likeliest token always."""
    text_temperature: float | None = None
    """Of the text; the model's own if left out, as all of these."""
    text_top_k: int | None = None
    """Text tokens that can be drawn; 0: all."""
    audio_temperature: float | None = None
    """Of the audio."""
    audio_top_k: int | None = None
    """Audio tokens that can be drawn; 0: all."""
    guidance: float | None = None
    """How closely the sound follows the words: 1 as learned, above 1 more closely, at twice the work."""
    pad_temperature: float | None = None
    """Of the choice whether to speak, apart from that of words: 1 speaks as often as was learned; by default the
    model's own."""
    padding_bonus: float = 0.0
    """Added to the logit of PAD: above 0 the agent speaks less."""
    json: Path | None = None
    """Where words, timeline and settings go, if not to OUT.json."""
    seconds: float | None = None
    """Stop after so much of the recording."""


def main(config: TalkConfig) -> int:
    """Run a model against a recorded user: stereo sound (left agent, right user), words, timeline, tokens."""
    if config.out.suffix not in SOUND:
        raise UserError(f"cannot be written as {config.out.suffix or 'a file without a suffix'}", place=config.out,
                        mend=f"name a file that ends in {' or '.join(SOUND)}")  # fmt: skip
    user = read_user(config)
    from duologue.base.progress import meter
    from duologue.engine.asked import pick_voice, settings
    from duologue.engine.converse import Setup, converse
    from duologue.engine.duplex import Duplex
    from duologue.engine.prompts import Prompter, tones

    bundle = config.load()
    codec = bundle.need_codec()
    drawn = settings(
        bundle.config.sampling, config.seed, config.padding_bonus, greedy=config.greedy,
        text_temperature=config.text_temperature, text_top_k=config.text_top_k,
        audio_temperature=config.audio_temperature, audio_top_k=config.audio_top_k,
        guidance=config.guidance, pad_temperature=config.pad_temperature,
    )  # fmt: skip
    voice = pick_voice(config.voice_prompt, bundle)
    setup = Setup(sampling=drawn, text_prompt=config.text_prompt, voice=voice)
    frames = -(-int(user.duration * codec.sample_rate) // codec.frame_size) + 1
    duplex = Duplex(bundle.lm, codec, 1, frames=frames + _longest_prompt(config, setup.voice))
    prompter = Prompter(duplex.engine, tones(codec, kyutai=bundle.config.kyutai_codec), bundle.need_text)
    start = time.perf_counter()
    with meter("talking", total=frames - 1) as progress:
        (talk,) = converse(duplex, [user], [setup], prompter, bundle.text, on_frame=progress.advance)
    seconds = time.perf_counter() - start
    write(config, bundle, setup.sampling, talk)
    spoken = "no tokenizer, so no words" if talk.words is None else f"{len(talk.words)} words"
    prompt = f", after a prompt of {talk.prompt_frames} frames" if talk.prompt_frames else ""
    print(f"{config.out}: {talk.audio.duration:.1f} s{prompt}, {spoken}; took {seconds:.1f} s "
          f"({talk.audio.duration / seconds:.2f} times real time)")  # fmt: skip
    return 0


def read_user(config: TalkConfig) -> Audio:
    """The user's channel. Errors: UserError for a recording that cannot be read, or whose user is not named."""
    from duologue.audio.wave import Audio, read_audio

    audio = read_audio(config.user)
    if audio.channels > 1 and (config.channel is None or audio.channels > 2):
        mend = "say which is the user: --channel left or right" if audio.channels == 2 else "give one or two channels"
        raise UserError(f"has {audio.channels} channels", place=config.user, mend=mend)
    if config.seconds is not None:
        if not config.seconds > 0:
            raise UserError(f"{config.seconds} is no length", place="--seconds", mend="use more than 0")
        audio = Audio(audio.samples[:, : max(1, round(config.seconds * audio.rate))], audio.rate)
    return audio.channel(1 if audio.channels == 2 and config.channel == "right" else 0)


def _longest_prompt(config: TalkConfig, voice: Voice | None) -> int:
    """At least as many frames as the prompt has; a token is no shorter than a byte."""
    long = 12 + 32 + len(config.text_prompt.encode())
    if voice is not None:
        kept = voice.codes if voice.codes is not None else voice.embeddings
        long += 0 if kept is None else max(kept.shape)
    return long


def write(config: TalkConfig, bundle: Bundle, sampling: Sampling, talk: Conversation) -> None:
    """Write sound, words and timeline, and tokens, each whole or not at all."""
    from duologue.audio.vad import detect_speech
    from duologue.audio.wave import write_audio
    from duologue.base.config import to_dict
    from duologue.base.files import write_json
    from duologue.codec.tokens import write_tokens
    from duologue.engine.asked import made, token_header

    header = token_header(bundle)
    speech = detect_speech([talk.audio.channel(side) for side in (0, 1)])
    said = None if talk.words is None else [{"word": w.text, "start": w.start, "end": w.end} for w in talk.words]
    write_audio(config.out, talk.audio)
    write_tokens(config.out.with_suffix(".safetensors"), talk.codes, header)
    write_json(config.json or config.out.with_suffix(".json"), {
        "duration": talk.audio.duration,
        "agent": {"words": said, "speech": [[float(a), float(b)] for a, b in speech[0]]},
        "user": {"speech": [[float(a), float(b)] for a, b in speech[1]]},
        "prompt_frames": talk.prompt_frames,
        "sampling": to_dict(sampling),
        "made": made(bundle, header, config),
    })  # fmt: skip
