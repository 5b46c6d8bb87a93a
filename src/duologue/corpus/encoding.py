"""Recordings to codec tokens: both sides of each, rows of similar length at once, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.base.progress import meter
from duologue.codec.interface import Codec
from duologue.codec.tokens import codes_hash
from duologue.corpus.token_cache import CacheHeader, TokenCacheWriter

FRAMES = 32
"""Frames of each row per step of the codec: with 16 rows, about 250 MB of activations in Mimi."""
BATCH_S = 4800.0
"""Most seconds of sound in memory: 460 MB at 24 kHz."""


@dataclass(frozen=True, slots=True)
class Item:
    """One recording to be encoded."""

    id: str
    seconds: float
    """About how long it is, to batch by."""
    sounds: Callable[[], tuple[Audio | None, Audio | None]]
    """Reads (agent, user), one channel each; None: absent. Errors: UserError."""


def header_of(codec: Codec, skip: float = 0.0) -> CacheHeader:
    """The header of a cache of this codec's tokens."""
    assert isinstance(codec, nn.Module)
    return CacheHeader(
        codec=codes_hash(codec), codebooks=codec.n_codebooks, card=codec.card, frame_rate=codec.frame_rate, skip=skip
    )


def encode_items(
    codec: Codec, device: torch.device, items: Iterable[Item], writer: TokenCacheWriter, rows: int = 16
) -> list[str]:
    """Encode what is not in the cache yet, and write its index.

    Args:
        codec: on `device`.
        device: where it computes.
        items: recordings with unique names.
        writer: the cache.
        rows: channels at once.

    Returns:
        The items that could not be read: name and reason.
    """
    todo = sorted((item for item in items if item.id not in writer), key=lambda item: (item.seconds, item.id))
    failed = []
    with meter("encoding (s)", total=sum(item.seconds for item in todo)) as progress:
        for batch in batches(todo, rows):
            read: list[tuple[str, tuple[Audio | None, Audio | None]]] = []
            for item in batch:
                try:
                    read.append((item.id, item.sounds()))
                except UserError as error:
                    failed.append(f"{item.id}: {error}")
            if read:
                waves = [
                    [None if s is None else s.resampled(codec.sample_rate).samples[0] for s in pair] for _, pair in read
                ]
                codes = encode_rows(codec, device, [wave for pair in waves for wave in pair])
                writer.add([(name, join(codes[2 * i], codes[2 * i + 1])) for i, (name, _) in enumerate(read)])
            progress.advance(sum(item.seconds for item in batch))
    writer.finish()
    return failed


def batches(items: Sequence[Item], rows: int) -> Iterator[list[Item]]:
    """Neighbours in length, two rows each, as many as `rows` and `BATCH_S` allow, at least one."""
    batch: list[Item] = []
    for item in items:
        if batch and (2 * len(batch) + 2 > rows or (2 * len(batch) + 2) * item.seconds > BATCH_S):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def encode_rows(
    codec: Codec, device: torch.device, waves: Sequence[NDArray[np.float32] | None]
) -> list[NDArray[np.int64]]:
    """Codes int64 [n_codebooks, T] of each wave [S] at the codec's rate; of an absent one [n_codebooks, 0].

    The last frame is filled up with silence. The codec is causal: what follows a shorter row does not change its codes.
    """
    size = codec.frame_size
    frames = [0 if wave is None else -(-len(wave) // size) for wave in waves]
    longest, parts = max(frames, default=0), []
    with torch.no_grad():
        state = codec.initial_state(len(waves))
        for first in range(0, longest, FRAMES):
            count = min(FRAMES, longest - first)
            block = np.zeros((len(waves), 1, count * size), np.float32)
            for row, wave in zip(block[:, 0], waves, strict=True):
                piece = () if wave is None else wave[first * size : (first + count) * size]
                row[: len(piece)] = piece
            codes, state = codec.encode_step(torch.from_numpy(block).to(device), state, reuse=True)
            parts.append(codes.cpu().numpy())
    whole = np.concatenate(parts, axis=2) if parts else np.zeros((len(waves), codec.n_codebooks, 0), np.int64)
    return [whole[i, :, :n].astype(np.int64) for i, n in enumerate(frames)]


def join(agent: NDArray[np.int64], user: NDArray[np.int64]) -> NDArray[np.int64]:
    """Both sides' codes as [2 n, T], T of the longer one; -1 where a side has none."""
    frames = max(agent.shape[1], user.shape[1])
    out = np.full((agent.shape[0] + user.shape[0], frames), -1, np.int64)
    out[: agent.shape[0], : agent.shape[1]] = agent
    out[agent.shape[0] :, : user.shape[1]] = user
    return out
