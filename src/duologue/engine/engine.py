"""The engine: B conversations stepped together, one frame (80 ms) a call.

A slot is a row of the batch. Slots join (`reset`), leave or wait (`active`), go on from another's past (`copy_slot`),
and have seeds and settings of their own; none sees its neighbours. Any token of a frame can be forced instead of drawn:
that is how prompts, prefixes and recorded histories enter, one frame at a time or many at once (`prefill`).

A slot whose settings have `guidance` reads every frame twice, once without the text, and its audio is drawn from logits
that are moved away from those of the second reading. The second readings lie in rows behind those of the slots.

Matched: moshi 0.2.13, LMGen (guidance: its `cfg_is_no_text`), and PersonaPlex's (forced tokens, `user_lag` 0). Call n
of a slot reads the delayed tokens before step n and writes step n: text and semantic code of frame n, acoustic codes of
frame n - 1 (by Moshi's delays).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from duologue.engine.graphs import Capture, FrameGraphs, Inputs, capture_cuda
from duologue.engine.sampling import Sampling, Script, Settings, chances
from duologue.model.kernels import EAGER, Kernels
from duologue.model.lm import ABSENT, DuplexLM
from duologue.model.memory import LMState
from duologue.model.stream import StreamLM

FREE = -2
"""A token that is not there yet: to be drawn, or nothing to return."""


@dataclass(slots=True)
class EngineState:
    """All that is remembered of the slots, one row each. `Engine.step` changes it in place; `clone` to keep one."""

    lm: LMState
    tokens: Tensor
    """[B, ring, K]: tokens by frame; frame f lies at f modulo the ring. -2 = to be drawn."""
    calls: list[int]
    """Calls made by each slot, as `lm.steps` counts them."""
    sampling: list[Sampling]
    """Settings of each slot."""
    settings: Settings
    """The same as tensors."""
    condition: Tensor | None
    """[B, 1, dim], for models with conditions."""
    forced: int = 0
    """Calls for which forced tokens may still be due."""

    @property
    def guided(self) -> bool:
        """Whether slots have second readings: row `slots + i` of `lm` is that of slot i."""
        return len(self.lm.steps) > len(self.calls)

    def rows(self, slots: Sequence[int]) -> list[int]:
        """All rows of `lm` of these slots."""
        return [*slots, *(len(self.calls) + slot for slot in slots)] if self.guided else list(slots)

    def clone(self) -> EngineState:
        """A state that shares no memory with this one."""
        condition = None if self.condition is None else self.condition.clone()
        lists = list(self.calls), list(self.sampling)
        return EngineState(self.lm.clone(), self.tokens.clone(), *lists, self.settings, condition, self.forced)


@dataclass(frozen=True, slots=True)
class SlotMemory:
    """What one slot remembers, kept apart: a prompt that is computed once and put into many slots."""

    rings: tuple[Tensor, ...]
    """Of `LMState.rings`, the filled part of the slot's rows."""
    tokens: Tensor
    """[ring, K]"""
    calls: int


class Step(NamedTuple):
    """What a call gives. With captured frames (CUDA) the next call overwrites all but tokens and text."""

    tokens: Tensor
    """[B, written]: text, then the audio streams that are written, un-delayed: frame n - `Engine.delay` in call n. -2 =
    not yet, or the slot did not take part."""
    text_logits: Tensor
    """[B, text_card] of frame n: the model's own, before padding bonus, temperature, top-k and top-p."""
    audio_logits: Tensor
    """[B, written - 1, card], likewise; each stream's of its own delayed frame."""
    hidden: Tensor
    """[B, dim], for extra heads."""
    text: Tensor
    """[B]: the text of frame n itself, drawn or forced; of slots that took part."""


class Engine:
    """Steps a language model over slots.

    Args:
        lm: the model. Training it in place is seen at once; after moving it or replacing layers, make the engine anew.
        slots: how many conversations.
        frames: the longest conversation, where it is shorter than the context and memory matters.
        write_user: also write the user's streams (models whose depth transformer does), where they are not given.
        int8_memory: remember keys and values in 8 bits: half the memory of bf16, and slower.
        kernels: what layers use between their matrices; `kernels.compiled()` fuses them.
        capture: how frames are captured and replayed; "auto": as CUDA graphs on CUDA, not at all on a CPU.
    """

    def __init__(
        self, lm: DuplexLM, slots: int, *, frames: int | None = None, write_user: bool = False,
        int8_memory: bool = False, kernels: Kernels = EAGER,
        capture: Capture | Literal["auto"] | None = "auto",
    ) -> None:  # fmt: skip
        if slots < 1:
            raise ValueError(f"{slots} slots")
        c = lm.config
        if write_user and (c.dep_q <= c.agent_streams or c.user_lag):
            raise ValueError("this model does not write the user's streams")
        self.config, self.slots, self.stream = c, slots, StreamLM(lm, kernels)
        self.device = self.stream.device
        self.audio_streams = c.dep_q if write_user else c.agent_streams
        written = 1 + self.audio_streams
        self.delay = max(c.delays[:written])
        """Calls until a frame is whole."""
        self._ring, self._int8 = max(c.delays) + 2, int8_memory
        self._frames = frames if c.context is None or (frames or c.context) < c.context else None
        self._delays = torch.tensor(c.delays, device=self.device)
        initial = [c.text_initial_id] + [c.audio_initial_id] * c.n_q
        self._initial = torch.tensor(initial, device=self.device)
        self._rows = torch.arange(slots, device=self.device)
        self._everyone = torch.ones(slots, dtype=torch.bool, device=self.device)
        self._pad = torch.tensor([c.existing_text_padding_id], device=self.device)
        if capture == "auto":
            capture = capture_cuda if self.device.type == "cuda" else None
        self._graphs = None if capture is None else FrameGraphs(self._captured, capture)

    def initial_state(self, sampling: Sampling | Sequence[Sampling] | None = None) -> EngineState:
        """State before anybody spoke; settings for all slots, or one for each. Guided if any of them is."""
        each = [sampling or Sampling()] * self.slots if not isinstance(sampling, Sequence) else list(sampling)
        if len(each) != self.slots:
            raise ValueError(f"{len(each)} settings for {self.slots} slots")
        settings = self._settings(each)
        rows = self.slots * (1 if settings.guidance is None else 2)
        lm = self.stream.initial_state(rows, self._frames, int8=self._int8)
        tokens = torch.full((self.slots, self._ring, 1 + self.config.n_q), FREE, device=self.device)
        condition = None
        if self.config.conditions:
            with torch.no_grad():
                condition = self.stream.model.condition_provider([{}]).repeat(rows, 1, 1)
        return EngineState(lm, tokens, [0] * self.slots, each, settings, condition)

    def one(self, state: EngineState) -> EngineState:
        """A state of one slot, of the same kind, for what is read aside (`prefill`, `take`) while the others go on."""
        each = [Sampling()]
        lm = self.stream.initial_state(2 if state.guided else 1, self._frames, int8=self._int8)
        condition = None if state.condition is None else state.condition[state.rows([0])].clone()
        return EngineState(lm, torch.full_like(state.tokens[:1], FREE), [0], each, self._settings(each), condition)

    def reset(self, state: EngineState, slot: int, sampling: Sampling | None = None) -> None:
        """Begin a new conversation in a slot, with other settings if given."""
        state.lm.steps[state.rows([slot])] = 0
        state.calls[slot] = 0
        if sampling is not None:
            self.set_sampling(state, slot, sampling)

    def set_sampling(self, state: EngineState, slot: int, sampling: Sampling) -> None:
        """Change a slot's settings. Errors: ValueError, guidance in a state that began without any."""
        if sampling.guidance != 1 and not state.guided:
            raise ValueError("guidance has no second reading: begin with a state whose settings have some")
        state.sampling[slot] = sampling
        state.settings = self._settings(state.sampling)

    def set_condition(self, state: EngineState, slot: int, given: Mapping[str, str | Tensor | None]) -> None:
        """Change a slot's conditions. Errors: UserError as `ConditionProvider`, ValueError if the model has none."""
        if state.condition is None:
            raise ValueError("this model has no conditions")
        with torch.no_grad():
            state.condition[state.rows([slot])] = self.stream.model.condition_provider([given])

    def copy_slot(self, state: EngineState, source: int, target: int) -> None:
        """Make a slot go on where another stands; its settings, and so its seeds, stay its own."""
        for old, new in zip(state.rows([source]), state.rows([target]), strict=True):
            state.lm.copy_row(old, new)
        state.tokens[target] = state.tokens[source]
        state.calls[target] = state.calls[source]
        if state.condition is not None:
            state.condition[state.rows([target])] = state.condition[state.rows([source])]

    def take(self, state: EngineState, slot: int) -> SlotMemory:
        """Keep what a slot remembers."""
        rows = state.rows([slot])
        rings = tuple(ring[:, rows, :, :, : state.calls[slot]] for ring in state.lm.rings())
        return SlotMemory(rings, state.tokens[slot].clone(), state.calls[slot])

    def put(self, state: EngineState, slot: int, memory: SlotMemory) -> None:
        """Make a slot go on from there."""
        for ring, kept in zip(state.lm.rings(), memory.rings, strict=True):
            ring[:, state.rows([slot]), :, :, : kept.shape[4]] = kept
        state.lm.steps[state.rows([slot])] = memory.calls
        state.tokens[slot] = memory.tokens
        state.calls[slot] = memory.calls
        state.forced = self._ring

    def step(
        self, state: EngineState, user: Tensor, active: Sequence[bool] | None = None, *, forced: Tensor | None = None
    ) -> tuple[Tensor, EngineState]:
        """One frame of every slot that takes part.

        Args:
            state: changed in place.
            user: the users' codes of this call [B, user_streams]; -1 = absent, -2 = to be written by the model.
            active: which slots take part; all if None.
            forced: tokens of this call's frame that are not to be drawn, [B, written], un-delayed; -2 = draw, -1 =
                absent.

        Returns:
            tokens [B, written] of frame n - `delay` (-2 = not yet, or the slot did not take part), and the state.

        Raises:
            ValueError: other shapes, or a conversation longer than `frames`.
        """
        return self.advance(state, user, active, forced=forced).tokens, state

    @torch.no_grad()
    def advance(
        self, state: EngineState, user: Tensor, active: Sequence[bool] | None = None, *, forced: Tensor | None = None,
        script: Script | None = None,
    ) -> Step:  # fmt: skip
        """`step`, with the logits of what was written; `script` narrows which text can be drawn in this call."""
        c, ring, rows = self.config, state.tokens, self._rows
        n = state.lm.steps[: self.slots].clone()  # the call of each slot
        written = 1 + self.audio_streams
        if user.shape != (self.slots, c.user_streams):
            raise ValueError(f"user codes are {list(user.shape)}, not {[self.slots, c.user_streams]}")
        self._check_room(state, active, 1)
        taking = None if active is None else torch.tensor(list(active), device=self.device)
        # A place is made for frame n; what is known of it comes in.
        ring[rows, n % self._ring] = FREE
        ring[rows, (n - c.user_lag) % self._ring, 1 + c.n_q - c.user_streams :] = user.to(self.device)
        if forced is not None:
            if forced.shape != (self.slots, written):
                raise ValueError(f"forced tokens are {list(forced.shape)}, not {[self.slots, written]}")
            ring[rows, n % self._ring, :written] = forced.to(self.device)
            state.forced = self._ring
        absent = state.forced > 0
        # The step before is read, and this one's tokens that are known already.
        frames = n[:, None] - self._delays
        inputs = ring.gather(1, (frames - 1).remainder(self._ring)[:, None])[:, 0]
        inputs = torch.where(frames < 1, self._initial, inputs)
        place = frames[:, :written].remainder(self._ring)[:, None]
        before = ring[:, :, :written].gather(1, place)[:, 0]
        known = torch.where(frames[:, :written] < 0, self._initial[:written], before)
        window = max(state.calls) + 1
        settings = state.settings if script is None else replace(state.settings, script=script)
        if self._graphs is None:
            found = self._write(
                state.lm, settings, state.condition, inputs, known, taking, window, absent=absent,
                together=len(set(state.calls)) == 1,
            )  # fmt: skip
        else:
            everyone = self._everyone if taking is None else taking
            given = Inputs(inputs, known, everyone, state.condition, settings)
            found = self._graphs(state.lm, given, window)
        tokens, text_logits, audio_logits, hidden = found
        kept = tokens if taking is None else torch.where(taking[:, None], tokens, before)
        ring[:, :, :written].scatter_(1, place, kept[:, None])
        # The latest frame that is whole.
        out = ring[rows, (n - self.delay) % self._ring, :written]
        there = n >= self.delay if taking is None else (n >= self.delay) & taking
        for slot in range(self.slots):
            state.calls[slot] += active is None or active[slot]
        state.forced = max(0, state.forced - 1)
        return Step(torch.where(there[:, None], out, FREE), text_logits, audio_logits, hidden, kept[:, 0].clone())

    def _captured(self, memory: LMState, given: Inputs, window: int) -> tuple[Tensor, ...]:
        return self._write(
            memory, given.settings, given.condition, given.tokens, given.known, given.taking, window, absent=True
        )

    def _write(
        self, memory: LMState, settings: Settings, condition: Tensor | None, inputs: Tensor, known: Tensor,
        taking: Tensor | None, window: int, *, absent: bool, together: bool = False,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Read a frame and write the next: tokens [B, written], with the logits. `known` tokens are not drawn."""
        free = known == FREE
        B = self.slots
        guided = len(memory.steps) > B
        chance = chances(settings.seeds, memory.steps[:B]).unbind(1)
        if guided:
            inputs = torch.cat((inputs, self._wordless(inputs)))
            taking = None if taking is None else taking.repeat(2)
        hidden, text_logits = self.stream.read(
            inputs, memory, taking, window=window, together=together, condition=condition
        )
        text_logits = text_logits[:B]
        scores = text_logits
        if settings.bonus is not None:
            scores = text_logits.index_add(1, self._pad, settings.bonus[:, None].to(text_logits.dtype))
        scores = settings.pause(scores, self._pad) if settings.script is None else settings.script.restrict(scores)
        token = torch.where(free[:, 0], settings.text.pick(scores, chance[0]), known[:, 0])
        tokens, logits = [token], []
        if self.audio_streams:
            depth = self.stream.depth(hidden)
            for q in range(self.audio_streams):
                scores = depth.step(token.repeat(2) if guided else token, absent=absent)
                if guided:
                    scores = settings.guide(*scores.chunk(2))
                token = torch.where(free[:, 1 + q], settings.audio.pick(scores, chance[1 + q]), known[:, 1 + q])
                tokens.append(token)
                logits.append(scores)
        audio = torch.stack(logits, 1) if logits else text_logits.new_zeros(self.slots, 0, self.config.card)
        return torch.stack(tokens, 1), text_logits, audio, hidden[:B]

    def _wordless(self, delayed: Tensor) -> Tensor:
        """Delayed tokens [B, K, ...] as second readings see them: the text is absent, once it has begun."""
        text = delayed[:, :1]
        unread = torch.where(text == self.config.text_initial_id, text, ABSENT)
        return torch.cat((unread, delayed[:, 1:]), 1)

    @torch.no_grad()
    def prefill(self, state: EngineState, slots: Sequence[int], codes: Tensor) -> None:
        """Give slots frames that are all known, many at once: what as many calls with forced tokens would leave.

        Args:
            state: changed in place.
            slots: which; all must have made equally many calls.
            codes: un-delayed tokens [len(slots), K, T], as `forward` takes them (see `model.alignment`); -1 = absent.

        Raises:
            ValueError: other shapes, slots that stand apart, or more frames than there is room for.
        """
        c, T = self.config, codes.shape[2]
        if codes.shape[:2] != (len(slots), 1 + c.n_q):
            raise ValueError(f"codes are {list(codes.shape)}, not {[len(slots), 1 + c.n_q, 'T']}")
        if T == 0 or not slots:
            return
        self._check_room(state, [slot in slots for slot in range(self.slots)], T)
        rows = torch.tensor(list(slots), device=self.device)
        begun, R = state.calls[slots[0]], self._ring
        # The ring holds the frames before; those of negative number read as initial tokens.
        past = torch.arange(begun - R, begun, device=self.device)
        earlier = state.tokens[rows][:, past % R].transpose(1, 2)
        earlier = torch.where((past < 0)[None, None], self._initial[:, None], earlier)
        whole = torch.cat((earlier, codes.to(self.device)), dim=2)
        column = torch.arange(T, device=self.device)[None] + R - 1 - self._delays[:, None]
        delayed = whole.gather(2, column[None].expand(len(slots), -1, -1))
        if (delayed == FREE).any():
            raise ValueError("the frame before is not whole yet: give it to `step` first")
        if state.guided:
            delayed = torch.cat((delayed, self._wordless(delayed)))
        condition = None if state.condition is None else state.condition[state.rows(slots)]
        self.stream.prefill(delayed, state.lm, state.rows(slots), condition=condition)
        kept = torch.arange(begun + T - min(T, R), begun + T, device=self.device)
        state.tokens[rows[:, None], kept % R] = whole[:, :, -len(kept) :].transpose(1, 2)
        for slot in slots:
            state.calls[slot] += T
        state.forced = R

    @torch.no_grad()
    def prefill_embedded(self, state: EngineState, slot: int, x: Tensor, last: Tensor) -> None:
        """Give a new conversation its first frames as sums of embeddings, such as PersonaPlex keeps of a voice.

        Args:
            state: changed in place.
            slot: that has made no call yet.
            x: what the temporal transformer read in the first N calls, [N, dim].
            last: the tokens [K, n] of frames N - n .. N - 1, un-delayed, with n at least the largest delay + 1.

        Raises:
            ValueError: other shapes, a slot that has begun, or more frames than there is room for.
        """
        N, n = len(x), last.shape[1]
        if (
            state.calls[slot]
            or n <= max(self.config.delays)
            or n > self._ring
            or n > N
            or x.shape[1] != self.config.dim
        ):
            raise ValueError(f"{list(x.shape)} embeddings and {n} frames of tokens after {state.calls[slot]} calls")
        self._check_room(state, [other == slot for other in range(self.slots)], N)
        both = state.rows([slot])  # what is in a sum stays in it
        self.stream.prefill_embedded(x.to(self.stream.table).expand(len(both), -1, -1), state.lm, both)
        frames = torch.arange(N - n, N, device=self.device)
        state.tokens[slot, frames % self._ring] = last.t().to(self.device)
        state.calls[slot] = N
        state.forced = self._ring

    def _check_room(self, state: EngineState, active: Sequence[bool] | None, frames: int) -> None:
        if active is not None and len(active) != self.slots:
            raise ValueError(f"{len(active)} flags for {self.slots} slots")
        if self._frames is None:
            return
        longest = max((n for i, n in enumerate(state.calls) if active is None or active[i]), default=0)
        if longest + frames > self._frames:
            raise ValueError(f"a conversation of {longest + frames} frames, where there is room for {self._frames}")

    def _settings(self, sampling: Sequence[Sampling]) -> Settings:
        c = self.config
        return Settings.of(sampling, self.audio_streams, c.text_card, c.card, self.device)
