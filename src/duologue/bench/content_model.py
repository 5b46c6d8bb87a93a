"""Language models that say how much likelier a turn makes an answer: none of them is the reward's proxy.

The shipped one has two parts: trigrams of people's chats, p(w | history) (`dialogue.ngrams`), and a model of which
words a turn makes likely, p(w | turn) / p(w) (`dialogue.turn_model`), joined by unigram rescaling (Gildea and Hofmann,
1999):

    p(w | history, turn) = p(w | history) (p(w | turn) / p(w)) ^ weight / Z(history, turn)

Both were learned from the training chats (`tools/make_words.py`, `tools/train_turns.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from duologue.base.errors import UserError
from duologue.dialogue.ngrams import UNKNOWN, NGrams, shipped_ngrams
from duologue.dialogue.turn_model import TurnModel

FILE = "answers.npz"


class AnswerModel(Protocol):
    """Says how much likelier a turn makes an answer."""

    def log_ratio(self, turn: Sequence[str], answer: Sequence[str]) -> float:
        """log p(answer | turn) - log p(answer) of plain words, in nats, over the whole answer; 0 for no words."""
        ...


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """The one that comes with the package."""

    ngrams: NGrams
    turns: TurnModel
    weight: float
    """Of the turn's part."""

    def log_ratio(self, turn: Sequence[str], answer: Sequence[str]) -> float:
        """log p(answer | turn) - log p(answer), in nats; words that the model does not know count nothing."""
        ids = self.ngrams.ids(answer)
        ratios = self.weight * self.turns.log_ratios(self.ngrams, turn)
        whole = np.log(self.ngrams.expected(ids, np.exp(ratios)))
        return float((ratios[ids] - whole)[ids != UNKNOWN].sum())


@cache
def shipped_model() -> ShippedModel:
    """The one that comes with the package."""
    with resources.files("duologue.bench").joinpath(FILE).open("rb") as file, np.load(file) as kept:
        return ShippedModel(shipped_ngrams(), TurnModel.read(kept), float(kept["weight"]))


class NamedModel:
    """A causal language model of the transformers library.

    Args:
        name: a folder, or a name on the Hugging Face hub.
        device: cpu, cuda or cuda:N.

    Raises:
        UserError: transformers is not installed, or there is no such model.
    """

    def __init__(self, name: str | Path, device: str = "cpu") -> None:
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise UserError(
                "needs the package transformers, which is not installed", place=f"the language model {name}",
                mend="pip install transformers, or use the shipped language model",
            ) from None  # fmt: skip
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(str(name))
            model: Any = AutoModelForCausalLM.from_pretrained(str(name))
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            mend = "name a folder or a hub model with a causal language model and its tokenizer"
            raise UserError(f"cannot be read: {reason}", place=f"the language model {name}", mend=mend) from None
        self._model = model.to(device).eval()

    def log_ratio(self, turn: Sequence[str], answer: Sequence[str]) -> float:
        """log p(answer | turn) - log p(answer), in nats: with "turn, line break" and with a line break before it."""
        text = " ".join(answer)
        return self._log(f"{' '.join(turn)}\n", text) - self._log("\n", text) if text else 0.0

    def _log(self, before: str, text: str) -> float:
        import torch

        first, then = (self._tokenizer.encode(x, add_special_tokens=False) for x in (before, text))
        ids = torch.tensor([[*first, *then]], device=self._model.device)
        with torch.no_grad():
            scores = torch.log_softmax(self._model(ids).logits[0, len(first) - 1 : -1].float(), -1)
        return float(scores.gather(1, ids[0, len(first) :, None]).sum())


def model_named(name: str | Path | None, device: str = "cpu") -> AnswerModel:
    """The shipped model, or the named one. Errors: UserError."""
    return shipped_model() if name is None else NamedModel(name, device)
