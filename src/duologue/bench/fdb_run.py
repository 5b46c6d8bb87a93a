"""A model in the loop over Full-Duplex-Bench's folders: it hears each input.wav and writes output.wav and output.json.

Several samples talk at once. Outputs are on the input's clock, as a listener would have heard them. What was
talked with already is passed over, so that a run goes on where it was stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias
from zlib import crc32

import numpy as np

from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.audio.words import write_words
from duologue.base.errors import UserError
from duologue.base.progress import meter
from duologue.bench.fdb_samples import sample_folders
from duologue.corpus.fanout import spread
from duologue.dialogue.timeline import Word
from duologue.engine.prompts import GOOD_TALK, text_prompt_of

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle
    from duologue.engine.converse import Conversation
    from duologue.engine.prompts import Voice
    from duologue.engine.sampling import Sampling

Version: TypeAlias = Literal["fdb-v1", "fdb-v1.5"]
EVENT_FILES = {
    "pause.json": "pause_handling", "turn_taking.json": "smooth_turn_taking", "interrupt.json": "user_interruption",
    "metadata.json": "timing",
}  # fmt: skip
"""Which task a sample of v1 (metadata.json: of v1.5) is of; one without any is of backchannels."""
TEACHER = "You are a wise and friendly teacher. Answer questions or provide advice in a clear and engaging way."
PROMPTS = {"user_interruption": TEACHER}
"""PersonaPlex's text prompts by task of v1, as the model card of kyutai/personaplex-rl-seamless gives them; the others
have GOOD_TALK."""
OWN = ".own.json"
"""Of files with the model's own words; one says that its recording was talked with."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The samples of one task."""

    name: str
    task: str
    samples: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Manner:
    """How the model is put to it."""

    sampling: Sampling
    voice: Voice | None
    text_prompt: str | None
    """None: the task's, for a model that takes PersonaPlex's prompts."""
    lead_s: float
    seed: int
    slots: int


@dataclass(frozen=True, slots=True)
class Ref:
    """What to load, in each process that talks."""

    model: str
    device: str
    dtype: str
    lora: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One recording to be talked with."""

    sample: str
    heard: Path
    spoken: Path
    """Where the sound goes; the words go beside it."""


def datasets(root: Path, version: Version) -> list[Dataset]:
    """The benchmark's folders below `root`, or `root` itself if it holds samples.

    Raises:
        UserError: no samples there, or samples of the other version.
    """
    inner = sample_folders(root)
    roots = [root] if any((p / "input.wav").is_file() for p in inner) else inner
    found = []
    for folder in roots:
        samples = tuple(p for p in sample_folders(folder) if (p / "input.wav").is_file())
        if samples:
            found.append(Dataset(folder.resolve().name, task_of(samples[0]), samples))
    if not found:
        mend = "name a folder of samples (1/input.wav, ...), or one of such folders"
        raise UserError("holds no samples", place=root, mend=mend)
    wrong = [d.name for d in found if (d.task == "timing") != (version == "fdb-v1.5")]
    if wrong:
        other = "fdb-v1.5" if version == "fdb-v1" else "fdb-v1"
        raise UserError(f"{wrong[0]} is of {other}", place=root, mend=f"use duologue evaluate {other}")
    return found


def task_of(sample: Path) -> str:
    """The task that a sample's event file is of."""
    return next((task for name, task in EVENT_FILES.items() if (sample / name).is_file()), "backchannel")


def prompt_of(manner: Manner, bundle: Bundle, task: str) -> str:
    """What the agent is told before: as asked, or the task's if the model takes PersonaPlex's prompts."""
    return text_prompt_of(manner.text_prompt, bundle, PROMPTS.get(task, GOOD_TALK))


def talk_through(
    dataset: Dataset, folder: Path, ref: Ref, manner: Manner, *, words: bool = True, workers: int = 1, ray: bool = False
) -> None:
    """Fill `folder` with a copy of the dataset's samples and what the model says to each.

    Args:
        dataset: the samples.
        folder: of the copies; on a cluster, where all its machines see it.
        ref: the model.
        manner: how.
        words: the model's own words are those that are scored; else a recogniser's, which are still missing then.
        workers: processes, each with the model; with `ray` tasks of a cluster.
        ray: give the work to a Ray cluster.

    Raises:
        UserError: a recording that cannot be read, or has several channels; Ray is not installed.
    """
    todo = [t for s in dataset.samples for t in turns(s.resolve(), folder.resolve() / s.name)]
    with meter(dataset.name, total=len(todo)) as progress:
        left = [turn for turn in todo if not turn.spoken.with_suffix(OWN).is_file()]
        progress.advance(len(todo) - len(left))
        blocks = [left[first : first + manner.slots] for first in range(0, len(left), manner.slots)]
        work = partial(talk_with, ref=ref, manner=manner, task=dataset.task, words=words)
        for done in spread(work, blocks, workers, ray=ray):
            progress.advance(done)


def talk_with(some: Sequence[Turn], ref: Ref, manner: Manner, task: str, *, words: bool) -> int:
    """Talk with several recordings at once and write down what was said; returns how many."""
    bundle = loaded(ref)
    for turn, talk in zip(some, talks(some, bundle, manner, prompt_of(manner, bundle, task)), strict=True):
        keep(turn, talk, manner.lead_s, words=words)
    return len(some)


@lru_cache(maxsize=1)
def loaded(ref: Ref) -> Bundle:
    """The model, once in a process."""
    from duologue.engine.bundle import load

    return load(ref.model, device=ref.device, dtype=ref.dtype, lora=ref.lora)


def recordings(sample: Path) -> list[str]:
    """What is heard in a sample: input, and in v1.5 the same without what overlaps."""
    return [stem for stem in ("input", "clean_input") if (sample / f"{stem}.wav").is_file()]


def turns(sample: Path, folder: Path) -> Iterator[Turn]:
    """The recordings of a sample; its files are copied, but not what another system said."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(sample.iterdir()):
        theirs = path.name.startswith(("output", "clean_output")) or path.name in ("rating.json", "content_tag.json")
        if path.is_file() and not theirs and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    for stem in recordings(sample):
        yield Turn(sample.name, sample / f"{stem}.wav", folder / f"{stem.replace('input', 'output')}.wav")


def talks(some: Sequence[Turn], bundle: Bundle, manner: Manner, prompt: str) -> list[Conversation]:
    """Talk with several recordings at once; a sample's two recordings have the same draws."""
    from duologue.engine.converse import Setup, converse
    from duologue.engine.duplex import Duplex
    from duologue.engine.prompts import Prompter, tones

    codec = bundle.need_codec()
    duplex = Duplex(bundle.lm, codec, len(some))
    prompter = Prompter(duplex.engine, tones(codec, kyutai=bundle.config.kyutai_codec), bundle.need_text)
    users = [late(read_audio(turn.heard), manner.lead_s, turn.heard) for turn in some]
    setups = [Setup(sampling=drawn(manner, turn.sample), text_prompt=prompt, voice=manner.voice) for turn in some]
    return converse(duplex, users, setups, prompter, bundle.text)


def drawn(manner: Manner, sample: str) -> Sampling:
    """The settings of a sample: its seed hangs on its name and the run's seed."""
    seed = (crc32(sample.encode()) + manner.seed) % 2**31
    return replace(manner.sampling, text_seed=seed, audio_seed=seed)


def late(user: Audio, lead_s: float, path: Path) -> Audio:
    """The recording behind so much silence. Errors: UserError, it has several channels."""
    if user.channels != 1:
        raise UserError(f"has {user.channels} channels, not one", place=path, mend="keep the user's alone")
    silence = np.zeros((1, round(lead_s * user.rate)), np.float32)
    return Audio(np.concatenate((silence, user.samples), 1), user.rate)


def keep(turn: Turn, talk: Conversation, lead_s: float, *, words: bool) -> None:
    """Write what was said after the lead: the sound, then the words, last the file that says that it is done."""
    agent = talk.audio.channel(0)
    cut = round(lead_s * agent.rate)
    write_audio(turn.spoken, Audio(agent.samples[:, cut:], agent.rate))
    said = [Word(w.text, max(w.start - lead_s, 0.0), w.end - lead_s) for w in talk.words or () if w.end > lead_s]
    for suffix in (".json", OWN) if words else (OWN,):
        write_words(turn.spoken.with_suffix(suffix), said)
