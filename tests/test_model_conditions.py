"""Conditions equal moshi's, and are refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest
import torch

from duologue.base.errors import UserError
from duologue.model.conditions import ConditionConfig, read_conditions
from duologue.model.config import LMConfig, config_from_kyutai, kyutai_config
from test_model_parity import TINY, random_codes, random_model

QUALITY = ConditionConfig(name="quality", kind="lut", dim=6, n_bins=4, possible_values=("bad", "good", "very_good"))
SPEAKER = ConditionConfig(name="speaker", kind="lut", dim=32, n_bins=50, force_linear=False)
VOICE = ConditionConfig(name="voice", kind="tensor", dim=5)
CONDITIONED = replace(TINY, conditions=(QUALITY, SPEAKER, VOICE))


def test_conditioned_logits_equal_moshi_s(moshi_lm: ModuleType) -> None:
    from moshi.conditioners import ConditionAttributes, TensorCondition
    from moshi.models.loaders import get_condition_fuser, get_conditioner_provider

    ours = random_model(CONDITIONED)
    values = kyutai_config(CONDITIONED)
    provider, fuser = get_conditioner_provider(CONDITIONED.dim, "cpu", values), get_condition_fuser(values)
    arguments = {k: v for k, v in values.items() if k not in ("conditioners", "fuser")}
    theirs = moshi_lm.LMModel(**arguments, condition_provider=provider, fuser=fuser).eval()
    theirs.load_state_dict(ours.state_dict())
    torch.manual_seed(5)
    voice = torch.randn(5)
    rows = [
        ConditionAttributes(
            text={"quality": "very_good", "speaker": "someone"},
            tensor={"voice": TensorCondition.from_tensor(voice[None, None])},
        ),
        ConditionAttributes(
            text={"quality": None, "speaker": "another"},
            tensor={"voice": TensorCondition(torch.zeros(1, 1, 5), torch.zeros(1, 1, dtype=torch.bool))},
        ),
    ]
    codes = random_codes(CONDITIONED, 9, holes=True)
    with torch.no_grad():
        expected = theirs(codes, theirs.condition_provider.prepare_and_provide(rows))
        condition = ours.condition_provider(
            [{"quality": "very_good", "speaker": "someone", "voice": voice}, {"speaker": "another"}]
        )
        got = ours(codes, condition=condition)
    wanted = expected.text_logits[:, 0].nan_to_num(0) * got.text_mask[..., None]
    torch.testing.assert_close(got.text_logits, wanted, atol=1e-4, rtol=0)
    wanted = expected.logits.nan_to_num(0) * got.audio_mask[..., None]
    torch.testing.assert_close(got.audio_logits, wanted, atol=1e-4, rtol=0)


def test_configs_survive_the_way_there_and_back() -> None:
    again = config_from_kyutai(kyutai_config(CONDITIONED))
    assert again.conditions == CONDITIONED.conditions


def test_a_model_with_conditions_asks_for_one_and_others_refuse() -> None:
    codes = random_codes(TINY, 3, holes=False)
    with pytest.raises(ValueError, match="a condition is needed"):
        random_model(CONDITIONED)(codes)
    with pytest.raises(ValueError, match="has no conditions"):
        random_model(TINY)(codes, condition=torch.zeros(1, 1, 32))


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"quality": "superb"}, "'superb' is no value of it"),
        ({"colour": "red"}, "is no condition of this model"),
        ({"voice": "red"}, "is not a vector of 5"),
        ({"quality": torch.zeros(6)}, "is not a word"),
    ],
)
def test_values_that_do_not_fit_are_named(row: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        random_model(CONDITIONED).condition_provider([row])


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"conditioners": {}, "fuser": {"cross": ["a"]}}, "'cross'"),
        ({"conditioners": {"a": {"type": "lut"}}}, "'a' is in only one"),
        ({"conditioners": {"a": {"type": "t5", "t5": {}}}, "fuser": {"sum": ["a"]}}, "'t5' is not supported"),
        ({"conditioners": {"a": {"type": "lut", "lut": {"tokenizer": "x"}}}, "fuser": {"sum": ["a"]}}, "tokenizer"),
        ({"conditioners": {"a": {"type": "tensor", "tensor": {"dimm": 3}}}, "fuser": {"sum": ["a"]}}, "dimm"),
    ],
)
def test_conditions_of_other_kinds_are_refused(values: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        read_conditions(values, "config.json")


def test_the_kind_of_a_session_is_in_the_config() -> None:
    personaplex = {"dep_q": 16, "n_q": 16}
    assert config_from_kyutai(personaplex).user_lag == 0
    assert config_from_kyutai({}).user_lag == 1
    assert config_from_kyutai(personaplex | {"duologue": {"user_lag": 1}}).user_lag == 1
    stt = {"dep_q": 0, "model_type": "stt", "stt_config": {"audio_delay_seconds": 0.5, "other": 1}}
    config = config_from_kyutai(stt)
    assert (config.audio_delay_seconds, config.user_streams, config.agent_streams) == (0.5, 16, 0)
    assert kyutai_config(config)["stt_config"]["audio_delay_seconds"] == 0.5
    with pytest.raises(UserError, match="user_lag"):
        LMConfig(user_lag=2)
