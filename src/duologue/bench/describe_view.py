"""What `duologue describe` shows: the tables that are printed, and the page with every recording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from duologue.base.charts import Reference, histogram
from duologue.base.report import Band, Cell, Fact, Figure, Lane, Page, Sample, Span, Table
from duologue.base.report.write import format_fact
from duologue.bench.conversations import Conversation
from duologue.dialogue.floor import find_floor
from duologue.dialogue.observe import FLOOR_QUANTITIES, QUANTITIES, Rules
from duologue.dialogue.reference import DISTRIBUTIONS, SECONDS, human_distribution, human_rate, human_seconds
from duologue.dialogue.silences import merged_line
from duologue.dialogue.statistics import Description, Summary
from duologue.dialogue.utterances import HumanRules, ipus

MAIN = {
    "human": (
        "ipu", "pause", "gap", "overlap", "turn", "floor_transfer_offset", "within_turn_pause", "backchannel",
        "backchannel_delay", "interruption", "barge_in", "insertion",
    ),
    "alignment": (
        "ipu", "pause", "gap", "overlap", "alignment_utterance", "alignment_pause", "alignment_offset",
        "alignment_backchannel",
    ),
}  # fmt: skip
"""Quantities that are printed; the page and the JSON have all."""
DRAWN = {
    "floor_transfer_offset": (-2.0, 3.0, 0.2),
    "alignment_offset": (-2.0, 3.0, 0.2),
    "heldner_edlund_offset": (-2.0, 3.0, 0.2),
    "within_turn_pause": (0.0, 3.0, 0.1),
    "pause": (0.0, 3.0, 0.1),
    "ipu": (0.0, 6.0, 0.2),
    "backchannel": (0.0, 1.0, 0.05),
    "overlap": (0.0, 2.0, 0.1),
}
"""Quantities that are drawn: from, to, bin width in seconds."""
PIPED_WIDTH = 110


def summary_tables(
    heard: Sequence[Conversation], single: Sequence[Description], pooled: Description, sides: tuple[str, str]
) -> list[Table]:
    """How time is shared out, the events beside human ones, and, of several recordings, one row for each."""
    title = f"{len(heard)} recording{'s' if len(heard) > 1 else ''}, {pooled.minutes:.1f} min"
    tables = [
        Table(f"{title}: seconds per minute", ("", "here", "human"), _time_rows(pooled, sides), decimals=2),
        event_table("Events", pooled, sides, MAIN[pooled.rules]),
    ]
    return [*tables, _file_table(heard, single, sides)] if len(heard) > 1 else tables


def _time_rows(pooled: Description, sides: tuple[str, str]) -> list[tuple[Fact, ...]]:
    names = {"agent_speaks": f"{sides[0]} speaks", "user_speaks": f"{sides[1]} speaks"}
    return [
        (names.get(key, key.replace("_", " ")), value, human_seconds(key) if key in SECONDS else None)
        for key, value in pooled.seconds_per_min.items()
    ]


def event_table(title: str, pooled: Description, sides: tuple[str, str], quantities: Sequence[str]) -> Table:
    """Counts, rates and medians beside the human ones, and the distance with its floor or why there is none."""
    headers = ("", f"n ({sides[0]} + {sides[1]})", "/min", "human", "median s", "human", "JSD (floor)")
    rows: list[tuple[Fact | Cell, ...]] = [
        (
            Cell(q.replace("_", " "), QUANTITIES[q]),
            f"{pooled.both[q].n} ({pooled.agent[q].n} + {pooled.user[q].n})",
            pooled.both[q].per_min,
            human_rate(q),
            pooled.both[q].p50_s,
            human_distribution(q).percentile(50) if q in DISTRIBUTIONS else None,
            distance_text(q, pooled.both[q], pooled.form_rule),
        )
        for q in quantities
    ]
    return Table(title, headers, rows, decimals=2)


def distance_text(quantity: str, summary: Summary, form_rule: str) -> str:
    """The divergence and its floor, or in words why it would mislead (result.json has every value)."""
    if quantity in FLOOR_QUANTITIES and form_rule != "lexical":
        return "needs words"
    if summary.human is None:
        return ""
    if not summary.human.enough:
        return "too few events"
    return f"{summary.human.value:.4f} ({summary.human.floor:.4f})"


def _file_table(heard: Sequence[Conversation], single: Sequence[Description], sides: tuple[str, str]) -> Table:
    offset = "floor_transfer_offset" if single[0].rules == "human" else "alignment_offset"
    short = "backchannel" if single[0].rules == "human" else "alignment_backchannel"
    headers = ("", "min", f"{sides[0]} s/min", f"{sides[1]} s/min", "offsets /min", "median s", "backchannels /min")
    rows: list[tuple[Fact | Cell, ...]] = [
        (
            Cell(c.recording.name, "; ".join(c.warnings)) if c.warnings else c.recording.name,
            d.minutes,
            d.seconds_per_min["agent_speaks"],
            d.seconds_per_min["user_speaks"],
            d.both[offset].per_min,
            d.both[offset].p50_s,
            d.both[short].per_min,
        )
        for c, d in zip(heard, single, strict=True)
    ]
    return Table("Recordings", headers, rows, decimals=2)


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables on the terminal; what was not measured is a dash."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Printed

    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    for table in tables:
        console.print(table.title, style="bold", markup=False, highlight=False)
        shown = Printed(box=box.SIMPLE_HEAD)
        for i, header in enumerate(table.headers):
            shown.add_column(header, justify="right" if i else "left", overflow="fold")
        for row in table.rows:
            shown.add_row(*(_printed(value, table.decimals) for value in row))
        console.print(shown, markup=False)


def _printed(value: Fact | Cell, decimals: int) -> str:
    known = value.value if isinstance(value, Cell) else value
    return known if isinstance(known, str) else format_fact(known, decimals) or "-"


def describe_page(
    heard: Sequence[Conversation],
    single: Sequence[Description],
    pooled: Description,
    sides: tuple[str, str],
    notes: Sequence[str],
    command: str,
    rules: Rules,
) -> Page:
    """The page: the printed tables, every quantity, distributions beside the human ones, and all recordings."""
    tables = summary_tables(heard, single, pooled, sides)
    return Page(
        title="Who speaks when",
        subtitle=f"{len(heard)} recordings, {pooled.minutes:.1f} min, {pooled.rules} rules",
        tables=[*tables, event_table("Every quantity", pooled, sides, list(pooled.both))],
        figures=_figures(pooled),
        samples=[_card(i, c, d, sides, rules) for i, (c, d) in enumerate(zip(heard, single, strict=True))],
        notes=[n[0].upper() + n[1:] + "." for n in notes],
        command=command,
    )


def _figures(pooled: Description) -> list[Figure]:
    made = []
    for quantity, (start, stop, width) in DRAWN.items():
        if quantity not in pooled.values:
            continue
        edges = np.linspace(start, stop, round((stop - start) / width) + 1)
        reference = None
        if quantity in DISTRIBUTIONS:
            share = human_distribution(quantity).cdf(edges)
            share[-1] = 1.0  # the last bin is open, and so holds all that lies beyond it
            reference = Reference("human telephone talk", edges.tolist(), share.tolist())
        values = np.concatenate(pooled.values[quantity]).tolist()
        name = quantity.replace("_", " ")
        svg = histogram(values, edges.tolist(), x_label=f"{name} (s)", reference=reference, open_ends=True)
        distance = distance_text(quantity, pooled.both[quantity], pooled.form_rule)
        caption = f"{QUANTITIES[quantity]}. JSD (floor): {distance or 'no human distribution'}."
        made.append(Figure(name, svg, caption))
    return made


def _card(index: int, heard: Conversation, found: Description, sides: tuple[str, str], rules: Rules) -> Sample:
    """One recording on its timeline: speech, backchannels, pauses, gaps and overlaps."""
    line = heard.timeline
    units = ipus(line.agent, rules.ipu_silence_s), ipus(line.user, rules.ipu_silence_s)
    short: set[tuple[int, int]] = set()
    if isinstance(rules, HumanRules):
        floor = find_floor(line, rules)
        short = {(u.side, i) for u in floor.backchannels for i in range(u.first, u.stop)}
    lanes = [
        Lane(
            sides[s],
            [Span(a, b, "backchannel" if (s, i) in short else "speech") for i, (a, b) in enumerate(units[s].tolist())],
            None if line.tracks[s].words is None else list(line.tracks[s].words or ()),
            wave=s,
        )
        for s in (0, 1)
    ]
    events = merged_line(units)
    bands = [Band(a, b, "pause") for a, b in events.pauses.tolist()]
    bands += [Band(a, b, "gap") for a, b in events.gaps.tolist()]
    bands += [Band(a, b, "overlap") for a, b in events.overlaps.tolist()]
    facts: dict[str, Fact] = {
        f"{q.replace('_', ' ')} /min": s.per_min for q, s in found.both.items() if q in MAIN[found.rules]
    }
    facts["length (min)"] = found.minutes
    return Sample(
        id=f"{index + 1}-{Path(heard.recording.channels[0][0]).stem}",
        title=heard.recording.name,
        duration=max(line.duration, 0.1),
        lanes=lanes,
        bands=sorted(bands),
        verdict="doubtful" if heard.warnings else "",
        status="bad" if heard.warnings else "info",
        why="; ".join(heard.warnings),
        facts={k: v for k, v in facts.items() if not (isinstance(v, float) and math.isnan(v))},
        audio=heard.sound,
    )
