"""Excerpts of conversations with prompts before them: what one step of a language model learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duologue.corpus.token_cache import ABSENT as NO_CODE
from duologue.engine.prompts import Tones, prompt_codes
from duologue.model.config import LMConfig
from duologue.model.text import TextTokenizer, system_prompt
from duologue.train.foresight import AHEAD, ahead_bits
from duologue.train.lessons import UNKNOWN
from duologue.train.talks import Source, Talk
from duologue.train.texts import Text, lay_text

VOICE_FRAMES = (25, 75)
"""Shortest and longest voice prompt, in frames."""
DENSE = 0.6
"""Least share of speaking frames in a dense excerpt."""
OPENING = 0.1
"""Share of excerpts that begin where the conversation does."""
CUT = 12
"""Frames at the beginning of an excerpt that are not learned: most excerpts begin in the middle of words."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from."""

    codes: Tensor
    """int64 [B, K, T], un-delayed, as the model reads them; -1 where there is none."""
    learn: Tensor
    """bool [B, T]: frames that count for the loss; prompts do not."""
    speaks: Tensor
    """bool [B, T]: frames in which the agent speaks."""
    sounds: Tensor
    """bool [B, T]: frames of excerpts that have sound to learn from."""
    letters: Tensor
    """int64 [B, T]: which letters of the user's words sound in each frame, as `spelling.letter_bits`."""
    ahead: Tensor
    """int64 [B, T]: who speaks in the next two seconds, as `foresight.ahead_bits`."""


class Excerpts:
    """Draws excerpts from sources.

    Args:
        sources: from `talks.load_mix`.
        config: of the model.
        tokenizer: of the model.
        tone: the codec's silence and tone, for prompts and for sides that are silent.
        frames: length of an excerpt with its prompt.
        held_out: draw from what is held out instead.
        opening: share of excerpts that begin where the conversation does.
        cut: frames at the beginning that are not learned, unless nobody speaks in an excerpt, or its text is late.
    """

    def __init__(
        self, sources: Sequence[Source], config: LMConfig, tokenizer: TextTokenizer, tone: Tones, frames: int,
        *, held_out: bool = False, opening: float = OPENING, cut: int = CUT,
    ) -> None:  # fmt: skip
        self._opening, self._cut = opening, cut
        self._config, self._tokenizer, self._tone, self._frames = config, tokenizer, tone, frames
        chosen = [(s, s.held_out if held_out else s.talks) for s in sources]
        self._sources = [(s.config, s.delay, talks) for s, talks in chosen if talks]
        weights = np.asarray([c.weight for c, _, _ in self._sources], np.float64)
        self._weights = weights / weights.sum() if len(weights) else weights
        self._shares = [_shares(talks) for _, _, talks in self._sources]
        self._steps = [_steps(talks, len(c.styles), frames) for c, _, talks in self._sources]

    def __len__(self) -> int:
        """Sources that there is anything of."""
        return len(self._sources)

    def batch(self, rng: np.random.Generator, count: int) -> Batch:
        """So many excerpts."""
        rows = [self._draw(rng) for _ in range(count)]
        return Batch(*(torch.stack(column) for column in zip(*rows, strict=True)))

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        at = int(rng.choice(len(self._sources), p=self._weights))
        source, delay, talks = self._sources[at]
        talk = talks[int(rng.choice(len(talks), p=self._shares[at]))]
        if isinstance(talk, Text):
            return self._words(talk, rng)
        if rng.random() < source.silent:
            return self._silence()
        side, told = int(rng.random() < source.swap), source.task == "transcribe"
        dense = rng.random() < source.dense
        start = place(talk, 1 - side if told else side, self._frames, dense, rng)
        if rng.random() < self._opening:
            start = 0
        words = ""
        if source.styles and rng.random() < source.styled:
            share = talk.speaks[side, start : start + self._frames].mean()
            words = source.styles[int(np.searchsorted(self._steps[at], share))]
        elif source.prompts and rng.random() < source.prompted:
            words = source.prompts[int(rng.integers(len(source.prompts)))]
        voice = self._voice(talk, side, rng) if rng.random() < source.voiced else None
        ids = self._tokenizer.encode(system_prompt(words)) if words else []
        prompt = prompt_codes(self._config, self._tone, ids, voice)
        # The engine's first call of a model with no lag drops a frame; and at most half of all frames are the prompt's.
        first = max(int(self._config.user_lag == 0), prompt.shape[1] - self._frames // 2)
        prompt = prompt[:, first:]
        length = self._frames - prompt.shape[1]
        taken = min(length, talk.frames - start)
        main = self._view(talk, side, source.task, start, taken)
        if told:
            main[0] = self._heard(main[0], delay)
        codes = torch.full((main.shape[0], self._frames), -1, dtype=torch.long)
        codes[:, : prompt.shape[1]] = prompt
        end = prompt.shape[1] + taken
        codes[:, prompt.shape[1] : end] = main
        learn = torch.zeros(self._frames, dtype=torch.bool)
        # A talk that has just begun is unlike one that was cut, where people are in the middle of words; and where one
        # does begin, nothing that was heard says who does.
        learn[prompt.shape[1] + (0 if told else self._cut) : end] = True
        speaks = torch.zeros(self._frames, dtype=torch.bool)
        if source.task == "talk":
            speaks[prompt.shape[1] : end] = torch.from_numpy(talk.speaks[side, start : start + taken])
        letters = torch.zeros(self._frames, dtype=torch.long)
        letters[prompt.shape[1] : end] = torch.from_numpy(talk.letters[1 - side, start : start + taken])
        ahead = torch.full((self._frames,), UNKNOWN)
        if source.task == "talk" and (talk.letters[:, start] != UNKNOWN).all():  # else nobody knows when a side speaks
            agent, user = (talk.speaks[x, start : start + taken + AHEAD - 1] for x in (side, 1 - side))
            ahead[prompt.shape[1] : end] = torch.from_numpy(ahead_bits(agent, user)[:taken])
        return codes, learn, speaks, learn, letters, ahead

    def _words(self, text: Text, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """A text, with sound that is absent, or silence, all along."""
        c, T = self._config, self._frames
        codes = torch.full((1 + c.n_q, T), -1, dtype=torch.long)
        codes[0] = lay_text(text, T, c.existing_text_padding_id, c.existing_text_end_padding_id, rng)
        if rng.random() < 0.5:
            agent, user = 1 + c.agent_streams, 1 + c.agent_streams + c.user_streams
            codes[1:agent] = self._tone.silence[: c.agent_streams, None]
            codes[agent:user] = self._tone.silence[: c.user_streams, None]
        no = torch.zeros(T, dtype=torch.bool)
        # A text begins at once, which a talk does not: nothing before it tells them apart.
        return codes, torch.arange(T) >= self._cut, no, no, no.long(), torch.full((T,), UNKNOWN)

    def _silence(self) -> tuple[Tensor, ...]:
        """Nobody says anything."""
        c, T = self._config, self._frames
        streams = (self._tone.silence[: c.agent_streams], self._tone.silence[: c.user_streams])
        text = torch.tensor([c.existing_text_padding_id])
        rest = torch.full((c.n_q - c.agent_streams - c.user_streams,), -1)
        no = torch.zeros(T, dtype=torch.bool)
        return torch.cat((text, *streams, rest))[:, None].repeat(1, T), ~no, no, ~no, no.long(), no.long()

    def _view(self, talk: Talk, side: int, task: str, start: int, taken: int) -> Tensor:
        """Codes [K, taken] of an excerpt as the model reads them."""
        c, span = self._config, slice(start, start + taken)
        user = _codes(talk, 1 - side, c.user_streams, span)
        if task == "transcribe":  # the text tells what the other side says, and the agent is silent
            text = torch.from_numpy(talk.late[1 - side, span].astype(np.int64))
            agent = self._tone.silence[: c.agent_streams, None].expand(-1, taken)
        else:
            text = torch.from_numpy(talk.text[side, span].astype(np.int64))
            agent = _codes(talk, side, c.agent_streams, span)
        rest = torch.full((1 + c.n_q - 1 - len(agent) - len(user), taken), -1, dtype=torch.long)
        return torch.cat((text[None], agent, user, rest))

    def _heard(self, text: Tensor, delay: int) -> Tensor:
        """Late text [T] of an excerpt without what was said before it: there, PAD.

        The first `delay` frames tell of sound before the excerpt, and a word that began there may go on behind them.
        `engine.listening` has PAD there too. Words that are not known stay so.
        """
        pad, epad = self._config.existing_text_padding_id, self._config.existing_text_end_padding_id
        ids: list[int] = text.tolist()
        if max(ids, default=-1) < 0:
            return text
        for t, token in enumerate(ids):
            follows = token not in (pad, epad) and not self._tokenizer.begins_word(token)
            if t < delay - 1 or (t == delay - 1 and token != epad) or follows:
                ids[t] = pad
            elif t >= delay:
                if token == pad:
                    continue
                break
        return torch.tensor(ids)

    def _voice(self, talk: Talk, side: int, rng: np.random.Generator) -> Tensor:
        """A stretch [agent_streams, V] of the same speaker, from anywhere in the conversation."""
        low, high = VOICE_FRAMES
        frames = min(int(rng.integers(low, high + 1)), talk.frames)
        start = place(talk, side, frames, True, rng)
        codes = _codes(talk, side, self._config.agent_streams, slice(start, start + frames))
        return torch.where(codes < 0, self._tone.silence[: self._config.agent_streams, None], codes)


def place(talk: Talk, side: int, frames: int, dense: bool, rng: np.random.Generator) -> int:
    """Where an excerpt begins; a dense one, where that side speaks most of the time, if a few draws find a place."""
    last = max(talk.frames - frames, 0)
    best, share = 0, -1.0
    for _ in range(8 if dense else 1):
        start = int(rng.integers(last + 1))
        found = float(talk.speaks[side, start : start + frames].mean())
        if found > share:
            best, share = start, found
        if share >= DENSE:
            break
    return best


def _steps(talks: Sequence[Talk | Text], count: int, frames: int) -> NDArray[np.float64]:
    """Shares of speech [count - 1] that part all stretches of so many frames into `count` parts of one size."""
    shares = [
        talk.speaks[0, start : start + frames].mean()
        for talk in talks if isinstance(talk, Talk)
        for start in range(0, max(talk.frames - frames, 0) + 1, max(frames // 2, 1))
    ]  # fmt: skip
    found: NDArray[np.float64] = np.quantile(shares or [0.0], np.arange(1, max(count, 1)) / max(count, 1))
    return found


def _codes(talk: Talk, side: int, count: int, span: slice) -> Tensor:
    raw: NDArray[np.uint16] = talk.codes[side, :count, span]
    return torch.from_numpy(np.where(raw == NO_CODE, -1, raw.astype(np.int64)))


def _shares(talks: Sequence[Talk | Text]) -> NDArray[np.float64]:
    lengths = np.asarray([t.frames for t in talks], np.float64)
    shares: NDArray[np.float64] = lengths / lengths.sum()
    return shares
