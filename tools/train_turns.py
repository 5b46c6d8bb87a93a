#!/usr/bin/env python3
"""Train the language model that content is measured by (`bench.content_model`): which words a turn makes likely.

A development tool, not part of the package. It needs chitchat-dataset (MIT) and the counts of `tools/make_words.py`.

    python tools/train_turns.py -o src/duologue/bench/answers.npz

It learns from turns and the next ones of chats that are not held out. Its weight beside the trigrams is chosen on one
chat in ten of these, which it did not learn from. What is printed is measured on the dev part's chats: nats a word of
mutual information with the turn before, and with another turn.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from duologue.bench.content_model import ShippedModel
from duologue.corpus.script import CHATS, Part, load_scripts
from duologue.dialogue.exchange import fluent
from duologue.dialogue.lexicon import plain_words
from duologue.dialogue.ngrams import NGrams, shipped_ngrams
from duologue.dialogue.turn_model import TurnModel

SIZE = 32
TURN = 60
"""Words of a turn that are read, the last ones, as of a segment."""
SHORTEST, ANSWER = 5, 20
"""Words of an answer that counts, and that are read of it where it is measured."""
WEIGHTS = (0.2, 0.4, 0.6, 0.8, 1.0)


class Pair(NamedTuple):
    """A turn and the next one, as plain words without disfluencies."""

    turn: list[str]
    answer: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    ngrams, pairs = shipped_ngrams(), pairs_of("training", options.seed)
    chosen_by = len(pairs) // 10
    turns = trained(pairs[chosen_by:], ngrams, options.seed, options.epochs)
    by_weight = {w: information(ShippedModel(ngrams, turns, w), pairs[:chosen_by][:1500])[0] for w in WEIGHTS}
    print("weights:", {w: round(x, 4) for w, x in by_weight.items()})
    model = ShippedModel(ngrams, turns, max(by_weight, key=lambda w: by_weight[w]))
    np.savez_compressed(options.out, weight=model.weight, **turns.kept())
    held_out = pairs_of("dev", options.seed)
    true, other = information(model, held_out), information(model, mismatched(held_out))
    print(f"{options.out}: weight {model.weight}, {options.out.stat().st_size / 1e6:.2f} MB; {len(held_out)} dev "
          f"answers: {true[0]:+.4f} nats a word (95 % +-{true[1]:.4f}), to other turns {other[0]:+.4f} "
          f"(+-{other[1]:.4f})")  # fmt: skip
    return 0


def pairs_of(part: Part, seed: int) -> list[Pair]:
    """Turns and the next ones, of both sides, chat by chat."""
    found = []
    for script in load_scripts(CHATS, seed, part):
        said = [fluent(plain_words(turn.text)) for turn in script.turns]
        found += [Pair(a[-TURN:], b) for a, b in pairwise(said) if a and len(b) >= SHORTEST]
    return found


def mismatched(pairs: Sequence[Pair]) -> list[Pair]:
    """The same answers to turns of other chats."""
    turns = [p.turn for p in pairs]
    half = len(turns) // 2
    return [Pair(turn, p.answer) for turn, p in zip(turns[half:] + turns[:half], pairs, strict=True)]


def information(model: ShippedModel, pairs: Sequence[Pair]) -> tuple[float, float]:
    """Nats a word, over all words, and half of its 95 % interval over answers."""
    gained = np.array([model.log_ratio(p.turn, p.answer[:ANSWER]) for p in pairs])
    words = np.array([len(p.answer[:ANSWER]) for p in pairs])
    mean = gained.sum() / words.sum()
    return float(mean), float(1.96 * np.std(gained - mean * words) / math.sqrt(len(pairs)) / words.mean())


def trained(pairs: Sequence[Pair], ngrams: NGrams, seed: int, epochs: int, *, batch: int = 256) -> TurnModel:
    """A model of the words of answers."""
    torch.manual_seed(seed)
    draw, v = random.Random(seed), len(ngrams.words)
    often = Counter(w for p in pairs for w in set(p.turn))
    rarity = torch.tensor([math.log(len(pairs) / (often[w] + 5)) for w in ngrams.words]).clamp(0.1, 5.0) * 0.4
    rows = [known(p, ngrams) for p in pairs]
    rows = [r for r in rows if len(r[0]) and len(r[1])]
    turns, answers = (torch.nn.Parameter(torch.randn(v, SIZE) * 0.05) for _ in range(2))
    spoken = torch.from_numpy(np.bincount(np.concatenate([b for _, b in rows]), minlength=v) + 0.5)
    bias = torch.nn.Parameter(torch.log(spoken / spoken.sum()).float())
    optimizer = torch.optim.Adam([turns, answers, bias], lr=2.5e-3)
    steps = epochs * math.ceil(len(rows) / batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    began = time.perf_counter()
    for epoch in range(epochs):
        draw.shuffle(rows)
        total = 0.0
        for first in range(0, len(rows), batch):
            some = rows[first : first + batch]
            asked = bags([half(a, draw) for a, _ in some], turns * rarity[:, None])
            scores = torch.log_softmax(asked @ answers.T + bias, 1)
            place = torch.from_numpy(np.repeat(np.arange(len(some)), [len(b) for _, b in some]))
            word = torch.from_numpy(np.concatenate([b for _, b in some]))
            loss = -scores[place, word].mean()
            optimizer.zero_grad()
            (loss + 3e-7 * (turns.pow(2).sum() + answers.pow(2).sum())).backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"turns {epoch}: {total * epochs / steps:.4f} nats; {time.perf_counter() - began:.0f} s", flush=True)
    with torch.no_grad():
        table = turns * rarity[:, None]
        mean = torch.zeros(v, dtype=torch.float64)
        chosen = draw.sample(rows, min(len(rows), 4096))
        for first in range(0, len(chosen), batch):
            asked = bags([a for a, _ in chosen[first : first + batch]], table)
            mean += torch.softmax(asked @ answers.T + bias, 1).double().sum(0) / len(chosen)
    return TurnModel(*(x.detach().float().numpy() for x in (table, answers, bias, mean.log())))


def known(pair: Pair, ngrams: NGrams) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the different words of the turn, and of the words of the answer."""
    turn, answer = np.unique(ngrams.ids(pair.turn)), ngrams.ids(pair.answer)
    return turn[turn >= 0], answer[answer >= 0]


def half(ids: np.ndarray, draw: random.Random) -> np.ndarray:
    """Half of the ids, so that none is relied on alone; at least one."""
    return np.array([i for i in ids if draw.random() < 0.5] or ids[:1])


def bags(ids: Sequence[np.ndarray], table: Tensor) -> Tensor:
    """[B, D]: sums of vectors over the square roots of how many they are."""
    counts = np.array([len(x) for x in ids])
    first = torch.from_numpy(np.cumsum(counts) - counts)
    sums = F.embedding_bag(torch.from_numpy(np.concatenate(ids)), table, first, mode="sum")
    return sums / torch.from_numpy(counts).sqrt()[:, None]


if __name__ == "__main__":
    sys.exit(main())
