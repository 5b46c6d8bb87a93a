"""Messages and queries: what is built is parsed, what is out of range is refused by name."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.client import wire
from duologue.client.pieces import join_pieces
from duologue.client.sound import OpusReader, OpusWriter, PcmReader, PcmWriter, SoundError, to_int16
from duologue.engine.sampling import SEEDS, Sampling
from duologue.serve.ogg import Pages, packet_seconds
from duologue.serve.protocol import PROMPT_CHARACTERS, RefusedError, ask
from duologue.serve.sound import Hearing

OWN = Sampling(text_temperature=0.6, audio_top_k=40, pad_temperature=1.0)
WORDS = st.text('ab é▁"\\\n\x00😀', max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS, lambda x: st.lists(x) | st.dictionaries(WORDS, x), max_leaves=5
)


@given(st.sampled_from(list(wire.Kind)), st.binary(max_size=300))
def test_a_message_is_parsed_as_it_was_built(kind: wire.Kind, payload: bytes) -> None:
    assert wire.parse(wire.build(kind, payload)) == (kind, payload)


@given(st.dictionaries(WORDS, JSON, max_size=4))
def test_metadata_is_parsed_as_it_was_built(value: dict[str, object]) -> None:
    kind, payload = wire.parse(wire.build_meta(value))
    assert kind == wire.Kind.META
    assert wire.parse_meta(payload) == value


def test_an_empty_message_and_other_json_are_no_messages() -> None:
    with pytest.raises(ValueError, match="empty"):
        wire.parse(b"")
    with pytest.raises(ValueError, match="not an object"):
        wire.parse_meta(b"[1]")


@given(st.binary(max_size=400).filter(lambda b: len(b) % 2 == 0))
def test_pcm_comes_back_as_it_was(data: bytes) -> None:
    assert PcmWriter().write(PcmReader().read(data)) == data


def test_pcm_is_clipped_and_bears_no_half_samples() -> None:
    assert to_int16(np.array([2.0, -2.0, np.nan, 0.5], np.float32)).tolist() == [32767, -32768, 0, 16384]
    with pytest.raises(SoundError, match="3 bytes"):
        PcmReader().read(b"abc")


class TestQuery:
    def test_nothing_asked_is_the_model_s_own(self) -> None:
        asked = ask({}, OWN)
        assert replace(asked.sampling, text_seed=0, audio_seed=0) == OWN
        assert (asked.format, asked.meta, asked.record, asked.voice, asked.text_prompt) == (
            "opus",
            False,
            False,
            None,
            "",
        )

    def test_moshi_s_parameters(self) -> None:
        query = {
            "text_temperature": "0.7", "text_topk": "25", "audio_temperature": "0.8", "audio_topk": "250",
            "pad_mult": "0", "text_seed": "837211", "audio_seed": "12", "repetition_penalty_context": "64",
            "repetition_penalty": "1", "worker_auth_id": "x", "email": "",
        }  # fmt: skip
        expected = replace(Sampling(), text_seed=837211, audio_seed=12, pad_temperature=1.0)
        assert ask(query, OWN).sampling == expected

    def test_personaplex_s_parameters(self) -> None:
        asked = ask({"text_prompt": " You are kind. ", "voice_prompt": "NATF2.pt", "seed": "7"}, OWN)
        assert (asked.text_prompt, asked.voice) == ("You are kind.", "NATF2.pt")
        assert (asked.sampling.text_seed, asked.sampling.audio_seed) == (7, 7)
        empty = ask({"text_prompt": "", "voice_prompt": "", "seed": "-1"}, OWN)
        assert (empty.text_prompt, empty.voice) == ("", None)

    def test_each_session_has_a_seed_of_its_own(self) -> None:
        seeds = {ask({}, OWN).sampling.text_seed for _ in range(5)}
        assert len(seeds) == 5
        assert all(0 <= seed < SEEDS for seed in seeds)

    @pytest.mark.parametrize(
        ("query", "named"),
        [
            ({"text_temperature": "warm"}, "text_temperature=warm is no number"),
            ({"audio_temperature": "-1"}, "audio_temperature=-1 is not from 0 to 10"),
            ({"audio_temperature": "nan"}, "audio_temperature=nan"),
            ({"text_temperature": "1e400"}, "text_temperature=1e400"),
            ({"text_topk": "2.5"}, "text_topk=2.5 is no whole number"),
            ({"text_seed": "99999999999"}, "text_seed"),
            ({"padding_bonus": "1000"}, "padding_bonus"),
            ({"meta": "yes"}, "meta=yes"),
            ({"format": "mp3"}, "format=mp3"),
            ({"text_prompt": "a" * (PROMPT_CHARACTERS + 1)}, "text_prompt has 1001 characters"),
            ({"text_topk": "\0" * 100}, "text_topk=" + 40 * r"\?"),
        ],
    )
    def test_what_cannot_be_is_refused_by_name(self, query: dict[str, str], named: str) -> None:
        with pytest.raises(RefusedError, match=named):
            ask(query, OWN)

    @given(st.dictionaries(
        st.sampled_from(["text_temperature", "text_topk", "audio_seed", "seed", "meta", "format", "pad_temperature"]),
        st.text(max_size=12),
    ))  # fmt: skip
    def test_any_query_is_read_or_refused(self, query: dict[str, str]) -> None:
        with contextlib.suppress(RefusedError):
            assert ask(query, OWN).sampling.text_temperature <= 10


def opus(frames: int) -> list[bytes]:
    writer = OpusWriter()
    tone = (0.3 * np.sin(np.arange(1920 * frames) / 10)).astype(np.float32)
    return [writer.write(tone[i * 1920 : (i + 1) * 1920]) for i in range(frames)]


class TestOgg:
    """sphn's own streams, whole, cut anywhere, broken."""

    def hearing(self) -> tuple[Hearing, list[int]]:
        lost: list[int] = []
        return Hearing("opus", lambda: 0.0, lost.append), lost

    def test_a_stream_is_read_however_it_is_cut(self) -> None:
        data = b"".join(opus(5))
        whole = OpusReader().read(data)
        for size in (1, 7, 100, 1000):
            hearing, _ = self.hearing()
            parts = [hearing.read(data[i : i + size]) for i in range(0, len(data), size)]
            np.testing.assert_array_equal(np.concatenate(parts), whole)
        assert len(whole) == 5 * 1920

    def test_pages_say_how_long_they_are(self) -> None:
        pages = Pages().feed(b"".join(opus(3)))
        assert [round(page.seconds, 3) for page in pages] == [0.0, 0.0] + [0.04] * 6

    @pytest.mark.parametrize(
        ("data", "named"),
        [
            (b"garbage" * 20, "not Ogg: 67 61 72 62 61"),
            (b"OggX", "not Ogg"),
            (b"OggS\x05", "not Ogg"),
            (opus(1)[0][:200] + b"\0" * 300, "not Ogg"),
            (b"OggS\0" + bytes(21) + b"\x01\x05" + b"\xff\xff\xff\xff\xff", "not Ogg Opus"),
        ],
    )
    def test_what_is_broken_is_refused(self, data: bytes, named: str) -> None:
        hearing, _ = self.hearing()
        with pytest.raises(SoundError, match=named):
            hearing.read(data + data)

    @given(st.binary(max_size=200), st.integers(0, 400))
    def test_any_bytes_give_sound_or_a_reason(self, noise: bytes, at: int) -> None:
        good = b"".join(opus(1))
        hearing, _ = self.hearing()
        try:
            sound = hearing.read(good[:at] + noise + good[at:])
        except SoundError:
            return
        assert np.isfinite(sound).all()

    def test_a_page_that_claims_hours_is_not_decoded(self) -> None:
        packet = b"\x03\x30"  # 48 frames of 10 ms: more than a packet may hold, counted as the most
        page = b"OggS\0" + bytes(21) + bytes([255]) + bytes([2]) * 255 + packet * 255
        hearing, lost = self.hearing()
        assert len(hearing.read(page)) == 0
        assert lost == [round(255 * 0.12 * 24000)]

    @pytest.mark.parametrize(
        ("packet", "seconds"),
        [
            (b"", 0),
            (b"\x00", 0.01),
            (b"\x18", 0.06),
            (b"\x61", 0.02),
            (b"\xf8", 0.02),
            (b"\xe3\x08", 0.02),
            (b"\x03", 0),
        ],
    )
    def test_the_length_of_a_packet(self, packet: bytes, seconds: float) -> None:
        assert packet_seconds(packet) == pytest.approx(seconds)


def test_pieces_make_words() -> None:
    pieces = [(" Hel", 0.08), ("lo", 0.16), (",", 0.24), (" ", 0.32), ("you", 0.4), (" there", 1.0)]
    assert join_pieces(pieces) == [("Hello,", 0.08, 0.32), ("you", 0.4, 0.48), ("there", 1.0, 1.08)]
