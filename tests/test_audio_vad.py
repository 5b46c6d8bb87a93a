"""Speech detection: parity with silero-vad, streaming equal to offline, batches, files, wrong use."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.audio.babble import babble
from duologue.audio.energy import EnergyDetector
from duologue.audio.silero import load_silero
from duologue.audio.vad import (
    RATE,
    StreamingVad,
    VadConfig,
    detect_speech,
    detect_speech_files,
    speech_probabilities,
    speech_samples,
)
from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.base.errors import UserError

TRIM = VadConfig(min_speech_s=0.06, min_silence_s=0.05)
SPEECH, SPANS = babble(12, RATE, seed=3)


@pytest.fixture(scope="module")
def official():
    """silero-vad's model and its `get_speech_timestamps`, on one thread: its small steps crawl on a busy machine."""
    threads = torch.get_num_threads()
    from silero_vad import get_speech_timestamps, load_silero_vad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = load_silero_vad()
    torch.set_num_threads(1)
    yield model, get_speech_timestamps
    torch.set_num_threads(threads)


def official_probabilities(model, wave):
    model.reset_states()
    padded = np.pad(wave, (0, -len(wave) % 512)).reshape(-1, 512)
    with torch.no_grad():
        return np.array([model(torch.from_numpy(window), RATE).item() for window in padded])


def official_spans(official, wave, config):
    model, timestamps = official
    found = timestamps(
        torch.from_numpy(wave),
        model,
        min_speech_duration_ms=round(config.min_speech_s * 1000),
        min_silence_duration_ms=round(config.min_silence_s * 1000),
    )
    return [(span["start"], span["end"]) for span in found]


def stream(samples, rate, config, sizes):
    """Push `samples` in pieces of `sizes`, again and again."""
    vad, parts, at, i = StreamingVad(rate, config), [], 0, 0
    while at < len(samples):
        parts.append(vad.push(samples[at : at + sizes[i % len(sizes)]]))
        at += sizes[i % len(sizes)]
        i += 1
    return np.concatenate([*parts, vad.flush()])


def noise(seconds, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


class TestParity:
    @pytest.mark.parametrize(
        "wave", [SPEECH, SPEECH[:20_001], noise(1), np.zeros(5000, np.float32), SPEECH[8000:8100]], ids=range(5)
    )
    def test_probabilities_of_generated_sound(self, official, wave):
        (ours,) = speech_probabilities([wave])
        assert ours.dtype == np.float32
        assert len(ours) == math.ceil(len(wave) / 512)
        np.testing.assert_allclose(ours, official_probabilities(official[0], wave), atol=3e-5)

    def test_intervals_of_generated_sound(self, official):
        for config in (VadConfig(), TRIM):
            ours = speech_samples(SPEECH, config)
            assert ours.dtype == np.int64
            assert [tuple(span) for span in ours.tolist()] == official_spans(official, SPEECH, config)
            assert len(ours) >= 3

    def test_real_recordings(self, official, shared_data):
        paths = sorted(shared_data.rglob("*put*.wav"))
        audios = [read_audio(path) for path in paths]
        waves = [audio.resampled(RATE).samples[0] for audio in audios]
        found = detect_speech(audios)
        for wave, ours, spans in zip(waves, speech_probabilities(waves), found, strict=True):
            np.testing.assert_allclose(ours, official_probabilities(official[0], wave), atol=3e-5)
            for config in (VadConfig(), TRIM):
                assert [tuple(s) for s in speech_samples(wave, config).tolist()] == official_spans(
                    official, wave, config
                )
            np.testing.assert_array_equal(spans, np.array(official_spans(official, wave, VadConfig())) / RATE)
        assert sum(map(len, found)) > 5


class TestStreaming:
    @pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 44_100, 48_000])
    @pytest.mark.parametrize("backend", ["silero", "energy"])
    def test_equals_offline_at_every_rate(self, backend, rate):
        samples, _ = babble(8, rate, seed=rate)
        config = VadConfig(backend=backend)
        (offline,) = detect_speech([Audio(samples[None], rate)], config)
        assert len(offline) >= 2
        for sizes in ([len(samples)], [rate * 2 // 25], [1, 700, 5000, 33]):
            np.testing.assert_array_equal(stream(samples, rate, config, sizes), offline)

    @settings(max_examples=15, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=6),
        threshold=st.floats(0.02, 0.98),
        length=st.integers(0, 5 * RATE),
    )
    def test_equals_offline_whatever_the_pieces_and_the_threshold(self, sizes, threshold, length):
        for backend in ("silero", "energy"):
            config = VadConfig(backend=backend, threshold=threshold, min_speech_s=0.03, min_silence_s=0.03)
            wave = SPEECH[RATE : RATE + length]
            np.testing.assert_array_equal(stream(wave, RATE, config, sizes), speech_samples(wave, config) / RATE)

    def test_real_recordings_and_what_is_known_early(self, shared_data):
        audio = read_audio(shared_data / "personaplex" / "input_assistant.wav")
        (offline,) = detect_speech([audio])
        np.testing.assert_array_equal(stream(audio.samples[0], audio.rate, None, [1920]), offline)
        # The first interval is out long before the recording ends: at its end, plus silence, window and resampler.
        vad, heard = StreamingVad(audio.rate), 0
        for at in range(0, audio.samples.shape[1], 240):
            heard = at + 240
            if len(vad.push(audio.samples[0, at:heard])):
                break
        assert heard / audio.rate - offline[0, 1] < 0.25


class TestBatches:
    def test_a_stream_does_not_depend_on_its_neighbours_in_any_bit(self):
        # Threads split matrices differently; what is fixed is the result for a given machine and number of threads.
        waves = [babble(seconds, RATE, seed=i)[0] for i, seconds in enumerate([0.01, 3, 9.7, 0.5, 5] * 9)]
        together = speech_probabilities(waves)
        for i in (0, 1, 2, 3, 4, 30, 42):
            np.testing.assert_array_equal(speech_probabilities([waves[i]])[0], together[i])

    def test_state_carries_over_between_calls(self):
        silero = load_silero()
        windows = SPEECH[: 512 * 100].reshape(-1, 512)
        (whole,), _ = silero.score([windows], [silero.start()])
        state, parts = silero.start(), []
        for part in np.split(windows, [1, 2, 30, 30, 77]):
            (scores,), (state,) = silero.score([part], [state])
            parts.append(scores)
        np.testing.assert_array_equal(np.concatenate(parts), whole)

    def test_more_recordings_than_rows_come_back_in_order(self):
        audios = [Audio(SPEECH[None, : RATE * (i % 7) + 5], RATE) for i in range(50)]
        config = VadConfig(backend="energy")
        together = detect_speech(audios, config)
        for audio, spans in zip(audios, together, strict=True):
            np.testing.assert_array_equal(spans, detect_speech([audio], config)[0])

    def test_nothing_in_nothing_out(self):
        assert detect_speech([]) == []
        assert detect_speech_files([]) == []
        assert speech_probabilities([]) == []
        (spans,) = detect_speech([Audio(np.zeros((1, 0), np.float32), 24_000)])
        assert spans.shape == (0, 2)
        assert speech_probabilities([np.zeros(0, np.float32)])[0].shape == (0,)


class TestFiles:
    def test_equal_to_memory_per_channel(self, tmp_path):
        left, right = babble(10, 24_000, seed=1)[0], babble(10, 24_000, seed=2)[0]
        write_audio(tmp_path / "two.wav", Audio(np.stack((left, right)), 24_000))
        write_audio(tmp_path / "one.flac", Audio(right[None, :70_000], 24_000))
        two, one = detect_speech_files([tmp_path / "two.wav", str(tmp_path / "one.flac")])
        audio = read_audio(tmp_path / "two.wav")
        for i, spans in enumerate(two):
            np.testing.assert_array_equal(spans, detect_speech([audio.channel(i)])[0])
        np.testing.assert_array_equal(one[0], detect_speech([read_audio(tmp_path / "one.flac")])[0])

    def test_a_broken_file_is_named(self, tmp_path):
        (tmp_path / "bad.wav").write_text("not audio")
        with pytest.raises(UserError, match=r"bad\.wav"):
            detect_speech_files([tmp_path / "bad.wav"])


class TestEnergy:
    def test_finds_bursts_in_noise(self):
        (spans,) = detect_speech([Audio(SPEECH[None], RATE)], VadConfig(backend="energy"))
        assert len(spans) == len(SPANS)
        np.testing.assert_allclose(spans, SPANS, atol=0.06)

    def test_adapts_to_a_louder_floor(self):
        wave = np.concatenate((0.01 * noise(3), 0.3 * noise(20, seed=1)))
        (spans,) = detect_speech([Audio(wave[None], RATE)], VadConfig(backend="energy"))
        assert len(spans) == 1
        start, end = spans[0]
        assert abs(start - 3) < 0.1
        assert 4 < end < 15  # 30 dB louder: speech at first, floor after (30 - 8.4) / 3 s

    def test_faint_noise_after_digital_silence_is_not_speech(self):
        wave = np.concatenate((np.zeros(RATE * 5, np.float32), 0.01 * noise(3)))
        assert len(detect_speech([Audio(wave[None], RATE)], VadConfig(backend="energy"))[0]) == 0

    def test_scores_stay_in_range(self):
        detector = EnergyDetector()
        (scores,), _ = detector.score([SPEECH[:16_000].reshape(-1, 160)], [detector.start()])
        assert scores.min() == 0
        assert 0.5 < scores.max() <= 1


class TestWrongUse:
    def test_several_channels_are_refused(self):
        with pytest.raises(UserError, match=r"2 channels; .*mono\(\)"):
            detect_speech([Audio(np.zeros((2, 100), np.float32), RATE)])

    @pytest.mark.parametrize("wave", [np.zeros((2, 5)), np.array([0.0, np.nan]), np.array([np.inf])])
    def test_raw_samples_are_checked(self, wave):
        for function in (speech_samples, StreamingVad(24_000, VadConfig(backend="energy")).push):
            with pytest.raises(UserError, match=r"shape|NaN or infinite"):
                function(wave)

    def test_waveforms_are_checked(self):
        bad = np.full((1, 9), np.nan, np.float32)
        with pytest.raises(UserError, match="waveform 1: sample 0 is NaN"):
            detect_speech([Audio(np.zeros((1, 9), np.float32), RATE), Audio(bad, RATE)])

    @pytest.mark.parametrize(
        "options",
        [
            {"backend": "magic"},
            {"threshold": 0.0},
            {"threshold": math.nan},
            {"neg_threshold": 0.6},
            {"min_speech_s": -1.0},
            {"min_silence_s": math.inf},
            {"pad_s": math.nan},
        ],
    )
    def test_options_are_checked(self, options):
        with pytest.raises(UserError, match=f"vad.{next(iter(options))}"):
            VadConfig(**options)


def test_import_is_light_and_threads_stay_as_they_are():
    """The detector finds silero-vad's weights without its import, which would set PyTorch to one thread."""
    code = (
        "import sys, duologue.audio.vad as v; assert 'torch' not in sys.modules and 'soundfile' not in sys.modules;"
        "import torch; torch.set_num_threads(3); import numpy as np;"
        "v.speech_samples(np.zeros(9, 'f4')); assert torch.get_num_threads() == 3 and 'silero_vad' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
