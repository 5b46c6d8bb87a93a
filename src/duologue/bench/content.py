"""What the agent says, measured by numbers that nothing is rewarded by, beside the human's on the same segments.

* Diversity: distinct words, distinct bigrams and entropy at equal counts (`dialogue.diversity`).
* `content_pmi`: pointwise mutual information of answer and turn, log p(answer | turn) - log p(answer), in nats a word,
  under a language model that no reward has (`bench.content_model`): whether an answer is one to this turn.
* `content_echo`: the share of the answer's words that the user said just before. An echo has a high mutual information
  and is no answer, so the two are read together, beside the human's.

Only where the agent has something to say. Fillers, broken-off words and words said twice in a row are not counted as
words of an answer. Sources: Li et al., 2016 (arXiv 1510.03055) for both measures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from duologue.bench.content_model import AnswerModel, shipped_model
from duologue.dialogue.diversity import DRAWS, diversities
from duologue.dialogue.exchange import Exchange, exchanges
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import Segment


def human_scene(segment: Segment) -> Scene:
    """What the human did in a segment, as a scene."""
    return Scene(
        id=segment.id, timeline=segment.timeline, start=segment.start, end=segment.end, events=segment.events,
        agent_audio=segment.agent_audio, user_audio=segment.user_audio,
    )  # fmt: skip


def content_of(scene: Scene, model: AnswerModel | None = None) -> dict[str, float]:
    """Content of what the agent says in one scene.

    Args:
        scene: with the words of both sides.
        model: whose probabilities; the shipped one by default.

    Returns:
        `content_words`: words of the agent that count; `content_pmi`: nats a word, over all exchanges; `content_echo`:
        0 to 1. All are NaN where words are unknown, the latter two also where the agent says nothing.
    """
    model = model or shipped_model()
    parts = exchanges(scene)
    if parts is None:
        return {"content_words": math.nan, "content_pmi": math.nan, "content_echo": math.nan}
    answered = [x for x in parts if x.agent and x.user]
    words, said = (sum(len(x.agent) for x in some) for some in (answered, parts))
    gained, echo = sum(model.log_ratio(x.user, x.agent) for x in answered), sum(map(echoed, answered))
    return {
        "content_words": float(said),
        "content_pmi": gained / words if words else math.nan,
        "content_echo": echo / words if words else math.nan,
    }


def echoed(exchange: Exchange) -> int:
    """How many of the answer's words the user said in the turn."""
    turn = set(exchange.user)
    return sum(word in turn for word in exchange.agent)


def diversity_of(
    sets: Mapping[str, Sequence[Scene]], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Diversity of what the agent says in sets of scenes ("before", "after", "human"), all at equal counts of words.

    Returns:
        By set: `words` (counted), `distinct_words`, `distinct_bigrams`, `entropy`, and `words_said` (all of them).
    """
    texts = {name: spoken(scenes) for name, scenes in sets.items()}
    each = diversities(texts, draws=draws, seed=seed)
    said = {name: float(sum(map(len, x))) for name, x in texts.items()}
    return {name: {**asdict(d), "words_said": said[name]} for name, d in each.items()}


def spoken(scenes: Sequence[Scene]) -> list[tuple[str, ...]]:
    """The agent's words that count, scene by scene; nothing where they are unknown."""
    return [tuple(w for x in exchanges(scene) or () for w in x.agent) for scene in scenes]
