"""Alignments of nano beside each other: the paper's ablations and other methods, over seeds, on equal segments.

    python benchmarks/align_table.py -o runs/table --seeds 0 1 2              everything: 12 variants, 10 minutes a run
    python benchmarks/align_table.py -o runs/table --only whole no-pause ...  some of it; runs that are there are kept
    ... --steps 8 --held-out 32 --threads 1                                   shorter runs, on one core
    duologue compare runs/table/*                                             the same numbers, all metrics

Each run is `duologue demo` with a few settings changed: the same segments to learn from and (of the part dev) to
measure on, draws and length. Methods keep their form and take the demo's sizes and rate, so that rows compare; the
papers' own settings are the recipes.

The table and the file of --json say by which rules rewards were taken, on which part, with which segments (hashes) and
at which commits. A run that is there is kept only if it was made with these settings on that part.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from duologue.base.config import read_yaml, to_dict
from duologue.base.files import read_json, write_json
from duologue.bench.compare import interval
from duologue.bench.metrics import METRICS
from made import made, segment_hashes

PART = "dev"
"""Of the shipped segments: the other is for reports, once a release."""
RECIPE = "nano-demo"
VARIANTS: dict[str, tuple[str, ...]] = {
    "whole": (),
    "no-pause": ("rollouts.axes=[turn_taking, backchannel, interruption]",),
    "no-turn": ("rollouts.axes=[pause, backchannel, interruption]",),
    "no-judge": ("rewards.proxy=false",),
    "no-context": ("rollouts.context=0",),
    "wavalign": ("update.imitation={}",),
    "aspirin": ("update.projection=sum_of_logits", "update.logprob_under=model", "guard.entropy=null"),
    "two-actions": ("update.projection=marginal", "update.logprob_under=model"),
    "duplexpo": ("rewards.proxy=false", "rewards.duplexpo={}", "rollouts.window=[1, 2]"),
    "ppo": ("update.critic={}",),
    "dpo": ("update.preference={}", "update.logprob_under=model"),
    "all-tokens": ("update.tokens=all",),
}  # fmt: skip
SHOWN = (
    "reward_pause", "reward_turn_taking", "reward_backchannel", "reward_interruption", "pause_take_over",
    "turn_taking_answered", "proxy_reward", "words_heard", "sound_log_likelihood",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="by default the recipe's")
    parser.add_argument("--held-out", type=int, default=64, help="segments of each axis")
    parser.add_argument("--threads", type=int, help="by default all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows = {}
    folders: dict[Path, Sequence[str]] = {}
    for name in options.only:
        changes = VARIANTS[name] + (() if options.steps is None else (f"steps={options.steps}",))
        size = ["--part", PART, "--held-out", str(options.held_out)]
        size += [] if options.threads is None else ["--threads", str(options.threads)]
        named = {options.out / f"{name}-{seed}": seed for seed in options.seeds}
        results = [run(folder, changes, seed, size) for folder, seed in named.items()]
        folders |= dict.fromkeys(named, changes)
        shared = [m for m in SHOWN if all(m in r["difference"] for r in results)]
        rows[name] = {m: interval([r["difference"][m][0] for r in results]) for m in shared}
        print(line(name, rows[name]), flush=True)
    about = basis(folders)
    print("\n" + "; ".join(f"{name} {value}" for name, value in about.items()))
    print("\n| change of | " + " | ".join(METRICS[m][0] for m in SHOWN) + " |\n" + "| --- " * (len(SHOWN) + 1) + "|")
    for name, row in rows.items():
        print(line(name, row))
    if options.json:
        known = {name: {m: [None if math.isnan(x) else x for x in found] for m, found in row.items()}
                 for name, row in rows.items()}  # fmt: skip
        write_json(
            options.json, {"made": made("align_table.py", arguments, options.threads or 0), **about, "rows": known}
        )
    return 0


def run(folder: Path, changes: Sequence[str], seed: int, size: Sequence[str] = ()) -> dict[str, dict[str, list[float]]]:
    """The result of a demo, made unless it is there."""
    if (folder / "result.json").is_file():
        check_kept(folder, changes)
    else:
        command = ["duologue", "demo", "--recipe", RECIPE, "--output", str(folder), "--seed", str(seed)]
        command += ["--scenarios", "0", "--shown", "0", *size, *(["--resume"] if folder.is_dir() else [])]
        subprocess.run([*command, *(("--set", *changes) if changes else ())], check=True)
    found = read_json(folder / "result.json")
    assert isinstance(found, dict)
    return found


def check_kept(folder: Path, changes: Sequence[str]) -> None:
    """Errors: SystemExit, the run that is there was made with other settings, or measured on another part."""
    from duologue.train.align import read_settings

    said = read_yaml(folder / "config.yaml")
    part = (said.get("config") or {}).get("part")
    if part != PART:
        raise SystemExit(f"{folder}: holds a run measured on {part}, not on {PART}; pass another folder with -o")
    if said.get("record", {}).get("settings") != to_dict(read_settings(RECIPE, changes)):
        raise SystemExit(f"{folder}: holds a run with other settings than now; pass another folder with -o")


def basis(folders: Mapping[Path, Sequence[str]]) -> dict[str, Any]:
    """What the numbers of runs rest on: rules of rewards, part, hashes of the segments by part, commits.

    Args:
        folders: of the runs, with the changes of each.
    """
    from duologue.train.align import read_settings

    commits = {str(read_yaml(folder / "config.yaml").get("commit")) for folder in folders}
    rules = {read_settings(RECIPE, changes).rewards.rules for changes in folders.values()}
    return {"rules": sorted(rules), "part": PART, "segments": segment_hashes(), "commits": sorted(commits)}


def line(name: str, row: dict[str, tuple[float, float, int]]) -> str:
    return f"| {name} | " + " | ".join(cell(*row[m]) if m in row else "" for m in SHOWN) + " |"


def cell(mean: float, half: float, seeds: int) -> str:
    """A mean over seeds with its 95 % interval; of one seed there is none."""
    return f"{mean:+.3f}" if seeds == 1 else f"{mean:+.3f} ± {half:.3f}"


if __name__ == "__main__":
    sys.exit(main())
