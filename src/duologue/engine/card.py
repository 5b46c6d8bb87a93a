"""The model card of an exported folder: what it is, whose weights it is made of, how to load it."""

from __future__ import annotations

from collections.abc import Mapping

import duologue
from duologue.engine.bundle import Bundle
from duologue.engine.lineage import NONE, SPDX, Layer

PAGES: Mapping[str, str] = {
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-NC 4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "CC BY-SA 3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "NVIDIA Open Model License":
        "https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license/",
}  # fmt: skip
LOADERS = (
    "Moshi's own loader reads it through `config.json`. PersonaPlex's loader reads it if the model has PersonaPlex's "
    "shape."
)
OWN_LOADER = "Its matrices are kept in 8 bits with a factor for each row, which no other loader reads."


def model_card(bundle: Bundle, name: str, files: Mapping[str, int], *, eight_bits: bool = False) -> str:
    """README.md of a bundle's folder, with the front matter that the Hugging Face hub reads.

    Args:
        bundle: what was exported.
        name: of the folder.
        files: that lie beside the card, with their sizes in bytes.
        eight_bits: whether the language model's matrices are kept in 8 bits.
    """
    layers = bundle.config.lineage
    parameters = sum(x.numel() for name, x in bundle.lm.named_parameters() if ".lora_" not in name)
    lm = bundle.lm.config
    source = bundle.config.name if bundle.config.source is None else bundle.config.source.short
    listing = "\n".join(f"| `{file}` | {size / 1e6:,.2f} MB |" for file, size in files.items())
    return f"""{_front(layers)}
# {name}

A full-duplex speech language model in the format of Kyutai's Moshi: {parameters:,} parameters, {lm.agent_streams} audio
streams that it speaks and {lm.user_streams} that it hears, {lm.text_card:,} text tokens. Exported from
`{source}` with Duologue {duologue.__version__}; adapters, if there were any, are merged.

## Loading

```python
import duologue

bundle = duologue.load("path/to/{name}")
```

{OWN_LOADER if eight_bits else LOADERS}

| file | size |
| --- | --- |
{listing}

## Licence

{_licence(layers)}
"""


def _front(layers: tuple[Layer, ...]) -> str:
    """YAML: a single known licence by the hub's name for it; anything else is "other", with all names."""
    licences = list(dict.fromkeys(layer.licence for layer in layers))
    lines = ["tags:", "- full-duplex", "- speech", "- moshi"]
    bases = [x.weights for x in layers if x.licence not in (NONE, "unknown")]
    if bases:
        lines += ["base_model:", f"- {bases[-1]}"]
    if len(licences) == 1 and licences[0] in SPDX:
        lines.append(f"license: {SPDX[licences[0]]}")
    elif licences and licences != [NONE]:
        lines += ["license: other", f"license_name: {' and '.join(licences).lower().replace(' ', '-')}"]
    return "\n".join(["---", *lines, "---"])


def _licence(layers: tuple[Layer, ...]) -> str:
    if all(layer.licence == NONE for layer in layers):
        return "The weights are random numbers: no licence of a model applies to them."
    rows = [f"| {x.what} | `{x.weights}` | {_linked(x.licence)} |" for x in layers]
    table = "\n".join(["| layer | weights | licence |", "| --- | --- | --- |", *rows])
    text = f"These weights were made in layers, each under a licence of its own; all of them apply.\n\n{table}"
    if any(x.licence == "unknown" for x in layers):
        text += "\n\nWhere the licence is unknown, find it out before you use or pass on these weights."
    return text


def _linked(licence: str) -> str:
    return f"[{licence}]({PAGES[licence]})" if licence in PAGES else licence
