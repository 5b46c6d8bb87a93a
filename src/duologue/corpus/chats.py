"""Cleaned chats of the package chitchat-dataset, in an order drawn from a seed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from duologue.base.errors import UserError

MIN_MESSAGES, MIN_WORDS = 12, 120
MIN_MEAN_WORDS = 8.0
"""Words of a message on average: in terser chats nobody tells anything, as people on the telephone do."""
LONGEST_MESSAGE = 120
"""Words; longer ones are pasted, not typed."""

SPELLED = {
    "im": "I'm", "i'm": "I'm", "i": "I", "u": "you", "r": "are", "ur": "your", "dont": "don't", "didnt": "didn't",
    "doesnt": "doesn't", "isnt": "isn't", "cant": "can't", "wont": "won't", "thats": "that's", "whats": "what's",
    "havent": "haven't", "hasnt": "hasn't", "hadnt": "hadn't", "ive": "I've", "id": "I'd", "youre": "you're",
    "theyre": "they're", "wasnt": "wasn't", "wouldnt": "wouldn't", "couldnt": "couldn't", "shouldnt": "shouldn't",
    "lets": "let's", "yall": "you all", "idk": "I don't know", "btw": "by the way", "tbh": "to be honest",
    "thx": "thanks", "pls": "please", "plz": "please", "bc": "because", "cuz": "because", "cause": "because",
    "omg": "oh my gosh", "imo": "I think", "w/": "with", "w/o": "without", "&": "and", "+": "and", "=": "is",
    "ppl": "people", "tho": "though", "prob": "probably", "probs": "probably", "def": "definitely",
    "rn": "right now", "ya": "yeah", "yea": "yeah", "k": "okay", "ok": "okay", "kk": "okay",
}  # fmt: skip
"""Chat spellings and how they are said."""

UNSAID = re.compile(
    r"(?:a*(?:ha|he|hi)+h*|lo+l+|lmf?ao+|rofl|xd+|[:;=8]['-]?[)(dpo/\\|3*]+|<3+|\(:)[.,!?]*", re.IGNORECASE
)
"""Written laughter and faces: not speech."""

REFUSED = frozenset({
    "fuck", "fucking", "fucked", "fucker", "shit", "shitty", "bitch", "bitches", "cunt", "nigger", "nigga", "faggot",
    "fag", "retard", "retarded", "whore", "slut", "dick", "cock", "pussy", "porn", "rape", "raped", "nazi", "hitler",
    "kys", "tits", "boobs", "penis", "vagina", "sex", "sexy", "horny", "masturbate", "asshole", "bastard",
})  # fmt: skip
"""A conversation with one of these words is left out: a small plain list, no judge of meaning."""


class Message(NamedTuple):
    """One message of one side."""

    side: int
    text: str


def chats(rng: np.random.Generator) -> Iterator[tuple[str, list[Message]]]:
    """(id, messages) of every chat that is fit to be spoken; order and sides are drawn from `rng`.

    Raises:
        UserError: the package is not installed.
    """
    try:
        text = (files("chitchat_dataset") / "dataset.json").read_text(encoding="utf-8")  # its own reader leaves it open
    except ImportError:
        raise UserError(
            "the package chitchat-dataset is not installed", place="chitchat", mend="pip install 'duologue[simulate]'"
        ) from None
    dataset: dict[str, Any] = json.loads(text)
    ids = sorted(dataset)
    for i in rng.permutation(len(ids)):
        messages = clean_chat(dataset[ids[i]]["messages"], bool(rng.random() < 0.5))
        if messages:
            yield f"chitchat/{ids[i]}", messages


def clean_chat(bursts: list[list[dict[str, str]]], swap: bool) -> list[Message]:
    """The messages of a chat as they could be spoken; none if it is spam, offensive, one-sided or too short."""
    senders = sorted({m["sender"] for burst in bursts for m in burst})
    if len(senders) != 2:
        return []
    order = {s: k for k, s in enumerate(reversed(senders) if swap else senders)}
    raw = [(order[m["sender"]], m["text"]) for burst in bursts for m in burst]
    if any(not text.isascii() for _, text in raw):
        return []
    messages = [Message(side, said) for side, text in raw if (said := spoken_text(text))]
    messages = [m for m, before in zip(messages, [None, *messages], strict=False) if m != before]  # said once
    words = [w.strip(".,?!'\"").lower() for m in messages for w in m.text.split()]
    if len(messages) < MIN_MESSAGES or len(words) < max(MIN_WORDS, MIN_MEAN_WORDS * len(messages)):
        return []
    if REFUSED.intersection(words):
        return []
    repeats = sum(n - 1 for n in Counter(m.text.lower() for m in messages if len(m.text.split()) > 2).values())
    shares = [sum(len(m.text.split()) for m in messages if m.side == side) / len(words) for side in (0, 1)]
    if repeats > 0.05 * len(messages) or min(shares) < 0.2:
        return []
    return messages


def spoken_text(text: str) -> str:
    """A message as it is said: without faces and laughter, chat spellings written out; "" if it cannot be said."""
    if re.search(r"https?:|www\.|\.com\b|[{}<>\\^~|_\[\]]", text):
        return ""
    words: list[str] = []
    for token in re.sub(r"\.\.+", ", ", re.sub(r"(?<=\w)/(?=\w)", " ", text)).split():
        token = token if UNSAID.fullmatch(token) else token.strip('*"()')
        if UNSAID.fullmatch(token) or not re.search(r"[A-Za-z0-9]", token):
            if re.fullmatch(r"[.,?!;:-]+", token) and words and words[-1][-1].isalnum():
                words[-1] += token[0] if token[0] in ".,?!" else ","
            continue
        token = re.sub(r"(.)\1{2,}", r"\1\1", token)
        token = re.sub(r"([.,?!;:])[.,?!;:]+$", r"\1", token)
        core = token.rstrip(".,?!;:")
        said = SPELLED.get(core.lower(), core)
        words.append(
            said.lower() + token[len(core) :] if said.isupper() and len(said) > 4 else said + token[len(core) :]
        )
    letters = sum(c.isalpha() or c in " '.,?!" for c in " ".join(words))
    if not words or len(words) > LONGEST_MESSAGE or letters < 0.8 * len(" ".join(words)):
        return ""
    if any(len(w) > 20 for w in words):
        return ""
    return " ".join(words)
