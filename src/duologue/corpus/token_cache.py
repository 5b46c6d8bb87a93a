"""The token cache: codec tokens of many recordings in one memory-mapped file.

    cache.json       the codec that made them, its rates and codebooks, `VERSION`
    codes.u16        the codes of one item after another, each [K, T], little-endian uint16, 65535 = absent
    journal.jsonl    one line per batch that is whole in codes.u16: [id, first number, frames] of each item
    index.parquet    the same as a table, written when all is done

The K rows are the agent's codebooks, then the user's, un-delayed; the text row depends on a tokenizer and is not here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duologue.base.config import from_dict
from duologue.base.errors import UserError
from duologue.base.files import atomic_path, make_folder, read_json, write_json
from duologue.base.metrics import append_row, read_rows, repair

VERSION = 1
ABSENT = 65535
NUMBER = np.dtype("<u2")
HEADER, CODES, JOURNAL, INDEX = "cache.json", "codes.u16", "journal.jsonl", "index.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheHeader:
    """What made the codes, and how they lie."""

    codec: str
    """Hash of the codec's weights that codes depend on (`codec.tokens.codes_hash`)."""
    codebooks: int
    """Codebooks of each side; an item has twice as many rows."""
    card: int
    """Entries of each codebook."""
    frame_rate: float
    """Frames a second."""
    skip: float = 0.0
    """Seconds of the beginning that were left out: words stand so much earlier beside the codes."""
    version: int = VERSION
    """Of this layout."""

    @property
    def rows(self) -> int:
        return 2 * self.codebooks


class TokenCacheWriter:
    """Adds items to a cache, and goes on where it was stopped: what is not in the journal is written again.

    Raises:
        UserError: the folder holds codes of another codec, or other files.
    """

    def __init__(self, folder: Path, header: CacheHeader) -> None:
        if header.card > ABSENT:
            raise UserError(f"codebooks of {header.card} entries do not fit 16 bits", mend=f"at most {ABSENT}")
        make_folder(folder)
        self.folder = folder
        self.header = header
        if not (folder / HEADER).exists():
            if (folder / CODES).exists():
                raise UserError("holds codes without cache.json", place=folder, mend="choose another folder")
            write_json(folder / HEADER, asdict(header))
        elif (found := read_header(folder)) != header:
            differing = [name for name, value in asdict(header).items() if asdict(found)[name] != value]
            problem = f"holds codes made otherwise ({', '.join(differing)} differ)"
            raise UserError(problem, place=folder, mend="choose another folder")
        repair(folder / JOURNAL)
        self._items = dict(_journal(folder))
        self._end = max((first + header.rows * frames for first, frames in self._items.values()), default=0)
        with (folder / CODES).open("ab") as file:
            if file.tell() < self._end * NUMBER.itemsize:
                raise UserError("is shorter than its journal says", place=folder / CODES, mend="encode it again")
            file.truncate(self._end * NUMBER.itemsize)

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def add(self, items: Sequence[tuple[str, NDArray[np.integer]]]) -> None:
        """Append items: (name, codes [K, T], -1 = absent); they survive a kill from here on.

        Raises:
            ValueError: codes of another shape, or beyond the codebooks.
        """
        noted = []
        with (self.folder / CODES).open("ab") as file:
            file.truncate(self._end * NUMBER.itemsize)
            file.seek(0, os.SEEK_END)
            end = self._end
            for name, codes in items:
                if codes.ndim != 2 or codes.shape[0] != self.header.rows:
                    raise ValueError(f"{name}: codes are {list(codes.shape)}, not [{self.header.rows}, T]")
                if codes.size and not (int(codes.min()) >= -1 and int(codes.max()) < self.header.card):
                    raise ValueError(f"{name}: codes are not in -1 to {self.header.card - 1}")
                file.write(np.where(codes < 0, ABSENT, codes).astype(NUMBER).tobytes())
                noted.append((name, end, int(codes.shape[1])))
                end += codes.size
            file.flush()
            os.fsync(file.fileno())
        append_row(self.folder / JOURNAL, {"items": noted})
        self._items.update({name: (first, frames) for name, first, frames in noted})
        self._end = end

    def finish(self) -> None:
        """Write the index of all items."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        places = list(self._items.values())
        table = pa.table({
            "id": pa.array(list(self._items), pa.string()),
            "first": pa.array([first for first, _ in places], pa.int64()),
            "frames": pa.array([frames for _, frames in places], pa.int64()),
        })  # fmt: skip
        with atomic_path(self.folder / INDEX) as aside:
            pq.write_table(table, aside, compression="zstd")


class TokenCache:
    """A cache, read: memory-mapped, so that only what is asked for is loaded.

    Raises:
        UserError: no cache there, one that was not finished, a broken one, or one of another version.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.folder = folder
        self.header = read_header(folder)
        if not (folder / INDEX).is_file():
            raise UserError("was not finished", place=folder, mend="run duologue encode again, which goes on with it")
        try:
            columns = pq.read_table(folder / INDEX).to_pydict()
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"is no index: {error}", place=folder / INDEX, mend="remove it; encode again") from None
        places = zip(columns["first"], columns["frames"], strict=True)
        self._items: dict[str, tuple[int, int]] = dict(zip(columns["id"], places, strict=True))
        end = max((first + self.header.rows * frames for first, frames in self._items.values()), default=0)
        path = folder / CODES
        if not path.is_file() or path.stat().st_size < end * NUMBER.itemsize:
            raise UserError("is shorter than its index says", place=path, mend="encode it again")
        self._codes: NDArray[np.uint16] = np.memmap(path, NUMBER, "r", shape=(end,)) if end else np.empty(0, NUMBER)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def raw(self, name: str) -> NDArray[np.uint16]:
        """Codes uint16 [K, T], 65535 = absent: a read-only view of the file. Errors: KeyError."""
        first, frames = self._items[name]
        return self._codes[first : first + self.header.rows * frames].reshape(self.header.rows, frames)

    def codes(self, name: str) -> NDArray[np.int64]:
        """Codes int64 [K, T], -1 = absent. Errors: KeyError."""
        raw = self.raw(name)
        return np.where(raw == ABSENT, -1, raw.astype(np.int64))


def read_header(folder: Path) -> CacheHeader:
    """Read cache.json. Errors: UserError for a missing or broken one, or another version."""
    path = folder / HEADER
    if not path.is_file():
        raise UserError("no token cache here (no cache.json)", place=folder, mend="make one with duologue encode")
    value = read_json(path)
    version = value.get("version") if isinstance(value, dict) else None
    if version != VERSION:
        raise UserError(f"has version {version}, not {VERSION}", place=path, mend="encode it again")
    return from_dict(CacheHeader, value, place=path)


def _journal(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    for row in read_rows(folder / JOURNAL):
        for name, first, frames in row["items"]:
            yield name, (first, frames)
