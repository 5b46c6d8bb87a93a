"""The groups of rows of `duologue evaluate nano`, one after the other, and the talks that its report shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.bench.live import LiveResult, run_live, user_voices
from duologue.bench.nano_codec import Utterance, codec_rows, read_utterances, silence_rows, voice_utterances
from duologue.bench.nano_modes import mode_rows
from duologue.bench.nano_page import Shown
from duologue.bench.nano_prompts import Meet, style_rows, voice_rows
from duologue.bench.nano_speech import converse_all, measure_talk, repetition_row, speech_rows
from duologue.bench.nano_speed import size_row, speed_rows
from duologue.bench.nano_text import text_rows
from duologue.bench.nano_timing import timing_rows
from duologue.bench.rows import Row
from duologue.corpus.scenarios import Scenario, scenarios
from duologue.dialogue.timeline import Timeline, Track

if TYPE_CHECKING:
    from duologue.audio.words import Recogniser
    from duologue.bench.evaluate import EvaluateNanoConfig
    from duologue.engine.bundle import Bundle

SHOWN = 24
"""Scenarios whose talks are in the report: always the same ones."""
ORDER = "nano-1"
"""Names the fixed order of the scenarios."""
Part = tuple[list[Row], list[Shown]]


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured, and with what."""

    config: EvaluateNanoConfig
    bundle: Bundle
    samples: Path
    """Folder for the sound of the talks that are shown."""
    recogniser: Recogniser | None


def parts(job: Job) -> Iterator[Part]:
    """Rows of each group in turn, with the talks that are shown."""
    config, bundle, wanted = job.config, job.bundle, set(job.config.rows)
    if "codec" in wanted:
        yield codec_part(job), []
    if wanted & {"timing", "speech", "text"}:
        yield talk_part(job)
    if "speech" in wanted:
        said = _voices(config.user_voices, config.utterances)
        recorded = None if config.recordings is None else _folder(config.recordings)
        yield mode_rows(bundle, said, recogniser=job.recogniser, seed=config.seed, recorded=recorded), []
    if "text" in wanted:
        found = text_rows(
            bundle, source=config.texts, most=config.text_count, seed=config.seed, corpus=config.corpus,
            cache=config.tokens,
        )  # fmt: skip
        yield found, []
    if "prompts" in wanted:
        chosen = first_scenarios(config.prompted, config.seconds)
        meet = Meet(bundle, chosen, slots=config.slots, seed=config.seed, voice=user_voices(config.user_voice))
        yield [*style_rows(meet, config.styles), *voice_rows(meet, config.voice_prompts)], []
    if "speed" in wanted:
        found = speed_rows(
            bundle, seconds=config.speed_seconds, cores=config.threads, seed=config.seed, batch=config.batch
        )
        yield [*found, size_row()], []


def codec_part(job: Job) -> list[Row]:
    """What the codec leaves of the agent's voice, of users' voices, of recorded speech and of silence."""
    config, rows = job.config, []
    agent = _voices((config.agent_voice,), config.utterances)
    sources: list[tuple[str, float, float | None, Callable[[], list[Utterance]]]] = [
        ("agent voice", 8.0, 3.2, agent if config.agent_voice_dir is None else _folder(config.agent_voice_dir)),
        ("held-out user voices", 15.0, None, _voices(config.user_voices, config.utterances)),
    ]
    if config.recordings is not None:
        sources.append(("recorded speech", 25.0, None, _folder(config.recordings)))
    for who, points, mos, said in sources:
        rows += codec_rows(
            who, said, job.bundle.need_codec(), points=points, least_mos=mos, recogniser=job.recogniser,
            quality=config.quality,
        )  # fmt: skip
    return [*rows, *silence_rows(job.bundle, seed=config.seed)]


def talk_part(job: Job) -> Part:
    """Live talks with scripted users, from which all of timing, speech and repetition are measured."""
    config = job.config
    chosen = first_scenarios(config.scenarios, config.seconds)
    results = run_live(
        job.bundle, chosen, slots=config.slots, seed=config.seed, voice=user_voices(config.user_voice),
        text_prompt=config.text_prompt,
    )  # fmt: skip
    watch = Watch(job, [s.id for s in chosen])
    rows = list(timing_rows(watch(results)))
    talks = watch.shown()
    rows = rows if "timing" in config.rows else []
    if "speech" in config.rows:
        rows += speech_rows([s.talk for s in talks], quality=config.quality)
    if "text" in config.rows:
        rows.append(repetition_row([s.talk for s in talks]))
    return rows, talks[:SHOWN]


class Watch:
    """Measures talks as they pass, and keeps the sound of those that are shown on disk.

    Args:
        job: what is measured.
        names: of all scenarios in their order.
    """

    def __init__(self, job: Job, names: Sequence[str]) -> None:
        self._job, self._names = job, list(names)
        self._found: dict[str, Shown] = {}

    def __call__(self, results: Iterator[LiveResult]) -> Iterator[LiveResult]:
        """The same results."""
        for result in results:
            name = result.scenario.id
            at = self._names.index(name)
            shown = measured(self._job, name, name, result.scenario.axis, result.audio, result.timeline,
                             listen=at < self._job.config.heard, keep=at < SHOWN)  # fmt: skip
            self._found[name] = shown
            yield result

    def shown(self) -> list[Shown]:
        """Every talk, in the order of the scenarios."""
        return [self._found[name] for name in self._names]


def measured(
    job: Job, name: str, title: str, kind: str, audio: Audio, timeline: Timeline, *, listen: bool, keep: bool
) -> Shown:
    """A talk (agent, user) as it is shown: measured, with its sound in a file if `keep`.

    With `listen` it is recognised and judged for quality, as far as the job has the means.
    """
    sound = job.samples / f"{name}.flac"
    if keep:
        write_audio(sound, audio)
    talk = measure_talk(
        name, audio.channel(0), timeline.agent.speech, timeline.agent.words,
        recogniser=job.recogniser if listen else None, quality=job.config.quality and listen,
    )  # fmt: skip
    return Shown(talk=talk, title=title, kind=kind, timeline=timeline, sound=sound)


def recorded(job: Job) -> list[Shown]:
    """Talks with recorded users of one channel. Errors: UserError, one that cannot be read."""
    from duologue.audio.vad import detect_speech

    users = [(path, read_audio(path)) for path in job.config.users]
    found = []
    talks = converse_all(job.bundle, [audio for _, audio in users], slots=job.config.slots, seed=job.config.seed)
    for i, ((path, _), talk) in enumerate(zip(users, talks, strict=True)):
        speech = detect_speech([talk.audio.channel(side) for side in (0, 1)])
        timeline = Timeline(Track.of(speech[0], talk.words), Track.of(speech[1]), talk.audio.duration)
        title = "/".join(path.absolute().parts[-3:])
        found.append(
            measured(job, f"user-{i + 1}", title, "recorded user", talk.audio, timeline, listen=True, keep=True)
        )
    return found


def first_scenarios(count: int, seconds: float | None = None) -> list[Scenario]:
    """The first scenarios of a fixed order that mixes all axes; the user leaves after `seconds`, if given.

    Past the last they come again under other names, and so with other draws.
    """
    mixed = sorted(scenarios(), key=lambda s: hashlib.sha256(f"{ORDER}/{s.id}".encode()).digest())
    rounds = -(-count // len(mixed))
    again = [replace(s, id=f"{s.id}.{n}") for n in range(2, rounds + 1) for s in mixed]
    return [s if seconds is None else replace(s, limit=min(seconds, s.limit)) for s in [*mixed, *again][:count]]


def _voices(names: Sequence[str], count: int) -> Callable[[], list[Utterance]]:
    return lambda: voice_utterances(names, count)


def _folder(folder: Path) -> Callable[[], list[Utterance]]:
    return lambda: read_utterances(folder)
