"""`duologue describe`: recordings in, statistics and a page out; the user's mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.audio.babble import babble
from duologue.audio.vad import VadConfig, detect_speech
from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.base.errors import UserError
from duologue.bench.describe import DescribeConfig, main
from duologue.dialogue.intervals import Intervals, merge

RATE = 16_000


def speaker(seconds: float, seed: int) -> np.ndarray:
    return babble(seconds, RATE, seed)[0]


def save(path: Path, *channels: np.ndarray) -> Path:
    write_audio(path, Audio(np.stack(channels).astype(np.float32), RATE))
    return path


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    return save(tmp_path / "talk.wav", speaker(20, 1), speaker(20, 5))


def described(tmp_path: Path, *files: Path, **options: Any) -> dict[str, Any]:
    config = DescribeConfig(files=files, out=tmp_path / f"run-{len(list(tmp_path.iterdir()))}", **options)
    assert main(config) == 0
    assert config.out is not None
    found: dict[str, Any] = json.loads((config.out / "result.json").read_text())
    assert (config.out / "report.html").is_file() == config.report
    return found


def two_sided(path: Path, *sides: list[tuple[str, float, float]]) -> Path:
    spoken = [
        {"speaker": side, "item": [{"text": t, "timestamp": [a, b]}]}
        for side, words in enumerate(sides)
        for t, a, b in words
    ]
    path.write_text(json.dumps(spoken))
    return path


def even(text: str, start: float, end: float) -> list[tuple[str, float, float]]:
    words = text.split()
    edges = np.linspace(start, end, len(words) + 1).round(3).tolist()
    return list(zip(words, edges[:-1], edges[1:], strict=True))


# ---- agreement with pympi ----------------------------------------------------------------------------------------


def pympi_counts(units: list[Intervals]) -> dict[str, int]:
    """Events by pympi on the same IPUs, in whole milliseconds, as its tiers hold them."""
    eaf = pytest.importorskip("pympi").Elan.Eaf()
    for tier, x in zip("AB", units, strict=True):
        eaf.add_tier(tier)
        for start, end in np.round(x * 1000).astype(int).tolist():
            eaf.add_annotation(tier, start, end, "")
    kinds = [kind[0] for *_, kind in eaf.get_gaps_and_overlaps2("A", "B")]
    return {k: kinds.count(k) for k in "PGOW"}


def our_counts(found: dict[str, Any]) -> dict[str, int]:
    names = {"P": "pause", "G": "gap", "O": "overlap", "W": "within"}
    return {k: found["pooled"]["both"][f"heldner_edlund_{name}"]["n"] for k, name in names.items()}


def test_events_in_synthetic_sound_are_those_that_pympi_finds(tmp_path: Path, stereo: Path) -> None:
    audio = read_audio(stereo)
    speech = detect_speech([audio.channel(0), audio.channel(1)], VadConfig())
    found = described(tmp_path, stereo, report=False)
    expected = pympi_counts([merge(x, 0.2) for x in speech])
    assert our_counts(found) == expected
    assert min(expected.values()) > 0


@pytest.mark.parametrize("task", ["smooth_turn_taking", "user_interruption", "pause_handling"])
def test_events_in_real_recordings_are_those_that_pympi_finds(tmp_path: Path, shared_data: Path, task: str) -> None:
    folder = shared_data / "full-duplex-bench" / f"{task}_example" / "1"
    if not folder.is_dir():
        pytest.skip("this recording is not here")
    files = folder / "input.wav", folder / "output.wav"
    found = described(tmp_path, *files, pair=True, agent="1", report=False)
    speech = detect_speech([read_audio(f) for f in reversed(files)], VadConfig())
    units = [merge(x, 0.2) for x in speech]
    assert our_counts(found) == pympi_counts(units)
    both = found["pooled"]["both"]
    # The merged line counts silences, pympi changes of speaker: the same but where edges coincide.
    assert abs(both["pause"]["n"] - both["heldner_edlund_pause"]["n"]) <= 1
    assert abs(both["gap"]["n"] - both["heldner_edlund_gap"]["n"]) <= 1
    assert found["pooled"]["agent"]["ipu"]["n"] == len(units[0])


# ---- channels, roles, words --------------------------------------------------------------------------------------


def test_sides_are_numbered_until_somebody_says_who_the_agent_is(tmp_path: Path, stereo: Path) -> None:
    plain = described(tmp_path, stereo, vad="energy", report=False)
    left = described(tmp_path, stereo, vad="energy", report=False, agent="left")
    right = described(tmp_path, stereo, vad="energy", report=False, agent="right")
    assert plain["sides"] == ["channel 0", "channel 1"]
    assert any("no roles" in note for note in plain["notes"])
    assert plain["pooled"]["channel 0"] == left["pooled"]["agent"] == right["pooled"]["user"]
    assert plain["pooled"]["channel 1"] == left["pooled"]["user"] == right["pooled"]["agent"]
    assert left["pooled"]["agent"]["ipu"]["p50_s"] != left["pooled"]["user"]["ipu"]["p50_s"]
    assert left["pooled"]["seconds_per_min"].keys() >= {"agent speaks", "user speaks"}


def test_two_mono_files_are_the_same_conversation_as_their_stereo(tmp_path: Path, stereo: Path) -> None:
    files = save(tmp_path / "a.wav", speaker(20, 1)), save(tmp_path / "b.wav", speaker(20, 5))
    apart = described(tmp_path, *files, pair=True, vad="energy", report=False)
    together = described(tmp_path, stereo, vad="energy", report=False)
    assert apart["sides"] == ["first file", "second file"]
    assert apart["pooled"]["both"] == together["pooled"]["both"]


def test_a_transcript_beside_the_sound_makes_backchannels_lexical(tmp_path: Path, stereo: Path) -> None:
    without = described(tmp_path, stereo, vad="energy", report=False)
    assert without["pooled"]["form_rule"] == "duration"
    assert any("not by words" in note for note in without["notes"])
    agent = even("we went up to the lake", 1.0, 4.0) + even("and it was cold", 4.6, 7.0)
    user = [("uh-huh", 4.1, 4.4), *even("which lake was that", 7.4, 9.0), ("yeah", 20.0, 20.3)]
    two_sided(stereo.with_suffix(".json"), agent, user)
    found = described(tmp_path, stereo, speech="words", agent="left")
    assert found["pooled"]["form_rule"] == "lexical"
    assert found["pooled"]["user"]["backchannel"]["n"] == 1
    assert found["pooled"]["user"]["backchannel_delay"]["p50_s"] == pytest.approx(0.1)
    assert found["pooled"]["user"]["floor_transfer_offset"]["p50_s"] == pytest.approx(0.4)
    swapped = described(tmp_path, stereo, speech="words", agent="right", report=False)
    assert swapped["pooled"]["agent"]["backchannel"]["n"] == 1


def test_named_transcripts_of_pairs_go_to_their_sides(tmp_path: Path) -> None:
    files = save(tmp_path / "a.wav", speaker(12, 1)), save(tmp_path / "b.wav", speaker(12, 2))
    texts = tmp_path / "one.json", tmp_path / "two.json"
    for path, words in zip(texts, (even("so we went there", 1, 4), even("oh did you go", 4.5, 6)), strict=True):
        path.write_text(json.dumps([{"word": t, "start": a, "end": b} for t, a, b in words]))
    found = described(tmp_path, *files, pair=True, words=texts, speech="words", agent="1", report=False)
    assert found["pooled"]["agent"]["floor_transfer_offset"]["p50_s"] == pytest.approx(0.5)
    assert found["pooled"]["user"]["floor_transfer_offset"]["n"] == 0


def test_a_neighbour_that_is_no_transcript_is_passed_over_and_named(
    tmp_path: Path, stereo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stereo.with_suffix(".json").write_text('{"licence": "CC0"}')
    found = described(tmp_path, stereo, vad="energy", report=False)
    assert "not used as a transcript" in found["recordings"][0]["warnings"][0]
    assert "not used as a transcript" in capsys.readouterr().out


def test_channels_that_are_equal_or_silent_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = speaker(8, 3)
    same = save(tmp_path / "same.wav", one, one * 0.5)
    mute = save(tmp_path / "mute.wav", one, np.zeros_like(one))
    good = save(tmp_path / "good.wav", one, speaker(8, 4))
    found = described(tmp_path, same, mute, good, vad="energy")
    first, second, third = (r["warnings"] for r in found["recordings"])
    assert "same sound" in first[0]
    assert "channel 1 is silent" in second[0]
    assert third == []
    printed = capsys.readouterr().out
    assert "warning: same.wav: both channels hold the same sound" in printed
    assert "warning: mute.wav: channel 1 is silent" in printed


def test_several_recordings_are_pooled_by_their_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = save(tmp_path / "long.wav", speaker(30, 5), speaker(30, 6))
    short = save(tmp_path / "short.wav", speaker(10, 7), speaker(10, 8))
    found = described(tmp_path, long, short, vad="energy", json=tmp_path / "copy.json")
    per_file = [r["both"]["ipu"]["n"] for r in found["recordings"]]
    pooled = found["pooled"]
    assert pooled["both"]["ipu"]["n"] == sum(per_file)
    assert pooled["minutes"] == pytest.approx(40 / 60)
    assert pooled["both"]["ipu"]["per_min"] == pytest.approx(sum(per_file) * 60 / 40)
    assert json.loads((tmp_path / "copy.json").read_text()) == found
    printed = capsys.readouterr().out
    assert "too few events" in printed
    assert "needs words" in printed
    assert "short.wav" in printed


def test_a_wider_unit_and_the_other_rules_are_honoured(tmp_path: Path, stereo: Path) -> None:
    narrow = described(tmp_path, stereo, vad="energy", report=False)
    wide = described(tmp_path, stereo, vad="energy", report=False, ipu=0.6)
    assert wide["pooled"]["both"]["ipu"]["n"] < narrow["pooled"]["both"]["ipu"]["n"]
    literal = described(tmp_path, stereo, vad="energy", rules="alignment")
    assert literal["pooled"]["both"]["alignment_utterance"]["n"] > 0
    assert "turn" not in literal["pooled"]["both"]


# ---- mistakes ----------------------------------------------------------------------------------------------------


def test_mistakes_end_in_one_line_that_says_what_to_give(tmp_path: Path, stereo: Path) -> None:
    mono = save(tmp_path / "mono.wav", speaker(3, 1))
    three = save(tmp_path / "three.wav", *(speaker(3, s) for s in range(3)))
    transcript = two_sided(tmp_path / "t.json", even("we went there", 0, 1), [])
    cases: list[tuple[tuple[Path, ...], dict[str, Any], str]] = [
        ((), {}, "no recording"),
        ((mono,), {}, "two mono files with --pair"),
        ((three,), {}, "3 channels"),
        ((mono, mono, mono), {"pair": True}, "not pairs"),
        ((mono, stereo), {"pair": True}, "leave out --pair"),
        ((stereo,), {"words": (transcript, transcript)}, "2 transcripts for 1 files"),
        ((stereo,), {"speech": "words"}, "transcript of both sides"),
        ((tmp_path / "absent.wav",), {}, "absent.wav"),
        ((stereo,), {"ipu": -1.0}, "--ipu"),
    ]
    for i, (files, options, message) in enumerate(cases):
        with pytest.raises(UserError, match=message.replace("(", r"\(")) as caught:
            main(DescribeConfig(files=files, out=tmp_path / f"mistake-{i}", vad="energy", **options))
        assert "\n" not in str(caught.value)
