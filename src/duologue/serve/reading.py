"""Prompts that are read while others talk: aside, a piece at a time, in the order in which they came.

Belongs to the step thread. A prompt is read into a state of its own, so that what is half read is nobody's slot; only
what it leaves is copied there. Pieces have a fixed number of frames, so that their numbers hang on nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch

from duologue.engine.engine import Engine, EngineState, SlotMemory
from duologue.engine.prompts import Prompter
from duologue.model.lm import ABSENT
from duologue.serve.line import Line

STARVED = 25
"""Ticks without time for a piece after which one is read nevertheless, however late that makes the next frame."""


class PromptDesk:
    """Prompts that wait to be read."""

    def __init__(self, prompter: Prompter, engine: Engine, state: EngineState, piece: int) -> None:
        self._prompter, self._piece = prompter, piece
        self._engine, self._aside = engine, engine.one(state)
        self._waiting: deque[Line] = deque()
        self._reading: Iterator[SlotMemory | None] | None = None
        self._cost = 0.0
        self._passed_over = 0

    def warm(self, now: Callable[[], float]) -> None:
        """Read pieces of nothing, and see how long one takes."""
        codes = torch.full((1, 1 + self._engine.config.n_q, self._piece), ABSENT)
        for _ in range(2):
            self._engine.reset(self._aside, 0)
            begun = now()
            self._engine.prefill(self._aside, [0], codes)
            self._cost = now() - begun
        self._engine.reset(self._aside, 0)

    @property
    def busy(self) -> bool:
        """Whether any prompt waits."""
        return bool(self._waiting)

    @property
    def first(self) -> Line:
        """Whose prompt is read."""
        return self._waiting[0]

    def add(self, line: Line) -> None:
        """Let a line wait for its prompt to be read."""
        self._waiting.append(line)

    def drop(self, line: Line) -> None:
        """Forget a line."""
        if self._waiting and self._waiting[0] is line:
            self._reading = None
        if line in self._waiting:
            self._waiting.remove(line)

    def fits(self, now: float, until: float) -> bool:
        """Whether a piece can be read before a time, as far as is known of the last ones."""
        if now + 1.25 * self._cost <= until:
            self._passed_over = 0
            return True
        self._passed_over += 1
        if self._passed_over < STARVED:
            return False
        self._passed_over = 0
        return True

    def work(self, now: Callable[[], float]) -> bool:
        """Read a piece of the first prompt; whether it is read, and its line has what it left in `memory`.

        Raises:
            UserError: as `Prompter.read`.
        """
        line, begun = self._waiting[0], now()
        if self._reading is None:
            self._reading = self._prompter.read(self._aside, line.text_prompt, line.voice, piece=self._piece)
        found = next(self._reading, line)  # a line: it has ended
        if found is None:
            self._cost = max(now() - begun, 0.9 * self._cost)
            return False
        line.memory = None if isinstance(found, Line) else found
        self._reading = None
        self._waiting.popleft()
        return True
