"""Which frame of a live session is which frame of `DuplexLM.forward`.

In call n a session reads a frame of the user and writes frame n of the agent. `forward` puts frame j of the user beside
frame j of the agent; by the model's `user_lag` that is the frame that came with call j + user_lag. Moshi (1) hears a
frame in the call that brings it, and never hears the first; PersonaPlex (0) hears it one call later.
"""

from __future__ import annotations

import torch
from torch import Tensor

from duologue.model.lm import ABSENT


def to_forward(agent: Tensor, user: Tensor, user_lag: int) -> Tensor:
    """Codes for `forward` [B, K, T - user_lag] of the text and agent frames 0 .. T - 1 and the user's frames by call.

    Args:
        agent: un-delayed text and agent tokens [B, 1 + agent_streams, T]; -1 where the last frames lack something
            (their acoustic codes come a call later).
        user: what was given to calls 0 .. T - 1, [B, user_streams, T].
        user_lag: of the model.
    """
    frames = agent.shape[2]
    if user.shape[2] != frames:
        raise ValueError(f"{frames} frames of the agent beside {user.shape[2]} of the user")
    kept = max(0, frames - user_lag)
    return torch.cat((agent[:, :, :kept], user[:, :, user_lag : user_lag + kept]), dim=1)


def to_calls(codes: Tensor, agent_streams: int, user_lag: int) -> tuple[Tensor, Tensor]:
    """The inverse: text and agent tokens [B, 1 + agent_streams, T + user_lag] and the user's frames by call.

    What no frame of `codes` [B, K, T] says is -1: with a lag the user's first frame, and the agent's last.
    """
    agent, user = codes[:, : 1 + agent_streams], codes[:, 1 + agent_streams :]
    nothing = [x[:, :, :0].new_full((*x.shape[:2], user_lag), ABSENT) for x in (agent, user)]
    return torch.cat((agent, nothing[0]), dim=2), torch.cat((nothing[1], user), dim=2)
