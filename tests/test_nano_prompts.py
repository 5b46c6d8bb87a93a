"""The rows about prompts: agents that are known to follow them, and one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duologue.audio.wave import Audio, write_audio
from duologue.base.errors import UserError
from duologue.bench.live import LiveResult
from duologue.bench.nano_prompts import Meet, effect_row, style_rows, told, voice_rows
from duologue.dialogue.timeline import Word
from duologue.engine.bundle import Bundle, load
from test_live import TURN, Speaker, scenario
from test_nano_timing import told as talk
from test_speak import SPELLING

CHOSEN = [scenario(TURN, name=f"s{n}") for n in range(4)]


@pytest.fixture
def bundle() -> Bundle:
    from dataclasses import replace

    return replace(load("random:tiny", device="cpu"), text=SPELLING)


def meet(bundle: Bundle) -> Meet:
    return Meet(bundle, CHOSEN, slots=2, seed=0, voice=lambda s: Speaker())


def talks(words: int) -> Iterator[LiveResult]:
    """Of 20 s each, in another order than the scenarios; the agent says so many words, one more in each."""
    for n in (2, 0, 3, 1):
        said = [Word("yes", 0.1 + 0.3 * i, 0.3 + 0.3 * i) for i in range(words + n)]
        yield talk((0.1, 3.0), name=f"s{n}", words=said)


def test_words_a_minute_and_the_effect_of_a_prompt(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meet, "talks", lambda self, text_prompt: talks({"little": 2, "much": 6}[text_prompt]))
    words, _, more, _, effect = style_rows(meet(bundle), ("little", "much"))
    assert words.value == pytest.approx((2 + 3 + 4 + 5) / (4 * 20 / 60))
    assert more.value == pytest.approx((6 + 7 + 8 + 9) / (4 * 20 / 60))
    assert (effect.value, effect.n, effect.passed) == (pytest.approx(30 / 14), 4, True)
    assert effect.interval is not None
    assert effect.interval[0] <= 30 / 14 <= effect.interval[1]


def test_a_prompt_without_effect_is_not_met(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meet, "talks", lambda self, text_prompt: talks(3))
    rows = style_rows(meet(bundle), ("little", "much"))
    assert (rows[-1].value, rows[-1].passed) == (pytest.approx(1.0), False)
    assert len(style_rows(meet(bundle), ("little",))) == 2


def test_an_agent_that_says_nothing_has_no_ratio() -> None:
    quiet, loud = ([told(t) for t in made] for made in (silent_talks(), talks(2)))
    assert effect_row(quiet, loud).value is None
    assert effect_row(loud, quiet).value == 0


def silent_talks() -> Iterator[LiveResult]:
    for n in range(4):
        yield talk(name=f"s{n}", words=[])


def hum(hz: float, seconds: float = 2.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    time = np.arange(round(seconds * 24_000)) / 24_000
    return sum(0.2 / k * np.sin(2 * np.pi * hz * k * time) for k in range(1, 6)).astype(np.float32)


def test_the_pitch_under_a_voice_prompt_is_compared_with_the_prompt_s(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An agent that hums an octave below without a prompt, and two semitones above with one."""
    write_audio(tmp_path / "high.wav", Audio(hum(200)[None], 24_000))

    def hummed(self: Meet, agent_voice: object = None) -> Iterator[LiveResult]:
        from dataclasses import replace

        for n in range(3):
            sound = np.stack([hum(100 if agent_voice is None else 200 * 2 ** (2 / 12)), np.zeros(48_000, np.float32)])
            yield replace(talk((0.0, 2.0), name=f"s{n}"), audio=Audio(sound, 24_000))

    monkeypatch.setattr(Meet, "talks", hummed)
    (row,) = voice_rows(meet(bundle), [tmp_path / "high.wav"])
    assert row.value == pytest.approx(2.0, abs=0.1)
    assert "without a prompt -12.0" in row.note
    assert row.n == 3
    assert voice_rows(meet(bundle), []) == []
    write_audio(tmp_path / "silent.wav", Audio(np.zeros((1, 24_000), np.float32), 24_000))
    with pytest.raises(UserError, match="holds no voice"):
        voice_rows(meet(bundle), [tmp_path / "silent.wav"])


def test_a_model_is_met_under_both_prompts_with_the_same_seeds(bundle: Bundle) -> None:
    torch.manual_seed(0)
    one, two = ([r.codes for r in meet(bundle).talks(text_prompt="be kind")] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert len(one) == 4
