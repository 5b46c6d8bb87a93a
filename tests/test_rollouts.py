"""Rollouts: what was drawn is what teacher forcing scores, and sounds when it is said to sound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from duologue.audio.babble import babble
from duologue.audio.vad import UNPADDED, detect_speech
from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.corpus.candidates import MiningConfig
from duologue.dialogue.segments import ReferenceEvent, Segment
from duologue.dialogue.timeline import Timeline, Track, Word
from duologue.engine.bundle import Bundle, load
from duologue.engine.converse import Setup, converse
from duologue.engine.duplex import Duplex
from duologue.engine.prompts import Prompter, Voice, tones
from duologue.engine.sampling import GREEDY, Sampling
from duologue.model.text import TextTokenizer
from duologue.train.rollouts import Episode, Roller, record
from test_model_parity import random_model

RATE = 24_000
DRAWN = tuple(Sampling(text_seed=i, audio_seed=i, audio_top_k=20) for i in range(3))


def bundle(lag: int = 1) -> Bundle:
    """Random weights that say various things, and a tokenizer of one word for each id."""
    tiny = load("random:tiny", device="cpu")
    spelt = tuple(b" w%d" % i for i in range(128))
    text = TextTokenizer(lambda t: [5 + len(w) for w in t.split()], spelt, silent=frozenset({0, 3}))
    lm = random_model(replace(tiny.lm.config, user_lag=lag), spread=0.3)
    return replace(tiny, lm=lm, text=text)


def segment(start: float = 2.0, end: float = 4.0, name: str = "s") -> Segment:
    def noise(seed: int) -> tuple[np.ndarray, int]:
        rng = np.random.default_rng(seed)
        return (0.1 * rng.standard_normal(round(end * RATE))).astype(np.float32), RATE

    said = (Word("hello", 0.5, 0.9), Word("there", 1.0, 1.4))
    tracks = Track.of([(0.5, 1.4)], said), Track.of([(start, end - 0.5)])
    return Segment(
        id=name, axis="pause", conversation="c", offset=0.0, start=start, end=end,
        timeline=Timeline(tracks[0], tracks[1], end), events=(ReferenceEvent("turn", start, end - 0.5, 1),),
        agent_audio=lambda: noise(1), user_audio=lambda: noise(2),
    )  # fmt: skip


def frames_of(segment: Segment) -> int:
    return int(np.ceil(segment.end * 12.5)) - int(segment.start * 12.5)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("context_s", [0.0, 0.1, 1.2, 9.0])
@pytest.mark.parametrize("prompt", ["", "be kind"])
def test_what_was_drawn_is_what_teacher_forcing_finds_likeliest(lag: int, context_s: float, prompt: str) -> None:
    model = bundle(lag)
    (recorded,) = record(model, [segment()])
    roller = Roller(model, 2, text_prompt=prompt, lead_s=0.4)
    ((rollout, _),) = roller.play([Episode(recorded, context_s, (GREEDY, GREEDY))])
    assert int(rollout.scored.sum()) == frames_of(segment())
    with torch.no_grad():
        out = model.lm(rollout.codes[None])
    late = torch.arange(rollout.codes.shape[1]) < rollout.codes.shape[1] - 1  # acoustic codes of the last come later
    seen = rollout.scored & late
    assert torch.equal(out.text_logits[0].argmax(-1)[seen], rollout.codes[0, seen])
    assert torch.equal(out.audio_logits[0].argmax(-1)[:, seen], rollout.codes[1:9, seen])
    assert len(rollout.codes[1:9, seen].unique()) > 10
    assert (rollout.codes[:, seen] >= 0).all()


def test_a_rollout_is_the_same_alone_and_in_company() -> None:
    model = bundle()
    recorded = record(model, [segment(), segment(1.0, 3.5, "t")])
    roller = Roller(model, 8, text_prompt="be kind", lead_s=0.4)
    together = roller.play([Episode(recorded[0], 0.0, DRAWN), Episode(recorded[1], 0.8, DRAWN)])
    for i, group in enumerate(together):
        for j, rollout in enumerate(group):
            ((alone,),) = roller.play([Episode(recorded[i], 0.8 * i, DRAWN[j : j + 1])])
            assert torch.equal(alone.codes, rollout.codes)
            assert np.array_equal(alone.scene.timeline.agent.speech, rollout.scene.timeline.agent.speech)
    assert not torch.equal(together[0][0].codes, together[0][1].codes)


def test_from_the_beginning_it_is_what_a_live_talk_gives() -> None:
    model = bundle()
    late = 2 / 12.5
    (recorded,) = record(model, [segment(late, 3.2)])
    ((rollout,),) = Roller(model, 1).play([Episode(recorded, 0.0, DRAWN[:1])])
    duplex = Duplex(model.lm, model.need_codec(), 1)
    prompter = Prompter(duplex.engine, tones(model.need_codec(), kyutai=False), model.need_text)
    samples, rate = segment(late, 3.2).user_audio()  # type: ignore[misc]
    (talk,) = converse(duplex, [Audio(samples[None], rate)], [Setup(sampling=DRAWN[0])], prompter, model.text)
    agent = rollout.codes.shape[1] - 1
    assert torch.equal(talk.codes[:9, :agent], rollout.codes[:9, :agent])
    assert torch.equal(talk.codes[9:, : agent - 1], rollout.codes[9:, : agent - 1])
    sound, rate = rollout.scene.agent_audio()  # type: ignore[misc]
    lived = talk.audio.samples[0]
    assert rate == RATE
    assert np.allclose(sound[4000 : len(lived) - 4000], lived[4000 : len(sound) - 4000], atol=1e-4)
    assert talk.words is not None
    assert rollout.scene.timeline.agent.words is not None
    times = [w.start for w in rollout.scene.timeline.agent.words]
    assert np.allclose(times, [w.start for w in talk.words][: len(times)], atol=1e-6)


def test_the_human_is_heard_in_the_context_and_not_after_it() -> None:
    model = bundle()
    (recorded,) = record(model, [segment()])
    ((rollout,),) = Roller(model, 1).play([Episode(recorded, 1.5, DRAWN[:1])])
    speech = rollout.scene.timeline.agent.speech
    assert speech[0].tolist() == pytest.approx([0.5, 1.4])
    assert (speech[1:, 0] >= 1.9).all()
    said = rollout.scene.timeline.agent.words
    assert said is not None
    assert [w.text for w in said[:2]] == ["hello", "there"], "a judge reads what led there"
    assert all(w.start >= 1.9 for w in said[2:])
    ((alone,),) = Roller(model, 1).play([Episode(recorded, 0.0, DRAWN[:1])])
    assert (alone.scene.timeline.agent.speech[:, 0] >= 1.9).all()


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("prompt", ["", "be kind"])
def test_a_demonstration_is_what_a_context_of_the_same_stretch_would_be(lag: int, prompt: str) -> None:
    model = bundle(lag)
    (recorded,) = record(model, [segment(1.0, 4.0)])
    (longer,) = record(model, [segment(4.0, 4.5)])
    roller = Roller(model, 1, text_prompt=prompt)
    codes, told = roller.demonstration(recorded)
    ((rollout,),) = roller.play([Episode(longer, 9.0, DRAWN[:1])])  # all 4 s are its context
    same = int((~rollout.scored).sum()) - 1  # the user's frame beside the last one comes with the first call
    assert codes.shape[1] == same + 1
    if not prompt:  # with one, the recordings differ by nothing either
        assert int(told.sum()) == codes.shape[1] - (12 - 2)
    assert torch.equal(codes[:9, :same], rollout.codes[:9, :same])
    assert torch.equal(codes[9:, : same - 1], rollout.codes[9:, : same - 1])


def test_what_cannot_be_played_is_refused() -> None:
    model = bundle()
    with pytest.raises(UserError, match="embeddings"):
        Roller(model, 1, voice=Voice(embeddings=torch.zeros(3, 8), last=torch.zeros(17, 3)))
    with pytest.raises(UserError, match="segment s: has no sound"):
        record(model, [replace(segment(), user_audio=None)])
    (recorded,) = record(model, [segment()])
    with pytest.raises(ValueError, match="3 rollouts for 2 slots"):
        Roller(model, 2).play([Episode(recorded, 0.0, DRAWN)])


def test_speech_has_the_same_length_in_a_rollout_as_in_what_was_mined() -> None:
    """A stretch of 1.0 s, the limit of what counts as short."""
    model = bundle()
    (recorded,) = record(model, [segment()])
    roller = Roller(model, 1)
    voice, _ = babble(4.0, RATE, seed=3)
    burst = np.zeros(2 * RATE, np.float32)
    burst[RATE // 2 : RATE // 2 + RATE] = voice[np.abs(voice).argmax() :][:RATE]
    roller._sounds = lambda takes: [burst]  # type: ignore[method-assign]
    ((rollout,),) = roller.play([Episode(recorded, 0.0, DRAWN[:1])])
    (mined,) = detect_speech([Audio(burst[None], RATE)], MiningConfig().vad)
    assert len(mined) >= 1
    np.testing.assert_allclose(np.diff(rollout.scene.timeline.agent.speech), np.diff(mined), atol=1e-9)
    assert MiningConfig().vad == UNPADDED
