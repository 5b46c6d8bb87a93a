"""Voice prompts by name: those that come with the model, and those that clients upload for this server's life."""

from __future__ import annotations

import asyncio
import copy
import io
import secrets
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soundfile
import torch
from torch import nn

from duologue.base.errors import UserError
from duologue.codec.interface import Codec
from duologue.engine.bundle import Bundle
from duologue.engine.prompts import Voice, read_voice
from duologue.serve.protocol import RefusedError

UPLOADS = 32
"""Uploaded voices that are kept, the latest."""
KEPT = 32
"""Voices of the model that stay read."""
MEGABYTES, SECONDS = 10, 30.0
FORMATS = {"WAV": ".wav", "FLAC": ".flac", "OGG": ".ogg"}


class Shelf:
    """Voices of one model. They are read in a thread of their own, with a codec of their own where the engine's is on a
    GPU: captures of CUDA graphs bear no other work beside them.

    Methods belong to the event loop.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._codec = _on_cpu(bundle.need_codec(), bundle.lm.text_linear.weight.device)
        self._read: OrderedDict[str, Voice] = OrderedDict()
        self._uploads: OrderedDict[str, Voice] = OrderedDict()
        self._pool = ThreadPoolExecutor(1, "duologue-voice")
        self._names = sorted(bundle.voices)

    def names(self) -> list[str]:
        """The model's own voices, then those that were uploaded."""
        return [*self._names, *self._uploads]

    async def get(self, name: str) -> Voice:
        """A voice by its name alone, or its file's, as PersonaPlex's clients give it. Errors: RefusedError."""
        if name in self._uploads:
            return self._uploads[name]
        own = name if name in self._names else name.removesuffix(".pt").removesuffix(".wav")
        if own not in self._names:
            known = f"; there are {', '.join(self.names())}"[:400] if self.names() else "; this server has none"
            raise RefusedError(f"voice_prompt={name[:40]!r} is no voice of this server{known}")
        if own not in self._read:
            self._read[own] = await self._do(lambda: self._load(self._bundle.voices.pick(own)))
            while len(self._read) > KEPT:
                self._read.popitem(last=False)
        return self._read[own]

    async def add(self, data: bytes) -> str:
        """Keep a recording as a voice; its name. Errors: RefusedError, it is no recording, or too long."""
        voice = await self._do(lambda: self._decode(data))
        name = f"upload-{secrets.token_hex(4)}"
        self._uploads[name] = voice
        while len(self._uploads) > UPLOADS:
            self._uploads.popitem(last=False)
        return name

    async def _do(self, work: Callable[[], Voice]) -> Voice:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except UserError as error:
            raise RefusedError(f"voice: {error.problem}", kind="voice") from None

    def _load(self, path: Path) -> Voice:
        torch.set_num_threads(1)
        return read_voice(path, self._codec, self._bundle.lm.config)

    def _decode(self, data: bytes) -> Voice:
        suffix = check_upload(data)
        with tempfile.TemporaryDirectory(prefix="duologue-") as folder:
            path = Path(folder) / f"voice{suffix}"
            path.write_bytes(data)
            return self._load(path)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def check_upload(data: bytes) -> str:
    """Look into an upload: what it is decides, not what it is called. The suffix of its format.

    Raises:
        RefusedError: another format, broken, too long, or not speech-like in rate and channels.
    """
    try:
        info = soundfile.info(io.BytesIO(data))
    except (soundfile.SoundFileError, OSError, RuntimeError):
        raise RefusedError("the upload is no WAV, FLAC or Ogg file", kind="voice") from None
    if info.format not in FORMATS and info.format != "WAVEX":
        raise RefusedError(f"the upload is {info.format}; send WAV, FLAC or Ogg", kind="voice")
    if not 8000 <= info.samplerate <= 192000 or info.channels > 8:
        raise RefusedError(f"the upload has {info.channels} channels at {info.samplerate} Hz", kind="voice")
    if info.frames > SECONDS * info.samplerate:
        raise RefusedError(f"the upload lasts longer than {SECONDS:g} s", kind="voice")
    return FORMATS.get(info.format, ".wav")


def _on_cpu(codec: Codec, device: torch.device) -> Codec:
    if device.type == "cpu":
        return codec
    assert isinstance(codec, nn.Module)
    own: Codec = copy.deepcopy(codec).cpu()
    return own
