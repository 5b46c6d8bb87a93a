"""Judges: what counts as a rating, and that a reply which cannot be scored is null, counted, and ends."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from duologue.base.endpoint import Endpoint, EndpointConfig
from duologue.base.errors import UserError
from duologue.bench.fdb_behavior import score_behavior
from duologue.bench.fdb_v1 import Options, score_task
from duologue.bench.judge import Judge, parse_rating, parse_tag
from fdb_folders import interruption, make_sample, transcript


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ('{"analysis": "on topic", "rating": 4}', 4),
        ('Sure!\n```json\n{"rating": 0, "analysis": "no"}\n```', 0),
        ("Analysis: fine.\nI would rate the AI's response as 5.", 5),
        ("I would rate the AI's response as [3]", 3),
        ('{"rating": 4.0}', 4),
        ('{"rating": 4.5}', None),
        ('{"rating": 9}', None),
        ('{"rating": true}', None),
        ('{"rating": "4"}', None),
        ("It deserves a 4.", None),
        ("", None),
    ],
)
def test_a_rating_is_a_whole_number_from_0_to_5(reply: str, rating: float | None) -> None:
    assert parse_rating(reply) == rating


@pytest.mark.parametrize(
    ("reply", "tag"),
    [
        ('{"behaviour": ["C_RESUME"]}', "C_RESUME"),
        ('note {not json} {"behaviour": "C_RESPOND"}', "C_RESPOND"),
        ('{"behaviour": ["C_INVENTED"]}', None),
        ('{"behaviour": []}', None),
        ("C_RESUME", None),
    ],
)
def test_a_tag_is_one_of_four(reply: str, tag: str | None) -> None:
    assert parse_tag(reply) == tag


def judge(*replies: str) -> Judge:
    """A judge whose endpoint answers with these texts in turn, then with the last one for ever."""
    left = list(replies)

    def answer(request: httpx.Request) -> httpx.Response:
        text = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(200, json={"choices": [{"message": {"content": text}}]})

    config = EndpointConfig(url="http://judge.test", model="m", workers=1, parse_retries=1)
    return Judge(Endpoint(config, transport=httpx.MockTransport(answer)), "grade it", proxy=True)


def interrupted(root: Path, n: int) -> Path:
    for i in range(n):
        words = transcript(*((f"w{i}{k}", 9.0 + k, 9.8 + k) for k in range(4)))
        make_sample(root, str(i), output=words, interrupt=interruption(5.0, 8.0))
    return root


def test_unreadable_replies_are_null_and_counted(tmp_path: Path) -> None:
    asked = judge('{"rating": 4}', "no idea", "still no idea", '{"rating": 2}')
    result = score_task(interrupted(tmp_path, 3), "user_interruption", Options(mode="compat", judge=asked.rate), {})
    assert [s.judge_score for s in result.samples.values()] == [4.0, None, 2.0]
    assert (result.summary["judge_score"], result.summary["n_judged"]) == (3.0, 2)
    assert "1 unparsable" in asked.notes()[0]
    assert "proxy" in asked.notes()[0]


def test_only_answers_are_judged(tmp_path: Path) -> None:
    make_sample(tmp_path, "0", output=transcript(("mhm", 9.0, 9.3)), interrupt=interruption(5.0, 8.0))
    asked = judge('{"rating": 4}')
    result = score_task(tmp_path, "user_interruption", Options(mode="compat", judge=asked.rate), {})
    assert result.samples["0"].judge_score is None
    assert asked.endpoint.counts.asked == 0


def overlapped(root: Path, name: str, **more: object) -> Path:
    words = transcript((f"so{name}", 1.0, 1.4))
    return make_sample(root, name, input=words, clean_input=words, output=words, clean_output=words, **more)


class TestBehavior:
    def test_ratios_of_the_judge_s_tags(self, tmp_path: Path) -> None:
        for name in "123":
            overlapped(tmp_path, name)
        make_sample(tmp_path, "4", output=transcript())
        replies = ['{"behaviour": ["C_RESPOND"]}', '{"behaviour": ["C_RESUME"]}', "none", "none"]
        official = score_behavior(tmp_path, "compat", judge(*replies).label)
        assert official.summary["ratios"] == {"C_RESPOND": 0.5, "C_RESUME": 0.5}
        assert official.samples["4"].status == "missing"
        corrected = score_behavior(tmp_path, "corrected", judge(*replies).label)
        assert corrected.summary["ratios"]["C_RESPOND"] == 0.25

    def test_tags_on_disk_are_read_without_a_judge(self, tmp_path: Path) -> None:
        overlapped(tmp_path, "1", content_tag={"behaviour": ["C_UNKNOWN"]})
        overlapped(tmp_path, "2")
        result = score_behavior(tmp_path, "compat", None)
        assert result.summary["ratios"] == {"C_UNKNOWN": 1.0}
        assert result.samples["2"].status == "missing"

    def test_neither_judge_nor_tags_is_a_mistake(self, tmp_path: Path) -> None:
        overlapped(tmp_path, "1")
        with pytest.raises(UserError, match="--judge"):
            score_behavior(tmp_path, "compat", None)


def test_the_prompts_ask_for_what_is_parsed() -> None:
    from importlib import resources

    folder = resources.files("duologue.bench") / "prompts"
    assert '"rating"' in (folder / "interruption.txt").read_text()
    assert '"behaviour"' in (folder / "behavior.txt").read_text()
    assert parse_tag(json.dumps({"behaviour": ["C_RESUME"]})) == "C_RESUME"
