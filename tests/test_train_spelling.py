"""Letters beside late words: where they are said, what is asked for, and that they are learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from duologue.base.errors import UserError
from duologue.codec import save_codec
from duologue.codec.tokens import codes_hash
from duologue.dialogue.timeline import Word
from duologue.engine.bundle import load
from duologue.model.initial import SOUND, embed_codes, random_codec, random_lm
from duologue.model.presets import PRESETS
from duologue.train.lessons import UNKNOWN, Lesson, tapped
from duologue.train.lm import TrainLMConfig, begin, main
from duologue.train.lm_learner import LMLearner, LMLearning
from duologue.train.loop import LoopConfig
from duologue.train.optimizers import OptimizerConfig
from duologue.train.parallel import World
from duologue.train.spelling import LATER, LETTERS, letter_bits
from duologue.train.tokenizer import trained
from test_train_data import SENTENCES, excerpts, found_at, put, talk, tiny_corpus

TINY = PRESETS["tiny"].lm
EARS = replace(TINY, n_q=8, dep_q=0, delays=(0,) * 9)
HEARD = "text_delay: 0.4\nsources: [{corpus: corpus, tokens: tokens, task: transcribe}]"


def spelled(bits: int) -> str:
    return "".join(letter for i, letter in enumerate(LETTERS) if bits >> i & 1)


def test_the_letters_of_a_word_share_its_time() -> None:
    words = [Word("Oh,", 0.08, 0.24), Word("it's", 0.24, 0.48), Word("naïve", 0.8, 1.2), Word("2", 1.2, 1.3)]
    found = [spelled(bits) for bits in letter_bits(words, 16, 12.5)]
    assert found == ["", "o", "h", "i", "t", "s", "", "", "", "", "n", "a", "", "v", "e", ""]


def test_letters_in_one_frame_are_all_asked_for() -> None:
    assert [spelled(x) for x in letter_bits([Word("cab", 0.0, 0.1)], 3, 10.0)] == ["abc", "", ""]


def test_the_loss_is_that_of_each_letter_a_few_frames_later() -> None:
    torch.manual_seed(0)
    part, hidden = Lesson(8, 26, 1 + LATER), torch.randn(2, 12, 8)
    torch.nn.init.normal_(part.out.weight)
    bits, learn = torch.randint(0, 1 << 26, (2, 12)), torch.rand(2, 12) < 0.6
    bits[:, 2:4] = torch.from_numpy(letter_bits(None, 2, 12.5))
    each = []
    for row in range(2):
        for frame in range(12 - 1 - LATER):
            if learn[row, frame] and frame not in (2, 3):
                wanted = torch.tensor([float(x in spelled(int(bits[row, frame]))) for x in LETTERS])
                asked = part.out(hidden[row, frame + 1 + LATER])
                each.append(F.binary_cross_entropy_with_logits(asked, wanted, reduction="sum"))
    torch.testing.assert_close(part.loss(hidden, bits, learn), torch.stack(each).mean())


@pytest.mark.parametrize("task", ["transcribe", "talk"])
@pytest.mark.parametrize("swap", [0.0, 1.0])
def test_an_excerpt_has_the_letters_of_the_user_s_own_frames(task: str, swap: float) -> None:
    made = talk()
    drawn = excerpts(60, made, task=task, swap=swap, prompts=("be kind",))
    user = int(swap == 0)
    for seed in range(5):
        batch = drawn.batch(np.random.default_rng(seed), 1)
        where = batch.learn[0].nonzero()[:, 0]
        assert 0 < len(where) < 60, "a prompt stands before"
        codes, letters = batch.codes[0, 9:17, where], batch.letters[0, where]
        (start,) = found_at(codes, made.codes[user])
        assert letters.tolist() == made.letters[user, start : start + len(where)].tolist()
        assert letters.any()
        assert not batch.letters[0, ~batch.learn[0]].any()


def test_what_a_middle_layer_says_is_kept_for_a_while() -> None:
    model = random_lm(EARS, 0, device="cpu")
    codes = torch.randint(0, 60, (1, 9, 7))
    with tapped(model) as outputs:
        model.temporal(codes)
    model.temporal(codes)
    assert [tuple(x.shape) for x in outputs] == [(1, 7, EARS.dim)]


class TestLearning:
    def learner(self, spelling: float, world: World | None = None, **optimizer: Any) -> LMLearner:
        how = LMLearning(
            batch=3, frames=40, autocast=False, spelling=spelling, optimizer=OptimizerConfig(warmup=1, **optimizer)
        )
        given = excerpts(40, config=EARS, task="transcribe", prompted=0.0)
        model = random_lm(EARS, 0, device="cpu", dtype="fp32")
        return LMLearner(model, given, None, how, steps=9, seed=1, publish=lambda _: None, world=world)

    def test_it_reaches_the_layers_below_and_is_told(self) -> None:
        plain, asked = self.learner(0.0), self.learner(1.0)
        a, b = plain.step(0), asked.step(0)
        assert "letters" not in a
        assert b["loss"] == pytest.approx(a["loss"] + b["letters"], rel=1e-5)
        assert not torch.equal(plain.model.emb[0].weight, asked.model.emb[0].weight)
        assert b["letters"] == pytest.approx(26 * np.log(2), rel=0.05), "before it knows anything"
        assert [asked.step(n)["letters"] for n in range(1, 9)][-1] < 0.9 * b["letters"]

    def test_a_frame_s_letters_are_asked_for_three_frames_after_it_was_read(self) -> None:
        lesson = self.learner(1.0).lessons["spelling"]
        hidden, bits = torch.zeros(1, 9, EARS.dim), torch.full((1, 9), UNKNOWN)
        bits[:, 2] = (1 << 26) - 1
        hidden[:, 2 + 1 + 3] = 1  # step 3 has read frame 2
        with torch.no_grad():
            lesson.out.weight.fill_(1.0)
            assert float(lesson.loss(hidden, bits, torch.ones(1, 9, dtype=torch.bool))) == pytest.approx(0, abs=1e-3)

    def test_a_state_goes_on_alike(self) -> None:
        one, two = self.learner(1.0), self.learner(1.0)
        one.step(0)
        two.restore(one.state())
        assert two.step(1) == one.step(1)

    def test_it_is_for_one_process(self) -> None:
        with pytest.raises(UserError, match=r"learning\.spelling: is for one process"):
            self.learner(1.0, World(rank=0, count=2), kind="adamw")
        with pytest.raises(UserError, match=r"learning\.spelling"):
            LMLearning(spelling=-1.0)


def test_codes_that_the_codec_takes_for_alike_are_embedded_alike() -> None:
    codec = random_codec(PRESETS["tiny"].codec, 8, 0, device="cpu")
    for config in (EARS, TINY):
        model = random_lm(config, 0, device="cpu")
        before = [x.weight.clone() for x in model.emb]
        embed_codes(model, codec)
        model.requires_grad_(False)
        user = config.n_q - config.user_streams
        books = [*codec.quantizer.rvq_first.codebooks(), *codec.quantizer.rvq_rest.codebooks()]
        assert float(model.emb[user].weight[:64].std()) == pytest.approx(SOUND, rel=0.1)
        for q, book in enumerate(books):
            table = model.emb[user + q].weight[:64]
            # A random turn of few dimensions into many keeps what is near and what is far.
            near = np.corrcoef(torch.pdist(book.entries()).numpy(), torch.pdist(table).numpy())[0, 1]
            assert near > 0.8
            assert not torch.equal(table, before[user + q][:64])
            assert torch.equal(model.emb[user + q].weight[64:], before[user + q][64:])
            if user:
                assert torch.equal(model.emb[q].weight[:64], table)
        sizes = [float(model.emb[user + q].weight[:64].norm()) for q in (1, 2)]
        wanted = [float((b.entries() - b.entries().mean(0)).norm()) for b in books[1:3]]
        assert sizes[0] / sizes[1] == pytest.approx(wanted[0] / wanted[1], rel=0.1)


class TestVerb:
    @pytest.fixture
    def given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainLMConfig:
        monkeypatch.setitem(PRESETS, "tiny-ears", replace(PRESETS["tiny"], lm=EARS))  # type: ignore[arg-type]
        codec = random_codec(PRESETS["tiny"].codec, 8, 0, device="cpu")
        save_codec(codec, tmp_path / "codec.safetensors")
        (tmp_path / "text.model").write_bytes(trained(SENTENCES, 90))
        tiny_corpus(tmp_path, codec=codes_hash(codec))
        put(tmp_path, "mix.yaml", HEARD)
        return TrainLMConfig(
            mix=tmp_path / "mix.yaml", out=tmp_path / "run", codec=tmp_path / "codec.safetensors",
            tokenizer=tmp_path / "text.model", preset="tiny-ears", embed_codes=True, held_out=0.34, device="cpu",
            learning=LMLearning(batch=2, frames=40, autocast=False, spelling=1.0, text_dropout=0.5),
            loop=LoopConfig(steps=4, log_every=2, validate_every=100, save_minutes=0.0),
        )  # fmt: skip

    def test_a_model_that_only_listens_is_made_and_goes_on_after_a_kill(
        self, given: TrainLMConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert main(given) == 0
        bundle = load(tmp_path / "run" / "model", device="cpu")
        assert bundle.lm.config.dep_q == 0
        assert bundle.config.modes.transcribe is not None
        assert bundle.config.modes.transcribe.text_delay == 0.4
        assert not any("spelling" in name for name in bundle.lm.state_dict())
        step = LMLearner.step

        def killed(self: LMLearner, number: int) -> Mapping[str, float]:
            if number == 3:
                raise KeyboardInterrupt
            return step(self, number)

        cut = replace(given, out=tmp_path / "cut")
        with monkeypatch.context() as patched:
            patched.setattr(LMLearner, "step", killed)
            with pytest.raises(KeyboardInterrupt):
                main(cut)
        main(replace(cut, resume=True))
        again = load(tmp_path / "cut" / "model", device="cpu").lm.state_dict()
        for name, x in bundle.lm.state_dict().items():
            assert torch.equal(x, again[name]), name

    def test_of_a_model_that_exists_only_the_user_s_codes_are_embedded_anew(self, given: TrainLMConfig) -> None:
        start = replace(given, start="random:tiny@0", mix=given.mix)
        old, new = (begin(replace(start, embed_codes=on), None).lm for on in (False, True))
        for q, (before, after) in enumerate(zip(old.emb, new.emb, strict=True)):
            assert torch.equal(before.weight, after.weight) == (q < TINY.agent_streams), q
        rest = new.state_dict()
        assert all(torch.equal(x, rest[name]) for name, x in old.state_dict().items() if not name.startswith("emb."))
        with pytest.raises(UserError, match="--text-model: is for a new model; leave out --start"):
            begin(replace(start, text_model=given.mix), None)
