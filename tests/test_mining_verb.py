"""`duologue mine`: what it prints and writes, its gallery, and the parts below it: sample, fan-out, clips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.audio.babble import babble
from duologue.audio.wave import Audio, write_audio
from duologue.base.errors import UserError
from duologue.corpus import mine as verb
from duologue.corpus.clips import side_by_side
from duologue.corpus.conversation import Conversation, Defect, Read, Rejected, Side, SoundRef
from duologue.corpus.fanout import spread
from duologue.corpus.mine import MineConfig, main, read_corpus
from duologue.corpus.reservoir import Candidate, Reservoir, key_of
from duologue.dialogue.timeline import Track, Word

RATE = 8000


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One conversation with a pause on side 1, one rejected; the reader is ours."""
    waves = [babble(20, RATE, seed=s)[0] for s in (0, 1)]
    write_audio(tmp_path / "talk.wav", Audio(np.stack(waves), RATE))
    sounds = [SoundRef(path=tmp_path / "talk.wav", channel=i) for i in (0, 1)]
    speech = Track.of([(5.0, 8.0), (8.5, 11.0)]).speech
    words = (Word("<b>so</b>", 5.0, 8.0), Word("then", 8.5, 11.0))
    talk = Conversation(
        id="one", corpus="made", duration=20.0,
        sides=(Side(speaker="A", sound=sounds[0], speech=Track.of([(12.0, 13.0)]).speech),
               Side(speaker="B", sound=sounds[1], speech=speech, words=words)),
        defects=(Defect(kind="word_order", detail="", mended=True),),
    )  # fmt: skip
    silent = Rejected(id="two", corpus="made", duration=1800.0,
                      defects=(Defect(kind="silent", detail="channel 1", mended=False),))  # fmt: skip

    def read(folder: Path, reader: str | None, listen: bool) -> Iterator[Read]:
        yield from (talk, silent)

    monkeypatch.setattr(verb, "read_corpus", read)
    return tmp_path


def test_it_prints_what_came_in_what_was_set_aside_and_what_was_found(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = corpus / "segments"
    config = MineConfig(corpus=corpus, out=out, report=True, gallery=True, json=corpus / "counts.json")
    assert main(config) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "seen 2 0.51" in lines
    assert "mined 1 0.01" in lines
    assert "set aside: silent 1 0.50 two: channel 1" in lines
    assert "mended: word_order 1 0.01 one" in lines
    assert "pause 1 1" in lines
    assert str(out / "index.parquet") in lines
    counts = json.loads((corpus / "counts.json").read_text())
    assert counts["kept"] == {"pause": 1, "turn_taking": 0, "backchannel": 0, "interruption": 0}
    pages = [path.name for path in (out / "gallery").iterdir()]
    assert pages == ["pause.html"]
    page = (out / "gallery" / "pause.html").read_text()
    assert "user speaks 6.00 s" in page
    assert "<b>so</b>" not in page
    assert len(page) > 60_000  # the sound is in it


def test_a_shard_says_what_is_missing(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(MineConfig(corpus=corpus, out=corpus / "s", shard="2/3")) == 0
    assert "no index yet, for these are not: 1, 3" in capsys.readouterr().out
    for shard in ("1/3", "3/3"):
        assert main(MineConfig(corpus=corpus, out=corpus / "s", shard=shard)) == 0
    assert "index.parquet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"axes": ("pauze",)}, "pauze"), ({"per_axis": 0}, "--per-axis"), ({"shard": "4"}, "--shard"),
     ({"context": -1.0}, "--context"), ({"workers": 0}, "--workers"), ({"set": ("pause.x=1",)}, "pause")],
)  # fmt: skip
def test_mistakes_end_in_a_line(corpus: Path, options: dict[str, object], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        main(MineConfig(corpus=corpus, out=corpus / "s", **options))  # type: ignore[arg-type]


def test_a_corpus_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        list(read_corpus(tmp_path / "none", None))
    with pytest.raises(UserError, match="--reader"):
        list(read_corpus(tmp_path, "fischer"))


# ---- parts -------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 8), st.randoms(use_true_random=False))
def test_the_sample_is_the_smallest_keys_of_all_in_any_order_and_split(
    numbers: list[int], size: int, random: object
) -> None:
    # Few keys, so that many tie; the same candidate may come twice.
    candidates = [Candidate(n % 7, f"c{n}", bytes([n])) for n in numbers]
    whole = Reservoir(size)
    whole.merge(candidates)
    random.shuffle(candidates)  # type: ignore[attr-defined]
    halves = [Reservoir(size), Reservoir(size)]
    for i, candidate in enumerate(candidates):
        halves[i % 2].add(candidate)
    joined = Reservoir(size)
    for half in halves:
        joined.merge(half.kept())
    assert joined.kept() == whole.kept()
    assert [c.key for c in whole.kept()] == sorted(n % 7 for n in set(numbers))[:size]
    assert whole.bound == (max(c.key for c in whole.kept()) if len(whole) == size else None)


def test_keys_are_even_and_the_same_everywhere() -> None:
    assert key_of(0, "a", 1) == 11280495912935422354
    assert key_of(0, "ab", "c") != key_of(0, "a", "bc") != key_of(1, "a", "bc")
    keys = np.array([key_of(0, n) for n in range(4000)]) / 2**64
    assert np.histogram(keys, 4, (0, 1))[0] == pytest.approx(1000, abs=100)


def test_work_is_done_in_order_and_not_far_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(40):
            taken.append(i)
            yield i

    results = spread(abs, items(), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(taken) <= 3 + 2 * 2
    assert list(results) == list(range(3, 40))
    assert list(spread(abs, [-1, -2])) == [1, 2]


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_ray_that_is_not_installed_is_named() -> None:
    with pytest.raises(UserError, match="Ray is not installed"):
        list(spread(abs, [1], ray=True))


def test_sides_of_other_rates_and_lengths_stand_side_by_side() -> None:
    both = side_by_side(Audio(np.ones((1, 80), np.float32), 8000), Audio(np.ones((1, 400), np.float32), 16000), 0.02)
    assert (both.rate, both.samples.shape) == (16000, (2, 320))
    assert both.samples[0, 80] == pytest.approx(1, abs=0.05)
    assert not both.samples[0, 200:].any()
    assert both.samples[1].all()
    assert not side_by_side(Audio(np.zeros((1, 0), np.float32), 8000), both.channel(1), 0.02).samples[0].any()
