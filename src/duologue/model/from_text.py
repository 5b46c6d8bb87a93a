"""Start the temporal transformer from a text model, as Moshi started from Helium.

The text model is a folder in Hugging Face's format: config.json and *.safetensors of a Llama, Mistral, Helium, or Qwen2
without biases. Fed with text alone (audio absent), the result gives the text model's logits. What text models lack,
such as audio embeddings and the depth transformer, is drawn at random.

Every norm here has an epsilon of 1e-8, Helium's; other text models have 1e-5 or 1e-6. Since all that is read from the
residual stream passes through a norm, a stream that is smaller by c = sqrt(1e-8 / epsilon) gives exactly what the text
model's epsilon gives. So c goes into whatever writes to the stream: embeddings and output projections (`fold_epsilon`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from duologue.base.compute import pick_device, pick_dtype
from duologue.base.errors import UserError
from duologue.model.config import LMConfig
from duologue.model.layers import NORM_EPS, Gating
from duologue.model.lm import DuplexLM
from duologue.model.text_source import TextShape, TextSource, open_text_source

SPREAD = 3.0
"""Where the normal distribution of new weights is cut, in standard deviations."""


def text_model_config(
    source: str | Path, base: LMConfig | None = None, *, pad: int | None = None, epad: int | None = None
) -> LMConfig:
    """The config of a model that can start from a text model.

    Args:
        source: the text model's folder.
        base: streams, delays and depth transformer, which stay as they are; Moshi's if None. Its context stays too,
            but for a text model with a narrower window.
        pad: PAD, if the text model's vocabulary has an id for it (3 with Kyutai's tokenizers); None: a new id.
        epad: the same for EPAD (0 with Kyutai's tokenizers).

    Raises:
        UserError: no text model there, or one that cannot be taken over (`open_text_source`).
    """
    base = base or LMConfig()
    shape = open_text_source(source).shape
    for name, token in (("pad", pad), ("epad", epad)):
        if token is not None and not 0 <= token < shape.vocabulary:
            raise UserError(f"{token} is no id of the text model", place=name, mend="leave it out for a new one")
    card = shape.vocabulary
    if pad is None:
        pad, card = card, card + 1
    if epad is None:
        epad, card = card, card + 1
    windows = [n for n in (base.context, shape.window) if n is not None]
    return replace(
        base,
        text_card=card,
        existing_text_padding_id=pad,
        existing_text_end_padding_id=epad,
        dim=shape.dim,
        num_layers=shape.layers,
        num_heads=shape.heads,
        kv_repeat=shape.heads // shape.kv_heads,
        hidden_scale=hidden_scale(shape.dim, shape.hidden),
        context=min(windows) if windows else None,
        positional_embedding="rope",
        max_period=shape.theta,
        depformer_kv_repeat=base.depth_kv_repeat,
        depformer_dim_feedforward=base.depth_hidden,
    )


def from_text_model(
    source: str | Path,
    config: LMConfig,
    *,
    rows: Mapping[int, int] | None = None,
    fold_epsilon: bool = True,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "fp32",
) -> DuplexLM:
    """A model whose temporal transformer is a text model's, which is read one tensor at a time.

    New weights are drawn from a normal distribution of deviation 1 / sqrt(inputs), cut at three of them, as in moshi
    0.2.13 (`_init_layer`; it leaves its depth transformer's layers to torch's default). Text ids that the text model
    has not (PAD and EPAD, mostly) get the mean of its rows, so that they begin as likely as an average token.

    Args:
        source: the text model's folder.
        config: a config that fits (`text_model_config`).
        rows: for text ids that shall not have their own row of the vocabulary: which row they get. The initial id
            (`config.text_initial_id`) has the row of the text model's BOS, if it names one.
        fold_epsilon: keep the text model's epsilon, as said above: logits within 1e-4 in float32. It makes what writes
            to the stream smaller (32 times with 1e-5, 10 times with 1e-6), and Adam's steps larger beside it. Without,
            weights stay as they are and each norm is off by epsilon / (2 x mean square), most in the first layer, where
            the stream is smallest: logits of small random models within 2 % of the largest (1e-5) or 0.2 % (1e-6).
        seed: of the new weights; the same on every device and for every dtype.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: "fp32", "bf16", "fp16", or "auto".

    Raises:
        UserError: as `text_model_config`; a config of another shape; a row or id that is not there.
    """
    text = open_text_source(source)
    _check(config, text)
    target = pick_device(device)
    rows = dict(rows or {})
    if text.shape.bos is not None:
        rows.setdefault(config.text_initial_id, text.shape.bos)
    _check_rows(rows, config, text)
    with torch.device("meta"):
        model = DuplexLM(config).to(pick_dtype(dtype, target))
    model.to_empty(device=target)
    scale = math.sqrt(NORM_EPS / text.shape.epsilon) if fold_epsilon else 1.0
    waiting = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in _taken_over(text, config, rows, scale):
            waiting.pop(name).copy_(tensor)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in waiting.items():
            if name.endswith(".alpha"):
                parameter.fill_(1.0)
            else:
                _draw(parameter, generator, scale if _joins_stream(name, waiting) else 1.0)
    return model


def _joins_stream(name: str, new: Mapping[str, Tensor]) -> bool:
    """Whether new weights write to the residual stream: audio embeddings, and the last layers of conditions."""
    if name.startswith("emb."):
        return True
    inner = name.endswith(".embed.weight") and name.replace(".embed.", ".output_proj.") in new
    return name.startswith("condition_provider.") and not inner


def _taken_over(
    text: TextSource, config: LMConfig, rows: Mapping[int, int], scale: float
) -> Iterator[tuple[str, Tensor]]:
    """Our names and values, float32, of all that the text model gives."""
    shape = text.shape
    embedding = text.take("model.embed_tokens.weight")
    yield "text_emb.weight", scale * _vocabulary(embedding, config.text_card + 1, rows)
    head = embedding if text.tied else text.take("lm_head.weight")
    writable = {ours: theirs for ours, theirs in rows.items() if ours < config.text_card}
    yield "text_linear.weight", _vocabulary(head, config.text_card, writable)
    del embedding, head
    yield "out_norm.alpha", text.take("model.norm.weight").view(1, 1, -1)
    for i in range(shape.layers):
        theirs, ours = f"model.layers.{i}", f"transformer.layers.{i}"
        yield f"{ours}.norm1.alpha", text.take(f"{theirs}.input_layernorm.weight").view(1, 1, -1)
        yield f"{ours}.norm2.alpha", text.take(f"{theirs}.post_attention_layernorm.weight").view(1, 1, -1)
        q, k, v = (text.take(f"{theirs}.self_attn.{part}_proj.weight") for part in "qkv")
        if not shape.interleaved:
            q, k = interleave(q, shape.heads), interleave(k, shape.kv_heads)
        yield f"{ours}.self_attn.in_projs.0.weight", torch.cat((q, k, v))
        yield f"{ours}.self_attn.out_projs.0.weight", scale * text.take(f"{theirs}.self_attn.o_proj.weight")
        gate, up = (text.take(f"{theirs}.mlp.{part}_proj.weight") for part in ("gate", "up"))
        yield f"{ours}.gating.linear_in.weight", torch.cat((gate, up))
        yield f"{ours}.gating.linear_out.weight", scale * text.take(f"{theirs}.mlp.down_proj.weight")


def interleave(weight: Tensor, heads: int) -> Tensor:
    """Reorder the rows [heads * head, D] of a query or key projection for rotary positions of neighbouring entries.

    Llama turns entry i of a head with entry i + head / 2; Moshi turns 2 i with 2 i + 1.
    """
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _vocabulary(source: Tensor, count: int, rows: Mapping[int, int]) -> Tensor:
    """`count` rows: the source's own [V, D] first, then their mean; but those that `rows` names (ours to theirs)."""
    full = torch.cat((source, source.mean(dim=0).expand(count - len(source), -1)))
    for ours, theirs in rows.items():
        full[ours] = source[theirs]
    return full


def _draw(parameter: Tensor, generator: torch.Generator, scale: float) -> None:
    """Fill with a cut normal distribution."""
    spread = scale / math.sqrt(parameter.shape[-1])
    drawn = torch.empty(parameter.shape)
    nn.init.trunc_normal_(drawn, std=spread, a=-SPREAD * spread, b=SPREAD * spread, generator=generator)
    parameter.copy_(drawn)


def hidden_scale(dim: int, hidden: int) -> float:
    """The `hidden_scale` by which Kyutai's rule gives a gated feed-forward of `hidden`.

    Raises:
        UserError: there is none (21/8 dim is all that a nominal width of 4 dim can give).
    """
    near = math.ceil(3 * hidden / 2)
    for nominal in (near, near + 1):
        for scale in (nominal / dim, (nominal + 0.5) / dim):
            if _gated_width(dim, scale) == hidden:
                return scale
    raise UserError(f"no hidden_scale gives a feed-forward of {hidden} at dim {dim}", place="intermediate_size")


def _gated_width(dim: int, scale: float) -> int:
    with torch.device("meta"):
        return Gating(dim, int(scale * dim)).linear_out.in_features


def _check(config: LMConfig, text: TextSource) -> None:
    shape: TextShape = text.shape
    mend = "make the config with text_model_config"
    wanted = {
        "dim": shape.dim, "num_layers": shape.layers, "num_heads": shape.heads,
        "kv_repeat": shape.heads // shape.kv_heads, "positional_embedding": "rope", "max_period": shape.theta,
    }  # fmt: skip
    for name, value in wanted.items():
        found = getattr(config, name)
        if found != value:
            raise UserError(f"{found!r} is not {value!r}, the text model's", place=name, mend=mend)
    width = _gated_width(config.dim, config.hidden_scale)
    if width != shape.hidden:
        problem = f"{config.hidden_scale} gives a feed-forward of {width}, not {shape.hidden}, the text model's"
        raise UserError(problem, place="hidden_scale", mend=mend)
    if config.text_card < shape.vocabulary:
        problem = f"{config.text_card} is less than the text model's {shape.vocabulary}"
        raise UserError(problem, place="text_card", mend=mend)
    if shape.window is not None and (config.context is None or config.context > shape.window):
        problem = f"{config.context} is more than the text model's window, {shape.window}"
        raise UserError(problem, place="context", mend=mend)


def _check_rows(rows: Mapping[int, int], config: LMConfig, text: TextSource) -> None:
    for ours, theirs in rows.items():
        if not 0 <= ours <= config.text_card:
            raise UserError(f"{ours} is no text id", place="rows", mend=f"use 0 to {config.text_card}")
        if not 0 <= theirs < text.shape.vocabulary:
            mend = f"use 0 to {text.shape.vocabulary - 1}"
            raise UserError(f"{theirs} is no row of {text.folder}", place="rows", mend=mend)
