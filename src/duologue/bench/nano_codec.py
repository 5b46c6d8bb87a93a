"""What a codec leaves of speech: words that are still understood, how good it sounds, and silence that stays silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from duologue.audio.quality import available_predictors, measure_quality
from duologue.audio.wave import Audio, read_audio
from duologue.base.errors import UserError
from duologue.base.files import read_text
from duologue.base.progress import track
from duologue.bench.nano_words import count_edits, mean_interval, rate_interval
from duologue.bench.rows import Row
from duologue.codec.interface import Codec
from duologue.corpus.scenario_lines import subjects
from duologue.corpus.voices import find_voice
from duologue.engine.duplex import Duplex
from duologue.engine.sampling import Sampling

if TYPE_CHECKING:
    from duologue.audio.words import Recogniser
    from duologue.engine.bundle import Bundle

SUFFIXES = (".wav", ".flac")
STEP = 125
"""Frames that a codec takes at once: memory is bounded however long a recording is."""
QUIET_DB = -50.0
"""Level of a frame, in dBFS, below which it is silent."""
SILENCE_S = 10.0
NO_RECOGNISER = "no recogniser: give --recogniser (extra asr)"
NO_TOKENIZER = "this model has no tokenizer, so no words"
NO_QUALITY = "predicted quality was not asked for: give --quality"


class Unavailable(Exception):  # noqa: N818 (no error: the row says why)
    """What a row needs is not installed; the row is not measured, and says so."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something said, and the words if they are known."""

    name: str
    audio: Audio
    """One channel."""
    text: str | None


def read_utterances(folder: Path) -> list[Utterance]:
    """The recordings (.wav, .flac) of a folder by name, each with the .txt of the same stem beside it, if any.

    Raises:
        UserError: no such folder, no recordings in it, or one with several channels.
    """
    if not folder.is_dir():
        raise UserError("no such folder", place=folder, mend="name a folder of recordings")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError("holds no recordings", place=folder, mend=f"put {' or '.join(SUFFIXES)} files there")
    found = []
    for path in files:
        audio = read_audio(path)
        if audio.channels != 1:
            raise UserError(f"has {audio.channels} channels", place=path, mend="write one channel")
        text = path.with_suffix(".txt")
        found.append(Utterance(path.stem, audio, " ".join(read_text(text).split()) if text.is_file() else None))
    return found


def voice_utterances(voices: Sequence[str], count: int, cache_folder: Path | None = None) -> list[Utterance]:
    """What voices say, in turn, of the lines of the scripted users, on which nothing is trained.

    Errors: Unavailable, an engine is not installed or lacks the voice.
    """
    found = []
    lines = [text for s in subjects() for text in (s.question, ". ".join(s.story) + ".", s.change)][:count]
    try:
        speakers = [find_voice(name, cache_folder=cache_folder, times="letters") for name in voices]
        said = [speakers[i % len(speakers)].speak(text) for i, text in enumerate(lines)]
    except UserError as error:
        raise Unavailable(str(error)) from None
    for i, (text, spoken) in enumerate(zip(lines, said, strict=True)):
        assert spoken.samples is not None
        name = f"{speakers[i % len(speakers)].name}: {text}"
        found.append(Utterance(name, Audio(spoken.samples[None], spoken.rate), text))
    return found


@torch.no_grad()
def through_codec(codec: Codec, audio: Audio) -> Audio:
    """A recording of one channel after encoding and decoding, at the codec's rate, as long as before."""
    wave = audio.resampled(codec.sample_rate).samples
    size = codec.frame_size * STEP
    ears, mouth = codec.initial_state(1), codec.initial_state(1)
    parts = []
    for start in range(0, wave.shape[1], size):
        piece = wave[:, start : start + size]
        piece = np.pad(piece, ((0, 0), (0, -piece.shape[1] % codec.frame_size)))
        codes, ears = codec.encode_step(torch.from_numpy(piece)[None].to(device_of(codec)), ears)
        sound, mouth = codec.decode_step(codes, mouth)
        parts.append(sound[0].cpu().numpy())
    return Audio(np.concatenate([np.zeros((1, 0), np.float32), *parts], axis=1)[:, : wave.shape[1]], codec.sample_rate)


def device_of(codec: Codec) -> torch.device:
    """Where a codec computes."""
    return next(iter(codec.initial_state(1).values())).device


def codec_rows(
    who: str, read: Callable[[], Sequence[Utterance]], codec: Codec, *, points: float, least_mos: float | None,
    recogniser: Recogniser | None, quality: bool,
) -> list[Row]:  # fmt: skip
    """Error rate above the original's, and predicted quality beside the original's.

    Args:
        who: whose speech, as the rows say it.
        read: gives utterances, if anything can be measured; where one has no text, what is recognised in the original
            stands for it.
        codec: on its device.
        points: most that the word error rate may rise.
        least_mos: least mean opinion score; None: no such row.
        recogniser: None: the rows say so.
        quality: whether to predict quality.
    """
    judged = quality and least_mos is not None and available_predictors()["distillmos"] is None
    try:
        said = read() if recogniser is not None or judged else []
    except Unavailable as reason:
        rows = [unmeasured(_errors(who), f"<= {points:g}", str(reason))]
        return rows if least_mos is None else [*rows, unmeasured(_mos(who), f">= {least_mos:g}", str(reason))]
    decoded = [through_codec(codec, u.audio) for u in track(said, f"codec, {who}")]
    rows = [_error_row(who, said, decoded, points, recogniser)]
    if least_mos is not None:
        rows.append(_quality_row(who, said, decoded, least_mos, quality))
    return rows


def _error_row(
    who: str, said: Sequence[Utterance], decoded: Sequence[Audio], points: float, recogniser: Recogniser | None
) -> Row:
    what, target = _errors(who), f"<= {points:g}"
    if recogniser is None:
        return unmeasured(what, target, NO_RECOGNISER)
    before, after = (texts(recogniser, audios) for audios in ([u.audio for u in said], decoded))
    meant = [heard if u.text is None else u.text for u, heard in zip(said, before, strict=True)]
    base, now = count_edits(meant, before), count_edits(meant, after)
    if base.rate is None or now.rate is None:
        return unmeasured(what, target, "no words were said or recognised")
    unknown = sum(u.text is None for u in said)
    note = f"original {base.rate:.1f} %, decoded {now.rate:.1f} %, {int(base.words.sum())} words"
    if unknown:
        note += f"; {unknown} of {len(said)} have no transcript: what is recognised in the original stands for it"
    value = now.rate - base.rate
    return Row(
        what=what, value=value, n=len(said), interval=rate_interval(now, base), target=target, passed=value <= points,
        note=note,
    )  # fmt: skip


def _quality_row(who: str, said: Sequence[Utterance], decoded: Sequence[Audio], least: float, quality: bool) -> Row:
    scores = [predicted(sound) if quality else None for sound in track(decoded, "predicting quality")]
    row = quality_row(_mos(who), scores, least, quality)
    before = [score for score in (predicted(u.audio) for u in said if row.value is not None) if score is not None]
    return replace(row, note=f"the originals have {float(np.mean(before)):.2f}") if before else row


def _errors(who: str) -> str:
    return f"codec, {who}: word error rate above the original's (points)"


def _mos(who: str) -> str:
    return f"codec, {who}: DistillMOS"


def predicted(sound: Audio) -> float | None:
    """DistillMOS of one channel; None where it is not installed, or there is nothing to hear."""
    return measure_quality(sound, ["distillmos"])["distillmos"]


def quality_row(what: str, scores: Sequence[float | None], least: float, quality: bool) -> Row:
    """The mean of scores, or why there are none."""
    target, known = f">= {least:g}", [score for score in scores if score is not None]
    if not known:
        absent = available_predictors()["distillmos"] or "there is no speech to judge"
        return unmeasured(what, target, absent if quality else NO_QUALITY)
    value = float(np.mean(known))
    return Row(
        what=what, value=value, n=len(known), interval=mean_interval(known), target=target, passed=value >= least
    )


def silence_rows(bundle: Bundle, *, seed: int, slots: int = 64) -> list[Row]:
    """How much of 10 s of digital silence stays silent, in the codec and in conversations with the model."""
    codec = bundle.need_codec()
    frames = round(SILENCE_S * codec.frame_rate)
    silence = Audio(np.zeros((1, frames * codec.frame_size), np.float32), codec.sample_rate)
    rows = [_silence_row("silence in, silence out: codec (share of frames)", [through_codec(codec, silence)])]
    duplex = Duplex(bundle.lm, codec, slots, frames=frames + 2)
    settings = [sampled(bundle, seed + i) for i in range(slots)]
    state, sound = duplex.initial_state(settings), torch.zeros(slots, codec.frame_size)
    steps = [duplex.step(state, sound).sound.cpu() for _ in track(range(frames + duplex.delay), "silence")]
    spoken = torch.cat(steps[duplex.delay :], dim=1).numpy()
    what = "silence in, silence out: model (share of frames)"
    return [*rows, _silence_row(what, [Audio(row[None], codec.sample_rate) for row in spoken])]


def quiet_frames(audio: Audio) -> NDArray[np.bool_]:
    """Which frames [T] of 80 ms of one channel are below -50 dBFS (root of the mean square)."""
    size = round(0.08 * audio.rate)
    wave = audio.samples[0, : audio.samples.shape[1] // size * size].reshape(-1, size).astype(np.float64)
    level: NDArray[np.bool_] = np.mean(wave**2, axis=1) < 10 ** (QUIET_DB / 10)
    return level


def sampled(bundle: Bundle, seed: int) -> Sampling:
    """The model's own settings, with a seed."""
    return replace(bundle.config.sampling, text_seed=seed % 2**31, audio_seed=seed % 2**31)


def texts(recogniser: Recogniser, audios: Sequence[Audio]) -> list[str]:
    """What is recognised in each, as one text."""
    return [" ".join(w.text for w in words) for words in recogniser.transcribe(audios)]


def unmeasured(what: str, target: str, reason: str) -> Row:
    """A row without a value, and why."""
    return Row(what=what, value=None, n=None, interval=None, target=target, passed=None, note=reason)


def _silence_row(what: str, sounds: Sequence[Audio]) -> Row:
    quiet = [quiet_frames(sound) for sound in sounds]
    value = float(np.mean(np.concatenate(quiet)))
    shares = [float(q.mean()) for q in quiet]
    times = f"{len(sounds)} times" if len(sounds) > 1 else "once"
    note = f"{SILENCE_S:g} s of digital silence, {times}; a silent frame is below {QUIET_DB:g} dBFS; n: frames"
    return Row(
        what=what, value=value, n=sum(map(len, quiet)), interval=mean_interval(shares), target=">= 0.90",
        passed=value >= 0.9, note=note,
    )  # fmt: skip
