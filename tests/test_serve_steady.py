"""Settings of one kind, for captured frames."""

from __future__ import annotations

import torch

from duologue.engine.duplex import Duplex
from duologue.engine.sampling import Sampling
from duologue.serve.steady import steady
from serving import bundle, noise


def test_settings_of_one_kind_draw_the_same() -> None:
    model = bundle()
    each = [Sampling(text_top_k=5), Sampling(audio_temperature=0.0), Sampling(padding_bonus=1.0, text_top_k=0)]
    duplex = Duplex(model.lm, model.need_codec(), 3)
    c = model.lm.config
    said, seen = [], set()
    for fixed in (False, True):
        state = duplex.initial_state(each)
        if fixed:
            state.engine.settings = steady(state.engine.settings, c.text_card, c.card)
            plain = duplex.initial_state(Sampling()).engine.settings
            seen = {state.engine.settings.kind(), steady(plain, c.text_card, c.card).kind()}
        said.append(torch.stack([duplex.step(state, torch.from_numpy(f).expand(3, -1)).tokens for f in noise(10, 7)]))
    assert torch.equal(said[0], said[1])
    assert len(seen) == 1
