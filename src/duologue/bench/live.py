"""A model live against scripted users, as many at once as there are slots: what was heard, said and done.

Times are a listener's, as in `engine.converse`: the sound that a call gives is heard in the frame after the call's own.
The user of frame t knows of the agent what was heard up to the end of frame t - 1.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.corpus.mockvoice import MockVoice
from duologue.corpus.render import RATE
from duologue.corpus.scenarios import FRAME_S, Scenario
from duologue.corpus.scripted import FRAME, Event, ScriptedUser
from duologue.corpus.spoken import Spoken, Voice
from duologue.dialogue.timeline import Timeline, Track, Word

if TYPE_CHECKING:
    from torch import Tensor

    from duologue.engine.bundle import Bundle
    from duologue.engine.duplex import Frame
    from duologue.engine.prompts import Voice as AgentVoice
    from duologue.engine.sampling import Sampling

SPEAKS_DBFS = -40.0
"""A silent agent speaks from a frame of this level on (mean power; a full-scale sine has -3 dBFS). Speech at -24 LUFS
has most of its frames above -35 dBFS."""
SILENT_DBFS = -50.0
"""A speaking agent is silent from a frame below this level on."""
MOCK = "mock"
"""Voices that babble: no engine, no words in the sound."""
VoiceOf: TypeAlias = Callable[[Scenario], Voice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One stretch of the user's speech, as it was played."""

    act: int
    part: int
    start: float
    """Seconds."""
    end: float
    """Of the sound, to the sample: not of its last frame."""
    cut: bool
    """The user gave up within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveResult:
    """One scenario, played to its end."""

    scenario: Scenario
    voice: str
    """Name of the user's voice; begins with "mock" where it only babbles."""
    seed: int
    """Of the agent's draws."""
    audio: Audio
    """Two channels at 24 kHz, agent and user, as they were heard."""
    timeline: Timeline
    """Speech of both as a detector finds it in the whole recording. Words: the agent's from its text stream (None
    without a tokenizer), the user's as they were spoken."""
    lines: tuple[Line, ...]
    """What the user said: the truth, not what a detector found."""
    events: tuple[Event, ...]
    """What the user did."""
    active: NDArray[np.bool_]
    """[T]: whether the agent spoke in each frame, as the user was told."""
    codes: Tensor
    """[K, T], as `DuplexLM.forward` takes them; -1 where a frame was not complete at the end."""
    prompt_frames: int
    """Frames of the prompt before it."""


class Talker(Protocol):
    """Who talks with the users: a model, or a stand-in with a plan."""

    @property
    def slots(self) -> int:
        """Conversations at once."""

    def begin(self, slot: int, seed: int) -> int:
        """Begin a new conversation in a slot; returns the frames of its prompt."""

    def step(self, sound: Tensor, active: Sequence[bool]) -> Frame:
        """A frame of every user that takes part, float [slots, 1920], and what the agent makes of it."""

    def read(self, tokens: Tensor, heard: Tensor) -> tuple[Tensor, tuple[Word, ...] | None]:
        """Codes [K, T] and words of a whole talk: its tokens [1 + agent_streams, T] and user's codes by call."""


def run_live(
    bundle: Bundle, scenarios: Sequence[Scenario], *, slots: int, seed: int, voice: VoiceOf | None = None,
    sampling: Sampling | None = None, text_prompt: str | None = None, agent_voice: AgentVoice | None = None,
) -> Iterator[LiveResult]:  # fmt: skip
    """Let a model talk with scripted users; results come in the order in which the talks end.

    Each scenario has draws of its own, by `seed` and its name. The same seed and number of slots give the same bits;
    with another number of slots a model's logits differ by rounding, and a talk may part from its twin where two tokens
    are equally likely to within that.

    Args:
        bundle: with its codec.
        scenarios: whom it meets.
        slots: talks at once. Memory is that of the slots, with the talks in them.
        seed: of all draws.
        voice: of each user; by default `user_voices()`.
        sampling: settings; by default the model's own. Its seeds are replaced.
        text_prompt: what the agent is told before each talk.
        agent_voice: whose voice the agent takes.

    Raises:
        UserError: no slots, a codec that does not run at 24 kHz in frames of 80 ms, or a prompt that does not fit.
    """
    if slots < 1:
        raise UserError(f"{slots} talks at once", place="slots", mend="use 1 or more")
    if not scenarios:
        return
    talker = ModelTalker(
        bundle, min(slots, len(scenarios)), longest=max(s.limit for s in scenarios),
        sampling=sampling or bundle.config.sampling, text_prompt=text_prompt or "", voice=agent_voice,
    )  # fmt: skip
    yield from live(talker, scenarios, seed=seed, voice=voice or user_voices())


def live(talker: Talker, scenarios: Sequence[Scenario], *, seed: int, voice: VoiceOf) -> Iterator[LiveResult]:
    """Let anything that talks meet scripted users. When a talk ends, its slot takes the next one."""
    import torch

    from duologue.base.progress import meter

    waiting = iter(scenarios)
    sessions: list[_Session | None] = [None] * talker.slots
    silence = np.zeros(FRAME, np.float32)
    with meter("talking with users", total=len(scenarios)) as progress:
        while True:
            for slot, session in enumerate(sessions):
                if session is None and (scenario := next(waiting, None)) is not None:
                    own = seed_of(seed, scenario.id)
                    spoken = voice(scenario)
                    prompt = talker.begin(slot, own)
                    sessions[slot] = _Session(ScriptedUser(scenario, spoken), spoken.name, own, prompt)
            if not any(sessions):
                return
            frame = np.stack([silence if s is None else s.play() for s in sessions])
            got = talker.step(torch.from_numpy(frame), [s is not None for s in sessions])
            heard = got.sound.cpu().float().numpy()
            for slot, session in enumerate(sessions):
                if session is None:
                    continue
                session.take(heard[slot], got.tokens[slot].cpu(), got.heard[slot].cpu())
                if session.user.over:
                    sessions[slot] = None
                    progress.advance()
                    yield _result(session, talker)


def speaks(before: bool, frame: NDArray[np.float32]) -> bool:
    """Whether an agent speaks in a frame [S], given whether it did in the one before: its level, with hysteresis."""
    return level_dbfs(frame) >= (SILENT_DBFS if before else SPEAKS_DBFS)


def level_dbfs(samples: NDArray[np.float32]) -> float:
    """Mean power in decibels below full scale; -200 for silence."""
    return 10 * log10(max(float(np.mean(np.square(samples, dtype=np.float64))), 1e-20))


def seed_of(seed: int, name: str) -> int:
    """The seed of one scenario's draws."""
    from duologue.engine.sampling import SEEDS

    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") % SEEDS


class ModelTalker:
    """A model with its codec in the slots of one duplex engine.

    Args:
        bundle: with its codec.
        slots: talks at once.
        longest: seconds of the longest talk.
        sampling: settings of all; the seeds come with each talk.
        text_prompt: what the agent is told before; empty: nothing.
        voice: whose voice it takes.
    """

    def __init__(
        self, bundle: Bundle, slots: int, *, longest: float, sampling: Sampling, text_prompt: str = "",
        voice: AgentVoice | None = None,
    ) -> None:  # fmt: skip
        from duologue.engine.duplex import Duplex
        from duologue.engine.prompts import Prompter, tones

        codec = bundle.need_codec()
        if (codec.sample_rate, codec.frame_size) != (RATE, FRAME):
            problem = f"the codec takes frames of {codec.frame_size} samples at {codec.sample_rate} Hz"
            raise UserError(problem, place=bundle.config.name, mend=f"scripted users speak in {FRAME} at {RATE} Hz")
        self.slots, self._sampling, self._text = slots, sampling, bundle.text
        self._prompt, self._voice = text_prompt, voice
        frames = round(longest / FRAME_S) + 2 + _longest_prompt(text_prompt, voice)
        self._duplex = Duplex(bundle.lm, codec, slots, frames=frames)
        self._prompter = Prompter(
            self._duplex.engine, tones(codec, kyutai=bundle.config.kyutai_codec), bundle.need_text
        )
        self._state = self._duplex.initial_state(sampling)

    def begin(self, slot: int, seed: int) -> int:
        """Begin a new conversation in a slot. Errors: UserError, the prompt does not fit the model."""
        self._duplex.reset(self._state, slot, replace(self._sampling, text_seed=seed, audio_seed=seed))
        return self._prompter.apply(self._state.engine, slot, self._prompt, self._voice)

    def step(self, sound: Tensor, active: Sequence[bool]) -> Frame:
        """One call of the engine."""
        return self._duplex.step(self._state, sound, None if all(active) else active)

    def read(self, tokens: Tensor, heard: Tensor) -> tuple[Tensor, tuple[Word, ...] | None]:
        """Codes as `DuplexLM.forward` takes them; words at the times at which they were heard to begin."""
        import torch

        from duologue.engine.engine import FREE
        from duologue.model.alignment import to_forward
        from duologue.model.words import TextLayout, words

        config, delay = self._duplex.engine.config, self._duplex.delay
        missing = tokens.new_full((len(tokens), min(delay, tokens.shape[1])), FREE)
        said = torch.cat((tokens[:, delay:], missing), 1)
        codes = to_forward(said[None], heard[None], config.user_lag)[0].clamp(min=-1)
        if self._text is None:
            return codes, None
        layout = TextLayout.of(config)
        layout = replace(layout, delay=layout.delay - (1 + delay) / layout.frame_rate)
        return codes, tuple(words(said[0], self._text, layout))


def _longest_prompt(text: str, voice: AgentVoice | None) -> int:
    """At least as many frames as the prompt has; a token is no shorter than a byte."""
    kept = None if voice is None else voice.codes if voice.codes is not None else voice.embeddings
    return 12 + 32 + len(text.encode()) + (0 if kept is None else max(kept.shape))


def user_voices(name: str | None = None, *, cache_folder: Path | None = None) -> VoiceOf:
    """Voices for scripted users.

    Args:
        name: one voice for all, such as "pico/en-US@1.08"; "mock": babble; None: each scenario's own, or babble where
            their engine (py-nanotts, of the extra `simulate`) is not installed.
        cache_folder: where to keep what was said.

    Raises:
        UserError: not a voice's name, or the engine is not installed.
    """
    if name == MOCK or (name is None and importlib.util.find_spec("py_nanotts") is None):
        return lambda scenario: BabbleVoice(scenario.subject)
    from duologue.corpus.voices import Times, find_voice

    times: Times = "letters" if importlib.util.find_spec("pocketsphinx") is None else "align"
    return lambda scenario: find_voice(name or scenario.voice, cache_folder=cache_folder, times=times)


class BabbleVoice:
    """A mock voice with sound: the timing of human speech, and babble that speech detectors take for it."""

    licence = "none: made from nothing"

    def __init__(self, seed: int) -> None:
        self._timing, self._seed = MockVoice(seed=seed), seed

    @property
    def name(self) -> str:
        return f"{MOCK}/babble-{self._seed}"

    def speak(self, text: str) -> Spoken:
        """Say a text at 24 kHz; what is heard is not its words."""
        from duologue.audio.babble import babble

        spoken = self._timing.speak(text)
        sound, spans = babble(10.0, RATE, seed=crc32(f"{self._seed}/{text}".encode()))
        talk = np.concatenate([sound[round(a * RATE) : round(b * RATE)] for a, b in spans])
        return replace(spoken, samples=np.resize(talk, round(spoken.duration * RATE)), rate=RATE)


@dataclass(slots=True)
class _Session:
    """A talk under way."""

    user: ScriptedUser
    voice: str
    seed: int
    prompt_frames: int
    played: list[NDArray[np.float32]] = field(default_factory=list)
    """The user's frames."""
    spoken: list[NDArray[np.float32]] = field(default_factory=list)
    """The agent's, by call: frame t is heard in t + 1."""
    active: list[bool] = field(default_factory=lambda: [False])
    """Whether the agent is heard to speak in frame 0, 1, ...: one more than there were calls."""
    tokens: list[Tensor] = field(default_factory=list)
    heard: list[Tensor] = field(default_factory=list)

    def play(self) -> NDArray[np.float32]:
        """The user's next frame."""
        t = len(self.played)
        sound = self.user.sound(self.user.step(t > 0 and self.active[t - 1], t))
        self.played.append(sound)
        return sound

    def take(self, sound: NDArray[np.float32], tokens: Tensor, heard: Tensor) -> None:
        """What the agent's call for this frame gave."""
        self.spoken.append(sound.copy())
        self.active.append(speaks(self.active[-1], sound))
        self.tokens.append(tokens)
        self.heard.append(heard)


def _result(session: _Session, talker: Talker) -> LiveResult:
    import torch

    from duologue.audio.vad import detect_speech

    user, frames = session.user, len(session.played)
    agent = np.concatenate([np.zeros(FRAME, np.float32), *session.spoken[:-1]])
    audio = Audio(np.stack((agent, np.concatenate(session.played))), RATE)
    codes, said = talker.read(torch.stack(session.tokens, 1), torch.stack(session.heard, 1))
    speech = detect_speech([audio.channel(side) for side in (0, 1)])
    tracks = Track.of(speech[0], said), Track.of(speech[1], user.track().words)
    return LiveResult(
        scenario=user.scenario, voice=session.voice, seed=session.seed, audio=audio,
        timeline=Timeline(*tracks, audio.duration), lines=lines_of(user), events=tuple(user.events),
        active=np.array(session.active[:frames]), codes=codes, prompt_frames=session.prompt_frames,
    )  # fmt: skip


def lines_of(user: ScriptedUser) -> tuple[Line, ...]:
    """What a user said so far, in order: each part of each act once."""
    frames: dict[tuple[int, int], tuple[int, int, bool]] = {}
    for n, play in enumerate(user.played):
        if play is not None:
            frames[play.act, play.part] = (n - play.frame, n + 1, play.last)
    found = []
    for (act, part), (first, stop, cut) in frames.items():
        start = first * FRAME_S
        end = min(start + user.spoken[act][part].duration, stop * FRAME_S)
        found.append(Line(act=act, part=part, start=start, end=end, cut=cut))
    return tuple(found)
