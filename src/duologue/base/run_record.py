"""What a run really used, once names and defaults have been looked up; and which code ran.

A verb's own options say what was asked: a recipe by its name, a prompt as "the model's". A `RunRecord` says what that
came to, so that a run can be repeated, compared and gone on with after names have changed their meaning.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duologue.base.config import to_dict

PACKAGE = Path(__file__).parents[1]
GIT_PATIENCE_S = 10.0
"""Seconds that git may take to tell the commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What a run really used. It stands in config.yaml under `record`; on --resume all of it must be the same."""

    model: str
    """What was loaded, by its name or folder."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Every field of the settings, those of a recipe with what was changed of them."""
    text_prompt: str | Mapping[str, str] = ""
    """What the agent is told before, word for word, or by task where tasks differ; empty: nothing."""
    voice: str | None = None
    """The recording, or the name, of the voice that the agent takes; None: none."""
    lead_s: float = 0.0
    """Seconds of silence before what counts, in which a model says what it says first."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """How tokens are drawn, without seeds."""
    agent_words: str = "none"
    """Whose words the agent's are: "own text", "recogniser NAME", or "none"."""
    user_words: str = "none"
    """Whose words the user's are: "corpus", "script" (scripted users), "recogniser NAME", or "none"."""
    judge: str = "none"
    """Who grades: "none", "proxy", or "MODEL at URL"."""
    rules: str = "none"
    """The rules of rewards or scores by name; "none" where nothing is scored."""

    def plain(self) -> dict[str, Any]:
        """The record as it stands in YAML."""
        return to_dict(self)


def commit_of(package: Path = PACKAGE) -> str | None:
    """The git commit that a package runs from, with `-dirty` where its files were changed since.

    None where it was installed as files, where it lies in a repository that does not track it, or without git.
    """
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    if tracked is None:
        return None
    return _git(package, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None if it fails or is not installed."""
    try:
        told = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None
