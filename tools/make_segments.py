#!/usr/bin/env python3
"""Make the segments that the package ships: mined from simulated corpora, as tokens of `nano`'s codec, without sound.

A development tool, not part of the package. To be run again whenever the codec's encoder changes.

    python tools/make_segments.py train TALK --per-axis 64 -o src/duologue/corpus/segments
    python tools/make_segments.py dev ...
    python tools/make_segments.py test ...

The corpus of each part is made by `duologue simulate`, with the same default rates of everything (docs/demo.md has the
commands). The user of a segment is always the corpus' user, so that the agent's channel before it has the agent's
voice. An hour as tokens is 1.4 MB where Opus is 10.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

import torch

from duologue.axes import AXES
from duologue.axes.finding import USER
from duologue.base.files import read_json, write_json
from duologue.codec.interface import Codec
from duologue.corpus.candidates import MiningConfig
from duologue.corpus.encode import segment_items
from duologue.corpus.encoding import encode_items, header_of
from duologue.corpus.mine import read_corpus
from duologue.corpus.mining import mine
from duologue.corpus.sample import SegmentPart
from duologue.corpus.store import Row, SegmentStore, write_index
from duologue.corpus.token_cache import JOURNAL, TokenCacheWriter
from duologue.engine.bundle import codec_of

THRESHOLDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "turn_taking": {"least_s": 3.0},
        "interruption": {"least_s": 2.0, "least_gap_s": -0.5, "backchannels": "skip", "span": "from_second"},
    }
)
"""By axis, what differs from the miner's defaults. Utterances may be shorter than the paper's 5.0 and 3.0 s, or an hour
of talk would hold seven turns and two interruptions; these too are answered where an answer can begin."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=get_args(SegmentPart))
    parser.add_argument("corpora", type=Path, nargs="+", help="what `duologue simulate` wrote")
    parser.add_argument("--per-axis", type=int, required=True)
    parser.add_argument("--per-talk", type=int, default=8, help="segments of an axis from one conversation, at most")
    parser.add_argument("--context", type=float, default=4.0, help="seconds kept before a segment")
    parser.add_argument("--longest", type=float, default=30.0, help="seconds of a segment with its context")
    parser.add_argument("--model", default="nano")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    folder = options.out / options.part
    with tempfile.TemporaryDirectory() as work:
        limits = Limits(options.context, options.longest, options.per_axis, options.per_talk)
        rows = pick(options.corpora, tuple(AXES), Path(work), limits)
        encode(rows, Path(work), folder, codec_of(options.model, device="cpu"))
    write_index(folder / "index.parquet", [bare(row) for row in rows])
    note(options.out, options.part, rows, sorted(set().union(*map(voices_of, options.corpora))))
    return 0


class Limits(NamedTuple):
    """How much is taken."""

    context_s: float
    longest_s: float
    per_axis: int
    per_talk: int
    """Of an axis: or one long conversation, with one user's voice, would be most of it."""


def pick(corpora: Sequence[Path], axes: Sequence[str], work: Path, limits: Limits) -> list[Row]:
    """Rows by axis, from all corpora in turn by their keys: an even draw, of those that are short enough."""
    settings = {axis: AXES[axis].config_type()(**THRESHOLDS.get(axis, {})) for axis in axes}
    config = MiningConfig(axes=tuple(axes), settings=settings, context_s=limits.context_s)
    candidates: list[Row] = []
    for number, corpus in enumerate(corpora):
        mined = work / f"mined-{number}"
        mine(read_corpus(corpus, None), mined, config, clips=False)
        for row in SegmentStore(mined).rows():
            if row.user_side == USER and row.end <= limits.longest_s:
                script = script_of(corpus, row)
                # Every corpus counts its conversations from 0.
                name = f"{corpus.name}-{number}-{row.id}"
                candidates.append(replace(row, id=name, conversation=f"{corpus.name}/{row.conversation}",
                                          info=row.info | {"script": script}))  # fmt: skip
    return list(chain(*(drawn([r for r in candidates if r.axis == axis], limits) for axis in axes)))


def drawn(candidates: Sequence[Row], limits: Limits) -> list[Row]:
    """As many rows of an axis as are wanted, by their keys, not too many of any conversation."""
    taken: Counter[str] = Counter()
    rows: list[Row] = []
    for row in sorted(candidates, key=lambda r: r.key):
        if len(rows) < limits.per_axis and taken[row.conversation] < limits.per_talk:
            taken[row.conversation] += 1
            rows.append(row)
    return rows


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


def script_of(corpus: Path, row: Row) -> str:
    """The id of the chat that a conversation was made from, by the name of its sound: readers have names of their own
    for conversations."""
    sound = row.sounds[0]
    assert sound is not None
    truth = read_json(corpus / "truth" / f"{sound.path.stem}.json")
    assert isinstance(truth, dict)
    return str(truth["script"]["id"])


def voices_of(corpus: Path) -> set[str]:
    """The voices that a corpus' users are made of."""
    record = read_json(corpus / "simulate.json")
    assert isinstance(record, dict)
    return set(record["settings"]["user_voices"])


def note(out: Path, part: str, rows: Sequence[Row], voices: Sequence[str]) -> None:
    """Write down in segments.json what the part holds."""
    path = out / "segments.json"
    told = read_json(path) if path.exists() else {}
    assert isinstance(told, dict)
    digest = hashlib.sha256("\n".join(f"{r.id} {r.conversation} {r.offset}" for r in rows).encode()).hexdigest()
    told[part] = {
        "segments": {axis: sum(r.axis == axis for r in rows) for axis in AXES},
        "hours": round(sum(r.end for r in rows) / 3600, 3),
        "conversations": len({r.conversation for r in rows}),
        "chats": len({r.info["script"] for r in rows}),
        "user_voices": list(voices),
        "hash": digest[:16],
    }
    write_json(path, told)
    print(part, told[part])


if __name__ == "__main__":
    sys.exit(main())
