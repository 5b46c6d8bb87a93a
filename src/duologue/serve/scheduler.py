"""The step loop: one engine, one thread, one frame of every conversation each 80 ms.

Who owns what: the step thread alone touches the engine, its state, the prompts and all of a `Line` but its ear. Others
send it commands (`join`, `leave`, `pause`, `resume`: a queue that is emptied at the next frame's beginning) and are
told what happened through `deliver`, which is called in the step thread with the reports of one frame, in order, and
must only pass them on. An `Ear` is the one thing that both sides touch, under its lock.

Times: a tick is due every frame. One that begins late is followed by the next at once, but the clock catches up over no
more than `CATCH_UP` frames: beyond, it is set anew, and the time is counted as lost.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from duologue.base.errors import UserError
from duologue.engine.duplex import Duplex
from duologue.engine.prompts import Prompter
from duologue.engine.sampling import Sampling
from duologue.serve.clock import Clock, SystemClock
from duologue.serve.line import Failed, Line, Phase, Ready, Report, Spoken
from duologue.serve.metrics import Metrics
from duologue.serve.reading import PromptDesk
from duologue.serve.steady import steady

CATCH_UP = 2
"""Frames that the clock may lag behind before it is set anew."""
MARGIN = 0.010
"""Seconds before a tick that the first sound must be there, so that a little jitter does not starve the next ones."""
PATIENCE = 1.0
"""Seconds after which a talk begins without the user's sound."""
FAILURES = 3
"""Frames in a row that fail until the engine is given up."""

log = logging.getLogger("duologue.serve")


@dataclass(frozen=True, slots=True)
class Command:
    """What the step thread shall do."""

    verb: str
    line: Line
    slot: int = -1


class Scheduler:
    """Steps conversations together.

    Args:
        duplex: the engine; nobody else may use it.
        prompter: of the same engine.
        sampling: settings of free slots, as the model's own; with guidance if any session shall have some.
        metrics: where times are counted.
        deliver: takes the reports of a frame; called in the step thread.
        clock: the time.
        piece: frames of a prompt that are read at once.
    """

    def __init__(
        self, duplex: Duplex, prompter: Prompter, sampling: Sampling, metrics: Metrics,
        deliver: Callable[[list[Report]], None], *, clock: Clock | None = None, piece: int = 16,
    ) -> None:  # fmt: skip
        self._duplex, self._sampling, self._metrics = duplex, sampling, metrics
        self._deliver, self._clock = deliver, clock or SystemClock()
        self.slots, self.frame = duplex.slots, duplex.codec.frame_size
        self.period = self.frame / duplex.codec.sample_rate
        self._state = duplex.initial_state(sampling)
        self._fresh = duplex.codec.initial_state(1)
        self._desk = PromptDesk(prompter, duplex.engine, self._state.engine, piece)
        self._commands: deque[Command] = deque()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lines: dict[int, Line] = {}
        self._reports: list[Report] = []
        self._failures = 0
        self._steady()

    # From any thread.

    def join(self, line: Line, slot: int) -> None:
        """Begin a conversation in a free slot at the next frame: `Ready` when its prompt is read."""
        self._send(Command("join", line, slot))

    def leave(self, line: Line) -> None:
        """End a conversation; no report of it is made after the next frame."""
        self._send(Command("leave", line))

    def pause(self, line: Line) -> None:
        """Let a conversation stand still; its slot stays its own."""
        self._send(Command("pause", line))

    def resume(self, line: Line) -> None:
        """Let it go on."""
        self._send(Command("resume", line))

    def poke(self) -> None:
        """Some ear has its first frame."""
        self._wake.set()

    def start(self, threads: int | None = None) -> None:
        """Begin the loop in a thread of its own, with so many threads in each matrix product."""
        self._thread = threading.Thread(target=self._run, args=(threads,), name="duologue-step", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the loop, and wait until it has ended."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def broken(self) -> bool:
        """Whether the engine was given up."""
        return self._failures >= FAILURES

    def warm(self, frames: int = 4) -> float:
        """Step silent frames and read a piece of a prompt, so that nothing is slow for being done for the first time;
        seconds of the last frame. Before `start`."""
        for frame in range(frames):
            begun = self._clock.now()
            silence = torch.zeros(self.slots, self.frame)
            active = None if frame % 2 else [slot == 0 for slot in range(self.slots)]
            self._duplex.step(self._state, silence, active).sound.cpu()
            took = self._clock.now() - begun
        self._desk.warm(self._clock.now)
        self._clear()
        return took

    def _send(self, command: Command) -> None:
        self._commands.append(command)
        self._wake.set()

    # In the step thread, or in a test without one.

    def _run(self, threads: int | None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self._loop()
        except Exception:
            log.exception("the step thread failed; the server is of no more use")
            self._failures = FAILURES
            self._give_up()
            self._flush()

    def _loop(self) -> None:
        due = self._clock.now()
        while not self._stop.is_set() and not self.broken:
            if not self._lines and not self._commands:
                self._wake.clear()
                if not self._commands and not self._stop.is_set():
                    self._clock.wait(None, self._wake)
                due = self._clock.now()
                continue
            self.tick(due)
            due = self.following(due)
            self.spare(due)
            due = self._rest(due)

    def _rest(self, due: float) -> float:
        """Sleep until the next tick; when it is due.

        While nobody talks the beat is nobody's: the first sound sets it, so that its talk waits no longer than it must.
        """
        if any(line.phase is Phase.TALKING for line in self._lines.values()):
            self._clock.wait(due, self._stop)
            return due
        self._wake.clear()
        first = self._first_sound()
        if first is None and not self._commands and not self._stop.is_set():
            self._clock.wait(due, self._wake)
            first = self._first_sound()
        if first is not None:
            due = max(first + MARGIN, self._clock.now())
            self._clock.wait(due, self._stop)
        return min(due, self._clock.now())

    def _first_sound(self) -> float | None:
        """When the first frame came of those who wait to talk."""
        waiting = [line.ear.full_since for line in self._lines.values() if line.phase is Phase.WAITING]
        return min((at for at in waiting if at is not None), default=None)

    def following(self, due: float) -> float:
        """When the next tick is due."""
        due, now = due + self.period, self._clock.now()
        if now > due + CATCH_UP * self.period:
            self._metrics.lost.inc(now - due)
            due = now
        return due

    def tick(self, due: float) -> None:
        """One frame of everybody, which was due at a time."""
        begun = self._clock.now()
        self._obey(begun)
        given = self._hear(begun, catching_up=begun > due + self.period)
        if given:
            self._step(given, due)
            self._metrics.step.observe(self._clock.now() - begun)
            self._metrics.start_late.observe(max(0.0, begun - due))
        self._flush()

    def spare(self, until: float) -> None:
        """Read prompts while there is time before the next tick."""
        alone = not any(line.phase in (Phase.TALKING, Phase.WAITING) for line in self._lines.values())
        while self._desk.busy and not self._stop.is_set():
            now = self._clock.now()
            if not alone and not self._desk.fits(now, until):
                break
            if alone and self._commands:
                break
            self._read()
        self._flush()

    def _read(self) -> None:
        """Read one piece of the first prompt that waits."""
        line = self._desk.first
        try:
            done = self._desk.work(self._clock.now)
        except Exception as error:
            self._fail(line, error)
            return
        if done:
            self._seat(line)

    def _seat(self, line: Line) -> None:
        """Begin the talk: the slot stands behind the prompt."""
        duplex, state = self._duplex, self._state
        try:
            duplex.engine.reset(state.engine, line.slot, line.sampling)
            self._steady()
            if line.memory is not None:
                duplex.engine.put(state.engine, line.slot, line.memory)
            self._begin_sound(line.slot)
        except Exception as error:
            self._fail(line, error)
            return
        frames = 0 if line.memory is None else line.memory.calls
        line.memory = None
        if line.phase is Phase.PAUSED:
            line.paused = Phase.WAITING
        else:
            line.phase = Phase.WAITING
        line.since = self._clock.now()
        self._reports.append(Ready(line, frames))

    def _begin_sound(self, slot: int) -> None:
        """Begin both streams of the codec anew, in place: captured frames (CUDA graphs) know where the state lies."""
        for memories in (self._state.ears, self._state.mouth):
            for name, memory in memories.items():
                memory[slot] = self._fresh[name][0]

    def _clear(self) -> None:
        """Forget all talks, in place."""
        for slot in range(self.slots):
            self._duplex.engine.reset(self._state.engine, slot, self._sampling)
            self._begin_sound(slot)
        self._steady()

    def _obey(self, now: float) -> None:
        while self._commands:
            command = self._commands.popleft()
            line = command.line
            if command.verb == "join":
                self._lines[command.slot] = line
                line.slot, line.phase = command.slot, Phase.READING
                self._desk.add(line)
            elif line.phase is Phase.GONE:
                continue
            elif command.verb == "leave":
                self._release(line)
            elif command.verb == "pause" and line.phase is not Phase.PAUSED:
                line.paused, line.phase = line.phase, Phase.PAUSED
            elif command.verb == "resume" and line.phase is Phase.PAUSED:
                line.phase, line.since = line.paused, now
                if line.phase is Phase.TALKING:
                    line.phase = Phase.WAITING

    def _release(self, line: Line) -> None:
        """Free a slot. Its row is reset, so that its length makes no frame longer for others."""
        line.phase = Phase.GONE
        self._desk.drop(line)
        if self._lines.get(line.slot) is line:
            del self._lines[line.slot]
            self._duplex.engine.reset(self._state.engine, line.slot, self._sampling)
            self._steady()

    def _hear(self, now: float, *, catching_up: bool) -> dict[int, np.ndarray | None]:
        """The next sound of each line that takes part; None is silence. To catch up is for those whose sound waits."""
        given: dict[int, np.ndarray | None] = {}
        for slot, line in list(self._lines.items()):
            try:
                if line.phase is Phase.WAITING and self._begins(line, now):
                    line.phase = Phase.TALKING
                if line.phase is Phase.TALKING and not (catching_up and line.ear.counts().buffered < self.frame):
                    given[slot] = line.ear.take()
            except Exception as error:
                self._fail(line, error)
        return given

    def _begins(self, line: Line, now: float) -> bool:
        arrived = line.ear.full_since
        return (arrived is not None and now - arrived >= MARGIN - 0.001) or now - line.since >= PATIENCE

    def _step(self, given: dict[int, np.ndarray | None], due: float) -> None:
        sound = np.zeros((self.slots, self.frame), np.float32)
        for slot, frame in given.items():
            if frame is not None:
                sound[slot] = frame
        active = [slot in given for slot in range(self.slots)]
        try:
            got = self._duplex.step(self._state, torch.from_numpy(sound), None if all(active) else active)
            sounds, tokens = got.sound.cpu().numpy(), got.tokens[:, 0].tolist()
        except Exception:
            self._broke()
            return
        self._failures = 0
        late = max(0.0, self._clock.now() - due - self.period)
        self._metrics.late.observe(late)
        self._metrics.frames.inc(len(given))
        for slot, frame in given.items():
            line = self._lines[slot]
            self._reports.append(Spoken(line, line.calls, sounds[slot].copy(), tokens[slot], frame, late))
            line.calls += 1

    def _broke(self) -> None:
        """The engine failed: nobody's state can be trusted, so all are ended and begin anew."""
        log.exception("a frame failed; all conversations end")
        self._failures += 1
        self._metrics.failures.inc()
        self._give_up()
        self._clear()

    def _give_up(self) -> None:
        """End everybody."""
        for line in list(self._lines.values()):
            line.phase = Phase.GONE
            self._desk.drop(line)
            self._reports.append(Failed(line, "the engine failed; try again", mistake=False))
        self._lines.clear()

    def _fail(self, line: Line, error: Exception) -> None:
        """End one line alone."""
        if isinstance(error, UserError):
            reason = f"prompt: {error.problem}; {error.mend}"
        else:
            log.error("a conversation failed", exc_info=error)
            reason = "this conversation failed; try again"
        self._release(line)
        self._reports.append(Failed(line, reason, mistake=isinstance(error, UserError)))

    def _steady(self) -> None:
        if self._duplex.engine.device.type == "cuda":
            c = self._duplex.engine.config
            self._state.engine.settings = steady(self._state.engine.settings, c.text_card, c.card)

    def _flush(self) -> None:
        if self._reports:
            reports, self._reports = self._reports, []
            self._deliver(reports)
