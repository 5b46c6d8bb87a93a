"""`duologue mine`: a two-channel corpus cut into segments for each interactivity axis."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duologue.axes.finding import AxisConfig
    from duologue.base.report import Table
    from duologue.corpus.candidates import MiningConfig
    from duologue.corpus.conversation import Read
    from duologue.corpus.mining import Mined


@dataclass(frozen=True, slots=True, kw_only=True)
class MineConfig:
    """Cut a two-channel corpus into segments for each interactivity axis, by the criteria of arXiv 2606.11167.

    Stop it at any time: the same command goes on where it stopped, and gives the same index.
    """

    corpus: Annotated[Path, tyro.conf.Positional]
    """The folder of the corpus."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="SEGMENTS")]
    """The folder of segments: index.parquet and clips."""
    reader: str | None = None
    """How the corpus is read; by default the reader that knows what it finds in the folder."""
    listen: bool = False
    """Also look for defects in the sound (silent channels, clipping, bleed); otherwise sound is left alone until a
    segment is cut, or until speech must be detected."""
    axes: tuple[str, ...] = ()
    """Axes to mine (pause, turn_taking, backchannel, interruption); by default all."""
    per_axis: int = 2000
    """Most segments of each axis, drawn evenly from all that are found."""
    set: tuple[str, ...] = ()
    """Thresholds of axes that differ from the paper's: AXIS.NAME=VALUE, such as pause.least_s=3."""
    seed: int = 0
    """Of the draw."""
    context: float = 30.0
    """Most seconds before a segment that are kept with it."""
    speech: Literal["metadata", "words", "vad"] = "metadata"
    """What counts as speech: metadata: what the corpus says, else its words, else what a detector finds; words: its
    words alone; vad: what a detector finds."""
    vad: Literal["silero", "energy"] = "silero"
    """The speech detector: silero: a neural network; energy: level above the noise floor."""
    recogniser: str | None = None
    """Recognise the words of segments where the corpus has none, on both sides: parakeet, or a Whisper size, folder or
    hub name (extra parakeet or asr). Without it such segments stay without words."""
    shard: str = "1/1"
    """Work on a part of the corpus, such as 2/8; the last shard to end makes the index."""
    workers: int = 1
    """Processes at once (with --ray: tasks)."""
    ray: bool = False
    """Give the work to a Ray cluster (extra ray; RAY_ADDRESS names it)."""
    clips: bool = True
    """Cut the sound of the segments; otherwise the index refers to the corpus's files."""
    report: bool = False
    """Also name conversations that were set aside or mended, for each reason."""
    gallery: bool = False
    """Write gallery/AXIS.html: segments to be seen and heard, each with the rule that selected it."""
    json: Path | None = None
    """Also write the counts as JSON to this file."""


def main(config: MineConfig) -> int:
    """Cut a two-channel corpus into segments for each interactivity axis, by the criteria of arXiv 2606.11167."""
    from duologue.audio.asr import load_recogniser
    from duologue.base.files import write_json
    from duologue.corpus.mining import Crew, Shard, mine
    from duologue.corpus.store import SegmentStore
    from duologue.corpus.transcripts import NamedRecogniser

    name = config.recogniser
    recogniser = None if name is None else NamedRecogniser(name, load_recogniser(name))
    wanted, shard = selection(config), Shard.parse(config.shard)
    crew = Crew(workers=config.workers, ray=config.ray)
    mined = mine(
        read_corpus(config.corpus, config.reader, listen=config.listen),
        config.out,
        wanted,
        shard=shard,
        crew=crew,
        clips=config.clips,
        recogniser=recogniser,
    )
    show(mined, list(wanted.axes), config.report)
    if config.json is not None:
        counts: dict[str, Any] = {"kept": mined.kept, "missing_shards": mined.missing, "uncut": mined.uncut}
        write_json(config.json, {**mined.tally.to_json(), **counts})
    if mined.kept is None:
        print(f"shard {config.shard} is done; no index yet, for these are not: {_list(mined.missing)}")
        return 0
    if config.gallery:
        from duologue.corpus.gallery import write_gallery

        command = shlex.join(["duologue", *sys.argv[1:]])
        for page in write_gallery(SegmentStore(config.out), config.out / "gallery", command):
            print(page)
    print(config.out / "index.parquet")
    return 0


def selection(config: MineConfig) -> MiningConfig:
    """What the options select. Errors: UserError."""
    from dataclasses import replace

    from duologue.axes import AXES
    from duologue.corpus.candidates import MiningConfig

    return MiningConfig(
        axes=config.axes or tuple(AXES), settings=thresholds(config.set), per_axis=config.per_axis, seed=config.seed,
        context_s=config.context, speech=config.speech,
        vad=replace(MiningConfig().vad, backend=config.vad),
    )  # fmt: skip


def thresholds(texts: Sequence[str]) -> dict[str, AxisConfig]:
    """Read AXIS.NAME=VALUE. Errors: UserError for an unknown axis, name or value."""
    from duologue.axes import AXES
    from duologue.base.config import assigned, from_dict
    from duologue.base.typed import nearest

    mend = "use AXIS.NAME=VALUE, as in pause.least_s=3"
    given: dict[str, dict[str, object]] = {}
    for name, value in assigned(texts, "--set", mend):
        axis, _, key = name.partition(".")
        if not key or value is None:
            raise UserError(f"{name!r} sets nothing", place="--set", mend=mend)
        if axis not in AXES:
            raise UserError(f"{axis!r} is no axis", place="--set", mend=nearest(axis, AXES))
        given.setdefault(axis, {})[key] = value
    return {axis: from_dict(AXES[axis].config_type(), values, place=f"--set {axis}") for axis, values in given.items()}


def read_corpus(folder: Path, reader: str | None, *, listen: bool = False) -> Iterator[Read]:
    """A corpus, read lazily. Errors: UserError for a folder or reader that is not there."""
    from duologue.corpus.readers import read_corpus as read
    from duologue.corpus.readers.base import ReadOptions

    return read(folder, reader, ReadOptions(audio=listen))


def show(mined: Mined, axes: Sequence[str], in_full: bool) -> None:
    """Print what came in, what was set aside and why, and what was found."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Printed

    console = Console()
    if not console.is_terminal:
        console = Console(width=110)
    for table in tables(mined, axes, in_full):
        console.print(table.title, style="bold", markup=False, highlight=False)
        printed = Printed(box=box.SIMPLE_HEAD)
        for i, header in enumerate(table.headers):
            printed.add_column(header, justify="right" if 0 < i < 3 else "left", overflow="fold")
        for row in table.rows:
            printed.add_row(*map(str, row))
        console.print(printed)


def tables(mined: Mined, axes: Sequence[str], in_full: bool) -> list[Table]:
    """The tables that are printed; values as texts."""
    from duologue.base.report import Table

    tally = mined.tally
    rows = [("seen", tally.seen), ("mined", tally.used)]
    rows += [(f"set aside: {reason}", share) for reason, share in sorted(tally.aside.items())]
    if in_full:
        rows += [(f"mended: {kind}", share) for kind, share in sorted(tally.mended.items())]
    hours = [(name, str(s.count), f"{s.seconds / 3600:.2f}", "\n".join(s.examples)) for name, s in rows]
    width = 4 if in_full else 3
    kept = mined.kept or {}
    found = [(axis, str(tally.found.get(axis, 0)), str(kept.get(axis, "-"))) for axis in axes]
    made = [
        Table("Conversations", ("", "number", "hours", "such as")[:width], [row[:width] for row in hours]),
        Table("Segments", ("axis", "found", "kept"), found),
    ]
    if mined.uncut:
        left = [(line,) for line in mined.uncut[: None if in_full else 5]]
        made.append(Table(f"{len(mined.uncut)} left out, for their sound cannot be read", ("",), left))
    return made


def _list(shards: Sequence[int]) -> str:
    return ", ".join(map(str, shards[:20])) + (" ..." if len(shards) > 20 else "")
