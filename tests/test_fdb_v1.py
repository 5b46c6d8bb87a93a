"""Full-Duplex-Bench v1 over folders: the official samples, the three modes, and folders broken in every way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from duologue.bench.fdb_v1 import MODES, TASKS, Options, read_reference, score_task
from duologue.bench.hearing import hear, official_segments
from duologue.bench.results import TaskScore
from fdb_folders import broken, make_sample, transcript, turn_taking, write_wave


def score(root: Path, task, **options) -> TaskScore:
    chosen = Options(**options)
    recordings = hear(sorted(root.glob("*/*put.wav"))) if chosen.mode == "corrected" else {}
    return score_task(root, task, chosen, recordings)


@pytest.fixture
def fdb(shared_data: Path) -> Path:
    return shared_data / "full-duplex-bench"


class TestOfficialSamples:
    def test_pause_handling_takes_over(self, fdb: Path) -> None:
        result = score(fdb / "pause_handling_example", "pause_handling", mode="compat")
        assert result.samples["1"].take_over == 1
        assert result.summary["take_over_rate"] == 1.0

    def test_smooth_turn_taking_latency(self, fdb: Path) -> None:
        result = score(fdb / "smooth_turn_taking_example", "smooth_turn_taking", mode="compat")
        assert result.samples["1"].take_over == 1
        assert result.samples["1"].latency_s == pytest.approx(1.35, abs=1e-9)

    def test_user_interruption_reads_the_judge_s_file(self, fdb: Path) -> None:
        result = score(fdb / "user_interruption_example", "user_interruption", mode="compat")
        assert (result.samples["1"].take_over, result.samples["1"].judge_score) == (1, 4.0)
        assert result.samples["1"].latency_s == pytest.approx(17.224 - 13.144, abs=1e-9)
        assert result.summary["judge_score"] == 4.0

    def test_backchannel_distance_and_frequency(self, fdb: Path) -> None:
        reference = read_reference(fdb / "icc_gt_distribution.json")
        result = score(fdb / "pause_handling_example", "backchannel", mode="compat", reference=reference)
        assert result.samples["1"].jsd == pytest.approx(0.4125986075436097, abs=1e-9)
        assert result.samples["1"].frequency == pytest.approx(2 / 4.7, abs=1e-9)
        assert result.samples["1"].details["segments"] == [[1.6, 2.0], [2.2, 4.7]]

    def test_the_interrupted_agent_in_corrected_mode(self, fdb: Path) -> None:
        sample = score(fdb / "user_interruption_example", "user_interruption").samples["1"]
        assert (sample.status, sample.take_over, sample.details["talked_through"]) == ("ok", 1, False)
        assert 0 < sample.details["stop_latency_s"] < 0.5
        assert sample.latency_s == pytest.approx(17.224 - 13.144, abs=0.1)
        assert sample.details["evidence"] == "speech from output.wav, words from output.json"


DIALOGUES = Path(__file__).parents[1] / "src" / "duologue" / "bench" / "dialogues"


def test_official_segments_round_to_a_tenth_but_end_with_the_file(tmp_path: Path) -> None:
    from duologue.audio.wave import Audio, read_audio, write_audio

    whole = read_audio(DIALOGUES / "pause_handling" / "2" / "output.wav")
    write_audio(tmp_path / "cut.wav", Audio(whole.samples[:, : int(4.66 * whole.rate)], whole.rate))
    segments, duration = official_segments(tmp_path / "cut.wav")
    assert segments[-1][1] == duration == pytest.approx(4.66)
    assert all(start == round(start, 1) for start, _ in segments)


class TestModes:
    def test_2025_forgets_backchannels_at_a_take_over(self, tmp_path: Path, fdb: Path) -> None:
        reference = read_reference(fdb / "icc_gt_distribution.json")
        older = score(fdb / "pause_handling_example", "backchannel", mode="compat-2025", reference=reference)
        assert (older.samples["1"].frequency, older.samples["1"].jsd) == (0.0, 1.0)

    def test_an_early_start_is_perfect_in_compat_and_negative_in_corrected(self, tmp_path: Path) -> None:
        words = transcript(*((f"w{i}", 4.0 + i, 4.9 + i) for i in range(4)))
        make_sample(tmp_path, "1", output=words, turn_taking=turn_taking(5.0))
        assert score(tmp_path, "smooth_turn_taking", mode="compat").samples["1"].latency_s == 0.0
        corrected = score(tmp_path, "smooth_turn_taking")
        assert corrected.samples["1"].latency_s == pytest.approx(-1.0)
        assert corrected.summary["early_start_rate"] == 1.0

    def test_null_ends_raise_upstream_so_compat_says_invalid(self, tmp_path: Path) -> None:
        make_sample(tmp_path, "1", output=transcript(("yes", 5.2, None)), turn_taking=turn_taking(5.0))
        make_sample(tmp_path, "2", output=transcript(("yes", 5.2, 6.4)), turn_taking=turn_taking(5.0))
        result = score(tmp_path, "smooth_turn_taking", mode="compat")
        assert [s.status for s in result.samples.values()] == ["invalid", "ok"]
        assert (result.summary["take_over_rate"], result.summary["n"], result.summary["n_scored"]) == (1.0, 2, 1)

    def test_nobody_takes_the_turn(self, tmp_path: Path) -> None:
        make_sample(tmp_path, "1", output=transcript(), turn_taking=turn_taking(5.0))
        for mode in MODES:
            result = score(tmp_path, "smooth_turn_taking", mode=mode)
            assert (result.summary["take_over_rate"], result.summary["latency_s"]) == (0.0, None)

    def test_every_output_json_counts_in_compat_as_upstream(self, tmp_path: Path) -> None:
        make_sample(tmp_path, "1", output=transcript(), clean_output=transcript(("a", 0.0, 3.0)))
        assert score(tmp_path, "pause_handling", mode="compat").summary["take_over_rate"] == 0.5

    def test_lost_samples_stay_in_the_corrected_denominator(self, tmp_path: Path) -> None:
        talk = transcript(*((f"w{i}", 5.2 + i, 6.1 + i) for i in range(4)))
        make_sample(tmp_path, "1", output=talk, turn_taking=turn_taking(5.0))
        make_sample(tmp_path, "2", turn_taking=turn_taking(5.0))
        make_sample(tmp_path, "3", output="{", turn_taking=turn_taking(5.0))
        summary = score(tmp_path, "smooth_turn_taking").summary
        assert summary["counts"] == {"ok": 1, "missing": 1, "invalid": 1, "not_exercised": 0}
        assert summary["take_over_rate"] == pytest.approx(1 / 3)
        assert summary["take_over_rate_range"] == [pytest.approx(1 / 3), 1.0]

    def test_folders_that_are_no_number_are_no_backchannel_samples_upstream(self, tmp_path: Path) -> None:
        for name in ("1", "notes"):
            folder = make_sample(tmp_path, name, output=transcript())
            write_wave(folder / "output.wav", np.zeros(16000), 16000)
        assert list(score(tmp_path, "backchannel", mode="compat").samples) == ["1"]
        assert list(score(tmp_path, "backchannel").samples) == ["1", "notes"]


class TestSampleRates:
    """The same content at 16, 24 and 48 kHz."""

    @pytest.fixture
    def at_rates(self, tmp_path: Path) -> dict[int, Path]:
        from duologue.audio.wave import read_audio, write_audio

        source = DIALOGUES / "backchannel" / "1" / "output.wav"
        roots = {}
        for rate in (16_000, 24_000, 48_000):
            folder = make_sample(tmp_path / str(rate), "1", output=(source.parent / "output.json").read_text())
            for name in ("output.wav", "input.wav"):
                write_audio(folder / name, read_audio(source.parent / name).mono().resampled(rate))
            roots[rate] = tmp_path / str(rate)
        return roots

    def test_corrected_does_not_depend_on_the_rate(self, at_rates: dict[int, Path]) -> None:
        reference = {"1": [1.0] * 40 + [0.0] * 20}
        scores = [score(root, "backchannel", reference=reference).samples["1"] for root in at_rates.values()]
        assert scores[0].details["backchannels"]
        for other in scores[1:]:
            assert other.take_over == scores[0].take_over
            assert other.frequency == pytest.approx(scores[0].frequency, rel=1e-3)
            assert other.jsd == pytest.approx(scores[0].jsd, abs=1e-9)
            np.testing.assert_allclose(other.details["backchannels"], scores[0].details["backchannels"], atol=0.033)

    def test_compat_stretches_time_as_upstream_does(self, at_rates: dict[int, Path]) -> None:
        heard = {
            r: score(p, "backchannel", mode="compat").samples["1"].details["segments"] for r, p in at_rates.items()
        }
        assert heard[16_000]
        first = heard[16_000][0][0]
        assert heard[24_000][0][0] == pytest.approx(1.5 * first, abs=0.5)
        assert heard[24_000][0][0] > 1.3 * first


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", TASKS)
def test_two_hundred_broken_samples_have_two_hundred_statuses(tmp_path: Path, task, mode) -> None:
    broken(tmp_path, 200)
    result = score(tmp_path, task, mode=mode, reference={str(i): [1.0, 2.0] for i in range(200)})
    assert len(result.samples) == 200
    for sample in result.samples.values():
        assert sample.why
        assert "\n" not in sample.why
    bad = sum(result.summary["counts"][s] for s in ("missing", "invalid"))
    assert bad >= 100
    json.dumps(result.to_json(), allow_nan=False)
