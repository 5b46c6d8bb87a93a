"""How well segments are found from sound alone: precision and recall against the activity that was planted.

    duologue simulate -o corpus --hours 3.2 --seed 7
    python benchmarks/mining_by_ear.py corpus

The same finders run on the truth beside the sound and on what the speech detector hears. A segment is found if one of
the same axis and user covers at least half of their union. Criteria are hard edges: a turn of 4.98 s may well be heard
as 5.02 s. The detector is used as `duologue mine` uses it, and with silero's own padding of 30 ms beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from duologue.audio.vad import VadConfig, detect_speech_files
from duologue.axes import AXES
from duologue.axes.finding import Found
from duologue.base.files import write_json
from duologue.base.progress import track
from duologue.corpus.candidates import MiningConfig
from duologue.corpus.simulate import SOUND, TRUTH, read_truth
from duologue.dialogue.timeline import Timeline, Track
from made import made


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="what `duologue simulate` wrote")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    results = {name: listened(options.corpus, vad) for name, vad in (("as mined", MINED), ("padded", VadConfig()))}
    if options.json:
        write_json(options.json, {"made": made("mining_by_ear.py", arguments, 1), **results})
    return 0


MINED = MiningConfig().vad


def listened(corpus: Path, vad: VadConfig) -> list[dict[str, object]]:
    """A row for each axis."""
    planted, heard, both = (dict.fromkeys(AXES, 0) for _ in range(3))
    for path in track(sorted((corpus / TRUTH).glob("*.json")), "listening"):
        truth = read_truth(path)
        (spans,) = detect_speech_files([corpus / SOUND / f"{path.stem}.wav"], vad)
        detected = Timeline(Track(spans[0]), Track(spans[1]), truth.duration)
        for a, b in ((truth, detected), (truth.swapped(), detected.swapped())):
            for name, axis in AXES.items():
                known, found = axis.find(a), axis.find(b)
                planted[name] += len(known)
                heard[name] += len(found)
                both[name] += matched(known, found)
    rows: list[dict[str, object]] = []
    print(f"padding {vad.pad_s:g} s")
    for name in AXES:
        precision, recall = both[name] / max(heard[name], 1), both[name] / max(planted[name], 1)
        rows.append({"axis": name, "planted": planted[name], "heard": heard[name], "both": both[name],
                     "precision": precision, "recall": recall})  # fmt: skip
        print(
            f"{name:14} {planted[name]:5} planted {heard[name]:5} heard: precision {precision:.3f} recall {recall:.3f}"
        )
    return rows


def matched(known: list[Found], found: list[Found]) -> int:
    """How many of the known segments have one of their own among the found."""
    left, n = list(found), 0
    for segment in known:
        for other in left:
            shared = min(segment.end, other.end) - max(segment.start, other.start)
            whole = max(segment.end, other.end) - min(segment.start, other.start)
            if shared >= whole / 2:
                left.remove(other)
                n += 1
                break
    return n


if __name__ == "__main__":
    sys.exit(main())
