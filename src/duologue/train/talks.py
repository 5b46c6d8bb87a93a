"""Conversations as a language model learns from them, in memory: codes of both sides, their words on the text stream.

An hour is 45,000 frames of 18 small numbers, 1.6 MB: what a small model learns from fits into memory whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duologue.base.config import from_dict, read_yaml
from duologue.base.errors import UserError
from duologue.base.progress import track
from duologue.corpus.script import CHATS
from duologue.corpus.token_cache import CacheHeader, TokenCache
from duologue.dialogue.timeline import Word, earlier
from duologue.engine.modes import LONGEST
from duologue.model.text import TextTokenizer
from duologue.model.words import ABSENT, BRINK, TextLayout, lay_words
from duologue.train.spelling import letter_bits
from duologue.train.texts import Text, load_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """One corpus of a mix."""

    corpus: Path
    """Folder of the corpus, from which words come; relative to the file of the mix. For the task text: chitchat, or a
    file as duologue simulate reads it."""
    tokens: Path | None = None
    """Its codec tokens, from duologue encode; relative as well. A text has none."""
    weight: float = 1.0
    """How often it is drawn from, beside the others."""
    swap: float = 0.5
    """Share of draws in which side 1 is the agent. 0: the agent is always side 0, as in simulated corpora."""
    prompts: tuple[str, ...] = ()
    """Text prompts, one of which stands before a crop."""
    prompted: float = 0.5
    """Share of crops that begin with one of them, if there are any."""
    styles: tuple[str, ...] = ()
    """Text prompts that tell how much the agent says, from little to much: each stands before its part of the crops."""
    styled: float = 0.0
    """Share of crops that begin with one of them."""
    voiced: float = 0.0
    """Share of crops that begin with a voice prompt: another stretch of the agent's."""
    silent: float = 0.0
    """Share of crops in which both sides are silent throughout: where nobody speaks, the agent does not begin."""
    task: str = "talk"
    """talk: both sides as they are. transcribe: the text tells what the user says, and the agent is silent. text: words
    alone, one side's of a chat, at some pace; its sound is not there, or silence, and never learned."""
    dense: float = 0.0
    """Share of crops that are taken where the side whose words are the text speaks most of the time."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise UserError(f"{self.weight} is no weight", place=self.corpus, mend="leave the source out instead")
        for name in ("swap", "prompted", "styled", "voiced", "silent", "dense"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)} is no share", place=self.corpus, mend="use 0 to 1")
        if self.task not in ("talk", "transcribe", "text"):
            raise UserError(f"no task {self.task!r}", place=self.corpus, mend="use talk, transcribe or text")
        if (self.tokens is None) != (self.task == "text"):
            problem = f"the task {self.task} has {'no' if self.tokens is None else 'no use of'} tokens"
            raise UserError(problem, place=self.corpus, mend="name tokens: for all tasks but text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What to learn from."""

    sources: tuple[SourceConfig, ...]
    """One after another."""
    licence: str = "unknown"
    """Under which what is learned may be passed on, for the model card; the corpora's licences decide."""
    text_delay: float = 1.04
    """Seconds by which the text is behind the sound when the task is to transcribe."""
    speak_prompt: str | None = None
    """What the model is told before `duologue speak` makes it say a text, if sources teach it that: those in which the
    agent speaks alone, so that without the prompt it does not talk to itself."""

    def __post_init__(self) -> None:
        if not 0 <= self.text_delay <= LONGEST:
            mend = f"use seconds, from 0 to {LONGEST:g}"
            raise UserError(f"{self.text_delay} is no delay of what is heard", place="text_delay", mend=mend)


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation."""

    codes: NDArray[np.uint16]
    """[2, n, T]: side, codebook, frame; 65535 where there is none."""
    text: NDArray[np.int32]
    """[2, T]: the words of each side, laid on frames; -1 for a side whose words nobody knows."""
    late: NDArray[np.int32]
    """[2, T]: the same, late by the mix's `text_delay`; [2, 0] if no task needs it."""
    speaks: NDArray[np.bool_]
    """[2, T]: whether a word of that side sounds."""
    letters: NDArray[np.int32]
    """[2, T]: which letters of that side's words sound, as `spelling.letter_bits`."""

    @property
    def frames(self) -> int:
        return int(self.text.shape[1])


@dataclass(frozen=True, slots=True)
class Source:
    """A corpus in memory."""

    config: SourceConfig
    talks: tuple[Talk, ...] | tuple[Text, ...]
    held_out: tuple[Talk, ...] | tuple[Text, ...] = field(default=())
    """Those that are not trained on."""
    delay: int = 0
    """Frames by which `Talk.late` is behind the sound."""


def read_mix(path: Path) -> Mix:
    """Read a mix from YAML. Errors: UserError, unknown fields, wrong values, or no source."""
    mix = from_dict(Mix, read_yaml(path), place=str(path))
    if not mix.sources:
        raise UserError("names no source", place=path, mend="list corpora under sources")
    return mix


def load_mix(mix: Mix, beside: Path, tokenizer: TextTokenizer, layout: TextLayout, held_out: float) -> list[Source]:
    """Load all sources.

    Args:
        mix: what to load.
        beside: folder that relative paths begin at.
        tokenizer: of the model.
        layout: how words lie on its text stream.
        held_out: share of each corpus that is kept for validation: its last conversations by name.

    Raises:
        UserError: a corpus or tokens that are not there, or tokens of different codecs.
    """
    headers: dict[tuple[str, int], Path] = {}
    found = []
    for config in mix.sources:
        if config.tokens is None:
            place = str(config.corpus) if str(config.corpus) == CHATS else beside / config.corpus
            texts = load_texts(place, tokenizer)
            kept = _kept(len(texts), held_out)
            found.append(Source(config, tuple(texts[:kept]), tuple(texts[kept:])))
            continue
        cache = TokenCache(beside / config.tokens)
        headers.setdefault((cache.header.codec, cache.header.codebooks), config.tokens)
        if len(headers) > 1:
            places = " and ".join(str(p) for p in headers.values())
            raise UserError(f"{places} come from different codecs", place="tokens", mend="encode all with one")
        delay = mix.text_delay if config.task == "transcribe" else None
        talks = list(_talks(beside / config.corpus, cache, tokenizer, layout, delay))
        if not talks:
            mend = "encode the corpus (duologue encode CORPUS -o TOKENS), and see that it has words"
            raise UserError("no conversation has both words and tokens", place=config.tokens, mend=mend)
        kept = _kept(len(talks), held_out)
        late = 0 if delay is None else math.floor(delay * layout.frame_rate + BRINK)
        found.append(Source(config, tuple(talks[:kept]), tuple(talks[kept:]), late))
    return found


def cache_header(mix: Mix, beside: Path) -> CacheHeader | None:
    """The header of the first source's tokens that has any."""
    for source in mix.sources:
        if source.tokens is not None:
            return TokenCache(beside / source.tokens).header
    return None


def _kept(count: int, held_out: float) -> int:
    """How many of so many are learned from: one at least."""
    return count - min(count - 1, round(held_out * count))


def _talks(
    corpus: Path, cache: TokenCache, tokenizer: TextTokenizer, layout: TextLayout, delay: float | None
) -> Iterator[Talk]:
    from duologue.corpus.conversation import Conversation
    from duologue.corpus.mine import read_corpus

    n = cache.header.codebooks
    late = None if delay is None else TextLayout(
        pad=layout.pad, epad=layout.epad, frame_rate=layout.frame_rate, delay=delay
    )  # fmt: skip
    for read in track(list(read_corpus(corpus, None)), f"reading {corpus.name}"):
        if not isinstance(read, Conversation) or read.id not in cache:
            continue
        words = [earlier(side.words, cache.header.skip) for side in read.sides]
        codes = cache.raw(read.id).reshape(2, n, -1)
        frames = codes.shape[2]
        if not any(words) or not frames:
            continue
        yield Talk(
            codes=np.array(codes),
            text=_laid(words, tokenizer, frames, layout),
            late=_laid(words, tokenizer, frames, late) if late else np.zeros((2, 0), np.int32),
            speaks=np.stack([speaking(w or (), frames, layout.frame_rate) for w in words]),
            letters=np.stack([letter_bits(w, frames, layout.frame_rate) for w in words]),
        )


def _laid(
    words: Sequence[Iterable[Word] | None], tokenizer: TextTokenizer, frames: int, layout: TextLayout
) -> NDArray[np.int32]:
    unknown = np.full(frames, ABSENT, np.int32)
    laid = [None if w is None else lay_words(w, tokenizer, frames, layout).numpy().astype(np.int32) for w in words]
    return np.stack([unknown if row is None else row for row in laid])


def speaking(words: Iterable[Word], frames: int, frame_rate: float) -> NDArray[np.bool_]:
    """In which frames [T] a word sounds."""
    found = np.zeros(frames, bool)
    for word in words:
        found[int(word.start * frame_rate) : int(np.ceil(word.end * frame_rate))] = True
    return found
