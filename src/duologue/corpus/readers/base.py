"""What every reader is: a name, a look at a folder, and conversations that come lazily and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from duologue.audio.vad import VadConfig
from duologue.base.errors import UserError
from duologue.corpus.conversation import Conversation, Read
from duologue.corpus.defects import DefectRules, check

SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph")
"""Suffixes of sound, in the order in which they are preferred."""

CandorTranscript: TypeAlias = Literal["backbiter", "cliffhanger", "audiophile", "aws"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a corpus is read."""

    audio: bool = False
    """Also listen for silent channels, clipping and bleed; without it only headers and transcripts are read."""
    speech: Literal["corpus", "vad"] = "corpus"
    """corpus: speech is what the corpus says; vad: what a detector hears, and how far the two agree is noted."""
    vad: VadConfig | None = None
    """The detector; None: the default one."""
    speakers: tuple[str, str] | None = None
    """Labels of sides 0 and 1 in transcripts of a two-channel file that name speakers, not channels."""
    candor: CandorTranscript = "backbiter"
    """Which of CANDOR's transcripts; aws is the one with word times."""
    rules: DefectRules = field(default_factory=DefectRules)
    """Thresholds of the defects."""


class Reader(Protocol):
    """Reads the corpora of one format."""

    @property
    def name(self) -> str:
        """Of the format: "fisher"."""

    def fits(self, root: Path) -> bool:
        """Whether the folder looks like this format."""

    def read(self, root: Path, options: ReadOptions | None = None) -> Iterator[Read]:
        """Every conversation of the folder, lazily, always in the same order, checked by `corpus.defects`.

        Raises:
            UserError: the folder is missing or holds nothing of this format. Whatever is wrong with one conversation
                is not raised: it comes as `Rejected`.
        """


Source: TypeAlias = Callable[[Path, ReadOptions], Iterator[Read]]
"""What a format does itself: find conversations and say what its files say, with nothing mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusReader:
    """A `Reader` made of a format's own two functions."""

    name: str
    fits: Callable[[Path], bool]
    source: Source
    wants: str
    """What a folder of this format holds, for error messages."""

    def read(self, root: Path, options: ReadOptions | None = None) -> Iterator[Read]:
        """See `Reader.read`."""
        options = options or ReadOptions()
        if not root.is_dir():
            raise UserError("no such folder", place=root, mend=f"name one with {self.wants}")
        count = 0
        for found in self.source(root, options):
            count += 1
            yield _checked(found, options)
        if not count:
            raise UserError(f"holds no conversation of format {self.name}", place=root, mend=f"it needs {self.wants}")


def _checked(found: Read, options: ReadOptions) -> Read:
    if not isinstance(found, Conversation):
        return found
    read = check(found, options.audio, options.rules)
    if options.speech == "vad" and isinstance(read, Conversation):
        from duologue.corpus.heard import with_heard_speech

        return with_heard_speech(read, options.vad)
    return read


def files_below(root: Path, *suffixes: str) -> list[Path]:
    """All files below a folder with one of these suffixes (in any case), sorted; hidden files are left out."""
    wanted = {s.lower() for s in suffixes}
    found = (p for p in root.rglob("*") if p.suffix.lower() in wanted and not p.name.startswith("."))
    return sorted(p for p in found if p.is_file())


def by_stem(files: list[Path]) -> dict[str, Path]:
    """Sound files by name without suffix; of several, the first in the order of `SOUNDS`, then of the paths."""
    chosen: dict[str, Path] = {}
    for path in sorted(files, key=lambda p: (SOUNDS.index(p.suffix.lower()), p)):
        chosen.setdefault(path.stem, path)
    return chosen


def any_file(root: Path, pattern: str) -> bool:
    """Whether any file below the folder matches."""
    return next(root.rglob(pattern), None) is not None
