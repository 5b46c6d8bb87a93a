"""A model against recorded users, as many at once as there are slots: how each talk sounded, and its words.

Times are a listener's: the sound that a call gives is heard in the frame after the call's own, so that latencies
measured on the result are those of a live talk over a line without delay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.dialogue.timeline import Word
from duologue.engine.duplex import Duplex, DuplexState
from duologue.engine.engine import FREE
from duologue.engine.prompts import Prompter, Voice
from duologue.engine.sampling import Sampling
from duologue.model.alignment import to_forward
from duologue.model.text import TextTokenizer
from duologue.model.words import TextLayout, words


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How one conversation begins."""

    sampling: Sampling
    """Settings of the slot."""
    text_prompt: str = ""
    """What the agent is told before."""
    voice: Voice | None = None
    """Whose voice it takes."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What came of one recorded user."""

    audio: Audio
    """Two channels at the codec's rate, agent and user, as long as the user's recording."""
    codes: Tensor
    """[K, T], as `DuplexLM.forward` takes them; -1 where a frame was not complete at the end."""
    words: tuple[Word, ...] | None
    """The agent's, with the times at which they were heard to begin; None without a tokenizer."""
    prompt_frames: int
    """Frames of the prompt before it."""


def converse(
    duplex: Duplex, users: Sequence[Audio], setups: Sequence[Setup], prompter: Prompter,
    text: TextTokenizer | None = None, *, on_frame: Callable[[], None] = lambda: None,
) -> list[Conversation]:  # fmt: skip
    """Let a model talk with recorded users, all at once.

    Args:
        duplex: with at least as many slots as users.
        users: one channel each, at any rate.
        setups: of each.
        prompter: of the duplex's engine.
        text: to read the agent's words.
        on_frame: called after each frame.

    Raises:
        UserError: a recording without a frame of sound, or a prompt that does not fit.
    """
    if not len(users) == len(setups) <= duplex.slots:
        raise ValueError(f"{len(users)} users and {len(setups)} setups for {duplex.slots} slots")
    size, rate = duplex.codec.frame_size, duplex.codec.sample_rate
    sounds = [_framed(user, rate, size) for user in users]
    idle = [Sampling()] * (duplex.slots - len(setups))
    state = duplex.initial_state([s.sampling for s in setups] + idle)
    prompts = [prompter.apply(state.engine, i, s.text_prompt, s.voice) for i, s in enumerate(setups)]
    lengths = [len(sound) for sound in sounds] + [0] * len(idle)
    spoken, tokens, heard = _run(duplex, state, sounds, lengths, on_frame)
    layout = TextLayout.of(duplex.engine.config)
    late = (1 + duplex.delay) / duplex.codec.frame_rate
    layout = replace(layout, frame_rate=duplex.codec.frame_rate, delay=layout.delay - late)
    found = []
    for i, user in enumerate(users):
        n = lengths[i]
        # A frame's sound is heard one frame later; the last is past the end.
        agent = torch.cat((torch.zeros(size), spoken[: n - 1, i].flatten()))[: _samples(user, rate)]
        said = tokens[duplex.delay : n, i].t()
        said = torch.cat((said, said.new_full((len(said), n - said.shape[1]), FREE)), 1)
        codes = to_forward(said[None], heard[:n, i].t()[None], duplex.engine.config.user_lag)[0]
        both = np.stack((agent.numpy(), sounds[i].flatten()[: len(agent)].numpy()))
        spelt = None if text is None else tuple(words(said[0], text, layout))
        found.append(Conversation(Audio(both, rate), codes.clamp(min=-1), spelt, prompts[i]))
    return found


def _run(
    duplex: Duplex, state: DuplexState, sounds: Sequence[Tensor], lengths: Sequence[int], on_frame: Callable[[], None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Every call's sound [T, slots, S], tokens [T, slots, 1 + agent] and user's codes [T, slots, user], on the CPU."""
    spoken, tokens, heard = [], [], []
    silence = torch.zeros(duplex.codec.frame_size)
    for t in range(max(lengths)):
        active = [t < n for n in lengths]
        frame = torch.stack([sounds[i][t] if taking else silence for i, taking in enumerate(active)])
        got = duplex.step(state, frame, None if all(active) else active)
        spoken.append(got.sound.cpu())
        tokens.append(got.tokens.cpu())
        heard.append(got.heard.cpu())
        on_frame()
    return torch.stack(spoken), torch.stack(tokens), torch.stack(heard)


def _samples(user: Audio, rate: int) -> int:
    return max(1, round(int(user.samples.shape[1]) * rate / user.rate))


def _framed(user: Audio, rate: int, size: int) -> Tensor:
    """One channel at the codec's rate in whole frames [T, size], the last filled up with silence."""
    if user.channels != 1:
        raise UserError(f"has {user.channels} channels", place="user", mend="choose the user's")
    wave = user.resampled(rate).samples[0]
    wave = wave[: _samples(user, rate)]
    return torch.from_numpy(np.pad(wave, (0, -len(wave) % size))).view(-1, size)
