#!/usr/bin/env python3
"""Write the language model whose weights are the mean of several: stages of one training, or runs from one.

A development tool, not part of the package.

    python tools/mean_lm.py later/model=0.5 earlier/model=0.35 nano=0.15 -o mean

Weights of runs that began at one point lie in one valley, and their mean does better on held-out data than each
(Wortsman et al., 2022, arXiv 2203.05482). Codec, tokenizer and what else the folder tells are the first one's: name the
one that has learned from most.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from duologue.engine.bundle import load
from duologue.engine.export import export


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL=WEIGHT", help="weights add up to one")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        parts = [(name, float(weight)) for name, weight in (model.rsplit("=", 1) for model in options.models)]
    except ValueError:
        sys.exit("name each as MODEL=WEIGHT, such as nano=0.5")
    if abs(sum(weight for _, weight in parts) - 1) > 1e-6:
        sys.exit(f"the weights add up to {sum(weight for _, weight in parts):g}: they must be parts of one")
    found = [load(name, device="cpu", dtype="fp32", codec=number == 0) for number, (name, _) in enumerate(parts)]
    if any(bundle.lm.config != found[0].lm.config for bundle in found):
        sys.exit("these are not of one shape: name stages of one training")
    states = [(bundle.lm.state_dict(), weight) for bundle, (_, weight) in zip(found, parts, strict=True)]
    mean = {name: sum(weight * state[name] for state, weight in states) for name in states[0][0]}
    found[0].lm.load_state_dict(mean)
    export(found[0], options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
