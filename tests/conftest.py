"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# The same examples in every run. To look for new ones: pytest --hypothesis-profile=default --hypothesis-seed=random
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


os.environ["NO_TORCH_COMPILE"] = "1"  # moshi reads it as it is imported, whichever test does that first


@pytest.fixture(scope="session")
def moshi_lm() -> ModuleType:
    """The language model of moshi 0.2.13, the parity oracle, uncompiled; tests that need it skip without it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it was made for an older torch
        return pytest.importorskip("moshi.models.lm", reason="the parity oracle is not installed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the project, or in DUOLOGUE_SHARED_DATA; without it a test skips."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("DUOLOGUE_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip("real recordings are not here (set DUOLOGUE_SHARED_DATA to their folder)")
    return folder
