"""Made-up talk for the tests of dialogue rules: readable timelines, and random ones for properties."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from duologue.dialogue.timeline import Timeline, Track, Word

STORY = ("we went up to the lake last summer and the water was still far too cold to swim in " * 40).split()


def said(*spans: tuple[float, float, str]) -> Track:
    """A track from (start, end, text): each text's words share its span evenly, without silence between them."""
    words: list[Word] = []
    for start, end, text in spans:
        parts = text.split()
        edges = np.linspace(start, end, len(parts) + 1).tolist()
        words += [Word(p, a, b) for p, a, b in zip(parts, edges[:-1], edges[1:], strict=True)]
    return Track.from_words(words)


def talk(agent: Track, user: Track, duration: float = 60.0) -> Timeline:
    return Timeline(agent, user, duration)


def without_words(timeline: Timeline) -> Timeline:
    return Timeline(Track(timeline.agent.speech), Track(timeline.user.speech), timeline.duration)


@st.composite
def spans_ms(draw: st.DrawFn, most: int = 12) -> list[tuple[int, int]]:
    """Disjoint, sorted spans in whole milliseconds, with silences and lengths around the rules' thresholds."""
    lengths = st.one_of(st.sampled_from([50, 200, 400, 999, 1000, 1001]), st.integers(10, 4000))
    steps = draw(st.lists(st.tuples(lengths, lengths), max_size=most))
    out, now = [], draw(st.integers(0, 1500))
    for silence, length in steps:
        out.append((now + silence, now + silence + length))
        now += silence + length
    return out


@st.composite
def timelines(draw: st.DrawFn, words: bool | None = None, origin_ms: int = 0) -> Timeline:
    """Random two-sided talk in whole milliseconds; short spans often carry backchannel forms or fillers.

    The user's times are 0.37 ms later, so that nothing of one side coincides with an edge or middle of the other: which
    way such a tie falls is left to rounding, and no property holds through it.
    """
    with_words = draw(st.booleans()) if words is None else words
    tracks = []
    for origin in (origin_ms, origin_ms + 0.37):
        spans = [((s + origin) / 1000, (e + origin) / 1000) for s, e in draw(spans_ms())]
        forms = draw(
            st.lists(
                st.sampled_from(["yeah", "uh", "that's right", "we went", "w-"]),
                min_size=len(spans),
                max_size=len(spans),
            )
        )
        texts = [f if e - s < 1.2 else "so we went there" for (s, e), f in zip(spans, forms, strict=True)]
        track = said(*((s, e, t) for (s, e), t in zip(spans, texts, strict=True)))
        tracks.append(track if with_words else Track(track.speech))
    end = max((float(t.speech[-1, 1]) for t in tracks if len(t.speech)), default=0.0)
    return Timeline(tracks[0], tracks[1], end + draw(st.integers(0, 3000)) / 1000)


def chatter(seed: int, minutes: float, *, words: bool = True) -> Timeline:
    """Long random talk: alternating turns of many bursts, with backchannels in between."""
    rng = np.random.default_rng(seed)
    spans: tuple[list[tuple[float, float, str]], list[tuple[float, float, str]]] = ([], [])
    now, side = 0.5, 0
    while now < minutes * 60 - 30:
        for _ in range(int(rng.integers(1, 8))):
            length = float(rng.uniform(0.3, 3.0))
            spans[side].append((now, now + length, " ".join(STORY[: max(2, int(length * 4))])))
            if rng.random() < 0.3:
                start = max(
                    now + float(rng.uniform(0.2, length)), spans[1 - side][-1][1] + 0.3 if spans[1 - side] else 0
                )
                spans[1 - side].append((start, start + 0.4, "yeah"))
            now += length + float(rng.uniform(0.05, 1.4))
        side = 1 - side
        now = max(now + float(rng.normal(0.0, 0.4)), spans[side][-1][1] + 0.25 if spans[side] else 0)
    timeline = Timeline(said(*spans[0]), said(*spans[1]), minutes * 60)
    return timeline if words else without_words(timeline)
