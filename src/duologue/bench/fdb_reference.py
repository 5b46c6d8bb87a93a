"""Reference agents on the samples of Full-Duplex-Bench: what people, silence and simple machines score there.

They meet the user's speech as it is detected in input.wav, and are scored by the corrected rules on speech alone:
official rules read words, and they have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from duologue.axes.reference_agents import REFERENCE_AGENTS
from duologue.base.files import read_json
from duologue.base.report import Fact, Table
from duologue.bench import fdb_timing
from duologue.bench.fdb_page import SUMMARY_NAMES
from duologue.bench.fdb_played import in_its_place
from duologue.bench.fdb_v1 import TASKS, Reference, corrected_samples
from duologue.bench.hearing import Recordings
from duologue.bench.reference import SHOWN
from duologue.bench.results import TaskScore
from duologue.bench.summaries import summarise_corrected

COLUMNS = (
    "n_attempted", "take_over_rate", "latency_s", "n_stop", "stop_latency_s", "talked_through_rate",
    "backchannel_frequency", "jsd",
)  # fmt: skip
"""Of a summary, what is shown where anybody has it."""
NO_WORDS = "Reference agents are not measured: official rules read words, and they have none (use --mode corrected)."
SYNTHETIC = "No person speaks in these samples: users are synthetic, and the row human is a script."


def reference_summaries(
    root: Path, task: str, recordings: Recordings, reference: Reference | None = None, agents: Sequence[str] = SHOWN
) -> dict[str, dict[str, Any]]:
    """The summary of each agent on the samples of a task, in the corrected mode.

    Args:
        root: the samples.
        task: of v1, or "timing"; there are none of others.
        recordings: what was heard in each input.wav.
        reference: of the backchannel task.
        agents: by name. The human is only in samples whose transcription.json has two speakers.

    Returns:
        By agent, of those that could be scored in any sample.
    """
    found = {}
    for name in agents:
        play = partial(in_its_place, REFERENCE_AGENTS[name])
        if task == "timing":
            samples = fdb_timing.corrected_samples(root, recordings, play)
        elif task in TASKS:
            samples = corrected_samples(root, task, reference, recordings, play)
        else:
            continue
        there = {sample: score for sample, score in samples.items() if score.status != "missing"}
        if there:
            found[name] = fdb_timing.summarise(there) if task == "timing" else summarise_corrected(task, there)
    return found


def reference_table(title: str, model: str, score: TaskScore, summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    """A model beside reference agents on one task; agents that were not scored have no numbers.

    Args:
        title: of the table.
        model: what the model is called.
        score: of the model.
        summaries: `reference_summaries` of the same samples.
    """
    rows = {model: score.summary, **{REFERENCE_AGENTS[n].label: summaries.get(n, {}) for n in SHOWN}}
    shown = [key for key in COLUMNS if any(row.get(key) is not None for row in rows.values())]
    headers = ("", *(SUMMARY_NAMES.get(key, key.replace("_", " ")) for key in shown))
    cells: list[tuple[Fact, ...]] = [(name, *(row.get(key) for key in shown)) for name, row in rows.items()]
    note = "" if summaries else NO_WORDS
    return Table(title, headers, cells, note=note)


def is_synthetic(root: Path) -> bool:
    """Whether any sample's about.json says that no person speaks in it."""
    return any(read_json(path).get("synthetic") is True for path in sorted(root.glob("*/about.json")))
