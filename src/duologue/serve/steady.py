"""Settings of one kind, whatever the slots have: captured frames (CUDA graphs) are then captured once.

Flags of `Settings` spare steps that no slot needs; on a GPU each other set of flags is another capture, in the midst of
everybody's talk. Here all steps are always taken. What is drawn stays the same: they do nothing for slots that do not
need them.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from duologue.engine.sampling import Draw, Settings


def steady(settings: Settings, text_card: int, card: int) -> Settings:
    """The same settings with every step taken, for so many tokens. top_p and guidance stay: no client changes them."""
    B, device = len(settings.seeds), settings.seeds.device
    bonus = torch.zeros(B, device=device) if settings.bonus is None else settings.bonus.float()
    pad = torch.zeros(B, 1, device=device) if settings.pad is None else settings.pad
    text, audio = _steady(settings.text, text_card), _steady(settings.audio, card)
    return replace(settings, text=text, audio=audio, bonus=bonus, pad=pad)


def _steady(draw: Draw, card: int) -> Draw:
    return replace(draw, width=card, all_greedy=False, any_greedy=True, same_k=False)
