"""Configs survive the way to YAML and back, and nothing misspelt or mistyped passes."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.base.config import differences, fingerprint, from_dict, read_yaml, to_dict, to_yaml
from duologue.base.errors import UserError


class Kind(Enum):
    ONE = 1
    TWO = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Vad:
    threshold: float = 0.5
    window: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Grpo:
    clip: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ppo:
    clip: float = 0.2
    epochs: int = 4

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UserError(f"{self.epochs} epochs are too few", place="epochs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    name: str
    rate: float = 1.0
    steps: int = 1
    loud: bool = False
    mode: Literal["compat", "corrected"] = "corrected"
    kind: Kind = Kind.ONE
    out: Path | None = None
    span: tuple[float, int] = (0.0, 1)
    axes: tuple[str, ...] = ()
    sizes: list[int] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    limit: int | Literal["all"] | None = None
    vad: Annotated[Vad, "marker"] = field(default_factory=Vad)
    method: Grpo | Ppo = field(default_factory=Grpo)
    stages: tuple[Grpo | Ppo, ...] = ()


NUMBERS = st.floats(allow_nan=False)
METHODS = st.builds(Grpo, clip=NUMBERS) | st.builds(Ppo, clip=NUMBERS, epochs=st.integers(1, 9))
# Paths hold no NUL, and a Path forgets "a//b" and "./a"; plain words are enough for them.
CONFIGS = st.builds(
    Config,
    name=st.text(),
    rate=NUMBERS,
    steps=st.integers(),
    loud=st.booleans(),
    mode=st.sampled_from(["compat", "corrected"]),
    kind=st.sampled_from(Kind),
    out=st.none() | st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5})?", fullmatch=True).map(Path),
    span=st.tuples(NUMBERS, st.integers()),
    axes=st.lists(st.text()).map(tuple),
    sizes=st.lists(st.integers()),
    weights=st.dictionaries(st.text(), NUMBERS, max_size=3),
    limit=st.integers() | st.just("all") | st.none(),
    vad=st.builds(Vad, threshold=NUMBERS, window=st.integers()),
    method=METHODS,
    stages=st.lists(METHODS, max_size=3).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS)
def test_a_config_comes_back_from_yaml_as_it_was(config: Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    path.write_bytes(to_yaml(config).encode())
    back = from_dict(Config, read_yaml(path), place=path)
    assert back == config
    assert fingerprint(back) == fingerprint(config)
    assert differences(to_dict(config), to_dict(back)) == []


@settings(max_examples=30, deadline=None)
@given(a=CONFIGS, b=CONFIGS)
def test_fingerprints_are_equal_exactly_when_configs_are(a: Config, b: Config) -> None:
    assert (fingerprint(a) == fingerprint(b)) == (differences(to_dict(a), to_dict(b)) == [])


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"nmae": "x"}, "run.yaml: unknown field 'nmae' of Config; did you mean name?"),
        ({}, "run.yaml: Config needs name; add it"),
        ({"name": 3}, "run.yaml, name: 3 is not text"),
        ({"steps": 1.0}, "run.yaml, steps: 1.0 is not a whole number"),
        ({"steps": True}, "run.yaml, steps: True is not a whole number"),
        ({"steps": None}, "run.yaml, steps: None is not a whole number"),
        ({"loud": 1}, "run.yaml, loud: 1 is not true or false"),
        ({"rate": "fast"}, "run.yaml, rate: 'fast' is not a number"),
        ({"mode": "corected"}, "'corected' is not one of compat, corrected; did you mean corrected?"),
        ({"kind": "THREE"}, "run.yaml, kind: 'THREE' is not one of ONE, TWO"),
        ({"out": 3}, "run.yaml, out: 3 is not text"),
        ({"span": [1.0]}, "run.yaml, span: 1 values instead of 2"),
        ({"axes": "pause"}, "run.yaml, axes: 'pause' is not a list"),
        ({"axes": ["pause", 2]}, "run.yaml, axes[1]: 2 is not text"),
        ({"weights": {"pause": "x"}}, "run.yaml, weights.pause: 'x' is not a number"),
        ({"limit": "some"}, "run.yaml, limit: 'some' is not a whole number or all or nothing"),
        ({"vad": {"treshold": 1}}, "run.yaml, vad: unknown field 'treshold' of Vad; did you mean threshold?"),
        ({"vad": {"window": "x"}}, "run.yaml, vad.window: 'x' is not a whole number"),
        ({"vad": 3}, "run.yaml, vad: 3 is not a mapping of the fields of Vad"),
        ({"method": {"clip": 1}}, "run.yaml, method: does not say its type; add `type:` with one of Grpo, Ppo"),
        ({"method": {"type": "Ppq"}}, "run.yaml, method.type: 'Ppq' is not one of Grpo, Ppo"),
        ({"method": {"type": "Ppo", "epochs": 0}}, "epochs: 0 epochs are too few"),
    ],
)
def test_a_mistake_names_its_field_and_value(fields: dict[str, Any], line: str) -> None:
    named = fields if not fields or "nmae" in fields else {"name": "x", **fields}
    with pytest.raises(UserError) as caught:
        from_dict(Config, named, place="run.yaml")
    assert line in str(caught.value)


def test_whole_numbers_and_exponents_without_a_point_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: x\nrate: 1e-4\nvad: {threshold: 1}\n")
    config = from_dict(Config, read_yaml(tmp_path / "c.yaml"))
    assert config.rate == 1e-4
    assert type(config.vad.threshold) is float


def test_a_value_keeps_its_own_type_in_a_union() -> None:
    @dataclass(frozen=True)
    class Either:
        value: float | int | str

    assert type(from_dict(Either, {"value": 3}).value) is int
    assert from_dict(Either, {"value": "3"}).value == "3"


def test_what_a_config_may_not_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot hold"):
        to_dict(replace(Config(name="x"), weights={"a": {1, 2}}))  # type: ignore[dict-item]


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    code = "from duologue.base.config import fingerprint; from duologue.base.endpoint import EndpointConfig as E; "
    code += "print(fingerprint(E(url='http://h', model='m'), free=('cache',)))"
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1
    assert len(runs.pop().strip()) == 16


def test_free_fields_do_not_count_in_the_fingerprint() -> None:
    config = Config(name="x", out=Path("a"))
    other = replace(config, out=Path("b"), vad=Vad(window=2))
    assert fingerprint(config, free=("out", "vad.window")) == fingerprint(other, free=("out", "vad.window"))
    assert fingerprint(config, free=("out",)) != fingerprint(other, free=("out",))
    assert differences(to_dict(config), to_dict(other)) == ["out", "vad.window"]


def test_infinity_survives_and_equals_itself() -> None:
    config = Config(name="x", rate=math.inf)
    assert from_dict(Config, to_dict(config)).rate == math.inf
    assert differences({"a": math.nan, "b": 1}, {"a": math.nan, "b": 1.0}) == ["b"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1", "line 1, column 6"), ("- 1", "is not a mapping"), ("a: b: c", "line 1, column 5"), ("\x00", "not YAML")],
)
def test_broken_yaml_names_the_place(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=line):
        read_yaml(tmp_path / "c.yaml")
