"""Time-aligned text of several speakers, as it stands: RTTM, CTM, TextGrid and WebVTT.

Each gives {label: words}, the labels as the file has them, in the order of the file. Nothing is sorted or mended. RTTM
tells speech and no words, so that its words are ""; TextGrid and WebVTT tell words or utterances, as they were made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from duologue.audio.words import seconds_of
from duologue.base.errors import UserError
from duologue.base.files import read_text
from duologue.dialogue.timeline import Word

Said = dict[str, list[Word]]

_CUE = re.compile(r"((?:\d+:)?\d+:\d+[.,]\d+)\s+-->\s+((?:\d+:)?\d+:\d+[.,]\d+)(?:\s.*)?")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_TAG = re.compile(r"<[^>]*>")
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?!\S)')


def read_rttm(path: Path) -> Said:
    """NIST's RTTM: lines of `SPEAKER file channel start duration <NA> <NA> speaker <NA> [<NA>]`."""
    said: Said = {}
    for place, line in _lines(path):
        fields = line.split()
        if fields[0] != "SPEAKER":
            continue
        if len(fields) < 8:
            raise UserError(f"{line[:60]!r} has under 8 fields", place=place, mend="mend this line")
        start, length = seconds_of(fields[3], place), seconds_of(fields[4], place)
        said.setdefault(fields[7], []).append(Word("", start, start + length))
    return said


def read_ctm(path: Path) -> Said:
    """NIST's CTM of several channels: lines of `recording channel start duration word [confidence]`."""
    said: Said = {}
    for place, line in _lines(path):
        fields = line.split()
        if len(fields) < 5:
            raise UserError(
                f"{line[:60]!r} has under 5 fields", place=place, mend="recording channel start duration word"
            )
        start, length = seconds_of(fields[2], place), seconds_of(fields[3], place)
        said.setdefault(fields[1], []).append(Word(fields[4], start, start + length))
    return said


def read_vtt(path: Path) -> Said:
    """WebVTT: cues whose speaker is in a voice tag (`<v Ann>`); cues without one are of speaker ""."""
    said: Said = {}
    blocks = re.split(r"\n\s*\n", read_text(path).replace("\r\n", "\n").strip())
    if not blocks[0].startswith("WEBVTT"):
        raise UserError("does not begin with WEBVTT", place=path, mend="save it as WebVTT")
    for number, block in enumerate(blocks[1:], 1):
        lines = block.split("\n")
        if lines[0].startswith(("NOTE", "STYLE", "REGION")):
            continue
        place = f"{path}, block {number}"
        at = next((i for i, line in enumerate(lines) if "-->" in line), None)
        match = None if at is None else _CUE.fullmatch(lines[at].strip())
        if at is None or match is None:
            raise UserError(f"{block[:60]!r} is no cue", place=place, mend="mend this block")
        text = " ".join(lines[at + 1 :])
        voice = _VOICE.search(text)
        spoken = " ".join(_TAG.sub(" ", text).split())
        if spoken:
            word = Word(spoken, _clock(match[1]), _clock(match[2]))
            said.setdefault(voice[1].strip() if voice else "", []).append(word)
    return said


def read_textgrid(path: Path) -> Said:
    """Praat's TextGrid, long or short: its interval tiers by name, without the empty intervals. Point tiers are left.

    Of the tiers of one speaker as Montreal Forced Aligner writes them ("A - words", "A - phones"), the words count.
    """
    tiers = _tiers(path)
    worded = [name for name in tiers if name.lower().endswith("words")]
    if not worded:
        return tiers
    return {re.sub(r"\s*-?\s*words$", "", n, flags=re.IGNORECASE): tiers[n] for n in worded}


READERS: dict[str, Callable[[Path], Said]] = {
    ".rttm": read_rttm,
    ".ctm": read_ctm,
    ".textgrid": read_textgrid,
    ".vtt": read_vtt,
}
"""By suffix, in small letters."""


def _tiers(path: Path) -> Said:
    tokens = _tokens(path)
    try:
        if (next(tokens), next(tokens)) != ("ooTextFile", "TextGrid"):
            raise ValueError("it does not begin with ooTextFile and TextGrid")
        _floats(tokens, 2)
        said: Said = {}
        for _ in range(int(_floats(tokens, 1)[0])):
            kind, name = next(tokens), str(next(tokens))
            _floats(tokens, 2)
            for _ in range(int(_floats(tokens, 1)[0])):
                times = _floats(tokens, 2 if kind == "IntervalTier" else 1)
                text = str(next(tokens)).strip()
                if kind == "IntervalTier":
                    row = said.setdefault(name, [])
                    if text:
                        row.append(Word(text, times[0], times[1]))
        return said
    except (StopIteration, RuntimeError):
        problem = "it ends early"
    except ValueError as error:
        problem = str(error)
    raise UserError(f"broken TextGrid: {problem}", place=path, mend="save it again in Praat")


def _tokens(path: Path) -> Iterator[str | float]:
    """The values of a TextGrid, long or short: quoted text and free-standing numbers; everything else is decoration."""
    data = path.read_bytes() if path.is_file() else b""
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = data.decode("utf-16", "replace") if utf16 else read_text(path)
    for match in _TOKEN.finditer(text):
        if match[1] is not None:
            yield match[1].replace('""', '"')
        elif match[2] is not None:
            yield float(match[2])


def _floats(tokens: Iterator[str | float], n: int) -> list[float]:
    values = [next(tokens) for _ in range(n)]
    if not all(isinstance(v, float) for v in values):
        raise ValueError(f"{values!r} where numbers should be")
    return [float(v) for v in values]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip() and not line.startswith((";;", "#")):
            yield f"{path}, line {number}", line


def _clock(text: str) -> float:
    seconds = 0.0
    for part in text.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds
