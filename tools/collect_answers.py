#!/usr/bin/env python3
"""Write down what people and models answer in the shipped segments, as plain words.

A development tool, not part of the package. It makes what `tools/train_proxy.py` learns the model's broken words from,
and the fixture that the proxy is tested on:

    python tools/collect_answers.py train --model base=nano --repeats 6 -o answers.json
    python tools/collect_answers.py dev --model base=nano --model aligned=runs/align-1/model -o tests/data/answers.json

Segments are played as in `duologue demo`: the recipe's shape, 4 s of context, draws from the seed. A file holds, for
each exchange, the user's turn, the human's answer, and a list of each model's answers, one a repeat.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from duologue.base.files import write_json
from duologue.bench.before_after import SAYING, Trial, roller_of
from duologue.bench.content import human_scene
from duologue.corpus.sample import sample_segments
from duologue.dialogue.exchange import Exchange, exchanges
from duologue.engine.bundle import load
from duologue.train.align import read_segments, read_settings
from duologue.train.align_learner import sampling_of, shaped
from duologue.train.align_settings import AlignSettings
from duologue.train.rollouts import Recorded, Rollout
from duologue.train.segment_scores import score_segments

CONTEXT_S = 4.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", help="of the shipped segments")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=MODEL", help="who answers, several")
    parser.add_argument("--repeats", type=int, default=1, help="rollouts of each segment by each model")
    parser.add_argument("--recipe", default="nano-demo", help="whose shapes and sampling")
    parser.add_argument("--whole", action="store_true", help="segments in full length, whatever the recipe says")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    settings = read_settings(options.recipe, (f"rollouts.slots={options.slots}",))
    models = dict(named.split("=", 1) for named in options.model)
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as work:
        for name, model in models.items():
            for (axis, segment, place), human, answers in answers_of(model, settings, options, Path(work)):
                row = rows.setdefault(
                    (axis, segment, place),
                    {"axis": axis, "segment": segment, "user": text(human.user), "human": text(human.agent)},
                )
                row[name] = [text(x) for x in answers]
    made = {"part": options.part, "recipe": options.recipe, "seed": options.seed, "models": list(models)}
    write_json(options.out, {**made, "exchanges": list(rows.values())})
    print(f"{options.out}: {len(rows)} exchanges, {options.repeats} answers of each of {', '.join(models)}")
    return 0


def answers_of(
    model: str, settings: AlignSettings, options: argparse.Namespace, work: Path
) -> list[tuple[tuple[str, str, int], Exchange, list[tuple[str, ...]]]]:
    """For each exchange (axis, segment, place): the human's, and the model's answers, one a repeat."""
    bundle = load(model, device="cpu", dtype="fp32")
    segments: Mapping[str, Sequence[Recorded]] = read_segments(
        sample_segments(options.part), SAYING, bundle, work / "tokens"
    )
    if not options.whole:
        segments = shaped(segments, replace(settings.rollouts, window=None))
    sampling = sampling_of(settings.rollouts, bundle.config.sampling)
    trial = Trial(
        segments=segments, settings=settings, sampling=sampling, context_s=CONTEXT_S, scenarios=0, seconds=0.0,
        seed=options.seed,
    )  # fmt: skip
    answers: dict[tuple[str, str, int], list[tuple[str, ...]]] = {}

    def also(axis: str, rollout: Rollout) -> dict[str, float]:
        for place, exchange in enumerate(exchanges(rollout.scene) or ()):
            answers.setdefault((axis, rollout.scene.id, place), []).append(exchange.agent)
        return {}

    score_segments(
        roller_of(bundle, trial), segments, sampling, settings.rewards, repeats=options.repeats, context_s=CONTEXT_S,
        seed=options.seed, also=also,
    )  # fmt: skip
    humans = {
        (axis, r.segment.id, place): exchange
        for axis, recorded in segments.items() for r in recorded
        for place, exchange in enumerate(exchanges(human_scene(r.segment)) or ())
    }  # fmt: skip
    return [(key, human, answers[key]) for key, human in humans.items()]


def text(words: Sequence[str]) -> str:
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
