"""The judge of answers: what it is asked, how its grades are read, and what becomes of those that do not come."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
import pytest
import soundfile

from duologue.axes.judge import KNOWN, Judge, JudgeConfig, parse_grade, reliability, spearman, transcript
from duologue.base.config import from_dict, overridden, to_dict
from duologue.base.endpoint import Endpoint, EndpointConfig
from duologue.base.errors import UserError
from duologue.dialogue.scenes import Scene
from duologue.dialogue.timeline import Timeline, Track, Word

WHERE = EndpointConfig(url="http://judge.test", model="m", retries=0, parse_retries=0)
USER = (Word("how", 0.1, 0.3), Word("are", 0.4, 0.6), Word("you", 0.7, 1.0))


def scene(agent: tuple[Word, ...] | None, user: tuple[Word, ...] | None = USER, name: str = "s") -> Scene:
    speech = [(w.start, w.end) for w in agent or ()]
    timeline = Timeline(Track.of(speech, agent), Track.of([(0.1, 1.0)], user), 4.0)
    tone = np.full(48_000, 0.1, np.float32)
    return Scene(
        id=name, timeline=timeline, start=0.5, end=4.0, agent_audio=lambda: (tone, 24_000),
        user_audio=lambda: (tone[:16_000], 8_000),
    )  # fmt: skip


FINE = (Word("fine", 1.4, 1.8), Word("thanks", 1.9, 2.3), Word("you?", 3.6, 3.9))


@dataclass(frozen=True)
class Holder:
    """Settings with a judge in them."""

    judge: JudgeConfig | None = None


def judge(
    answer: Callable[[dict], str | int | tuple[str, str]], asks: Literal["judge", "safety"] = "judge", **config: object
) -> tuple[Judge, list[dict]]:
    """A judge whose endpoint is a function: text is a reply (a pair: with why it ended), a number an HTTP status."""
    asked: list[dict] = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        found = answer(asked[-1])
        if isinstance(found, int):
            return httpx.Response(found)
        text, ended = found if isinstance(found, tuple) else (found, "stop")
        return httpx.Response(200, json={"choices": [{"message": {"content": text}, "finish_reason": ended}]})

    endpoint = Endpoint(WHERE, transport=httpx.MockTransport(serve))
    return Judge(JudgeConfig(endpoint=WHERE, **config), endpoint, asks=asks), asked  # type: ignore[arg-type]


def test_it_reads_who_said_what_by_time() -> None:
    assert transcript(scene(FINE)) == "USER: how are you\nMODEL: fine thanks\nMODEL: you?"
    one, asked = judge(lambda body: "2")
    assert one.score([scene(FINE)]) == [2.0]
    system, user = asked[0]["messages"]
    assert "0, 1 or 2" in system["content"]
    assert user["content"] == transcript(scene(FINE))


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("2", 2), (" 0.\n", 0), ("**1**", 1), ("[2]", 2), ("Grade: 1.", 1), ("**Grade:** 2", 2), ("grade is 0", 0),
        ("It takes up what was asked.\n\nGrade: 2", 2), ("Grade: 1\nFinal grade: 1", 1),
        ("3", None), ("1.5", None), ("-1", None), ("12", None), ("2/2", None), ("", None), ("good", None),
        ("Okay, the task is to grade 0, 1 or 2. The", None), ("... 0: does not fit; 1: loosely", None),
        ("I give it a 0", None), ("from 0 to 2: 1", None), ("Grade: 0, 1 or 2", None), ("Grade: 1\nGrade: 2", None),
        ("Grade: 5", None),
    ],
)  # fmt: skip
def test_a_grade_is_the_reply_or_a_line_that_states_it(reply: str, grade: float | None) -> None:
    assert parse_grade(reply) == grade


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("<think>\nOkay, the task is to grade 0, 1 or 2. The", math.nan),
        ("<think>\nOkay, the task is to grade 0, 1 or 2.\nGrade: 2\n1", math.nan),
        ("<think>\nGrade: 2? No, it is gibberish.\n</think>\n\n0", 0.0),
        ("It was opened by the template: 1 or 2?\n</think>\n\n1", 1.0),
    ],
)
def test_thinking_is_no_part_of_an_answer_and_without_end_there_is_none(reply: str, grade: float) -> None:
    one, _ = judge(lambda body: reply)
    assert one.score([scene(FINE)]) == pytest.approx([grade], nan_ok=True)


def test_a_reply_that_was_cut_is_no_grade_but_is_kept() -> None:
    one, asked = judge(lambda body: ("Grade: 2", "length"))
    (verdict,) = one.begin([scene(FINE)]).result()
    assert math.isnan(verdict.grade)
    assert (verdict.reply, verdict.reason) == ("Grade: 2", "cut")
    assert one.endpoint.counts.failed == {"cut": 1}
    assert len(asked) == 1, "it would be cut again"


def test_a_server_gets_what_it_needs_by_settings_alone() -> None:
    settings = overridden(
        Holder(),
        ["judge.endpoint.url=http://judge.test", "judge.endpoint.model=m", "judge.max_tokens=77",
         "judge.endpoint.extra.chat_template_kwargs.enable_thinking=false"],
    )  # fmt: skip
    assert settings.judge is not None
    assert from_dict(Holder, to_dict(settings)) == settings
    asked: list[dict] = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(200, json={"choices": [{"message": {"content": "1"}}]})

    with Endpoint(settings.judge.endpoint, transport=httpx.MockTransport(serve)) as endpoint:
        assert Judge(settings.judge, endpoint).score([scene(FINE)]) == [1.0]
    assert asked[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert asked[0]["max_tokens"] == 77


def test_equal_scenes_are_asked_about_once_and_every_reply_is_kept() -> None:
    one, asked = judge(lambda body: "2")
    first, second, silent = one.begin([scene(FINE, name="a"), scene(FINE, name="b"), scene((), name="c")]).result()
    assert len(asked) == 1
    assert (first.scene, first.grade, first.reply, first.transcript) == ("a", 2.0, "2", transcript(scene(FINE)))
    assert first.sent == second.sent != ""
    assert (silent.grade, silent.sent, silent.reason) == (0.0, "", "silence")


@pytest.mark.parametrize("asks", ["judge", "safety"])
def test_a_judge_is_tried_with_answers_whose_grades_are_known(asks: Literal["judge", "safety"]) -> None:
    _, better, worse = KNOWN[asks]

    def answer(good: str, bad: str) -> Callable[[dict], str | tuple[str, str]]:
        def reply(body: dict) -> str:
            text = body["messages"][-1]["content"]
            return good if better in text else bad if worse in text else "OK"

        return reply

    judge(answer("2", "0"), asks=asks)[0].check()
    for good, bad, said in (
        ("1", "1", "1 and .* 1"),
        ("0", "2", "0 and .* 2"),
        ("2", "hm", "no grade .unparsable: 'hm"),
    ):
        with pytest.raises(UserError, match=said):
            judge(answer(good, bad), asks=asks)[0].check()
    cut = judge(lambda body: ("<think> Okay", "length"), asks=asks)[0]
    with pytest.raises(UserError, match=r"no grade .cut.*max_tokens"):
        cut.check()


def test_what_is_not_scored_is_nan_and_never_zero() -> None:
    replies = iter(["very good", 500, "1"])
    one, _ = judge(lambda body: next(replies))
    scenes = [scene((*FINE[:1], Word(text, 2, 2.2))) for text in "abc"]
    found = [one.score([s])[0] for s in scenes]
    assert math.isnan(found[0])
    assert math.isnan(found[1])
    assert found[2] == 1
    assert one.endpoint.counts.failed == {"unparsable": 1, "http": 1}


def test_silence_is_zero_and_unknown_words_are_nan_without_a_question() -> None:
    one, asked = judge(lambda body: "2")
    early = (Word("hello", 0.1, 0.3),)  # before the span
    found = one.score([scene(()), scene(early), scene(None), scene(FINE, None)])
    assert found[:2] == [0.0, 0.0]
    assert all(math.isnan(x) for x in found[2:])
    assert not asked


def test_it_can_be_given_the_sound() -> None:
    one, asked = judge(lambda body: "1", audio=True)
    assert one.score([scene(FINE)]) == [1.0]
    text, sound = asked[0]["messages"][1]["content"]
    assert text["text"].startswith("The left channel is MODEL")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound["input_audio"]["data"])))
    assert (rate, samples.shape) == (16_000, (32_000, 2))


def test_another_prompt_is_taken_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("be strict")
    one, asked = judge(lambda body: "1", prompt=tmp_path / "p.txt")
    one.score([scene(FINE)])
    assert asked[0]["messages"][0]["content"] == "be strict"
    with pytest.raises(UserError, match="gone"):
        judge(lambda body: "1", prompt=tmp_path / "gone.txt")


class TestReliability:
    scenes = [scene((Word(f"w{i}", 1, 1.5),)) for i in range(4)]  # noqa: RUF012

    def test_a_judge_that_repeats_itself_has_one(self) -> None:
        one, asked = judge(lambda body: str(int(body["messages"][1]["content"][-1]) % 3))
        assert reliability(one, self.scenes, 3) == pytest.approx(1)
        assert len(asked) == 12
        assert {body["seed"] for body in asked} == {0, 1, 2}

    def test_one_that_turns_about_has_minus_one(self) -> None:
        def answer(body: dict) -> str:
            grade = int(body["messages"][1]["content"][-1]) % 3
            return str(grade if body["seed"] == 0 else 2 - grade)

        assert reliability(judge(answer)[0], self.scenes) == pytest.approx(-1)

    def test_one_that_always_says_the_same_has_none(self) -> None:
        assert math.isnan(reliability(judge(lambda body: "1")[0], self.scenes))
        with pytest.raises(UserError):
            reliability(judge(lambda body: "1")[0], self.scenes, 1)

    def test_spearman_by_hand(self) -> None:
        a, b = np.array([1.0, 2, 2, 3, math.nan]), np.array([1.0, 3, 2, 4, 5])
        # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5, squares 4.5 and 5.
        assert spearman(a, b) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
