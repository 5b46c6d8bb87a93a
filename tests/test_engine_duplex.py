"""Speech in, speech out: when what is said can first be answered, and that conversations do not mix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.codec.mimi import Mimi
from duologue.engine.converse import Conversation, Setup, converse
from duologue.engine.duplex import Duplex
from duologue.engine.engine import FREE
from duologue.engine.prompts import Prompter, Tones
from duologue.engine.sampling import GREEDY, Sampling
from duologue.model.initial import random_codec
from duologue.model.lm import DuplexLM
from duologue.model.presets import PRESETS
from duologue.model.text import TextTokenizer
from test_model_parity import random_model

TINY = PRESETS["tiny"]
FRAME = 1920


@pytest.fixture(scope="module")
def codec() -> Mimi:
    return random_codec(TINY.codec, 8, 0, device="cpu")


@pytest.fixture(scope="module", params=[1, 0], ids=["moshi", "personaplex"])
def lm(request: pytest.FixtureRequest) -> DuplexLM:
    return random_model(replace(TINY.lm, user_lag=request.param))


def noise(frames: int, seed: int, slots: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.5 * torch.randn(frames, slots, FRAME, generator=generator)


def sounds(duplex: Duplex, user: torch.Tensor, sampling: Sampling = GREEDY) -> tuple[torch.Tensor, torch.Tensor]:
    """Sound of each call [T, slots, S], and its tokens."""
    state = duplex.initial_state(sampling)
    frames = [duplex.step(state, frame) for frame in user]
    return torch.stack([f.sound for f in frames]), torch.stack([f.tokens for f in frames])


def test_what_is_said_is_first_heard_in_words_160_ms_later(lm: DuplexLM, codec: Mimi) -> None:
    """In a listener's time: call n's sound is heard in frame n + 1.

    A change at the first sample of frame n reaches acoustic codes of what is heard from frame n + 1 on (80 ms), and
    text and semantic codes of what is heard from frame n + 2 on (160 ms), never earlier; one frame later with
    PersonaPlex's lag.
    """
    changed_at, later, tries = 6, 1 - lm.config.user_lag, 64
    duplex = Duplex(lm, codec, tries)
    user = noise(12, 1).repeat(1, tries, 1)
    other = torch.cat((user[:changed_at], noise(6, 2, tries)))
    (a, said), (b, told) = (sounds(duplex, x) for x in (user, other))
    heard = (a != b).transpose(0, 1).flatten(1)  # [tries, samples in order of calls]
    listener = FRAME + int(heard.any(0).nonzero()[0])
    assert listener // FRAME == changed_at + 1 + later  # the acoustic codes: 80 ms
    words = (said[:, :, :2] != told[:, :, :2]).any(2).any(1)  # calls whose frame has other text or semantic codes
    listener = FRAME + int(words.nonzero()[0]) * FRAME
    assert listener - changed_at * FRAME == (2 + later) * FRAME  # 3,840 samples, 160 ms


def test_each_frame_of_input_gives_one_of_output(lm: DuplexLM, codec: Mimi) -> None:
    sound, tokens = sounds(Duplex(lm, codec, 1), noise(6, 3))
    assert sound.shape == (6, 1, FRAME)
    assert not sound[0].any()
    assert (tokens[0] == FREE).all()
    assert (tokens[1:] >= 0).all()
    with torch.no_grad():
        whole = codec.decode(tokens[1:, 0, 1:].t()[None])
    torch.testing.assert_close(sound[1:, 0].flatten(), whole[0, 0], atol=1e-5, rtol=0)


def test_slots_sound_as_they_would_alone(lm: DuplexLM, codec: Mimi) -> None:
    duplex = Duplex(lm, codec, 2)
    user = noise(16, 4, 2)
    state = duplex.initial_state(GREEDY)
    got = []
    for t in range(16):
        if t == 6:
            duplex.reset(state, 1)
        got.append(duplex.step(state, user[t], [True, t not in (9, 10)]).sound)
    alone = duplex.initial_state(GREEDY)
    late = [t for t in range(6, 16) if t not in (9, 10)]
    for t in late:
        sound = duplex.step(alone, user[t], [False, True]).sound
        torch.testing.assert_close(sound[1], got[t][1], atol=1e-6, rtol=0)
        assert not sound[0].any()
    assert not got[9].any(1)[1]


def test_a_copied_slot_sounds_alike(lm: DuplexLM, codec: Mimi) -> None:
    duplex = Duplex(lm, codec, 2)
    user = noise(10, 5)
    state = duplex.initial_state(GREEDY)
    for frame in user[:5]:
        duplex.step(state, frame.expand(2, -1), [True, False])
    duplex.copy_slot(state, 0, 1)
    kept = state.clone()
    for frame in user[5:]:
        sound = duplex.step(state, frame.expand(2, -1)).sound
        torch.testing.assert_close(sound[0], sound[1], atol=1e-6, rtol=0)
        assert torch.equal(duplex.step(kept, frame.expand(2, -1)).sound, sound)


class TestConverse:
    @staticmethod
    def talk(lm: DuplexLM, codec: Mimi, *users: Audio, text: TextTokenizer | None = None) -> list[Conversation]:
        duplex = Duplex(lm, codec, 3)
        prompter = Prompter(
            duplex.engine, Tones(torch.zeros(8).long(), torch.ones(8).long()), lambda: pytest.fail("no text here")
        )
        return converse(duplex, users, [Setup(sampling=GREEDY)] * len(users), prompter, text)

    @staticmethod
    def user(seconds: float, rate: int = 24000, seed: int = 6) -> Audio:
        rng = np.random.default_rng(seed)
        return Audio(0.3 * rng.standard_normal((1, int(seconds * rate))).astype(np.float32), rate)

    def test_it_is_as_long_as_the_user_and_has_both_sides(self, lm: DuplexLM, codec: Mimi) -> None:
        users = [self.user(0.75), self.user(0.4, 16000), self.user(1.0)]
        found = self.talk(lm, codec, *users)
        assert [c.audio.samples.shape for c in found] == [(2, 18000), (2, 9600), (2, 24000)]
        np.testing.assert_array_equal(found[0].audio.samples[1], users[0].samples[0])
        assert found[2].codes.shape == (17, 13 - lm.config.user_lag)
        for c in found:
            assert not c.audio.samples[0, : 2 * FRAME].any()  # a frame to hear, and one until the first is whole
            assert c.audio.samples[0, 2 * FRAME :].any()

    def test_recordings_of_a_batch_do_not_mix(self, lm: DuplexLM, codec: Mimi) -> None:
        long, short = self.user(1.0, seed=7), self.user(0.5, seed=8)
        both = self.talk(lm, codec, short, long)
        (alone,) = self.talk(lm, codec, short)
        assert torch.equal(both[0].codes, alone.codes)
        np.testing.assert_allclose(both[0].audio.samples, alone.audio.samples, atol=1e-6)

    def test_its_codes_are_the_model_s_own(self, lm: DuplexLM, codec: Mimi) -> None:
        (got,) = self.talk(lm, codec, self.user(2.0))
        with torch.no_grad():
            out = lm(got.codes[None])
        said = got.codes[0]
        assert torch.equal(out.text_logits[0].argmax(-1)[said >= 0], said[said >= 0])

    def test_words_have_a_listener_s_times(self, lm: DuplexLM, codec: Mimi) -> None:
        spelling = TextTokenizer(lambda _: [], tuple(b" w%d" % i for i in range(128)), silent=frozenset({0, 3}))
        (got,) = self.talk(lm, codec, self.user(1.0), text=spelling)
        said = [(f, int(t)) for f, t in enumerate(got.codes[0]) if t >= 0 and t not in (0, 3)]
        assert got.words is not None
        starts = [w.start for w in got.words]
        expected = [(f + 2) * 0.08 for f, _ in said]  # heard two frames after the user's frame that it stands beside
        np.testing.assert_allclose(starts[: len(expected)], expected, atol=1e-9)

    def test_a_recording_of_several_channels_is_refused(self, lm: DuplexLM, codec: Mimi) -> None:
        with pytest.raises(UserError, match="has 2 channels"):
            self.talk(lm, codec, Audio(np.zeros((2, 4000), np.float32), 24000))


def test_a_model_that_only_listens_or_another_codec_is_refused(codec: Mimi) -> None:
    with pytest.raises(UserError, match="only listens"):
        Duplex(random_model(replace(TINY.lm, dep_q=0)), codec, 1)
    with pytest.raises(UserError, match="codebooks of 64"):
        Duplex(random_model(replace(TINY.lm, card=32)), codec, 1)
