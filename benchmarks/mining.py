"""How fast conversations are mined on one core, and in how much memory.

    python benchmarks/mining.py                      all parts
    python benchmarks/mining.py --parts metadata     one of them
    python benchmarks/mining.py --json mining.json   also write the numbers

Part "metadata": speech times are given, no sound; hours of conversation per minute, journal and index included (target:
100). Part "words": the same from word times. Part "audio": speech is detected in FLAC files, decoding and resampling
included, without clips; times real time per channel (target: 400); and how many clips are cut a second. Part "memory":
the peak memory of this process after 100, 200, 500 and 1,000 hours, which must not grow once the samples are full.
Each conversation is mined with each speaker as the user, and counted once.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from duologue.audio.babble import babble
from duologue.audio.wave import Audio, write_audio
from duologue.base.files import write_json
from duologue.corpus.candidates import MiningConfig
from duologue.corpus.conversation import Conversation, Side, SoundRef
from duologue.corpus.mining import mine
from duologue.dialogue.timeline import Track, Word
from made import made

TALK_S = 600.0
"""Seconds of a made-up conversation: the length of Fisher's."""


def talks(hours: float, *, words: bool = False, seed: int = 0) -> Iterator[Conversation]:
    """Two people who take turns of 1 to 4 stretches of speech, with backchannels and early starts; only their times."""
    for i in range(round(hours * 3600 / TALK_S)):
        rng = np.random.default_rng((seed, i))
        sides: list[list[tuple[float, float]]] = [[], []]
        now, side = 0.5, 0
        while now < TALK_S - 25:
            for _ in range(rng.integers(1, 5)):
                length = rng.uniform(0.8, 5)
                if rng.random() < 0.2:
                    sides[1 - side].append((now + 0.3, now + 0.7))
                sides[side].append((now, now + length))
                now += length + rng.uniform(0.2, 0.9)
            now, side = now + rng.normal(-0.3, 0.8), 1 - side
        made_sides = [Side(speaker="", words=spoken(s)) if words else Side(speaker="", speech=Track.of(s).speech)
                      for s in sides]  # fmt: skip
        yield Conversation(id=f"{seed}/{i}", corpus="made", duration=TALK_S, sides=(made_sides[0], made_sides[1]))


def spoken(spans: list[tuple[float, float]]) -> tuple[Word, ...]:
    """Words of about 0.3 s that fill the spans."""
    made_words: list[Word] = []
    for start, end in sorted(spans):
        edges = np.linspace(start, end, max(2, round((end - start) / 0.3) + 1)).tolist()
        made_words += [Word("word", a, b) for a, b in pairwise(edges)]
    return tuple(made_words)


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def part_metadata(hours: float, *, words: bool) -> dict[str, float]:
    """Hours per minute from speech times or word times. Making the conversations up is not counted."""
    given = list(talks(hours, words=words))
    with tempfile.TemporaryDirectory() as folder:
        seconds = timed(lambda: mine(given, Path(folder) / "out", MiningConfig()))
    return {"hours": hours, "seconds": seconds, "hours_per_minute": hours / seconds * 60}


def part_audio(files: int, seconds: float, rate: int) -> dict[str, float]:
    """Times real time per channel from FLAC files, with clips."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = []
        for i in range(files):
            path = folder / f"{i}.flac"
            write_audio(path, Audio(np.stack([babble(seconds, rate, 2 * i + s)[0] for s in (0, 1)]), rate))
            sides = [Side(speaker="", sound=SoundRef(path=path, channel=c)) for c in (0, 1)]
            given.append(Conversation(id=str(i), corpus="made", duration=seconds, sides=(sides[0], sides[1])))
        config = MiningConfig(per_axis=20)
        mine(given[:1], folder / "warm", config)
        taken = timed(lambda: mine(given, folder / "detected", config, clips=False))
        cutting = timed(lambda: mine(given, folder / "cut", config)) - taken
        clips = len(list((folder / "cut" / "clips").rglob("*.flac")))
    heard = 2 * files * seconds
    row = {"rate": rate, "seconds": taken, "channel_seconds": heard, "times_real_time": heard / taken}
    return row | {"clips": clips, "clips_per_second": clips / cutting}


def part_memory(hours: Sequence[float], per_axis: int) -> list[dict[str, float]]:
    """Peak memory after so many hours, in MB."""
    import resource

    peaks: list[dict[str, float]] = []

    def watched() -> Iterator[Conversation]:
        done, marks = 0.0, list(hours)
        for talk in talks(max(hours)):
            yield talk
            done += talk.duration / 3600
            if marks and done >= marks[0] - 1e-6:
                peaks.append({"hours": marks.pop(0), "peak_mb": peak()})

    def peak() -> float:
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return kib / (1024 if sys.platform != "darwin" else 1024**2) * 1.048576

    start = peak()
    with tempfile.TemporaryDirectory() as folder:
        mined = mine(watched(), Path(folder) / "out", MiningConfig(per_axis=per_axis))
        journal = sum(p.stat().st_size for p in (Path(folder) / "out" / "parts").iterdir()) / 1e6
    found = float(sum(mined.tally.found.values()))
    end = {"hours": max(hours), "peak_mb": peak(), "start_mb": start, "journal_mb": journal, "found": found}
    return [*peaks, end]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("memory", "metadata", "words", "audio")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--hours", type=float, default=200.0, help="of parts metadata and words")
    parser.add_argument("--memory-hours", type=float, nargs="+", default=[100.0, 200.0, 500.0, 1000.0])
    parser.add_argument("--per-axis", type=int, default=2000, help="of part memory")
    parser.add_argument("--files", type=int, default=8, help="of part audio")
    parser.add_argument("--seconds", type=float, default=300.0, help="of each file")
    parser.add_argument("--rates", type=int, nargs="+", default=[8000, 16000, 48000])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    results: dict[str, object] = {"made": made("mining.py", arguments, 1)}
    if "memory" in options.parts:  # first, since the peak is the process' own
        rows = part_memory(options.memory_hours, options.per_axis)
        results["memory"] = rows
        for row in rows[:-1]:
            print(f"memory: peak {row['peak_mb']:.0f} MB after {row['hours']:.0f} h")
        last = rows[-1]
        print(f"memory: peak {last['peak_mb']:.0f} MB with the index written ({last['start_mb']:.0f} MB at the start); "
              f"{last['found']:.0f} found, journal {last['journal_mb']:.0f} MB")  # fmt: skip
    for name in ("metadata", "words"):
        if name in options.parts:
            row = part_metadata(options.hours, words=name == "words")
            results[name] = row
            print(f"{name}: {row['hours_per_minute']:.0f} h of conversation per minute and core")
    if "audio" in options.parts:
        measured = [part_audio(options.files, options.seconds, rate) for rate in options.rates]
        results["audio"] = measured
        for row in measured:
            name, speed, cuts = f"{row['rate'] / 1000:g} kHz", row["times_real_time"], row["clips_per_second"]
            print(f"audio, {name}: {speed:.0f} times real time per channel and core, {cuts:.0f} clips cut a second")
    if options.json is not None:
        write_json(options.json, results)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
