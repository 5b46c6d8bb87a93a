"""Corpora in: one reader for each format, chosen by name or by what a folder holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from duologue.base.errors import UserError
from duologue.base.typed import nearest
from duologue.corpus.conversation import Read
from duologue.corpus.readers import candor, files, fisher, moshi, seamless, switchboard
from duologue.corpus.readers.base import Reader, ReadOptions

READERS: Mapping[str, Reader] = {
    module.NAME: module.READER for module in (moshi, seamless, fisher, switchboard, candor, files)
}
"""By name, in the order in which a folder is tried: any sound fits the last."""


def find_reader(root: Path) -> Reader:
    """The reader whose format a folder looks like.

    Raises:
        UserError: the folder is missing, or none knows it; or two of the corpora with names of their own do.
    """
    if not root.is_dir():
        raise UserError("no such folder", place=root, mend="name the folder of a corpus")
    *named, last = READERS.values()
    fitting = [reader for reader in named if reader.fits(root)]
    if len(fitting) > 1:
        names = ", ".join(reader.name for reader in fitting)
        raise UserError(f"could be any of {names}", place=root, mend="name the format")
    if fitting:
        return fitting[0]
    if last.fits(root):
        return last
    raise UserError("holds no corpus in a known format", place=root, mend=f"known are {', '.join(READERS)}")


def read_corpus(root: Path, format: str | None = None, options: ReadOptions | None = None) -> Iterator[Read]:
    """Every conversation of a folder, lazily, in an order that never changes.

    Args:
        root: the folder.
        format: a name in `READERS`; None: found by what the folder holds.
        options: see there.

    Raises:
        UserError: unknown format, or as `find_reader` and `Reader.read`.
    """
    if format is not None and format not in READERS:
        raise UserError(f"unknown corpus format {format!r}", place="--reader", mend=nearest(format, READERS))
    reader = find_reader(root) if format is None else READERS[format]
    if not root.exists():
        raise UserError("no such folder", place=root, mend="name the folder of a corpus")
    return reader.read(root, options)
