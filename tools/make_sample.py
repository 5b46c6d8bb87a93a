#!/usr/bin/env python3
"""Make the sample corpus that the package ships: simulate, pack as Ogg Opus, split into train and held-out.

A development tool, not part of the package. It needs the extra `simulate`.

    duologue simulate -o /tmp/sample --hours 0.5 --seed 20261121 --knobs.interruptions 3
    python tools/make_sample.py /tmp/sample --out src/duologue/corpus/sample

Interruptions come three times as often as between people, so that half an hour holds all situations. Which part a
conversation belongs to hangs on its name alone: about a third is held out. Ogg streams have random numbers, so the
bytes (and the recorded hash) change from run to run; the sound does not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import soundfile

from duologue.corpus.sample import content_hash

COMPRESSION = 0.97
"""libsndfile's measure for Opus: about 11 kbit/s for a channel of talk. Each side is a file of its own: coded together,
one side's speech comes through in the other's silence at -29 dB; apart, nothing does above -48 dB."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="what `duologue simulate` wrote")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    for old in (options.out / part for part in ("train", "heldout")):  # the NOTICE stays
        if old.exists():
            shutil.rmtree(old)
    seconds: dict[str, list[float]] = {"train": [], "heldout": []}
    for line in (options.corpus / "data.jsonl").read_text().splitlines():
        source = options.corpus / json.loads(line)["path"]
        part = "heldout" if int(hashlib.sha256(source.stem.encode()).hexdigest(), 16) % 3 == 0 else "train"
        (options.out / part).mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(source, dtype="float32")
        words = json.loads(source.with_suffix(".json").read_text())["alignments"]
        for channel, (role, label) in enumerate((("agent", "SPEAKER_MAIN"), ("user", "SPEAKER_USER"))):
            target = options.out / part / f"{source.stem}_{role}.opus"
            with soundfile.SoundFile(target, "w", rate, 1, "OPUS", format="OGG", compression_level=COMPRESSION) as file:
                file.write(samples[:, channel])
            chunks = [{"text": word, "timestamp": times} for word, times, whose in words if whose == label]
            text = json.dumps({"text": " ".join(c["text"] for c in chunks), "chunks": chunks}, separators=(",", ":"))
            target.with_suffix(".json").write_text(text + "\n")
        seconds[part].append(len(samples) / rate)
    settings = json.loads((options.corpus / "simulate.json").read_text())
    record = {
        "what": "synthetic two-channel talk, left the agent, right the user: people's chats in synthetic voices",
        "minutes": {part: round(sum(found) / 60, 2) for part, found in seconds.items()},
        "conversations": {part: len(found) for part, found in seconds.items()},
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
