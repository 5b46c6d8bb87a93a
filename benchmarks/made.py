"""How a benchmark's result was made: what stands beside the numbers in benchmarks/results/."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path


def made(script: str, arguments: Sequence[str] | None, threads: int) -> dict[str, object]:
    """Date, command, device and versions of a run; `arguments` None are this process's."""
    import torch

    given = sys.argv[1:] if arguments is None else arguments
    return {
        "date": date.today().isoformat(),
        "command": shlex.join(["python", f"benchmarks/{script}", *given]),
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "threads": threads,
    }


def segment_hashes() -> dict[str, str]:
    """Hashes of the shipped segments by part."""
    from duologue.base.files import read_json
    from duologue.corpus.sample import sample_segments

    about = read_json(sample_segments("train").parent / "segments.json")
    return {part: held["hash"] for part, held in about.items()}


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
