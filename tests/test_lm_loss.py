"""The losses of training are moshi-finetune's, computed from the model's own logits; what may not count does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from duologue.base.errors import UserError
from duologue.model.config import LMConfig
from duologue.model.lm import DuplexLM
from duologue.model.presets import PRESETS
from duologue.train.lm_loss import Losses, Sizes, Weights, losses, sizes_of
from test_model_parity import random_model

TINY = PRESETS["tiny"].lm
SHAPES = {
    "moshi": TINY,
    "personaplex": replace(TINY, dep_q=16, user_lag=0),
    "shared": replace(TINY, depformer_weights_per_step_schedule=(0, 1, 1, 1, 1, 1, 1, 1)),
    "late": replace(TINY, delays=(1, 0, *(2,) * 7, 0, *(2,) * 7)),
    "stt": replace(TINY, n_q=8, dep_q=0, delays=(0,) * 9),
}


def drawn(config: LMConfig, *, holes: bool = True, seed: int = 1, frames: int = 24) -> Tensor:
    """Codes [3, K, T], half of whose text is PAD or EPAD, with some codes absent."""
    g = torch.Generator().manual_seed(seed)
    text = torch.randint(0, config.text_card, (3, 1, frames), generator=g)
    padded = torch.rand(text.shape, generator=g) < 0.5
    text = torch.where(padded, torch.where(torch.rand(text.shape, generator=g) < 0.3, 0, 3), text)
    codes = torch.cat((text, torch.randint(0, config.card, (3, config.n_q, frames), generator=g)), 1)
    return codes.masked_fill(torch.rand(codes.shape, generator=g) < 0.15, -1) if holes else codes


def finetune_loss(logits: Tensor, target: Tensor, mask: Tensor, *, first: float = 1.0, padding: float = 1.0) -> Tensor:
    """moshi-finetune's `compute_loss_with_mask`: cross-entropy as a mean by weights; dimension 1 is the codebook's."""
    weights = mask.float()
    weights[:, 0] *= first
    weights[mask & ((target == 0) | (target == 3))] *= padding
    each = F.cross_entropy(logits.flatten(0, -2).float(), target.masked_fill(~mask, 0).flatten(), reduction="none")
    return (each * weights.flatten()).sum() / weights.sum()


def expected(model: DuplexLM, codes: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """Losses of text and of audio from the logits of the whole model."""
    steps = model.config.agent_streams
    out = model(codes, depth_steps=steps)
    text = finetune_loss(out.text_logits[:, None], codes[:, :1], out.text_mask[:, None], padding=weights.padding)
    if not steps:
        return text, text.new_zeros(())
    audio = finetune_loss(out.audio_logits, codes[:, 1 : 1 + steps], out.audio_mask, first=weights.semantic)
    return text, audio


def every(codes: Tensor) -> Tensor:
    return torch.ones(codes.shape[0], codes.shape[2], dtype=torch.bool)


@pytest.mark.parametrize("holes", [False, True], ids=["whole", "with holes"])
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_losses_are_those_of_the_logits(shape: str, holes: bool) -> None:
    model, weights = random_model(SHAPES[shape]), Weights(padding=0.5, semantic=100.0, audio=0.7)
    codes = drawn(SHAPES[shape], holes=holes)
    found = losses(model, codes, every(codes), weights)
    text, audio = expected(model, codes, weights)
    torch.testing.assert_close(found.text, text)
    torch.testing.assert_close(found.total, text + 0.7 * audio)


@torch.no_grad()
def test_losses_that_are_told_are_plain_means() -> None:
    model = random_model(TINY)
    codes = drawn(TINY)
    found = losses(model, codes, every(codes), Weights())
    out = model(codes)
    spoken = out.text_mask & (codes[:, 0] != 0) & (codes[:, 0] != 3)
    torch.testing.assert_close(found.words, F.cross_entropy(out.text_logits[spoken], codes[:, 0][spoken]))
    means = [
        F.cross_entropy(out.audio_logits[:, q][out.audio_mask[:, q]], codes[:, 1 + q][out.audio_mask[:, q]])
        for q in range(8)
    ]
    torch.testing.assert_close(found.semantic, means[0])
    torch.testing.assert_close(found.acoustic, torch.stack(means[1:]).mean())


@torch.no_grad()
def test_weights_turn_up_where_they_should() -> None:
    model = random_model(TINY)
    codes = drawn(TINY)
    plain, weighted = (losses(model, codes, every(codes), Weights(padding=p, semantic=s)) for p, s in [(1, 1), (0, 0)])
    torch.testing.assert_close(weighted.text, weighted.words)  # nothing but words is left
    assert abs(plain.text - plain.words) > 1e-3
    some = losses(model, codes, every(codes), Weights(semantic=1e9))
    torch.testing.assert_close(some.total - some.text, some.semantic)


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_prompts_are_read_and_never_scored(shape: str) -> None:
    model = random_model(SHAPES[shape])
    codes = drawn(SHAPES[shape])
    learn = every(codes)
    learn[:, :7] = False
    learn[:, 20:] = False
    found = losses(model, codes, learn, Weights(semantic=1.0))
    # The same by scoring all of the model's outputs, of which only those of learned frames are taken.
    steps = SHAPES[shape].agent_streams
    out = model(codes, depth_steps=steps)
    mask = out.text_mask & learn
    torch.testing.assert_close(
        found.text,
        finetune_loss(out.text_logits[:, None], codes[:, :1], mask[:, None], padding=0.5),
    )
    if steps:
        mask = out.audio_mask & learn[:, None]
        audio = F.cross_entropy(out.audio_logits[mask], codes[:, 1 : 1 + steps][mask])
        torch.testing.assert_close(found.total - found.text, audio)
    # And what a prompt says counts as context.
    other = codes.clone()
    other[:, 1, :7] = 5
    assert not torch.equal(losses(model, other, learn, Weights()).text, found.text)


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_the_parts_of_a_batch_add_up_to_it(shape: str) -> None:
    """However unequal they are."""
    model, weights = random_model(SHAPES[shape]), Weights(padding=0.3, semantic=5.0, audio=0.7)
    codes = drawn(SHAPES[shape])
    learn = every(codes)
    learn[0, 5:] = False
    parts = [(codes[:1], learn[:1]), (codes[1:], learn[1:])]
    sizes = sum((sizes_of(model, *part, weights) for part in parts), Sizes(0.0, 0.0))
    added = sum(losses(model, *part, weights, sizes=sizes).total for part in parts)
    torch.testing.assert_close(added, losses(model, codes, learn, weights).total)


@torch.no_grad()
def test_frames_past_the_end_change_nothing() -> None:
    model = random_model(TINY)
    codes = drawn(TINY, frames=20)
    behind = torch.cat((codes, torch.full((3, 17, 6), -1)), 2)
    learn = torch.cat((every(codes), torch.zeros(3, 6, dtype=torch.bool)), 1)
    short, long = losses(model, codes, every(codes), Weights()), losses(model, behind, learn, Weights())
    torch.testing.assert_close(long.text, short.text)
    torch.testing.assert_close(long.semantic, short.semantic)
    # The delayed codes of the last frame, which a shorter excerpt cuts off, are scored in a longer one.
    out = model(behind)
    assert out.audio_mask[:, 1, 19].any()
    means = [
        F.cross_entropy(out.audio_logits[:, q][out.audio_mask[:, q]], behind[:, 1 + q][out.audio_mask[:, q]])
        for q in range(1, 8)
    ]
    torch.testing.assert_close(long.acoustic, torch.stack(means).mean())


@torch.no_grad()
def test_scoring_a_part_equals_scoring_all_and_taking_that_part() -> None:
    model, weights = random_model(TINY), Weights(semantic=3.0)
    codes = drawn(TINY)
    scored = torch.rand(3, 24, generator=torch.Generator().manual_seed(2)) < 0.4
    found = losses(model, codes, every(codes), weights, scored)
    out = model(codes)
    top, below = torch.zeros(()), torch.zeros(())
    for q in range(8):
        # Step s writes frame s of the semantic codebook and frame s - 1 of the others.
        late = int(q > 0)
        there = out.audio_mask[:, q] & F.pad(scored[:, late:], (0, late))
        each = F.cross_entropy(out.audio_logits[:, q][there], codes[:, 1 + q][there], reduction="none")
        share = 3.0 if q == 0 else 1.0
        top, below = top + share * each.sum(), below + share * len(each)
    torch.testing.assert_close(found.total - found.text, top / below)
    full = losses(model, codes, every(codes), weights)
    torch.testing.assert_close(found.text, full.text)
    assert abs(found.total - full.total) > 1e-4


@torch.no_grad()
def test_blind_frames_are_read_as_absent_and_scored_as_they_are() -> None:
    model, codes = random_model(TINY), drawn(TINY)
    learn = every(codes)
    none = losses(model, codes, learn, Weights(), blind=torch.zeros_like(learn))
    assert torch.equal(none.total, losses(model, codes, learn, Weights()).total)
    last = torch.zeros_like(learn)
    last[:, -1] = True  # what is read to write the last frame
    assert losses(model, codes, learn, Weights(), blind=last).total != none.total
    heard = next(k for k, delay in enumerate(TINY.delays) if delay == 0 and k > TINY.agent_streams)
    other = codes.clone()
    other[:, heard, -2] = (other[:, heard, -2] + 1) % TINY.card  # read there alone
    for blind, differs in ((None, True), (last, False)):
        one, two = (losses(model, c, learn, Weights(), scored=last, blind=blind) for c in (codes, other))
        assert bool(abs(one.semantic - two.semantic) > 1e-6) is differs


@torch.no_grad()
def test_wordless_rows_read_no_text_but_that_of_their_own_step() -> None:
    model, codes = random_model(TINY), drawn(TINY)
    learn = every(codes)
    last = torch.zeros_like(learn)
    last[:, -1] = True
    rows = torch.ones(len(codes), dtype=torch.bool)
    for frame, differs in ((-2, (True, False)), (-1, (True, True))):
        other = codes.clone()
        other[:, 0, frame] = (other[:, 0, frame] + 1) % TINY.text_card
        for wordless, expected in zip((~rows, rows), differs, strict=True):
            one, two = (losses(model, c, learn, Weights(), scored=last, wordless=wordless) for c in (codes, other))
            assert bool(abs(one.semantic - two.semantic) > 1e-6) is expected


def test_nothing_to_score_is_zero_and_every_weight_has_a_gradient() -> None:
    """Processes that train together must all take part in all of the model."""
    model = random_model(TINY)
    codes = drawn(TINY)
    nothing = torch.zeros(3, 24, dtype=torch.bool)
    found = losses(model, codes, nothing, Weights(), nothing)
    assert [float(x.detach()) for x in (found.total, found.words, found.semantic, found.acoustic)] == [0.0] * 4
    found.total.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing


@torch.no_grad()
def test_recomputing_changes_nothing() -> None:
    model = random_model(TINY)
    codes = drawn(TINY)
    one, two = (losses(model, codes, every(codes), Weights(), recompute=r) for r in (False, True))
    assert isinstance(one, Losses)
    assert torch.equal(one.total, two.total)


@pytest.mark.parametrize("wrong", [{"padding": -1.0}, {"semantic": -0.1}, {"audio": -1.0}, {"quiet": 1.5}])
def test_weights_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="weights"):
        Weights(**wrong)
