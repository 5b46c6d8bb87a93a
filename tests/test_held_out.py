"""Held-out segments are measured while a policy learns, in units that can be added, and choose the best model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from duologue.base.errors import UserError
from duologue.base.runs import RunFolder
from duologue.engine.sampling import Sampling
from duologue.train import held_out
from duologue.train.align_learner import AlignLearner
from duologue.train.held_out import HeldOut, HeldOutScores
from duologue.train.loop import LoopConfig, train
from duologue.train.parallel import World
from duologue.train.rewarding import AtOnce
from duologue.train.rollouts import record
from duologue.train.segment_scores import Scored
from test_align_learner import quiet, settings
from test_rollouts import bundle, segment

ROLLER: Any = None


def scored(axis: str, *rewards: float) -> list[Scored]:
    return [Scored(axis, str(i), 0, {f"reward_{axis}": value}) for i, value in enumerate(rewards)]


def playing(monkeypatch: pytest.MonkeyPatch, *rounds: list[Scored]) -> None:
    """Let the rounds be what is earned, one after another."""
    given: Iterator[list[Scored]] = iter(rounds)
    monkeypatch.setattr(held_out, "score_segments", lambda *_, **__: next(given))


def test_axes_add_up_in_spreads_of_the_first_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds less of waiting are as much as half of a backchannel, where those are the first model's spreads."""
    playing(
        monkeypatch,
        scored("turn_taking", -5.0, -1.0) + scored("backchannel", 0.0, 1.0),
        scored("turn_taking", -3.0, -1.0) + scored("backchannel", 0.5, 1.0),
        scored("turn_taking", -3.0, -1.0) + scored("backchannel", 0.0, 0.5),
    )
    scores = HeldOutScores(HeldOut(segments={}), Sampling())
    scores.begin(ROLLER)
    row, better = scores.measure(ROLLER)
    assert row == {
        "reward_turn_taking": -2.0, "first_turn_taking": -3.0, "z_turn_taking": 0.5,
        "reward_backchannel": 0.75, "first_backchannel": 0.5, "z_backchannel": 0.5, "z": 0.5,
    }  # fmt: skip
    assert better
    row, better = scores.measure(ROLLER)
    assert row["z"] == 0
    assert not better


def test_an_axis_on_which_the_first_model_never_fails_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    playing(monkeypatch, scored("pause", 0.0, 0.0), scored("pause", 0.0, -1.0))
    scores = HeldOutScores(HeldOut(segments={}), Sampling())
    scores.begin(ROLLER)
    assert scores.measure(ROLLER)[0]["z"] == -5.0


def test_what_was_best_is_known_after_a_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [scored("pause", -1.0, 0.0), scored("pause", 0.0, 0.0), scored("pause", -0.5, 0.0)]
    playing(monkeypatch, *rounds)
    scores, again = (HeldOutScores(HeldOut(segments={}), Sampling()) for _ in range(2))
    scores.begin(ROLLER)
    assert scores.measure(ROLLER)[1]
    again.restore(scores.state())
    assert again.begun
    assert not again.measure(ROLLER)[1]


@dataclass(frozen=True)
class Other(World):
    """One of two processes; what the other says is given."""

    says: list[Scored] = field(default_factory=list)

    def every(self, said: object) -> list[Any]:
        return [said, self.says]


def test_processes_share_the_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scored("pause", -1.0, 0.0, -1.0)
    playing(monkeypatch, whole[:2], whole[:2])
    scores = HeldOutScores(HeldOut(segments={}), Sampling(), Other(0, 2, says=whole[2:]))
    scores.begin(ROLLER)
    assert scores.measure(ROLLER)[0]["reward_pause"] == pytest.approx(-2 / 3)


def learner(publish: Any = None, places: Sequence[float] = (3.0,)) -> AlignLearner:
    model = bundle()
    learned = {"pause": record(model, [segment(1.0, 2.0), segment(1.0, 2.4, "t")])}
    checked = {"pause": record(model, [segment(0.4, end, f"dev {end}") for end in places])}
    how = settings(4, updates=1)
    return AlignLearner(
        model, learned, how, seed=1, reward=AtOnce(quiet), publish=publish or (lambda run, name: None),
        held_out=HeldOut(segments=checked, context_s=0.4),
    )  # fmt: skip


def test_the_first_model_scores_nothing_and_its_numbers_come_again() -> None:
    """Rollouts longer than those that are learned from have room."""
    one = learner()
    one._checks.begin(one.roller)  # type: ignore[union-attr]
    first, again = one.validate(), one.validate()
    assert first == again
    assert (first["z"], first["reward_pause"]) == (0.0, first["first_pause"])


def test_the_best_model_is_the_one_that_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written when held-out rewards are best, whatever training rewards say, and never between measurements."""
    playing(monkeypatch, *(scored("pause", x, 0.0) for x in (-1.0, -0.5, 0.0, -1.0)))
    written: list[tuple[str, int]] = []
    steps = 0

    def publish(run: RunFolder, name: str) -> None:
        written.append((name, steps))

    one = learner(publish)
    take = one.step

    def step(number: int) -> Any:
        nonlocal steps
        steps = number + 1
        return take(number)

    one.step = step  # type: ignore[method-assign]
    with RunFolder.create(tmp_path / "run", "align", settings()) as run:
        train(one, run, LoopConfig(steps=3, log_every=1, validate_every=1, save_minutes=60))
        rows = run.rows()
    assert [name for name, at in written if at == 3] == ["model"]
    assert [at for name, at in written if name == "best"] == [1, 2]
    assert [row["held_out_reward_pause"] for row in rows if "held_out_z" in row] == [-0.25, 0.0, -0.5]


def test_a_killed_run_measures_against_the_same_first_model(tmp_path: Path) -> None:
    loop = LoopConfig(steps=3, log_every=1, validate_every=1, save_minutes=0.0)
    kept = ("step", "held_out_z", "held_out_first_pause")
    with RunFolder.create(tmp_path / "whole", "align", settings()) as run:
        train(learner(), run, loop)
        whole = [{name: row[name] for name in kept} for row in run.rows() if "held_out_z" in row]
    with RunFolder.create(tmp_path / "cut", "align", settings()) as run:
        train(learner(), run, replace(loop, steps=2))
    with RunFolder.create(tmp_path / "cut", "align", settings(), resume=True) as run:
        train(learner(), run, loop)
        assert [{name: row[name] for name in kept} for row in run.rows() if "held_out_z" in row] == whole


def test_what_is_learned_from_is_not_held_out() -> None:
    model = bundle()
    parts = {"pause": record(model, [segment(1.0, 2.0)])}
    with pytest.raises(UserError, match="--dev: s is learned from too"):
        AlignLearner(
            model, parts, settings(), seed=1, reward=AtOnce(quiet), publish=lambda run, name: None,
            held_out=HeldOut(segments=parts),
        )  # fmt: skip
