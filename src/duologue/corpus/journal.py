"""The journal of a shard: one line per block of conversations, appended; a line that a kill cut off does no harm."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from duologue.base.errors import UserError
from duologue.base.metrics import append_row
from duologue.corpus.reservoir import Candidate, Reservoir
from duologue.corpus.tally import Tally


class Journal:
    """A file of lines {"block", "tally", "added"}, the last of which is {"done"}; read a line at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_done(self) -> bool:
        """Whether every block of the shard is in it."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 64))
            return file.read().endswith(b'{"done": true}\n')

    def resume(self, samples: Mapping[str, Reservoir]) -> list[str]:
        """Put the candidates of all whole lines into `samples`, drop a cut last line; the names of the blocks."""
        self._drop_cut_line()
        names = []
        for line in self._lines():
            names.append(line["block"])
            for axis, added in line["added"].items():
                samples[axis].merge(Candidate(key, name, base64.b85decode(text)) for key, name, text in added)
        return names

    def tally(self) -> Tally:
        """The sum of all blocks' tallies."""
        tally = Tally()
        for line in self._lines():
            tally.plus(Tally.from_json(line["tally"]))
        return tally

    def note(self, block: str, tally: Tally, added: Mapping[str, Sequence[Candidate]]) -> None:
        """Append a block and the candidates that it added."""
        packed = {axis: [(c.key, c.id, base64.b85encode(c.payload).decode()) for c in cs] for axis, cs in added.items()}
        append_row(self.path, {"block": block, "tally": tally.to_json(), "added": packed})

    def finish(self) -> None:
        """Append the line that says that all is in it."""
        append_row(self.path, {"done": True})

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    value = json.loads(line)
                    if "done" not in value:
                        yield {key: value[key] for key in ("block", "tally", "added")}
                except (ValueError, KeyError, TypeError):
                    place = f"{self.path}, line {number}"
                    raise UserError("is no line of a journal", place=place, mend="mine into a new folder") from None

    def _drop_cut_line(self) -> None:
        """Cut the file after its last line end, reading back from its end."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            end = file.seek(0, 2)
            at = end
            while at > 0:
                start = max(0, at - (1 << 16))
                file.seek(start)
                newline = file.read(at - start).rfind(b"\n")
                if newline >= 0:
                    at = start + newline + 1
                    break
                at = start
            if at < end:
                file.truncate(at)
