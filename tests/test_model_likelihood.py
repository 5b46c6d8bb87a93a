"""Log-probabilities equal those of the whole logits, value and gradient; recomputing changes neither."""

from __future__ import annotations

import pytest
import torch

from duologue.model.likelihood import LogProbs, log_probs
from duologue.model.lm import DuplexLM
from test_model_parity import TINY, random_codes, random_model


def from_logits(model: DuplexLM, codes: torch.Tensor, steps: int) -> LogProbs:
    out = model(codes, depth_steps=steps)
    known = codes.clamp(min=0)
    text = out.text_logits.log_softmax(-1).gather(-1, known[:, 0, :, None])[..., 0] * out.text_mask
    audio = out.audio_logits.log_softmax(-1).gather(-1, known[:, 1 : 1 + steps, :, None])[..., 0] * out.audio_mask
    return LogProbs(text, out.text_mask, audio, out.audio_mask)


def gradients(model: DuplexLM, found: LogProbs) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(7)
    (found.text * torch.randn_like(found.text)).sum().add(
        (found.audio * torch.randn_like(found.audio)).sum()
    ).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("recompute", [False, True])
def test_values_and_gradients_equal_those_of_the_logits(steps: int, recompute: bool) -> None:
    model = random_model(TINY)
    codes = random_codes(TINY, 13, holes=True)
    expected = from_logits(model, codes, steps)
    wanted = gradients(model, expected)
    got = log_probs(model, codes, depth_steps=steps, recompute=recompute, chunk=5)
    assert torch.equal(got.text_mask, expected.text_mask)
    assert torch.equal(got.audio_mask, expected.audio_mask)
    torch.testing.assert_close(got.text, expected.text, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.audio, expected.audio, atol=1e-5, rtol=0)
    found = gradients(model, got)
    assert found.keys() == wanted.keys()
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, atol=1e-4, rtol=1e-4)


def test_frames_that_do_not_count_have_no_value_and_no_gradient() -> None:
    model = random_model(TINY)
    codes = random_codes(TINY, 10, holes=False)
    where = torch.arange(10) >= 6
    got = log_probs(model, codes, where=where)
    assert not got.text[:, :6].any()
    assert got.text[:, 6:].all()
    got.text[:, :6].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_recomputing_gives_the_same_logits_and_gradients() -> None:
    model = random_model(TINY)
    codes = random_codes(TINY, 8, holes=False)
    found = []
    for recompute in (False, True):
        model.zero_grad()
        out = model(codes, recompute=recompute)
        (out.text_logits.square().sum() + out.audio_logits.square().sum()).backward()
        found.append((out, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    (plain, wanted), (again, got) = found
    assert torch.equal(plain.text_logits, again.text_logits)
    assert wanted.keys() == got.keys()
    for name, grad in wanted.items():
        torch.testing.assert_close(got[name], grad)


def test_no_frame_at_all_gives_no_values() -> None:
    model = random_model(TINY)
    got = log_probs(model, random_codes(TINY, 4, holes=False), where=torch.zeros(4, dtype=torch.bool))
    assert not got.text.any()
    assert not got.text_mask.any()
