"""`duologue encode`: the codec tokens of segments or of a whole corpus, cached on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.audio.wave import Audio
    from duologue.corpus.conversation import Conversation
    from duologue.corpus.encoding import Item
    from duologue.dialogue.segments import LazyWaveform


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeConfig:
    """Encode both sides of every segment, or of every conversation of a corpus, and cache the tokens.

    Stop it at any time: the same command goes on where it stopped.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SEGMENTS_OR_CORPUS")]
    """A folder of segments (with index.parquet, from duologue mine), or of a corpus."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="TOKENS")] = None
    """The folder of tokens; by default SEGMENTS/tokens."""
    model: str = "nano"
    """Whose codec: nano, random:PRESET@SEED, a folder or file, or owner/name on the Hugging Face hub."""
    codec: Path | None = None
    """A codec's own file instead (duologue train codec makes one)."""
    reader: str | None = None
    """How a corpus is read; by default the reader that knows what it finds in the folder."""
    skip: float = 0.0
    """Seconds of a corpus's recordings to leave out at the beginning. With a part of a frame, such as 0.04, the same
    sound gives other codes: more to learn from."""
    rows: int = 16
    """Channels that are encoded at once; more on a GPU."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    json: Path | None = None
    """Also write what was done as JSON to this file."""


def main(config: EncodeConfig) -> int:
    """Encode both sides of every segment, or of every conversation of a corpus, and cache the tokens."""
    if config.rows < 2:
        raise UserError(f"{config.rows} rows hold no recording", place="--rows", mend="use 2 or more")
    if not 0 <= config.skip < math.inf:
        raise UserError(f"{config.skip} is not a time", place="--skip", mend="use seconds, 0 or more")
    segments = (config.source / "index.parquet").is_file()
    if segments and config.skip:
        raise UserError("is for a corpus, not for segments", place="--skip", mend="leave it out")
    if config.out is None and not segments:
        raise UserError("where do the tokens go?", place="--out", mend="name a folder: -o TOKENS")
    out = config.out or config.source / "tokens"
    items = segment_items(config.source) if segments else corpus_items(config)
    from duologue.base.compute import pick_device
    from duologue.base.files import write_json
    from duologue.codec import load_codec
    from duologue.corpus.encoding import encode_items, header_of
    from duologue.corpus.token_cache import TokenCache, TokenCacheWriter
    from duologue.engine.bundle import codec_of

    if config.codec is not None:
        codec = load_codec(config.codec, device=config.device)
    else:
        codec = codec_of(config.model, device=config.device)
    header = header_of(codec, config.skip)
    start = time.perf_counter()
    failed = encode_items(codec, pick_device(config.device), items, TokenCacheWriter(out, header), config.rows)
    taken = time.perf_counter() - start
    cache = TokenCache(out)
    seconds = sum(cache.raw(name).shape[1] for name in cache) / header.frame_rate
    for line in failed:
        print(f"left out: {line}")
    print(f"{out}: {len(cache)} items, {seconds / 3600:.2f} h of two channels, {header.codebooks} codebooks a side; "
          f"this run took {taken:.1f} s")  # fmt: skip
    if config.json is not None:
        write_json(config.json, {"items": len(cache), "seconds": seconds, "failed": failed, "header": header})
    return 0


def segment_items(folder: Path, axes: Sequence[str] | None = None) -> Iterator[Item]:
    """Every segment of a store that has sound, or those of some axes."""
    from duologue.corpus.encoding import Item
    from duologue.corpus.store import SegmentStore

    for segment in SegmentStore(folder):
        wanted = axes is None or segment.axis in axes
        if wanted and (segment.agent_audio is not None or segment.user_audio is not None):
            yield Item(segment.id, segment.end, partial(_hear, segment.agent_audio, segment.user_audio))


def corpus_items(config: EncodeConfig) -> Iterator[Item]:
    """Every conversation of a corpus that has sound, whole; side 0 stands in the agent's rows."""
    from duologue.corpus.conversation import Conversation
    from duologue.corpus.encoding import Item
    from duologue.corpus.mine import read_corpus

    for read in read_corpus(config.source, config.reader):
        if isinstance(read, Conversation) and any(side.sound is not None for side in read.sides):
            yield Item(read.id, read.duration, partial(_read, read, config.skip))


def _hear(agent: LazyWaveform | None, user: LazyWaveform | None) -> tuple[Audio | None, Audio | None]:
    from duologue.audio.wave import Audio

    waves = [None if lazy is None else lazy() for lazy in (agent, user)]
    sides = [None if wave is None else Audio(wave[0][None], wave[1]) for wave in waves]
    return sides[0], sides[1]


def _read(conversation: Conversation, skip: float) -> tuple[Audio | None, Audio | None]:
    from duologue.corpus.sound import read_sound

    sides = [None if side.sound is None else read_sound(side.sound, skip, None) for side in conversation.sides]
    return sides[0], sides[1]
