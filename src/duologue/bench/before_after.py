"""A model before and after alignment: the same segments, draws and scripted users for both, with their own users' sound
and with others' (`bench.listening_check`).

Everything is scored by the rules of one unit, whatever the alignment rewarded. What it rewarded instead of content (the
proxy) and what its loss held (the likelihood of the sound under the model before) are measured to see that they moved,
and are labelled so: they are no evidence. Content that nothing rewards (`bench.content`), and whether words that were
written are heard as speech, are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from duologue.audio.wave import Audio
from duologue.axes.proxy import Proxy
from duologue.bench.content import content_of
from duologue.bench.content_model import AnswerModel
from duologue.bench.fdb_corrected import score_backchannels
from duologue.bench.fdb_official import backchannel_histogram
from duologue.bench.listening_check import with_other_user
from duologue.bench.live import run_live, user_voices
from duologue.bench.nano_codec import texts
from duologue.bench.nano_parts import first_scenarios
from duologue.bench.nano_timing import timing_rows
from duologue.bench.nano_words import count_edits
from duologue.bench.rows import Row
from duologue.dialogue.intervals import clip, total
from duologue.dialogue.scenes import Scene
from duologue.engine.bundle import Bundle
from duologue.engine.prompts import Voice, prompt_room, text_prompt_of
from duologue.engine.sampling import Sampling
from duologue.model.likelihood import log_probs
from duologue.model.lm import DuplexLM
from duologue.train.align_learner import longest_frames, rollouts_for
from duologue.train.align_loss import pack
from duologue.train.align_settings import AlignSettings, RewardSettings
from duologue.train.rollouts import Episode, Recorded, Roller, Rollout
from duologue.train.segment_scores import Scored, score_segments, seeded

if TYPE_CHECKING:
    from duologue.audio.words import Recogniser

SAYING = ("turn_taking", "interruption")
"""Axes on which the agent has something to say: there its words are graded, and the likelihood of its sound."""
MEASURED = RewardSettings()
"""The rules by which models are measured: those of one unit, with their published thresholds."""
ROWS = 16
"""Rollouts in one forward pass of it."""
HEARD_S = 0.24
"""A written word is heard if a speech detector finds speech in it or so soon after. Its times say when it was written:
after a silence its sound begins a frame or two later, and a word of one piece is but one frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What both models are put to."""

    segments: Mapping[str, Sequence[Recorded]]
    """Held-out ones, by axis."""
    settings: AlignSettings
    """Of the alignment: prompts, lead and slots are its own."""
    sampling: Sampling
    context_s: float
    """How much of the recording before a segment is given."""
    scenarios: int
    """Live talks with scripted users, the first of the fixed order."""
    seconds: float
    """The scripted user leaves after so long."""
    seed: int
    voice: Voice | None = None
    """Whose voice the agent takes."""
    answer_model: AnswerModel | None = None
    """Who says how well answers fit their turns; the shipped model if None."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model did."""

    scored: list[Scored]
    other: list[Scored]
    """The same segments with other users, scored against what happened in them."""
    live: list[Row]
    said: list[Scene]
    """What it did where it has something to say, without sound."""


def roller_of(bundle: Bundle, trial: Trial) -> Roller:
    """Plays the trial's segments with a model."""
    how, codec = rollouts_for(trial.settings.rollouts, bundle), bundle.need_codec()
    played = [recorded.segment for found in trial.segments.values() for recorded in found]
    prompt, lead_s = how.text_prompt or "", how.lead_s or 0.0
    room = prompt_room(prompt, trial.voice) + longest_frames(played, how, codec.frame_rate, most_s=trial.context_s)
    return Roller(bundle, how.at_once, text_prompt=prompt, voice=trial.voice, lead_s=lead_s, frames=room)


def put_to(trial: Trial, bundle: Bundle, before: DuplexLM, recogniser: Recogniser | None = None) -> Outcome:
    """Let a model play all segments, with their own users and with others, and meet the scripted users.

    Args:
        trial: what is played.
        bundle: who plays.
        before: the model before alignment, which says how likely sounds are.
        recogniser: who hears what it says, if somebody does.
    """
    heard: dict[tuple[str, str], Rollout] = {}
    proxy = Proxy()

    def also(axis: str, rollout: Rollout) -> dict[str, float]:
        if axis in SAYING:
            heard[axis, rollout.scene.id] = rollout
        return further_metrics(axis, rollout, proxy, trial.answer_model)

    roller = roller_of(bundle, trial)
    scored = score_segments(
        roller, trial.segments, trial.sampling, MEASURED, context_s=trial.context_s, seed=trial.seed, also=also
    )
    other = score_segments(
        roller, with_other_user(trial.segments, trial.seed), trial.sampling, MEASURED, context_s=trial.context_s,
        seed=trial.seed,
    )  # fmt: skip
    rollouts = list(heard.values())
    more = {"sound_log_likelihood": sound_likelihoods(before, rollouts)}
    if recogniser is not None:
        more["words_understood"] = understood(rollouts, recogniser)
    found = {key: {name: x[i] for name, x in more.items()} for i, key in enumerate(heard)}
    scored = [replace(s, values={**s.values, **found.get((s.axis, s.segment), {})}) for s in scored]
    users = first_scenarios(trial.scenarios, trial.seconds)
    slots = min(trial.settings.rollouts.at_once, max(len(users), 1))
    talks = run_live(
        bundle, users, slots=slots, seed=trial.seed, voice=user_voices(), sampling=trial.sampling,
        text_prompt=text_prompt_of(trial.settings.rollouts.text_prompt, bundle), agent_voice=trial.voice,
    )  # fmt: skip
    said = [replace(r.scene, agent_audio=None, user_audio=None) for r in rollouts]
    return Outcome(scored, other, timing_rows(talks) if users else [], said)


def replay(trial: Trial, bundle: Bundle, chosen: Sequence[tuple[str, int]]) -> list[Rollout]:
    """The rollouts of some segments (axis, place) again, as `put_to` had them."""
    roller, found = roller_of(bundle, trial), []
    for first in range(0, len(chosen), roller.slots):
        episodes = [
            Episode(trial.segments[axis][place], trial.context_s, (seeded(trial.sampling, trial.seed, place, 0),))
            for axis, place in chosen[first : first + roller.slots]
        ]
        found += [rollout for (rollout,) in roller.play(episodes)]
    return found


def most_changed(trial: Trial, before: Sequence[Scored], after: Sequence[Scored], count: int) -> list[tuple[str, int]]:
    """The segments (axis, place) of each axis whose own reward changed most."""
    chosen = []
    for axis, recorded in trial.segments.items():
        metric = f"reward_{axis}"
        was, now = ({s.segment: s.values[metric] for s in x if s.axis == axis} for x in (before, after))
        moved = [(abs(now[r.segment.id] - was[r.segment.id]), -place) for place, r in enumerate(recorded)]
        chosen += [(axis, -place) for moved_by, place in sorted(moved, reverse=True)[:count] if moved_by > 0]
    return chosen


def further_metrics(
    axis: str, rollout: Rollout, proxy: Proxy, answer_model: AnswerModel | None = None
) -> dict[str, float]:
    """The proxy reward, content and speech of a rollout; NaN where the agent said nothing. On the axis of backchannels
    also how far the times of its own are from the human's (0 to 1)."""
    scene, found = rollout.scene, {}
    agent = scene.timeline.agent.clipped(scene.start, scene.end)
    said = [w for w in agent.words or () if w.end > w.start]
    if axis in SAYING:
        found["proxy_reward"] = proxy.score([scene])[0] if said else math.nan
        found |= content_of(scene, answer_model)
    heard = [total(clip(agent.speech, w.start, w.end + HEARD_S)) > 0 for w in said]
    found["words_heard"] = sum(heard) / len(heard) if heard else math.nan
    if axis == "backchannel":
        length = scene.end - scene.start
        human = [(e.start - scene.start, e.end - scene.start) for e in scene.events if e.kind == "backchannel"]
        reference = backchannel_histogram(human, length).tolist() if human else None
        jsd = score_backchannels(agent.shifted(-scene.start), length, length, reference).jsd
        found["backchannel_divergence"] = math.nan if jsd is None else jsd
    return found


@torch.no_grad()
def sound_likelihoods(lm: DuplexLM, rollouts: Sequence[Rollout]) -> list[float]:
    """Mean log-probability of the audio tokens of each rollout under a model, over frames in which the agent wrote
    words or the half second after; NaN for a rollout without words."""
    found: list[float] = []
    for first in range(0, len(rollouts), ROWS):
        rows = pack(rollouts[first : first + ROWS], lm)
        where = rows.mask & speaking(lm, rows.codes[:, 0])
        scored = log_probs(lm, rows.codes, depth_steps=lm.config.agent_streams, where=where)
        for values, mask in zip(scored.audio, scored.audio_mask, strict=True):
            found.append(float(values[mask].mean()) if mask.any() else math.nan)
    return found


def understood(rollouts: Sequence[Rollout], recogniser: Recogniser) -> list[float]:
    """How far the agent's speech agrees with its words: 1 less its word errors, at least 0; NaN for one without."""
    sounds, said = [], []
    for scene in (r.scene for r in rollouts):
        assert scene.agent_audio is not None
        wave, rate = scene.agent_audio()
        sounds.append(Audio(wave[None, round(scene.start * rate) :], rate))
        said.append(" ".join(w.text for w in scene.within_span().agent.words or ()))
    counted = count_edits(said, texts(recogniser, sounds))
    return [
        max(1 - int(edits) / int(words), 0.0) if words else math.nan
        for edits, words in zip(counted.edits, counted.words, strict=True)
    ]


def speaking(lm: DuplexLM, text: torch.Tensor, after: int = 6) -> torch.Tensor:
    """Frames [B, T] with a piece of a word, and so many behind each."""
    c = lm.config
    words = (text != c.existing_text_padding_id) & (text != c.existing_text_end_padding_id) & (text >= 0)
    spread = torch.nn.functional.pad(words.float()[:, None], (after, 0))
    return torch.nn.functional.max_pool1d(spread, after + 1, stride=1)[:, 0] > 0
