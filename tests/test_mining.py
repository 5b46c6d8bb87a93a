"""Mining: the same store whatever the order, shards, workers and kills; clips, words and events at their place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from duologue.audio.babble import babble
from duologue.audio.vad import VadConfig
from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.axes import AXES
from duologue.axes.pause import PauseConfig
from duologue.base.errors import UserError
from duologue.corpus.candidates import MiningConfig
from duologue.corpus.conversation import Conversation, Defect, Read, Rejected, Side, SoundRef
from duologue.corpus.mine import thresholds
from duologue.corpus.mining import Crew, Mined, Shard, mine
from duologue.corpus.store import Row, SegmentStore
from duologue.dialogue.intervals import intersect, total
from duologue.dialogue.timeline import Track, Word

RATE = 8000


def corpus(count: int, seconds: float = 240.0, sound: Path | None = None) -> Iterator[Conversation]:
    """Two people who take turns, now and then early, with pauses and backchannels; the same for every call."""
    for i in range(count):
        rng = np.random.default_rng(i)
        sides: list[list[tuple[float, float]]] = [[], []]
        now, side = 0.5, 0
        while now < seconds - 12:
            for _ in range(rng.integers(1, 4)):
                length = rng.uniform(1.5, 5)
                if rng.random() < 0.3:
                    sides[1 - side].append((now + 0.5, now + 0.9))
                sides[side].append((now, now + length))
                now += length + rng.uniform(0.2, 0.9)
            now, side = now + rng.uniform(-2.0, 0.2), 1 - side
        ref = None if sound is None else SoundRef(path=sound)
        yield Conversation(
            id=f"talk/{i:03d}",
            corpus="made",
            duration=seconds,
            sides=(
                Side(speaker="A", sound=ref, speech=Track.of(sides[0]).speech, words=words(sides[0])),
                Side(speaker="B", sound=ref, speech=Track.of(sides[1]).speech),
            ),
        )


def words(spans: list[tuple[float, float]]) -> tuple[Word, ...]:
    return tuple(Word("yes", a, b) for a, b in sorted(spans))


def no_sound(ref: SoundRef, start: float, end: float | None) -> Audio:
    raise AssertionError("no sound may be touched")


def ramp(ref: SoundRef, start: float, end: float | None) -> Audio:
    """A sound whose sample at any time tells the time: its seconds, by 1/1000."""
    assert end is not None
    return Audio(
        np.linspace(start, end, round((end - start) * 100), endpoint=False)[None].astype(np.float32) / 1000, 100
    )


SMALL = MiningConfig(per_axis=12)


def mined(out: Path, reads: list[Read] | None = None, config: MiningConfig = SMALL, **options: object) -> bytes:
    """The index's bytes."""
    result = mine(list(corpus(40)) if reads is None else reads, out, config, read=no_sound, **options)  # type: ignore[arg-type]
    assert result.kept is not None
    return (out / "index.parquet").read_bytes()


def ids(folder: Path) -> list[str]:
    return SegmentStore(folder).ids


# ---- what is found -----------------------------------------------------------------------------------------------


def test_rows_hold_context_words_speech_and_events_of_their_stretch(tmp_path: Path) -> None:
    mined(tmp_path)
    talks = {c.id: c for c in corpus(40)}
    store = SegmentStore(tmp_path)
    assert {axis: store.axes.count(axis) for axis in AXES} == dict.fromkeys(AXES, 12)
    assert {row.user_side for row in store.rows()} == {0, 1}
    for row, segment in zip(store.rows(), store, strict=True):
        assert row.start == pytest.approx(min(30.0, row.offset + row.start))
        assert row.speakers == (("B", "A") if row.user_side == 0 else ("A", "B"))
        side = talks[row.conversation].sides[row.user_side].speech
        assert side is not None
        again = segment.timeline.user.speech + row.offset
        assert total(intersect(again, side)) == pytest.approx(total(again))
        assert row.words[row.user_side] is None  # only side A, number 0, has words: agent when B is the user
        assert row.words[1 - row.user_side] is not None or row.user_side == 0
        turn = next(e for e in row.events if e.kind == "turn")
        assert (turn.start, turn.side) == (pytest.approx(row.start), 1)
        # The finder selects the very same stretch when it sees the segment alone.
        again_found = AXES[row.axis].find(segment.timeline)
        assert (row.start, row.end) in [(pytest.approx(f.start), pytest.approx(f.end)) for f in again_found]


def test_a_conversation_is_mined_with_each_speaker_as_the_user(tmp_path: Path) -> None:
    both = list(corpus(4))
    swapped = [Conversation(id=c.id, corpus=c.corpus, duration=c.duration, sides=c.sides[::-1]) for c in both]  # type: ignore[arg-type]
    big = MiningConfig(per_axis=1000)
    mined(tmp_path / "a", list(both), big)
    mined(tmp_path / "b", list(swapped), big)
    seen = [
        {(r.axis, r.conversation, r.user_side ^ flip, r.offset, r.end) for r in SegmentStore(tmp_path / name).rows()}
        for flip, name in enumerate("ab")
    ]
    assert seen[0] == seen[1]
    assert len(seen[0]) > 30


def test_thresholds_can_be_changed_by_axis(tmp_path: Path) -> None:
    config = MiningConfig(axes=("pause",), per_axis=500, settings=thresholds(["pause.least_s=7", "pause.longest_s=9"]))
    mined(tmp_path, None, config)
    lengths = [row.end - row.start for row in SegmentStore(tmp_path).rows()]
    assert 7 <= min(lengths) < 7.5 < 8.5 < max(lengths) <= 9
    with pytest.raises(UserError, match="least"):
        thresholds(["pause.leest_s=7"])
    for wrong in ("pause", "pause.least_s", "pauze.least_s=3", "pause.least_s=x"):
        with pytest.raises(UserError, match="--set"):
            thresholds([wrong])
    assert thresholds(["pause.least_s=3"]) == {"pause": PauseConfig(least_s=3.0)}


# ---- the same whatever happens -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return mined(tmp_path_factory.mktemp("reference"))


def test_order_does_not_matter(tmp_path: Path, reference: bytes) -> None:
    assert mined(tmp_path, list(corpus(40))[::-1]) == reference


def test_the_draw_depends_on_the_seed_and_is_even(tmp_path: Path) -> None:
    mined(tmp_path / "a")
    mined(tmp_path / "b", config=MiningConfig(per_axis=12, seed=1))
    assert set(ids(tmp_path / "a")) != set(ids(tmp_path / "b"))
    # Of the 40 conversations, the 48 segments come from many: a block's size (16) leaves no trace.
    numbers = [int(row.conversation[-3:]) for row in SegmentStore(tmp_path / "a").rows()]
    assert sum(n < 20 for n in numbers) == pytest.approx(24, abs=12)


@pytest.mark.parametrize("count", [2, 3])
def test_shards_together_give_the_same_as_one_run(tmp_path: Path, count: int, reference: bytes) -> None:
    results: list[Mined] = []
    for number in range(count, 0, -1):
        results.append(mine(corpus(40), tmp_path, SMALL, shard=Shard(number, count), read=no_sound))
        assert (tmp_path / "index.parquet").exists() == (number == 1)
    assert results[0].kept is None
    assert results[0].missing == tuple(range(1, count))
    assert (tmp_path / "index.parquet").read_bytes() == reference
    assert results[-1].tally.used.count == 40


@pytest.mark.parametrize("point", ["append_row", "write_audio", "write_index"])
def test_a_killed_run_goes_on_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Die at random calls, before and after their work is done, sometimes with half a line written; then go on."""
    sound = SoundRef(path=tmp_path / "any.wav")
    reads = list(corpus(70, sound=sound.path))
    config = MiningConfig(per_axis=5)
    mine(reads, tmp_path / "whole", config, read=ramp)
    modules = {"append_row": "journal", "write_audio": "clips", "write_index": "mining"}
    target = f"duologue.corpus.{modules[point]}.{point}"
    rng = np.random.default_rng(len(point))
    kills = 0
    for attempt in range(12):
        with monkeypatch.context() as patch:
            patch.setattr(target, dying(target, int(rng.integers(1, 4)), attempt % 3, tmp_path / "killed"))
            try:
                mine(reads, tmp_path / "killed", config, read=ramp)
                break
            except Killed:
                kills += 1
    mine(reads, tmp_path / "killed", config, read=ramp)
    assert kills >= 2
    trees = [
        {p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file()}
        for d in (tmp_path / "whole", tmp_path / "killed")
    ]
    assert len(trees[0]) > 20
    assert trees[0] == trees[1]


class Killed(BaseException):
    """What a kill looks like from inside."""


def dying(target: str, survived: int, how: int, folder: Path) -> Callable[..., object]:
    """The function, which dies at a later call: before it (0), after it (1), or with half a line of journal (2)."""
    module, _, name = target.rpartition(".")
    import importlib

    real = getattr(importlib.import_module(module), name)
    calls = 0

    def wrapped(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls < survived:
            return real(*args, **options)
        if how == 1:
            real(*args, **options)
        elif how == 2:
            with (folder / "parts" / "1-of-1.jsonl").open("ab") as file:
                file.write(b"" if name != "append_row" else b'{"block": "00')
        raise Killed

    return wrapped


def test_processes_give_the_same(tmp_path: Path, reference: bytes) -> None:
    assert mined(tmp_path, crew=Crew(workers=2)) == reference


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_ray_gives_the_same(tmp_path: Path, reference: bytes) -> None:
    # Ray's workers know the package, not this file: sound is read as it is by default (there is none).
    mine(corpus(40), tmp_path, SMALL, crew=Crew(workers=2, ray=True))
    assert (tmp_path / "index.parquet").read_bytes() == reference


def test_a_second_run_reads_nothing_and_changes_nothing(tmp_path: Path, reference: bytes) -> None:
    mined(tmp_path)

    def never() -> Iterator[Read]:
        raise AssertionError("the corpus may not be read again")
        yield

    assert mine(never(), tmp_path, SMALL, read=no_sound).kept == dict.fromkeys(AXES, 12)
    assert (tmp_path / "index.parquet").read_bytes() == reference


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    mined(tmp_path)
    with pytest.raises(UserError, match="settings differ"):
        mined(tmp_path, config=MiningConfig(per_axis=13))
    with pytest.raises(UserError, match="shards differ"):
        mine(corpus(2), tmp_path, SMALL, shard=Shard(1, 2), read=no_sound)


def test_a_corpus_that_changed_is_noticed(tmp_path: Path) -> None:
    def stops() -> Iterator[Read]:
        yield from list(corpus(40))[:20]
        raise Killed

    with pytest.raises(Killed):
        mine(stops(), tmp_path, SMALL, read=no_sound)
    with pytest.raises(UserError, match="corpus changed"):
        mined(tmp_path, list(corpus(40))[1:])


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="--shard"):
        Shard.parse(text)


# ---- sound -------------------------------------------------------------------------------------------------------


def test_clips_hold_their_stretch_partner_first(tmp_path: Path) -> None:
    def two(ref: SoundRef, start: float, end: float | None) -> Audio:
        audio = ramp(ref, start, end)
        return Audio(audio.samples * (1 if ref.channel == 0 else -1), audio.rate)

    reads: list[Read] = []
    for c in corpus(10):
        sides = [
            Side(speaker=s.speaker, speech=s.speech, sound=SoundRef(path=tmp_path, channel=i))
            for i, s in enumerate(c.sides)
        ]
        reads.append(Conversation(id=c.id, corpus=c.corpus, duration=c.duration, sides=(sides[0], sides[1])))
    mine(reads, tmp_path / "out", MiningConfig(per_axis=3), read=two)
    store = SegmentStore(tmp_path / "out")
    for row, segment in zip(store.rows(), store, strict=True):
        assert row.clip is not None
        assert read_audio(tmp_path / "out" / row.clip).duration == pytest.approx(row.end, abs=0.01)
        assert segment.agent_audio is not None
        assert segment.user_audio is not None
        for side, (wave, rate) in enumerate((segment.agent_audio(), segment.user_audio())):
            sign = 1 if row.sounds[side].channel == 0 else -1  # type: ignore[union-attr]
            assert sign * wave[0] == pytest.approx(row.offset / 1000, abs=1e-4)
            assert sign * wave[round(row.start * rate) - 1] == pytest.approx((row.offset + row.start) / 1000, abs=1e-4)
        assert row.sounds[1].channel == row.user_side  # type: ignore[union-attr]


def broken(ref: SoundRef, start: float, end: float | None) -> Audio:
    raise UserError("is broken", place=ref.path)


def test_segments_whose_sound_is_broken_are_named_and_left_out(tmp_path: Path) -> None:
    result = mine(corpus(5, sound=tmp_path / "x.wav"), tmp_path / "out", SMALL, read=broken)
    assert result.kept == dict.fromkeys(AXES, 0)
    assert len(result.uncut) > 20
    assert all("x.wav: is broken" in line for line in result.uncut)
    refs = mine(corpus(7, sound=tmp_path / "x.wav"), tmp_path / "refs", SMALL, read=broken, clips=False)
    assert refs.kept is not None
    assert refs.kept["turn_taking"] == 12
    assert next(SegmentStore(tmp_path / "refs").rows()).clip is None


def whole_file(ref: SoundRef, start: float, end: float | None) -> Audio:
    audio = read_audio(ref.path).channel(ref.channel)
    stop = None if end is None else round(end * audio.rate)
    return Audio(audio.samples[:, round(start * audio.rate) : stop], audio.rate)


def test_without_metadata_speech_is_detected_in_the_sound(tmp_path: Path) -> None:
    wave, speech = babble(60, RATE, seed=4)
    write_audio(tmp_path / "talk.wav", Audio(np.stack([wave, np.zeros_like(wave)]), RATE))
    sides = [Side(speaker="", sound=SoundRef(path=tmp_path / "talk.wav", channel=i)) for i in (0, 1)]
    talk = Conversation(id="b", corpus="made", duration=60.0, sides=(sides[0], sides[1]))
    config = MiningConfig(
        axes=("pause",), settings={"pause": PauseConfig(least_s=2.0)}, vad=VadConfig(backend="energy")
    )
    mine([talk], tmp_path / "out", config, read=whole_file)
    rows = list(SegmentStore(tmp_path / "out").rows())
    assert rows
    assert {row.user_side for row in rows} == {0}
    heard = np.array([(row.offset + row.start, row.offset + row.end) for row in rows])
    assert total(intersect(heard[heard[:, 0].argsort()], speech)) > 0.6 * total(heard)


def test_words_stand_for_speech_and_bridge_short_silences(tmp_path: Path) -> None:
    spoken = tuple(Word("so", t, t + 0.3) for t in np.arange(10, 20, 0.4).tolist())  # 0.1 s apart: no pauses
    paused = tuple(w for w in spoken if not 14 < w.start < 14.5)
    for said, expected in ((spoken, 0), (paused, 1)):
        sides = Side(speaker="a", words=said), Side(speaker="b", words=())
        talk = Conversation(id=f"t{expected}", corpus="made", duration=30.0, sides=sides)
        result = mine([talk], tmp_path / str(expected), MiningConfig(axes=("pause",)), read=no_sound)
        assert result.kept == {"pause": expected}


# ---- what is said about it ---------------------------------------------------------------------------------------


def test_the_tally_says_what_came_in_and_why_it_did_not_go_out(tmp_path: Path) -> None:
    good = next(corpus(1))
    mute = Conversation(id="mute", corpus="made", duration=100.0, sides=(Side(speaker=""), Side(speaker="")))
    lost = Conversation(id="lost", corpus="made", duration=50.0,
                        sides=(Side(speaker="", sound=SoundRef(path=Path("no.wav"))),) * 2)  # fmt: skip
    silent = Defect(kind="silent", detail="channel 1", mended=False)
    order = Defect(kind="word_order", detail="2 words", mended=True)
    good = Conversation(id=good.id, corpus="made", duration=good.duration, sides=good.sides, defects=(order,))
    rejected = Rejected(id="r", corpus="made", defects=(order, silent), duration=None)
    result = mine([good, mute, lost, rejected], tmp_path, SMALL, read=broken)
    tally = result.tally
    assert (tally.seen.count, tally.seen.seconds) == (4, 390.0)
    assert (tally.used.count, tally.used.seconds) == (1, 240.0)
    assert {reason: (s.count, s.seconds) for reason, s in tally.aside.items()} == {
        "silent": (1, 0.0), "no speech times and no sound": (1, 100.0), "sound cannot be read": (1, 50.0),
    }  # fmt: skip
    assert tally.aside["sound cannot be read"].examples == ["lost: no.wav: is broken"]
    assert tally.mended["word_order"].count == 1
    written = json.loads((tmp_path / "mined.json").read_text())
    assert written["kept"] == result.kept
    assert written["seen"]["seconds"] == 390.0


def test_rows_survive_their_compact_form(tmp_path: Path) -> None:
    mined(tmp_path)
    rows = list(SegmentStore(tmp_path).rows())
    assert [Row.from_json(row.to_json()) for row in rows] == rows


def test_an_index_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no segments here"):
        SegmentStore(tmp_path)
    (tmp_path / "index.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="no index"):
        SegmentStore(tmp_path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "index.parquet")
    with pytest.raises(UserError, match="version none"):
        SegmentStore(tmp_path)


def test_one_process_at_a_time_works_on_a_shard(tmp_path: Path) -> None:
    def reads() -> Iterator[Read]:
        with pytest.raises(UserError, match="another process"):
            mine(corpus(1), tmp_path, SMALL, read=no_sound)
        yield from corpus(1)

    mine(reads(), tmp_path, SMALL, read=no_sound)
