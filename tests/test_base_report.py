"""The report page as a file: what stands in it, what cannot break out of it, and how audio fits its budget."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.base.errors import UserError
from duologue.base.report import Band, Bracket, Cell, Figure, Lane, Mark, Page, Sample, Span, Table, write_report
from duologue.base.report.sound import GRADES, encode, envelope
from duologue.base.report.write import format_fact

RATE = 24_000
NAN = float("nan")
WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def noise(seconds: float, seed: int = 0, channels: int = 2) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.1, (channels, round(seconds * RATE))).astype(np.float32)


def sample(index: int = 0, **changes) -> Sample:
    base = Sample(f"s{index}", f"Sample {index}", 2.0, (Lane("user", (Span(0.1, 0.9),), (("hi", 0.1, 0.4),), wave=1),))
    return replace(base, **changes)


def written(tmp_path: Path, page: Page) -> str:
    return write_report(tmp_path / "report.html", page).read_text(encoding="utf-8")


def blocks(html: str, kind: str) -> dict[str, str]:
    """Script elements of a type by id, cut as a browser cuts them: at the first closing tag."""
    return dict(re.findall(rf'<script type="{kind}" id="([^"]+)">(.*?)</script', html, re.S | re.I))


def samples_of(html: str) -> list[dict]:
    return json.loads(blocks(html, "application/json")["samples-data"])


def sounds_of(html: str, count: int) -> list[dict]:
    return [json.loads(blocks(html, "application/json")[f"sound-{i}"]) for i in range(count)]


def test_page_holds_all_its_parts(tmp_path):
    page = Page(
        "Pauses",
        subtitle="one task",
        tables=(Table("Scores", ("task", "rate"), (("pause", 0.5),), note="lower is better"),),
        figures=(Figure("Delays", '<svg id="drawing"></svg>', "in seconds"),),
        samples=(sample(why="it waited", verdict="waited", status="good"),),
        notes=("proxy judge",),
        command="duologue score",
        made=WHEN,
    )
    html = written(tmp_path, page)
    for text in ("Pauses", "one task", "lower is better", '<svg id="drawing">', "in seconds", "proxy judge"):
        assert text in html
    assert "<code>duologue score</code>" in html
    assert "2026-01-02 03:04 UTC" in html
    (card,) = samples_of(html)
    assert (card["verdict"], card["status"], card["why"]) == ("waited", "good", "it waited")


def test_page_asks_nothing_of_the_network(tmp_path):
    html = written(tmp_path, Page("t", samples=(sample(),)))
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)
    assert "default-src 'none'" in html


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.one_of(st.sampled_from("</script>\"'&!-\\\u2028\ud800"), st.characters()), max_size=30))
def test_texts_come_back_as_they_were(tmp_path_factory, text):
    hostile = sample(id=text, title=text, why=text, verdict=text, facts={text: text}, lanes=(Lane(text, words=()),))
    folder = tmp_path_factory.mktemp("report")
    html = written(folder, Page(text, notes=(text,), command=text, samples=(hostile,), made=WHEN))
    (card,) = samples_of(html)
    assert card["title"] == card["why"] == card["id"] == card["lanes"][0]["name"] == text
    assert card["facts"] == [[text, text, None]]


def test_hostile_texts_make_no_markup(tmp_path):
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'<!--"
    table = Table(bad, (bad,), ((bad,), (Cell(bad, bad),)), note=bad)
    page = Page(bad, bad, tables=(table,), figures=(Figure(bad, "<svg/>", bad),), notes=(bad,), command=bad)
    html = written(tmp_path, replace(page, samples=(sample(title=bad, marks=(Mark(1.0, bad),)),)))
    assert "<img" not in html
    assert "<script>alert" not in html
    assert html.count("<script>") == 1


def test_what_was_not_measured_never_reads_as_a_number(tmp_path):
    rows = ((None, NAN, np.float32("nan"), float("inf")), (1, 2.5, np.float32(0.5), -0.0))
    facts = {"a": None, "b": NAN, "c": 0.0, "d": np.float64(1.5)}
    html = written(tmp_path, Page("t", tables=(Table("t", "abcd", rows),), samples=(sample(facts=facts),)))
    assert html.count('title="not measured"') == 4
    assert re.findall(r">([\d.]+)</td>", html) == ["1", "2.500", "0.500", "0.000"]
    assert samples_of(html)[0]["facts"] == [
        ["a", None, None],
        ["b", None, None],
        ["c", "0.000", 0.0],
        ["d", "1.500", 1.5],
    ]


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 6))
def test_a_number_that_is_not_zero_is_not_printed_as_zero(value, decimals):
    shown = format_fact(value, decimals)
    assert shown is not None
    assert (float(shown.replace(",", "")) == 0) == (value == 0)


def test_whole_numbers_and_booleans_are_printed_as_such():
    assert [format_fact(v) for v in (2026, 12345, True, np.int64(3))] == ["2026", "12,345", "yes", "3"]


def test_columns_of_numbers_are_aligned_right(tmp_path):
    rows = (("pause", "0.4 ± 0.1", "7B", None), ("gap", 3, "nano", Cell(0.5, "n = 5")))
    html = written(tmp_path, Page("t", tables=(Table("t", ("event", "rate", "model", "x"), rows),)))
    assert re.findall(r'<th scope="col"( class="number")?>', html) == ["", ' class="number"', "", ' class="number"']
    assert '<th scope="row">pause</th>' in html


def test_table_with_a_missing_header_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2 headers and 3 columns"):
        written(tmp_path, Page("t", tables=(Table("t", ("a", "b"), ((1, 2, 3),)),)))
    assert not list(tmp_path.iterdir())


def test_what_has_no_time_is_not_drawn_but_its_word_is_kept(tmp_path):
    lane = Lane("agent", (Span(NAN, 1.0), Span(0.0, 1.0)), (("lost", NAN, NAN), ("found", 0.123456, 0.5)))
    card = sample(lanes=(lane,), marks=(Mark(NAN, "onset"),), bands=(Band(0.0, NAN),), brackets=(Bracket(1.0, NAN),))
    data = samples_of(written(tmp_path, Page("t", samples=(card,))))[0]
    assert data["lanes"][0]["spans"] == [[0.0, 1.0, "speech", ""]]
    assert data["lanes"][0]["words"] == [["lost"], ["found", 0.123, 0.5]]
    assert data["marks"] == data["bands"] == data["brackets"] == []


def test_sample_without_a_length_is_refused(tmp_path):
    for duration in (0.0, -1.0, NAN):
        with pytest.raises(ValueError, match="s0"):
            written(tmp_path, Page("t", samples=(sample(duration=duration),)))


def test_same_page_gives_the_same_bytes(tmp_path):
    page = Page("t", samples=(sample(audio=lambda: (noise(2.0), RATE)),), made=WHEN)
    assert written(tmp_path, page) == written(tmp_path, page)


def test_audio_of_the_best_grade_is_exact(tmp_path):
    levels = (np.random.default_rng(0).integers(-32768, 32768, (2, RATE))).astype(np.int16)
    audio = (levels / 32768).astype(np.float32)
    html = written(tmp_path, Page("t", samples=(sample(audio=lambda: (audio, RATE)),)))
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(blocks(html, "text/plain")["flac-0"])), dtype="int16")
    assert rate == RATE
    np.testing.assert_array_equal(heard.T, levels)
    assert sounds_of(html, 1)[0]["note"] == "24 kHz, 16 bit"


@pytest.mark.parametrize("grade", GRADES)
def test_coarser_grades_stay_close_and_in_time(grade):
    time = np.arange(RATE * 2) / RATE
    audio = np.stack([0.5 * np.sin(2 * np.pi * 440 * time), np.zeros_like(time)]).astype(np.float32)
    flac, _ = encode(audio, RATE, grade)
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(flac)))
    assert rate == grade.rate
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(heard)) / rate)
    inner = slice(rate // 10, -rate // 10)
    assert np.abs(heard[inner, 0] - expected[inner]).max() < 2.0 ** (1 - grade.bits) + 0.002
    assert np.abs(heard[:, 1]).max() == 0


def test_full_scale_does_not_wrap_around():
    audio = np.array([[2.0, 1.0, -1.0, -2.0] * 100], dtype=np.float32)
    for grade in GRADES[:2]:
        flac, _ = encode(audio, RATE, grade)
        heard, _ = soundfile.read(io.BytesIO(base64.b64decode(flac)))
        np.testing.assert_allclose(heard, np.clip(audio[0], -1, 1), atol=0.001)


def test_envelope_shows_the_sound_where_it_is():
    audio = np.zeros((2, RATE * 2), np.float32)
    audio[1, RATE : RATE + 100] = 0.25
    (quiet, loud), rate = envelope(audio, RATE)
    assert rate == 50
    assert not any(base64.b64decode(quiet))
    assert [i for i, level in enumerate(base64.b64decode(loud)) if level] == [50]


def test_envelope_of_a_long_recording_is_bounded():
    rows, rate = envelope(np.ones((1, 8_000 * 600), np.float32), 8_000)
    assert len(base64.b64decode(rows[0])) == 3_000
    assert rate == pytest.approx(5.0)


def budget_page(megabytes: float, count: int = 8) -> Page:
    cards = [sample(i, audio=lambda i=i: (noise(2.0, i), RATE)) for i in range(count)]
    return Page("t", samples=cards, made=WHEN, audio_budget_mb=megabytes)


@pytest.mark.parametrize("megabytes", [3.0, 1.2, 0.6, 0.2, 0.1, 0.0])
def test_audio_stays_within_its_budget(tmp_path, megabytes):
    html = written(tmp_path, budget_page(megabytes))
    assert sum(map(len, blocks(html, "text/plain").values())) <= megabytes * 1e6


def test_nothing_is_said_where_all_audio_fits(tmp_path):
    html = written(tmp_path, budget_page(60))
    assert {sound["note"] for sound in sounds_of(html, 8)} == {"24 kHz, 16 bit"}
    assert blocks(html, "application/json")["sound-summary"] == '""'


def test_small_budget_makes_all_audio_coarser_and_says_so(tmp_path):
    html = written(tmp_path, budget_page(0.6))
    notes = {sound["note"] for sound in sounds_of(html, 8)}
    assert len(notes) == 1
    assert notes != {"24 kHz, 16 bit"}
    assert "reduced, down to" in blocks(html, "application/json")["sound-summary"]
    assert len(blocks(html, "text/plain")) == 8


def test_what_does_not_fit_is_left_out_and_counted(tmp_path):
    html = written(tmp_path, budget_page(0.1))
    sounds = sounds_of(html, 8)
    silent = [sound for sound in sounds if "does not fit into the page's 0.1 MB" in sound["note"]]
    assert silent
    assert len(silent) + len(blocks(html, "text/plain")) == 8
    assert f"{len(silent)} of the samples have no audio" in blocks(html, "application/json")["sound-summary"]
    assert all(sound["peaks"] for sound in sounds), "the envelope is seen even where nothing can be heard"


def test_missing_audio_is_named_and_does_not_stop_the_page(tmp_path):
    def broken():
        raise UserError("no such file", place="lost.wav")

    cards = [
        sample(0),
        sample(1, audio=lambda: None),
        sample(2, audio=broken),
        sample(3, audio=lambda: (np.zeros((2, 0), np.float32), RATE)),
    ]
    for megabytes in (60.0, 0.0):
        html = written(tmp_path, Page("t", samples=cards, audio_budget_mb=megabytes))
        notes = [sound["note"] for sound in sounds_of(html, 4)]
        assert notes == [
            "no audio",
            "no audio",
            "no audio: lost.wav: no such file",
            "no audio: the recording is empty",
        ]


def test_mono_and_one_dimensional_audio_are_accepted(tmp_path):
    html = written(tmp_path, Page("t", samples=(sample(audio=lambda: (noise(1.0)[0], RATE)),)))
    assert len(sounds_of(html, 1)[0]["peaks"]) == 1


def test_audio_of_a_wrong_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected"):
        written(tmp_path, Page("t", samples=(sample(audio=lambda: (noise(1.0).T, RATE)),)))


def test_only_one_recording_is_held_at_a_time(tmp_path):
    import weakref

    alive: list[weakref.ref] = []

    def read():
        assert sum(ref() is not None for ref in alive) <= 1
        audio = noise(0.5)
        alive.append(weakref.ref(audio))
        return audio, RATE

    written(tmp_path, Page("t", samples=[sample(i, audio=read) for i in range(5)]))
    assert len(alive) == 5
