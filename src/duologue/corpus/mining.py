"""Mining: conversations in, a store of segments out; the same store whatever the workers, shards and interruptions.

    settings.json         what was asked; a folder holds one run of mining
    parts/I-of-N.jsonl    the journal of a shard: a line per block of conversations, with the candidates it added
    clips/, words/, index.parquet, mined.json

A shard searches its conversations and keeps the best candidates of each axis. The run that finds every shard done
merges them, cuts the clips of the segments that are left, and writes the index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from filelock import FileLock, Timeout

from duologue.base.config import fingerprint
from duologue.base.errors import UserError
from duologue.base.files import make_folder, read_json, write_json
from duologue.base.progress import track
from duologue.corpus.candidates import Block, MiningConfig, SoundReader, search
from duologue.corpus.clips import cut_clip
from duologue.corpus.conversation import Read
from duologue.corpus.fanout import spread
from duologue.corpus.journal import Journal
from duologue.corpus.reservoir import Reservoir, key_of
from duologue.corpus.store import INDEX, Row, write_index
from duologue.corpus.tally import Tally
from duologue.corpus.transcripts import NamedRecogniser, transcribed

BLOCK = 16
"""Conversations of a block: as many channels as speech detection takes at once."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` of `count`, counted from 1: the conversations whose names hash to it."""

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise UserError(f"there is no shard {self.number} of {self.count}", place="--shard", mend="use 1/4 to 4/4")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "2/8". Errors: UserError."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal()):
            raise UserError(f"{text!r} is no shard", place="--shard", mend="use NUMBER/COUNT, such as 2/8")
        return cls(int(number), int(count))

    def holds(self, read: Read) -> bool:
        """Whether a conversation belongs to this shard."""
        return key_of(0, read.corpus, read.id) % self.count == self.number - 1


@dataclass(frozen=True, slots=True)
class Mined:
    """What a run of mining gave."""

    tally: Tally
    """Of all shards that are done."""
    kept: dict[str, int] | None
    """Segments in the index by axis; None while other shards are not done."""
    missing: tuple[int, ...] = ()
    """Shards that are not done."""
    uncut: tuple[str, ...] = ()
    """Segments that were left out because their sound cannot be read, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Who does the work."""

    workers: int = 1
    """Processes (or Ray tasks) at once."""
    ray: bool = False
    """Give the work to a Ray cluster."""


def mine(
    conversations: Iterable[Read],
    out: Path,
    config: MiningConfig,
    *,
    shard: Shard | None = None,
    crew: Crew | None = None,
    clips: bool = True,
    read: SoundReader | None = None,
    recogniser: NamedRecogniser | None = None,
) -> Mined:
    """Mine conversations into the folder `out`, or go on where an earlier run stopped.

    Args:
        conversations: in the same order every time; read lazily, and one block at a time in memory.
        out: the folder; it must be new, or hold this very run.
        config: what is selected.
        shard: which part of them; all if None.
        crew: who works; one process if None.
        clips: cut the sound of the segments; otherwise they refer to the corpus's.
        read: how sound is read; `corpus.sound.read_sound` if None.
        recogniser: who hears the words of segments that the corpus does not have; nobody if None.

    Raises:
        UserError: the folder holds something else or is in use, or the corpus has changed since it was begun.
    """
    shard, crew = shard or Shard(), crew or Crew()
    if read is None:
        from duologue.corpus.sound import read_sound

        read = read_sound
    _settle(out, config, shard, clips, None if recogniser is None else recogniser.name)
    with _locked(out / "parts" / f"{shard.number}-of-{shard.count}.lock"):
        _search_all(conversations, _journal(out, shard.number, shard.count), config, shard, crew, read)
    parts = [_journal(out, i + 1, shard.count) for i in range(shard.count)]
    tally = Tally()
    done = [part.is_done() for part in parts]
    for part, ended in zip(parts, done, strict=True):
        if ended:
            tally.plus(part.tally())
    if not all(done):
        return Mined(tally, None, tuple(i + 1 for i, ended in enumerate(done) if not ended))
    with FileLock(out / "parts" / "merge.lock"):  # of two that end at once, the second waits, and finds the clips cut
        kept, uncut = dict.fromkeys(config.axes, 0), list[str]()
        rows = _merge(parts, out, config, crew, read if clips else None, kept, uncut)
        write_index(out / INDEX, rows if recogniser is None else transcribed(rows, out, recogniser, read))
        write_json(out / "mined.json", {**tally.to_json(), "kept": kept, "uncut": uncut})
    return Mined(tally, kept, (), tuple(uncut))


# ---- one shard ---------------------------------------------------------------------------------------------------


def _search_all(
    conversations: Iterable[Read], journal: Journal, config: MiningConfig, shard: Shard, crew: Crew, read: SoundReader
) -> None:
    """Search the blocks that the journal does not have yet; note each with the candidates that it added."""
    if journal.is_done():
        return
    samples = {axis: Reservoir(config.per_axis) for axis in config.axes}
    known = journal.resume(samples)
    names: dict[int, str] = {}

    def blocks() -> Iterator[Block]:
        mine = (item for item in conversations if shard.holds(item))
        for index, reads in enumerate(_batches(mine, BLOCK)):
            name = _name(reads)
            if index < len(known):
                if known[index] != name:
                    mend = "mine into a new folder"
                    raise UserError(f"the corpus changed since block {index} was mined", place=journal.path, mend=mend)
                continue
            names[index] = name
            yield Block(index, tuple(reads), {axis: sample.bound for axis, sample in samples.items()})

    work = partial(search, config=config, read=read)
    for outcome in track(spread(work, blocks(), crew.workers, ray=crew.ray), f"mining {journal.path.stem} (blocks)"):
        added = {axis: [c for c in found if samples[axis].add(c)] for axis, found in outcome.candidates.items()}
        journal.note(names.pop(outcome.index), outcome.tally, added)
    journal.finish()


def _batches(items: Iterable[Read], size: int) -> Iterator[list[Read]]:
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def _name(reads: Sequence[Read]) -> str:
    """A block's fingerprint: the conversations in it."""
    text = "\x1f".join(f"{r.corpus}\x1e{r.id}\x1e{r.duration}" for r in reads)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


# ---- all shards --------------------------------------------------------------------------------------------------


def _merge(
    parts: Sequence[Journal],
    out: Path,
    config: MiningConfig,
    crew: Crew,
    read: SoundReader | None,
    kept: dict[str, int],
    uncut: list[str],
) -> Iterator[Row]:
    """Yield the segments of all shards, by axis and key, with their clips; count them in `kept`, name in `uncut`."""
    samples = {axis: Reservoir(config.per_axis) for axis in config.axes}
    for part in parts:
        part.resume(samples)
    payloads = [c.payload for axis in config.axes for c in samples[axis].kept()]
    cut = partial(cut_clip, folder=out, read=read)
    for row, problem in track(spread(cut, payloads, crew.workers, ray=crew.ray), "cutting clips", len(payloads)):
        if problem:
            uncut.append(f"{row.id}: {problem}")
        else:
            kept[row.axis] += 1
            yield row


def _journal(out: Path, number: int, count: int) -> Journal:
    return Journal(out / "parts" / f"{number}-of-{count}.jsonl")


def _settle(out: Path, config: MiningConfig, shard: Shard, clips: bool, recogniser: str | None) -> None:
    """Make the folder this run's, or check that it is."""
    make_folder(out / "parts")
    asked = {"settings": settings_mark(config), "shards": shard.count, "clips": clips}
    if recogniser is not None:
        asked["recogniser"] = recogniser
    path = out / "settings.json"
    if not path.exists():
        if (out / INDEX).exists():
            raise UserError("holds segments already", place=out, mend="choose another folder")
        write_json(path, asked)
    elif (found := read_json(path)) != asked:
        differing = (
            ", ".join(k for k in {**asked, **found} if found.get(k) != asked.get(k))
            if isinstance(found, dict)
            else "all"
        )
        mend = "choose another folder, or ask the same"
        raise UserError(f"was mined with other options ({differing} differ)", place=out, mend=mend)


def settings_mark(config: MiningConfig) -> str:
    """A fingerprint of what is selected."""
    own = f"{config.axes} {config.per_axis} {config.seed} {config.context_s} {config.speech} {config.word_gap_s}"
    axes = [f"{name} {fingerprint(config.settings[name])}" for name in sorted(config.settings)]
    text = "; ".join([own, fingerprint(config.vad), *axes])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError("another process works on it", place=path, mend="wait for it to end") from None
    try:
        yield
    finally:
        lock.release()
