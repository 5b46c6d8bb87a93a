"""How fast a model talks on this machine, measured side by side in one run; and how large the shipped one is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from duologue.base.progress import track
from duologue.bench.nano_codec import device_of, sampled, unmeasured
from duologue.bench.nano_words import mean_interval
from duologue.bench.rows import Row
from duologue.codec.interface import Codec
from duologue.engine.bundle import NANO
from duologue.engine.duplex import Duplex
from duologue.engine.engine import Engine, EngineState

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle

PAST_S = 20.0
"""How long the conversations have lasted when they are timed, or the model's context if that is shorter."""
WARM = 3
"""Calls that are not counted."""
ROUNDS = 5
"""Times that a whole is decoded, after one that is not counted."""
MB = 1_000_000


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads of the CPU, and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def speed_rows(bundle: Bundle, *, seconds: float, cores: int, seed: int, batch: int = 64) -> list[Row]:
    """Conversations, decoding and generation in multiples of real time.

    Args:
        bundle: the model.
        seconds: of sound to time each by.
        cores: threads of the CPU.
        seed: of codes and draws.
        batch: conversations of the last row.
    """
    codec = bundle.need_codec()
    frames = max(2, round(seconds * codec.frame_rate))
    with threads(cores):
        return [
            _live_row(bundle, 1, frames, cores, seed, most=0.3),
            _live_row(bundle, 3, frames, cores, seed, most=1.0),
            _decoding_row(codec, frames, cores, seed),
            _batch_row(bundle, batch, frames, cores, seed),
        ]


def size_row(folder: Path = NANO) -> Row:
    """The bytes of the model that comes with the package."""
    what, target = "package data of nano (MB)", "<= 60"
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    if not files:
        return unmeasured(what, target, "this version of the package brings no trained model")
    size = sum(path.stat().st_size for path in files)
    return Row(
        what=what, value=size / MB, n=len(files), interval=None, target=target, passed=size <= 60 * MB,
        note=f"{size} bytes; n: files",
    )  # fmt: skip


def _live_row(bundle: Bundle, slots: int, frames: int, cores: int, seed: int, *, most: float) -> Row:
    """Codec and model, frame by frame, as a live conversation needs them."""
    codec = bundle.need_codec()
    past = _past(bundle)
    duplex = Duplex(bundle.lm, codec, slots, frames=past + frames + WARM)
    state = duplex.initial_state([sampled(bundle, seed + i) for i in range(slots)])
    _remember(duplex.engine, state.engine, past, seed)
    rng = np.random.default_rng(seed)
    sound = torch.from_numpy(0.1 * rng.standard_normal((frames + WARM, slots, codec.frame_size), np.float32))
    taken = []
    for frame in track(sound, f"timing {slots}"):
        start = time.perf_counter()
        duplex.step(state, frame).sound.cpu()
        taken.append(time.perf_counter() - start)
    shares = np.array(taken[WARM:]) * codec.frame_rate
    who = "one conversation" if slots == 1 else f"{slots} conversations at once"
    value = float(shares.mean())
    note = f"codec and model, {_where(bundle.lm.text_linear.weight.device, cores)}, after {past} frames of conversation"
    late = float(np.percentile(shares, 95))
    return Row(
        what=f"{who}: share of real time", value=value, n=frames, interval=mean_interval(shares.tolist()),
        target=f"< {most:g}", passed=value < most, note=f"{note}; 95 % of frames within {late:.3f}",
    )  # fmt: skip


def _decoding_row(codec: Codec, frames: int, cores: int, seed: int) -> Row:
    """Codes to sound, whole."""
    device = device_of(codec)
    generator = torch.Generator().manual_seed(seed)
    T = max(frames, round(30 * codec.frame_rate))
    codes = torch.randint(codec.card, (1, codec.n_codebooks, T), generator=generator).to(device)
    with torch.no_grad():
        taken = _times(lambda: codec.decode(codes).cpu())
    note = f"{T / codec.frame_rate:g} s in one piece, {_where(device, cores)}; n: rounds"
    return _rate_row("codec decoding: multiple of real time", T / codec.frame_rate, taken, 50, note)


def _batch_row(bundle: Bundle, batch: int, frames: int, cores: int, seed: int) -> Row:
    """The model alone, many conversations together, in sum."""
    past = _past(bundle)
    engine = Engine(bundle.lm, batch, frames=past + frames + WARM)
    state = engine.initial_state([sampled(bundle, seed + i) for i in range(batch)])
    _remember(engine, state, past, seed)
    user = torch.zeros(batch, engine.config.user_streams, dtype=torch.long)
    taken = []
    for _ in track(range(frames + WARM), f"timing {batch}"):
        start = time.perf_counter()
        engine.step(state, user)[0].cpu()
        taken.append(time.perf_counter() - start)
    where = _where(bundle.lm.text_linear.weight.device, cores)
    note = f"model alone (decoding stands apart), {where}, after {past} frames of conversation; n: frames"
    what = f"generation, batch of {batch}: multiple of real time, in sum"
    return _rate_row(what, batch / bundle.need_codec().frame_rate, taken[WARM:], 40, note)


def _rate_row(what: str, seconds: float, taken: Sequence[float], least: float, note: str) -> Row:
    """All sound over all time, where each time gave `seconds` of sound."""
    value, spread = seconds / float(np.mean(taken)), mean_interval(taken)
    interval = None if spread is None else (seconds / spread[1], seconds / spread[0])
    return Row(
        what=what, value=value, n=len(taken), interval=interval, target=f">= {least:g}", passed=value >= least,
        note=note,
    )  # fmt: skip


def _times(work: Callable[[], object]) -> list[float]:
    """Seconds that each of a few rounds took."""
    taken = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken[1:]


def _past(bundle: Bundle) -> int:
    """Frames of conversation before the clock starts."""
    frames = round(PAST_S * 12.5)
    context = bundle.lm.config.context
    return frames if context is None else min(frames, context)


def _remember(engine: Engine, state: EngineState, frames: int, seed: int) -> None:
    """Give every slot a past of random tokens."""
    c = engine.config
    generator = torch.Generator().manual_seed(seed)
    codes: Tensor = torch.randint(c.card, (engine.slots, 1 + c.n_q, frames), generator=generator)
    codes[:, 0] = c.existing_text_padding_id
    for start in range(0, engine.slots, 8):  # a few at a time: their attention is large
        rows = list(range(start, min(start + 8, engine.slots)))
        engine.prefill(state, rows, codes[rows])


def _where(device: torch.device, cores: int) -> str:
    return f"{cores} thread{'s' if cores > 1 else ''}" if device.type == "cpu" else str(device)
