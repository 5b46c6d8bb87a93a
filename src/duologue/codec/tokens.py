"""Token files: the codes of a conversation with what is needed to read them again, as one safetensors file.

`codes` is int32 [K, T] on disk, un-delayed: row 0 text, then the agent's codebooks, then the user's; -1 = absent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from duologue.base.errors import UserError
from duologue.codec.split import encodes
from duologue.codec.weights import save_tensors

VERSION = 1
TEXT_STREAMS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHeader:
    """Where codes come from, and what their rows are."""

    codec: str
    """Hash of the codec's weights that codes depend on (`codes_hash`)."""
    model: str = ""
    """Hash of the language model's weights; empty for codes of a recording."""
    agent_streams: int = 8
    """Rows after the text that are the agent's codebooks."""
    user_streams: int = 8
    """Rows after those that are the user's."""
    user_lag: int = 1
    """Which call's user frame a forward frame holds: frame j of the forward pass is the user frame of call j + lag."""

    @property
    def rows(self) -> int:
        return TEXT_STREAMS + self.agent_streams + self.user_streams


def weights_hash(model: nn.Module) -> str:
    """A hash of all weights and buffers, 16 hex digits: equal for equal weights, whatever their device."""
    return _hash(model.state_dict())


def codes_hash(codec: nn.Module) -> str:
    """The same of all in a codec that its codes depend on: equal for codecs that only decode differently."""
    return _hash({name: tensor for name, tensor in codec.state_dict().items() if encodes(name)})


def _hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def write_tokens(path: Path, codes: Tensor, header: TokenHeader) -> None:
    """Write codes [K, T], atomically.

    Raises:
        UserError: codes with another number of rows than the header says.
    """
    if codes.dim() != 2 or codes.shape[0] != header.rows:
        raise UserError(f"codes are {list(codes.shape)}, not [{header.rows}, T]", place=path)
    texts = {key: str(value) for key, value in asdict(header).items()} | {"version": str(VERSION)}
    save_tensors(path, {"codes": codes.to(torch.int32)}, texts)


def read_tokens(path: Path) -> tuple[Tensor, TokenHeader]:
    """Read codes int64 [K, T] and their header.

    Raises:
        UserError: no such file, no token file, one of a newer version, or one whose rows contradict its header.
    """
    if not path.is_file():
        raise UserError("no such file", place=path, mend="check the path")
    try:
        with safe_open(str(path), framework="pt") as file:
            texts = file.metadata() or {}
            codes = file.get_tensor("codes").long()
    except (SafetensorError, OSError) as error:
        raise UserError(f"is no token file: {error}", place=path, mend="write it again") from None
    if texts.get("version") != str(VERSION):
        raise UserError(f"has version {texts.get('version')}, not {VERSION}", place=path, mend="update duologue")
    try:
        numbers = {key: int(texts[key]) for key in ("agent_streams", "user_streams", "user_lag")}
        header = TokenHeader(codec=texts["codec"], model=texts["model"], **numbers)
    except (KeyError, ValueError) as error:
        raise UserError(f"has a broken header: {error}", place=path, mend="write it again") from None
    if codes.dim() != 2 or codes.shape[0] != header.rows:
        raise UserError(f"holds codes {list(codes.shape)}, not [{header.rows}, T]", place=path, mend="write it again")
    return codes, header
