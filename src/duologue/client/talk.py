"""`duologue talk`: a model against a recorded user, here or (with --url) over a server."""

from __future__ import annotations

import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.base.errors import UserError
from duologue.client.wire import FRAME, RATE, TOKEN
from duologue.engine.talk import SOUND, TalkConfig, read_user
from duologue.engine.talk import main as talk_here

if TYPE_CHECKING:
    from duologue.client.talking import Talked

HERE_ONLY = ("model", "lora", "guidance", "device", "dtype")
"""Options that the server decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(TalkConfig):
    """Run a model against a recorded user: stereo sound (left agent, right user), words, timeline, tokens.

    Beside OUT.wav come OUT.json (the agent's words with times, who speaks when, every setting) and OUT.safetensors (the
    tokens). Times are a live listener's: an answer is heard one frame (80 ms) after the sound that it could know.
    With --url the model is a server's, the talk takes its real time, and there are no tokens.
    """

    url: str | None = None
    """Talk with a server (ws://localhost:8998) in real time. Its token is taken from DUOLOGUE_TOKEN."""


def main(config: Config) -> int:
    """Run a model against a recorded user: stereo sound (left agent, right user), words, timeline, tokens."""
    if config.url is None:
        return talk_here(config)
    if config.out.suffix not in SOUND:
        raise UserError(f"cannot be written as {config.out.suffix or 'a file without a suffix'}", place=config.out,
                        mend=f"name a file that ends in {' or '.join(SOUND)}")  # fmt: skip
    for name in HERE_ONLY:
        if getattr(config, name) != Config.__dataclass_fields__[name].default:
            raise UserError("is the server's to decide", place=f"--{name}", mend="leave it out with --url")
    user = read_user(config)
    import asyncio

    from duologue.base.progress import meter
    from duologue.client.connection import Ended
    from duologue.client.talking import talk

    sound = user.resampled(RATE).samples[0]
    query, token = make_query(config), os.environ.get(TOKEN) or None
    start = time.perf_counter()

    async def run() -> Talked:
        assert config.url is not None
        if config.voice_prompt is not None and Path(config.voice_prompt).is_file():
            from duologue.client.upload import upload

            query["voice_prompt"] = await upload(config.url, Path(config.voice_prompt), token)
        with meter("talking", total=-(-len(sound) // FRAME)) as progress:
            return await talk(config.url, sound, query, token=token, on_frame=progress.advance)

    try:
        talked = asyncio.run(run())
    except Ended as end:
        raise UserError(f"the server ended the talk: {end.reason}", place=config.url) from None
    write(config, talked, sound)
    print(f"{config.out}: {len(sound) / RATE:.1f} s, {len(talked.pieces)} pieces of text; "
          f"took {time.perf_counter() - start:.1f} s{_losses(talked)}")  # fmt: skip
    return 0


def make_query(config: Config) -> dict[str, str]:
    """What the options ask of a server."""
    greedy = 0.0 if config.greedy else None
    asked = {
        "text_prompt": config.text_prompt or None, "voice_prompt": config.voice_prompt, "seed": config.seed,
        "text_temperature": config.text_temperature if greedy is None else greedy, "text_topk": config.text_top_k,
        "audio_temperature": config.audio_temperature if greedy is None else greedy,
        "audio_topk": config.audio_top_k, "pad_temperature": config.pad_temperature,
        "padding_bonus": config.padding_bonus or None,
    }  # fmt: skip
    return {name: str(value) for name, value in asked.items() if value is not None}


def write(config: Config, talked: Talked, user: object) -> None:
    """Write sound, words and timeline, each whole or not at all."""
    import numpy as np

    from duologue import __version__
    from duologue.audio.vad import detect_speech
    from duologue.audio.wave import Audio, write_audio
    from duologue.base.config import to_dict
    from duologue.base.files import write_json
    from duologue.client.pieces import join_pieces

    audio = Audio(np.stack((talked.agent, np.asarray(user, np.float32))), RATE)
    speech = detect_speech([audio.channel(side) for side in (0, 1)])
    words = join_pieces(talked.pieces)
    write_audio(config.out, audio)
    write_json(config.json or config.out.with_suffix(".json"), {
        "duration": audio.duration,
        "agent": {
            "words": [{"word": w, "start": a, "end": b} for w, a, b in words],
            "speech": [[float(a), float(b)] for a, b in speech[0]],
        },
        "user": {"speech": [[float(a), float(b)] for a, b in speech[1]]},
        "server": talked.ready, "stats": talked.stats, "ended": talked.ended,
        "made": {
            "command": shlex.join(["duologue", *sys.argv[1:]]), "version": __version__, "config": to_dict(config),
        },
    })  # fmt: skip


def _losses(talked: Talked) -> str:
    """What went wrong on the line."""
    found = [f"{talked.stats.get(f'{what}_ms', 0):g} ms {what}" for what in ("dropped", "starved")
             if talked.stats.get(f"{what}_ms")]  # fmt: skip
    if talked.ended:
        found.append(f"ended early: {talked.ended}")
    return f"; {', '.join(found)}" if found else ""
