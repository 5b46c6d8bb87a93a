"""The sample corpus that comes with the package: whole, readable, two parts, all situations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duologue.axes import AXES
from duologue.base.errors import UserError
from duologue.corpus.conversation import Conversation
from duologue.corpus.readers import find_reader, read_corpus
from duologue.corpus.sample import content_hash, sample_folder, sample_record
from duologue.corpus.sound import read_sound
from duologue.dialogue.timeline import Timeline


def conversations(part: str) -> list[Conversation]:
    found = list(read_corpus(sample_folder(part)))  # type: ignore[arg-type]
    assert all(isinstance(c, Conversation) for c in found)
    return found  # type: ignore[return-value]


def test_its_content_is_what_its_record_says() -> None:
    record = sample_record()
    assert content_hash(sample_folder()) == record["hash"]
    assert record["recipe"]["settings"]["seed"] == 20261121
    for part in ("train", "heldout"):
        found = conversations(part)
        assert len(found) == record["conversations"][part]
        assert sum(c.duration for c in found) / 60 == pytest.approx(record["minutes"][part], abs=0.01)
        assert [tuple(side.speaker for side in c.sides) for c in found] == [("agent", "user")] * len(found)
    assert sum(path.stat().st_size for path in sample_folder().rglob("*") if path.is_file()) < 8e6


def test_the_licence_of_its_texts_comes_with_it() -> None:
    notice = (sample_folder() / "NOTICE").read_text()
    assert "MIT License" in notice
    assert "chitchat-dataset" in notice


def test_both_sides_words_are_where_their_sound_is() -> None:
    for part in ("train", "heldout"):
        conversation = conversations(part)[0]
        for side in conversation.sides:
            assert side.sound is not None
            assert side.words is not None
            assert len(side.words) > 50
            sound = read_sound(side.sound, 0.0, 60.0).samples[0]
            level = np.sqrt(np.mean(sound**2))
            spoken = np.zeros(len(sound), bool)
            for word in side.words:
                spoken[int(word.start * 24000) : int(word.end * 24000)] = True
            assert np.sqrt(np.mean(sound[spoken] ** 2)) > level > 10 * np.sqrt(np.mean(sound[~spoken] ** 2))


def test_no_talk_is_in_both_parts() -> None:
    texts = [
        {" ".join(w.text for w in side.words or ()) for c in conversations(part) for side in c.sides}
        for part in ("train", "heldout")
    ]
    assert not texts[0] & texts[1]


def test_each_axis_finds_segments_in_it() -> None:
    found = dict.fromkeys(AXES, 0)
    for conversation in conversations("train"):
        tracks = [conversation.track(side) for side in (0, 1)]
        assert tracks[0] is not None
        assert tracks[1] is not None
        for agent, user in ((tracks[0], tracks[1]), (tracks[1], tracks[0])):
            timeline = Timeline(agent, user, conversation.duration)
            for name, axis in AXES.items():
                found[name] += len(axis.find(timeline))
    assert min(found.values()) >= 3, found


def test_it_is_read_as_any_other_corpus() -> None:
    assert find_reader(sample_folder("train")).name == "files"


def test_an_installation_without_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("duologue.corpus.sample.files", lambda _: tmp_path)
    with pytest.raises(UserError, match="the sample corpus"):
        sample_folder()
