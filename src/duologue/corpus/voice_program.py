"""Synthesisers that are programs of the system: flite and espeak-ng, started anew for every text."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duologue.audio.resample import resample
from duologue.audio.wave import read_audio
from duologue.base.errors import UserError

RATE = 24_000
PATIENCE_S = 60.0
"""A program that has not said a text by then hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How a synthesiser is called."""

    name: str
    """Of the program."""
    say: Callable[[str, str, float, Path], list[str]]
    """Text, voice, speed and the WAV file to write, as arguments. The text may begin with a dash."""
    voices: tuple[str, ...]
    """Those worth using. Which of them are there is asked of the program, since it says unknown ones in another voice
    without a word (flite 2.2, espeak-ng 1.51)."""
    listings: tuple[tuple[str, ...], ...]
    """Arguments of the calls that list the voices that are there."""
    version: tuple[str, ...]
    """Arguments of the call that tells its version."""
    licence: str
    """Of the sound."""


PROGRAMS: Mapping[str, Program] = {
    "flite": Program(
        name="flite",
        say=lambda text, voice, speed, out: [
            "-voice", voice, "--setf", f"duration_stretch={1 / speed:.4f}", "-t", text, "-o", str(out),
        ],
        voices=("slt", "rms", "awb", "kal16", "kal"),
        listings=(("-lv",),),
        version=("--version",),
        licence="free (Carnegie Mellon's flite)",
    ),
    "espeak": Program(
        name="espeak-ng",
        say=lambda text, voice, speed, out: [
            # Words in [[ ]] would be read as phonemes; 80 to 450 words a minute is what it can.
            "-v", voice, "-s", str(min(max(round(175 * speed), 80), 450)), "-w", str(out),
            "--", text.replace("[[", "[ ["),
        ],
        voices=(
            "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us+f2", "en-us+f4", "en-us+m3", "en-us+m7",
            "en-us+Annie", "en-us+Michael", "en-us+Alicia", "en-gb+Andy", "en-gb+linda", "en-us+edward", "en-us+steph",
        ),
        listings=(("--voices=en",), ("--voices=variant",)),
        version=("--version",),
        licence="free (espeak-ng's sound; the program is GPL-3)",
    ),
}  # fmt: skip


class ProgramEngine:
    """A program that writes what it says into a WAV file. In a voice's name a dot stands for its plus."""

    rate = RATE

    def __init__(self, name: str) -> None:
        self.name = name
        self._program = PROGRAMS[name]

    @cached_property
    def voices(self) -> tuple[str, ...]:
        """Those worth using that the program has. Errors: UserError, not installed, or it failed."""
        listed = " ".join(self._run(words).replace("!v/", "") for words in self._program.listings).split()
        there = (v for v in self._program.voices if set(v.split("+")) <= set(listed))
        return tuple(v.replace("+", ".") for v in there)

    def knows(self, voice: str) -> bool:
        """Whether it is one of `voices`."""
        return voice in self.voices

    def licence(self, voice: str) -> str:
        """Of the sound of a voice."""
        return self._program.licence

    @cached_property
    def version(self) -> str:
        """What the program says of itself: part of the cache's key."""
        # flite 2.2 tells its version and ends with 1.
        return self._run(self._program.version, statuses=(0, 1)).strip()

    def say(self, text: str, voice: str, speed: float) -> NDArray[np.float32]:
        """Float32 [S] at 24 kHz. Errors: UserError, not installed, or it failed."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "said.wav"
            words = self._program.say(text.replace("\0", " "), voice.replace(".", "+"), speed, out)
            self._run(words)
            try:
                heard = read_audio(out)
            except UserError as error:  # without a place: the file is gone when this is read
                raise self._failed(f"wrote no sound of {text!r} ({error.problem})") from None
        return resample(heard.samples[0], heard.rate, RATE)

    def _run(self, arguments: Sequence[str], statuses: tuple[int, ...] = (0,)) -> str:
        """Call the program; returns what it prints."""
        program = self._program.name
        path = shutil.which(program)
        if path is None:
            mend = f"install it with the system's package manager: {program}"
            raise UserError(f"{program} is not installed", place=f"voice {self.name}", mend=mend)
        try:
            done = subprocess.run(
                [path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
                check=False, timeout=PATIENCE_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise self._failed(f"did not end in {PATIENCE_S:g} s") from None
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror}") from None
        if done.returncode not in statuses:
            told = done.stderr.strip().splitlines()
            raise self._failed(f"failed: {told[-1] if told else f'status {done.returncode}'}")
        return done.stdout

    def _failed(self, how: str) -> UserError:
        mend = "try the program by hand"
        return UserError(f"{self._program.name} {how}", place=f"voice {self.name}", mend=mend)
