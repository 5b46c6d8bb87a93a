"""The rows about timing: agents whose plan is known get the numbers that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duologue.audio.wave import Audio
from duologue.bench.live import Line, LiveResult, live, run_live
from duologue.bench.nano_timing import measure, middle, resampled, share, timing_rows
from duologue.bench.results import wilson_interval
from duologue.bench.rows import Row, table
from duologue.corpus.scenarios import FRAME_S, Act
from duologue.dialogue.distance import divergence
from duologue.dialogue.reference import human_distribution
from duologue.dialogue.timeline import Timeline, Track, Word
from duologue.engine.bundle import load
from test_live import SHORT, TURN, Answers, Plan, Planned, Speaker, never_stops, scenario, silent

PAUSED = Act(kind="turn", parts=("one", "two"), pauses=(1.6,), wait=0.8)
CUT_IN = Act(kind="interruption", parts=("wait",), cue="speaking", wait=2.4)
ANSWERED, OFFSET, TAKEN, STOPS, NODS, TALK = range(6)


def played(plan: Callable[[], Plan], *acts: Act, talks: int = 2) -> list[LiveResult]:
    many = [scenario(*acts, name=f"s{n}") for n in range(talks)]
    return list(live(Planned(talks, plan), many, seed=0, voice=lambda s: Speaker()))


def told(
    *agent: tuple[float, float], acts: tuple[Act, ...] = (TURN,), lines: Iterable[Line] = (), duration: float = 20.0,
    name: str = "x", words: Iterable[Word] | None = None, voice: str = "speaker",
) -> LiveResult:  # fmt: skip
    """A talk of which only the times matter: the user speaks from 4 to 6 s unless `lines` say otherwise."""
    said = tuple(lines) or (line(0, 0, 4.0, 6.0),)
    user = Track.of([(x.start, x.end) for x in said])
    return LiveResult(
        scenario=scenario(*acts, name=name), voice=voice, seed=0, audio=Audio(np.zeros((2, 1), np.float32), 24_000),
        timeline=Timeline(Track.of(list(agent), words), user, duration), lines=said, events=(),
        active=np.zeros(0, np.bool_), codes=torch.zeros(17, 0, dtype=torch.long), prompt_frames=0,
    )  # fmt: skip


def line(act: int, part: int, start: float, end: float, *, cut: bool = False) -> Line:
    return Line(act=act, part=part, start=start, end=end, cut=cut)


class TestAgents:
    """Stand-ins live against the scripted user, through the speech detector."""

    def test_one_that_answers_after_0_4_s(self) -> None:
        rows = timing_rows(played(Answers, TURN))
        assert (rows[ANSWERED].value, rows[ANSWERED].n, rows[ANSWERED].passed) == (1.0, 2, True)
        assert rows[ANSWERED].interval == wilson_interval(2, 2)
        assert rows[OFFSET].value == pytest.approx(0.4, abs=0.1)
        assert rows[OFFSET].passed
        assert rows[TAKEN].value is rows[STOPS].value is None
        # Six seconds of its talk fall into the 2.4 s after the user's.
        assert rows[TALK].value == pytest.approx(2.0 / 3.2, abs=0.05)

    def test_one_that_is_silent(self) -> None:
        rows = timing_rows(played(silent, PAUSED))
        assert (rows[ANSWERED].value, rows[ANSWERED].n, rows[ANSWERED].passed) == (0.0, 2, False)
        assert rows[OFFSET].value is None
        assert (rows[TAKEN].value, rows[TAKEN].n, rows[TAKEN].passed) == (0.0, 2, True)
        assert (rows[STOPS].value, rows[STOPS].n, rows[STOPS].passed) == (None, 0, None)
        assert rows[TALK].value == 0
        assert rows[NODS].value == 0
        assert rows[NODS].interval == pytest.approx((0.0, -log(0.025) / (4 * 1.2 / 60)))
        assert all(row.value is None for row in rows[TALK + 1 :])

    def test_one_that_never_stops(self) -> None:
        rows = timing_rows(played(never_stops, PAUSED, CUT_IN))
        assert (rows[ANSWERED].value, rows[ANSWERED].n) == (0.0, 2)
        assert (rows[TAKEN].value, rows[TAKEN].passed) == (1.0, False)
        assert (rows[STOPS].value, rows[STOPS].n, rows[STOPS].passed) == (0.0, 2, False)

    def test_one_that_waits_too_long(self) -> None:
        rows = timing_rows(played(lambda: Answers(after=28), PAUSED))
        assert rows[ANSWERED].value == 0
        assert rows[TAKEN].value == 0

    def test_one_that_takes_over_in_a_pause(self) -> None:
        """0.4 s into a pause of 1.6 s it speaks for 1.2 s, which is a turn; and it answers at the end as well."""
        rows = timing_rows(played(Answers, PAUSED))
        assert (rows[TAKEN].value, rows[TAKEN].n) == (1.0, 2)
        assert rows[ANSWERED].value == 1

    @pytest.mark.parametrize(("frames", "share"), [(1, 1.0), (12, 1.0), (30, 0.0)])
    def test_one_that_stops_so_many_frames_after_an_interruption(self, frames: int, share: float) -> None:
        long = Act(kind="interruption", parts=("wait", "no"), pauses=(0.16,), cue="speaking", wait=2.4)
        found = played(lambda: Answers(stops=frames, seconds=12.0), TURN, long)
        rows = timing_rows(found)
        assert (rows[STOPS].value, rows[STOPS].n) == (share, 2)
        if frames < 30:  # it is heard a frame later than it decides
            assert measure(found[0]).stops[0] == pytest.approx((frames + 1) * FRAME_S, abs=0.15)

    def test_one_that_nods_while_the_user_talks(self) -> None:
        story = Act(kind="turn", parts=("one", "two", "three"), pauses=(0.4, 0.4), wait=0.8)
        rows = timing_rows(played(lambda: lambda call, quiet: 24 <= call < 30, story))
        assert (rows[NODS].value, rows[NODS].n) == (pytest.approx(1 / (3.6 / 60)), 2)
        assert rows[ANSWERED].value == 0
        assert "length alone" in rows[NODS].note

    def test_a_random_model_gets_every_row(self) -> None:
        """It makes noise."""
        bundle = load("random:tiny@0", device="cpu")
        rows = timing_rows(run_live(bundle, [SHORT], slots=1, seed=0, voice=lambda s: Speaker()))
        assert len(rows) == 9
        assert rows[ANSWERED].n == 0
        assert rows[TALK].value is not None


class TestAnswers:
    """Which stretches of the agent answer a turn that ends at 6 s."""

    @pytest.mark.parametrize(
        ("start", "expected"),
        [(8.0, 2.0), (8.01, None), (5.5, -0.5), (4.3, -1.7), (4.1, None), (3.0, None), (6.0, 0.0)],
    )
    def test_they_begin_from_the_user_s_last_stretch_to_2_s_after_it(
        self, start: float, expected: float | None
    ) -> None:
        (found,) = measure(told((start, start + 5.0))).answers
        assert found == (None if expected is None else pytest.approx(expected))

    def test_a_short_sound_is_none_unless_it_has_words(self) -> None:
        assert measure(told((6.3, 7.2))).answers == (None,)
        spoken = [Word(w, 6.3 + 0.2 * i, 6.5 + 0.2 * i) for i, w in enumerate(["yes", "it", "is", "so"])]
        assert measure(told((6.3, 7.2), words=spoken)).answers == (pytest.approx(0.3),)

    def test_a_turn_that_the_user_gave_up_does_not_count(self) -> None:
        assert measure(told(lines=[line(0, 0, 4.0, 6.0, cut=True)])).answers == ()
        assert measure(told(acts=(PAUSED,), lines=[line(0, 0, 4.0, 6.0)])).answers == ()

    def test_a_turn_at_the_end_counts_only_if_it_was_answered(self) -> None:
        assert measure(told(duration=7.9)).answers == ()
        assert measure(told(duration=8.0)).answers == (None,)
        assert measure(told((6.5, 7.9), duration=7.9)).answers == (pytest.approx(0.5),)

    def test_an_interruption_is_no_turn(self) -> None:
        assert measure(told((6.5, 9.0), acts=(CUT_IN,))).answers == ()


class TestPausesAndStops:
    """At their limits."""

    lines = (line(0, 0, 4.0, 6.0), line(0, 1, 7.6, 9.0))

    @pytest.mark.parametrize(
        ("span", "taken"),
        [((6.2, 7.3), True), ((6.2, 7.1), False), ((7.79, 9.0), True), ((7.81, 9.2), False), ((3.0, 6.1), True),
         ((3.0, 5.9), False)],
    )  # fmt: skip
    def test_a_turn_that_touches_a_pause_takes_it(self, span: tuple[float, float], taken: bool) -> None:
        assert measure(told(span, acts=(PAUSED,), lines=self.lines)).taken == (taken,)

    def test_a_short_break_is_no_pause(self) -> None:
        short = Act(kind="turn", parts=("one", "two"), pauses=(0.56,))
        assert measure(told((6.0, 9.0), acts=(short,), lines=self.lines)).taken == ()

    @pytest.mark.parametrize(("end", "value"), [(5.5, 1.0), (5.51, 0.0)])
    def test_a_stop_is_in_time_up_to_1_5_s(self, end: float, value: float) -> None:
        row = timing_rows([told((1.0, end), acts=(CUT_IN,))])[STOPS]
        assert (row.value, row.n) == (value, 1)

    def test_an_agent_that_was_silent_was_not_interrupted(self) -> None:
        assert measure(told((4.1, 9.0), acts=(CUT_IN,))).stops == ()


class TestHuman:
    """Divergences from human talk."""

    def test_the_value_is_that_of_the_agent_s_own_events(self) -> None:
        lates = [0.1, 0.3, 0.5, 0.9, 1.3]
        talks = [told((6 + late, 12.0), name=f"s{i}") for i, late in enumerate(lates)]
        row = timing_rows(talks)[6]
        expected = divergence(lates, human_distribution("floor_transfer_offset"))
        assert (row.value, row.n) == (pytest.approx(expected.value), 5)
        assert "n < 1,000" in row.note
        assert f"{expected.floor:.4f}" in row.note
        assert row.interval is not None
        assert row.interval[0] < expected.value < row.interval[1]

    def test_the_interval_lies_around_the_value(self) -> None:
        """Few events drawn again are farther from people than they were: all resamplings are above the value."""
        lates = human_distribution("floor_transfer_offset").quantiles_s[2:99:3].tolist()
        row = timing_rows([told((6 + late, 12.0), name=f"s{i:02}") for i, late in enumerate(lates)])[6]
        assert row.value is not None
        assert row.interval is not None
        assert row.interval[0] < row.value < row.interval[1]

    def test_enough_events_are_not_called_few(self) -> None:
        lines = [line(n, 0, 10 * n + 4.0, 10 * n + 6.0) for n in range(500)]
        agent = [(10 * n + 6.4, 10 * n + 9.0) for n in range(500)]
        talks = [told(*agent, acts=(TURN,) * 500, lines=lines, duration=5000.0, name=f"s{i}") for i in range(3)]
        row = timing_rows(talks)[6]
        assert row.n == 1500
        assert "n <" not in row.note


class TestRows:
    """What all have in common."""

    def test_the_order_of_the_talks_does_not_matter(self) -> None:
        talks = [told((6 + 0.1 * i, 12.0), name=f"s{i}") for i in range(8)]
        assert timing_rows(talks) == timing_rows(reversed(talks))

    def test_talks_are_drawn_and_not_events(self) -> None:
        """All of one talk's offsets are alike, so that the interval is as wide as the talks are apart."""
        lines = [line(n, 0, 10 * n + 4.0, 10 * n + 6.0) for n in range(20)]
        talks = []
        for i, late in enumerate((0.2, 0.8)):
            agent = [(10 * n + 6.0 + late, 10 * n + 9.0) for n in range(20)]
            talks.append(told(*agent, acts=(TURN,) * 20, lines=lines, duration=200.0, name=f"s{i}"))
        row = timing_rows(talks)[OFFSET]
        assert row.n == 40
        assert row.interval == pytest.approx((0.2, 0.8))

    def test_nothing_was_measured_without_talks(self) -> None:
        rows = timing_rows([])
        assert len(rows) == 9
        assert all(row.value is None and row.passed is None for row in rows)
        assert table(rows).count("not measured") >= 9

    def test_babble_is_told(self) -> None:
        rows = timing_rows([told((6.3, 9.0), voice="mock/babble-1")])
        assert all("babble" in row.note for row in rows if row.value is not None)
        assert not any("babble" in row.note for row in timing_rows([told((6.3, 9.0))]))

    @given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0, 1))
    def test_a_share_passes_by_its_bound_and_lies_in_its_interval(self, hits: list[bool], bound: float) -> None:
        least, most = share("x", hits, "y", least=bound), share("x", hits, "y", most=bound)
        value = sum(hits) / len(hits)
        assert least.value == most.value == value
        assert (least.passed, most.passed) == (value >= bound, value <= bound)
        assert least.interval is not None
        assert least.interval[0] <= value + 1e-12
        assert value - 1e-12 <= least.interval[1]

    def test_an_interval_needs_values(self) -> None:
        assert middle(resampled(3, lambda counts: np.full(len(counts), np.nan))) is None
        low, high = middle(resampled(50, lambda counts: counts @ np.arange(50) / 50)) or (0, 0)
        assert (low, high) == pytest.approx((20.5, 28.5), abs=1.0)

    def test_a_table_is_aligned_and_numbers_its_notes(self) -> None:
        rows = [
            Row(what="a", value=0.5, n=4, interval=(0.25, 0.75), target=">= 0.70", passed=False, note="one"),
            Row(what="longer", value=None, n=None, interval=None, target="reported", passed=None, note="two"),
            Row(what="b", value=1234.5, n=1, interval=None, target="<= 2000", passed=True, note="one"),
        ]
        assert table(rows).splitlines() == [
            "what           value   95 % interval  n  target",
            "------  ------------  --------------  -  --------  ----------",
            "a              0.500  0.250 to 0.750  4  >= 0.70   missed [1]",
            "longer  not measured                     reported  [2]",
            "b               1234                  1  <= 2000   met [1]",
            "[1] one",
            "[2] two",
        ]
