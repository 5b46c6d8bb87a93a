"""`duologue simulate`: two-channel conversations with human timing, from scripts and voices, with their truth."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from duologue.base.errors import UserError
from duologue.base.files import json_line, make_folder, read_json, write_bytes, write_json
from duologue.corpus.align import forget
from duologue.corpus.arrange import Knobs, arrange
from duologue.corpus.channel import ChannelConfig, apply_effects, draw_effects
from duologue.corpus.render import measured, plan_record, render, truth
from duologue.corpus.script import CHATS, Part, Script, load_scripts
from duologue.corpus.selfcheck import SelfCheck, check, speech_only
from duologue.corpus.spoken import Spoken
from duologue.corpus.voices import SynthVoice, Times, VoiceSpec, draw_voice, find_voice
from duologue.dialogue.timeline import Timeline, Track, Word

SOUND, TRUTH, MANIFEST, SETTINGS, CHECK = "data_stereo", "truth", "data.jsonl", "simulate.json", "selfcheck.json"
_FREE = ("out", "hours", "workers", "json", "vad", "kokoro", "piper")
"""Settings that change nothing in a conversation: a run may go on with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateConfig:
    """Make two-channel conversations with human timing: sound, words, who speaks when, and why.

    The corpus has the layout of moshi-finetune: stereo files (left agent, right user) and their words in data_stereo/,
    and data.jsonl, which lists them; truth/ holds for each file the words, speech and loudness of both sides, every
    stretch as it was placed, and what was done to the user's channel. After a kill the same command goes on, and with
    more hours a corpus grows.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="CORPUS")]
    """The folder to make."""
    hours: float
    """How much to make; the last conversation is made whole."""
    script: str = CHATS
    """chitchat (people's chats, from the package chitchat-dataset), or a text file: a turn a line, "A: ..." the agent,
    "B: ..." the user, an empty line between conversations."""
    scripts: Part = "training"
    """Which of the chats: training leaves out the one in twenty that are kept for measuring, held-out takes only those,
    dev those of them that recipes may be tuned on, test the others. A text file is not split."""
    alone: bool = False
    """Let the agent say both sides' lines, while the user at most nods: to learn a voice from. Its timing is nobody's,
    so the self-check means nothing."""
    heard: bool = False
    """The other way round: the user says everything, each line in another voice, and the agent at most nods: what a
    model that transcribes learns from."""
    agent_voice: str = "pico/en-US"
    """ENGINE/VOICE, with @PITCH, xTEMPO and +-GAINdB behind it as wanted: pico/en-US@1.08x0.95-3dB."""
    user_voices: tuple[str, ...] = ("pico/en-US", "pico/en-GB")
    """The voices that users are made of."""
    vary: bool = True
    """Make every conversation's user another person, in pitch, tempo and loudness; no: one of the voices as it is."""
    level: float = -24.0
    """Loudness of each side in LUFS, before the voices' own gains."""
    knobs: Knobs = field(default_factory=Knobs)
    """How often things happen, as multiples of the human rate."""
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    """What happens to the user's sound on its way to the agent."""
    times: Times = "align"
    """Word times: align: by PocketSphinx (English); letters: shares of the time by letters."""
    kokoro: Path | None = None
    """Folder with Kokoro's weights, for voices such as kokoro/af_heart."""
    piper: Path | None = None
    """Folder with Piper's voices (NAME.onnx and NAME.onnx.json), for voices such as piper/en_US-joe-medium."""
    vad: bool = False
    """Also check the timing of the sound as a speech detector hears it."""
    seed: int = 0
    """Conversation i hangs on this and on i alone."""
    workers: int = 1
    """Processes."""
    json: Path | None = None
    """Also write the self-check and the counts to this file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One conversation to make."""

    index: int
    script: Script
    config: SimulateConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One conversation that is on disk."""

    index: int
    duration: float
    said: dict[str, float] = field(default_factory=dict)
    """Seconds of speech made in this run, by engine."""
    took: dict[str, float] = field(default_factory=dict)
    """Seconds that it took, alignment included, by engine."""


def main(config: SimulateConfig) -> int:
    """Make two-channel conversations with human timing: sound, words, who speaks when, and why."""
    from duologue.base.progress import meter
    from duologue.corpus.fanout import spread

    wanted = 3600 * config.hours
    if not 0 < wanted < float("inf"):
        raise UserError(f"{config.hours} hours cannot be made", place="--hours", mend="use more than 0")
    if not 0 <= config.seed < 2**31:
        raise UserError(f"{config.seed} is no seed", place="--seed", mend=f"use 0 to {2**31 - 1}")
    if not -60 <= config.level <= -10:
        raise UserError(f"{config.level:g} LUFS", place="--level", mend="use -60 to -10; speech is usual at -24")
    if config.alone and config.heard:
        raise UserError("and --heard leave nobody to speak", place="--alone", mend="use one of the two")
    for name in (config.agent_voice, *config.user_voices):
        _voice(config, name)  # refuses before anything is written
    wanted_jobs = jobs(config)
    first = next(wanted_jobs)  # so do the scripts
    _settle(config)
    made: list[Made] = []
    total, start = 0.0, time.perf_counter()
    # Conversations come in order, so that which ones make up the hours does not depend on the workers.
    results = _stream(spread(make, chain([first], wanted_jobs), config.workers))
    with closing(results), meter("simulating (s)", total=wanted) as progress:
        for one in results:
            made.append(one)
            total += one.duration
            progress.advance(one.duration)
            if total >= wanted:
                break
    rows = [{"path": f"{SOUND}/{name_of(m.index)}.wav", "duration": m.duration} for m in made]
    write_bytes(config.out / MANIFEST, b"".join(json_line(row) for row in rows))
    report(config, made, time.perf_counter() - start)
    return 0


def jobs(config: SimulateConfig) -> Iterator[Job]:
    """Conversation after conversation; when the scripts are used up they come again in another order."""
    index = count()
    for lap in count():
        found = False
        for script in load_scripts(config.script, config.seed + lap, config.scripts):
            found = True
            if config.alone or config.heard:
                side = int(config.heard)
                script = replace(script, turns=tuple(replace(line, side=side) for line in script.turns))
            yield Job(index=next(index), script=script, config=config)
        if not found:
            raise UserError("holds no script", place=config.script, mend="write two turns at least")


def make(job: Job) -> Made:
    """Make a conversation, unless it is there. Its truth is written last: what has one is whole."""
    config, name = job.config, name_of(job.index)
    kept = config.out / TRUTH / f"{name}.json"
    if kept.exists():
        return Made(index=job.index, duration=float(read_json(kept)["duration"]))
    from duologue.audio.wave import write_audio
    from duologue.audio.words import MAIN_SPEAKER

    forget()  # so that word times hang on this conversation alone
    draws = np.random.default_rng([config.seed, job.index])
    seed = int(draws.integers(2**31))
    voices = _pair(config, draws)
    teller = _Teller(voices, partial(_heard_voice, config, job.index) if config.heard else None)
    plan = arrange(job.script, teller.speak, config.knobs, seed)
    plan = replace(plan, voices=(voices[0].name, voices[1].name))
    rendered = render(plan, (config.level + voices[0].spec.gain, config.level + voices[1].spec.gain))
    effects = draw_effects(config.channel, seed)
    audio = apply_effects(rendered.audio, effects, config.channel.noise_folder)
    write_audio(config.out / SOUND / f"{name}.wav", audio)
    # moshi-finetune trains on its main speaker's words alone, and leaves out those of any other.
    said = [
        (w, label)
        for track, label in zip(rendered.timeline.tracks, (MAIN_SPEAKER, "SPEAKER_USER"), strict=True)
        for w in track.words or ()
    ]
    said.sort(key=lambda item: item[0].start)
    alignments = [[w.text, [round(w.start, 4), round(w.end, 4)], label] for w, label in said]
    write_json(config.out / SOUND / f"{name}.json", {"alignments": alignments})
    write_json(kept, truth(rendered) | {
        "heard_user_lufs": measured(audio.samples[1]),
        "script": {"source": job.script.source, "id": job.script.id},
        "licences": [v.licence for v in voices],
        "word_times": dict(sorted(teller.methods.items())),
        "effects": effects,
        "plan": plan_record(plan),
    })  # fmt: skip
    return Made(index=job.index, duration=rendered.audio.duration, said=dict(teller.said), took=dict(teller.took))


class _Teller:
    """Speaks for both sides and keeps count: how word times are known, and how fast the engines are."""

    def __init__(self, voices: tuple[SynthVoice, SynthVoice], voice_of: Callable[[str], SynthVoice] | None) -> None:
        self._voices, self._voice_of = voices, voice_of
        self._known: dict[tuple[int, str], Spoken] = {}
        self.methods: Counter[str] = Counter()
        self.said: Counter[str] = Counter()
        self.took: Counter[str] = Counter()

    def speak(self, side: int, text: str) -> Spoken:
        if (side, text) not in self._known:
            start = time.perf_counter()
            voice = self._voices[side] if self._voice_of is None or not side else self._voice_of(text)
            spoken, method = voice.speak_told(text)
            engine = voice.spec.engine
            self.took[engine] += time.perf_counter() - start  # type: ignore[assignment]
            self.said[engine] += spoken.duration  # type: ignore[assignment]
            self.methods[method] += 1
            self._known[side, text] = spoken
        return self._known[side, text]


def read_truth(path: Path) -> Timeline:
    """The timeline in a truth file. Errors: UserError, not such a file."""
    said = read_json(path)
    try:
        tracks = [
            Track.of(said[side]["speech"], [Word(w["word"], w["start"], w["end"]) for w in said[side]["words"]])
            for side in ("agent", "user")
        ]
        return Timeline(tracks[0], tracks[1], float(said["duration"]))
    except (KeyError, TypeError, ValueError):
        raise UserError("is not the truth of a simulated conversation", place=path, mend="make it again") from None


def name_of(index: int) -> str:
    """The name of conversation `index` without suffix."""
    return f"{index:06d}"


def report(config: SimulateConfig, made: list[Made], seconds: float) -> None:
    """Print what was made and how human its timing is; write it beside the corpus, and to --json."""
    timelines = [read_truth(config.out / TRUTH / f"{name_of(m.index)}.json") for m in made]
    checks = {"words": check(timelines), "speech_alone": check(speech_only(t) for t in timelines)}
    if config.vad:
        checks["detected"] = check(_detected(config, made))
    total = sum(m.duration for m in made)
    speed = {
        engine: sum(m.said.get(engine, 0.0) for m in made) / max(sum(m.took[engine] for m in made if engine in m.took),
                                                                1e-9)
        for engine in sorted({e for m in made for e in m.said})
    }  # fmt: skip
    kept = sum(not m.said for m in made)
    print(f"{config.out}: {len(made)} conversations, {total / 3600:.3f} h in {seconds:.1f} s ({kept} were there)")
    for engine, value in speed.items():
        print(f"{engine}: {value:.1f} s of speech with word times in a second of one process")
    print(_columns(checks))
    result = {"conversations": len(made), "hours": total / 3600, "speed": speed,
              "checks": {name: found.to_json() for name, found in checks.items()}}  # fmt: skip
    write_json(config.out / CHECK, result)
    if config.json is not None:
        write_json(config.json, result)


def _columns(checks: dict[str, SelfCheck]) -> str:
    """The check with words in full; of the others the divergences."""
    lines = [checks["words"].text()]
    for name, found in checks.items():
        if name != "words":
            told = ", ".join(f"{d.name} {d.value:.4f} ({d.n})" for d in found.distances)
            lines.append(f"{name.replace('_', ' ')}: {told}")
    return "\n".join(lines)


def _detected(config: SimulateConfig, made: list[Made]) -> Iterator[Timeline]:
    from duologue.audio.vad import detect_speech_files
    from duologue.base.progress import track

    for one in track(made, "detecting speech"):
        (spans,) = detect_speech_files([config.out / SOUND / f"{name_of(one.index)}.wav"])
        yield Timeline(Track(spans[0]), Track(spans[1]), one.duration)


def _voice(config: SimulateConfig, name: str) -> SynthVoice:
    weights = {"kokoro": config.kokoro, "piper": config.piper}.get(VoiceSpec.parse(name).engine)
    return find_voice(name, weights=weights, times=config.times, fluent=True)


def _heard_voice(config: SimulateConfig, index: int, text: str) -> SynthVoice:
    """Who says a line of a user who is heard: anybody, the same for the same line of a conversation."""
    draws = np.random.default_rng([config.seed, index, zlib.crc32(text.encode())])
    return _voice(config, draw_voice(config.user_voices, draws))


def _pair(config: SimulateConfig, draws: np.random.Generator) -> tuple[SynthVoice, SynthVoice]:
    if config.vary:
        user = draw_voice(config.user_voices, draws, apart_from=config.agent_voice)
    else:
        user = config.user_voices[int(draws.integers(len(config.user_voices)))]
    return _voice(config, config.agent_voice), _voice(config, user)


def _settle(config: SimulateConfig) -> None:
    """Make the folder, or see that it was made with the same settings."""
    from duologue import __version__
    from duologue.base.config import differences, to_dict, without

    if not config.user_voices:
        raise UserError("no voice", place="--user-voices", mend="name one at least")
    settings = without(to_dict(config), _FREE)
    path = config.out / SETTINGS
    if path.exists():
        # Corpora made before the chats were split come from all of them.
        before = {"scripts": "all", "alone": False, "heard": False} | read_json(path)["settings"]
        changed = differences(before, settings)
        if changed:
            mend = "choose another folder, or give the settings that it has"
            raise UserError(f"was made with another {', '.join(changed)}", place=config.out, mend=mend)
    elif config.out.is_dir() and any(config.out.iterdir()):
        raise UserError("is not empty, and holds no simulated corpus", place=config.out, mend="name another folder")
    else:
        make_folder(config.out)
        write_json(path, {"settings": settings, "version": __version__})


def _stream(results: Iterator[Made]) -> Generator[Made, None, None]:
    """The same, to be closed when enough are made."""
    yield from results
