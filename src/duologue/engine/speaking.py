"""A model says given texts, as many at once as there are slots, frame by frame.

speech = speak(duologue.load("nano"), "good morning")  # Speech(text, audio, words, codes, ...)

The text is led by `reading.Reader`; the sound is the model's own. The user is silent all the while. After the last word
a text ends as soon as its sound has fallen silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.dialogue.timeline import Word
from duologue.engine.bundle import Bundle
from duologue.engine.duplex import Duplex, DuplexState
from duologue.engine.engine import FREE
from duologue.engine.modes import need_mode, speaking_sampling
from duologue.engine.prompts import Prompter, Voice, prompt_room, tones
from duologue.engine.reading import Due, Pace, Reader, spell
from duologue.engine.sampling import Sampling, Script
from duologue.model.words import TextLayout

SLOTS = 8
"""Texts said at once, unless told otherwise."""
HUSH_DBFS, HUSH_DB = -55.0, -35.0
"""A frame is silent below this level, or so far below the loudest frame."""
HUSH_FRAMES = 4
"""Silent frames in a row after which a text has ended."""
SETTLE_FRAMES = 3
"""Frames that the last word's sound is given to begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How texts are said."""

    sampling: Sampling | None = None
    """Settings of each slot; the model's own for speaking if None."""
    text_prompt: str | None = None
    """What the model is told before; what its mode says if None."""
    voice: Voice | None = None
    """Whose voice it takes."""
    pace: Pace = field(default_factory=Pace)
    """How much time it has."""


@dataclass(frozen=True, slots=True)
class Speech:
    """A text as it was said."""

    text: str
    audio: Audio
    """One channel at the codec's rate."""
    words: tuple[Word, ...]
    """With the times at which they are to be heard."""
    codes: Tensor
    """[K, T], as `DuplexLM.forward` takes them, without the prompt."""
    prompt_frames: int
    hurried: int
    """Words that had to begin because the silence before them was too long."""
    cut: bool
    """Whether the sound was cut before it had fallen silent."""


class Sounding(NamedTuple):
    """One frame of a text."""

    sound: Tensor
    """[frame_size], on the CPU."""
    words: tuple[Word, ...]
    """Whose text was completed since the frame before; their sound may be yet to come."""
    tokens: Tensor
    """[1 + agent_streams] of the frame that sounds."""


def speak(bundle: Bundle, text: str, manner: Manner | None = None) -> Speech:
    """Say one text. Errors: UserError, as `speak_all`."""
    return speak_all(bundle, [text], manner)[0]


def speak_all(
    bundle: Bundle, texts: Sequence[str], manner: Manner | None = None, *, slots: int = SLOTS,
    on_word: Callable[[], None] = lambda: None,
) -> list[Speech]:  # fmt: skip
    """Say texts, several at once. Each is said as it would be alone: the seed is the same for all of them.

    Args:
        bundle: a model that speaks, with its codec and tokenizer.
        texts: each is one stretch of speech.
        manner: how.
        slots: how many at once, at most.
        on_word: called after each word.

    Raises:
        UserError: the model does not speak or has no tokenizer, a text has no words, or the prompt does not fit.
    """
    speaker = Speaker(bundle, texts, manner or Manner(), slots)
    frames: list[list[Sounding]] = [[] for _ in texts]
    for at, frame in speaker.frames():
        frames[at].append(frame)
        for _ in frame.words:
            on_word()
    return [speaker.collect(at, found) for at, found in enumerate(frames)]


def speak_stream(bundle: Bundle, text: str, manner: Manner | None = None) -> Iterator[Sounding]:
    """Say one text and give each frame (80 ms) as soon as it sounds. Errors: UserError at once, as `speak_all`."""
    speaker = Speaker(bundle, [text], manner or Manner(), 1)
    return (frame for _, frame in speaker.frames())


class _Line:
    """A text that is being said in a slot."""

    def __init__(self, at: int, reader: Reader, shift: int, tail: int) -> None:
        self.at, self.reader = at, reader
        self.prompted = 0
        self.cut = False
        self.words: list[Word] = []
        self._shift, self._tail = shift, tail
        self._loudest = 0.0
        self._sounded = self._hushed = 0

    def heard(self, sound: Tensor) -> None:
        """Note a frame of sound."""
        power = float(sound.square().mean())
        self._loudest = max(self._loudest, power)
        hush = max(10 ** (HUSH_DBFS / 10), self._loudest * 10 ** (HUSH_DB / 10))
        settled = self.reader.frame - self.reader.quiet + self._shift + SETTLE_FRAMES
        begun = self.reader.done and self._sounded >= settled
        self._hushed = self._hushed + 1 if begun and power < hush else 0
        self._sounded += 1

    def ended(self) -> bool:
        """Whether the text has been said."""
        if not self.reader.done:
            return False
        self.cut = self._hushed < HUSH_FRAMES and self.reader.quiet >= self._tail
        return self.cut or self._hushed >= HUSH_FRAMES


class Speaker:
    """Says texts in slots; as one ends, its slot takes the next. Arguments and errors as `speak_all`."""

    def __init__(self, bundle: Bundle, texts: Sequence[str], manner: Manner, slots: int) -> None:
        if slots < 1:
            raise UserError(f"{slots} is no number of texts at once", place="slots", mend="use 1 or more")
        mode = need_mode(bundle, "speak")
        text, codec, c = bundle.need_text(), bundle.need_codec(), bundle.lm.config
        layout = replace(TextLayout.of(c), delay=mode.text_delay, frame_rate=codec.frame_rate)
        readers = [Reader(spell(x, text, layout, c.text_card), manner.pace, layout) for x in texts]
        shift = max(0, -round(mode.text_delay * layout.frame_rate))
        tail = max(1, round(manner.pace.tail * layout.frame_rate))
        self._texts, self._codec, self._config = texts, codec, c
        self._lines = [_Line(i, reader, shift, tail) for i, reader in enumerate(readers)]
        self._sampling = manner.sampling or speaking_sampling(bundle)
        self._prompt = (mode.prompt or "") if manner.text_prompt is None else manner.text_prompt
        self._voice, self._tone = manner.voice, tones(codec, kyutai=bundle.config.kyutai_codec)
        longest = max((reader.longest() for reader in readers), default=0)
        room = prompt_room(self._prompt, manner.voice) + longest + tail + 1
        self._duplex = Duplex(bundle.lm, codec, max(1, min(slots, len(texts))), frames=room)
        self._prompter = Prompter(self._duplex.engine, self._tone, bundle.need_text)
        known = [text.begins_word(token) for token in range(c.text_card)]
        self._begins = torch.tensor(known, device=self._duplex.engine.device)

    def frames(self) -> Iterator[tuple[int, Sounding]]:
        """Say all texts: which one, and its next frame."""
        waiting = list(reversed(self._lines))
        state = self._duplex.initial_state(self._sampling)
        slots: list[_Line | None] = [None] * self._duplex.slots
        while True:
            for slot, line in enumerate(slots):
                if line is None and waiting:
                    slots[slot] = self._begin(state, slot, waiting.pop())
            if not any(slots):
                return
            sounds, tokens, written = self._step(state, slots)
            for slot, line in enumerate(slots):
                if line is None:
                    continue
                word = line.reader.wrote(written[slot])
                line.words += [] if word is None else [word]
                if line.reader.frame > self._duplex.delay:
                    line.heard(sounds[slot])
                    new, line.words = tuple(line.words), []
                    yield line.at, Sounding(sounds[slot].clone(), new, tokens[slot])
                if line.ended():
                    slots[slot] = None

    def collect(self, at: int, frames: Sequence[Sounding]) -> Speech:
        """What all frames of a text make together."""
        c, line = self._config, self._lines[at]
        said = torch.stack([frame.tokens for frame in frames])
        user = self._tone.silence[: c.user_streams].expand(len(frames), -1)
        nobody = user.new_full((len(frames), c.n_q - c.agent_streams - c.user_streams), -1)
        samples = torch.cat([frame.sound for frame in frames]).numpy()
        return Speech(
            self._texts[at], Audio(samples[None], self._codec.sample_rate),
            tuple(word for frame in frames for word in frame.words),
            torch.cat((said, nobody, user), dim=1).t().contiguous(), line.prompted, line.reader.hurried, line.cut,
        )  # fmt: skip

    def _begin(self, state: DuplexState, slot: int, line: _Line) -> _Line:
        line.prompted = self._prompter.apply(state.engine, slot, self._prompt, self._voice)
        self._duplex.reset_sound(state, slot)
        return line

    def _step(self, state: DuplexState, slots: Sequence[_Line | None]) -> tuple[Tensor, Tensor, list[int]]:
        """One call: sounds [slots, frame_size] and tokens [slots, 1 + agent_streams] of the frames that are whole, on
        the CPU, and the text that was written."""
        engine, dues = self._duplex.engine, [Due(FREE) if line is None else line.reader.due() for line in slots]
        active = [line is not None for line in slots]
        forced = torch.full((len(slots), 1 + engine.audio_streams), FREE)
        forced[:, 0] = torch.tensor([due.forced for due in dues])
        script = Script(
            torch.tensor([due.among for due in dues], device=engine.device),
            torch.tensor([due.first for due in dues], device=engine.device), self._begins,
        )  # fmt: skip
        heard = torch.stack([self._heard(line) for line in slots])
        step = engine.advance(state.engine, heard, None if all(active) else active, forced=forced, script=script)
        # Right after a prompt, its last frame comes out first: that is not said.
        begun = [line is not None and line.reader.frame >= self._duplex.delay for line in slots]
        sounding = torch.tensor(begun, device=engine.device)
        said = torch.where(sounding[:, None], step.tokens[:, 1:], 0)[:, :, None]
        with torch.no_grad():
            sounds, state.mouth = self._codec.decode_step(said, state.mouth, sounding, reuse=True)
        return sounds[:, 0].cpu(), step.tokens.cpu(), step.text.tolist()

    def _heard(self, line: _Line | None) -> Tensor:
        """What the user's streams hold [user_streams]: silence. A model that hears a frame in the call that brings it
        is still given the prompt's last frame in the first one."""
        last = line is not None and line.prompted > 0 and line.reader.frame < self._config.user_lag
        return (self._tone.sine if last else self._tone.silence)[: self._config.user_streams]
