"""Utterances and the floor by the human reference's rules, and the alignment paper's: planted events are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from dialogue_talk import said, talk, timelines, without_words
from duologue.dialogue.floor import find_floor
from duologue.dialogue.lexicon import human_lexicon, is_fragment, plain_words
from duologue.dialogue.observe import observe
from duologue.dialogue.timeline import Timeline, Track, Word
from duologue.dialogue.utterances import AlignmentRules, HumanRules, alignment_utterances, human_utterances, ipus

# ---- lexicon -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["Yeah.", "uh-huh", "Mm-hmm.", "uh huh", "That’s right,", "well yeah", "uh yeah um that's true", "oh i see okay",
     "y- yeah", "is that right", "I'll be darned"],
)  # fmt: skip
def test_backchannel_forms_split_into_units_of_the_lexicon(text: str) -> None:
    words = plain_words(text)
    assert human_lexicon().is_backchannel(words)
    assert not human_lexicon().is_filler_only(words)


@pytest.mark.parametrize("text", ["yeah but", "that's", "yeah well", "well", "i", "lake", "right there", "darned"])
def test_other_words_make_no_backchannel(text: str) -> None:
    assert not human_lexicon().is_backchannel(plain_words(text))


@pytest.mark.parametrize("text", ["uh", "Um, uh", "er s-", "", "uh-"])
def test_fillers_and_fragments_alone_are_neither(text: str) -> None:
    words = plain_words(text)
    assert human_lexicon().is_filler_only(words)
    assert not human_lexicon().is_backchannel(words)


def test_the_lexicon_is_the_shipped_one_and_our_spellings_lead_into_it() -> None:
    lexicon = human_lexicon()
    assert (len(lexicon.words), len(lexicon.phrases)) == (35, 46)
    assert is_fragment("w[ord]-")
    assert not is_fragment("uh-huh")


# ---- utterances --------------------------------------------------------------------------------------------------


def spans(utterances: list) -> list[tuple[float, float]]:
    return [(round(u.start, 3), round(u.end, 3)) for u in utterances]


def test_speech_merges_into_units_over_a_fifth_of_a_second_and_into_utterances_over_a_second() -> None:
    track = Track.of([(0.0, 1.0), (1.2, 2.0), (2.21, 3.0), (4.0, 5.0), (6.01, 8.0)])
    np.testing.assert_allclose(ipus(track), [(0.0, 2.0), (2.21, 3.0), (4.0, 5.0), (6.01, 8.0)])
    _, (found, _) = human_utterances(Timeline(track, Track.of([]), 10.0))
    assert spans(found) == [(0.0, 5.0), (6.01, 8.0)]


def test_a_partner_turn_inside_a_silence_ends_the_utterance_and_a_backchannel_does_not() -> None:
    agent = said((0.0, 3.0, "we went up to the lake"), (3.9, 7.0, "and the water was cold"))
    _, (split, _) = human_utterances(talk(agent, said((3.1, 3.8, "which lake was it"))))
    _, (whole, _) = human_utterances(talk(agent, said((3.1, 3.8, "uh-huh"))))
    assert spans(split) == [(0.0, 3.0), (3.9, 7.0)]
    assert spans(whole) == [(0.0, 7.0)]


def test_the_midpoint_of_the_partner_unit_decides_whether_the_silence_splits() -> None:
    agent = said((0.0, 3.0, "we went up to the lake"), (3.9, 7.0, "and the water was cold"))
    inside, outside = said((1.0, 6.0, "no it was warm")), said((3.5, 8.0, "no it was warm"))
    assert len(human_utterances(talk(agent, inside))[1][0]) == 2  # middle 3.5 s
    assert len(human_utterances(talk(agent, outside))[1][0]) == 1  # middle 5.75 s
    literal = HumanRules(split_at_partner_turns=False)
    assert len(human_utterances(talk(agent, inside), literal)[1][0]) == 1


def test_forms_need_words_on_both_sides_and_fall_back_to_duration() -> None:
    agent, user = said((0.0, 9.0, "we went up to the lake")), said((1.0, 1.6, "which lake"), (2.0, 3.1, "yeah right"))
    lexical = find_floor(talk(agent, user))
    fallback = find_floor(talk(agent, Track(user.speech)))
    assert lexical.form_rule == "lexical"
    assert [u.form for u in lexical.utterances if u.side == 1] == ["full"]  # 0.4 s apart: one utterance of 2.1 s
    assert fallback.form_rule == "duration"
    short = talk(agent, Track.of([(1.0, 1.6)]))
    assert [u.form for u in find_floor(short).utterances if u.side == 1] == ["backchannel"]


def test_a_transcribed_noise_without_words_never_takes_the_floor() -> None:
    agent = said((0.0, 4.0, "we went up to the lake"))
    laughter = Track.of([(4.2, 4.9)], words=())
    floor = find_floor(talk(agent, laughter))
    assert [u.form for u in floor.utterances] == ["full", "filler"]
    assert len(floor.turns) == 1


def test_words_that_recognisers_put_beside_the_speech_go_to_the_nearest_unit() -> None:
    user = Track.of([(5.0, 5.5), (9.0, 9.4)], words=[Word("yeah", 5.6, 5.9), Word("right", 8.6, 8.8)])
    agent = said((0.0, 12.0, "we went up to the lake"))
    assert [u.form for u in find_floor(talk(agent, user)).utterances if u.side == 1] == ["backchannel", "backchannel"]


def test_the_alignment_rule_is_literal() -> None:
    track = Track.of([(0.0, 0.5), (1.5, 4.0), (5.01, 6.01), (8.0, 9.2)])
    found = alignment_utterances(track, 0)
    assert spans(found) == [(0.0, 4.0), (5.01, 6.01), (8.0, 9.2)]
    assert [u.form for u in found] == ["full", "backchannel", "full"]
    seen = observe(Timeline(track, Track.of([(4.0, 4.2)]), 10.0), AlignmentRules())
    np.testing.assert_allclose(seen.values["alignment_pause"][0], [1.0])
    np.testing.assert_allclose(seen.values["alignment_backchannel"][0], [1.0])
    np.testing.assert_allclose(seen.values["alignment_backchannel"][1], [0.2])
    np.testing.assert_allclose(seen.values["alignment_offset"][1], [0.0])
    np.testing.assert_allclose(seen.values["alignment_offset"][0], [0.81])


# ---- the floor: planted events -----------------------------------------------------------------------------------


def test_a_gap_between_two_turns_is_their_floor_transfer_offset() -> None:
    floor = find_floor(talk(said((0.0, 3.0, "we went up to the lake")), said((3.4, 6.0, "which lake was that"))))
    assert [(t.start, t.end, t.side) for t in floor.turns] == [(0.0, 3.0, 0), (3.4, 6.0, 1)]
    assert [(round(v, 6), s) for v, s in floor.transfers()] == [(0.4, 1)]


def test_an_interruption_is_found_with_the_speech_that_was_left() -> None:
    floor = find_floor(talk(said((0.0, 5.0, "we went up to the lake")), said((4.2, 7.0, "hold on which lake"))))
    (cut,) = floor.interruptions
    assert cut.takes_floor
    assert cut.remaining_s == pytest.approx(0.8)
    assert floor.transfers()[0][0] == pytest.approx(-0.8)
    seen = observe(talk(said((0.0, 5.0, "we went up")), said((4.2, 7.0, "hold on")), 8.0))
    np.testing.assert_allclose(seen.values["barge_in"][1], [0.8])


def test_an_overlap_under_half_a_second_is_no_barge_in() -> None:
    seen = observe(talk(said((0.0, 5.0, "we went up")), said((4.6, 7.0, "hold on")), 8.0))
    np.testing.assert_allclose(seen.values["interruption"][1], [0.4])
    assert len(seen.values["barge_in"][1]) == 0


def test_an_utterance_that_ends_before_the_holder_does_is_an_insertion() -> None:
    floor = find_floor(talk(said((0.0, 6.0, "we went up to the lake")), said((2.0, 3.5, "the big lake you mean"))))
    assert [(u.start, u.end) for u in floor.insertions] == [(2.0, 3.5)]
    (cut,) = floor.interruptions
    assert not cut.takes_floor
    assert cut.remaining_s == pytest.approx(4.0)
    assert len(floor.turns) == 1


def test_a_lexical_backchannel_under_the_holders_speech_is_found_and_moves_no_turn() -> None:
    agent = said((0.0, 3.0, "we went up to the lake"), (3.6, 6.0, "and it was cold"))
    floor = find_floor(talk(agent, said((2.8, 3.2, "uh-huh"))))
    assert [(u.start, u.end, u.side) for u in floor.backchannels] == [(2.8, 3.2, 1)]
    assert [(t.start, t.end) for t in floor.turns] == [(0.0, 6.0)]
    assert floor.lead_ins == ()


def test_a_backchannel_word_before_the_own_turn_leads_it_in() -> None:
    agent = said((0.0, 3.0, "we went up to the lake"), (8.0, 10.0, "and then back home"))
    user = said((3.2, 3.6, "yeah"), (5.0, 7.5, "we used to go there too"))
    floor = find_floor(talk(agent, user))
    assert floor.backchannels == ()
    assert [(u.start, u.end) for u in floor.lead_ins] == [(3.2, 3.6)]
    assert [(t.start, t.taken, t.end, t.side) for t in floor.turns] == [
        (0.0, 0.0, 3.0, 0), (3.2, 5.0, 7.5, 1), (8.0, 8.0, 10.0, 0)
    ]  # fmt: skip
    assert floor.transfers()[0][0] == pytest.approx(0.2)


def test_the_same_word_is_a_backchannel_when_the_holder_goes_on() -> None:
    agent = said((0.0, 3.0, "we went up to the lake"), (4.5, 4.8, "all the way"), (8.0, 10.0, "and then back home"))
    floor = find_floor(talk(agent, said((3.2, 3.6, "yeah"), (5.0, 7.5, "we used to go there too"))))
    assert [(u.start, u.end) for u in floor.backchannels] == [(3.2, 3.6)]
    assert floor.lead_ins == ()


def test_a_filler_takes_no_floor_but_can_open_the_own_turn() -> None:
    agent = said((0.0, 3.0, "we went up to the lake"), (9.0, 12.0, "the big one"))
    alone = find_floor(talk(agent, said((4.0, 4.4, "um"))))
    opening = find_floor(talk(agent, said((3.3, 3.6, "um"), (5.0, 7.0, "which lake was that"))))
    assert [t.side for t in alone.turns] == [0]
    assert alone.backchannels == ()
    assert [(t.start, t.side) for t in opening.turns] == [(0.0, 0), (3.3, 1), (9.0, 0)]


def test_a_filler_of_the_holder_does_not_keep_the_floor() -> None:
    agent = said((0.0, 3.0, "we went up to the lake"), (4.5, 4.8, "um"))
    floor = find_floor(talk(agent, said((3.2, 3.6, "yeah"), (5.0, 7.5, "we used to go there too"))))
    assert floor.backchannels == ()
    assert [t.start for t in floor.turns] == [0.0, 3.2]


def test_a_word_that_outlasts_the_holder_leads_in_though_it_began_under_its_speech() -> None:
    floor = find_floor(talk(said((0.0, 3.0, "we went up")), said((2.8, 3.2, "yeah"), (4.5, 6.0, "which lake was it"))))
    assert [(u.start, u.end) for u in floor.lead_ins] == [(2.8, 3.2)]
    assert floor.transfers()[0][0] == pytest.approx(-0.2)


def test_words_without_length_do_not_make_an_utterance_full() -> None:
    user = Track.of([(1.0, 1.4)], words=[Word("yeah", 1.0, 1.4), Word("lake", 1.2, 1.2)])
    floor = find_floor(talk(said((0.0, 4.0, "we went up to the lake")), user))
    assert len(floor.backchannels) == 1


def test_silences_over_three_seconds_are_no_within_turn_pauses() -> None:
    agent = said((0.0, 2.0, "we went up"), (5.0, 7.0, "to the lake"), (10.1, 12.0, "last summer"))
    np.testing.assert_allclose(observe(talk(agent, said())).values["within_turn_pause"][0], [3.0])


def test_the_holders_own_small_words_end_its_turn() -> None:
    agent = said((0.0, 3.0, "we went up to the lake"), (4.4, 4.8, "yeah"))
    floor = find_floor(talk(agent, said((5.0, 7.0, "which lake was that"))))
    assert floor.turns[0].end == pytest.approx(4.8)


def test_a_last_word_after_the_last_turn_has_no_place() -> None:
    floor = find_floor(talk(said((0.0, 3.0, "so goodbye then my friend")), said((3.5, 3.9, "okay"))))
    assert [(u.start, u.side) for u in floor.unplaced] == [(3.5, 1)]


def test_within_turn_pauses_keep_the_floor_over_a_partner_backchannel() -> None:
    agent = said((0.0, 2.0, "we went up"), (2.6, 4.0, "to the lake"), (5.5, 7.0, "last summer"))
    seen = observe(talk(agent, said((4.4, 4.8, "mhm")), 8.0))
    np.testing.assert_allclose(seen.values["within_turn_pause"][0], [0.6, 1.5])
    np.testing.assert_allclose(seen.values["backchannel_delay"][1], [0.4])
    np.testing.assert_allclose(seen.values["backchannel_offset"][1], [0.4])


# ---- properties --------------------------------------------------------------------------------------------------


@given(timelines())
@settings(max_examples=60, deadline=None)
def test_turns_alternate_and_every_utterance_has_one_place(timeline: Timeline) -> None:
    floor = find_floor(timeline)
    assert all(a.side != b.side and a.taken <= b.taken for a, b in zip(floor.turns, floor.turns[1:], strict=False))
    assert all(t.start <= t.taken < t.end for t in floor.turns)
    full = [u for u in floor.utterances if u.form == "full"]
    small = {id(u) for u in (*floor.backchannels, *floor.lead_ins, *floor.unplaced)}
    assert len(small) == len(floor.backchannels) + len(floor.lead_ins) + len(floor.unplaced)
    assert bool(full) == bool(floor.turns)
    assert len(floor.turns) + len(floor.insertions) <= len(full)
    for side in (0, 1):
        own = [u for u in floor.utterances if u.side == side]
        assert [i for u in own for i in range(u.first, u.stop)] == list(range(len(floor.units[side])))


@given(timelines(words=True))
@settings(max_examples=40, deadline=None)
def test_without_words_nothing_short_takes_the_floor(timeline: Timeline) -> None:
    floor = find_floor(without_words(timeline))
    assert all((u.form == "full") == (u.duration > 1.0 + 1e-6) for u in floor.utterances)
