"""`duologue demo` end to end, small, and the sample segments that it learns from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duologue.audio.wave import Audio
from duologue.axes.proxy import Proxy
from duologue.base.command import Group, Verb, run
from duologue.base.config import overridden
from duologue.base.files import read_json
from duologue.bench import before_after
from duologue.bench.before_after import Trial, further_metrics, put_to, understood
from duologue.bench.metrics import METRICS, verdict
from duologue.bench.outcome_report import trial_of
from duologue.bench.segment_scores import Difference, played_rows
from duologue.corpus.sample import sample_segments
from duologue.demo import DemoConfig, part_of
from duologue.dialogue.scenes import Scene
from duologue.dialogue.timeline import Timeline, Track, Word
from duologue.engine.bundle import load
from duologue.engine.sampling import Sampling
from duologue.train.align import read_segments
from duologue.train.align_recipes import nano_demo
from duologue.train.align_settings import RewardSettings
from duologue.train.rollouts import Recorded, Roller, Rollout
from duologue.train.segment_scores import Scored

VERBS = Group("x", {"demo": Verb("x", "duologue.demo:main")})
SMALL = [
    "--threads", "1", "--part", "dev", "--device", "cpu", "--held-out", "2", "--scenarios", "1", "--shown", "1",
    "--set", "steps=1",
    "rollouts.groups=2", "rollouts.group=4", "rollouts.slots=8", "rollouts.context_s=[1, 1]", "update.rows=8",
]  # fmt: skip


def demo(*arguments: object) -> int:
    return run(VERBS, ["demo", *map(str, arguments)], version="0")


def test_nano_is_aligned_and_what_changed_is_written_down(tmp_path: Path) -> None:
    out, told = tmp_path / "run", tmp_path / "x.json"
    assert demo("--output", out, "--json", told, *SMALL, "rollouts.axes=[turn_taking]", "rewards.proxy=true") == 0
    result = read_json(told)
    assert set(result) >= {
        "seconds", "segments", "part", "before", "after", "difference", "reference_agents", "listening", "content",
        "comparisons",
    }  # fmt: skip
    assert (
        set(result["before"])
        == set(result["after"])
        == set(result["difference"])
        >= {"reward_pause", "pause_take_over", "reward_turn_taking", "hearing_pause", "pause_over_talk"}
    )
    assert result["part"] == "dev"
    assert "human" in result["reference_agents"]
    assert set(result["listening"]["after"]) >= {"pause", "turn_taking"}
    assert played_rows(read_json(out / "scored.json")["segments"])
    mean, low, high = result["difference"]["reward_pause"]
    assert mean == pytest.approx(result["after"]["reward_pause"] - result["before"]["reward_pause"])
    assert low <= mean <= high
    assert result["segments"] > 32
    assert read_json(out / "result.json") == result
    assert (out / "report.html").stat().st_size > 50_000
    assert load(out / "model", device="cpu").config.lineage[-1].what == "Alignment by Duologue"
    (row,) = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    assert not math.isnan(row["reward_judge"])


def test_every_segment_is_scored_once_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    nano, how = load("nano", device="cpu"), overridden(nano_demo(), ("rollouts.group=4", "rollouts.slots=4"))
    found = read_segments(sample_segments("dev"), ("pause", "turn_taking"), nano, tmp_path)
    few = {axis: shortest(x, 2) for axis, x in found.items()}
    trial = Trial(
        segments=few, settings=how, sampling=nano.config.sampling, context_s=0.0, scenarios=0, seconds=10.0, seed=1
    )
    outcome = put_to(trial, nano, nano.lm)
    assert [s.axis for s in outcome.scored] == ["pause", "pause", "turn_taking", "turn_taking"]
    for s in outcome.scored:
        assert {f"reward_{s.axis}", "words_heard"} <= set(s.values)
        for name in ("proxy_reward", "content_pmi", "sound_log_likelihood"):
            assert (name in s.values) == (s.axis == "turn_taking")
        assert s.values.get("sound_log_likelihood", 0.0) <= 0 or math.isnan(s.values["sound_log_likelihood"])


def test_models_are_measured_by_one_unit_with_their_users_and_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the recipe rewards."""
    nano, how = (
        load("nano", device="cpu"),
        overridden(nano_demo(), ("rollouts.slots=4", "rollouts.group=4", "rewards.rules=literal")),
    )
    assert how.rewards.rules == "literal"
    found = read_segments(sample_segments("dev"), ("pause",), nano, tmp_path)
    few = {axis: shortest(x, 3) for axis, x in found.items()}
    asked: list[tuple[Mapping[str, Sequence[Recorded]], RewardSettings]] = []

    def score(roller: Roller, segments: Any, sampling: Sampling, rewards: RewardSettings, **_: Any) -> list[Scored]:
        asked.append((segments, rewards))
        return []

    monkeypatch.setattr(before_after, "score_segments", score)
    put_to(trial_of(few, how, nano, None, context_s=0.0, scenarios=0, seed=0), nano, nano.lm)
    (own, rules), (other, other_rules) = asked
    assert rules == other_rules == RewardSettings(rules="one_unit")
    for r, o in zip(own["pause"], other["pause"], strict=True):
        assert o.segment is r.segment
        assert not torch.equal(o.user, r.user)


@pytest.mark.parametrize(
    ("sound", "share"), [((1.08, 1.3), 1.0), ((1.0, 1.3), 1.0), ((1.4, 1.9), 0.0), ((0.2, 0.9), 0.0)]
)
def test_a_written_word_is_heard_in_its_frame_or_just_after_it(sound: tuple[float, float], share: float) -> None:
    agent = Track.of([sound], (Word("yeah", 1.0, 1.08),))
    scene = Scene(id="x", timeline=Timeline(agent, Track.of([]), 3.0), start=0.0, end=3.0)
    rollout = Rollout(torch.zeros(2, 3), torch.ones(3, dtype=torch.bool), scene, Sampling())
    assert further_metrics("pause", rollout, Proxy())["words_heard"] == share


def test_speech_agrees_with_words_as_far_as_a_recogniser_hears_them() -> None:
    class Whisper:
        def transcribe(self, audios: Sequence[Audio]) -> list[tuple[Word, ...]]:
            assert [a.samples.shape[1] for a in audios] == [2000, 2000]  # from the scored span's beginning
            return [tuple(Word(w, 0.0, 0.1) for w in ["good", "morning", "two", "you"]), ()]

    def played(text: str) -> Rollout:
        said = tuple(Word(w, 1.0 + 0.1 * i, 1.1 + 0.1 * i) for i, w in enumerate(text.split()))
        timeline = Timeline(Track.of([], (Word("before", 0.2, 0.3), *said)), Track.of([]), 3.0)
        sound = np.zeros(3000, np.float32), 1000
        scene = Scene(id="x", timeline=timeline, start=1.0, end=3.0, agent_audio=lambda: sound)
        return Rollout(torch.zeros(2, 3), torch.ones(3, dtype=torch.bool), scene, Sampling())

    right, nothing = understood([played("Good morning to you"), played("")], Whisper())
    assert right == 0.75
    assert math.isnan(nothing)


def shortest(found: Sequence[Recorded], count: int) -> list[Recorded]:
    return sorted(found, key=lambda r: r.segment.end - r.segment.start)[:count]


def test_another_codec_needs_a_corpus_with_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo("--output", tmp_path / "run", "--model", "random:tiny", *SMALL) == 2
    assert "another codec than the shipped segments" in capsys.readouterr().err


def test_what_is_reported_is_of_the_part_that_nothing_was_tuned_on() -> None:
    assert part_of(DemoConfig()) == "test"
    assert part_of(DemoConfig(part="dev")) == "dev"
    assert part_of(DemoConfig(corpus=Path("x"))) == "held-out part of the corpus"


def test_a_corpus_has_no_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo("--output", tmp_path / "run", "--corpus", tmp_path, *SMALL) == 2
    assert "a corpus, which has no parts" in capsys.readouterr().err


def test_what_is_optimised_or_held_is_never_called_better() -> None:
    up = Difference(0, 1, 1.0, 0.5, 1.5, 9)
    assert verdict("proxy_reward", up) == verdict("sound_log_likelihood", up) == "changed"
    assert "content" not in METRICS["proxy_reward"][0]
    assert not [name for name in METRICS if name == "content_proxy"]


def test_a_verdict_needs_an_interval_without_0_and_knows_which_way_is_better() -> None:
    up, unclear = Difference(0, 1, 1.0, 0.5, 1.5, 9), Difference(0, 1, 1.0, -0.5, 2.5, 9)
    assert verdict("reward_pause", up) == "better"
    assert verdict("pause_take_over", up) == "worse"
    assert verdict("backchannel_per_minute", up) == "changed"
    assert verdict("reward_pause", unclear) == ""
    assert verdict("reward_pause", Difference(0, 1, 1.0, math.nan, math.nan, 1)) == ""
    assert all(len(label) < 40 for label, _, _ in METRICS.values())
