"""Token files: what was written comes back, and what contradicts itself is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from duologue.base.errors import UserError
from duologue.codec.tokens import TokenHeader, read_tokens, weights_hash, write_tokens

HEADER = TokenHeader(codec="0123456789abcdef", agent_streams=2, user_streams=3, user_lag=2)


def test_codes_and_header_come_back(tmp_path: Path) -> None:
    codes = torch.randint(-1, 32_001, (6, 40))
    write_tokens(tmp_path / "a.safetensors", codes, HEADER)
    again, header = read_tokens(tmp_path / "a.safetensors")
    assert torch.equal(again, codes)
    assert (again.dtype, header) == (torch.int64, HEADER)


def test_the_hash_tells_weights_apart_and_nothing_else() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    assert weights_hash(one) != weights_hash(other)
    other.load_state_dict(one.state_dict())
    assert weights_hash(one) == weights_hash(other)
    assert weights_hash(one.bfloat16()) != weights_hash(other)


def test_rows_that_contradict_the_header_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\[5, 4\], not \[6, T\]"):
        write_tokens(tmp_path / "a.safetensors", torch.zeros(5, 4), HEADER)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({}, "version None"),
        ({"version": "9"}, "version 9"),
        ({"version": "1", "codec": "x"}, "broken header"),
        ({"version": "1", "codec": "x", "model": "", "agent_streams": "8", "user_streams": "8", "user_lag": "1"}, "17"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, metadata: dict[str, str], named: str) -> None:
    save_file({"codes": torch.zeros(3, 4, dtype=torch.int32)}, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(UserError, match=named):
        read_tokens(tmp_path / "a.safetensors")


def test_what_is_no_safetensors_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("no")
    for name, said in (("a.safetensors", "is no token file"), ("b.safetensors", "no such file")):
        with pytest.raises(UserError, match=said):
            read_tokens(tmp_path / name)
