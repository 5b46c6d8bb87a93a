"""The segments that come with the package: whole, in three parts that share nothing, the test part locked."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from duologue.axes import AXES
from duologue.base.files import read_json
from duologue.corpus.sample import SegmentPart, sample_segments
from duologue.corpus.script import Script, part_of
from duologue.corpus.store import Row, SegmentStore
from duologue.corpus.token_cache import TokenCache
from duologue.dialogue.lexicon import plain_words
from duologue.engine.bundle import load
from duologue.train.align import read_segments

PARTS: tuple[SegmentPart, ...] = ("train", "dev", "test")
OTHERS = [(a, b) for i, a in enumerate(PARTS) for b in PARTS[i + 1 :]]
TEST_SHA256 = "492121ab46c7380efdd084362d11ec59dc16c0700c8d4a0370d2d989aac0eedd"
"""Of the index and the tokens of the test part: it changes with no tuning, and with a new part all reports are void."""
RUN = 8
"""Words in a row that two parts would share by copying, not by chance."""


@cache
def rows(part: SegmentPart) -> list[Row]:
    return list(SegmentStore(sample_segments(part)).rows())


@cache
def record(part: SegmentPart) -> dict[str, Any]:
    return dict(read_json(sample_segments(part).parent / "segments.json")[part])


def runs(part: SegmentPart) -> set[tuple[str, ...]]:
    texts = [plain_words(" ".join(w.text for w in side or ())) for row in rows(part) for side in row.words]
    return {tuple(words[i : i + RUN]) for words in texts for i in range(len(words) - RUN + 1)}


def test_the_test_part_is_what_it_was_when_it_was_locked() -> None:
    folder = sample_segments("test")
    digest = hashlib.sha256()
    for name in ("index.parquet", "tokens/codes.u16", "tokens/index.parquet"):
        digest.update((folder / name).read_bytes())
    assert digest.hexdigest() == TEST_SHA256


@pytest.mark.parametrize("part", PARTS)
class TestEachPart:
    def test_its_segments_are_whole_and_lead_nowhere(self, part: SegmentPart) -> None:
        folder = sample_segments(part)
        store = SegmentStore(folder, TokenCache(folder / "tokens"))
        assert len(set(store.ids)) == len(store) > 150
        for row in store.rows():
            assert row.clip is None
            assert row.sounds == (None, None)
            assert None not in row.words
            codes = store.segment(row).codes
            assert codes is not None
            assert abs(codes.shape[1] / 12.5 - row.end) < 0.2
            assert codes.min() >= 0
        assert sum(record(part)["segments"].values()) == len(store)
        assert set(record(part)["segments"]) == set(AXES)

    def test_its_chats_are_of_its_part(self, part: SegmentPart) -> None:
        own = {"train": "training"}.get(part, part)
        for row in rows(part):
            assert part_of(Script(id=row.info["script"], turns=(), source="chitchat")) == own

    def test_the_agent_has_one_voice_and_the_user_is_the_corpus_user(self, part: SegmentPart) -> None:
        assert {row.user_side for row in rows(part)} == {1}

    def test_turns_and_interruptions_can_be_answered_as_the_human_did(self, part: SegmentPart) -> None:
        for row in rows(part):
            ends = {event.kind: event for event in row.events}
            asked = {"turn_taking": "turn", "interruption": "interruption"}.get(row.axis)
            if asked is not None:
                assert ends["answer"].start - ends[asked].end >= -0.5 - 1e-6


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_two_parts_share_no_chat_no_conversation_and_no_text(one: SegmentPart, other: SegmentPart) -> None:
    for share in ("conversation", "id"):
        assert not {getattr(r, share) for r in rows(one)} & {getattr(r, share) for r in rows(other)}
    assert not {r.info["script"] for r in rows(one)} & {r.info["script"] for r in rows(other)}
    first, second = runs(one), runs(other)
    assert len(first & second) < 0.001 * min(len(first), len(second))


def test_the_users_of_the_test_part_have_voices_that_no_other_part_has() -> None:
    voices = {part: set(record(part)["user_voices"]) for part in PARTS}
    assert not voices["test"] & (voices["train"] | voices["dev"])


def test_no_conversation_is_most_of_an_axis_of_the_test_part() -> None:
    counts = Counter((row.axis, row.conversation) for row in rows("test"))
    assert max(counts.values()) <= 8


def test_their_tokens_are_of_nano_s_codec(tmp_path: Path) -> None:
    segments = read_segments(sample_segments("dev"), ("pause",), load("nano", device="cpu"), tmp_path / "none")
    assert len(segments["pause"]) == record("dev")["segments"]["pause"]
    assert not (tmp_path / "none").exists()
