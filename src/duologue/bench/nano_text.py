"""How well the inner monologue is language: perplexity of held-out chat by teacher forcing, beside a 4-gram model's.

Only word pieces are scored, each given those before it, and as what it is: a word piece. When to speak is another
question (the timing rows), so PAD, EPAD and all that spells nothing are taken out of the model's distribution, and the
n-gram model knows the same pieces only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from duologue.base.errors import UserError
from duologue.base.progress import track
from duologue.bench.nano_codec import NO_TOKENIZER, unmeasured
from duologue.bench.nano_ngram import NGram
from duologue.bench.nano_words import ROUNDS, SEED
from duologue.bench.rows import Row
from duologue.corpus.script import Script, load_scripts
from duologue.corpus.script import held_out as held_out
from duologue.dialogue.timeline import earlier
from duologue.engine.prompts import Tones, tones
from duologue.model.text import TextTokenizer
from duologue.model.words import TextLayout, lay_words

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle
    from duologue.model.lm import DuplexLM

ON_SILENCE = "text: perplexity a word piece on held-out chat, words on silence"
ON_STREAMS = "text: perplexity a word piece in held-out conversations, on their streams"
ORDER = 4
CHUNK = 512
"""Positions whose logits are in memory at once."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probability and word pieces of each text [N]."""

    total: list[float]
    """Natural logarithms, summed."""
    pieces: list[int]

    @property
    def perplexity(self) -> float:
        """A word piece, over all texts."""
        return math.exp(-sum(self.total) / sum(self.pieces))


def chat_texts(source: str, *, most: int, seed: int) -> tuple[list[str], list[str]]:
    """What one side says in each conversation: of training and of up to `most` held-out ones.

    Args:
        source: as `load_scripts`; of chitchat one chat in twenty is held out, of a file every conversation is, and
            the n-gram model still learns from chitchat.
        most: held-out texts.
        seed: of the order.

    Errors: UserError as `load_scripts`.
    """
    learned: list[str] = []
    kept: list[str] = []
    for script in load_scripts("chitchat", seed):
        if not held_out(script):
            learned += _sides(script)
        elif source == "chitchat" and len(kept) < most:
            kept += _sides(script)[:1]
    if source != "chitchat":
        kept = [side for script in load_scripts(source, seed) for side in _sides(script)[:1]][:most]
    return learned, kept


def text_rows(
    bundle: Bundle, *, source: str, most: int, seed: int, corpus: Path | None, cache: Path | None
) -> list[Row]:
    """Perplexity on silence and, given a corpus and its tokens, on its streams, each against the n-gram model's."""
    if bundle.text is None:
        return [unmeasured(name, "below the 4-gram's", NO_TOKENIZER) for name in (ON_SILENCE, ON_STREAMS)]
    config, codec = bundle.lm.config, bundle.need_codec()
    try:
        learned, kept = chat_texts(source, most=most, seed=seed)
    except UserError as error:
        if source != "chitchat":
            raise
        return [unmeasured(name, "below the 4-gram's", str(error)) for name in (ON_SILENCE, ON_STREAMS)]
    known = word_pieces(bundle.text, config.text_card)
    ids = [[i for i in bundle.text.encode(text) if known[i]] for text in track(learned, "n-gram model")]
    counted = NGram.train(ids, int(known.sum()), ORDER)
    tone = tones(codec, kyutai=bundle.config.kyutai_codec)
    longest = config.context or 1000
    rows = []
    pieces = [[i for i in bundle.text.encode(text) if known[i]][: longest - 2] for text in kept]
    laid = ((p, on_silence(p, bundle, tone)) for p in pieces if p)
    rows += _rows(ON_SILENCE, bundle.lm, counted, known, laid, f"{len(kept)} texts, one piece a frame")
    if corpus is None or cache is None:
        reason = "no held-out conversations: give --corpus and --tokens"
        return [*rows, unmeasured(ON_STREAMS, "below the 4-gram's", reason)]
    streams = on_streams(bundle, corpus, cache, known, longest)
    return [*rows, *_rows(ON_STREAMS, bundle.lm, counted, known, streams, f"side 0 of {corpus.name} as the agent")]


def word_pieces(tokenizer: TextTokenizer, text_card: int) -> Tensor:
    """Which ids [text_card] are word pieces: they spell something."""
    spelled = [i < tokenizer.vocab_size and bool(tokenizer.spell(i)) for i in range(text_card)]
    return torch.tensor(spelled)


def on_silence(pieces: Sequence[int], bundle: Bundle, tone: Tones) -> Tensor:
    """Codes [K, T]: a PAD, an EPAD, then a piece a frame; both sides' sound is the codec's silence throughout."""
    c = bundle.lm.config
    text = torch.tensor([[c.existing_text_padding_id, c.existing_text_end_padding_id, *pieces]])
    sound = torch.cat((tone.silence[: c.agent_streams], tone.silence[: c.user_streams]))
    sound = torch.cat((sound, sound.new_full((c.n_q - len(sound),), -1)))
    return torch.cat((text, sound[:, None].expand(-1, text.shape[1]).to(text)))


def on_streams(
    bundle: Bundle, corpus: Path, cache: Path, known: Tensor, longest: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Word pieces and codes [K, T] of the conversations of a corpus that have words and cached tokens, in cuts.

    Frames stand beside each other as in training: neither side is shifted. Errors: UserError, no corpus or no tokens
    there, tokens of another codec, or nothing in both.
    """
    from torch import nn

    from duologue.codec.tokens import codes_hash
    from duologue.corpus.conversation import Conversation
    from duologue.corpus.readers import read_corpus
    from duologue.corpus.token_cache import TokenCache

    tokens, c, text, codec = TokenCache(cache), bundle.lm.config, bundle.need_text(), bundle.need_codec()
    assert isinstance(codec, nn.Module)
    if tokens.header.codec != codes_hash(codec):
        raise UserError("comes from another codec", place=cache, mend="encode the corpus with this model's")
    n, found = tokens.header.codebooks, False
    for read in read_corpus(corpus):
        if not isinstance(read, Conversation) or read.id not in tokens or not read.sides[0].words:
            continue
        codes = torch.from_numpy(tokens.codes(read.id))
        laid = lay_words(earlier(read.sides[0].words, tokens.header.skip) or (), text, codes.shape[1], TextLayout.of(c))
        sound = torch.cat((codes[: c.agent_streams], codes[n : n + c.user_streams]))
        rest = sound.new_full((c.n_q - len(sound), sound.shape[1]), -1)
        whole = torch.cat((laid[None], sound, rest))
        for start in range(0, whole.shape[1], longest):
            cut = whole[:, start : start + longest]
            pieces = [i for i in cut[0].tolist() if i >= 0 and known[i]]
            if pieces:
                found = True
                yield pieces, cut
    if not found:
        raise UserError("no conversation has both words and tokens", place=corpus, mend="encode it first")


@torch.no_grad()
def score_pieces(lm: DuplexLM, codes: Tensor, known: Tensor) -> float:
    """Sum of the natural logarithms of the probabilities of the word pieces in codes [K, T], among word pieces."""
    device = lm.text_linear.weight.device
    late = lm.config.delays[0]  # what is written after the last frame
    codes, among = F.pad(codes.to(device), (0, late), value=-1), known.to(device)
    condition = lm.condition_provider([{}]) if lm.config.conditions else None
    hidden = lm.hidden(codes[None], depth_steps=0, condition=condition)
    text = codes[0]
    scored = hidden.text_mask[0] & (text >= 0) & among[text.clamp(min=0)]
    total = 0.0
    for x, wanted in zip(*(torch.split(part, CHUNK) for part in (hidden.text[0][scored], text[scored])), strict=True):
        logits = lm.text_linear(x).float().masked_fill(~among, -torch.inf)
        total += float(logits.log_softmax(-1).gather(1, wanted[:, None]).sum())
    return total


def _rows(
    what: str, lm: DuplexLM, counted: NGram, known: Tensor, texts: Iterable[tuple[list[int], Tensor]], note: str
) -> list[Row]:
    """The model's perplexity and the n-gram model's on the same pieces."""
    pairs = [
        (score_pieces(lm, codes, known), counted.log_probability(pieces), len(pieces))
        for pieces, codes in track(texts, "perplexity")
    ]
    if not pairs:
        return [unmeasured(what, "below the 4-gram's", "no text to measure on")]
    model, other = (Scored([p[i] for p in pairs], [p[2] for p in pairs]) for i in (0, 1))
    n = sum(model.pieces)
    target = f"< {other.perplexity:.1f}, the 4-gram's"
    return [
        Row(
            what=what, value=model.perplexity, n=n, interval=perplexity_interval(model), target=target,
            passed=model.perplexity < other.perplexity,
            note=f"{note}; among word pieces only; n: pieces; bootstrap over texts",
        ),
        Row(
            what=f"{what}: 4-gram", value=other.perplexity, n=n, interval=perplexity_interval(other),
            target="reported", passed=None,
            note="interpolated modified Kneser-Ney on the chats that are not held out, in the same pieces",
        ),
    ]  # fmt: skip


def perplexity_interval(scored: Scored) -> tuple[float, float] | None:
    """The 95 % interval by bootstrap over texts; None for fewer than two."""
    count = len(scored.pieces)
    if count < 2:
        return None
    total, pieces = np.array(scored.total), np.array(scored.pieces)
    draws = np.random.default_rng(SEED).integers(count, size=(ROUNDS, count))
    low, high = np.percentile(np.exp(-total[draws].sum(1) / pieces[draws].sum(1)), [2.5, 97.5])
    return float(low), float(high)


def _sides(script: Script) -> list[str]:
    """What each side says in a conversation, side 0 first."""
    sides = [" ".join(line.text for line in script.turns if line.side == side) for side in (0, 1)]
    return [text for text in sides if text]
