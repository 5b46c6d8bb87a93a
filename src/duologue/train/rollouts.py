"""Rollouts: what the agent does in a segment when the model takes the human's place, many at once.

The user's side is recorded and fixed; the model hears it frame by frame, as live, and its sound is heard two frames
after the call that began it, as live. Before a segment come the prompts, and then either the recording that precedes it
(both sides, forced) or silence in which the model may say what it says first. All rollouts of a segment share these:
they are read once, in parallel, and copied.

Source: arXiv 2606.11167, sections 3 and 4. The paper does not say whether the agent's side of the context is recorded
or generated; here it is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from duologue.audio.vad import UNPADDED, VadConfig, detect_speech
from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.corpus.encoding import encode_rows
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import LazyWaveform, Segment
from duologue.dialogue.timeline import Timeline, Track, Word
from duologue.engine.bundle import Bundle
from duologue.engine.engine import Engine, EngineState
from duologue.engine.prompts import Prompter, Voice, tones
from duologue.engine.sampling import Sampling
from duologue.model.config import LMConfig
from duologue.model.words import TextLayout, lay_words, words

DECODED, DECODED_S = 32, 320.0
"""Rollouts whose sound is made at once, and seconds of sound: Mimi's decoder needs 28 MB for each."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A segment as tokens, frame by frame from the beginning of its context."""

    segment: Segment
    agent: Tensor
    """[1 + agent_streams, F]: text and codes of the human whose place the model takes; text -1 if nobody knows it."""
    user: Tensor
    """[user_streams, F]"""

    @property
    def worded(self) -> bool:
        """Whether its text is known: only then is it given as context."""
        return bool((self.agent[0] >= 0).all())


@dataclass(frozen=True, slots=True)
class Episode:
    """One segment to be played, with the settings of each of its rollouts."""

    recorded: Recorded
    context_s: float
    """How much of the recording before the segment is given; less if it has less."""
    sampling: tuple[Sampling, ...]
    """One for each rollout."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What one rollout became."""

    codes: Tensor
    """[K, T], as `DuplexLM.forward` takes them, from the prompt's first frame on."""
    scored: Tensor
    """bool [T]: frames in which the model acted in the segment; prompts, context and lead do not count."""
    scene: Scene
    """In the segment's seconds, as it was heard."""
    sampling: Sampling
    since: float = 0.0
    """Second from which the agent is the model; before that, the recording or silence."""


def record(bundle: Bundle, segments: Sequence[Segment], *, rows: int = 16) -> list[Recorded]:
    """Segments as tokens: theirs if they have some, else their sound is encoded. Errors: UserError, neither."""
    c, rate, found = bundle.lm.config, bundle.need_codec().frame_rate, []
    layout = replace(TextLayout.of(c), frame_rate=rate)
    unknown = iter(_encoded(bundle, [s for s in segments if s.codes is None], rows))
    for segment in segments:
        if segment.codes is None:
            agent, user = next(unknown)
        else:
            agent, user = torch.from_numpy(segment.codes).long().chunk(2)
        frames, said = agent.shape[1], segment.timeline.agent.words
        text = torch.full((1, frames), -1)
        if said is not None and bundle.text is not None:
            text = lay_words(said, bundle.text, frames, layout)[None].long()
        found.append(Recorded(segment, torch.cat((text, agent[: c.agent_streams])), user[: c.user_streams]))
    return found


def _encoded(bundle: Bundle, segments: Sequence[Segment], rows: int) -> list[tuple[Tensor, Tensor]]:
    """Codes [n, T] of (agent, user) of each segment, from its sound."""
    codec = bundle.need_codec()
    assert isinstance(codec, nn.Module)
    device = next(codec.parameters()).device
    waves = [
        _heard(read, s.id).resampled(codec.sample_rate).samples[0]
        for s in segments for read in (s.agent_audio, s.user_audio)
    ]  # fmt: skip
    codes = [x for first in range(0, len(waves), rows) for x in encode_rows(codec, device, waves[first : first + rows])]
    found = []
    for sides in zip(codes[::2], codes[1::2], strict=True):
        agent, user = (_padded(torch.from_numpy(x), max(y.shape[1] for y in sides)) for x in sides)
        found.append((agent, user))
    return found


class Roller:
    """Plays segments in the slots of one engine.

    Args:
        bundle: a model with its codec; training the language model in place is seen at once.
        slots: rollouts at once.
        text_prompt: what the agent is told before.
        voice: whose voice it takes: codes, for what is kept as embeddings cannot be learned from.
        lead_s: seconds of silence before a segment that has no context.
        frames: the longest rollout with its prompt and context, where it is shorter than the model's context.
        vad: how the agent's speech is found: as mining finds the user's.

    Raises:
        UserError: a voice that is not made of codes, or a prompt that does not fit.
    """

    def __init__(
        self, bundle: Bundle, slots: int, *, text_prompt: str = "", voice: Voice | None = None, lead_s: float = 0.0,
        frames: int | None = None, vad: VadConfig = UNPADDED,
    ) -> None:  # fmt: skip
        if voice is not None and voice.codes is None:
            mend = "give a recording as the voice prompt"
            raise UserError("is kept as embeddings, and has no tokens to learn from", place="voice_prompt", mend=mend)
        self.bundle, self._codec, self._vad = bundle, bundle.need_codec(), vad
        self._tone = tones(self._codec, kyutai=bundle.config.kyutai_codec)
        self._engine = Engine(bundle.lm, slots, frames=frames)
        self._prompter = Prompter(self._engine, self._tone, bundle.need_text)
        self._prompt, self._voice = text_prompt, voice
        self._rate = self._codec.frame_rate
        self._lead = math.ceil(lead_s * self._rate)
        self._late = 1 + self._engine.delay
        """Frames from a call until its sound is heard."""

    @property
    def slots(self) -> int:
        return self._engine.slots

    def play(self, episodes: Sequence[Episode]) -> list[list[Rollout]]:
        """All rollouts of each episode. Errors: ValueError, more of them than slots."""
        sampling = [s for episode in episodes for s in episode.sampling]
        if not 0 < len(sampling) <= self.slots:
            raise ValueError(f"{len(sampling)} rollouts for {self.slots} slots")
        idle = [sampling[0]] * (self.slots - len(sampling))
        state = self._engine.initial_state([*sampling, *idle])
        takes: list[_Take] = []
        for episode in episodes:
            takes += self._begin(state, episode, len(takes))
        self._run(state, takes)
        sounds = self._sounds(takes)
        speech = detect_speech([Audio(x[None], self._codec.sample_rate) for x in sounds], self._vad)
        made = iter([self._made(*each) for each in zip(takes, sampling, sounds, speech, strict=True)])
        return [[next(made) for _ in episode.sampling] for episode in episodes]

    def demonstration(self, recorded: Recorded) -> tuple[Tensor, Tensor]:
        """What the human did in the segment as the model would have lived it: codes [K, T] from the prompt's first
        frame on, and which frames [T] lie in the segment. Words nobody knows are -1."""
        segment, frames = recorded.segment, recorded.user.shape[1]
        start, end = int(segment.start * self._rate), min(math.ceil(segment.end * self._rate), frames)
        prompt = self._prompter.codes(self._prompt, self._voice)
        codes = lived(self.bundle.lm.config, recorded, 0, end - self._late, self._late)
        told = torch.arange(prompt.shape[1] + codes.shape[1]) >= prompt.shape[1] + max(start - self._late, 0)
        return torch.cat((prompt, codes), 1), told

    def _begin(self, state: EngineState, episode: Episode, slot: int) -> list[_Take]:
        """Fill the slots of an episode from `slot` on with what comes before it."""
        c, recorded = self.bundle.lm.config, episode.recorded
        segment, frames = recorded.segment, recorded.user.shape[1]
        start, end = int(segment.start * self._rate), min(math.ceil(segment.end * self._rate), frames)
        begin = start - (round(min(episode.context_s, segment.start) * self._rate) if recorded.worded else 0)
        begin = max(begin, 0)
        self._prompter.apply(state, slot, self._prompt, self._voice)
        prompt = self._prompter.codes(self._prompt, self._voice)
        count = start - begin - self._late
        if count > 0:
            context = lived(self.bundle.lm.config, recorded, begin, count, self._late)
            self._engine.prefill(state, [slot], context[None])
            lead, first = 0, begin + count
        else:
            context, lead, first, begin = prompt[:, :0], self._lead, start - self._late - self._lead, start
        user = self._user(recorded.user, first, start - self._late if lead or first < 0 else first, end - 1)
        given = torch.cat((prompt, context), 1)
        takes = []
        for i in range(len(episode.sampling)):
            if i:
                self._engine.copy_slot(state, slot, slot + i)
            codes = torch.full((1 + c.n_q, given.shape[1] + user.shape[1]), -1)
            codes[:, : given.shape[1]] = given
            takes.append(_Take(segment, slot + i, codes, given.shape[1], lead, user, start, begin))
        return takes

    def _user(self, codes: Tensor, first: int, sounds: int, end: int) -> Tensor:
        """The user's codes of the calls that bring frames first .. end - 1: silence before frame `sounds`."""
        sounds = max(sounds, 0)
        silence = self._tone.silence[: len(codes), None].expand(-1, max(0, sounds - first))
        return torch.cat((silence, codes[:, sounds:end]), 1)

    def _run(self, state: EngineState, takes: Sequence[_Take]) -> None:
        """Call the engine until every take has had all of its user."""
        c, delay = self.bundle.lm.config, self._engine.delay
        agent, longest = 1 + c.agent_streams, max(take.user.shape[1] for take in takes)
        heard = self._tone.silence[: c.user_streams].repeat(self.slots, 1)
        for t in range(longest):
            active = [False] * self.slots
            for take in takes:
                if t < take.user.shape[1]:
                    active[take.slot] = True
                    heard[take.slot] = take.user[:, t]
                    place = take.given + t - c.user_lag
                    if place >= 0:
                        take.codes[agent : agent + c.user_streams, place] = take.user[:, t]
            tokens = self._engine.step(state, heard, None if all(active) else active)[0].cpu()
            for take in takes:
                if active[take.slot] and t >= delay:
                    take.codes[:agent, take.given + t - delay] = tokens[take.slot, :agent]
        for take in takes:
            take.codes = take.codes[:, : take.given + take.user.shape[1] - delay]

    @torch.no_grad()
    def _sounds(self, takes: Sequence[_Take]) -> list[np.ndarray]:
        """The agent's sound of each take [S] from its first call on."""
        device, streams = self._engine.device, self.bundle.lm.config.agent_streams
        found: list[np.ndarray] = []
        longest_s = max(take.codes.shape[1] - take.given for take in takes) / self._rate
        count = max(1, min(DECODED, int(DECODED_S / longest_s)))
        for first in range(0, len(takes), count):
            some = [take.codes[1 : 1 + streams, take.given :] for take in takes[first : first + count]]
            longest = max(x.shape[1] for x in some)
            waves = self._codec.decode(torch.stack([_padded(x, longest, 0) for x in some]).to(device)).cpu()
            size = self._codec.frame_size
            found += [wave[0, : x.shape[1] * size].numpy() for wave, x in zip(waves, some, strict=True)]
        return found

    def _made(self, take: _Take, sampling: Sampling, sound: np.ndarray, speech: np.ndarray) -> Rollout:
        segment, since = take.segment, (take.start - take.lead) / self._rate
        # Before that, the human spoke, as far as it was given.
        context, human = take.begin / self._rate, segment.timeline.agent
        past = human.clipped(context, since) if context < since else Track.of([], [])
        inside = [(max(a, 0.0), min(b, segment.end)) for a, b in np.concatenate((past.speech, speech + since)).tolist()]
        said: tuple[Word, ...] | None = None
        if self.bundle.text is not None:
            layout = replace(TextLayout.of(self.bundle.lm.config), frame_rate=self._rate)
            spelt = words(take.codes[0, take.given :], self.bundle.text, layout)
            said = (*(past.words or ()), *(Word(w.text, w.start + since, w.end + since) for w in spelt))
        agent = Track.of([(a, b) for a, b in inside if a < b], said)
        scored = torch.zeros(take.codes.shape[1], dtype=torch.bool)
        scored[take.given + take.lead :] = True
        scene = Scene(
            id=segment.id, timeline=Timeline(agent, segment.timeline.user, segment.end), start=segment.start,
            end=segment.end, events=segment.events, user_audio=segment.user_audio,
            agent_audio=_placed(sound, since, segment.end, self._codec.sample_rate),
        )  # fmt: skip
        return Rollout(take.codes, scored, scene, sampling, max(since, 0.0))


def lived(config: LMConfig, recorded: Recorded, begin: int, frames: int, late: int) -> Tensor:
    """A recording as the model would have lived it, codes [K, frames] for `forward`: beside the user's frame that came
    with a call lies what that call would have written to be heard `late` frames later."""
    ahead = slice(begin + late, begin + late + frames)
    came = slice(begin + config.user_lag, begin + config.user_lag + frames)
    both = torch.cat((recorded.agent[:, ahead], recorded.user[:, came]))
    return torch.cat((both, both.new_full((1 + config.n_q - len(both), both.shape[1]), -1)))


@dataclass(slots=True)
class _Take:
    """A rollout on its way."""

    segment: Segment
    slot: int
    codes: Tensor
    """[K, T], -1 where nothing is known yet."""
    given: int
    """Frames of prompt and context."""
    lead: int
    """Calls before those that are scored."""
    user: Tensor
    """[user_streams, calls]"""
    start: int
    """The segment's frame at which the first scored call is heard."""
    begin: int
    """The segment's frame at which the context begins."""


def _placed(sound: np.ndarray, since: float, end: float, rate: int) -> LazyWaveform:
    """The sound from second `since` on, within [0, end]."""

    def read() -> tuple[np.ndarray, int]:
        out = np.zeros(round(end * rate), np.float32)
        at = round(since * rate)
        kept = sound[max(-at, 0) :][: max(len(out) - max(at, 0), 0)]
        out[max(at, 0) : max(at, 0) + len(kept)] = kept
        return out, rate

    return read


def _heard(read: LazyWaveform | None, name: str) -> Audio:
    if read is None:
        raise UserError("has no sound", place=f"segment {name}", mend="mine a corpus with sound, with --clips")
    samples, rate = read()
    return Audio(np.asarray(samples, np.float32)[None], rate)


def _padded(codes: Tensor, frames: int, value: int = -1) -> Tensor:
    """Codes [n, T] as [n, frames]."""
    return torch.nn.functional.pad(codes.long(), (0, frames - codes.shape[1]), value=value)
