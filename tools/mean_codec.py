#!/usr/bin/env python3
"""Write the codec whose decoder is the mean of several, which encode alike: stages of one training, or runs from one.

A development tool, not part of the package.

    python tools/mean_codec.py sound sound3 sound4 -o mean.safetensors

Every code stays what it was. Means of weights of runs that began at one point (Wortsman et al., 2022, arXiv 2203.05482)
do about as well as the best of them in each respect.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from duologue.codec.checkpoint import load_codec, save_codec
from duologue.codec.split import SplitCodec, encodes
from duologue.codec.tokens import codes_hash


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codecs", nargs="+", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    found = [load_codec(path, device="cpu") for path in options.codecs]
    parts = [codec for codec in found if isinstance(codec, SplitCodec)]
    if len(parts) < len(found) or len({codes_hash(codec) for codec in parts}) > 1:
        sys.exit("these do not encode alike: name stages that were trained with --learning.train decoder")
    states = [codec.state_dict() for codec in parts]
    mean = {
        name: tensor if encodes(name) else torch.stack([state[name] for state in states]).mean(0)
        for name, tensor in states[0].items()
    }
    parts[0].load_state_dict(mean)
    save_codec(parts[0], options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
