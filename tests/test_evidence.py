"""What two models' outcomes say, on shipped segments that reference agents played in their place."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch

from duologue.axes import AXES
from duologue.axes.proxy import Proxy
from duologue.axes.reference_agents import REFERENCE_AGENTS
from duologue.base.plain import plain
from duologue.base.report import Cell, Table
from duologue.bench.before_after import MEASURED, SAYING, Outcome, Trial, further_metrics
from duologue.bench.change_page import in_short, outcome_tables, page
from duologue.bench.content import content_of
from duologue.bench.evidence import Evidence, evidence_of, plain_evidence, plain_played
from duologue.bench.outcome_report import trial_of
from duologue.bench.segment_scores import played_rows
from duologue.corpus.sample import sample_segments
from duologue.corpus.store import SegmentStore
from duologue.dialogue.scenes import Scene
from duologue.engine.sampling import Sampling
from duologue.train.align_learner import shaped
from duologue.train.align_recipes import nano_demo
from duologue.train.rollouts import Recorded, Rollout
from duologue.train.segment_scores import Scored, measured

COUNT = 12


@cache
def trial() -> Trial:
    store, nothing = SegmentStore(sample_segments("dev")), torch.zeros(1, 1, dtype=torch.long)
    recorded = {
        axis: [Recorded(store.segment(row), nothing, nothing) for row in list(store.rows(axis))[:COUNT]]
        for axis in AXES
    }
    settings = nano_demo()
    return Trial(
        segments=shaped(recorded, settings.rollouts), settings=settings, sampling=Sampling(), context_s=4.0,
        scenarios=0, seconds=25.0, seed=1,
    )  # fmt: skip


def outcome(agent: str, deaf: bool = False) -> Outcome:
    """What an agent does with its users; with other users the metronome's lot, or (deaf) the same. It says what the
    human said."""
    scored, other = (
        [
            Scored(axis, r.segment.id, 0, measured(axis, rollout_of(REFERENCE_AGENTS[name].play(Scene.of(r.segment))),
                                                   MEASURED))
            for axis, recorded in trial().segments.items() for r in recorded
        ]
        for name in (agent, agent if deaf else "metronome")
    )  # fmt: skip
    said = [Scene.of(r.segment) for axis in SAYING for r in trial().segments[axis]]
    return Outcome(scored, other, [], said)


def rollout_of(scene: Scene) -> Rollout:
    return Rollout(torch.zeros(1, 1), torch.ones(1, dtype=torch.bool), scene, Sampling())


@cache
def evidence() -> Evidence:
    return evidence_of(trial(), "dev", outcome("uh_huh", deaf=True), outcome("human"))


def test_a_model_that_plays_as_an_agent_does_has_that_agent_s_row() -> None:
    for when, name in (("before", "uh_huh"), ("after", "human")):
        model, agent = evidence().models[when], evidence().agents[name]
        assert set(model) == set(agent)
        for metric, value in agent.items():
            assert model[metric] == pytest.approx(value, nan_ok=True), metric


class Fixed:
    """Makes every answer likelier by as many nats as it has words, twice."""

    def log_ratio(self, turn: Sequence[str], answer: Sequence[str]) -> float:
        return 2.0 * len(answer)


def test_how_well_answers_fit_is_said_by_the_named_model_for_the_models_and_the_human() -> None:
    named = replace(trial(), answer_model=Fixed())
    content = evidence_of(named, "dev", outcome("human"), outcome("human")).content
    assert [content[who].pmi.mean for who in ("before", "after", "human")] == pytest.approx([2.0] * 3)
    assert evidence().content["human"].pmi.mean < 1
    rollout = rollout_of(named_scene())
    assert further_metrics("turn_taking", rollout, Proxy(), Fixed())["content_pmi"] == pytest.approx(2.0)


def named_scene() -> Scene:
    """A scene in which the human answers with words that count."""
    scenes = [Scene.of(r.segment) for r in trial().segments["turn_taking"]]
    return next(scene for scene in scenes if content_of(scene)["content_words"] > 3)


def test_who_plays_as_well_whomever_it_hears_gains_nothing_by_hearing() -> None:
    gains = evidence().listening
    assert {e.mean for e in gains["before"].values()} == {0.0}
    assert set(gains["after"]) == {*AXES, "sum_z"}
    assert all(gains["after"][axis].mean > 0 for axis in ("pause", "backchannel", "sum_z"))
    assert evidence().changed["hearing_sum_z"].mean == pytest.approx(gains["after"]["sum_z"].mean)


def test_json_holds_part_agents_listening_and_comparisons() -> None:
    told = json.loads(json.dumps(plain(plain_evidence(evidence())), allow_nan=False))
    assert told["part"] == "dev"
    assert told["rules"] == "one_unit"
    assert set(told["reference_agents"]) == set(REFERENCE_AGENTS)
    assert {*AXES, "sum_raw", "sum_z"} <= set(told["reference_agents"]["metronome"])
    assert set(told["listening"]) == {"before", "after", "difference"}
    assert set(told["listening"]["difference"]) == {*AXES, "sum_z"}
    assert all(len(x) == 3 for when in told["listening"].values() for x in when.values())
    assert told["comparisons"]["count"] == len(told["comparisons"]["p"]) >= 20
    assert "backchannel_human_per_minute" not in told["difference"]
    assert set(told["comparisons"]["surviving"]) <= set(told["difference"])
    assert played_rows(json.loads(json.dumps(plain(plain_played(evidence()))))["segments"]) == evidence().played


def test_content_is_the_human_s_if_the_human_s_words_are_said() -> None:
    content = evidence().content
    assert list(content) == ["before", "after", "human"]
    assert content["after"] == content["human"]
    human = content["human"]
    assert human.words == human.words_said > 100
    assert 0 < human.distinct_words < human.words
    assert human.pmi.low < human.pmi.mean < human.pmi.high
    assert human.pmi.segments > COUNT
    told = plain_evidence(evidence())["content"]["human"]
    assert told["pmi"] == [human.pmi.mean, human.pmi.low, human.pmi.high]
    assert {"distinct_words", "distinct_bigrams", "entropy", "echo", "words", "words_said"} < set(told)


def test_more_comparisons_let_fewer_survive() -> None:
    """What an interval alone calls clear is more than what holds for all comparisons together."""
    clear = {name for name, d in evidence().changed.items() if d.clear}
    assert evidence().comparisons.surviving < clear


def cells(table: Table) -> dict[str, list[object]]:
    """Rows by their label."""
    found = {}
    for label, *rest in table.rows:
        found[str(label.value if isinstance(label, Cell) else label)] = [
            x.value if isinstance(x, Cell) else x for x in rest
        ]
    return found


def test_the_page_shows_agents_listening_and_over_talk_before_the_rest() -> None:
    made = page("nano", evidence(), [], [], notes=[], command="")
    tables = outcome_tables(evidence())
    titles = [table.title for table in tables]
    assert titles == [
        "Rewards beside people and machines", "Does it listen?", "Content, never rewarded", "What changed",
        "Over-talking",
    ]  # fmt: skip
    assert [t.title for t in made.tables] == titles
    assert tables[0].headers[1:] == (
        "before", "after", "human", "silence", "deaf metronome", "voice-activity rule"
    )  # fmt: skip
    assert len(cells(tables[0])) == 6
    assert list(cells(tables[1])) == [
        "gain of hearing: pause", "gain of hearing: turn-taking (s)", "gain of hearing: backchannel",
        "gain of hearing: interruption (s)", "gain of hearing (z, summed)",
    ]  # fmt: skip
    rates = cells(tables[4])["backchannels a minute"]
    assert rates[1] == rates[2], "as the human does"
    assert "part: dev" in made.subtitle
    assert f"{evidence().comparisons.total} comparisons, " in in_short(evidence())
    assert any("not the method: one training seed" in note for note in made.notes)
    assert made.notes[0].startswith("Does it listen? By hearing this user rather than another it gains 0.000")
    assert "Holm" in tables[3].note


def test_axes_that_were_not_played_are_left_out() -> None:
    only = replace(trial(), segments={"pause": trial().segments["pause"]})
    some = Outcome([s for s in outcome("human").scored if s.axis == "pause"], [], [], [])
    told = evidence_of(only, "dev", some, some)
    assert math.isnan(told.agents["human"]["backchannel"])
    assert "Does it listen?" not in [t.title for t in outcome_tables(told)], "nobody else was heard"


def test_a_trial_draws_as_the_alignment_does_with_another_seed() -> None:
    class Bundle:
        class config:  # noqa: N801
            sampling = Sampling(text_temperature=0.5)

    made = trial_of({}, nano_demo(), Bundle(), None, context_s=4.0, scenarios=0, seed=6)  # type: ignore[arg-type]
    assert made.seed == 7
    assert made.sampling.text_temperature == 0.5
