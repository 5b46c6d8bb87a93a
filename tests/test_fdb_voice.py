"""v1.5 before and after: where the answer is split, what is measured on each side, how it is averaged and tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from duologue.audio.babble import babble
from duologue.audio.wave import Audio, write_audio
from duologue.bench.fdb_voice import official_voice, paired_tests, score_before_after, split_time
from duologue.bench.results import SampleScore
from fdb_folders import make_sample, transcript

WORDS = transcript(*((f"w{i}", 0.5 * i, 0.5 * i + 0.4) for i in range(16)))


@pytest.mark.parametrize(
    ("end", "split"),
    [(1.2, 1.0), (0.95, 1.0), (3.0, 3.0), (9.0, 4.4), (-1.0, 0.0)],
)
def test_the_split_is_the_first_word_at_or_after_the_overlap_s_end(end: float, split: float) -> None:
    assert split_time(end, [(0.0, 0.4), (1.0, 1.4), (3.0, 4.4)]) == split


def test_without_words_the_split_is_the_overlap_s_end() -> None:
    assert split_time(2.5, []) == 2.5


def overlapped(root: Path, name: str, *, words: dict = WORDS, **more: object) -> Path:
    metadata = {"context_text": "", "current_turn_text": "", "timestamps": [2.0, 4.2]}
    folder = make_sample(root, name, output=words, metadata=metadata, **more)
    samples, _ = babble(8.0, 24_000, seed=len(name))
    write_audio(folder / "output.wav", Audio(samples[None], 24_000))
    return folder


def test_both_sides_are_measured(tmp_path: Path) -> None:
    overlapped(tmp_path, "1")
    for mode in ("compat", "corrected"):
        result = score_before_after(tmp_path, mode)
        sample = result.samples["1"]
        assert sample.status == "ok"
        assert sample.details["split_s"] == 4.0
        assert sample.details["pre_wpm"] == pytest.approx(8 / 3.9 * 60)
        assert 50 < sample.details["pre_mean_pitch"] < 600
        assert result.summary["post"]["mean_intensity"] == sample.details["post_mean_intensity"]


def test_a_word_that_ends_at_the_split_came_before(tmp_path: Path) -> None:
    touching = transcript(*((f"w{i}", 0.5 * i, 0.5 * i + 0.5) for i in range(16)))
    overlapped(tmp_path, "1", words=touching)
    details = score_before_after(tmp_path, "compat").samples["1"].details
    assert details["split_s"] == 4.0
    assert (details["pre_speech_dur_s"], details["post_speech_dur_s"]) == (4.0, 4.0)


def test_a_silent_side_is_zero_upstream_and_not_exercised_here(tmp_path: Path) -> None:
    overlapped(tmp_path, "1", words=transcript(("late", 6.0, 6.4), ("words", 6.5, 7.2)))
    assert score_before_after(tmp_path, "compat").samples["1"].details["pre_wpm"] == 0.0
    corrected = score_before_after(tmp_path, "corrected").samples["1"]
    assert (corrected.status, corrected.details["pre_wpm"]) == ("not_exercised", None)


def test_null_times_and_absent_files_have_their_status(tmp_path: Path) -> None:
    overlapped(tmp_path, "1", words=transcript(("open", 1.0, None)))
    (overlapped(tmp_path, "2") / "output.wav").unlink()
    result = score_before_after(tmp_path, "compat")
    assert [s.status for s in result.samples.values()] == ["invalid", "missing"]


def test_digital_silence_is_minus_200_upstream() -> None:
    assert official_voice(np.zeros(16_000, np.float32))["mean_intensity"] == pytest.approx(-200.0)


def measured(**values: float) -> SampleScore:
    return SampleScore(details={"pre_wpm": 100.0, "post_wpm": 100.0, **values})


def test_paired_tests_are_student_s_with_outliers_dropped_and_zeros_missing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(200, 20, 12)
    after = before + rng.normal(8, 5, 12)
    after[0] += 500
    pairs = [measured(pre_mean_pitch=float(b), post_mean_pitch=float(a)) for b, a in zip(before, after, strict=True)]
    samples = {str(i): s for i, s in enumerate([*pairs, measured(pre_mean_pitch=0.0, post_mean_pitch=150.0)])}
    for name in samples:
        make_sample(tmp_path, name, content_tag={"behaviour": ["C_RESPOND"]})
    make_sample(tmp_path, "other", content_tag={"behaviour": ["C_RESUME"]})
    samples["other"] = measured(pre_mean_pitch=1.0, post_mean_pitch=999.0)
    (test,) = [t for t in paired_tests(tmp_path, samples) if t["test"] == "pre_vs_post:mean_pitch"]
    assert (test["n"], test["n_dropped"]) == (11, 2)
    assert test["p"] == pytest.approx(stats.ttest_rel(after[1:], before[1:]).pvalue)
    assert test["p_holm"] >= test["p"]
