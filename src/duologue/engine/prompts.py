"""System prompts as PersonaPlex was trained with: a voice and a text that stand before the conversation.

While they last, the user's stream is a constant tone: a voice, spoken by the agent with its text padded; half a second
of silence; the text, one token a frame, in silence; half a second of silence. Matched: PersonaPlex, models/lm.py
(`step_system_prompts`). Its first call only starts the session, so the first frame of a prompt is lost; here too.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from duologue.audio.loudness import loudness
from duologue.audio.wave import read_audio
from duologue.base.errors import UserError
from duologue.codec.interface import Codec
from duologue.engine.engine import Engine, EngineState, SlotMemory
from duologue.model.config import LMConfig
from duologue.model.text import TextTokenizer, system_prompt

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle

GOOD_TALK = "You enjoy having a good conversation."
"""PersonaPlex's text prompt for talk without a task (the model card of kyutai/personaplex-rl-seamless)."""
OPENING_S = 3.0
"""Seconds of silence in which Moshi says its opening phrase (arXiv 2606.11167, section 5)."""
SPACER_SECONDS = 0.5
VOICE_LUFS = -24.0
TONE_HZ, TONE_LEVEL = 440.0, 0.5
STEADY_FRAMES = 25
KYUTAI_CODEC = "e351c8d8"
"""Part of the name of Kyutai's Mimi, with which Moshi and PersonaPlex were trained."""
SILENCE = (948, 243, 1178, 546, 1736, 1030, 1978, 2008)
"""Its codes of silence, as PersonaPlex has them."""
SINE = (430, 1268, 381, 1611, 1095, 1495, 56, 472)
"""Its codes of the tone."""


@dataclass(frozen=True, slots=True)
class Tones:
    """Codes of one frame of silence [n] and of the tone [n] that stand in for a side that is not there."""

    silence: Tensor
    sine: Tensor


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice prompt: codes [agent_streams, V], or what PersonaPlex keeps of one."""

    codes: Tensor | None = None
    embeddings: Tensor | None = None
    """[N, dim]: what the temporal transformer read in its calls."""
    last: Tensor | None = None
    """[K, n]: the tokens of the last frames, un-delayed."""

    def key(self) -> bytes:
        """The content."""
        parts = [x for x in (self.codes, self.embeddings, self.last) if x is not None]
        return b"".join(x.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes() for x in parts)


def takes_prompts(bundle: Bundle) -> bool:
    """Whether this is a model of PersonaPlex's kind, by how it hears the user."""
    return bundle.config.kyutai_codec and bundle.lm.config.user_lag == 0


def text_prompt_of(asked: str | None, bundle: Bundle, usual: str = GOOD_TALK) -> str:
    """What the agent is told before: as asked, else the usual for a model that takes PersonaPlex's prompts."""
    if asked is not None:
        return asked
    return usual if takes_prompts(bundle) else ""


def lead_of(asked: float | None, bundle: Bundle) -> float:
    """Seconds of silence before: as asked, else Moshi's."""
    if asked is not None:
        return asked
    return OPENING_S if bundle.config.kyutai_codec and not takes_prompts(bundle) else 0.0


def tones(codec: Codec, *, kyutai: bool) -> Tones:
    """Silence and tone in a codec's codes: PersonaPlex's constants for Kyutai's Mimi, else the codec's steady state."""
    if kyutai and codec.n_codebooks == len(SILENCE):
        return Tones(torch.tensor(SILENCE), torch.tensor(SINE))
    at = torch.arange(STEADY_FRAMES * codec.frame_size) / codec.sample_rate
    sine = TONE_LEVEL * torch.sin(2 * math.pi * TONE_HZ * at)
    return Tones(_steady(codec, torch.zeros_like(sine)), _steady(codec, sine))


@torch.no_grad()
def _steady(codec: Codec, wave: Tensor) -> Tensor:
    return codec.encode(wave[None, None])[0, :, -1].cpu()


def read_voice(path: str | Path, codec: Codec, config: LMConfig) -> Voice:
    """Read a voice prompt: a recording (its first channel, at -24 LUFS), or a `.pt` file of PersonaPlex's.

    Raises:
        UserError: no such file, too short or silent, or a `.pt` file that holds anything but plain data, or is another
            model's.
    """
    place = Path(path)
    if place.suffix == ".pt":
        return _read_embeddings(place, config)
    audio = read_audio(place).resampled(codec.sample_rate).channel(0)
    level = loudness(audio)
    if not math.isfinite(level):
        problem = "is silent" if level < 0 else "is shorter than 0.4 s"
        raise UserError(problem, place=place, mend="use a few seconds of one person speaking")
    with torch.no_grad():
        wave = torch.from_numpy(audio.samples * 10 ** ((VOICE_LUFS - level) / 20)).float()
        return Voice(codes=codec.encode(wave[None])[0, : config.agent_streams].cpu())


def _read_embeddings(path: Path, config: LMConfig) -> Voice:
    import pickle

    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot be read safely: {problem}", place=path, mend="use a recording") from None
    x, cache = (kept.get(key) if isinstance(kept, dict) else None for key in ("embeddings", "cache"))
    if not isinstance(x, Tensor) or not isinstance(cache, Tensor):
        raise UserError("holds no embeddings and cache", place=path, mend="use a voice of PersonaPlex, or a recording")
    shape = [1, 1 + config.n_q, max(config.delays) + 3]
    if x.dim() != 4 or x.shape[3] != config.dim or list(cache.shape) != shape:
        problem = f"has embeddings {list(x.shape)} and cache {list(cache.shape)}"
        raise UserError(problem, place=path, mend=f"this model needs [N, 1, 1, {config.dim}] and {shape}")
    N, places, delays = len(x), shape[2], torch.tensor(config.delays)
    back = torch.arange(max(config.delays), -1, -1)  # of the last frames, the latest last
    # Upstream's ring has stream k of frame f at place f + 1 + its delay.
    last = cache[0].gather(1, (N - back[None] + delays[:, None]) % places)
    return Voice(embeddings=x[:, 0, 0], last=last)


def prompt_codes(config: LMConfig, tone: Tones, ids: Sequence[int], voice: Tensor | None) -> Tensor:
    """Codes [K, T] of a whole prompt: text tokens, and codes of a voice [agent_streams, V]; [K, 0] without both."""
    if not ids and voice is None:
        return torch.zeros(1 + config.n_q, 0, dtype=torch.long)
    spacer = _silent(config, tone, [config.existing_text_padding_id] * int(SPACER_SECONDS * 12.5))
    parts = [spacer, _silent(config, tone, ids), spacer]
    if voice is not None:
        text = torch.full((1, voice.shape[1]), config.existing_text_padding_id)
        user = tone.sine[: config.user_streams, None].expand(-1, voice.shape[1])
        parts.insert(0, torch.cat((text, voice, user)))
    return torch.cat(parts, dim=1)


def _silent(config: LMConfig, tone: Tones, text: Sequence[int]) -> Tensor:
    """Frames of text over the agent's silence and the user's tone."""
    agent, user = tone.silence[: config.agent_streams], tone.sine[: config.user_streams]
    below = torch.cat((agent, user))[:, None].expand(-1, len(text))
    return torch.cat((torch.tensor(list(text), dtype=torch.long)[None], below))


class Prompter:
    """Puts prompts into slots. A prompt is computed once, in parallel, and copied whenever it comes again."""

    def __init__(self, engine: Engine, tone: Tones, text: Callable[[], TextTokenizer], *, keep: int = 8) -> None:
        self._engine, self._tone, self._text, self._keep = engine, tone, text, keep
        self._kept: OrderedDict[str, SlotMemory] = OrderedDict()

    def apply(self, state: EngineState, slot: int, text: str = "", voice: Voice | None = None) -> int:
        """Begin a conversation in a slot with this prompt; returns its frames. No text and no voice is no prompt.

        Raises:
            UserError: a prompt longer than the model's context, or words for a model without a tokenizer.
        """
        self._engine.reset(state, slot)
        ids, key = self._content(state, text, voice)
        if key is None:
            return 0
        if key not in self._kept:
            for _ in self._fill(state, slot, ids, voice, None):
                pass
            self._remember(key, self._engine.take(state, slot))
        else:
            self._engine.put(state, slot, self._kept[key])
        self._kept.move_to_end(key)
        return state.calls[slot]

    def read(
        self, aside: EngineState, text: str = "", voice: Voice | None = None, *, piece: int
    ) -> Iterator[SlotMemory | None]:
        """Compute a prompt aside, `piece` frames at a time: None after each piece, and at last what a slot remembers of
        it. Nothing for no prompt. A prompt that was read before comes at once.

        Args:
            aside: a state of one slot (`Engine.one`) that nobody else uses meanwhile.
            text: what the agent is told.
            voice: whose voice it takes; one that is kept as embeddings is one piece.
            piece: frames.

        Raises:
            UserError: as `apply`.
        """
        ids, key = self._content(aside, text, voice)
        if key is None:
            return
        if key not in self._kept:
            self._engine.reset(aside, 0)
            for _ in self._fill(aside, 0, ids, voice, piece):
                yield None
            self._remember(key, self._engine.take(aside, 0))
        self._kept.move_to_end(key)
        yield self._kept[key]

    def _content(self, state: EngineState, text: str, voice: Voice | None) -> tuple[Sequence[int], str | None]:
        """Text tokens of a prompt, and its key; None for no prompt."""
        wrapped = system_prompt(text)
        ids = self._text().encode(wrapped) if wrapped else []
        if not ids and voice is None:
            return ids, None
        content = repr((ids, state.guided)).encode() + (b"" if voice is None else voice.key())
        return ids, hashlib.sha256(content).hexdigest()

    def _remember(self, key: str, memory: SlotMemory) -> None:
        self._kept[key] = memory
        while len(self._kept) > self._keep:
            self._kept.popitem(last=False)

    def codes(self, text: str = "", voice: Voice | None = None) -> Tensor:
        """The tokens [K, P] that `apply` puts into a slot, for a voice that is made of codes.

        Raises:
            ValueError: a voice kept as embeddings.
            UserError: words for a model without a tokenizer.
        """
        if voice is not None and voice.codes is None:
            raise ValueError("a voice kept as embeddings has no codes")
        wrapped = system_prompt(text)
        return self._codes(self._text().encode(wrapped) if wrapped else [], voice)

    def _codes(self, ids: Sequence[int], voice: Voice | None) -> Tensor:
        config = self._engine.config
        codes = prompt_codes(config, self._tone, ids, None if voice is None else voice.codes)
        if (voice is None or voice.embeddings is None) and config.user_lag == 0:
            codes = codes[:, 1:]  # PersonaPlex's first call drops what it is given
        return codes

    def _fill(
        self, state: EngineState, slot: int, ids: Sequence[int], voice: Voice | None, piece: int | None
    ) -> Iterator[None]:
        """Put a prompt into a slot, in pieces of so many frames or whole; stops after each."""
        config = self._engine.config
        codes = self._codes(ids, voice)
        begun = 0 if voice is None or voice.embeddings is None else len(voice.embeddings)
        if begun and not ids:
            codes = prompt_codes(config, self._tone, ids, codes.new_zeros(config.agent_streams, 0))
        if config.context is not None and begun + codes.shape[1] > config.context:
            problem = f"the prompt has {begun + codes.shape[1]} frames, and the model remembers {config.context}"
            raise UserError(problem, place="prompt", mend="shorten the text, or the voice")
        if voice is not None and voice.embeddings is not None and voice.last is not None:
            self._engine.prefill_embedded(state, slot, voice.embeddings, voice.last)
            yield
        for part in torch.split(codes[None], piece or max(1, codes.shape[1]), dim=2):
            self._engine.prefill(state, [slot], part)
            yield


def prompt_room(text: str, voice: Voice | None) -> int:
    """At least as many frames as a prompt has; a token is no shorter than a byte."""
    kept = None if voice is None else voice.codes if voice.codes is not None else voice.embeddings
    return 2 * 7 + len(system_prompt(text).encode("utf-8", "replace")) + (0 if kept is None else max(kept.shape))
