"""The benchmark of a step on a GPU runs what `duologue align` runs: tried with tiny shapes on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from duologue.base.files import read_json
from duologue.train import align_learner


def test_it_times_the_learner_s_own_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import gpu_align

    seen: list[align_learner.AlignLearner] = []
    step = align_learner.AlignLearner.step

    def spied(self: align_learner.AlignLearner, number: int) -> object:
        seen.append(self)
        return step(self, number)

    monkeypatch.setattr(align_learner.AlignLearner, "step", spied)
    out = tmp_path / "x.json"
    small = ["--preset", "tiny", "--device", "cpu", "--groups", "1", "--group", "2", "--seconds", "1"]
    given = ["--updates", "1", "--json", str(out), "--set", "rollouts.dtype=bf16"]
    assert gpu_align.main([*small, *given]) == 0
    learner = seen[0]
    assert len(seen) == 2
    how = learner.settings.update
    assert how.autocast
    assert how.lora is not None
    assert {p.dtype for p in learner.model.parameters() if p.requires_grad} == {torch.float32}
    assert learner.player.text_emb.weight.dtype == torch.bfloat16
    rows = read_json(out)["steps"]
    assert all(row["seconds"] > 0 and row["gradient"] > 0 for row in rows)
