"""Silero's speech detector, batched: its weights, our own forward pass.

Upstream runs one window of one file at a time. But only its LSTM looks back: spectrum and encoder are computed here for
all windows of all streams at once, and the LSTM steps over time with the streams as rows. The probabilities agree with
silero-vad's own model to about 1e-5.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from duologue.base.errors import UserError

if TYPE_CHECKING:
    import torch

Samples = NDArray[np.float32]

RATE = 16_000
_WINDOW = 512
_CONTEXT = 64  # samples of the window before, put in front
_TAIL = 64  # samples mirrored at the end
_FFT, _HOP, _FRAMES, _BINS = 256, 128, 4, 129
_HIDDEN = 128

_BLOCK = 128
"""Windows per pass of the encoder: its activations stay in a core's cache."""
_QUANTUM = 8
"""Matrices get a multiple of this many rows. Then BLAS computes a row alike whatever its neighbours, so that a stream's
probabilities do not depend, in any bit, on what is batched with it (checked with MKL on x86-64; tests watch it)."""


@dataclass(frozen=True, slots=True)
class SileroState:
    """What one stream must remember: the LSTM's (hidden, cell) [2, 128] and the last 64 samples."""

    memory: NDArray[np.float32]
    context: Samples


@dataclass(frozen=True, slots=True, eq=False)
class Silero:
    """The 16 kHz network of silero-vad, ready to score. Load it with `load_silero`."""

    taper: torch.Tensor
    """[256] analysis window"""
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """(weight [taps * in, out], bias [out]) of the 4 convolutions and of the LSTM's input projection"""
    recurrent: torch.Tensor
    """[128, 512] LSTM weights from hidden to gates (input, forget, output, candidate)"""
    head: torch.Tensor
    """[128] weights of the output"""
    head_bias: torch.Tensor
    """[] its bias"""

    window: int = _WINDOW

    def start(self) -> SileroState:
        """The state before the first sample."""
        return SileroState(np.zeros((2, _HIDDEN), np.float32), np.zeros(_CONTEXT, np.float32))

    def score(
        self, blocks: Sequence[Samples], states: Sequence[SileroState]
    ) -> tuple[list[NDArray[np.float32]], list[SileroState]]:
        """Score the next windows of several streams at once.

        Args:
            blocks: per stream, float32 [n, 512] at 16 kHz; n may differ, and may be 0.
            states: per stream, what the call before returned for it, or `start()`.

        Returns:
            Per stream the speech probabilities [n], and its new state.
        """
        import torch

        counts = np.array([len(block) for block in blocks], dtype=np.int64)
        if not counts.any():
            return [np.zeros(0, np.float32) for _ in blocks], list(states)
        with torch.inference_mode(), _one_thread():
            frames = torch.from_numpy(_with_context(blocks, states, counts))
            gates = torch.cat([self._encode(part) for part in torch.split(frames, _BLOCK)])
            hidden, cell = self._recur(gates, counts, states)
            logits = (hidden.relu() * self.head).sum(-1) + self.head_bias
            # In float64, as PyTorch rounds float32 exponentials differently within and behind a full vector register.
            probabilities = logits.double().sigmoid().float().numpy()
            memory = torch.stack((hidden, cell), dim=2).numpy()
        scores, after = [], []
        for row, (n, block, state) in enumerate(zip(counts, blocks, states, strict=True)):
            scores.append(probabilities[:n, row].copy())
            after.append(SileroState(memory[n - 1, row].copy(), block[-1, -_CONTEXT:].copy()) if n else state)
        return scores, after

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        """Windows [n, 640] to the LSTM's gate inputs [n, 512]; n is a multiple of 8."""
        import torch

        (w1, b1), (w2, b2), (w3, b3), (w4, b4), (wi, bi) = self.layers
        n = len(x)
        spectrum = torch.fft.rfft(x.unfold(1, _FFT, _HOP) * self.taper)
        magnitude = torch.view_as_real(spectrum).square().sum(-1).sqrt()
        # Convolutions of 3 taps as one matrix product each, over overlapping views of zero-padded frames.
        padded = x.new_zeros(n, _FRAMES + 2, _BINS)
        padded[:, 1:-1] = magnitude
        y = padded.as_strided((n, _FRAMES, 3 * _BINS), (padded.stride(0), _BINS, 1)).reshape(n * _FRAMES, -1)
        y = torch.addmm(b1, y, w1).relu_().view(n, _FRAMES, -1)
        # Stride 2: outputs 0 and 1 see frames (-1, 0, 1) and (1, 2, 3).
        padded = y.new_zeros(n, _FRAMES + 1, y.shape[2])
        padded[:, 1:] = y
        y = padded.as_strided((n, 2, 3 * y.shape[2]), (padded.stride(0), 2 * y.shape[2], 1)).reshape(2 * n, -1)
        y = torch.addmm(b2, y, w2).relu_().view(n, -1)
        # Stride 2 again leaves one frame; of the taps of layers 3 and 4, two and one meet more than padding.
        y = torch.addmm(b3, y, w3).relu_()
        y = torch.addmm(b4, y, w4).relu_()
        return torch.addmm(bi, y, wi)

    def _recur(
        self, gates: torch.Tensor, counts: NDArray[np.int64], states: Sequence[SileroState]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the LSTM over gate inputs [sum of counts + rest, 512]; hidden and cell states [T, rows, 128].

        Rows are in the order of `states`; what stands behind a row's own count is meaningless.
        """
        import torch

        order = np.argsort(-counts, kind="stable")  # the longest first: those still running are always a head
        steps, rows = int(counts.max()), _round_up(len(counts))
        index = np.zeros((steps, rows), np.int64)
        for row, stream in enumerate(order):
            index[: counts[stream], row] = np.arange(counts[stream]) + counts[:stream].sum()
        inputs = gates[torch.from_numpy(index)]
        running = (np.sort(counts)[None, :] > np.arange(steps)[:, None]).sum(axis=1)
        memory = torch.zeros(2, rows, _HIDDEN)
        memory[:, : len(counts)] = torch.from_numpy(np.stack([states[i].memory for i in order], axis=1))
        hidden, cell = memory
        hiddens, cells = torch.zeros(2, steps, rows, _HIDDEN)
        for t in range(steps):
            n = _round_up(int(running[t]))
            z = torch.addmm(inputs[t, :n], hidden[:n], self.recurrent)
            sigmoids = z[:, : 3 * _HIDDEN].sigmoid_()
            into, forget, out = sigmoids[:, :_HIDDEN], sigmoids[:, _HIDDEN : 2 * _HIDDEN], sigmoids[:, 2 * _HIDDEN :]
            torch.mul(cell[:n], forget, out=cells[t, :n]).addcmul_(into, z[:, 3 * _HIDDEN :].tanh_())
            torch.mul(out, cells[t, :n].tanh(), out=hiddens[t, :n])
            hidden, cell = hiddens[t], cells[t]
        back = torch.from_numpy(np.argsort(order))
        return hiddens[:, back], cells[:, back]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep PyTorch on one core: the matrices are small, and on a busy machine threads wait for each other for longer
    than they work (a file of 10 s then takes seconds in place of milliseconds)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def load_silero() -> Silero:
    """Load the 16 kHz network from the file that the package silero-vad carries; nothing is downloaded.

    The weights come from `silero_vad.jit`, the model that silero-vad itself runs; `silero_vad_16k.safetensors` beside
    it holds other ones, whose probabilities differ by up to 0.7. The package is found but not imported: its import
    sets PyTorch's number of threads to 1. Errors: UserError when the package is missing or holds another network.
    """
    import torch

    path = _weights_file()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.load; upstream ships nothing newer
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    weights = {name: tensor.detach().float() for name, tensor in module.state_dict().items()}
    try:
        return _prepare({name.removeprefix("_model."): x for name, x in weights.items() if name.startswith("_model.")})
    except (KeyError, ValueError, RuntimeError, IndexError):
        raise UserError(
            "not the network this version knows", place=path, mend="pip install 'silero-vad==6.2.3'"
        ) from None


def _prepare(weights: dict[str, torch.Tensor]) -> Silero:
    import torch

    def conv(layer: int, taps: slice) -> tuple[torch.Tensor, torch.Tensor]:
        weight = weights[f"encoder.{layer}.reparam_conv.weight"][:, :, taps]  # [out, in, taps]
        return weight.permute(2, 1, 0).reshape(-1, len(weight)).contiguous(), weights[
            f"encoder.{layer}.reparam_conv.bias"
        ]

    def gates(weight: torch.Tensor) -> torch.Tensor:
        into, forget, candidate, out = torch.split(weight, _HIDDEN)  # upstream's order
        return torch.cat((into, forget, out, candidate))

    input_weight = gates(weights["decoder.rnn.weight_ih"]).T.contiguous()
    input_bias = gates(weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"])
    every = slice(None)
    return Silero(
        # Row 0 of upstream's STFT basis is the cosine of frequency 0 times the analysis window.
        taper=weights["stft.forward_basis_buffer"][0, 0].contiguous(),
        layers=(conv(0, every), conv(1, every), conv(2, slice(1, 3)), conv(3, slice(1, 2)), (input_weight, input_bias)),
        recurrent=gates(weights["decoder.rnn.weight_hh"]).T.contiguous(),
        head=weights["decoder.decoder.2.weight"].reshape(_HIDDEN),
        head_bias=weights["decoder.decoder.2.bias"].reshape(()),
    )


def _weights_file() -> Path:
    spec = find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package silero-vad is not installed", mend="pip install silero-vad, or use backend energy")
    path = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.jit"
    if not path.is_file():
        raise UserError("no such file", place=path, mend="pip install --force-reinstall silero-vad")
    return path


def _with_context(
    blocks: Sequence[Samples], states: Sequence[SileroState], counts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """All windows in one array [N, 64 + 512 + 64], N a multiple of 8: context before, mirror image behind."""
    x = np.zeros((_round_up(int(counts.sum())), _CONTEXT + _WINDOW + _TAIL), np.float32)
    end = _CONTEXT + _WINDOW
    first = 0
    for block, state, n in zip(blocks, states, counts, strict=True):
        if n:
            part = x[first : first + n]
            part[:, _CONTEXT:end] = block
            part[0, :_CONTEXT] = state.context
            part[1:, :_CONTEXT] = block[:-1, -_CONTEXT:]
            first += n
    x[:, end:] = x[:, end - 2 : end - 2 - _TAIL : -1]
    return x


def _round_up(rows: int) -> int:
    return -(-rows // _QUANTUM) * _QUANTUM
