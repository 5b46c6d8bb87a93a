"""Speech in, speech out: the engine between two streams of the codec, one frame (80 ms) a call.

In call n a slot is given frame n of the user's sound, once all of it is there, and gives frame n - 1 of the agent's:
its semantic code was written in the call before, its acoustic codes in this one. A listener hears it in the next frame.
So what the user says in frame n is in the acoustic codes of what is heard one frame later, and decides words and
semantic codes of what is heard two frames (160 ms) later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from duologue.base.errors import UserError
from duologue.codec.interface import Codec
from duologue.codec.stream import CodecState, clone_state, keep_rows
from duologue.engine.engine import FREE, Engine, EngineState
from duologue.engine.sampling import Sampling
from duologue.model.lm import DuplexLM


@dataclass(slots=True)
class DuplexState:
    """What is remembered of the slots; `Duplex.step` changes it in place."""

    engine: EngineState
    ears: CodecState
    """Of the encoder."""
    mouth: CodecState
    """Of the decoder."""

    def clone(self) -> DuplexState:
        """A state that shares no memory with this one."""
        return DuplexState(self.engine.clone(), clone_state(self.ears), clone_state(self.mouth))


class Frame(NamedTuple):
    """What a call gives."""

    sound: Tensor
    """[slots, frame_size]: zeros where a slot has nothing to say yet, or did not take part."""
    tokens: Tensor
    """[slots, 1 + agent_streams], un-delayed: those of the frame that sounds; -2 where there is none."""
    heard: Tensor
    """[slots, user_streams]: codes of the user's frame."""


class Duplex:
    """Conversations in sound.

    Args:
        lm: a language model that writes audio.
        codec: whose codes it reads and writes.
        slots: how many conversations.
        frames: as in `Engine`.

    Raises:
        UserError: a model that writes no audio, or a codec with other codes.
    """

    def __init__(self, lm: DuplexLM, codec: Codec, slots: int, *, frames: int | None = None) -> None:
        c = lm.config
        if not c.agent_streams:
            raise UserError("this model only listens", place="model", mend="use one that speaks, such as Moshi")
        if codec.n_codebooks < max(c.user_streams, c.agent_streams) or codec.card != c.card:
            problem = f"the codec has {codec.n_codebooks} codebooks of {codec.card}"
            mend = f"the model needs {max(c.user_streams, c.agent_streams)} of {c.card}"
            raise UserError(problem, place="codec", mend=mend)
        self.engine, self.codec, self.slots = Engine(lm, slots, frames=frames), codec, slots
        self.delay = self.engine.delay
        """Calls until the first frame sounds."""

    def initial_state(self, sampling: Sampling | Sequence[Sampling] | None = None) -> DuplexState:
        """State before anybody spoke."""
        ears, mouth = (self.codec.initial_state(self.slots) for _ in range(2))
        return DuplexState(self.engine.initial_state(sampling), ears, mouth)

    def reset(self, state: DuplexState, slot: int, sampling: Sampling | None = None) -> None:
        """Begin a new conversation in a slot."""
        self.engine.reset(state.engine, slot, sampling)
        self.reset_sound(state, slot)

    def reset_sound(self, state: DuplexState, slot: int) -> None:
        """Begin both streams of the codec anew, as after a prompt."""
        kept = torch.arange(self.slots, device=self.engine.device) != slot
        fresh = self.codec.initial_state(self.slots)
        state.ears, state.mouth = (keep_rows(old, fresh, kept) for old in (state.ears, state.mouth))

    def copy_slot(self, state: DuplexState, source: int, target: int) -> None:
        """Make a slot go on where another stands."""
        self.engine.copy_slot(state.engine, source, target)
        for memory in (*state.ears.values(), *state.mouth.values()):
            memory[target] = memory[source]

    @torch.no_grad()
    def step(self, state: DuplexState, sound: Tensor, active: Sequence[bool] | None = None) -> Frame:
        """One frame of every slot that takes part.

        Args:
            state: changed in place.
            sound: the users' next frame, float [slots, frame_size].
            active: which slots take part; all if None.

        Raises:
            ValueError: another shape.
        """
        if sound.shape != (self.slots, self.codec.frame_size):
            raise ValueError(f"sound is {list(sound.shape)}, not {[self.slots, self.codec.frame_size]}")
        device = self.engine.device
        taking = None if active is None else torch.tensor(list(active), device=device)
        codes, state.ears = self.codec.encode_step(sound[:, None].to(device).float(), state.ears, taking, reuse=True)
        heard = codes[:, : self.engine.config.user_streams, 0]
        tokens, _ = self.engine.step(state.engine, heard, active)
        speaking = (tokens[:, 1:] != FREE).all(1)
        said = torch.where(speaking[:, None], tokens[:, 1:], 0)[:, :, None]
        sounds, state.mouth = self.codec.decode_step(said, state.mouth, speaking, reuse=True)
        return Frame(torch.where(speaking[:, None], sounds[:, 0], 0.0), tokens, heard)
