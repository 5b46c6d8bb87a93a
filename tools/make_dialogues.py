#!/usr/bin/env python3
"""Make the six shipped dialogues: synthetic speech, placed by rule, in Full-Duplex-Bench v1's layout.

A development tool, not part of the package: what it writes is committed under src/duologue/bench/dialogues. It needs
two free speech synthesisers on the PATH; on Debian or Ubuntu:

    apt-get install festival festvox-us-slt-hts festlex-cmu flite

The user is flite's voice `rms`; the agent is festival's `cmu_us_slt_arctic_hts`. Both say how long each sound lasts, so
word times are exact, not recognised. Nothing is random but the room noise, whose seed is fixed: with the same versions
of the synthesisers (festival 2.5.0, flite 2.2) the same files come out.

    python tools/make_dialogues.py --out src/duologue/bench/dialogues
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duologue.audio.vad import detect_speech
from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.audio.words import write_words
from duologue.base.errors import UserError
from duologue.base.files import write_json
from duologue.dialogue.timeline import Word

Samples = NDArray[np.float32]

SEED = 20260101
SPEECH_DBFS = -24.0
"""RMS of each utterance; a line's own `level_db` is added."""
NOISE_DBFS = -68.0
"""RMS of the room noise on both channels."""
FADE_S = 0.008
TAIL_S = 0.4
"""What follows the last word of a dialogue, at least."""
USER_STRETCH = 0.88
"""Length of the user's sounds, against the synthesiser's own, rather slow, pace."""
USER_RATE = 16_000
BIN_S = 0.2
"""Bin of the backchannel reference, as in Full-Duplex-Bench's icc_gt_distribution.json."""


@dataclass(frozen=True)
class Line:
    """One utterance. It starts `delay` seconds after the `edge` ("start" or "end") of line `cue` (None: after 0)."""

    side: str
    text: str
    cue: int | None
    delay: float
    edge: str = "end"
    level_db: float = 0.0
    yields_to: int | None = None
    """The line that makes this one stop, at the first word end at least `reaction` seconds into that line."""
    reaction: float = 0.35


@dataclass(frozen=True)
class Dialogue:
    """A sample: `event` names the lines that its event file is about."""

    task: str
    name: str
    story: str
    event: tuple[int, int]
    lines: tuple[Line, ...]
    agent_rate: int = 16_000


def user(text: str, cue: int | None, delay: float, edge: str = "end") -> Line:
    return Line("user", text, cue, delay, edge)


DIALOGUES = (
    Dialogue(
        task="pause_handling",
        name="1",
        story="The agent waits through the user's pause and answers when the user has ended.",
        event=(0, 1),
        lines=(
            user("I would like a pizza, with,", None, 0.4),
            user("mushrooms, please. My sister is listening.", 0, 1.2),
            Line("agent", "Mushrooms it is. Your secret is safe with me.", 1, 0.4),
        ),
    ),
    Dialogue(
        task="pause_handling",
        name="2",
        story="The agent takes the user's pause for the end and barges in.",
        event=(0, 1),
        lines=(
            user("Could you wake me tomorrow at,", None, 0.4),
            user("half past nine. It was a very long party.", 0, 1.3),
            Line("agent", "At six? Of course! The early bird gets the worm.", 0, 0.5),
        ),
    ),
    Dialogue(
        task="smooth_turn_taking",
        name="1",
        story="The agent answers 0.3 s after the user's end.",
        event=(0, 1),
        lines=(
            user("My cat keeps sleeping on my laptop. What should I do?", None, 0.4),
            Line("agent", "Buy the cat its own laptop. An empty box will do.", 0, 0.3),
        ),
    ),
    Dialogue(
        task="user_interruption",
        name="1",
        story="The user interrupts; the agent stops and answers the new question.",
        event=(0, 2),
        lines=(
            user("How do I make a good cup of tea?", None, 0.3),
            Line("agent", "First, warm the pot. Then fill the kettle with fresh water and wait", 0, 0.3, yields_to=2),
            user("Sorry, I only have a coffee machine.", 1, 2.1, edge="start"),
            Line("agent", "Then coffee it is.", 2, 0.45),
        ),
    ),
    Dialogue(
        task="user_interruption",
        name="2",
        story="The user interrupts; the agent talks through it to the end of its forecast.",
        event=(0, 2),
        lines=(
            user("Do I need an umbrella today?", None, 0.3),
            Line("agent", "There is light rain in the morning, some sun at noon, and then more rain.", 0, 0.3),
            user("Thanks, that is all I need.", 1, 1.6, edge="start"),
        ),
    ),
    Dialogue(
        task="backchannel",
        name="1",
        story="The user tells a story; the agent listens and says two short words in its pauses.",
        event=(0, 4),
        lines=(
            user("Yesterday I baked my very first bread.", None, 0.4),
            user("It looked wonderful, but I forgot the salt.", 0, 0.7),
            user("My uncle ate three slices, and asked for the recipe.", 1, 0.8),
            Line("agent", "Mm-hmm.", 0, 0.15, level_db=-4.0),
            Line("agent", "Oh no.", 1, 0.2, level_db=-4.0),
        ),
        agent_rate=24_000,
    ),
)


@dataclass(frozen=True)
class Speech:
    """An utterance: samples [S] from its first sound to its last, and its words, seconds from the first sample."""

    samples: Samples
    rate: int
    words: tuple[Word, ...]

    @property
    def duration(self) -> float:
        return len(self.samples) / self.rate


# The two voices -----------------------------------------------------------------------------------------------------

FESTIVAL = """
(voice_cmu_us_slt_arctic_hts)
(lex.add.entry '("mmhmm" nil (((ax m) 1) ((hh ah m) 1))))
(set! u (utt.synth (Utterance Text "{text}")))
(utt.save.wave u "{stem}.wav" 'riff)
(utt.save.words u "{stem}.words")
(utt.save.segs u "{stem}.segs")
"""
SPELLED = {"mm-hmm": "mmhmm"}
"""Words that the agent's voice knows under another spelling."""


def speak_agent(text: str, stem: Path) -> Speech:
    """Festival gives the end of every word and of every sound; a word starts where the sound before it ends."""
    words = text.split()
    spoken = re.sub(r"[\w'-]+", lambda m: SPELLED.get(m[0].lower(), m[0]), text)
    program = stem.with_suffix(".scm")
    program.write_text(FESTIVAL.format(text=spoken, stem=stem))
    run(["festival", "-b", str(program)])
    ends = [end for end, _ in read_labels(stem.with_suffix(".words"))]
    if len(ends) != len(words):
        raise UserError(f"{text!r} became {len(ends)} spoken words", mend="write it without digits and abbreviations")
    sounds = read_labels(stem.with_suffix(".segs"))
    starts = sound_starts(sounds)
    timed = []
    before = 0.0
    for word, end in zip(words, ends, strict=True):
        timed.append(Word(word, min(s for s, e in starts if s >= before - 1e-4 and e <= end + 1e-4), end))
        before = end
    return trimmed(read_audio(stem.with_suffix(".wav")), timed)


def speak_user(text: str, stem: Path) -> Speech:
    """Flite gives the end of every sound. Each word alone says how many sounds are its own."""
    wave = stem.with_suffix(".wav")
    pace = f"duration_stretch={USER_STRETCH}"
    printed = run(["flite", "-voice", "rms", "--setf", pace, "-psdur", "-t", text, str(wave)])
    sounds = [(float(end), label) for label, end in (pair.split(":") for pair in printed.split())]
    voiced = sound_starts(sounds)
    labels = [label for _, label in sounds if label != "pau"]
    timed, done = [], 0
    for word in text.split():
        own = [x for x in run(["flite", "-voice", "rms", "-ps", "-t", word, "none"]).split() if x != "pau"]
        here = labels[done : done + len(own)]
        # Only vowels are reduced in context; a different consonant would mean that the counts do not fit.
        if consonants(own) != consonants(here):
            raise UserError(f"{word!r} is {own} alone and {here} in {text!r}", mend="reword it")
        timed.append(Word(word, voiced[done][0], voiced[done + len(own) - 1][1]))
        done += len(own)
    if done != len(labels):
        raise UserError(f"{text!r} has {len(labels)} sounds, its words {done}", mend="reword it")
    return trimmed(read_audio(wave), timed)


def consonants(sounds: Sequence[str]) -> list[str]:
    """Their first letters, enough to tell one sound from the next."""
    return [sound[0] for sound in sounds if sound[0] not in "aeiou"]


def sound_starts(sounds: Sequence[tuple[float, str]]) -> list[tuple[float, float]]:
    """(start, end) of every sound that is not a pause."""
    edges = [0.0, *(end for end, _ in sounds)]
    return [(start, end) for start, (end, label) in zip(edges, sounds, strict=False) if label != "pau"]


def read_labels(path: Path) -> list[tuple[float, str]]:
    """An Xwaves label file: after the line `#`, lines of `end 100 label`."""
    lines = path.read_text().split("#\n", 1)[1].splitlines()
    return [(float(line.split()[0]), line.split()[2]) for line in lines]


def trimmed(audio: Audio, words: Sequence[Word]) -> Speech:
    """Cut the synthesiser's own silence away, fade the edges, bring the speech to the common level."""
    first, last = (round(t * audio.rate) for t in (words[0].start, words[-1].end))
    samples = faded(audio.samples[0, first:last], audio.rate)
    zero = first / audio.rate
    gain = 10 ** (SPEECH_DBFS / 20) / np.sqrt(np.mean(samples**2))
    return Speech((samples * gain).astype(np.float32), audio.rate, shifted(words, -zero))


def shifted(words: Sequence[Word], offset: float) -> tuple[Word, ...]:
    """Words moved in time, to a tenth of a millisecond."""
    return tuple(Word(w.text, round(w.start + offset, 4), round(w.end + offset, 4)) for w in words)


def faded(samples: Samples, rate: int) -> Samples:
    n = round(FADE_S * rate)
    ramp = np.ones(len(samples), np.float32)
    ramp[:n] = np.linspace(0, 1, n)
    ramp[-n:] = ramp[:n][::-1]
    shaped: Samples = samples * ramp
    return shaped


def run(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]} is not installed", mend="see the packages in this script's --help")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{command[0]} failed: {done.stderr.strip()}", mend="run it by hand")
    return done.stdout


# Placing ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """A line of a dialogue on its clock."""

    line: Line
    start: float
    speech: Speech

    @property
    def words(self) -> tuple[Word, ...]:
        return shifted(self.speech.words, self.start)

    @property
    def end(self) -> float:
        return self.words[-1].end


def place(dialogue: Dialogue, folder: Path) -> list[Placed]:
    """Synthesise every line and put it where its cue says, in whatever order the cues demand."""
    done: dict[int, Placed] = {}
    waiting = list(enumerate(dialogue.lines))
    while waiting:
        index, line = next((i, x) for i, x in waiting if x.cue is None or x.cue in done)
        waiting.remove((index, line))
        cue = 0.0 if line.cue is None else done[line.cue].end if line.edge == "end" else done[line.cue].start
        stem = folder / f"{dialogue.task}-{dialogue.name}-{index}"
        speech = speak_user(line.text, stem) if line.side == "user" else speak_agent(line.text, stem)
        done[index] = Placed(line, round(cue + line.delay, 4), speech)
    return [yielded(done[i], done) for i in sorted(done)]


def yielded(placed: Placed, lines: dict[int, Placed]) -> Placed:
    """Cut a line that gives way, at the first word end after its reaction time."""
    line = placed.line
    if line.yields_to is None:
        return placed
    stop = lines[line.yields_to].start + line.reaction - placed.start
    kept = [w for w in placed.speech.words if w.start < stop]
    if len(kept) == len(placed.speech.words):
        raise UserError(f"{line.text!r} ends before it could give way", mend="make it longer")
    samples = faded(placed.speech.samples[: round(kept[-1].end * placed.speech.rate)], placed.speech.rate)
    return Placed(line, placed.start, Speech(samples, placed.speech.rate, tuple(kept)))


def render(lines: Sequence[Placed], rate: int, duration: float, noise: np.random.Generator) -> Audio:
    """One channel: its lines over a faint room noise."""
    channel = room_noise(round(duration * rate), rate, noise)
    for placed in lines:
        audio = Audio(placed.speech.samples[None], placed.speech.rate).resampled(rate)
        start = round(placed.start * rate)
        channel[start : start + audio.samples.shape[1]] += audio.samples[0] * 10 ** (placed.line.level_db / 20)
    return Audio(channel[None], rate)


def room_noise(size: int, rate: int, noise: np.random.Generator) -> Samples:
    """Noise whose power falls by 6 dB per octave above 200 Hz, like the hum of a quiet room."""
    spectrum = np.fft.rfft(noise.standard_normal(size))
    spectrum /= np.sqrt(1 + (np.fft.rfftfreq(size, 1 / rate) / 200) ** 2)
    samples = np.fft.irfft(spectrum, size)
    return np.asarray(samples * 10 ** (NOISE_DBFS / 20) / np.sqrt(np.mean(samples**2)), np.float32)


# Writing ------------------------------------------------------------------------------------------------------------


def write(dialogue: Dialogue, lines: Sequence[Placed], folder: Path) -> None:
    """Write one sample folder."""
    sides = {side: [x for x in lines if x.line.side == side] for side in ("user", "agent")}
    words = {side: sorted((w for x in own for w in x.words), key=lambda w: w.start) for side, own in sides.items()}
    # A whole number of tenths of a second is a whole number of samples at every rate, so that both files are as long.
    duration = np.ceil(10 * (max(x.end for x in lines) + TAIL_S)) / 10
    noise = np.random.default_rng([SEED, *map(ord, dialogue.task + dialogue.name)])
    write_audio(folder / "input.wav", render(sides["user"], USER_RATE, duration, noise))
    write_audio(folder / "output.wav", render(sides["agent"], dialogue.agent_rate, duration, noise))
    write_words(folder / "output.json", heard_by_benchmark(dialogue, lines, words["agent"]))
    transcription = [
        {"speaker": i, "item": [{"text": w.text, "timestamp": [w.start, w.end]} for w in words[side]]}
        for i, side in enumerate(("user", "agent"))
    ]
    write_json(folder / "transcription.json", transcription)
    write_event(dialogue, lines, folder)
    about = {
        "synthetic": True,
        "story": dialogue.story,
        "user": "flite 2.2, voice rms",
        "agent": "festival 2.5, voice cmu_us_slt_arctic_hts",
        "speakers": {"0": "user (input.wav)", "1": "agent (output.wav)"},
        "seconds": duration,
        "made_by": "tools/make_dialogues.py",
    }
    write_json(folder / "about.json", about)
    if dialogue.task == "backchannel":
        write_json(folder.parent / "reference.json", {dialogue.name: opportunities(words["user"], duration)})


def heard_by_benchmark(dialogue: Dialogue, lines: Sequence[Placed], words: Sequence[Word]) -> list[Word]:
    """For interruptions, the benchmark recognises the answer from the interruption's end on; what runs there is cut."""
    if dialogue.task != "user_interruption":
        return list(words)
    end = lines[dialogue.event[1]].end
    return [Word(w.text, max(w.start, end), w.end) for w in words if w.end > end]


def write_event(dialogue: Dialogue, lines: Sequence[Placed], folder: Path) -> None:
    first, second = (lines[i] for i in dialogue.event)
    between = [first.end, second.start]
    if dialogue.task == "pause_handling":
        write_json(folder / "pause.json", [{"text": "[PAUSE]", "timestamp": between}])
    elif dialogue.task == "smooth_turn_taking":
        write_json(folder / "turn_taking.json", [{"text": "[TURN-TAKING]", "timestamp": between}])
    elif dialogue.task == "user_interruption":
        span = [second.start, second.end]
        texts = {"context": first.line.text, "interrupt": second.line.text}
        write_json(folder / "interrupt.json", [{**texts, "timestamp": span}])


def opportunities(words: Sequence[Word], duration: float) -> list[float]:
    """A stated stand-in for human listeners: weight 0.05 everywhere, and a triangle about every pause of the user.

    A pause is a silence of at least 0.2 s between two words; its triangle peaks at 1, 0.3 s after the pause begins, and
    reaches 0 at 0.5 s on either side. Sampled at the middle of each 0.2 s bin and scaled to the sum 1.
    """
    middles = (np.arange(int(duration / BIN_S) + 1) + 0.5) * BIN_S
    weight = np.full(len(middles), 0.05)
    for before, after in itertools.pairwise(words):
        if after.start - before.end >= 0.2:
            weight += np.maximum(0.0, 1 - np.abs(middles - before.end - 0.3) / 0.5)
    return [float(x) for x in weight / weight.sum()]


def report(folder: Path) -> None:
    """Print what can be heard in a sample: level and detected speech of both channels."""
    from duologue.audio.loudness import loudness

    for name in ("input.wav", "output.wav"):
        audio = read_audio(folder / name)
        spans = " ".join(f"{s:.2f}-{e:.2f}" for s, e in detect_speech([audio])[0])
        level = f"{loudness(audio):6.1f} LUFS, peak {np.abs(audio.samples).max():.2f}"
        print(f"{folder.parent.name}/{folder.name} {name:10} {audio.rate} Hz {audio.duration:4.1f} s {level}: {spans}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder that gets one sub-folder per task")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for dialogue in DIALOGUES:
                folder = options.out / dialogue.task / dialogue.name
                write(dialogue, place(dialogue, Path(scratch)), folder)
                report(folder)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
