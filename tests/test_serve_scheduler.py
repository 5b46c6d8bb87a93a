"""Rules of the step loop, by a clock of our own: no thread, no waiting."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from duologue.base.errors import UserError
from duologue.client.sound import Samples
from duologue.engine.bundle import Bundle
from duologue.engine.duplex import Duplex
from duologue.engine.prompts import Prompter, tones
from duologue.engine.sampling import Sampling
from duologue.serve.ear import Ear
from duologue.serve.line import Failed, Line, Phase, Ready, Report, Spoken
from duologue.serve.metrics import Metrics
from duologue.serve.scheduler import CATCH_UP, FAILURES, PATIENCE, Scheduler
from serving import FRAME, PERIOD, bundle, noise


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, until: float | None, wake: threading.Event) -> None:
        assert until is not None
        self.time = max(self.time, until)


@pytest.fixture(scope="module")
def model() -> Bundle:
    return bundle()


class Loop:
    """A scheduler whose ticks a test makes."""

    def __init__(self, model: Bundle, slots: int = 2, piece: int = 4) -> None:
        self.clock, self.metrics, self.reports = Clock(), Metrics(), list[Report]()
        codec = model.need_codec()
        self.duplex = Duplex(model.lm, codec, slots)
        self.prompter = Prompter(self.duplex.engine, tones(codec, kyutai=False), model.need_text)
        self.scheduler = Scheduler(
            self.duplex, self.prompter, Sampling(), self.metrics, self.reports.extend, clock=self.clock, piece=piece
        )
        self.due = 0.0

    def line(self, slot: int, prompt: str = "", seed: int = 0) -> Line:
        line = Line(Sampling(text_seed=seed, audio_seed=seed), prompt, None, Ear(FRAME, 5 * FRAME, self.clock.now))
        self.scheduler.join(line, slot)
        return line

    def turn(self, times: int = 1) -> list[Report]:
        """A tick, the spare time behind it, and the wait; what was reported."""
        before = len(self.reports)
        for _ in range(times):
            self.scheduler.tick(self.due)
            self.due = self.scheduler.following(self.due)
            self.scheduler.spare(self.due)
            self.clock.wait(self.due, threading.Event())
        return self.reports[before:]

    def said(self, line: Line) -> Samples:
        return np.stack([r.sound for r in self.reports if isinstance(r, Spoken) and r.line is line])


def kinds(reports: list[Report]) -> list[tuple[type, Line]]:
    return [(type(r), r.line) for r in reports]


def test_a_talk_begins_with_the_first_sound_or_after_a_while(model: Bundle) -> None:
    loop = Loop(model)
    one, two = loop.line(0), loop.line(1)
    assert kinds(loop.turn()) == [(Ready, one), (Ready, two)]
    assert loop.turn(3) == []
    one.ear.put(noise(1, 1)[0])
    loop.clock.time += 0.02
    assert kinds(loop.turn()) == [(Spoken, one)]
    while not any(isinstance(r, Spoken) and r.line is two for r in loop.reports):
        one.ear.put(noise(1, 1)[0])
        now = loop.clock.time
        loop.turn()
    assert PATIENCE <= now < PATIENCE + 2 * PERIOD
    assert two.ear.counts().starved == FRAME


def test_a_starved_talk_hears_silence_and_goes_on(model: Bundle) -> None:
    loop, user = Loop(model), noise(6, 2)
    line = loop.line(0)
    loop.turn()
    line.ear.put(user[0])
    loop.clock.time += 0.02
    loop.turn(3)
    assert [r.heard is None for r in loop.reports if isinstance(r, Spoken)] == [False, True, True]
    assert [r.call for r in loop.reports if isinstance(r, Spoken)] == [0, 1, 2]
    assert line.ear.counts().starved == 2 * FRAME


def test_one_who_sends_too_fast_does_not_wait_longer_for_it(model: Bundle) -> None:
    loop = Loop(model)
    line = loop.line(0)
    loop.turn()
    for n in range(30):
        line.ear.put(np.full(3 * FRAME, n / 100, np.float32))
        loop.clock.time += 0.02 * (n == 0)
        loop.turn()
        assert line.ear.counts().buffered <= 5 * FRAME
    heard = [r.heard for r in loop.reports if isinstance(r, Spoken)]
    assert heard[-1] is not None
    assert heard[-1][0] > 0.26  # from the last two of 30 messages
    assert line.ear.counts().dropped > 50 * FRAME


def test_joining_leaving_and_pausing_change_nothing_for_others(model: Bundle) -> None:
    user = noise(40, 3)

    def sound(busy: bool) -> Samples:
        loop = Loop(model, slots=3)
        line = loop.line(0, seed=9)
        loop.turn()
        guests: list[Line] = []
        for n, frame in enumerate(user):
            line.ear.put(frame)
            for guest in guests:
                guest.ear.put(noise(1, n)[0])
            if busy and n % 9 == 2:
                guests = [loop.line(1, "Be kind." if n < 20 else "", seed=n), loop.line(2, seed=n + 1)]
            if busy and n % 9 == 5:
                loop.scheduler.pause(guests[0])
            if busy and n % 9 == 7:
                loop.scheduler.resume(guests[0])
            if busy and n % 9 == 8:
                for guest in guests:
                    loop.scheduler.leave(guest)
            loop.clock.time += 0.02 * (n == 0)
            loop.turn()
        return loop.said(line)

    quiet, loud = sound(False), sound(True)
    assert quiet.shape == loud.shape == (40, FRAME)
    np.testing.assert_allclose(loud, quiet, atol=1e-5)


def test_a_slot_begins_anew_for_the_next(model: Bundle) -> None:
    loop, user = Loop(model), noise(8, 4)
    said = []
    for _ in range(2):
        line = loop.line(1, "Be brief.", seed=4)
        loop.turn(2)
        for n, frame in enumerate(user):
            line.ear.put(frame)
            loop.clock.time += 0.02 * (n == 0)
            loop.turn()
        said.append(loop.said(line))
        loop.scheduler.leave(line)
        loop.turn()
    np.testing.assert_allclose(said[0], said[1], atol=1e-6)


def test_a_talk_that_was_paused_goes_on_where_it_stood(model: Bundle) -> None:
    user = noise(12, 5)

    def sound(pause: int) -> Samples:
        loop = Loop(model)
        line = loop.line(0, seed=1)
        loop.turn()
        for n, frame in enumerate(user):
            if pause and n == 6:
                loop.scheduler.pause(line)
                assert loop.turn(pause) == []
                line.ear.clear()
                loop.scheduler.resume(line)
            line.ear.put(frame)
            loop.clock.time += 0.02 * (n in (0, 6))
            loop.turn()
        return loop.said(line)

    np.testing.assert_allclose(sound(7), sound(0), atol=1e-6)


class TestPrompts:
    """Steps cost 30 ms and pieces of four frames 15 ms, by the clock."""

    @pytest.fixture
    def loop(self, model: Bundle, monkeypatch: pytest.MonkeyPatch) -> Loop:
        loop = Loop(model)
        self.pieces: list[int] = []
        step, prefill = loop.duplex.step, loop.duplex.engine.prefill

        def slow_step(*given: Any) -> Any:
            loop.clock.time += 0.030
            return step(*given)

        def slow_prefill(state: Any, slots: Any, codes: torch.Tensor) -> None:
            self.pieces.append(codes.shape[2])
            loop.clock.time += 0.015
            prefill(state, slots, codes)

        monkeypatch.setattr(loop.duplex, "step", slow_step)
        monkeypatch.setattr(loop.duplex.engine, "prefill", slow_prefill)
        return loop

    def talk(self, loop: Loop, line: Line, turns: int) -> list[Report]:
        before = len(loop.reports)
        for _ in range(turns):
            line.ear.put(noise(1, 6)[0])
            loop.turn()
        return loop.reports[before:]

    def test_reading_one_does_not_make_others_late(self, loop: Loop) -> None:
        line = loop.line(0)
        loop.turn()
        line.ear.put(noise(1, 6)[0])
        loop.clock.time += 0.02
        loop.turn()
        before = loop.metrics.registry.get_sample_value("duologue_start_late_seconds_sum")
        guest = loop.line(1, "a prompt")  # 26 letters with its tags, and 12 frames around them
        reports = self.talk(loop, line, 8)
        ready = next(i for i, r in enumerate(reports) if isinstance(r, Ready))
        assert ready == 4  # of ten pieces of 15 ms three fit into what a tick leaves
        assert [r.prompt_frames for r in reports if isinstance(r, Ready)] == [38]
        assert self.pieces == [4] * 9 + [2]
        assert max(r.late for r in loop.reports if isinstance(r, Spoken)) == 0
        assert loop.metrics.registry.get_sample_value("duologue_start_late_seconds_sum") == pytest.approx(before)
        assert guest.phase is Phase.WAITING

    def test_equal_ones_are_read_once(self, loop: Loop) -> None:
        loop.line(0, "the same")
        loop.turn()
        read = len(self.pieces)
        assert read > 3
        loop.line(1, "the same")
        assert [type(r) for r in loop.turn(2)] == [Ready]
        assert len(self.pieces) == read

    def test_one_is_read_even_if_there_is_never_time(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        line = loop.line(0)
        loop.turn()
        line.ear.put(noise(1, 6)[0])
        loop.clock.time += 0.02
        loop.turn()
        monkeypatch.setattr(loop.scheduler._desk, "_cost", 10.0)
        loop.line(1, "short")
        self.talk(loop, line, 30)
        assert len(self.pieces) == 1

    def test_one_that_is_too_long_ends_its_session_alone(self, loop: Loop) -> None:
        good, bad = loop.line(0), loop.line(1, "a" * 200)
        reports = loop.turn()
        assert kinds(reports) == [(Ready, good), (Failed, bad)]
        assert reports[1].mistake  # type: ignore[union-attr]
        assert "the prompt has" in reports[1].reason  # type: ignore[union-attr]
        assert bad.phase is Phase.GONE

    def test_one_who_leaves_meanwhile_is_forgotten(self, loop: Loop) -> None:
        line = loop.line(0)
        loop.turn()
        line.ear.put(noise(1, 6)[0])
        loop.clock.time += 0.02
        loop.turn()
        guest = loop.line(1, "a prompt")
        self.talk(loop, line, 1)
        loop.scheduler.leave(guest)
        other = loop.line(1)
        reports = self.talk(loop, line, 2)
        assert [r.line for r in reports if isinstance(r, Ready)] == [other]


class TestClock:
    def test_a_late_tick_is_caught_up_only_so_far(self, model: Bundle) -> None:
        loop = Loop(model)
        loop.turn()
        loop.clock.time = loop.due + (CATCH_UP - 0.5) * PERIOD
        assert loop.scheduler.following(loop.due) == loop.due + PERIOD
        loop.clock.time = loop.due + 50 * PERIOD
        assert loop.scheduler.following(loop.due) == loop.clock.time
        lost = loop.metrics.registry.get_sample_value("duologue_clock_lost_seconds_total")
        assert lost == pytest.approx(49 * PERIOD)

    def test_to_catch_up_is_for_sound_that_waits(self, model: Bundle) -> None:
        loop = Loop(model)
        one, two = loop.line(0), loop.line(1)
        loop.turn()
        for line in (one, two):
            line.ear.put(noise(1, 1)[0])
        loop.clock.time += 0.02
        loop.turn()
        one.ear.put(noise(2, 2).ravel())
        loop.clock.time += 1.5 * PERIOD
        assert kinds(loop.turn()) == [(Spoken, one)]
        assert two.ear.counts().starved == 0

    def test_frames_that_are_ready_too_late_say_so(self, model: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = Loop(model)
        line = loop.line(0)
        loop.turn()
        line.ear.put(noise(1, 1)[0])
        loop.clock.time += 0.02
        step = loop.duplex.step

        def slow(*given: Any) -> Any:
            loop.clock.time += 0.2
            return step(*given)

        monkeypatch.setattr(loop.duplex, "step", slow)
        (spoken,) = loop.turn()
        assert isinstance(spoken, Spoken)
        assert spoken.late == pytest.approx(0.2 + 0.02 - PERIOD)


class TestFailures:
    @pytest.fixture
    def loop(self, model: Bundle) -> Loop:
        return Loop(model)

    def test_one_s_own_fault_ends_it_alone(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        good, bad = loop.line(0), loop.line(1)
        loop.turn()
        for line in (good, bad):
            line.ear.put(noise(1, 1)[0])
        loop.clock.time += 0.02

        def fail() -> None:
            raise OSError("broken ear")

        monkeypatch.setattr(bad, "ear", type("Broken", (), {"full_since": 0.0, "take": staticmethod(fail)})())
        reports = loop.turn()
        assert sorted(type(r).__name__ for r in reports) == ["Failed", "Spoken"]
        (failed,) = [r for r in reports if isinstance(r, Failed)]
        assert failed.line is bad
        assert not failed.mistake
        assert "broken" not in failed.reason  # what went wrong inside is not for clients
        loop.line(1)
        good.ear.put(noise(1, 1)[0])
        assert {type(r) for r in loop.turn()} == {Ready, Spoken}

    def test_a_prompt_that_fails_says_why_if_the_client_can_mend_it(
        self, loop: Loop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> Any:
            raise UserError("has no text tokenizer", place="/secret/path", mend="leave out what has words in it")

        monkeypatch.setattr(loop.prompter, "read", fail)
        line = loop.line(0, "x")
        (failed,) = loop.turn()
        assert isinstance(failed, Failed)
        assert failed.reason == "prompt: has no text tokenizer; leave out what has words in it"
        assert failed.line is line

    def test_the_engine_s_fault_ends_all_and_the_next_begin_anew(
        self, loop: Loop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines = [loop.line(0), loop.line(1)]
        loop.turn()
        step = loop.duplex.step

        def fail(*_: Any) -> Any:
            raise RuntimeError("device-side assert")

        monkeypatch.setattr(loop.duplex, "step", fail)
        lines[0].ear.put(noise(1, 1)[0])
        loop.clock.time += 0.02
        assert kinds(loop.turn()) == [(Failed, lines[0]), (Failed, lines[1])]
        assert not loop.scheduler.broken
        monkeypatch.setattr(loop.duplex, "step", step)
        line = loop.line(0)
        loop.turn()
        line.ear.put(noise(1, 1)[0])
        loop.clock.time += 0.02
        assert kinds(loop.turn()) == [(Spoken, line)]

    def test_an_engine_that_fails_again_and_again_is_given_up(
        self, loop: Loop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> Any:
            raise RuntimeError("no device")

        monkeypatch.setattr(loop.duplex, "step", fail)
        for _ in range(FAILURES):
            assert not loop.scheduler.broken
            line = loop.line(0)
            loop.turn()
            line.ear.put(noise(1, 1)[0])
            loop.clock.time += 0.02
            loop.turn()
        assert loop.scheduler.broken
