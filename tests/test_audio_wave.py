"""Reading and writing audio files: formats, exactness, and every way a file can be broken."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile

from duologue.audio.wave import Audio, clipping, open_audio, read_audio, write_audio
from duologue.base.errors import UserError

RNG = np.random.default_rng(0)
STEREO = Audio((0.1 * RNG.standard_normal((2, 4800))).astype(np.float32), 24_000)


class TestRoundTrip:
    def test_16_bit_values_come_back_bit_by_bit(self, tmp_path):
        every = np.arange(-32768, 32768, dtype=np.int16)
        soundfile.write(tmp_path / "a.wav", every, 16_000)
        write_audio(tmp_path / "b.wav", read_audio(tmp_path / "a.wav"))
        np.testing.assert_array_equal(soundfile.read(tmp_path / "b.wav", dtype="int16")[0], every)

    @pytest.mark.parametrize(
        ("name", "encoding", "tolerance"),
        [
            ("a.wav", None, 2**-15),
            ("a.WAV", "PCM_U8", 2**-7),
            ("a.wav", "PCM_24", 2**-23),
            ("a.wav", "FLOAT", 0),
            ("a.flac", None, 2**-15),
            ("a.flac", "PCM_24", 2**-23),
        ],
    )
    def test_lossless_formats(self, tmp_path, name, encoding, tolerance):
        write_audio(tmp_path / name, STEREO, encoding=encoding)
        back = read_audio(tmp_path / name)
        assert (back.rate, back.samples.dtype, back.samples.flags.c_contiguous) == (24_000, np.float32, True)
        np.testing.assert_allclose(back.samples, STEREO.samples, atol=tolerance, rtol=0)

    @pytest.mark.parametrize("name", ["a.ogg", "a.mp3", "a.opus"])
    def test_lossy_formats(self, tmp_path, name):
        t = np.arange(96_000) / 48_000
        tone = np.stack((np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 660 * t))).astype(np.float32) * 0.5
        write_audio(tmp_path / name, Audio(tone, 48_000))
        back = read_audio(tmp_path / name)
        assert back.channels == 2
        assert abs(back.duration - 2) < 0.06
        for row, hz in zip(back.samples, (440, 660), strict=True):
            spectrum = np.abs(np.fft.rfft(row[:72_000]))
            assert abs(spectrum.argmax() / 1.5 - hz) < 1

    def test_long_vorbis(self, tmp_path):
        """In one call, libsndfile's Vorbis encoder can overflow its stack on this much."""
        write_audio(tmp_path / "long.ogg", Audio(np.zeros((1, 48_000 * 200), np.float32), 48_000))
        assert read_audio(tmp_path / "long.ogg").duration == 200

    def test_eight_channels_in_an_extensible_header(self, tmp_path):
        samples = (0.1 * RNG.standard_normal((8, 441))).astype(np.float32)
        soundfile.write(tmp_path / "8.wav", samples.T, 44_100, format="WAVEX", subtype="PCM_24")
        back = read_audio(tmp_path / "8.wav")
        assert (back.channels, back.rate) == (8, 44_100)
        np.testing.assert_allclose(back.samples, samples, atol=2**-23)

    def test_a_failed_write_leaves_the_old_file_alone(self, tmp_path):
        write_audio(tmp_path / "a.mp3", Audio(STEREO.samples, 24_000))
        before = (tmp_path / "a.mp3").read_bytes()
        with pytest.raises(UserError, match=r"a\.mp3: 5 channels"):
            write_audio(tmp_path / "a.mp3", Audio(np.zeros((5, 100), np.float32), 24_000))
        assert (tmp_path / "a.mp3").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp3"]


class TestBeyondFullScale:
    def test_float_files_keep_their_values(self, tmp_path):
        loud = Audio(np.array([[0.5, 1.5, -2.0, 1.0]], np.float32), 16_000)
        write_audio(tmp_path / "a.wav", loud, encoding="FLOAT")
        back = read_audio(tmp_path / "a.wav")
        np.testing.assert_array_equal(back.samples, loud.samples)
        assert clipping(back) == 0.75

    def test_integers_clip_and_do_not_wrap(self, tmp_path):
        write_audio(tmp_path / "a.wav", Audio(np.array([[2.0, -2.0, 0.5]], np.float32), 16_000))
        back = read_audio(tmp_path / "a.wav")
        np.testing.assert_allclose(back.samples, [[1, -1, 0.5]], atol=2**-15)
        assert clipping(back) == pytest.approx(2 / 3)

    def test_no_samples_do_not_clip(self):
        assert clipping(Audio(np.zeros((1, 0), np.float32), 16_000)) == 0


def wav_bytes(tmp_path):
    write_audio(tmp_path / "good.wav", STEREO)
    return bytearray((tmp_path / "good.wav").read_bytes())


class TestBrokenFiles:
    @pytest.mark.parametrize("cut", [0, 3, 30])
    def test_truncated_header(self, tmp_path, cut):
        path = tmp_path / "cut.wav"
        path.write_bytes(wav_bytes(tmp_path)[:cut])
        with pytest.raises(
            UserError, match=rf"cut\.wav: {'is empty' if cut == 0 else 'cannot be read as audio'}.*; .+"
        ):
            read_audio(path)

    @pytest.mark.parametrize("cut", [5044, 5045])
    def test_data_shorter_than_the_header_says_are_read(self, tmp_path, cut):
        path = tmp_path / "killed.wav"
        path.write_bytes(wav_bytes(tmp_path)[:cut])
        np.testing.assert_allclose(read_audio(path).samples, STEREO.samples[:, :1250], atol=2**-15)

    def test_a_header_that_says_four_gigabytes(self, tmp_path):
        data = wav_bytes(tmp_path)
        data[40:44] = struct.pack("<I", 0xFFFFFFFF)
        (tmp_path / "stream.wav").write_bytes(data)
        assert read_audio(tmp_path / "stream.wav").samples.shape == (2, 4800)

    def test_a_header_that_says_nothing_is_there(self, tmp_path):
        data = wav_bytes(tmp_path)
        data[40:44] = struct.pack("<I", 0)
        (tmp_path / "stopped.wav").write_bytes(data)
        with pytest.raises(UserError, match=r"stopped\.wav: no samples, though the file has 19244 bytes; .*header"):
            read_audio(tmp_path / "stopped.wav")

    def test_no_samples(self, tmp_path):
        soundfile.write(tmp_path / "none.wav", np.zeros((0, 1), np.float32), 16_000)
        with pytest.raises(UserError, match=r"none\.wav: no samples; "):
            read_audio(tmp_path / "none.wav")

    def test_half_a_flac(self, tmp_path):
        write_audio(tmp_path / "good.flac", Audio(np.tile(STEREO.samples, 40), 24_000))
        data = (tmp_path / "good.flac").read_bytes()
        (tmp_path / "half.flac").write_bytes(data[: len(data) // 2])
        with pytest.raises(UserError, match=r"half\.flac.*is broken"):
            read_audio(tmp_path / "half.flac")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_samples_that_are_not_finite(self, tmp_path, value):
        samples = np.zeros((300_000, 2), np.float32)
        samples[280_000, 1] = samples[290_000, 0] = value
        soundfile.write(tmp_path / "nan.wav", samples, 16_000, subtype="FLOAT")
        with pytest.raises(UserError, match=rf"nan\.wav: a sample is {value}, at 17\.5000 s in channel 1; "):
            read_audio(tmp_path / "nan.wav")
        with pytest.raises(UserError, match=r"out\.wav: a sample is"):
            write_audio(tmp_path / "out.wav", Audio(samples.T.copy(), 16_000))

    def test_not_audio_missing_folder_and_raw(self, tmp_path):
        (tmp_path / "text.wav").write_text("hello " * 100)
        (tmp_path / "x.raw").write_bytes(bytes(1000))
        for name, problem in {
            "text.wav": "cannot be read as audio",
            "gone.wav": "no such file",
            ".": "is a folder",
            "x.raw": "raw samples",
        }.items():
            with pytest.raises(UserError, match=problem) as caught:
                read_audio(tmp_path / name)
            assert caught.value.mend
            assert caught.value.place == str(tmp_path / name)

    @pytest.mark.parametrize(("name", "problem"), [("a.m4a", r"unknown audio suffix '\.m4a'"), ("a", "no suffix")])
    def test_unknown_suffix_on_write(self, tmp_path, name, problem):
        with pytest.raises(UserError, match=rf"{problem}.*\.wav, \.flac"):
            write_audio(tmp_path / name, STEREO)

    def test_encoding_that_the_container_lacks(self, tmp_path):
        with pytest.raises(UserError, match=r"FLAC has no encoding FLOAT; use one of .*PCM_16"):
            write_audio(tmp_path / "a.flac", STEREO, encoding="FLOAT")


class TestAudio:
    def test_channels_and_mono(self):
        assert (STEREO.channels, STEREO.duration) == (2, 0.2)
        np.testing.assert_array_equal(STEREO.channel(1).samples, STEREO.samples[1:])
        np.testing.assert_allclose(STEREO.mono().samples[0], STEREO.samples.mean(axis=0))
        one = STEREO.channel(0)
        assert one.mono() is one
        with pytest.raises(UserError, match="no channel 2; there are 2"):
            STEREO.channel(2)

    def test_resampled(self):
        assert STEREO.resampled(24_000) is STEREO
        out = STEREO.resampled(16_000)
        assert (out.rate, out.samples.shape) == (16_000, (2, 3200))

    @pytest.mark.parametrize(
        ("samples", "rate"),
        [(np.zeros(5, np.float32), 1), (np.zeros((1, 5)), 1), (np.zeros((0, 5), np.float32), 1), (STEREO.samples, 0)],
    )
    def test_wrong_construction(self, samples, rate):
        with pytest.raises(ValueError):
            Audio(samples, rate)


def test_blocks_join_to_the_whole(tmp_path):
    write_audio(tmp_path / "a.wav", STEREO)
    with open_audio(tmp_path / "a.wav") as reader:
        blocks = list(reader.blocks(1000))
    assert [len(block) for block in blocks] == [1000, 1000, 1000, 1000, 800]
    np.testing.assert_array_equal(np.concatenate(blocks).T, read_audio(tmp_path / "a.wav").samples)
