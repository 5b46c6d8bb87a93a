"""The judge of answers: what it is asked, how its grades are read, and what becomes of those that do not come."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from duologue.axes.judge import Judge, JudgeConfig, parse_grade, reliability, spearman, transcript
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


def judge(answer: Callable[[dict], str | int], **config: object) -> tuple[Judge, list[dict]]:
    """A judge whose endpoint is a function: text is a reply, a number an HTTP status."""
    asked: list[dict] = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        found = answer(asked[-1])
        if isinstance(found, int):
            return httpx.Response(found)
        return httpx.Response(200, json={"choices": [{"message": {"content": found}}]})

    endpoint = Endpoint(WHERE, transport=httpx.MockTransport(serve))
    return Judge(JudgeConfig(endpoint=WHERE, **config), endpoint), asked  # type: ignore[arg-type]


def test_it_reads_who_said_what_by_time() -> None:
    assert transcript(scene(FINE)) == "USER: how are you\nMODEL: fine thanks\nMODEL: you?"
    one, asked = judge(lambda body: "2")
    assert one.score([scene(FINE)]) == [2.0]
    system, user = asked[0]["messages"]
    assert "0, 1 or 2" in system["content"]
    assert user["content"] == transcript(scene(FINE))


@pytest.mark.parametrize(
    ("reply", "grade"),
    [("2", 2), ("Grade: 1.", 1), ("I give it a 0", 0), ("from 0 to 2: 1", 1), ("3", None), ("1.5", None), ("", None),
     ("12", None), ("good", None)],
)  # fmt: skip
def test_grades_are_read(reply: str, grade: float | None) -> None:
    assert parse_grade(reply) == grade


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
