"""A model writes down what it hears, as many recordings at once as there are slots, frame by frame.

found = transcribe(duologue.load("kyutai/stt-1b-en_fr"), read_audio("talk.wav"))  # [Word("hello", 0.3, 0.6), ...]

The recording is the user's side. A model that also speaks is told to transcribe by its mode's prompt, and its own voice
is silence. The text is late (`Mode.text_delay`): silence after the recording lets it catch up. Frame j of the recording
is frame j of the forward pass, as in training: a model that hears a frame in the call that brings it (`user_lag` 1) is
given one call before (moshi's run_inference.py gives the first frame twice).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.codec.interface import check_rate
from duologue.codec.stream import keep_rows
from duologue.dialogue.timeline import Word
from duologue.engine.bundle import Bundle
from duologue.engine.engine import FREE, Engine
from duologue.engine.modes import need_mode, transcribing
from duologue.engine.prompts import Prompter, tones
from duologue.engine.sampling import GREEDY, Sampling
from duologue.model.text import system_prompt
from duologue.model.words import BRINK, TextLayout, WordStream

SLOTS = 8
"""Recordings heard at once, unless told otherwise."""
BLOCK = 12
"""Frames that are encoded together where a whole recording is there."""
LATE_SECONDS = 1.0
"""How long after the delay the last words may still come."""


def transcribe(bundle: Bundle, audio: Audio, *, sampling: Sampling = GREEDY) -> list[Word]:
    """The words of one recording. Errors: UserError, as `transcribe_all`."""
    return transcribe_all(bundle, [audio], sampling=sampling)[0]


def transcribe_all(
    bundle: Bundle, recordings: Sequence[Audio], *, slots: int = SLOTS, sampling: Sampling = GREEDY,
    text_prompt: str | None = None, on_seconds: Callable[[float], None] = lambda _: None,
) -> list[list[Word]]:  # fmt: skip
    """The words of recordings with their times in seconds, several at once.

    Args:
        bundle: a model that transcribes, with its codec and tokenizer.
        recordings: one channel each, at any rate.
        slots: how many at once, at most.
        sampling: how text is drawn; the likeliest token if left out.
        text_prompt: what stands before, instead of what the mode says.
        on_seconds: told how many seconds of sound have been heard since the last time.

    Raises:
        UserError: the model does not transcribe or has no tokenizer, or a recording of several channels.
    """
    if slots < 1:
        raise UserError(f"{slots} is no number of recordings at once", place="slots", mend="use 1 or more")
    for audio in recordings:
        if audio.channels != 1:
            raise UserError(f"has {audio.channels} channels", place="recording", mend="choose one")
    count = max(1, min(slots, len(recordings)))
    codec = bundle.need_codec()
    longest = max((audio.duration for audio in recordings), default=0.0)
    ears = Transcriber(bundle, count, sampling, text_prompt=text_prompt, seconds=longest)
    found: list[list[Word]] = [[] for _ in recordings]
    # The longest first: then no slot is left alone with it at the end.
    waiting = sorted(range(len(recordings)), key=lambda i: recordings[i].duration)
    rest: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * count
    whose: list[int | None] = [None] * count
    while True:
        for slot in range(count):
            if whose[slot] is None and waiting:
                ears.begin(slot)
                following = waiting.pop()
                rest[slot] = ears.padded(recordings[following].resampled(codec.sample_rate).samples[0])
                whose[slot] = following
        if all(at is None for at in whose):
            return found
        taken = [min(BLOCK, len(x) // codec.frame_size) for x in rest]
        sound = np.zeros((count, max(taken) * codec.frame_size), np.float32)
        for slot, frames in enumerate(taken):
            head, rest[slot] = np.split(rest[slot], [frames * codec.frame_size])
            sound[slot, : len(head)] = head
        words = ears.feed(torch.from_numpy(sound), taken)
        on_seconds(sum(taken) / codec.frame_rate)
        for slot, at in enumerate(whose):
            if at is not None:
                found[at] += words[slot]
                if not len(rest[slot]):
                    found[at] += ears.finish(slot)
                    whose[slot] = None


def transcribe_stream(
    bundle: Bundle, sounds: Iterable[NDArray[np.float32]], *, rate: int | None = None, sampling: Sampling = GREEDY
) -> Iterator[Word]:
    """The words of one stream of sound, each as soon as it is complete.

    Args:
        bundle: as `transcribe_all`.
        sounds: stretches of one channel [S], each of any length.
        rate: of the sound; the codec's if None.
        sampling: how text is drawn.

    Raises:
        UserError: as `transcribe_all`, or another rate than the codec's.
    """
    codec = bundle.need_codec()
    check_rate(codec, codec.sample_rate if rate is None else rate, "sounds")
    return _stream(Transcriber(bundle, 1, sampling), sounds)


def _stream(ears: Transcriber, sounds: Iterable[NDArray[np.float32]]) -> Iterator[Word]:
    ears.begin(0)
    kept, size = ears.prefix(), ears.frame_size
    for sound in sounds:
        kept = np.concatenate((kept, np.asarray(sound, np.float32)))
        whole = len(kept) // size
        if whole:
            now, kept = np.split(kept, [whole * size])
            yield from ears.feed(torch.from_numpy(now[None]), [whole])[0]
    last = ears.ended(kept)
    yield from ears.feed(torch.from_numpy(last[None]), [len(last) // size])[0]
    yield from ears.finish(0)


class Transcriber:
    """Slots that write down what they hear.

    Args:
        bundle: a model that transcribes, with its codec and tokenizer.
        slots: how many recordings at once.
        sampling: how text is drawn.
        text_prompt: what stands before, instead of what the mode says.
        seconds: the longest recording, if it is known: memory is made for no more.

    Raises:
        UserError: the model does not transcribe, has no tokenizer or another codec, or has no limit of context where
            nothing is known of the recording's length.
    """

    def __init__(
        self, bundle: Bundle, slots: int, sampling: Sampling = GREEDY, *, text_prompt: str | None = None,
        seconds: float | None = None,
    ) -> None:  # fmt: skip
        bundle = transcribing(bundle)
        mode, c = need_mode(bundle, "transcribe"), bundle.lm.config
        self._codec, self._text, self._config = bundle.need_codec(), bundle.need_text(), c
        if self._codec.n_codebooks < c.user_streams or self._codec.card != c.card:
            problem = f"the codec has {self._codec.n_codebooks} codebooks of {self._codec.card}"
            raise UserError(problem, place="codec", mend=f"the model needs {c.user_streams} of {c.card}")
        self.frame_size, rate = self._codec.frame_size, self._codec.frame_rate
        self._layout = replace(TextLayout.of(c), delay=mode.text_delay, frame_rate=rate)
        self._flush = int(np.ceil(max(0.0, mode.text_delay) * rate)) + round(LATE_SECONDS * rate)
        self._unheard = int(mode.text_delay * rate + BRINK) - 1
        self._prompt = (mode.prompt or "") if text_prompt is None else text_prompt
        frames = None
        if seconds is not None:
            room = len(system_prompt(self._prompt).encode("utf-8", "replace")) + 14
            frames = int(np.ceil((seconds + c.audio_silence_prefix_seconds) * rate)) + self._flush + room + 2
        elif c.context is None:
            mend = "transcribe whole recordings, or use a model with a context"
            raise UserError("remembers without limit", place=bundle.config.name, mend=mend)
        self.engine = Engine(bundle.lm, slots, frames=frames)
        self._tone = tones(self._codec, kyutai=bundle.config.kyutai_codec)
        self._prompter = Prompter(self.engine, self._tone, bundle.need_text)
        self._state = self.engine.initial_state(sampling)
        self._ears = self._codec.initial_state(slots)
        self._words = [WordStream(self._text, self._layout) for _ in range(slots)]
        self._written = [0] * slots

    def begin(self, slot: int) -> None:
        """Begin another recording in a slot."""
        engine = self.engine
        self._prompter.apply(self._state, slot, self._prompt)
        kept = torch.arange(engine.slots, device=engine.device) != slot
        self._ears = keep_rows(self._ears, self._codec.initial_state(engine.slots), kept)
        self._words[slot] = WordStream(self._text, self._layout)
        self._written[slot] = 0
        if self._config.user_lag:
            before = self._tone.sine[: self._config.user_streams].expand(engine.slots, -1)
            self._step(before, [other == slot for other in range(engine.slots)])

    def prefix(self) -> NDArray[np.float32]:
        """The silence that the model expects before a recording."""
        return np.zeros(round(self._config.audio_silence_prefix_seconds * self._codec.sample_rate), np.float32)

    def ended(self, rest: NDArray[np.float32]) -> NDArray[np.float32]:
        """The last samples of a recording in whole frames, and the silence in which the text catches up."""
        silence = -len(rest) % self.frame_size + self._flush * self.frame_size
        return np.concatenate((rest, np.zeros(silence, np.float32)))

    def padded(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """A whole recording with the silence before and after it, in whole frames."""
        return self.ended(np.concatenate((self.prefix(), samples)))

    @torch.no_grad()
    def feed(self, sound: Tensor, frames: Sequence[int]) -> list[list[Word]]:
        """Hear the next frames; gives the words of each slot that they complete.

        Args:
            sound: [slots, n * frame_size], at the codec's rate.
            frames: how many of the n frames each slot has.
        """
        found: list[list[Word]] = [[] for _ in frames]
        if not max(frames):
            return found
        codes, self._ears = self._codec.encode_step(sound[:, None].to(self.engine.device), self._ears, reuse=True)
        for t in range(max(frames)):
            for slot, word in self._step(codes[:, : self._config.user_streams, t], [t < n for n in frames]):
                found[slot].append(word)
        return found

    def finish(self, slot: int) -> list[Word]:
        """The word that is open at the end of a recording, if any."""
        return self._placed(self._words[slot].finish())

    def _step(self, heard: Tensor, active: Sequence[bool]) -> list[tuple[int, Word]]:
        """One call: which slot has completed which word."""
        c, rows = self._config, len(active)
        forced = torch.full((rows, 1), FREE)
        # Text of sound before the first: there is none.
        forced[[i for i, n in enumerate(self._written) if n < self._unheard]] = self._layout.pad
        silence = self._tone.silence[: c.agent_streams].expand(rows, -1)
        step = self.engine.advance(
            self._state, heard, None if all(active) else active, forced=torch.cat((forced, silence), dim=1)
        )
        found = []
        for slot, token in enumerate(step.text.tolist()):
            if active[slot]:
                self._written[slot] += 1
                found += [(slot, word) for word in self._placed(self._words[slot].feed(token))]
        return found

    def _placed(self, word: Word | None) -> list[Word]:
        """A word, if there is one, with times in the recording; none where it would end before the recording began."""
        early = self._config.audio_silence_prefix_seconds
        if word is None or word.end - early < BRINK:
            return []
        return [Word(word.text, max(0.0, word.start - early), word.end - early)]
