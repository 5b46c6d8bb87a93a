#!/usr/bin/env python3
"""Count the runs of words that `duologue.axes.proxy` grades by, from people's chats.

A development tool, not part of the package. It needs chitchat-dataset (MIT).

    python tools/make_words.py --out src/duologue/axes/words.npz

Only chats that are not held out are counted. Rare runs are left out: of two words those seen once, of three those seen
less than three times. The held-out chats say what people's turns score.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from duologue.axes.proxy import WordModel, key
from duologue.corpus.script import CHATS, Part, load_scripts
from duologue.dialogue.lexicon import plain_words

WORDS = 8000
LEAST_PAIRS, LEAST_TRIPLES = 2, 3
TURN = (5, 30)
"""Words of a turn that the range is taken from."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    model = counted(list(turns("training")))
    human = np.median([model.score(words) for words in turns("held-out") if TURN[0] <= len(words) <= TURN[1]])
    rng = np.random.default_rng(0)
    names = list(model.words)
    share = model.single / model.single.sum()
    salad = np.mean([model.score([names[i] for i in rng.choice(len(names), 12, p=share)]) for _ in range(2000)])
    np.savez_compressed(
        options.out, words=np.frombuffer("\n".join(names).encode(), np.uint8), single=model.single.astype(np.uint32),
        pairs=model.pairs, pair_counts=model.pair_counts, triples=model.triples, triple_counts=model.triple_counts,
        total=model.total, salad=salad, human=human,
    )  # fmt: skip
    told = f"{len(names)} words, {len(model.pairs)} pairs, {len(model.triples)} triples"
    print(
        f"{options.out}: {told}; people {human:.2f}, at random {salad:.2f}; {options.out.stat().st_size / 1e6:.2f} MB"
    )
    return 0


def turns(part: Part) -> Iterator[list[str]]:
    """The plain words of each turn."""
    for script in load_scripts(CHATS, 0, part):
        for turn in script.turns:
            yield plain_words(turn.text)


def counted(texts: Sequence[Sequence[str]]) -> WordModel:
    """Counts of texts."""
    ones = Counter(word for words in texts for word in words)
    ids = {word: i for i, (word, _) in enumerate(ones.most_common(WORDS))}
    twos: Counter[tuple[int, ...]] = Counter()
    threes: Counter[tuple[int, ...]] = Counter()
    for words in texts:
        row = [ids.get(word, -1) for word in words]
        for runs, n in ((twos, 2), (threes, 3)):
            runs.update(run for i in range(len(row) - n + 1) if -1 not in (run := tuple(row[i : i + n])))
    pairs, triples = packed(twos, LEAST_PAIRS), packed(threes, LEAST_TRIPLES)
    single = np.array([ones[word] for word in ids], np.int64)
    return WordModel(ids, single, *pairs, *triples, total=sum(ones.values()), salad=0.0, human=1.0)


def packed(runs: Counter[tuple[int, ...]], least: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted keys, and their counts."""
    kept = {}
    for run, n in runs.items():
        if n >= least:
            kept[key(*run)] = kept.get(key(*run), 0) + n
    keys = np.array(sorted(kept), np.uint32)
    return keys, np.array([min(kept[int(k)], 65535) for k in keys], np.uint16)


if __name__ == "__main__":
    sys.exit(main())
