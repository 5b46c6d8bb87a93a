"""`duologue align RECIPE --plan`: the memory of a run by part, and what fits, from a model's shape alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.codec.config import MimiConfig
    from duologue.codec.spectral import SpectralConfig
    from duologue.model.config import LMConfig
    from duologue.train.align import AlignConfig
    from duologue.train.align_plan import Plan
    from duologue.train.align_settings import AlignSettings

GB = 10**9
VOICE_S = 10.0
"""Seconds that a voice prompt is taken to have: it is not read."""
WHEN = {
    "start": "at the start",
    "always": "always",
    "rollouts": "rolling out",
    "learning": "updating",
    "passes": "forward and backward",
    "step": "optimiser's step",
}
MENDS = (
    ("update.recompute=true",),
    ("rollouts.longest_s=30", "rollouts.most_s=30"),
    ("update.recompute=true", "rollouts.longest_s=30", "rollouts.most_s=30"),
)
"""Settings that are tried where nothing fits, the mildest first."""


def show_plan(config: AlignConfig) -> None:
    """Print the plan of a run, and write it as JSON if asked. Errors: UserError, a model whose shape nobody tells, or
    segments whose length nothing bounds."""
    from duologue.base.compute import device_memory, pick_device, pick_dtype
    from duologue.base.config import overridden
    from duologue.base.files import write_json
    from duologue.train.align import read_settings
    from duologue.train.align_plan import planned

    settings = read_settings(config.recipe, config.set)
    if config.memory_gb is None:
        device = pick_device(config.device)
        memory = device_memory(device)
        dtype = pick_dtype(settings.rollouts.dtype, device)
    else:
        memory = round(config.memory_gb * GB)
        dtype = pick_dtype("bf16" if settings.rollouts.dtype == "auto" else settings.rollouts.dtype, pick_device("cpu"))
    lm, codec = shapes_of(config.model)

    def plan(how: AlignSettings) -> Plan:
        frames = frames_of(config, how, lm, codec)
        return planned(lm, how, frames, memory=memory, dtype=dtype, codec=codec, processes=config.devices)

    found = plan(settings)
    mends = () if found.fits else tuple(x for x in MENDS if plan(overridden(settings, x)).fits)
    said = plain(found, config, str(dtype).removeprefix("torch."), mends[0] if mends else None)
    _print(found, said)
    if config.json is not None:
        write_json(config.json, said)


def shapes_of(name: str) -> tuple[LMConfig, MimiConfig | SpectralConfig]:
    """The shapes of a model and its codec, without reading weights, or downloading any.

    Raises:
        UserError: no such model, or one that does not tell its shape.
    """
    from duologue.codec.checkpoint import read_shape
    from duologue.codec.config import MimiConfig
    from duologue.engine.bundle import NANO, RANDOM, preset_of
    from duologue.model.checkpoint import CONFIG, OURS, read_values
    from duologue.model.config import config_from_kyutai
    from duologue.model.hub import resolve
    from duologue.model.load import SHAPE_KEYS

    if RANDOM.fullmatch(name):
        preset, _ = preset_of(name)
        return preset.lm, preset.codec
    source = resolve(NANO if name == "nano" else name)
    at = source.find(CONFIG)
    values = read_values(at, source.find(OURS))
    if not SHAPE_KEYS & values.keys():
        mend = "plan for a model of its shape, such as random:moshi-7b or random:personaplex-7b"
        raise UserError("does not tell its shape without its weights", place=name, mend=mend)
    shape = values.get("mimi_config_name")
    codec = MimiConfig() if shape is None else read_shape(source.need(shape))
    return config_from_kyutai(values, at or name), codec


def frames_of(config: AlignConfig, settings: AlignSettings, lm: LMConfig, codec: MimiConfig | SpectralConfig) -> int:
    """Frames of the longest rollout: those of the segments where they are at hand, else the bound that settings have.

    Raises:
        UserError: neither.
    """
    from duologue.engine.prompts import GOOD_TALK, OPENING_S, prompt_room
    from duologue.train.align import SAMPLE
    from duologue.train.align_learner import acted, longest_frames

    rolled, rate = settings.rollouts, codec.frame_rate
    voice = 0 if rolled.voice_prompt is None else math.ceil(VOICE_S * rate)
    usual = (GOOD_TALK, 0.0) if lm.user_lag == 0 else ("", OPENING_S)  # of PersonaPlex's kind, or Moshi's
    rolled = replace(
        rolled, text_prompt=usual[0] if rolled.text_prompt is None else rolled.text_prompt,
        lead_s=usual[1] if rolled.lead_s is None else rolled.lead_s,
    )  # fmt: skip
    prompt = prompt_room(rolled.text_prompt or "", None) + voice
    bounded = rolled.most_s is not None and rolled.window is None
    if config.segments == SAMPLE and bounded:
        assert rolled.most_s is not None
        behind = max(rolled.lead_s or 0.0, rolled.context_s[1] if rolled.context else 0.0)
        return prompt + math.ceil((rolled.most_s + behind) * rate) + 4
    if config.segments == SAMPLE and config.model != "nano":
        mend = "name a folder of them with --segments, or bound them: --set rollouts.longest_s=60 rollouts.most_s=60"
        raise UserError("nothing says how long segments are", place="rollouts.most_s", mend=mend)
    spans = [span for axis in rolled.axes for segment in _segments(config.segments, axis) for span in
             acted(segment, rolled)]  # fmt: skip
    return prompt + longest_frames(spans, rolled, rate)


def plain(plan: Plan, config: AlignConfig, dtype: str, mend: tuple[str, ...] | None) -> dict[str, Any]:
    """The plan as --json has it: bytes, and what is arithmetic about it."""
    return {
        "recipe": config.recipe, "set": list(config.set), "model": config.model, "devices": config.devices,
        "rollouts": dtype, "frames": plan.frames, "slots": plan.slots, "rows": plan.rows,
        "parts": [{"name": p.name, "bytes": p.bytes, "phase": p.phase} for p in plan.parts],
        "total": plan.total, "memory": plan.memory, "fits": plan.fits, "would_fit_with": mend,
        "how": "arithmetic on shapes, not measured",
    }  # fmt: skip


def _segments(name: str, axis: str) -> Any:
    from duologue.corpus.sample import sample_segments
    from duologue.corpus.store import SegmentStore
    from duologue.train.align import SAMPLE

    store = SegmentStore(sample_segments("train") if name == SAMPLE else Path(name))
    return [store.segment(row) for row in store.rows(axis)]


def _print(plan: Plan, said: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"Memory of each device, by arithmetic: {said['recipe']}, {said['model']}, {said['devices']} device" + (
        "s" * (said["devices"] > 1)
    )
    table = Table("part", "GB", "when", title=title, title_justify="left")
    table.columns[1].justify = "right"
    for part in plan.parts:
        table.add_row(part.name, f"{part.bytes / GB:.2f}", WHEN[part.phase])
    table.add_section()
    table.add_row("at the worst moment", f"{plan.total / GB:.2f}", "")
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table)
    chosen = f"{plan.slots} slots, {plan.rows} rows, rollouts of up to {plan.frames} frames in {said['rollouts']}"
    if plan.memory is None:
        print(f"{chosen}; name a device's memory (--memory-gb 80) to see what fits")
    elif plan.fits:
        print(f"{chosen}: the most that fit {plan.memory / GB:.0f} GB with a tenth to spare")
    else:
        mend = said["would_fit_with"]
        hint = f"would fit with --set {' '.join(mend)}" if mend else "adapters (kyutai-lora) or more devices need less"
        print(f"{chosen}: does not fit {plan.memory / GB:.0f} GB with a tenth to spare; {hint}")
