#!/usr/bin/env python3
"""Make the sample corpus that the package ships: simulate, pack as Ogg Opus, split into train and held-out.

A development tool, not part of the package. It needs the extra `simulate`.

    duologue simulate -o /tmp/sample --hours 0.5 --seed 20261121 --knobs.interruptions 3
    python tools/make_sample.py /tmp/sample --out src/duologue/corpus/sample

Interruptions come three times as often as between people, so that half an hour holds all situations. Which part a
conversation belongs to hangs on its name alone: about a third is held out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile

from duologue.corpus.sample import content_hash

COMPRESSION = 0.97
"""libsndfile's measure for Opus: about 22 kbit/s for two channels of speech."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="what `duologue simulate` wrote")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.out.exists():
        shutil.rmtree(options.out)
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "heldout": []}
    for line in (options.corpus / "data.jsonl").read_text().splitlines():
        source = options.corpus / json.loads(line)["path"]
        part = "heldout" if int(hashlib.sha256(source.stem.encode()).hexdigest(), 16) % 3 == 0 else "train"
        target = options.out / part / "talks" / f"{source.stem}.opus"
        target.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(source, dtype="float32")
        with soundfile.SoundFile(target, "w", rate, 2, "OPUS", format="OGG", compression_level=COMPRESSION) as file:
            file.write(samples)
        words = json.loads(source.with_suffix(".json").read_text())
        target.with_suffix(".json").write_text(json.dumps(words, separators=(",", ":")) + "\n")
        rows[part].append({"path": f"talks/{target.name}", "duration": len(samples) / rate})
    for part, listed in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in listed)
        (options.out / part / "data.jsonl").write_text(text)
    settings = json.loads((options.corpus / "simulate.json").read_text())
    record = {
        "what": "synthetic two-channel talk, left the agent, right the user: people's chats in synthetic voices",
        "minutes": {part: round(sum(row["duration"] for row in listed) / 60, 2) for part, listed in rows.items()},
        "conversations": {part: len(listed) for part, listed in rows.items()},
        "text": "chitchat-dataset 0.9.0 (MIT), cleaned",
        "voices": "Pico by SVOX, through py-nanotts (Apache-2.0), changed in pitch, tempo and loudness",
        "recipe": settings,
        "hash": content_hash(options.out),
    }
    (options.out / "sample.json").write_text(json.dumps(record, indent=2) + "\n")
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {record['minutes']} minutes, {size / 1e6:.1f} MB, hash {record['hash']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
