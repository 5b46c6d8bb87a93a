#!/usr/bin/env python3
"""Train the proxy reward (`duologue.axes.proxy`): a person's answer to a turn against all that is none.

A development tool, not part of the package. It needs chitchat-dataset (MIT), and answers of a model that are broken:

    python tools/collect_answers.py train --model base=nano --repeats 6 -o answers.json
    python tools/train_proxy.py --answers answers.json -o src/duologue/axes/proxy.npz

Right answers are beginnings and pieces of the next turn in the training chats, and people's in the train segments.
Wrong ones are listed in `WRONG`, and the collected ones. First which words a turn makes likely is learned, on other
turns than those of `tools/train_turns.py` (another seed joins messages otherwise), then the rest with that held. What
is printed is measured on the dev part's chats, which nothing here is trained on.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from train_turns import SHORTEST, Pair, pairs_of, trained

from duologue.axes.proxy import FEATURES, LONGEST, ProxyModel, repeated
from duologue.base.files import read_json
from duologue.dialogue.exchange import fluent
from duologue.dialogue.ngrams import shipped_ngrams

EMBEDDING, CHANNELS, HIDDEN = 32, 48, 32
LENGTHS = (6, 28)
"""Words that a right answer is cut to."""
HUMAN = 1.4
"""The grade that the median of people's answers in dev chats gets."""
WRONG = {
    "other": 0.32, "generic": 0.18, "canned": 0.1, "likely": 0.1, "echo": 0.08, "shuffled": 0.1, "chain": 0.1,
    "salad": 0.05, "loop": 0.05, "spliced": 0.07, "garbled": 0.02,
}  # fmt: skip
"""Wrong answers by how they are made, and shares of them: of another turn; the most usual of several such; frequent
phrases one after the other; what trigrams find likeliest; the user's own words; the right words in another order; drawn
from trigrams; drawn at random; said again and again; halves of two answers; with words that do not exist."""


class Example(NamedTuple):
    turn: list[str]
    answer: list[str]
    label: float
    weight: float
    kind: str


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=Path, nargs="+", required=True, help="of tools/collect_answers.py")
    parser.add_argument("--pairs", type=int, default=22000, help="right answers learned from")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    draw = random.Random(options.seed)
    ngrams = shipped_ngrams()
    pairs, held_out = pairs_of("training", options.seed), pairs_of("dev", 0)
    print(f"{len(pairs)} pairs, {len(held_out)} held out", flush=True)
    turns = trained(pairs, ngrams, options.seed, 4)
    none = np.zeros(0, np.float32)
    model = ProxyModel(ngrams, turns, none, none, none, none, none, none, shift=0.0)
    draw.shuffle(pairs)
    makers = Makers(pairs, draw)
    learned = [*examples(pairs[: options.pairs], makers), *collected(options.answers, draw)]
    checked = examples(held_out, Makers(held_out, random.Random(1)))
    model = fit(model, learned, options.epochs, options.seed)
    model = centred(model, checked)
    report(model, checked)
    save(model, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")
    return 0


class Makers:
    """Makes right and wrong answers."""

    def __init__(self, pairs: Sequence[Pair], draw: random.Random) -> None:
        self.pairs, self.draw = pairs, draw
        self.kinds: dict[str, Callable[[Pair, list[str]], list[str]]] = {
            "other": self.other, "generic": self.generic, "canned": self.canned, "likely": self.likely,
            "echo": self.echo, "shuffled": self.shuffled, "chain": self.chain, "salad": self.salad, "loop": self.loop,
            "spliced": self.spliced, "garbled": self.garbled,
        }  # fmt: skip
        words = Counter(w for p in pairs for w in p.answer)
        self.vocabulary, self.counts = list(words), list(words.values())
        self.often = words
        openings = Counter(tuple(p.answer[:n]) for p in pairs for n in (1, 2, 3, 4, 5, 6))
        runs = Counter(
            tuple(p.answer[i : i + n])
            for p in pairs[:20000] for n in (3, 4, 5, 6, 7) for i in range(len(p.answer) - n + 1)
        )  # fmt: skip
        self.phrases = [r for r, _ in openings.most_common(400)]
        for n in (3, 4, 5, 6, 7):
            self.phrases += [r for r, _ in runs.most_common(100000) if len(r) == n][:150]
        self.follow: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for p in pairs:
            for i, word in enumerate(p.answer):
                self.follow[tuple(p.answer[max(i - 2, 0) : i])].append(word)
                if i:
                    self.follow[p.answer[i - 1],].append(word)

    def length(self) -> int:
        return self.draw.randint(*LENGTHS)

    def right(self, pair: Pair) -> list[str]:
        """A beginning of the answer, sometimes a later piece, sometimes after a word of feedback."""
        first = self.draw.randrange(max(len(pair.answer) - SHORTEST, 1)) if self.draw.random() < 0.25 else 0
        words = pair.answer[first:][: self.length()]
        return [self.draw.choice(("yeah", "uh-huh", "okay", "right", "oh"))] * (self.draw.random() < 0.1) + words

    def other(self, pair: Pair, right: list[str]) -> list[str]:
        return self.right(self.draw.choice(self.pairs))

    def generic(self, pair: Pair, right: list[str]) -> list[str]:
        """Of several answers to other turns the one with the most frequent words."""
        return min((self.other(pair, right) for _ in range(4)), key=self.rarity)

    def rarity(self, words: list[str]) -> float:
        different = set(words)
        return -sum(math.log(self.often[w] + 1) for w in different) / len(different)

    def likely(self, pair: Pair, right: list[str]) -> list[str]:
        """Of the few likeliest words after those before, one."""
        words = list(self.draw.choice(self.phrases))
        while len(words) < len(right):
            after = self.follow.get(tuple(words[-2:])) or self.follow.get(tuple(words[-1:])) or self.follow[()]
            (word,) = self.draw.choices(*zip(*Counter(after).most_common(4), strict=True))
            words.append(word)
        return words

    def canned(self, pair: Pair, right: list[str]) -> list[str]:
        some = self.draw.sample(self.phrases, self.draw.randint(1, 4))
        if self.draw.random() < 0.3:
            return [w for phrase in some for w in phrase]
        words: list[str] = []
        while len(words) < len(right):
            words += self.draw.choice(some) if self.draw.random() < 0.5 else self.draw.choice(self.phrases)
        return words[: max(len(right), 1)]

    def echo(self, pair: Pair, right: list[str]) -> list[str]:
        first = self.draw.randrange(max(len(pair.turn) - 5, 1))
        words = pair.turn[first : first + self.length()]
        if self.draw.random() < 0.3:
            self.draw.shuffle(words)
        return list(self.draw.choice(self.phrases[:100])) * (self.draw.random() < 0.4) + words

    def shuffled(self, pair: Pair, right: list[str]) -> list[str]:
        words = list(right)
        kind = self.draw.random()
        if kind < 0.3:
            self.draw.shuffle(words)
        elif kind < 0.6:  # half of it
            half = words[len(words) // 2 :]
            self.draw.shuffle(half)
            words[len(words) // 2 :] = half
        else:  # neighbours, or pieces of two or three words
            n = self.draw.choice((1, 2, 2, 3, 3))
            pieces = [words[i : i + n] for i in range(0, len(words), n)]
            self.draw.shuffle(pieces)
            words = [w for piece in pieces for w in piece]
        return words

    def chain(self, pair: Pair, right: list[str]) -> list[str]:
        words: list[str] = []
        while len(words) < len(right):
            history = tuple(words[-2:]) if self.draw.random() < 0.7 else tuple(words[-1:])
            words.append(self.draw.choice(self.follow.get(history) or self.follow[()]))
        return words

    def salad(self, pair: Pair, right: list[str]) -> list[str]:
        if self.draw.random() < 0.5:
            return self.draw.choices(self.vocabulary, self.counts, k=len(right))
        return self.draw.choices(self.vocabulary, k=len(right))

    def loop(self, pair: Pair, right: list[str]) -> list[str]:
        piece = right[: self.draw.randint(1, 6)]
        return (piece * len(right))[: len(right)]

    def spliced(self, pair: Pair, right: list[str]) -> list[str]:
        cut = self.draw.randint(3, max(len(right) - 3, 3))
        return right[:cut] + self.right(self.draw.choice(self.pairs))[: max(len(right) - cut, 3)]

    def garbled(self, pair: Pair, right: list[str]) -> list[str]:
        return [f"{w}ze" if self.draw.random() < 0.2 else w for w in right]


def examples(pairs: Sequence[Pair], makers: Makers) -> list[Example]:
    """A right answer to each turn, and as many wrong ones."""
    found = []
    for pair in pairs:
        right = makers.right(pair)
        found.append(Example(pair.turn, right[:LONGEST], 1.0, 1.0, "right"))
        (kind,) = makers.draw.choices(list(WRONG), list(WRONG.values()))
        wrong = fluent(makers.kinds[kind](pair, right))
        if wrong:
            found.append(Example(pair.turn, wrong[:LONGEST], 0.0, 1.0, kind))
    return found


def collected(paths: Sequence[Path], draw: random.Random, copies: int = 6) -> list[Example]:
    """What people and models said in segments; beginnings and pieces of the models' stand for more of them."""
    found = []
    for path in paths:
        told = read_json(path)
        assert isinstance(told, dict)
        for row in told["exchanges"]:
            turn, human = row["user"].split(), row["human"].split()
            if not turn:
                continue
            said = [(text.split(), name) for name in told["models"] for text in row[name]]
            if len(human) >= SHORTEST:
                found += [Example(turn, human[: draw.randint(*LENGTHS)], 1.0, 1.0, "person")] * len(said)
            for words, name in said:
                for _ in range(copies if words else 0):
                    first = draw.randrange(max(len(words) - SHORTEST, 1)) if draw.random() < 0.4 else 0
                    found.append(Example(turn, words[first:][: draw.randint(*LENGTHS)], 0.0, 1.0, name))
    return found


class Reader(nn.Module):
    """The part that reads an answer in order, as `ProxyModel.logit` does."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.randn(vocabulary + 2, EMBEDDING) * 0.3)
        sizes = ((3 * EMBEDDING, CHANNELS), (3 * CHANNELS, CHANNELS), (2 * CHANNELS + len(FEATURES), HIDDEN))
        drawn = [torch.cat((torch.randn(a, b) * (2 / a) ** 0.5, torch.zeros(1, b))) for a, b in sizes]
        self.first, self.second, self.inner = (nn.Parameter(x) for x in drawn)
        self.outer = nn.Parameter(torch.randn(HIDDEN + 1) * 0.1)

    def forward(self, ids: Tensor, lengths: Tensor, counted: Tensor) -> Tensor:
        """Logits [B] of ids [B, T] with an edge at both ends, and features [B, F]."""
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).float()[..., None]
        x = F.dropout(self.words[ids], 0.1, self.training) * mask
        for kernel in (self.first, self.second):
            padded = F.pad(x, (0, 0, 1, 1))
            beside = torch.cat((padded[:, :-2], padded[:, 1:-1], padded[:, 2:]), -1)
            x = F.relu(beside @ kernel[:-1] + kernel[-1]) * mask
        inside = mask.clone()
        inside[:, 0] = 0
        inside[torch.arange(len(ids)), lengths - 1] = 0
        x = x * inside
        pooled = torch.cat((x.sum(1) / inside.sum(1), x.amax(1), counted), 1)
        hidden = F.dropout(F.relu(pooled @ self.inner[:-1] + self.inner[-1]), 0.2, self.training)
        return hidden @ self.outer[:-1] + self.outer[-1]


def fit(model: ProxyModel, learned: Sequence[Example], epochs: int, seed: int, batch: int = 128) -> ProxyModel:
    """The model with what tells right from wrong."""
    vocabulary = len(model.ngrams.words)
    began = time.perf_counter()
    raw = np.stack([model.features(x.turn, x.answer) for x in learned])
    scale = np.stack((raw.mean(0), raw.std(0) + 1e-3))
    counted = torch.from_numpy(np.clip((raw - scale[0]) / scale[1], -4, 4)).float()
    print(f"{len(learned)} examples, features after {time.perf_counter() - began:.0f} s", flush=True)
    rows = [np.where(i < 0, vocabulary, i) for i in (model.ngrams.ids(x.answer) for x in learned)]
    ids = torch.full((len(rows), LONGEST + 2), vocabulary + 1)
    for place, row in enumerate(rows):
        ids[place, 1 : len(row) + 1] = torch.from_numpy(row)
    lengths = torch.tensor([len(row) + 2 for row in rows])
    label, weight = (torch.tensor([getattr(x, name) for x in learned]) for name in ("label", "weight"))
    reader = Reader(vocabulary)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=0.01)
    steps = epochs * (len(rows) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        total = 0.0
        shuffled = torch.from_numpy(order.permutation(len(rows)))
        for first in range(0, len(rows) - batch + 1, batch):
            some = shuffled[first : first + batch]
            longest = int(lengths[some].max())
            logits = reader(ids[some, :longest], lengths[some], counted[some])
            loss = F.binary_cross_entropy_with_logits(logits, label[some], weight[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"answers {epoch}: {total / (len(rows) // batch):.4f}; {time.perf_counter() - began:.0f} s", flush=True)
    weights = {name: p.detach().numpy().astype(np.float32) for name, p in reader.named_parameters()}
    return replace(model, **weights, scale=scale.astype(np.float32))


def centred(model: ProxyModel, checked: Sequence[Example]) -> ProxyModel:
    """The model by which the median of right answers gets the grade `HUMAN`."""
    logits = [model.logit(x.turn, x.answer) for x in checked if x.label]
    p = HUMAN / 2
    return replace(model, shift=model.shift + float(np.median(logits) - math.log(p / (1 - p))))


def report(model: ProxyModel, checked: Sequence[Example]) -> None:
    """Print how right answers stand above each kind of wrong ones on dev chats."""
    logits = np.array([model.logit(x.turn, x.answer) for x in checked])
    right = logits[[x.label == 1 for x in checked]]
    for kind in WRONG:
        wrong = logits[[x.kind == kind for x in checked]]
        print(f"  {kind:9} {len(wrong):5} AUC {area(right, wrong):.3f} "
              f"mean grade {2 * np.mean(1 / (1 + np.exp(-wrong))):.2f}")  # fmt: skip
    print(f"  right     {len(right):5} mean grade {2 * np.mean(1 / (1 + np.exp(-right))):.2f}")
    chosen = [x for x in checked if x.label == 1 and not repeated(x.answer)][:1000]
    moved = [model.logit(x.turn, x.answer) - model.logit(y.turn, x.answer)
             for x, y in zip(chosen, chosen[7:] + chosen[:7], strict=True)]  # fmt: skip
    print(f"  the same answer to its own turn, not another: {np.mean(np.array(moved) > 0):.3f}, {np.mean(moved):+.3f}")


def area(right: np.ndarray, wrong: np.ndarray) -> float:
    """The probability that a right answer stands above a wrong one."""
    ranks = np.searchsorted(np.sort(wrong), right, "left") + np.searchsorted(np.sort(wrong), right, "right")
    return float(ranks.mean() / (2 * max(len(wrong), 1)))


def save(model: ProxyModel, path: Path) -> None:
    """Tables of words in 8 bits, the rest in 16."""
    scale = np.abs(model.words).max() / 127
    kept = {"shift": np.float32(model.shift), "words": np.round(model.words / scale).astype(np.int8)}
    kept |= {"words_scale": np.float32(scale), **model.turns.kept()}
    kept |= {name: getattr(model, name).astype(np.float16) for name in ("first", "second", "inner", "outer")}
    np.savez_compressed(path, scale=model.scale, **kept)


if __name__ == "__main__":
    sys.exit(main())
