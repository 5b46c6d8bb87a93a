"""Who rewards answers: a judge that is there, is asked while others play, and whose every reply is kept."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from duologue.audio.wave import Audio
from duologue.audio.words import Words
from duologue.axes.judge import Judge, JudgeConfig
from duologue.base.config import overridden
from duologue.base.endpoint import Endpoint, EndpointConfig
from duologue.base.errors import UserError
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.timeline import Timeline, Track, Word
from duologue.engine.bundle import Bundle
from duologue.engine.prompts import GOOD_TALK
from duologue.engine.sampling import Sampling
from duologue.train.align_learner import AlignLearner, prompts_line, rollouts_for
from duologue.train.align_recipes import RECIPES
from duologue.train.align_settings import (
    AlignSettings,
    GuardSettings,
    RewardSettings,
    RolloutSettings,
    UpdateSettings,
)
from duologue.train.align_watch import Watch
from duologue.train.recognising import Transcriber
from duologue.train.rewarding import AtOnce, AxesRewarder, Rewarder, check_words, reward_remarks, rewarder_of
from duologue.train.rollout_batches import Batch
from duologue.train.rollout_files import keep_verdicts
from duologue.train.rollouts import Episode, Recorded, Roller, Rollout, record
from test_rollouts import DRAWN, RATE, bundle, segment

WHERE = EndpointConfig(url="http://judge.test", model="m", retries=0, parse_retries=0, workers=4)
NAMED = JudgeConfig(endpoint=WHERE)


def judge(answer: Callable[[str], str], config: EndpointConfig = WHERE) -> Judge:
    """A judge whose replies are a function of the transcript."""

    def serve(request: httpx.Request) -> httpx.Response:
        text = answer(json.loads(request.content)["messages"][-1]["content"])
        return httpx.Response(200, json={"choices": [{"message": {"content": text}}]})

    return Judge(JudgeConfig(endpoint=config), Endpoint(config, transport=httpx.MockTransport(serve)))


def turns(model: Bundle) -> list[Recorded]:
    user = Track.of([(1.0, 1.5)], [Word("well", 1.0, 1.4)])
    parts = [segment(1.0, 2.0, name) for name in ("a", "b")]
    return record(model, [replace(s, timeline=replace(s.timeline, user=user)) for s in parts])


def learner(reward: Rewarder) -> AlignLearner:
    """Four groups of two rollouts of turns, two groups at once."""
    model = bundle()
    rolled = RolloutSettings(axes=("turn_taking",), groups=4, group=2, slots=4, context=0.0, text_temperature=1.0)
    how = AlignSettings(steps=2, rollouts=rolled, update=UpdateSettings(updates=1))
    parts = {"turn_taking": turns(model)}
    return AlignLearner(model, parts, how, seed=0, reward=reward, publish=lambda run, name: None)


class TestStream:
    def test_answers_are_judged_while_others_are_still_played(self) -> None:
        asked, release = threading.Event(), threading.Event()

        def answer(text: str) -> str:
            asked.set()
            assert release.wait(30)
            return "1"

        one = learner(AxesRewarder(RewardSettings(), judge(answer)))
        play, calls = one.roller.play, list[bool]()

        def watched(episodes: Sequence[Episode]) -> list[list[Rollout]]:
            if calls:  # the first groups are played, and nobody has waited for their grades
                calls.append(asked.wait(30))
                release.set()
            else:
                calls.append(not asked.is_set())
            return play(episodes)

        one.roller.play = watched  # type: ignore[method-assign]
        batch, _ = one._roll(np.random.default_rng(0), 0)
        assert {grade for rewards in batch.rewards for grade in rewards["judge"]} <= {0.0, 1.0}
        assert calls == [True, True]

    def test_groups_that_are_smaller_than_the_workers_fill_them_together(self) -> None:
        gate = threading.Barrier(4)  # as many as workers; a group has two

        def answer(text: str) -> str:
            gate.wait(30)
            return "2"

        model = bundle()
        groups = Roller(model, 4).play([Episode(r, 0.0, DRAWN[:2]) for r in turns(model)])
        words = iter(range(9))
        groups = [[says(rollout, f"word{next(words)}") for rollout in group] for group in groups]
        with AxesRewarder(RewardSettings(), judge(answer)) as reward:
            begun = reward.begin(["turn_taking"] * 2, groups)
            assert [each.result().rewards["judge"] for each in begun] == [[2.0, 2.0]] * 2

    def test_every_reply_is_kept(self, tmp_path: Path) -> None:
        one = learner(AxesRewarder(RewardSettings(), judge(lambda text: "perhaps")))
        batch, _ = one._roll(np.random.default_rng(0), 0)
        keep_verdicts(tmp_path, batch)
        lines = [json.loads(line) for line in (tmp_path / "judge.jsonl").read_text().splitlines()]
        assert [line["rollout"] for line in lines] == [0, 1] * 4
        assert {line["segment"] for line in lines} == {"a", "b"}
        asked = [line for line in lines if line["sent"]]
        assert asked
        for line in asked:
            assert (line["grade"], line["reply"], line["reason"]) == (None, "perhaps", "unparsable")
            assert "USER: well" in line["transcript"]
        keep_verdicts(tmp_path / "none", replace(batch, verdicts=()))
        assert not (tmp_path / "none").exists()


def says(rollout: Rollout, word: str) -> Rollout:
    """The rollout as if the agent had said a word."""
    scene = rollout.scene
    agent = Track.of([(1.2, 1.6)], [Word(word, 1.2, 1.6)])
    return replace(rollout, scene=replace(scene, timeline=replace(scene.timeline, agent=agent)))


class TestWhoJudges:
    @pytest.mark.parametrize("recipe", ["kyutai-2606.11167", "kyutai-lora", "wavalign", "ppo", "dpo"])
    def test_a_recipe_whose_paper_has_a_judge_does_not_run_silently_without_one(self, recipe: str) -> None:
        how = RECIPES[recipe]()
        with pytest.raises(UserError, match=r"rewards.judge: the paper .* none is named; --set rewards.judge.endpoint"):
            rewarder_of(how)
        free = overridden(how, ["rewards.judge=none"])
        assert free.rewards.judge == "none"
        rewarder_of(free).close()
        (first, *more) = reward_remarks(free)
        assert "ablation without R_llm" in first
        assert [("gate stays shut" in line) for line in more] == [True] * (recipe == "wavalign")
        rewarder_of(overridden(how, ["rollouts.axes=[pause]"])).close()
        rewarder_of(overridden(how, ["rewards.proxy=true"])).close()
        named = overridden(how, ["rewards.judge.endpoint.url=http://h", "rewards.judge.endpoint.model=m"])
        assert isinstance(named.rewards.judge, JudgeConfig)

    @pytest.mark.parametrize("recipe", ["aspirin", "duplexpo", "nano-demo"])
    def test_the_others_need_none(self, recipe: str) -> None:
        how = RECIPES[recipe]()
        rewarder_of(how).close()
        assert not any("ablation" in line for line in reward_remarks(how))

    def test_whose_words_are_judged_is_said(self) -> None:
        how = AlignSettings(rewards=RewardSettings(judge=NAMED))
        assert reward_remarks(how)[-1].startswith("words: the agent's own text, the user's of the corpus' transcript")
        how = replace(how, rewards=replace(how.rewards, recogniser="parakeet"))
        assert reward_remarks(how)[-1] == "words of both sides: recognised by parakeet"

    def test_a_corpus_of_which_nothing_can_be_judged_is_refused(self) -> None:
        model, judged = bundle(), RewardSettings(judge=NAMED)
        parts = {"turn_taking": turns(model), "pause": record(model, [segment()])}
        check_words(judged, parts, model)
        wordless = {"turn_taking": record(model, [segment()])}
        with pytest.raises(UserError, match=r"none of 1 segments has the user's words.*rewards.recogniser=parakeet"):
            check_words(judged, wordless, model)
        with pytest.raises(UserError, match="has no tokenizer, so that no judge can read"):
            check_words(judged, parts, replace(model, text=None))
        for other in (replace(judged, recogniser="parakeet"), RewardSettings(judge="none"),
                      RewardSettings(judge=replace(NAMED, audio=True))):  # fmt: skip
            check_words(other, wordless, model)
        check_words(judged, {"pause": parts["pause"]}, model)
        how = AlignSettings(rollouts=RolloutSettings(axes=("turn_taking",)), rewards=judged)
        with pytest.raises(UserError, match="none of 1 segments"):
            AlignLearner(model, wordless, how, seed=0, reward=AtOnce(lambda a, g: {}), publish=lambda run, name: None)

    def test_a_judge_that_dies_stops_the_run(self) -> None:
        watch = Watch(GuardSettings(patience=2))
        one, (nan, grades) = learner(AxesRewarder(RewardSettings())), ((math.nan, math.nan), (0.0, 2.0))
        batches = [
            Batch(("turn_taking",) * 4, ((),) * 4, tuple({"turn_taking": grades, **more} for more in each))
            for each in ([{"judge": nan}] * 3 + [{"judge": grades}], [{"judge": grades}] * 4, [{}] * 4)
        ]
        (_, row), (_, whole), (_, none) = (one._judge(batch) for batch in batches)
        assert (row["unscored_share"], whole["unscored_share"]) == (0.75, 0.0)
        assert "unscored_share" not in none
        watch.see(row, "step 1")
        with pytest.raises(UserError, match=r"unscored_share is 0.75, above 0.5, 2 steps in a row; .*judge.jsonl"):
            watch.see(row, "step 2")
        Watch(GuardSettings(unscored=None, patience=1)).see(row, "step 1")


class TestBefore:
    """What comes before rollouts is that of the model's kind, as in evaluation; what is asked for wins."""

    def kinds(self) -> tuple[Bundle, Bundle, Bundle]:
        own = bundle()
        moshi, plex = (replace(b, config=replace(b.config, kyutai_codec=True)) for b in (own, bundle(lag=0)))
        return own, moshi, plex

    @pytest.mark.parametrize("recipe", ["kyutai-2606.11167", "kyutai-lora", "aspirin", "dpo", "nano-demo"])
    def test_prompt_and_lead_hang_on_the_model(self, recipe: str) -> None:
        how = RECIPES[recipe]().rollouts
        each = [rollouts_for(how, model) for model in self.kinds()]
        assert [(r.text_prompt, r.lead_s) for r in each] == [("", 0.0), ("", 3.0), (GOOD_TALK, 0.0)]
        asked = rollouts_for(replace(how, text_prompt="be kind", lead_s=0.5), self.kinds()[1])
        assert (asked.text_prompt, asked.lead_s) == ("be kind", 0.5)

    def test_a_learner_plays_so(self) -> None:
        for model, lead in zip(self.kinds(), (0, 38, 0), strict=True):
            how = AlignSettings(
                rollouts=RolloutSettings(axes=("pause",), group=2, slots=2), update=UpdateSettings(updates=1)
            )
            parts = {"pause": record(model, [segment()])}
            one = AlignLearner(
                model, parts, how, seed=0, reward=AtOnce(lambda a, g: {}), publish=lambda run, name: None
            )
            assert one.roller._lead == lead
            assert bool(one.roller._prompt) == (model.lm.config.user_lag == 0)

    def test_what_was_chosen_is_said_and_a_missing_voice_too(self) -> None:
        own, moshi, plex = self.kinds()
        assert prompts_line(RolloutSettings(), moshi) == (
            "before rollouts: no text prompt; no voice prompt; 3 s of silence where no recording is given"
        )
        assert "rollouts.voice_prompt=FILE" in prompts_line(RolloutSettings(), plex)
        assert f"text prompt {GOOD_TALK!r}; voice prompt v.wav;" in prompts_line(
            RolloutSettings(voice_prompt="v.wav"), plex
        )
        assert "0 s of silence" in prompts_line(RolloutSettings(), own)


class Ear:
    """A recogniser that writes how much it was given, and one word from 0.1 to 0.3 s."""

    def __init__(self) -> None:
        self.calls: list[list[float]] = []

    def transcribe(self, audios: Sequence[Audio]) -> list[Words]:
        self.calls.append([round(audio.duration, 2) for audio in audios])
        return [(Word(f"{audio.duration:.2f}", 0.1, 0.3),) for audio in audios]


def spoken(name: str, since: float, speech: Sequence[tuple[float, float]], said: Words | None = ()) -> Rollout:
    """A rollout of 4 s in which the agent speaks."""
    sound = np.ones(5 * RATE, np.float32)
    user = Track.of([(0.5, 1.5)], [Word("wrong", 0.5, 1.0)])
    scene = Scene(
        id=name, timeline=Timeline(Track.of(speech, said), user, 4.0), start=2.0, end=4.0,
        events=(ReferenceEvent("turn", 0.5, 2.2, 1), ReferenceEvent("interruption", 0.5, 2.2, 1)),
        agent_audio=lambda: (sound, RATE), user_audio=lambda: (sound, RATE),
    )  # fmt: skip
    return Rollout(torch.zeros(2, 3), torch.ones(3, dtype=torch.bool), scene, Sampling(), since)


class TestRecognised:
    def test_what_was_said_is_read_at_its_time_and_not_what_was_written(self) -> None:
        ear = Ear()
        written = (Word("before", 0.2, 0.6), Word("unvoiced", 2.5, 2.9))
        rollouts = [spoken("s", 1.5, [(2.5, 3.0)], written), spoken("s", 2.0, [(0.2, 0.6)], written)]
        first, second = Transcriber(ear).scenes(rollouts)
        assert ear.calls == [[4.0, 2.5]], "one batch; the user once, the agent from where the model acts, if it speaks"
        assert first.timeline.agent.words == (Word("before", 0.2, 0.6), Word("2.50", 1.6, pytest.approx(1.8)))
        assert second.timeline.agent.words == (Word("before", 0.2, 0.6),)
        assert [s.timeline.user.words for s in (first, second)] == [(Word("4.00", 0.1, 0.3),)] * 2
        assert np.array_equal(first.timeline.agent.speech, rollouts[0].scene.timeline.agent.speech)

    def test_a_user_is_heard_once_in_a_run_and_nobody_is_asked_for_nothing(self) -> None:
        ear = Ear()
        transcriber = Transcriber(ear)
        transcriber.scenes([spoken("s", 2.0, [])])
        transcriber.scenes([spoken("s", 2.0, [])])
        assert ear.calls == [[4.0]]
        silent = spoken("t", 2.0, [], None)
        mute = replace(silent, scene=replace(silent.scene, user_audio=None))
        (scene,) = transcriber.scenes([mute])
        assert (scene.timeline.agent.words, scene.timeline.user.words) == ((), (Word("wrong", 0.5, 1.0),))

    def test_the_judge_reads_what_is_recognised_on_both_sides_in_one_batch_of_groups(self) -> None:
        ear, asked = Ear(), list[str]()

        def answer(text: str) -> str:
            asked.append(text)
            return "1"

        groups = [[spoken(name, 2.0, [(2.5, 3.0)])] * 2 for name in "abc"]
        axes = ["turn_taking", "pause", "interruption"]
        with AxesRewarder(RewardSettings(), judge(answer), transcriber=Transcriber(ear)) as reward:
            results = [each.result() for each in reward.begin(axes, groups)]
        assert len(ear.calls) == 1
        assert sorted(set(asked)) == ["USER: 4.00\nMODEL: 2.00"]
        assert [result.rewards.get("judge") for result in results] == [[1.0, 1.0], None, [1.0, 1.0]]

    def test_a_rollout_knows_from_when_on_the_agent_is_the_model(self) -> None:
        model = bundle()
        (recorded,) = record(model, [segment(2.0, 3.0)])
        for lead, context, since in ((0.0, 0.0, 2.0), (0.8, 0.0, 1.2), (0.8, 1.0, 2.0)):
            ((rollout,),) = Roller(model, 1, lead_s=lead).play([Episode(recorded, context, DRAWN[:1])])
            assert rollout.since == pytest.approx(since)
            assert not math.isnan(rollout.scene.start)
