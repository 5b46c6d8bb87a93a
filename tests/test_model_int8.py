"""8-bit weights: as close as their steps allow, a quarter of the memory, and streamed like others."""

from __future__ import annotations

import copy

import torch
from torch import nn

from duologue.engine.engine import Engine
from duologue.model.int8 import Int8Linear, to_int8
from duologue.model.likelihood import log_probs
from test_engine_parity import PAIRED, random_user, talk
from test_model_parity import random_codes, random_model


def test_no_weight_is_off_by_more_than_half_a_step() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(40, 30, bias=False)
    layer.weight.data[3] = 0  # a row of zeros stays one
    eight = Int8Linear(layer)
    back = eight(torch.eye(40)).t()
    steps = layer.weight.abs().amax(1, keepdim=True) / 127
    assert ((back - layer.weight).abs() <= steps / 2 + 1e-7).all()
    assert not back[3].any()
    assert eight.weight.dtype == torch.int8


def test_the_model_stays_nearly_itself_and_streams_as_it_scores() -> None:
    model = random_model(PAIRED, spread=0.05)
    eight = copy.deepcopy(model)
    assert to_int8(eight) == sum(type(m) is nn.Linear for m in model.modules())
    codes = random_codes(PAIRED, 20, holes=False)
    with torch.no_grad():
        a, b = (m(codes, depth_steps=0).text_logits.log_softmax(-1) for m in (model, eight))
        assert 0 < (a.exp() * (a - b)).sum(-1).mean() < 1e-4  # nats
        user = random_user(PAIRED, 1, 12)
        tokens, text, _ = talk(Engine(eight, 1), user)
        whole = torch.cat((tokens[:, :, :10], user[:, :, 1:11]), 1)
        torch.testing.assert_close(eight(whole).text_logits, text[:, :10], atol=1e-4, rtol=1e-4)
        assert log_probs(eight, whole).text.isfinite().all()
