"""Is the simulator's timing human? Hours of conversations arranged with a mock voice, measured by the human rules.

python benchmarks/simulate.py                       10 hours of chats
python benchmarks/simulate.py --hours 2 --seed 3    fewer, others
python benchmarks/simulate.py --json simulate.json  also write the numbers
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from duologue.base.files import write_json
from duologue.corpus.arrange import arrange
from duologue.corpus.mockvoice import mock_pair
from duologue.corpus.script import load_scripts
from duologue.corpus.selfcheck import check_plans
from duologue.corpus.sim_timing import Knobs
from duologue.corpus.spoken import Plan


def plans(source: str, hours: float, seed: int) -> list[Plan]:
    """Arrange scripts with mock voices until there are so many hours."""
    made: list[Plan] = []
    seconds = 0.0
    for number, script in enumerate(load_scripts(source, seed)):
        made.append(arrange(script, mock_pair(1000 * seed + number), Knobs(), seed))
        seconds += made[-1].duration
        if seconds >= hours * 3600:
            break
    return made


def main() -> int:
    """Arrange, measure, print; exit status 1 if something is not human."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="chitchat", help="chitchat, or a text file of conversations")
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    began = time.perf_counter()
    made = plans(options.source, options.hours, options.seed)
    arranged = time.perf_counter() - began
    with_words, speech = check_plans(made)
    print(f"mock voice, arranged in {arranged:.1f} s\n\n{with_words.text()}\n\nFrom speech alone:\n{speech.text()}")
    if options.json:
        write_json(options.json, {"words": with_words.to_json(), "speech": speech.to_json()})
    return 0 if with_words.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
