"""What an evaluation really used: in its folder, in its result, and on its page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

import duologue
from duologue.base.config import to_dict
from duologue.base.report import Fact, Table
from duologue.base.run_record import RunRecord, commit_of
from duologue.codec.tokens import codes_hash, weights_hash

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle
    from duologue.engine.prompts import Voice
    from duologue.engine.sampling import Sampling

OWN_TEXT = "own text"
NO_WORDS = "none"
RANDOM = "random:"


def model_identity(bundle: Bundle) -> dict[str, str]:
    """Which weights a model's name stood for: hashes of 16 hex digits, and the language model's dtype."""
    codec = bundle.need_codec()
    assert isinstance(codec, nn.Module)
    dtype = str(bundle.lm.text_linear.weight.dtype).removeprefix("torch.")
    return {"weights": weights_hash(bundle.lm), "codec": codes_hash(codec), "dtype": dtype}


def voice_identity(name: str | None, voice: Voice | None) -> str | None:
    """A voice prompt by its name and the hash of its content; None: none."""
    if voice is None:
        return None
    return f"{name} ({hashlib.sha256(voice.key()).hexdigest()[:16]})"


def draws(sampling: Sampling) -> dict[str, Any]:
    """How tokens are drawn, without seeds."""
    return {name: value for name, value in to_dict(sampling).items() if not name.endswith("_seed")}


def words_by(recogniser: str | None) -> str:
    """Whose words are scored, as a `RunRecord` says it."""
    return OWN_TEXT if recogniser is None else f"recogniser {recogniser}"


def provenance(record: RunRecord) -> dict[str, Any]:
    """What stands under "made" in a result."""
    return {"version": duologue.__version__, "commit": commit_of(), "record": record.plain()}


def provenance_notes(record: RunRecord) -> list[str]:
    """What a reader must know before comparing numbers, a sentence each."""
    told = [_told(prompt, where) for where, prompt in prompts(record).items()]
    voice = "The agent takes no voice prompt." if record.voice is None else f"Voice prompt: {record.voice}."
    lead = [f"{record.lead_s:g} s of silence come before each recording, and are cut off again."]
    words = {
        OWN_TEXT: "The agent's words are its own text, not a recogniser's as in most published numbers.",
        NO_WORDS: "Nobody knows the agent's words.",
    }.get(record.agent_words, f"The agent's words are those of {record.agent_words}.")
    random = ["The weights are random: the numbers say nothing of any trained model."]
    return [*told, voice, *lead * (record.lead_s > 0), words, *random * record.model.startswith(RANDOM)]


def provenance_table(record: RunRecord) -> Table:
    """The record on a page."""
    rows: list[tuple[str, Fact]] = [("model", record.model)]
    rows += [(name, _fact(value)) for name, value in record.settings.items()]
    rows += [(f"text prompt{', ' * bool(where)}{where}", text or "none") for where, text in prompts(record).items()]
    rows += [
        ("voice prompt", record.voice or "none"), ("silence before (s)", f"{record.lead_s:g}"),
        ("sampling", _fact(record.sampling)), ("words of the agent", record.agent_words), ("rules", record.rules),
        ("version", duologue.__version__), ("commit", commit_of() or "unknown"),
    ]  # fmt: skip
    return Table("What was run", ("", ""), rows)


def prompts(record: RunRecord) -> Mapping[str, str]:
    """Text prompts by task; under the empty name if all tasks have the same."""
    return {"": record.text_prompt} if isinstance(record.text_prompt, str) else record.text_prompt


def _told(prompt: str, where: str) -> str:
    told = f'The agent is told "{prompt}"' if prompt else "Nothing is told to the agent before"
    return f"{told}{' in ' * bool(where)}{where.replace('_', ' ')}."


def _fact(value: Any) -> Fact:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_fact(inner)}" for name, inner in value.items())
    return "none" if value is None else str(value)
