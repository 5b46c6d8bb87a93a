"""Scripts for simulated conversations: what two people say, turn by turn, from chats or from a text file.

The chats are those of the package chitchat-dataset (BYU PCC, MIT licence; about 7,000 conversations of volunteers,
2018). They are terser than telephone talk: a message has about ten words, a human turn 33 on average. So each side's
messages are joined into turns whose lengths are drawn from the human distribution, in the order in which they were
written, and never far ahead of what the other side writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from duologue.base.errors import UserError
from duologue.base.files import read_text
from duologue.corpus.chats import Message, chats
from duologue.corpus.sim_timing import draw
from duologue.dialogue.lexicon import human_lexicon, plain_words

MAX_DRIFT = 12
"""A message is held back behind at most this many later messages of the other side (chats: see `join_messages`)."""
HELD_OUT = 20
"""One chat in so many is held out, by a hash of its id."""
CHATS = "chitchat"
"""The name of the chats as a source of scripts."""
DEV_CHATS = "dev_chats.txt"
"""File of the ids of the held-out chats that recipes may be tuned on: those of the segments that were looked at before
there was a test part. All other held-out chats are for the test part."""
Part: TypeAlias = Literal["training", "held-out", "dev", "test", "all"]
"""Of the chats: what may be trained on, what is kept for measuring (`dev` to tune by, `test` to report, or both), or
all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One turn of a script."""

    side: int
    """0 agent, 1 user."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What two people say, turn by turn; nothing about when. Turns alternate between the sides."""

    id: str
    """Unique in its source, stable between runs."""
    turns: tuple[Line, ...]
    source: str
    """"chitchat", or the file's name."""


def held_out(script: Script) -> bool:
    """Whether a chat is kept for measuring: the same for the same id, whatever the seed. Never train on these."""
    return hashlib.sha256(script.id.encode()).digest()[0] % HELD_OUT == 0


def part_of(script: Script) -> Part:
    """The smallest part that a chat belongs to: training, dev or test; the same for the same id, whatever the seed."""
    if not held_out(script):
        return "training"
    return "dev" if script.id.removeprefix(f"{CHATS}/") in dev_chats() else "test"


def belongs(script: Script, part: Part) -> bool:
    """Whether a chat is of a part."""
    own = part_of(script)
    return part in ("all", own) or (part == "held-out" and own != "training")


@cache
def dev_chats() -> frozenset[str]:
    """The ids of the held-out chats that recipes may be tuned on."""
    return frozenset(resources.files("duologue.corpus").joinpath(DEV_CHATS).read_text(encoding="utf-8").split())


def load_scripts(source: str | Path, seed: int, part: Part = "all") -> Iterator[Script]:
    """Scripts of a source, in an order drawn from `seed`; which chat partner is the agent is drawn too.

    Args:
        source: "chitchat", or a UTF-8 text file: one turn a line, "A: ..." (the agent) or "B: ..." (the user), a blank
            line between conversations, lines that begin with # skipped.
        seed: with the same seed the same scripts come in the same order.
        part: of the chats; those of a part are the same, in the same order, as among all. A file is never split.

    Raises:
        UserError: the package is not installed, a line of the file is neither, or a file's held-out part is asked for.
    """
    rng = np.random.default_rng([seed, 11])
    if str(source) == CHATS:
        for id, messages in chats(rng):
            script = Script(id=id, turns=join_messages(messages, lambda: draw("turn_words", rng)), source=CHATS)
            if len(script.turns) >= 6 and belongs(script, part):
                yield script
        return
    if part not in ("training", "all"):
        mend = f"leave it out, or take {CHATS}"
        raise UserError(f"nothing of the file {source} is held out", place=f"--scripts {part}", mend=mend)
    scripts = read_scripts(Path(source))
    for i in rng.permutation(len(scripts)):
        yield scripts[i]


def join_messages(messages: list[Message], words_wanted: Callable[[], float]) -> tuple[Line, ...]:
    """Join each side's messages into alternating turns of about the wanted numbers of words.

    Messages that are mere feedback ("oh ok") are left out: backchannels are placed by the simulator. A turn takes its
    side's next messages until it is as long as wanted, but leaves no message of the other side more than `MAX_DRIFT`
    messages behind, so that answers stay near their questions.
    """
    messages = [m for m in messages if not is_feedback(m.text)]
    queues = [[(i, m.text) for i, m in enumerate(messages) if m.side == side] for side in (0, 1)]
    turns: list[Line] = []
    side = messages[0].side if messages else 0
    while queues[side]:
        wanted, taken, words = words_wanted(), [queues[side].pop(0)[1]], 0
        words = len(taken[0].split())
        waiting = queues[1 - side][0][0] if queues[1 - side] else len(messages)
        while queues[side]:
            at, text = queues[side][0]
            more = words + len(text.split())
            if abs(more - wanted) >= abs(words - wanted) or at > waiting + MAX_DRIFT:
                break
            queues[side].pop(0)
            taken.append(text)
            words = more
        turns.append(Line(side=side, text=" ".join(map(_closed, taken))))
        side = 1 - side
    return tuple(turns)


def is_feedback(text: str) -> bool:
    """Whether a text is nothing but backchannel words and fillers, so that it would not take the floor when spoken."""
    words, lexicon = plain_words(text), human_lexicon()
    return len(words) <= 3 and (lexicon.is_filler_only(words) or lexicon.is_backchannel(words))


def read_scripts(path: Path) -> list[Script]:
    """Read a text file of conversations (see `load_scripts`); lines of one speaker in a row are one turn.

    Raises:
        UserError: missing, not UTF-8, a line without "A:" or "B:" or without words, no conversation.
    """
    scripts: list[Script] = []
    turns: list[Line] = []
    names = {"A": 0, "B": 1}
    for number, line in enumerate([*read_text(path).splitlines(), ""], start=1):
        line = line.strip()
        if line.startswith("#"):
            continue
        if not line:
            if turns:
                _check_both(turns, f"{path}, line {number - 1}")
                scripts.append(Script(id=f"{path.stem}/{len(scripts)}", turns=tuple(turns), source=path.name))
            turns = []
            continue
        name, colon, text = (part.strip() for part in line.partition(":"))
        if not colon or name.upper() not in names:
            shown = line if len(line) <= 40 else line[:37] + "..."
            raise UserError(
                f"no speaker in {shown!r}", place=f"{path}, line {number}", mend='begin it with "A:" or "B:"'
            )
        if not plain_words(text):
            raise UserError(
                "a turn without words", place=f"{path}, line {number}", mend="write some or remove the line"
            )
        side = names[name.upper()]
        if turns and turns[-1].side == side:
            turns[-1] = Line(side=side, text=f"{_closed(turns[-1].text)} {text}")
        else:
            turns.append(Line(side=side, text=text))
    if not scripts:
        raise UserError("holds no conversation", place=path, mend='write lines such as "A: hello" and "B: hi there"')
    return scripts


def _check_both(turns: list[Line], place: str) -> None:
    if len(turns) < 2:
        raise UserError("a conversation in which only one side speaks", place=place, mend="give the other side a turn")


def _closed(text: str) -> str:
    """The text with a mark at its end, so that a pause there is at a plausible place."""
    return text if text[-1] in ".,?!;:" else text + "."
