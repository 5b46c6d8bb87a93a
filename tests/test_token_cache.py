"""The token cache and `encode`: the codes of each recording alone, whatever the batches and kills."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_models import TINY, noise, random_codec
from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.base.errors import UserError
from duologue.codec.mimi import Mimi
from duologue.corpus import encode, encoding, token_cache
from duologue.corpus.encoding import Item, batches, encode_items, encode_rows, join
from duologue.corpus.store import Row, SegmentStore, write_index
from duologue.corpus.token_cache import ABSENT, CacheHeader, TokenCache, TokenCacheWriter
from duologue.engine.bundle import codec_of

HEADER = CacheHeader(codec="c0ffee", codebooks=4, card=32, frame_rate=100.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def codec() -> Mimi:
    return random_codec()


def wave(samples: int, seed: int) -> np.ndarray:
    return (0.3 * noise(samples, seed=seed)).numpy()


def recordings(count: int, absent: int = 2) -> list[Item]:
    """Of lengths up to a second; one of them has one side only."""

    def item(i: int) -> Item:
        length = 200 + 1317 * i % 4000
        sides = [Audio(wave(length + 60 * s, 2 * i + s)[None], TINY.sample_rate) for s in (0, 1)]
        return Item(f"item {i}", length / TINY.sample_rate, lambda: (sides[0], None if i == absent else sides[1]))

    return [item(i) for i in range(count)]


# ---- the file ----------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 3))
def test_codes_come_back_with_absent_ones(
    tmp_path_factory: pytest.TempPathFactory, frames: list[int], per: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(len(frames))
    items = [(f"i{n}", rng.integers(-1, 32, (8, t))) for n, t in enumerate(frames)]
    writer = TokenCacheWriter(folder, HEADER)
    for first in range(0, len(items), per):
        writer.add(items[first : first + per])
    writer.finish()
    cache = TokenCache(folder)
    assert list(cache) == [name for name, _ in items]
    assert cache.header == HEADER
    for name, codes in items:
        np.testing.assert_array_equal(cache.codes(name), codes)
        assert cache.codes(name).dtype == np.int64
        assert cache.raw(name).dtype == np.uint16
        np.testing.assert_array_equal(cache.raw(name) == ABSENT, codes == -1)


def test_codes_that_are_none_are_refused(tmp_path: Path) -> None:
    writer = TokenCacheWriter(tmp_path, HEADER)
    for codes, why in ((np.zeros((7, 3), int), "not"), (np.full((8, 1), 32), "31"), (np.full((8, 1), -2), "-1 to")):
        with pytest.raises(ValueError, match=why):
            writer.add([("whole", np.ones((8, 4), int)), ("x", codes)])
    assert "x" not in writer
    assert "whole" not in writer
    writer.add([("y", np.zeros((8, 2), int))])
    writer.finish()
    assert not TokenCache(tmp_path).codes("y").any()
    assert (tmp_path / "codes.u16").stat().st_size == 32
    with pytest.raises(UserError, match="16 bits"):
        TokenCacheWriter(tmp_path / "big", CacheHeader(codec="", codebooks=1, card=65536, frame_rate=1.0))


def test_a_cache_belongs_to_one_codec(tmp_path: Path) -> None:
    TokenCacheWriter(tmp_path, HEADER)
    with pytest.raises(UserError, match="made otherwise \\(codec differ\\)"):
        TokenCacheWriter(tmp_path, CacheHeader(codec="other", codebooks=4, card=32, frame_rate=100.0))


def test_caches_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no token cache"):
        TokenCache(tmp_path)
    writer = TokenCacheWriter(tmp_path, HEADER)
    writer.add([("a", np.zeros((8, 5), int))])
    with pytest.raises(UserError, match="not finished"):
        TokenCache(tmp_path)
    writer.finish()
    with (tmp_path / "codes.u16").open("r+b") as file:
        file.truncate(79)
    with pytest.raises(UserError, match="shorter"):
        TokenCache(tmp_path)
    with pytest.raises(UserError, match="shorter"):
        TokenCacheWriter(tmp_path, HEADER)
    (tmp_path / "cache.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(UserError, match="version 2"):
        TokenCache(tmp_path)


# ---- encoding ----------------------------------------------------------------------------------------------------


def test_a_batch_gives_the_codes_of_each_row_alone(codec: Mimi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "FRAMES", 7)
    waves = [wave(n, n) for n in (1000, 480, 2011, 48, 1)]
    together = encode_rows(codec, CPU, [*waves, None])
    for one, codes in zip(waves, together, strict=False):
        alone = codec.encode(torch.from_numpy(one)[None, None])[0].detach().numpy()
        np.testing.assert_array_equal(codes, alone)
    assert together[-1].shape == (4, 0)
    assert len(np.unique(together[0])) > 8


def test_sides_of_different_length_are_joined() -> None:
    joined = join(np.ones((2, 3), np.int64), np.ones((2, 1), np.int64))
    assert joined.tolist() == [[1, 1, 1], [1, 1, 1], [1, -1, -1], [1, -1, -1]]


def test_batches_are_bounded_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "BATCH_S", 40.0)
    items = [Item(str(n), float(n), lambda: (None, None)) for n in range(1, 25)]
    made = list(batches(items, 8))
    assert [i for batch in made for i in batch] == items
    assert max(map(len, made)) == 4
    assert all(len(b) == 1 or 2 * len(b) * b[-1].seconds <= 40 for b in made)


@pytest.mark.parametrize("point", ["append_row", "os.fsync"])
def test_a_killed_run_goes_on_and_gives_the_same(
    tmp_path: Path, codec: Mimi, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    items = recordings(9)
    encode_items(codec, CPU, items, TokenCacheWriter(tmp_path / "whole", HEADER), rows=4)
    real = token_cache.append_row if point == "append_row" else os.fsync
    kills = 0
    for survived in range(0, 12, 3 if point == "os.fsync" else 1):
        calls = itertools.count()

        def dies(*args: Any, survived: int = survived, calls: Iterator[int] = calls) -> None:
            if next(calls) >= survived:
                raise KeyboardInterrupt
            real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(f"duologue.corpus.token_cache.{point}", dies)
            try:
                encode_items(codec, CPU, items, TokenCacheWriter(tmp_path / "killed", HEADER), rows=4)
                break
            except KeyboardInterrupt:
                kills += 1
        with (tmp_path / "killed" / "journal.jsonl").open("ab") as file:
            file.write(b'{"items": [["item')
    writer = TokenCacheWriter(tmp_path / "killed", HEADER)
    assert kills >= 3
    assert "item 0" in writer
    assert encode_items(codec, CPU, items, writer, rows=4) == []
    for name in ("codes.u16", "journal.jsonl", "index.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    cache = TokenCache(tmp_path / "whole")
    assert len(cache) == 9
    lengths = [cache.raw(name).shape[1] for name in cache]
    assert lengths == sorted(lengths)  # so that little of a batch is padding
    assert (cache.codes("item 2")[4:] == -1).all()
    assert (cache.codes("item 3")[4:] >= 0).all()


def test_what_cannot_be_read_is_named_and_tried_again(tmp_path: Path, codec: Mimi) -> None:
    def broken() -> tuple[Audio | None, Audio | None]:
        raise UserError("is broken", place="x.flac")

    items = [*recordings(2), Item("bad", 0.1, broken)]
    assert encode_items(codec, CPU, items, TokenCacheWriter(tmp_path, HEADER)) == ["bad: x.flac: is broken"]
    assert "bad" not in TokenCacheWriter(tmp_path, HEADER)
    assert len(TokenCache(tmp_path)) == 2


def test_the_verb_encodes_a_store_and_its_segments_then_have_codes(
    tmp_path: Path, codec: Mimi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("duologue.engine.bundle.codec_of", lambda model, device: codec)
    rows = []
    for i in range(3):
        sound = np.stack([wave(2400, i), wave(2400, i + 10)])
        write_audio(tmp_path / f"{i}.flac", Audio(sound, TINY.sample_rate))
        rows.append(Row(
            id=f"s{i}", axis="pause", corpus="made", conversation="c", key=i, user_side=1, speakers=("", ""),
            offset=0.0, start=0.1, end=0.5, rule="", events=(), speech=((), ((0.1, 0.5),)), words=(None, None),
            sounds=(None, None), clip=f"{i}.flac" if i < 2 else None,
        ))  # fmt: skip
    write_index(tmp_path / "index.parquet", rows)
    assert encode.main(encode.EncodeConfig(source=tmp_path, device="cpu", json=tmp_path / "out.json")) == 0
    assert "2 items" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["header"]["codebooks"] == 4
    segments = list(SegmentStore(tmp_path, TokenCache(tmp_path / "tokens")))
    assert segments[2].codes is None
    assert segments[0].user_audio is not None
    heard, _ = segments[0].user_audio()
    alone = codec.encode(torch.from_numpy(heard)[None, None])[0].detach().numpy()
    assert segments[0].codes is not None
    np.testing.assert_array_equal(segments[0].codes[4:], alone)


def test_what_is_skipped_is_not_encoded_and_stands_in_the_cache(
    tmp_path: Path, codec: Mimi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duologue.engine.bundle.codec_of", lambda model, device: codec)
    sound = np.stack([wave(2400, 0), wave(2400, 1)])
    write_audio(tmp_path / "talks" / "a.wav", Audio(sound, TINY.sample_rate))
    skip = 300 / TINY.sample_rate
    caches = []
    for name, left in (("whole", 0.0), ("part", skip)):
        config = encode.EncodeConfig(source=tmp_path / "talks", out=tmp_path / name, skip=left, device="cpu")
        assert encode.main(config) == 0
        caches.append(TokenCache(tmp_path / name))
    assert [cache.header.skip for cache in caches] == [0.0, skip]
    (name,) = caches[1]
    heard = read_audio(tmp_path / "talks" / "a.wav").samples[0, 300:]
    alone = codec.encode(torch.from_numpy(heard)[None, None])[0].detach().numpy()
    np.testing.assert_array_equal(caches[1].codes(name)[:4], alone)
    with pytest.raises(UserError, match="--skip"):
        encode.main(encode.EncodeConfig(source=tmp_path, skip=-1.0))


def test_mistakes_of_the_verb(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--out"):
        encode.main(encode.EncodeConfig(source=tmp_path))
    with pytest.raises(UserError, match="--rows"):
        encode.main(encode.EncodeConfig(source=tmp_path, rows=1))


def test_the_codec_of_a_random_model_is_found() -> None:
    assert codec_of("random:tiny", device="cpu").n_codebooks > 0
