#!/usr/bin/env python3
"""Count the runs of words of people's chats: the trigrams of `duologue.dialogue.ngrams`.

A development tool, not part of the package. It needs chitchat-dataset (MIT).

    python tools/make_words.py -o src/duologue/dialogue/ngrams.npz

Only chats that are not held out are counted. Rare runs are left out: of two words those seen once, of three those seen
less than three times. Printed is the mean log-probability of a word of the dev part's chats.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from duologue.corpus.script import CHATS, Part, load_scripts
from duologue.dialogue.exchange import fluent
from duologue.dialogue.lexicon import plain_words
from duologue.dialogue.ngrams import UNKNOWN, NGrams

WORDS = 8000
LEAST_PAIRS, LEAST_TRIPLES = 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    model = counted(list(turns("training")))
    steps = {name: np.diff(getattr(model, name), prepend=0).astype(np.uint32) for name in ("pairs", "triples")}
    often = {name: getattr(model, name) for name in ("pair_counts", "triple_counts")}
    counts = {name: np.minimum(x, 65535).astype(np.uint16) for name, x in often.items()}
    np.savez_compressed(
        options.out, words=np.frombuffer("\n".join(model.words).encode(), np.uint8), total=model.total,
        single=model.single.astype(np.uint32), **steps, **counts,
    )  # fmt: skip
    held_out = [np.log(model.probabilities(model.ids(words))) for words in turns("dev") if words]
    mean = np.concatenate(held_out).mean()
    size = options.out.stat().st_size / 1e6
    runs = f"{len(model.words)} words, {len(model.pairs)} pairs, {len(model.triples)} triples"
    print(f"{options.out}: {runs}; {mean:.3f} nats a word of the dev part's chats; {size:.2f} MB")
    return 0


def turns(part: Part) -> Iterator[list[str]]:
    """The plain words of each turn, without disfluencies."""
    for script in load_scripts(CHATS, 0, part):
        for turn in script.turns:
            yield fluent(plain_words(turn.text))


def counted(texts: Sequence[Sequence[str]]) -> NGrams:
    """Counts of texts."""
    ones = Counter(word for words in texts for word in words)
    ids = {word: i for i, (word, _) in enumerate(ones.most_common(WORDS))}
    twos: Counter[tuple[int, ...]] = Counter()
    threes: Counter[tuple[int, ...]] = Counter()
    for words in texts:
        row = [ids.get(word, UNKNOWN) for word in words]
        for runs, n in ((twos, 2), (threes, 3)):
            runs.update(run for i in range(len(row) - n + 1) if UNKNOWN not in (run := tuple(row[i : i + n])))
    pairs = sorted((a * len(ids) + b, n) for (a, b), n in twos.items() if n >= LEAST_PAIRS)
    places = {key: place for place, (key, _) in enumerate(pairs)}
    triples = sorted(
        (places[a * len(ids) + b] * len(ids) + c, n) for (a, b, c), n in threes.items() if n >= LEAST_TRIPLES
    )
    tables = [np.array(column, np.int64) for table in (pairs, triples) for column in zip(*table, strict=True)]
    return NGrams(ids, np.array([ones[word] for word in ids], np.int64), *tables, total=sum(ones.values()))


if __name__ == "__main__":
    sys.exit(main())
