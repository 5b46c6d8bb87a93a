#!/usr/bin/env python3
"""Make the segments that the package ships: mined from simulated corpora, as tokens of `nano`'s codec, without sound.

A development tool, not part of the package. To be run again whenever the codec's encoder changes.

    duologue simulate -o talk --hours 6 --seed 101 --agent-voice piper/en_US-joe-medium ...       # see docs/nano.md
    duologue simulate -o held --scripts held-out --knobs.interruptions 6 --hours 6 --seed 901 --agent-voice ...
    python tools/make_segments.py train talk --per-axis 96 -o src/duologue/corpus/segments
    python tools/make_segments.py heldout held --per-axis 64 -o src/duologue/corpus/segments

An hour as tokens is 1.4 MB where Opus is 10: 500 segments with 4 s of context each fit into 3 MB.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from duologue.axes import AXES
from duologue.base.files import read_json, write_json
from duologue.codec.interface import Codec
from duologue.corpus.candidates import MiningConfig
from duologue.corpus.encode import segment_items
from duologue.corpus.encoding import encode_items, header_of
from duologue.corpus.mine import read_corpus
from duologue.corpus.mining import mine
from duologue.corpus.store import Row, SegmentStore, write_index
from duologue.corpus.token_cache import JOURNAL, TokenCacheWriter
from duologue.engine.bundle import codec_of


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "heldout"))
    parser.add_argument("corpora", type=Path, nargs="+", help="what `duologue simulate` wrote")
    parser.add_argument("--per-axis", type=int, required=True)
    parser.add_argument("--context", type=float, default=4.0, help="seconds kept before a segment")
    parser.add_argument("--longest", type=float, default=30.0, help="seconds of a segment with its context")
    parser.add_argument("--model", default="nano")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    folder = options.out / options.part
    with tempfile.TemporaryDirectory() as work:
        rows = pick(options.corpora, Path(work), options.context, options.longest, options.per_axis)
        encode(rows, Path(work), folder, codec_of(options.model, device="cpu"))
    write_index(folder / "index.parquet", [bare(row) for row in rows])
    note(options.out, options.part, rows)
    return 0


def pick(corpora: Sequence[Path], work: Path, context: float, longest: float, per_axis: int) -> list[Row]:
    """Rows by axis, from all corpora in turn by their keys: an even draw, of those that are short enough."""
    found: list[Row] = []
    for number, corpus in enumerate(corpora):
        mined = work / f"mined-{number}"
        mine(read_corpus(corpus, None), mined, MiningConfig(context_s=context), clips=False)
        short = [row for row in SegmentStore(mined).rows() if row.end <= longest]
        # Every corpus counts its conversations from 0.
        found += [replace(r, id=f"{number}-{r.id}", conversation=f"{number}-{r.conversation}") for r in short]
    by_axis = [sorted((r for r in found if r.axis == axis), key=lambda r: r.key)[:per_axis] for axis in AXES]
    return list(chain(*by_axis))


def encode(rows: Sequence[Row], work: Path, folder: Path, codec: Codec) -> None:
    """Tokens of the rows, beside where their index will be."""
    write_index(work / "chosen" / "index.parquet", rows)
    tokens = folder / "tokens"
    if tokens.exists():
        for old in tokens.iterdir():
            old.unlink()
    failed = encode_items(
        codec, torch.device("cpu"), segment_items(work / "chosen"), TokenCacheWriter(tokens, header_of(codec))
    )
    if failed:
        sys.exit("\n".join(failed))
    (tokens / JOURNAL).unlink()  # only a writer needs it


def bare(row: Row) -> Row:
    """Without what refers to files of this machine."""
    return replace(row, sounds=(None, None), clip=None)


def note(out: Path, part: str, rows: Sequence[Row]) -> None:
    """Write down in segments.json what the part holds."""
    path = out / "segments.json"
    told = read_json(path) if path.exists() else {}
    assert isinstance(told, dict)
    digest = hashlib.sha256("\n".join(f"{r.id} {r.conversation} {r.offset}" for r in rows).encode()).hexdigest()
    told[part] = {
        "segments": {axis: sum(r.axis == axis for r in rows) for axis in AXES},
        "hours": round(sum(r.end for r in rows) / 3600, 3),
        "conversations": len({r.conversation for r in rows}),
        "hash": digest[:16],
    }
    write_json(path, told)
    print(part, told[part])


if __name__ == "__main__":
    sys.exit(main())
