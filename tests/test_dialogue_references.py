"""Event definitions of other projects: pympi, scikit-talk, VAP and dGSLM agree with ours under the same rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from dialogue_talk import spans_ms, timelines
from duologue.dialogue.heldner import gaps_and_overlaps
from duologue.dialogue.intervals import as_intervals, merge, total
from duologue.dialogue.offsets import floor_transfer_offsets
from duologue.dialogue.silences import merged_line
from duologue.dialogue.timeline import Timeline
from duologue.dialogue.utterances import ipus
from duologue.dialogue.vap import VapRules, activity, vap_events

Spans = list[tuple[int, int]]
LETTERS = {"pause": "P", "gap": "G", "overlap": "O", "within": "W"}


def random_spans(rng: np.random.Generator, n: int, grid: int) -> Spans:
    """Disjoint spans on a coarse grid, so that edges of the two sides often coincide."""
    steps = rng.integers(1, 30, size=2 * n) * grid
    edges = np.cumsum(steps).reshape(-1, 2)
    return [(int(a), int(b)) for a, b in edges]


def test_events_equal_pympi_on_two_thousand_random_timelines() -> None:
    elan = pytest.importorskip("pympi").Elan
    rng = np.random.default_rng(7)
    seen = 0
    for _ in range(2000):
        sides = [random_spans(rng, int(rng.integers(0, 12)), int(rng.choice([1, 50]))) for _ in range(2)]
        eaf = elan.Eaf()
        for tier, spans in zip("AB", sides, strict=True):
            eaf.add_tier(tier)
            for start, end in spans:
                eaf.add_annotation(tier, start, end, "")
        theirs = [tuple(x) for x in eaf.get_gaps_and_overlaps2("A", "B")]
        ours = gaps_and_overlaps(as_intervals(sides[0]), as_intervals(sides[1]))
        names = [
            LETTERS[e.kind] + (f"{e.side + 1}" if e.kind == "pause" else f"{e.before + 1}{e.side + 1}") for e in ours
        ]
        assert [(e.start, e.end, name) for e, name in zip(ours, names, strict=True)] == theirs
        seen += len(theirs)
    assert seen > 15_000


def test_offsets_equal_scikit_talk_on_random_timelines() -> None:
    sktalk = pytest.importorskip("sktalk")
    utterance = pytest.importorskip("sktalk.corpus.utterance").Utterance
    rng = np.random.default_rng(8)
    found = 0
    for _ in range(300):
        sides = [random_spans(rng, int(rng.integers(1, 14)), int(rng.choice([20, 100]))) for _ in range(2)]
        line = sorted((s, e, side) for side, x in enumerate(sides) for s, e in x)
        made = [utterance(utterance=f"u{i}", participant="AB"[w], time=[s, e]) for i, (s, e, w) in enumerate(line)]
        conversation = sktalk.Conversation(made)
        conversation.calculate_FTO()
        theirs = [None if u.FTO is None else u.FTO / 1000 for u in conversation.utterances]
        ours = floor_transfer_offsets(as_intervals(sides[0]) / 1000, as_intervals(sides[1]) / 1000)
        assert [o.offset_s is None for o in ours] == [t is None for t in theirs]
        assert [o.offset_s for o in ours if o.offset_s is not None] == pytest.approx(
            [t for t in theirs if t is not None]
        )
        found += sum(t is not None for t in theirs)
    assert found > 1500


def frames(spans: Spans, hz: int = 100) -> np.ndarray:
    return as_intervals(spans) / hz


def test_vap_events_of_the_published_example() -> None:
    agent = frames([(0, 300), (585, 660), (840, 950), (1000, 1100), (1200, 1360)])
    user = frames([(350, 460), (480, 590), (670, 800), (1110, 1190), (1350, 1590)])
    active = activity(agent, user, 16.0, 100.0)
    events = vap_events(active, VapRules(frame_hz=100.0, silence_s=0.2))
    assert [(r.start, r.side) for r in events.shifts] == [(300, 1), (800, 0)]
    assert [(r.start, r.side) for r in events.holds] == [(460, 1), (950, 0)]
    assert [(r.start, r.side) for r in events.longs] == [(350, 1), (840, 0)]
    assert [(r.start, r.stop, r.side) for r in events.shorts] == [(585, 660, 0), (1110, 1190, 1)]
    default = vap_events(active, VapRules(frame_hz=100.0))
    assert [(r.start, r.side) for r in default.holds] == [(950, 0)]  # 0.2 s of silence are too short for 0.25 s


def test_vap_conditions_fail_beyond_the_edges_of_the_recording() -> None:
    agent, user = as_intervals([(3.0, 4.0)]), as_intervals([(4.5, 5.4)])
    assert vap_events(activity(agent, user, 5.4)).shifts == ()
    assert len(vap_events(activity(agent, as_intervals([(4.5, 5.5)]), 5.5)).shifts) == 1


def test_vap_fills_pauses_before_it_asks_for_a_second_of_speech() -> None:
    agent = as_intervals([(2.5, 3.4), (3.6, 4.0)])
    events = vap_events(activity(agent, as_intervals([(4.5, 7.0)]), 8.0))
    assert [(r.start, r.side) for r in events.shifts] == [(200, 1)]


def test_vap_shifts_need_one_speaker_alone_for_a_second() -> None:
    agent = as_intervals([(2.0, 5.0)])
    for inserted, found in (((3.2, 3.6), 1), ((4.2, 4.6), 0)):  # before and within the last second
        events = vap_events(activity(agent, as_intervals([inserted, (5.5, 8.0)]), 9.0))
        assert len(events.shifts) == found


def test_pauses_gaps_and_overlaps_are_found_where_they_were_planted() -> None:
    agent = merge([(0.0, 2.0), (2.5, 4.0), (9.0, 10.0)])
    user = merge([(4.7, 6.0), (5.9, 8.0), (9.5, 11.0)])
    line = merged_line((agent, user))
    np.testing.assert_allclose(line.pauses, [(2.0, 2.5)])
    np.testing.assert_allclose(line.gaps, [(4.0, 4.7), (8.0, 9.0)])
    np.testing.assert_allclose(line.overlaps, [(9.5, 10.0)])
    assert (line.pause_sides.tolist(), line.gap_sides.tolist(), line.overlap_sides.tolist()) == ([0], [1, 0], [1])
    np.testing.assert_allclose(line.turns, [(0.0, 4.0), (9.0, 10.0), (4.7, 8.0), (9.5, 11.0)])


def test_a_long_segment_over_a_short_one_leaves_no_false_silence() -> None:
    line = merged_line((merge([(0.0, 10.0), (10.5, 12.0)]), merge([(2.0, 3.0)])))
    np.testing.assert_allclose(line.pauses, [(10.0, 10.5)])
    assert len(line.gaps) == 0


@given(timelines())
@settings(max_examples=60, deadline=None)
def test_silence_is_shared_out_among_pauses_and_gaps(timeline: Timeline) -> None:
    units = ipus(timeline.agent), ipus(timeline.user)
    line = merged_line(units)
    together = merge(np.concatenate(units))
    if len(together):
        silence = together[-1, 1] - together[0, 0] - total(together)
        assert total(line.pauses) + total(line.gaps) == pytest.approx(silence)
    assert total(units[0]) + total(units[1]) - total(line.overlaps) == pytest.approx(total(together))
    assert len(line.turns) <= len(units[0]) + len(units[1])


@given(spans_ms(), spans_ms())
@settings(max_examples=60, deadline=None)
def test_swapping_the_sides_swaps_the_events(a: Spans, b: Spans) -> None:
    x, y = as_intervals(a) / 1000, as_intervals(b) / 1000
    edges = [*x.ravel(), *y.ravel()]
    if len(set(edges)) < len(edges):
        return  # exact ties are given to side 0
    straight, swapped = gaps_and_overlaps(x, y), gaps_and_overlaps(y, x)
    assert [(e.start, e.end, e.kind, 1 - e.side) for e in straight] == [
        (e.start, e.end, e.kind, e.side) for e in swapped
    ]
    there, back = floor_transfer_offsets(x, y), floor_transfer_offsets(y, x)
    assert [(o.start, 1 - o.side, o.offset_s) for o in there] == [tuple(o) for o in back]
