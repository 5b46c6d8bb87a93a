"""Recordings of talks, where the server runs with them and the client agrees: stereo FLAC (left agent, right user) with
the agent's words, times and settings in JSON beside it.

Sound goes to disk while the talk lasts, in a thread that all recordings share, beside its name; it gets its name, that
of the session, when it is whole. The JSON's `alignments` are those of moshi-finetune, which `duologue describe` reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from duologue.base.files import atomic_path, make_folder, write_json
from duologue.client.pieces import join_pieces
from duologue.client.sound import Samples, to_int16
from duologue.client.wire import RATE

BLOCK = 25
"""Frames (2 s) that are written at once."""
SPEAKER = "SPEAKER_MAIN"

log = logging.getLogger("duologue.serve")


class Archive:
    """A folder of recordings. Errors: UserError, it cannot be made or written to."""

    def __init__(self, folder: Path, frame: int, about: Callable[[], dict[str, Any]], done: Callable[[], None]) -> None:
        make_folder(folder)
        self.folder, self.frame, self.about, self.done = folder, frame, about, done
        self._pool = ThreadPoolExecutor(1, "duologue-record")

    def record(self, name: str, settings: dict[str, Any]) -> Recorder:
        """Begin a recording."""
        return Recorder(self, name, settings)

    def later(self, work: Callable[[], None]) -> None:
        """Do something in the recordings' thread; what fails is logged."""
        self._pool.submit(_logged, work)

    def close(self) -> None:
        """Wait until all is written."""
        self._pool.shutdown(wait=True)


class Recorder:
    """One talk. `add`, `word` and `close` belong to the event loop; what they leave to the thread is its own."""

    def __init__(self, archive: Archive, name: str, settings: dict[str, Any]) -> None:
        self._archive, self._name, self._settings = archive, name, settings
        self._block: list[np.ndarray] = []
        self._before = np.zeros(archive.frame, np.float32)  # the agent is heard a frame after the user
        self._frames = 0
        self._pieces: list[tuple[str, float]] = []
        self._stack = ExitStack()  # the thread's, as is the file
        self._file: soundfile.SoundFile | None = None
        self._lost = False

    def add(self, agent: Samples, user: Samples | None) -> None:
        """A frame [frame] of the agent, heard in the next one, and what was heard of the user; None: silence."""
        silence = np.zeros(self._archive.frame, np.float32)
        self._block.append(to_int16(np.stack((self._before, silence if user is None else user), 1)))
        self._before = agent
        self._frames += 1
        if len(self._block) == BLOCK:
            self._flush()

    def word(self, piece: str, at: float) -> None:
        """A piece of the agent's words, and when it was heard."""
        self._pieces.append((piece, at))

    def close(self, reason: str) -> None:
        """End it: sound, then words, get their names."""
        if not self._frames:
            return
        self._flush()
        seconds = self._archive.frame / RATE
        words = join_pieces(self._pieces)
        about = {
            "session": self._name,
            "duration": round(self._frames * seconds, 3),
            "ended": reason,
            "agent": {"words": [{"word": w, "start": a, "end": b} for w, a, b in words]},
            "alignments": [[w, [a, b], SPEAKER] for w, a, b in words],
            "settings": self._settings,
            "made": self._archive.about(),
        }
        self._archive.later(lambda: self._finish(about))

    def _flush(self) -> None:
        block, self._block = self._block, []
        if block:
            sound = np.concatenate(block)
            self._archive.later(lambda: self._write(sound))

    def _write(self, sound: np.ndarray) -> None:
        if self._lost:
            return
        try:
            if self._file is None:
                aside = self._stack.enter_context(atomic_path(self._archive.folder / f"{self._name}.flac"))
                self._file = self._stack.enter_context(
                    soundfile.SoundFile(aside, "w", samplerate=RATE, channels=2, format="FLAC", subtype="PCM_16")
                )
            self._file.write(sound)
        except Exception:
            self._lost = True
            with self._stack:  # a recording with a hole gets no name: what was written goes
                raise

    def _finish(self, about: dict[str, Any]) -> None:
        if self._lost:
            return
        self._stack.close()
        write_json(self._archive.folder / f"{self._name}.json", about)
        self._archive.done()


def _logged(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        log.exception("a recording failed")
