"""Stretches of sound out of every container, and refusals that name the file."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from corpus_files import RATE, call, noise, put, sphere_bytes, tar_bytes, telephone, wav_bytes
from duologue.base.errors import UserError
from duologue.corpus.conversation import SoundRef
from duologue.corpus.sound import MissingError, duration, read_sound, sound_info, tar_index


def encoded(container: str, subtype: str, samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples.T, RATE, format=container, subtype=subtype)
    return out.getvalue()


TWO = np.stack([noise(1.0, 1), noise(1.0, 2)]).astype(np.float32)


class TestStretches:
    @pytest.mark.parametrize(
        ("name", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
    )
    @pytest.mark.parametrize("in_tar", [False, True])
    def test_a_stretch_equals_that_of_the_whole(self, tmp_path: Path, name: str, subtype: str, in_tar: bool) -> None:
        data = encoded(name, subtype, TWO)
        whole = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T
        if in_tar:
            path = put(tmp_path, "x.tar", tar_bytes({"before.json": b"{}", "a/x.snd": data, "after": b"1"}))
            ref = SoundRef(path=path, member="a/x.snd", channel=1)
        else:
            ref = SoundRef(path=put(tmp_path, "x.snd", data), channel=1)
        audio = read_sound(ref, 0.25, 0.75)
        assert audio.rate == RATE
        assert np.array_equal(audio.samples, whole[1:2, 2000:6000])
        assert duration(ref) == 1.0

    def test_a_stretch_of_an_mp3_is_right_although_its_packets_borrow_bits(self, tmp_path: Path) -> None:
        at = np.arange(4 * 48_000)
        tones = np.sin(at * np.array([[0.03], [0.05]]) * (1 + at * 1e-7)) / 2
        out = io.BytesIO()
        soundfile.write(out, tones.T, 48_000, format="MP3", subtype="MPEG_LAYER_III")
        whole = soundfile.read(io.BytesIO(out.getvalue()), dtype="float32", always_2d=True)[0].T
        ref = SoundRef(path=put(tmp_path, "x.mp3", out.getvalue()), channel=1)
        for start in (0.0, 0.3, 1.1, 2.7, 3.4):
            first = round(start * 48_000)
            found = read_sound(ref, start, start + 0.5).samples
            assert np.allclose(found, whole[1:2, first : first + 24_000], rtol=0, atol=1e-6)

    def test_pcm_sphere_of_both_byte_orders(self, tmp_path: Path) -> None:
        values = np.array([[0, 1], [-32768, 32767], [256, -256]], np.int16)
        for order, dtype in (("01", "<i2"), ("10", ">i2")):
            fields = ("channel_count -i 2", "sample_count -i 3", "sample_rate -i 8000", "sample_n_bytes -i 2")
            data = sphere_bytes(values.astype(dtype).tobytes(), *fields, f"sample_byte_format -s2 {order}")
            path = put(tmp_path, "x.sph", data)
            for channel in range(2):
                assert np.array_equal(
                    read_sound(SoundRef(path=path, channel=channel)).samples[0] * 32768, values[:, channel]
                )

    @pytest.mark.parametrize(("coding", "subtype"), [("ulaw", "ULAW"), ("mu-law", "ULAW"), ("alaw", "ALAW")])
    def test_every_law_code_is_that_of_libsndfile(self, tmp_path: Path, coding: str, subtype: str) -> None:
        codes = np.arange(256, dtype=np.uint8)
        path = put(
            tmp_path, "x.sph", telephone(np.stack([codes, codes[::-1]], 1), f"sample_coding -s{len(coding)} {coding}")
        )
        raw = io.BytesIO(codes.tobytes())
        known = soundfile.read(raw, samplerate=RATE, channels=1, format="RAW", subtype=subtype, dtype="float32")[0]
        assert np.array_equal(read_sound(SoundRef(path=path, channel=0)).samples[0], known)
        assert np.array_equal(read_sound(SoundRef(path=path, channel=1)).samples[0], known[::-1])
        assert sound_info(SoundRef(path=path)).top == np.abs(known).max()

    @given(st.floats(-1, 2), st.floats(-1, 2))
    def test_any_stretch_is_the_slice_of_the_whole(
        self, tmp_path_factory: pytest.TempPathFactory, a: float, b: float
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "law.sph"
        if not path.exists():
            path.write_bytes(call(1.0))
        ref = SoundRef(path=path, channel=1)
        whole = read_sound(ref).samples
        first = min(max(round(a * RATE), 0), RATE)
        last = min(max(round(b * RATE), first), RATE)
        assert np.array_equal(read_sound(ref, a, b).samples, whole[:, first:last])

    def test_sphere_cut_off_ends_where_its_samples_end(self, tmp_path: Path) -> None:
        path = put(tmp_path, "x.sph", call(1.0)[: 1024 + 8001])
        assert sound_info(SoundRef(path=path)).frames == 4000
        assert read_sound(SoundRef(path=path, channel=1)).samples.shape == (1, 4000)


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "is empty"),
            (b"RIFF", "cannot be read as audio"),
            (telephone(np.zeros((9, 2)), "sample_coding -s26 ulaw,embedded-shorten-v2.00"), "packed .embedded-shorten"),
            (telephone(np.zeros((9, 2)), "sample_coding -s4 gsm6"), "'gsm6' of 1 bytes"),
            (b"NIST_1A\n   1024\nchannel_count -i 2\n", "no end_head"),
            (sphere_bytes(b"", "channel_count -i 2"), "no field 'sample_rate'"),
            (sphere_bytes(b"", "sample_rate -i 0"), "1 channels at 0 Hz"),
            (b"NIST_1A\n   abcd\n", "broken SPHERE header"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, tmp_path: Path, data: bytes, says: str) -> None:
        path = put(tmp_path, "x.sph", data)
        with pytest.raises(UserError, match=says) as caught:
            sound_info(SoundRef(path=path))
        assert str(path) in str(caught.value)

    def test_missing_file_member_and_channel(self, tmp_path: Path) -> None:
        path = put(tmp_path, "x.wav", wav_bytes(noise(0.1)))
        tar = put(tmp_path, "x.tar", tar_bytes({"a": b"1"}))
        with pytest.raises(MissingError, match="no such file"):
            sound_info(SoundRef(path=tmp_path / "y.wav"))
        with pytest.raises(MissingError, match=r"x\.tar, member b: no such member"):
            sound_info(SoundRef(path=tar, member="b"))
        with pytest.raises(UserError, match="no channel 1: there are 1"):
            sound_info(SoundRef(path=path, channel=1))

    def test_nan_is_named_with_its_time(self, tmp_path: Path) -> None:
        samples = np.zeros((2, RATE), np.float32)
        samples[1, 4000] = np.nan
        path = put(tmp_path, "x.wav", encoded("WAV", "FLOAT", samples))
        assert read_sound(SoundRef(path=path)).duration == 1.0
        with pytest.raises(UserError, match=r"not finite, at 0\.5000 s"):
            read_sound(SoundRef(path=path, channel=1), 0.25)

    def test_compressed_tar_is_refused_and_a_cut_one_loses_its_last_member(self, tmp_path: Path) -> None:
        data = tar_bytes({"a": b"1" * 600, "b": b"2" * 600})
        with pytest.raises(UserError, match=r"x\.tar: cannot be read as a tar file"):
            tar_index(put(tmp_path, "x.tar", gzip.compress(data)))
        assert list(tar_index(put(tmp_path, "w.tar", data)).members) == ["a", "b"]
        assert not tar_index(tmp_path / "w.tar").cut
        for size in (1600, 2200):
            cut = tar_index(put(tmp_path, f"{size}.tar", data[:size]))
            assert list(cut.members) == ["a"]
            assert cut.cut
