"""Serving Moshi 7B's shapes on a GPU: how many talks one device holds in real time.

    python benchmarks/gpu_serving.py --json benchmarks/results/gpu_serving.json        random weights, bf16, CUDA
    python benchmarks/gpu_serving.py --model random:tiny --device cpu --slots 1 2 --seconds 3      to try it

For each number of slots a server of its own is filled with clients that talk in real time over the loopback (see
serving.py for what the times mean). A number of talks is held if 99 of 100 frames come less than 20 ms late and no
client's sound was dropped or missed. It stops at the first that is not held.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from duologue.base.files import write_json
from made import made
from serving import measure, serve

LATE_MS = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="random:moshi-7b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 8, 16, 24, 32, 48, 64])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--format", choices=("pcm", "opus"), default="pcm")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows: list[dict[str, object]] = []
    for slots in options.slots:
        with serve("--model", options.model, "--device", options.device, "--slots", str(slots)) as server:
            row = measure(server, slots, options.seconds, options.format)
        row["held"] = float(str(row["late_p99_ms"])) < LATE_MS and not row["starved_ms"] and not row["dropped_ms"]
        rows.append(row)
        if not row["held"]:
            break
    most = max((int(str(row["clients"])) for row in rows if row["held"]), default=0)
    print(f"{options.model} on {options.device}: {most} talks are held")
    if options.json:
        found = {"model": options.model, "device": device_name(options.device), "rows": rows, "held": most}
        write_json(options.json, {"made": made("gpu_serving.py", arguments, 1)} | found)
    return 0


def device_name(device: str) -> str:
    """What the device is."""
    import torch

    return torch.cuda.get_device_name() if device.startswith("cuda") else device


if __name__ == "__main__":
    sys.exit(main())
