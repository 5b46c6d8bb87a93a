"""`duologue mine --recogniser`: words of segments that the corpus does not have, at the segment's own times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duologue.audio import asr
from duologue.audio.wave import Audio
from duologue.audio.words import Words
from duologue.base.errors import UserError
from duologue.corpus import mine as verb
from duologue.corpus import sound
from duologue.corpus.candidates import MiningConfig
from duologue.corpus.conversation import Conversation, Side, SoundRef
from duologue.corpus.mine import MineConfig, main
from duologue.corpus.mining import Mined, mine
from duologue.corpus.store import SegmentStore
from duologue.corpus.transcripts import NamedRecogniser
from duologue.dialogue.timeline import Track, Word

RATE = 8000
CONFIG = MiningConfig(axes=("pause",), context_s=2.0)


class Ear:
    """A recogniser that finds the loud samples: one word for each recording, where its sound is 1 and not 0."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def transcribe(self, audios: Sequence[Audio]) -> list[Words]:
        self.batches.append(len(audios))
        found: list[Words] = []
        for audio in audios:
            (loud,) = audio.samples[0].nonzero()
            found.append((Word("loud", loud[0] / RATE, (loud[-1] + 1) / RATE),) if len(loud) else ())
        return found


def read(ref: SoundRef, start: float, end: float | None) -> Audio:
    """Twenty seconds in which channel 1 is loud from 6.0 to 7.0."""
    samples = np.zeros(20 * RATE, np.float32)
    if ref.channel == 1:
        samples[6 * RATE : 7 * RATE] = 1.0
    stop = None if end is None else round(end * RATE)
    return Audio(samples[None, round(start * RATE) : stop], RATE)


def talk(words: Words | None = None) -> Conversation:
    """One conversation in which side 1 speaks with a pause, and side 0 is silent meanwhile."""
    sounds = [SoundRef(path=Path("talk.wav"), channel=i) for i in (0, 1)]
    speech = [Track.of([(12.5, 13.0)]).speech, Track.of([(5.0, 8.0), (8.5, 11.0)]).speech]
    sides = [Side(speaker=str(i), sound=sounds[i], speech=speech[i], words=words if i else None) for i in (0, 1)]
    return Conversation(id="one", corpus="made", duration=20.0, sides=(sides[0], sides[1]))


def mined(folder: Path, who: NamedRecogniser | None, words: Words | None = None) -> Mined:
    return mine([talk(words)], folder, CONFIG, read=read, recogniser=who)


def test_both_sides_get_words_at_the_segment_s_own_times(tmp_path: Path) -> None:
    ear = Ear()
    mined(tmp_path / "s", NamedRecogniser("stub", ear))
    (row,) = SegmentStore(tmp_path / "s").rows("pause")
    assert (row.offset, row.start) == (3.0, 2.0)
    assert row.words == ((), (Word("loud", 3.0, 4.0),)), "6.0 s of the conversation is 3.0 s of what is kept"
    assert row.info["words"] == "recogniser stub"
    assert ear.batches == [2], "all sides together"


def test_the_corpus_own_words_stay_and_without_a_recogniser_there_are_none(tmp_path: Path) -> None:
    own = (Word("so", 5.0, 5.5),)
    mined(tmp_path / "own", NamedRecogniser("stub", Ear()), own)
    mined(tmp_path / "none", None)
    (kept,), (plain,) = (SegmentStore(tmp_path / name).rows("pause") for name in ("own", "none"))
    assert kept.words == ((), (Word("so", 2.0, 2.5),))
    assert plain.words == (None, None)
    assert "words" not in plain.info


def test_what_was_recognised_is_not_recognised_again_and_another_recogniser_is_another_folder(tmp_path: Path) -> None:
    ear = Ear()
    mined(tmp_path, NamedRecogniser("stub", ear))
    index = (tmp_path / "index.parquet").read_bytes()
    (tmp_path / "index.parquet").unlink()
    mined(tmp_path, NamedRecogniser("stub", ear))
    assert ear.batches == [2]
    assert (tmp_path / "index.parquet").read_bytes() == index
    for other in (NamedRecogniser("better", ear), None):
        with pytest.raises(UserError, match="recogniser differ"):
            mined(tmp_path, other)


def test_a_side_whose_sound_cannot_be_read_stays_without_words(tmp_path: Path) -> None:
    whole = talk()
    deaf = replace(whole, sides=(replace(whole.sides[0], sound=None), whole.sides[1]))
    mine([deaf], tmp_path, CONFIG, read=read, recogniser=NamedRecogniser("stub", Ear()))
    (row,) = SegmentStore(tmp_path).rows("pause")
    assert row.words == (None, (Word("loud", 3.0, 4.0),))


def test_the_verb_takes_a_recogniser_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(name: str) -> Ear:
        asked.append(name)
        return Ear()

    monkeypatch.setattr(asr, "load_recogniser", load)
    monkeypatch.setattr(sound, "read_sound", read)
    monkeypatch.setattr(verb, "read_corpus", lambda folder, reader, listen: iter([talk()]))
    assert main(MineConfig(corpus=tmp_path, out=tmp_path / "s", axes=("pause",), recogniser="base.en")) == 0
    assert asked == ["base.en"]
    (row,) = SegmentStore(tmp_path / "s").rows("pause")
    assert row.words[1] == (Word("loud", 6.0, 7.0),)
