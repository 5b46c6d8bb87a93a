"""What a language model learns from: conversations in memory, excerpts with prompts before them, and a tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from corpus_files import noise, put, wav_bytes
from duologue.base.errors import UserError
from duologue.base.files import read_json
from duologue.corpus.token_cache import CacheHeader, TokenCacheWriter
from duologue.dialogue.timeline import Word
from duologue.engine.prompts import Tones, prompt_codes
from duologue.model.config import LMConfig
from duologue.model.presets import PRESETS
from duologue.model.text import load_text, system_prompt
from duologue.model.words import TextLayout, lay_words
from duologue.train.excerpts import CUT, VOICE_FRAMES, Batch, Excerpts, place
from duologue.train.spelling import letter_bits
from duologue.train.talks import Mix, Source, SourceConfig, Talk, cache_header, load_mix, read_mix
from duologue.train.texts import lay_text, load_texts
from duologue.train.tokenizer import TrainTokenizerConfig, main, trained
from test_speak import SPELLING

TINY = PRESETS["tiny"].lm
PAD, EPAD = 3, 0
TONE = Tones(torch.arange(8), torch.arange(8) + 20)
TEXT = "hello there my good friend how are you today well i am fine thank you very much what do you think"
WORDS = TEXT.split()
SENTENCES = [" ".join(WORDS[i:] + WORDS[:i]).capitalize() + "." for i in range(len(WORDS))]


def said(seconds: float, every: float, first: float, side: int) -> list[list[object]]:
    """Words one after another, as moshi-finetune's annotations."""
    who, starts = ("SPEAKER_MAIN", "SPEAKER_USER")[side], np.arange(first, seconds - 0.5, every)
    return [[WORDS[i % len(WORDS)], [float(t), float(t) + 0.3], who] for i, t in enumerate(starts)]


def tiny_corpus(folder: Path, *, codec: str = "c0dec", talks: int = 3, user: bool = True, codebooks: int = 8) -> Mix:
    """A corpus in moshi-finetune's layout with its token cache, and the mix of it alone, whose file is mix.yaml."""
    rng = np.random.default_rng(0)
    items, lines = [], []
    for i in range(talks):
        seconds = 8.0 + 2 * i
        words = said(seconds, 0.7, 0.2, 0) + (said(seconds, 1.1, 0.5, 1) if user else [])
        put(folder, f"corpus/talks/{i}.json", {"alignments": words})
        put(folder, f"corpus/talks/{i}.wav", wav_bytes(noise(seconds), noise(seconds)))
        lines.append(json.dumps({"path": f"talks/{i}.wav", "duration": seconds}))
        codes = rng.integers(0, 64, (2 * codebooks, int(seconds * 12.5)))
        items.append((f"data/{i + 1:06d}", np.where(rng.random(codes.shape) < 0.02, -1, codes)))
    put(folder, "corpus/data.jsonl", "\n".join(lines))
    header = CacheHeader(codec=codec, codebooks=codebooks, card=64, frame_rate=12.5)
    writer = TokenCacheWriter(folder / "tokens", header)
    writer.add(items)
    writer.finish()
    put(folder, "mix.yaml", "sources:\n- corpus: corpus\n  tokens: tokens\n")
    return Mix(sources=(SourceConfig(corpus=Path("corpus"), tokens=Path("tokens")),))


def talk(frames: int = 200, seed: int = 0) -> Talk:
    """A conversation of two sides that say something now and then, made by hand."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 64, (2, 8, frames)).astype(np.uint16)
    codes[0, 3, 5] = 65535
    spoken = [[Word(WORDS[int(i) % 7], i, i + 0.4) for i in np.arange(side, frames / 12.5, 1.3)] for side in range(2)]
    late = TextLayout(delay=0.8)
    speaks = np.zeros((2, frames), bool)
    speaks[0, frames // 2 :] = True
    speaks[1, : frames // 4] = True
    return Talk(
        codes=codes,
        text=np.stack([lay_words(w, SPELLING, frames).numpy().astype(np.int32) for w in spoken]),
        late=np.stack([lay_words(w, SPELLING, frames, late).numpy().astype(np.int32) for w in spoken]),
        speaks=speaks,
        letters=np.stack([letter_bits(w, frames, 12.5) for w in spoken]),
    )


def excerpts(frames: int = 60, *talks: Talk, config: LMConfig = TINY, held: bool = False, **source: object) -> Excerpts:
    given = SourceConfig(corpus=Path("c"), tokens=Path("t"), **({"prompted": 1.0, "swap": 0.0} | source))
    talks = talks or (talk(),)
    made = Source(given, talks, talks[:1] if held else (), 10)
    return Excerpts([made], config, SPELLING, TONE, frames, held_out=held, opening=0.0, cut=0)


def found_at(row: torch.Tensor, codes: NDArray[np.uint16]) -> list[int]:
    """Where codes [n, L] stand in a conversation's side [n, T]."""
    L = row.shape[1]
    whole = np.where(codes == 65535, -1, codes.astype(int))
    return [s for s in range(whole.shape[1] - L + 1) if np.array_equal(whole[:, s : s + L], row.numpy())]


def one(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return batch.codes[0], batch.learn[0], batch.speaks[0]


class TestTalks:
    def test_words_of_both_sides_lie_on_frames_beside_their_codes(self, tmp_path: Path) -> None:
        mix = tiny_corpus(tmp_path)
        (source,) = load_mix(mix, tmp_path, SPELLING, TextLayout(), 0.0)
        assert [t.frames for t in source.talks] == [100, 125, 150]
        t = source.talks[0]
        assert t.codes.shape == (2, 8, 100)
        assert t.late.shape == (2, 0)
        for side, every, first in ((0, 0.7, 0.2), (1, 1.1, 0.5)):
            words = [Word(str(w), a, b) for w, (a, b), _ in said(8.0, every, first, side)]
            assert t.text[side].tolist() == lay_words(words, SPELLING, 100).tolist()
            sounds = [any(w.start * 12.5 < f + 1 and w.end * 12.5 > f for w in words) for f in range(100)]
            assert t.speaks[side].tolist() == sounds
        assert (t.codes == 65535).any()

    def test_late_words_are_laid_where_a_task_needs_them(self, tmp_path: Path) -> None:
        mix = tiny_corpus(tmp_path)
        mix = Mix(sources=(replace(mix.sources[0], task="transcribe"),), text_delay=0.48)
        (source,) = load_mix(mix, tmp_path, SPELLING, TextLayout(), 0.0)
        t = source.talks[1]
        assert source.delay == 6
        assert t.late[:, 6:].tolist() == t.text[:, :-6].tolist()
        assert (t.late[:, :6] == -1).all()

    def test_the_last_conversations_are_held_out_but_never_all(self, tmp_path: Path) -> None:
        mix = tiny_corpus(tmp_path)
        for share, kept in ((0.0, 3), (0.34, 2), (0.9, 1)):
            (source,) = load_mix(mix, tmp_path, SPELLING, TextLayout(), share)
            assert len(source.talks) == kept
            assert [t.frames for t in (*source.talks, *source.held_out)] == [100, 125, 150]

    def test_a_side_whose_words_nobody_knows_has_no_text(self, tmp_path: Path) -> None:
        (source,) = load_mix(tiny_corpus(tmp_path, user=False), tmp_path, SPELLING, TextLayout(), 0.0)
        assert (source.talks[0].text[1] == -1).all()
        assert (source.talks[0].text[0] >= 0).all()

    def test_tokens_of_two_codecs_are_refused(self, tmp_path: Path) -> None:
        first = tiny_corpus(tmp_path / "a").sources[0]
        for name, how in (("b", {"codec": "other"}), ("c", {"codebooks": 4})):
            tiny_corpus(tmp_path / name, **how)
            both = Mix(sources=tuple(
                replace(first, corpus=Path(n, "corpus"), tokens=Path(n, "tokens")) for n in ("a", name)
            ))  # fmt: skip
            with pytest.raises(UserError, match=f"a/tokens and {name}/tokens come from different codecs"):
                load_mix(both, tmp_path, SPELLING, TextLayout(), 0.0)

    def test_a_corpus_that_was_not_encoded_is_named(self, tmp_path: Path) -> None:
        mix = tiny_corpus(tmp_path)
        writer = TokenCacheWriter(tmp_path / "empty", cache_header(mix, tmp_path))
        writer.finish()
        with pytest.raises(UserError, match="empty: no conversation has both words and tokens; encode"):
            load_mix(Mix(sources=(replace(mix.sources[0], tokens=Path("empty")),)), tmp_path, SPELLING, TextLayout(), 0)

    def test_a_mix_is_read_from_yaml(self, tmp_path: Path) -> None:
        put(tmp_path, "m.yaml", "text_delay: 0.8\nsources:\n- {corpus: a, tokens: b, prompts: [hi, ho], swap: 0}\n")
        mix = read_mix(tmp_path / "m.yaml")
        assert (mix.text_delay, mix.sources[0].prompts, mix.sources[0].corpus) == (0.8, ("hi", "ho"), Path("a"))

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("sources: []", "names no source"),
            ("sources:\n- {corpus: a, tokens: b, weight: 0}", "no weight"),
            ("sources:\n- {corpus: a, tokens: b, dense: 2}", "dense 2.0 is no share"),
            ("sources:\n- {corpus: a, tokens: b, task: sing}", "no task 'sing'"),
            ("sources:\n- {corpus: a, tokens: b}\ntext_delay: -1", "no delay"),
            ("sources:\n- {corpus: a, tokens: b, wieght: 1}", "wieght"),
        ],
    )
    def test_a_mix_that_makes_no_sense_is_named(self, tmp_path: Path, text: str, named: str) -> None:
        put(tmp_path, "m.yaml", text)
        with pytest.raises(UserError, match=named):
            read_mix(tmp_path / "m.yaml")


class TestExcerpts:
    def test_codes_are_the_conversation_s(self) -> None:
        t = talk()
        for seed in range(5):
            codes, learn, speaks = one(excerpts(60, t).batch(np.random.default_rng(seed), 1))
            (start,) = found_at(codes[1:9], t.codes[0])
            assert found_at(codes[9:17], t.codes[1]) == [start]
            assert codes[0].tolist() == t.text[0, start : start + 60].tolist()
            assert speaks.tolist() == t.speaks[0, start : start + 60].tolist()
            assert learn.all()

    @pytest.mark.parametrize(("task", "cut"), [("talk", CUT), ("transcribe", 0)])
    def test_how_an_excerpt_begins_is_not_learned(self, task: str, cut: int) -> None:
        """Cut, a talk begins in the middle of words; the model would say some at once in a talk that has just begun."""
        t, openings = talk(), 0
        source = Source(SourceConfig(corpus=Path("c"), tokens=Path("t"), swap=0.0, task=task), (t,), (), 10)
        made = Excerpts([source], TINY, SPELLING, TONE, 60)
        for seed in range(60):
            codes, learn, _ = one(made.batch(np.random.default_rng(seed), 1))
            (start,) = found_at(codes[9:17], t.codes[1])
            assert learn.tolist() == [i >= cut for i in range(60)]
            openings += start == 0
        assert 2 <= openings <= 15

    def test_the_same_numbers_give_the_same_batch_and_others_another(self) -> None:
        made = excerpts(60, talk(), talk(120, 1), swap=0.5, prompts=("a", "b"), prompted=0.5, voiced=0.5, dense=0.5)
        a, b, c = (made.batch(np.random.default_rng(seed), 4) for seed in (3, 3, 4))
        assert torch.equal(a.codes, b.codes)
        assert torch.equal(a.learn, b.learn)
        assert not torch.equal(a.codes, c.codes)

    @pytest.mark.parametrize("lag", [0, 1])
    def test_prompts_stand_before_the_conversation_in_personaplex_s_order(self, lag: int) -> None:
        t, config = talk(), replace(TINY, user_lag=lag)
        made = excerpts(200, t, config=config, prompts=("be kind",), voiced=1.0)
        codes, learn, speaks = one(made.batch(np.random.default_rng(0), 1))
        ids = SPELLING.encode(system_prompt("be kind"))
        begun = int(learn.nonzero()[0])
        behind = 6 + len(ids) + 6
        voice = codes[:, : begun - behind]
        dropped = 1 - lag  # what the engine's first call drops
        assert VOICE_FRAMES[0] <= voice.shape[1] + dropped <= VOICE_FRAMES[1]
        assert (voice[0] == PAD).all()
        assert (voice[9:17] == TONE.sine[:, None]).all()
        expected = prompt_codes(config, TONE, ids, voice[1:9])
        assert torch.equal(codes[:, :begun], expected)
        assert codes[0, begun - 6 - len(ids) : begun - 6].tolist() == ids
        (start,) = found_at(codes[1:9, begun:], t.codes[0])
        assert codes[0, begun:].tolist() == t.text[0, start : start + 200 - begun].tolist()
        assert learn[begun:].all()
        assert not speaks[:begun].any()

    def test_a_voice_is_the_agent_s_and_has_no_holes(self) -> None:
        t = talk()
        for seed in range(10):
            codes, learn, _ = one(excerpts(120, t, voiced=1.0).batch(np.random.default_rng(seed), 1))
            voice = codes[1:9, : int(learn.nonzero()[0]) - 12]
            filled = np.where(t.codes[0] == 65535, TONE.silence[:, None].numpy(), t.codes[0]).astype(np.uint16)
            assert found_at(voice, filled)

    def test_a_long_prompt_takes_half_and_keeps_its_end(self) -> None:
        codes, learn, _ = one(excerpts(40, prompts=("x" * 60,)).batch(np.random.default_rng(0), 1))
        assert int(learn.nonzero()[0]) == 20
        assert codes[0, 14:20].tolist() == [PAD] * 6
        assert codes[0, 13] == SPELLING.encode(system_prompt("x"))[-1]

    def test_swapping_takes_the_other_side_s_words_and_codes(self) -> None:
        t = talk()
        codes, _, speaks = one(excerpts(60, t, swap=1.0).batch(np.random.default_rng(1), 1))
        (start,) = found_at(codes[1:9], t.codes[1])
        assert found_at(codes[9:17], t.codes[0]) == [start]
        assert codes[0].tolist() == t.text[1, start : start + 60].tolist()
        assert speaks.tolist() == t.speaks[1, start : start + 60].tolist()

    def test_what_is_shorter_than_an_excerpt_is_filled_with_nothing(self) -> None:
        codes, learn, speaks = one(excerpts(60, talk(25), prompts=("a",)).batch(np.random.default_rng(0), 1))
        end = int(learn.nonzero()[0]) + 25
        assert learn.sum() == 25
        assert (codes[:, end:] == -1).all()
        assert not learn[end:].any()
        assert not speaks[end:].any()
        assert (codes[0, :end] >= 0).all()

    def test_dense_excerpts_are_where_the_agent_speaks(self) -> None:
        shares = {
            dense: np.mean([
                float(excerpts(50, dense=dense).batch(np.random.default_rng(s), 1).speaks.float().mean())
                for s in range(30)
            ])
            for dense in (0.0, 1.0)
        }  # fmt: skip
        assert shares[1.0] > 0.8
        assert shares[0.0] < 0.65

    def test_dense_places_are_where_that_side_speaks(self) -> None:
        t, rng = talk(), np.random.default_rng(0)
        assert all(place(t, 0, 50, True, rng) >= 60 for _ in range(20))
        assert np.mean([place(t, 1, 50, True, rng) for _ in range(20)]) < 30
        assert place(talk(30), 0, 50, True, rng) == 0

    def test_a_share_is_silence_of_both_sides(self) -> None:
        batch = excerpts(30, silent=0.5).batch(np.random.default_rng(0), 40)
        want = torch.cat((torch.tensor([PAD]), TONE.silence, TONE.silence))[:, None].expand(-1, 30)
        silent = torch.tensor([torch.equal(row, want) for row in batch.codes])
        assert 10 < silent.sum() < 30
        assert batch.learn[silent].all()
        assert batch.sounds[silent].all()
        assert not batch.speaks[silent].any()

    def test_weights_say_how_often_a_source_is_drawn_from(self) -> None:
        sources = []
        for weight, value in ((3.0, 1), (1.0, 2)):
            t = talk()
            t.codes[:] = value
            config = SourceConfig(corpus=Path("c"), tokens=Path("t"), weight=weight)
            sources.append(Source(config, (t,)))
        batch = Excerpts(sources, TINY, SPELLING, TONE, 10).batch(np.random.default_rng(0), 2000)
        assert abs(float((batch.codes[:, 1, 0] == 1).float().mean()) - 0.75) < 0.04

    def test_what_is_held_out_is_drawn_only_when_asked(self) -> None:
        assert len(excerpts(60, talk(), held=True)) == 1
        empty = Source(SourceConfig(corpus=Path("c"), tokens=Path("t")), (talk(),))
        assert len(Excerpts([empty], TINY, SPELLING, TONE, 60, held_out=True)) == 0


class TestTranscribing:
    @staticmethod
    def drawn(t: Talk, frames: int, seed: int, **how: object) -> tuple[torch.Tensor, torch.Tensor, int]:
        made = excerpts(frames, t, task="transcribe", **how)
        codes, learn, speaks = one(made.batch(np.random.default_rng(seed), 1))
        assert not speaks.any()
        first = int(learn.nonzero()[0])
        (start,) = found_at(codes[9:17, first:][:, : t.frames], t.codes[1])
        return codes[:, first:], learn[first:], start

    def test_the_agent_is_silent_and_its_text_tells_late_what_the_user_says(self) -> None:
        t = talk()
        for seed in range(10):
            codes, learn, start = self.drawn(t, 80, seed, prompts=("transcribe",))
            assert (codes[1:9] == TONE.silence[:, None]).all()
            assert learn.all()
            # From the first word that begins in the excerpt on, the text is the recording's.
            late = t.late[1, start : start + codes.shape[1]]
            begins = [i for i in range(10, len(late)) if SPELLING.begins_word(int(late[i]))]
            assert codes[0, begins[0] :].tolist() == late[begins[0] :].tolist()
            assert codes[0, begins[0] - 1] == (EPAD if late[begins[0] - 1] == EPAD else PAD)
            assert (codes[0, : begins[0] - 1] == PAD).all()

    def test_no_word_stands_before_its_sound_was_heard(self) -> None:
        """A word of 9 letters begins every second; each excerpt tells only those that begin in it."""
        spoken = [Word(f"{'abcdefghij'[i % 10]}nowingly", i, i + 0.5) for i in range(1, 30)]
        late = lay_words(spoken, SPELLING, 400, TextLayout(delay=0.8)).numpy().astype(np.int32)
        t = replace(talk(400), late=np.stack([late, late]))
        for seed in range(25):
            codes, _, start = self.drawn(t, 60, seed)
            told = [i for i, x in enumerate(codes[0].tolist()) if SPELLING.begins_word(x)]
            heard = [int(w.start * 12.5) - start + 10 for w in spoken if w.start * 12.5 // 1 >= start]
            assert told == [at for at in heard if at < 60]
            assert all(x in (PAD, EPAD) for x in codes[0, : told[0]].tolist())

    def test_the_beginning_of_a_recording_is_padded_as_when_it_is_transcribed(self) -> None:
        t = talk(40)
        codes, _, start = self.drawn(t, 60, 0)
        assert start == 0
        assert (t.late[1, :10] == -1).all()
        assert (codes[0, :9] == PAD).all()
        assert (codes[0, 40:] == -1).all()

    def test_dense_is_where_the_user_speaks(self) -> None:
        t = talk()
        starts = [self.drawn(t, 40, seed, dense=1.0)[2] for seed in range(20)]
        assert np.mean(starts) < 40

    def test_words_that_nobody_knows_are_not_told_as_silence(self) -> None:
        t = talk()
        t.late[1] = -1
        assert (self.drawn(t, 60, 0)[0][0] == -1).all()


class TestTokenizer:
    def test_special_ids_are_moshi_s_and_tags_are_one_piece(self, tmp_path: Path) -> None:
        (tmp_path / "t.model").write_bytes(trained(SENTENCES, 90))
        tokenizer = load_text(tmp_path / "t.model")
        assert tokenizer.vocab_size == 90
        assert [tokenizer.spell(i) for i in range(4)] == [b""] * 4
        ids = tokenizer.encode(system_prompt("be kind"))
        tag = [i for i in ids if tokenizer.spell(i) == b"<system>"]
        assert len(tag) == 2
        assert tokenizer.decode(ids) == "<system> be kind <system>"
        assert not {EPAD, PAD} & set(ids)
        raw = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_file=str(tmp_path / "t.model"))
        assert (raw.unk_id(), raw.bos_id(), raw.eos_id(), raw.pad_id()) == (EPAD, 1, 2, PAD)

    def test_text_comes_back_also_of_letters_that_were_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "t.model").write_bytes(trained(SENTENCES, 90))
        tokenizer = load_text(tmp_path / "t.model")
        for text in ("hello my friend", "Zebra-42, isn't it?", "QUIZ!"):
            assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_the_same_text_makes_the_same_tokenizer(self) -> None:
        assert trained(SENTENCES, 90) == trained(SENTENCES, 90)

    def test_the_verb_reads_corpora_and_text_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tiny_corpus(tmp_path)
        lines = put(tmp_path, "more.txt", "\n".join(SENTENCES))
        out, told = tmp_path / "t.model", tmp_path / "told.json"
        config = TrainTokenizerConfig(corpora=(tmp_path / "corpus", lines), out=out, size=90, json=told)
        assert main(config) == 0
        assert load_text(out).vocab_size == 90
        made = read_json(told)
        per_side = sum(len(said(8.0 + 2 * i, every, first, 0)) for i in range(3) for every, first in
                       ((0.7, 0.2), (1.1, 0.5)))  # fmt: skip
        assert made["words"] == per_side + sum(len(line.split()) for line in SENTENCES)
        assert made["pieces"] >= made["words"]
        assert "90 pieces" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("size", "named"), [(5000, "too few different words for 5000 pieces; use [0-9]+ or less"),
                            (30, "30 pieces are fewer than the letters; use [0-9]+ or more")],
    )  # fmt: skip
    def test_a_size_that_does_not_fit_is_named(self, size: int, named: str) -> None:
        with pytest.raises(UserError, match=f"--size: .*{named}"):
            trained(SENTENCES, size)

    def test_no_words_are_named(self, tmp_path: Path) -> None:
        empty = put(tmp_path, "empty.txt", "\n \n")
        with pytest.raises(UserError, match=r"empty.txt: holds no words"):
            main(TrainTokenizerConfig(corpora=(empty,), out=tmp_path / "t.model"))


class TestTexts:
    CHAT = "A: Hello there my good friend.\nB: Hello.\nA: How are you today?\nB: Fine, thank you very much.\n"

    def test_each_side_of_a_chat_is_a_text_with_its_turns_and_words(self, tmp_path: Path) -> None:
        put(tmp_path, "chat.txt", self.CHAT)
        agent, user = load_texts(tmp_path / "chat.txt", SPELLING)
        first, second = (SPELLING.encode(line) for line in ("Hello there my good friend.", "How are you today?"))
        assert agent.pieces.tolist() == first + second
        assert [i for i, new in enumerate(agent.breaks) if new == 2] == [0, len(first)]
        words = [i for i, new in enumerate(agent.breaks) if new]
        assert words == [i for i, p in enumerate(agent.pieces) if SPELLING.begins_word(int(p))]
        assert len(user.pieces) == user.frames

    def test_a_text_laid_on_frames_keeps_its_order_and_has_an_epad_before_words_that_wait(self, tmp_path: Path) -> None:
        put(tmp_path, "chat.txt", self.CHAT)
        text = load_texts(tmp_path / "chat.txt", SPELLING)[0]
        paces = set()
        for seed in range(12):
            laid = lay_text(text, 400, PAD, EPAD, np.random.default_rng(seed)).tolist()
            assert [i for i in laid if i not in (PAD, EPAD)] == text.pieces.tolist()
            for t, token in enumerate(laid):
                if token == EPAD:
                    assert SPELLING.begins_word(laid[t + 1])
                if token == PAD and t and laid[t - 1] == EPAD:
                    pytest.fail("PAD behind EPAD")
            paces.add(len(laid) - laid[::-1].index(text.pieces[-1]) > len(text.pieces))
        assert paces == {False, True}

    def test_texts_are_learned_without_sound(self, tmp_path: Path) -> None:
        put(tmp_path, "chat.txt", self.CHAT)
        mix = Mix(sources=(SourceConfig(corpus=Path("chat.txt"), task="text"),))
        (source,) = load_mix(mix, tmp_path, SPELLING, TextLayout(), 0.0)
        batch = Excerpts([source], TINY, SPELLING, TONE, 30).batch(np.random.default_rng(0), 40)
        assert (batch.learn == (torch.arange(30) >= CUT)).all(), "a talk does not begin with a word at once"
        assert not batch.sounds.any()
        absent = (batch.codes[:, 1:] == -1).flatten(1).all(1)
        silent = torch.tensor([torch.equal(row[1:9], TONE.silence[:, None].expand(-1, 30)) for row in batch.codes])
        assert (absent ^ silent).all()
        assert 8 < absent.sum() < 32

    def test_a_text_has_no_tokens_and_all_else_has(self) -> None:
        with pytest.raises(UserError, match="no use of tokens"):
            SourceConfig(corpus=Path("a"), tokens=Path("b"), task="text")
        with pytest.raises(UserError, match="talk has no tokens"):
            SourceConfig(corpus=Path("a"))


def test_a_style_tells_how_much_the_agent_says() -> None:
    t, styles = talk(), ("be quiet", "be normal", "be loud")
    made = excerpts(120, t, styles=styles, styled=1.0)
    ids = [SPELLING.encode(system_prompt(style)) for style in styles]
    shares: list[list[float]] = [[], [], []]
    for seed in range(40):
        codes, learn, speaks = one(made.batch(np.random.default_rng(seed), 1))
        begun = int(learn.nonzero()[0])
        (which,) = [i for i, x in enumerate(ids) if codes[0, begun - 6 - len(x) : begun - 6].tolist() == x]
        shares[which].append(float(speaks[begun:].float().mean()))
    assert all(shares)
    low, middle, high = (float(np.mean(s)) for s in shares)
    assert low < middle < high
