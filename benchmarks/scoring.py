"""How fast recordings are scored on one core, beside the tools that others use, in the same run.

    python benchmarks/scoring.py                          generated audio
    python benchmarks/scoring.py --audio FILES            real recordings
    python benchmarks/scoring.py --json scoring.json      also write the numbers

Part "vad": speech detection from files, decoding and resampling included, beside silero-vad's own ways from waveforms
that are decoded and resampled already: its loop over windows with its TorchScript model and, where onnxruntime is
installed, with its ONNX model, and its ONNX model of whole sequences.

Part "words": 1,000 samples of Full-Duplex-Bench v1 scored from their word times, files read included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duologue.audio.babble import babble
from duologue.audio.vad import VadConfig, detect_speech_files
from duologue.audio.wave import Audio, open_audio, read_audio, write_audio
from duologue.base.files import write_json
from duologue.bench.fdb_v1 import Options, score_task
from made import made

VAD_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: `per_second` in `unit` per second, and how many times faster Duologue is (NaN: not compared)."""

    part: str
    name: str
    seconds: float
    per_second: float
    unit: str
    ratio: float = float("nan")


def generate(folder: Path, rate: int, files: int, seconds: float) -> list[Path]:
    """Write two-channel recordings of speech-like sound as 16-bit WAV."""
    paths = [folder / f"{rate}-{i}.wav" for i in range(files)]
    for i, path in enumerate(paths):
        rows = [babble(seconds, rate, seed=2 * i + side)[0] for side in range(2)]
        write_audio(path, Audio(np.stack(rows), rate))
    return paths


def part_vad(options: argparse.Namespace) -> list[Row]:
    """Rows of the part "vad"."""
    if options.audio:
        return measure_vad(options.audio, "given files", options)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for rate in options.rates:
            paths = generate(Path(folder), rate, options.files, options.seconds)
            rows += measure_vad(paths, f"{rate / 1000:g} kHz", options)
    return rows


def measure_vad(paths: Sequence[Path], label: str, options: argparse.Namespace) -> list[Row]:
    """Measure one set of files. Upstream gets waveforms that are decoded and resampled already, and fewer of them."""
    part = f"vad, {label}"
    heard = sum(_channel_seconds(path) for path in paths)
    waves = _some_waves(paths, options.upstream_seconds)
    upstream_heard = sum(len(wave) for wave in waves) / VAD_RATE
    tasks: dict[str, Callable[[], object]] = {
        "Duologue, silero, from files": lambda: detect_speech_files(paths),
        "Duologue, energy, from files": lambda: detect_speech_files(paths, VadConfig(backend="energy")),
        "decode only": lambda: [_channel_seconds(path) for path in paths],
        "decode and resample only": lambda: [read_audio(path).resampled(VAD_RATE) for path in paths],
    }
    speeds = {name: heard / _best(task, options.repeats) for name, task in tasks.items()}
    rows = [Row(part, name, heard / speed, speed, "channel s") for name, speed in speeds.items()]
    for name, loop in upstream_loops().items():
        seconds = _best(partial(_each, loop, waves), 1)
        ratio = speeds["Duologue, silero, from files"] * seconds / upstream_heard
        rows.append(Row(part, name, seconds, upstream_heard / seconds, "channel s", ratio))
    return rows


def upstream_loops() -> dict[str, Callable[[NDArray[np.float32]], object]]:
    """silero-vad's own ways from a 16 kHz waveform to intervals: those that can run here."""
    import torch
    from silero_vad import get_speech_timestamps, load_silero_vad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jit = load_silero_vad()
    loops: dict[str, Callable[[NDArray[np.float32]], object]] = {
        "silero-vad, TorchScript loop": lambda wave: get_speech_timestamps(torch.from_numpy(wave), jit)
    }
    if find_spec("onnxruntime"):
        from silero_vad import get_speech_timestamps_sequence

        onnx, sequence = load_silero_vad(onnx=True), load_silero_vad(sequence=True)
        loops["silero-vad, ONNX loop"] = lambda wave: get_speech_timestamps(torch.from_numpy(wave), onnx)
        loops["silero-vad, ONNX sequence"] = lambda wave: get_speech_timestamps_sequence(wave, sequence)
    return loops


def part_words(options: argparse.Namespace) -> list[Row]:
    """Rows of the part "words": each task that needs no audio, in two modes. No other tool scores these tasks."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_samples(root, options.samples)
        for task in ("pause_handling", "smooth_turn_taking", "user_interruption"):
            for mode in ("compat", "corrected"):
                seconds = _best(partial(score_task, root, task, Options(mode=mode), {}), options.repeats)
                rows.append(Row("words", f"{task}, {mode}", seconds, options.samples / seconds, "samples"))
    return rows


def write_samples(root: Path, n: int) -> None:
    """Write `n` sample folders with 60 words each and the events of three tasks."""
    rng = np.random.default_rng(0)
    for i in range(n):
        starts = np.sort(rng.uniform(0, 30, 60))
        chunks = [{"text": "word", "timestamp": [float(s), float(s) + 0.2]} for s in starts]
        folder = root / str(i)
        write_json(folder / "output.json", {"text": "word " * 60, "chunks": chunks}, durable=False)
        write_json(folder / "pause.json", [{"text": "[PAUSE]", "timestamp": [4.0, 5.0]}], durable=False)
        write_json(folder / "turn_taking.json", [{"text": "[TURN-TAKING]", "timestamp": [9.0, 9.4]}], durable=False)
        event = {"context": "One.", "interrupt": "Two.", "timestamp": [12.0, 14.0]}
        write_json(folder / "interrupt.json", [event], durable=False)


def _channel_seconds(path: Path) -> float:
    with open_audio(path) as reader:
        return sum(block.size for block in reader.blocks(1 << 18)) / reader.rate


def _some_waves(paths: Sequence[Path], seconds: float) -> list[NDArray[np.float32]]:
    """Channels at 16 kHz, of the first files, up to `seconds` in all."""
    waves: list[NDArray[np.float32]] = []
    left = round(seconds * VAD_RATE)
    for path in paths:
        for row in read_audio(path).resampled(VAD_RATE).samples:
            if left > 0:
                waves.append(row[:left])
                left -= len(waves[-1])
    return waves


def _each(loop: Callable[[NDArray[np.float32]], object], waves: Sequence[NDArray[np.float32]]) -> None:
    for wave in waves:
        loop(wave)


def _best(task: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest run; one run before it warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return min(times[1:])


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {"vad": part_vad, "words": part_words}
"""Every part of this benchmark: a function from the options to its rows."""


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    cells = [("part", "what", "seconds", "per second", "Duologue is")]
    for row in rows:
        ratio = "" if np.isnan(row.ratio) else f"{row.ratio:.1f}x faster"
        cells.append((row.part, row.name, f"{row.seconds:.3f}", f"{row.per_second:,.0f} {row.unit}", ratio))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument(
        "--audio", nargs="+", type=Path, default=[], help="recordings to use in place of generated ones"
    )
    parser.add_argument("--rates", nargs="+", type=int, default=[16_000, 24_000, 48_000], help="Hz of generated audio")
    parser.add_argument("--files", type=int, default=32, help="generated two-channel files of each rate")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each generated file")
    parser.add_argument("--upstream-seconds", type=float, default=120.0, help="audio for the slower tools")
    parser.add_argument("--samples", type=int, default=1000, help="sample folders of the part words")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the fastest counts")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    rows = [row for part in options.parts for row in PARTS[part](options)]
    print(table(rows))
    if options.json:
        write_json(options.json, {"made": made("scoring.py", arguments, threads=1), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
