"""Training the codec: codebooks follow the data as upstream's do, gradients go straight through, a signal is learnt."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest
import torch

from codec_models import TINY, noise, random_codec, upstream
from duologue.codec.codebook import Codebook, Learning, draw, kmeans
from duologue.codec.mimi import Mimi
from duologue.codec.quantizer import SplitQuantizer

KEEP = Learning(check_unused_every=0)


def quantizer(n_q: int = 4) -> SplitQuantizer:
    torch.manual_seed(0)
    return SplitQuantizer(n_q, bins=16, dim=4, outer=6)


def latent(rows: int = 3, steps: int = 40, seed: int = 1) -> torch.Tensor:
    return noise(rows, 6, steps, seed=seed)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestMoshi:
    def test_codebooks_losses_and_gradients_are_equal_step_by_step(self, moshi_lm: ModuleType) -> None:
        ours = random_codec(n_codebooks=5).train()
        theirs = upstream(ours).train()
        for step in range(3):  # moshi looks for unused entries at its fifth
            audio = noise(2, 1, 48 * 20, seed=step)
            out, expected = ours(audio, learn=KEEP, step=step), theirs(audio)
            torch.testing.assert_close(out.audio, expected.x, atol=1e-4, rtol=0)
            assert torch.equal(out.quantized.codes, expected.codes)
            torch.testing.assert_close(out.quantized.commitment, expected.penalty, atol=1e-5, rtol=0)
            torch.testing.assert_close(out.quantized.entropy, expected.metrics["rvq_entropy"], atol=1e-5, rtol=0)
        for name, x in ours.named_buffers():
            torch.testing.assert_close(x, theirs.state_dict()[name], atol=1e-5, rtol=1e-5, msg=name)
        (out.audio.square().mean() + out.quantized.commitment).backward()
        (expected.x.square().mean() + expected.penalty).backward()
        other = dict(theirs.named_parameters())
        for name, mine in ours.named_parameters():
            torch.testing.assert_close(mine.grad, other[name].grad, atol=1e-4, rtol=1e-3, msg=name)

    def test_the_same_entries_are_restarted_at_the_same_steps(self, moshi_lm: ModuleType) -> None:
        from moshi.quantization.core_vq import EuclideanCodebook

        torch.manual_seed(0)
        ours, theirs = Codebook(16, 4).train(), EuclideanCodebook(4, 16, decay=0.5).train()
        x = noise(200, 4) * 0.1  # near a few entries only
        theirs.load_state_dict(ours.state_dict())
        low = []
        for step in range(11):
            theirs(x)
            ours.learn(x, ours.nearest(x), Learning(decay=0.5), step, None)
            torch.testing.assert_close(ours.cluster_usage, theirs.cluster_usage, atol=1e-5, rtol=0)
            low.append(int((ours.cluster_usage < 0.1).sum()))
            # The vectors drawn are others, which is chance; from here both go on with the same.
            theirs.embedding_sum.copy_(ours.embedding_sum)
            theirs.register_buffer("_embedding", None, persistent=False)
        assert low[3] > 4
        assert low[4] == 0


def test_gradients_go_straight_through_and_codebooks_stay_unless_they_learn() -> None:
    codec, audio = random_codec().train(), noise(2, 1, 48 * 6 + 5)
    before = {name: x.clone() for name, x in codec.named_buffers()}
    out = codec(audio)
    assert out.audio.shape == audio.shape
    assert out.quantized.codes.shape == (2, 4, 7)
    out.audio.square().mean().backward()
    assert codec.encoder.model[0].conv["conv"].weight.grad.abs().sum() > 0
    assert all(torch.equal(x, before[name]) for name, x in codec.named_buffers())
    codec(audio, learn=KEEP)
    learnt = [not torch.equal(x, before[name]) for name, x in codec.named_buffers() if "embedding_sum" in name]
    assert learnt == [True] * 4 + [False]  # four codebooks of five are in use


def test_what_is_quantised_in_training_is_what_encode_and_decode_give() -> None:
    quant, x = quantizer(), latent()
    out = quant.train_step(x, 3)
    assert torch.equal(out.codes, quant.encode(x, 3))
    torch.testing.assert_close(out.latent, quant.decode(out.codes))
    torch.testing.assert_close(out.semantic, quant.decode(out.codes[:, :1]))


def test_entries_move_toward_what_they_stand_for() -> None:
    quant, x = quantizer().train(), latent()
    start = quant.train_step(x, 4).commitment.item()
    for step in range(60):
        loss = quant.train_step(x, 4, learn=replace(KEEP, decay=0.8), step=step).commitment
    assert loss.item() < 0.7 * start


def test_unused_entries_are_restarted_from_the_data() -> None:
    torch.manual_seed(0)
    book, x = Codebook(8, 3), 5 + noise(100, 3) * 0.1
    book.train()
    learning = Learning(decay=0.5, check_unused_every=4)
    for step in range(4):
        far = book.entries()[:, 0] < 3
        assert far.sum() >= 6
        book.learn(x, book.nearest(x), learning, step, seeded())
    assert (book.entries()[:, 0] > 4).all()
    share = book.cluster_usage / book.cluster_usage.mean()
    assert share.min() > learning.threshold_usage_ratio


def test_codebooks_without_entries_begin_one_a_step() -> None:
    quant, x = quantizer().train(), latent(steps=400)
    for book in quant.codebooks():
        book.empty()
    begun = []
    for step in range(4):
        out = quant.train_step(x, 4, learn=KEEP, step=step, generator=seeded())
        begun.append([int(book.begun) for book in quant.codebooks()])
    # The semantic codebook stands alone; the acoustic ones wait for one another.
    assert begun == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert out.entropy > 0.8
    quant.train_step(x, 4, learn=Learning(start="batch"), step=4)


def test_kmeans_ends_at_means_of_what_is_nearest() -> None:
    x = torch.cat([noise(60, 2, seed=i) * 0.3 + 4 * i for i in range(3)])
    means, counts = kmeans(x, 5, 40, seeded(2))
    nearest = torch.cdist(x, means).argmin(dim=-1)
    assert counts.tolist() == nearest.bincount(minlength=5).tolist()
    torch.testing.assert_close(means, torch.stack([x[nearest == i].mean(0) for i in range(5)]))


def test_vectors_are_drawn_once_each_where_there_are_enough() -> None:
    x = noise(200, 2)
    assert len(draw(x, 200, seeded()).unique(dim=0)) == 200
    assert draw(x[:3], 7, seeded()).shape == (7, 2)


def test_dropout_takes_a_random_number_of_acoustic_codebooks() -> None:
    quant, x, chance = quantizer().train(), latent(), seeded()
    learning = Learning(q_dropout=True)
    taken = {quant.train_step(x, 4, learn=learning, generator=chance).codes.shape[1] for _ in range(40)}
    assert taken == {2, 3, 4}


def test_some_rows_stay_unquantised() -> None:
    quant, x = quantizer().train(), latent(rows=200, steps=3)
    out = quant.train_step(x, 4, learn=Learning(no_quantization_rate=0.25), generator=seeded())
    plain = quant.rvq_first.output_proj(quant.rvq_first.input_proj(x))
    free = (out.semantic - plain).abs().amax(dim=(1, 2)) < 1e-5
    assert 30 <= int(free.sum()) <= 70


def test_the_same_seed_trains_the_same() -> None:
    ends = []
    for _ in range(2):
        quant, chance = quantizer().train(), seeded(5)
        for step in range(6):
            quant.train_step(latent(seed=step), 4, learn=Learning(q_dropout=True), step=step, generator=chance)
        ends.append(torch.cat([book.embedding_sum for book in quant.codebooks()]))
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("field", "value"), [("decay", 1.5), ("check_unused_every", -1), ("no_quantization_rate", -0.1)]
)
def test_settings_that_make_no_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Learning(**{field: value})


class TestKeptEntries:
    """In evaluation mode entries are computed once; whatever changes them lets them be computed anew."""

    def test_loading(self) -> None:
        one, other, audio = random_codec(), random_codec(seed=1), noise(1, 1, 480)
        assert not torch.equal(one.encode(audio), other.encode(audio))
        one.load_state_dict(other.state_dict())
        assert torch.equal(one.encode(audio), other.encode(audio))

    def test_training_and_conversion(self) -> None:
        quant, x = quantizer().eval(), latent()
        quant.encode(x, 4)
        quant.train_step(x, 4, learn=replace(KEEP, decay=0.0))
        fresh = quantizer().eval()
        fresh.load_state_dict(quant.state_dict())
        assert torch.equal(quant.encode(x, 4), fresh.encode(x, 4))
        assert quant.double().decode(quant.encode(x.double(), 4)).dtype == torch.float64

    def test_training_mode_keeps_none(self) -> None:
        book, x = Codebook(4, 2).train(), noise(20, 2)
        book.nearest(x)
        book.embedding_sum.add_(noise(4, 2, seed=8))  # as one process takes the codebooks of another
        assert torch.equal(book.nearest(x), torch.cdist(x, book.embedding_sum).argmin(-1))

    def test_by_hand(self) -> None:
        book, x = Codebook(4, 2).eval(), noise(20, 2)
        book.nearest(x)
        book.embedding_sum.add_(noise(4, 2, seed=8))
        book.forget()
        assert torch.equal(book.nearest(x), torch.cdist(x, book.embedding_sum).argmin(-1))


def test_a_tiny_codec_learns_a_tiny_signal() -> None:
    torch.manual_seed(0)
    codec = Mimi(replace(TINY, transformer=replace(TINY.transformer, layer_scale=0.1)), 5).train()
    for book in codec.quantizer.codebooks():
        book.empty()
    time = torch.arange(48 * 20) / 48
    audio = (torch.sin(time * 9) * torch.cos(time / 3))[None, None]
    adam, chance, losses = torch.optim.Adam(codec.parameters(), 5e-3), seeded(), []
    for step in range(80):
        out = codec(audio, learn=Learning(decay=0.9), step=step, generator=chance)
        loss = (out.audio - audio).square().mean()
        adam.zero_grad()
        (loss + 0.1 * out.quantized.commitment).backward()
        adam.step()
        losses.append(loss.item())
    with torch.no_grad():
        end = codec.eval().decode(codec.encode(audio)) - audio
    assert float(end.square().mean()) < 0.35 * losses[0], (losses[0], losses[-1], float(end.square().mean()))
