"""The command line: verbs -> functions. Each verb is imported only when it is used."""

from __future__ import annotations

from collections.abc import Sequence

import duologue
from duologue.base.command import Group, Verb, run

COMMANDS = Group(
    "Full-duplex speech models: who speaks when, measured, aligned and served.",
    {
        "demo": Verb("align nano on shipped segments, and show what changed", "duologue.demo:main"),
        "talk": Verb("run a model, or a server, against a recorded user", "duologue.client.talk:main"),
        "serve": Verb("talk with a model in real time: web page and WebSocket", "duologue.serve.command:main"),
        "score": Verb("score recorded outputs on a benchmark task", "duologue.bench.score:main"),
        "table": Verb("tabulate results beside published numbers", "duologue.bench.table:main"),
        "evaluate": Group(
            "Run a model through a benchmark and score it.",
            {
                "nano": Verb("a small model against its targets", "duologue.bench.evaluate:main"),
                "align": Verb("what an alignment changed, and if it listens", "duologue.bench.evaluate_align:main"),
                "fdb-v1": Verb("a model through Full-Duplex-Bench v1", "duologue.bench.evaluate_fdb:main_v1"),
                "fdb-v1.5": Verb("a model through Full-Duplex-Bench v1.5", "duologue.bench.evaluate_fdb:main_v15"),
            },
        ),
        "reference": Verb("what people, silence and simple machines earn on segments", "duologue.bench.reference:main"),
        "describe": Verb("timing statistics of two-channel recordings", "duologue.bench.describe:main"),
        "mine": Verb("cut a two-channel corpus into segments for each axis", "duologue.corpus.mine:main"),
        "simulate": Verb("make two-channel conversations with human timing", "duologue.corpus.simulate:main"),
        "encode": Verb("codec tokens of a corpus or of segments, cached on disk", "duologue.corpus.encode:main"),
        "train": Group(
            "Train a codec or a language model.",
            {
                "codec": Verb("a codec from folders of recordings", "duologue.train.codec:main"),
                "tokenizer": Verb("a text tokenizer from the words of corpora", "duologue.train.tokenizer:main"),
                "lm": Verb("a language model from conversations as codec tokens", "duologue.train.lm:main"),
            },
        ),
        "align": Verb("reinforcement learning for interactivity", "duologue.train.align:main"),
        "compare": Verb("runs side by side: options, metrics, seeds", "duologue.bench.compare:main"),
        "speak": Verb("say a given text in a model's voice", "duologue.engine.speak:main"),
        "transcribe": Verb("write down what is said in recordings", "duologue.engine.transcribe:main"),
        "export": Verb("write a model as a folder that upstream's loaders read", "duologue.engine.export:main"),
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 2 the user's mistake, 1 anything else."""
    return run(COMMANDS, argv, version=duologue.__version__)
