"""Scores to intervals: equal to silero-vad's own post-processing, whatever the number of scores per call."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from duologue.audio.segmenter import Span, SpeechSegmenter
from duologue.audio.vad import VadConfig

WINDOW = 512


@pytest.fixture(scope="module")
def official():
    """silero-vad's function; its import sets PyTorch's number of threads, which is put back."""
    threads = torch.get_num_threads()
    from silero_vad.utils_vad import get_speech_timestamps_from_probs

    torch.set_num_threads(threads)
    return get_speech_timestamps_from_probs


def segment(config: VadConfig, scores: list[float], total: int, cuts: list[int]) -> list[Span]:
    """Push `scores` in pieces that end at `cuts`; the last window, which `total` may cut short, goes to finish."""
    segmenter = SpeechSegmenter(config.rules(WINDOW))
    spans: list[Span] = []
    whole = total // WINDOW
    edges = [0, *sorted(min(cut, whole) for cut in cuts), whole]
    for a, b in itertools.pairwise(edges):
        spans += segmenter.push(scores[a:b])
    return spans + segmenter.finish(scores[whole:], total)


def walk(rng: random.Random, n: int) -> list[float]:
    """Scores that stay on a side for a while, with some exactly on the thresholds."""
    scores, level = [], rng.random()
    for _ in range(n):
        level = rng.random() if rng.random() < 0.15 else min(1.0, max(0.0, level + rng.gauss(0, 0.15)))
        scores.append(rng.choice([0.5, 0.35]) if rng.random() < 0.03 else level)
    return scores


def test_equals_silero_on_thousands_of_random_sequences(official):
    rng = random.Random(0)
    several = 0
    for _ in range(4000):
        scores = walk(rng, rng.randrange(1, 90))
        total = len(scores) * WINDOW - rng.choice([0, 0, rng.randrange(WINDOW)])
        neg = rng.choice([None, None, 0.2, 0.5])
        speech_ms, silence_ms, pad_ms = (
            rng.choice([0, 64, 250, 320]),
            rng.choice([0, 50, 64, 100, 320]),
            rng.choice([0, 30, 45.7, 200]),
        )
        expected = official(
            scores,
            neg_threshold=neg,
            min_speech_duration_ms=speech_ms,
            min_silence_duration_ms=silence_ms,
            speech_pad_ms=pad_ms,
            audio_length_samples=total,
        )
        config = VadConfig(
            neg_threshold=neg, min_speech_s=speech_ms / 1000, min_silence_s=silence_ms / 1000, pad_s=pad_ms / 1000
        )
        cuts = [rng.randrange(len(scores) + 1) for _ in range(rng.randrange(8))]
        assert segment(config, scores, total, cuts) == [(span["start"], span["end"]) for span in expected]
        several += len(expected) > 1
    assert several > 1000  # the sequences are not trivial


def test_an_interval_comes_out_as_soon_as_it_is_certain():
    segmenter = SpeechSegmenter(VadConfig().rules(WINDOW))
    assert segmenter.push([0.9] * 20 + [0.0] * 3) == []
    # 100 ms of silence are 3.125 windows: the fifth silent window's start is the first beyond.
    assert segmenter.push([0.0]) == []
    assert segmenter.push([0.0]) == [(0, 20 * WINDOW + 480)]
    # The next start is settled, though its speech goes on; so nothing holds this one back later.
    assert segmenter.push([0.9] * 40) == []
    assert segmenter.push([0.0] * 5) == [(25 * WINDOW - 480, 65 * WINDOW + 480)]
    assert segmenter.finish([], 70 * WINDOW) == []


def test_close_neighbours_share_the_silence_between_them():
    config = VadConfig(pad_s=0.2, min_silence_s=0.1)
    scores = [0.9] * 20 + [0.0] * 6 + [0.9] * 20 + [0.0] * 20
    first, second = segment(config, scores, len(scores) * WINDOW, [23, 30])
    assert first == (0, 23 * WINDOW)
    assert second == (23 * WINDOW, 46 * WINDOW + 3200)


def test_speech_open_at_the_end_reaches_the_end():
    assert segment(VadConfig(), [0.0] * 10 + [0.9] * 20, 30 * WINDOW - 100, []) == [
        (10 * WINDOW - 480, 30 * WINDOW - 100)
    ]
