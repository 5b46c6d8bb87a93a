"""Full-Duplex-Bench v1.5, behaviour: a judge labels how the agent deals with speech over its turn.

Matched in compat: v1_v1.5/evaluation/eval_behavior.py at commit d7336bd: a sample needs four transcripts, the answer is
one tag, ratios are rounded to two decimals. Upstream asks until it gets an answer; here a reply without a tag is null
and counted, and the corrected ratios keep such samples in the denominator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from duologue.base.errors import UserError
from duologue.base.files import read_json
from duologue.bench.fdb_samples import attempt, need, read_tags, sample_folders
from duologue.bench.results import SampleScore, TaskScore, counts

TRANSCRIPTS = {
    "input_clean": "clean_input.json",
    "input_noisy": "input.json",
    "output_clean": "clean_output.json",
    "output_noisy": "output.json",
}
TAGS = ("C_RESPOND", "C_RESUME", "C_UNCERTAIN_HANDLING", "C_UNKNOWN")

Label = Callable[[Sequence[Mapping[str, Any]]], Sequence[str | None]]
"""A judge: the four transcripts of each sample in, one tag each out; None where a reply holds no tag."""


def score_behavior(root: Path, mode: str, judge: Label | None) -> TaskScore:
    """Label every sample with a judge, or read the tags that one left in content_tag.json.

    Errors: UserError when there is neither a judge nor any content_tag.json.
    """
    folders = sample_folders(root)
    if judge is None and not any((f / "content_tag.json").is_file() for f in folders):
        raise UserError(
            "behaviour needs a judge, and no sample has a content_tag.json",
            place=root,
            mend="give --judge and --judge-model",
        )
    samples = {f.name: attempt(_read if judge is None else _present, f) for f in folders}
    if judge is not None:
        ready = [f for f in folders if samples[f.name].status == "ok"]
        tags = judge([{key: read_json(f / name) for key, name in TRANSCRIPTS.items()} for f in ready])
        samples |= {f.name: _tagged([] if tag is None else [tag]) for f, tag in zip(ready, tags, strict=True)}
    notes = (
        [] if judge else ["Tags were read from the folders' content_tag.json; which judge wrote them is not recorded."]
    )
    summary = _summarise(samples, official=mode != "corrected")
    return TaskScore(benchmark="fdb-v1.5", task="behavior", mode=mode, summary=summary, samples=samples, notes=notes)


def _present(folder: Path) -> SampleScore:
    for name in TRANSCRIPTS.values():
        read_json(need(folder, name))
    return SampleScore()


def _read(folder: Path) -> SampleScore:
    return _tagged(read_tags(need(folder, "content_tag.json")))


def _tagged(tags: Sequence[str]) -> SampleScore:
    known = [tag for tag in tags if tag in TAGS]
    if not known:
        return SampleScore(why="the judge's reply holds no known tag", details={"tag": None})
    return SampleScore(why=f"the judge says {known[0]}", details={"tag": known[0]})


def _summarise(samples: Mapping[str, SampleScore], *, official: bool) -> dict[str, Any]:
    tags = Counter(tag for s in samples.values() if isinstance(tag := s.details.get("tag"), str))
    attempted = sum(tags.values()) if official else len(samples)
    ratios = {tag: tags[tag] / attempted for tag in TAGS if attempted and (tags[tag] or not official)}
    return {
        "n": len(samples),
        "counts": counts(samples.values()),
        "n_judged": sum(tags.values()),
        "ratios": {tag: round(share, 2) for tag, share in ratios.items()} if official else ratios,
    }
