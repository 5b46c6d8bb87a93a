"""Weights kept in 8 bits: what comes back, that codes stay as they are, and a language model that loads from them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from duologue.cli import main
from duologue.codec import load_codec, save_codec
from duologue.codec.spectral import SpectralCodec
from duologue.codec.tokens import codes_hash
from duologue.codec.weights import ROW_SCALE, SMALLEST, in_eight_bits, open_weights, read_weights, save_tensors
from duologue.engine.bundle import load
from duologue.model.initial import random_codec
from duologue.model.presets import PRESETS


def test_a_matrix_comes_back_to_half_a_step_of_its_row(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = torch.logspace(-6, 3, 64)[:, None, None]
    given = {"a": rows * torch.randn(64, 32, 3), "zero": torch.zeros(64, 64), "small": torch.randn(4, 5)}
    save_tensors(tmp_path / "x.safetensors", in_eight_bits(given))
    assert {k: x.dtype for k, x in load_file(tmp_path / "x.safetensors").items()} == {
        "a": torch.int8, f"a{ROW_SCALE}": torch.float32, "zero": torch.int8, f"zero{ROW_SCALE}": torch.float32,
        "small": torch.float32,
    }  # fmt: skip
    found = read_weights(tmp_path / "x.safetensors")
    assert found.keys() == given.keys()
    half = given["a"].abs().amax((1, 2), keepdim=True) / 127 / 2
    assert ((found["a"] - given["a"]).abs() <= 1.001 * half).all()
    assert torch.equal(found["zero"], given["zero"])
    assert torch.equal(found["small"], given["small"])
    weights = open_weights(tmp_path / "x.safetensors")
    assert weights.shapes == {name: tuple(x.shape) for name, x in given.items()}
    assert torch.equal(weights.read("a", rows=(5, 9), mapped=True), found["a"][5:9])
    assert weights.read("a", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_only_large_matrices_of_numbers_are_changed() -> None:
    given = {"long": torch.randn(SMALLEST), "codes": torch.zeros(SMALLEST, 2, dtype=torch.long)}
    assert in_eight_bits(given) == given


def test_a_codec_s_decoder_is_smaller_and_every_code_stays(tmp_path: Path) -> None:
    codec = random_codec(PRESETS["nano"].codec, 8, 0, device="cpu")
    half = save_codec(codec, tmp_path / "half" / "codec.safetensors", torch.float16)
    small = save_codec(codec, tmp_path / "small" / "codec.safetensors", torch.float16, eight_bits=True)
    assert small.stat().st_size < 0.7 * half.stat().st_size
    one, two = load_codec(half, device="cpu"), load_codec(small, device="cpu")
    assert isinstance(one, SpectralCodec)
    assert isinstance(two, SpectralCodec)
    assert codes_hash(one) == codes_hash(two)
    sound = 0.3 * torch.randn(1, 1, 24_000, generator=torch.Generator().manual_seed(0))
    codes = one.encode(sound)
    assert torch.equal(codes, two.encode(sound))
    plain, other = one.decode(codes), two.decode(codes)
    assert 0 < (plain - other).norm() < 0.1 * plain.norm()


def test_a_language_model_loads_from_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["export", "random:tiny@3", "-o", str(out), "--dtype", "int8"]) == 0
    kept = load_file(out / "model.safetensors")
    assert kept["transformer.layers.0.gating.linear_in.weight"].dtype == torch.int8
    model, again = load("random:tiny@3", device="cpu").lm, load(out, device="cpu").lm
    codes = torch.randint(0, 60, (2, 17, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = (x(codes).text_logits for x in (model, again))
    assert 0 < (a - b).norm() < 0.05 * a.norm()
    assert "no other loader reads" in (out / "README.md").read_text()
    assert main(["export", str(out), "-o", str(tmp_path / "same")]) == 0
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert main(["export", str(out), "-o", str(tmp_path / "again"), "--dtype", "fp32"]) == 0
    assert "Moshi's own loader reads it" in (tmp_path / "again" / "README.md").read_text()
    for name, x in load(tmp_path / "again", device="cpu").lm.state_dict().items():
        assert torch.equal(x, again.state_dict()[name]), name
