"""Text: ids to what is shown, words from a text stream and back. The tokenizers are trained here."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duologue.base.errors import UserError
from duologue.dialogue.timeline import Word
from duologue.model.config import LMConfig
from duologue.model.text import TextStream, TextTokenizer, load_text, system_prompt
from duologue.model.words import TextLayout, WordStream, lay_words, words

EPAD, BOS, EOS, PAD = range(4)
SENTENCES = [
    "hello there how are you today", "I am very well thank you and you", "the café is not open olé",
    "could you tell me where the station is please", "well hello again my old friend",
] * 5  # fmt: skip
TEXTS = ["hello there", "café 😀 olé", "the 日本 naïve 👩‍👩‍👧 well", "you", "  two  spaces", "tab\tand\nline"]
KINDS = ["sentencepiece", "byte-level", "byte-level with a space in front", "llama's tokenizer.json"]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tokenizer of each kind."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        KINDS[0]: _sentencepiece(folder / "spm.model"),
        KINDS[1]: _byte_level(folder / "bytes.json", add_prefix_space=False),
        KINDS[2]: _byte_level(folder / "spaced.json", add_prefix_space=True),
        KINDS[3]: _llama_json(folder / "llama.json"),
    }


@pytest.fixture(scope="session")
def moshi_like(files: dict[str, Path]) -> TextTokenizer:
    return load_text(files["sentencepiece"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_ids_give_their_text_back_as_the_package_does(files: dict[str, Path], kind: str, text: str) -> None:
    tokenizer = load_text(files[kind])
    ids = tokenizer.encode(text)
    encode, decode, size = _package(files[kind])
    assert ids == encode(text)
    assert tokenizer.vocab_size == size
    shown = tokenizer.decode(ids)
    assert shown.split() == text.split()  # SentencePiece makes one space of several
    # Byte-level BPE shows the space that it puts in front; here nothing does.
    assert shown.lstrip(" ") == decode(ids).lstrip(" ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_character_of_several_ids_is_shown_once_it_is_complete(files: dict[str, Path], kind: str) -> None:
    tokenizer = load_text(files[kind])
    ids = tokenizer.encode("a 😀")
    pieces = tokenizer.pieces(ids)
    assert len(pieces) == len(ids)
    assert pieces[-1] == "😀"
    assert "".join(pieces).strip() == "a 😀"
    assert "\ufffd" in tokenizer.piece(ids[-1])
    assert tokenizer.pieces(ids[:-1])[-1] == "\ufffd"
    stream = TextStream(tokenizer)
    assert [stream.feed(x) for x in (ids[-2], PAD, ids[0])][1] == ""


def test_silent_absent_and_controlling_ids_show_nothing(moshi_like: TextTokenizer) -> None:
    ids = moshi_like.encode("hello you")
    spread = [-1, PAD, EPAD, BOS, ids[0], PAD, EOS, *ids[1:], -2]
    assert moshi_like.decode(spread) == "hello you"
    assert moshi_like.pieces([PAD, EPAD, BOS]) == ["", "", ""]
    assert moshi_like.piece(ids[0]) == " hello"
    assert moshi_like.piece(moshi_like.vocab_size) == "\ufffd"
    assert moshi_like.pieces([]) == []
    assert moshi_like.decode([]) == ""
    assert moshi_like.encode("") == []


def test_what_is_silent_is_the_model_s_to_say(files: dict[str, Path]) -> None:
    path = files["byte-level"]
    letter = load_text(path).encode("q")[0]
    assert load_text(path, silent=frozenset({letter})).decode([letter]) == ""
    assert load_text(path, silent=frozenset()).decode([letter]) == "q"


def test_no_unicode_text_is_encoded_all_the_same(moshi_like: TextTokenizer) -> None:
    assert moshi_like.decode(moshi_like.encode("a \udc80")) == "a ?"


@pytest.mark.parametrize(
    ("text", "wrapped"),
    [
        (" You are wise. ", "<system> You are wise. <system>"),
        ("<system> You are wise. <system>\n", "<system> You are wise. <system>"),
        ("", ""),
        (" \n", ""),
    ],
)
def test_system_prompts_are_wrapped_once(text: str, wrapped: str) -> None:
    assert system_prompt(text) == wrapped


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("gone.model", None, "No such file"),
        ("empty.model", b"", "is empty"),
        ("torn.model", b"\x0a\x0bgarbage", "is no SentencePiece model"),
        ("torn.json", b'{"model": ', "is no tokenizer.json"),
        ("other.json", b"{}", "is no tokenizer.json"),
    ],
)
def test_a_broken_tokenizer_is_named_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    pytest.importorskip("tokenizers" if name.endswith("json") else "sentencepiece")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=problem) as raised:
        load_text(tmp_path / name)
    assert name in str(raised.value)


def test_a_folder_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_text(tmp_path)


def test_a_decoder_that_nobody_knows_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    values = json.loads(files["byte-level"].read_text())
    for decoder in ({"type": "WordPiece", "prefix": "##", "cleanup": True}, None):
        values["decoder"] = decoder
        (tmp_path / "tokenizer.json").write_text(json.dumps(values))
        with pytest.raises(UserError, match=r"decoder .* is not supported"):
            load_text(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(("kind", "package"), [(KINDS[0], "sentencepiece"), (KINDS[1], "tokenizers")])
def test_a_missing_package_is_named(
    files: dict[str, Path], kind: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"pip install {package}"):
        load_text(files[kind])


# Words and the text stream


def test_words_lie_as_moshi_finetune_lays_them() -> None:
    pieces = {"one": [10, 11], "two": [12, 13], "three": [15, 16, 17], "four": [18]}
    tokenizer = _fake(pieces)
    spoken = [Word("one", 0.5, 0.8), Word("two", 0.82, 1.2), Word("three", 1.6, 2.0), Word("four", 2.12, 2.3)]
    laid = lay_words(spoken, tokenizer, 30).tolist()
    expected = [3] * 5 + [0, 10, 11, 3, 0, 12, 13] + [3] * 7 + [0, 15, 16, 17, 3, 3, 0, 18] + [3] * 3
    assert laid == expected
    assert [(w.text, round(w.start * 12.5), round(w.end * 12.5)) for w in words(laid, tokenizer)] == [
        ("one", 6, 8), ("two", 10, 12), ("three", 20, 23), ("four", 26, 27),
    ]  # fmt: skip


def test_a_word_that_comes_too_soon_is_shifted_or_cuts_the_last_one_off() -> None:
    tokenizer = _fake({"long": [10, 11, 12], "next": [20]})
    spoken = [Word("long", 0.08, 0.1), Word("next", 0.16, 0.2)]
    assert lay_words(spoken, tokenizer, 6).tolist() == [0, 10, 11, 12, 20, 3]
    cut = TextLayout(keep_and_shift=False)
    assert lay_words(spoken, tokenizer, 6, cut).tolist() == [0, 10, 20, 3, 3, 3]


SPOKEN = st.lists(st.tuples(st.sampled_from(["a", "bb", "ccc", "none"]), st.integers(0, 30)), max_size=8)
LETTERS = {"a": [10], "bb": [11, 12], "ccc": [13, 14, 15], "none": []}


@given(spoken=SPOKEN, shift=st.booleans())
def test_laying_equals_the_frame_by_frame_definition(spoken: list[tuple[str, int]], shift: bool) -> None:
    """moshi-finetune's definition, but for its two edges: a time just where a frame begins (half a frame is added to
    each), and EPAD in the last frame before a word that is not laid any more (more frames are laid here)."""
    times = [Word(text, (frame + 0.5) / 12.5, (frame + 0.6) / 12.5) for text, frame in spoken if text != "none"]
    laid = lay_words(times, _fake(LETTERS), 24, TextLayout(keep_and_shift=shift)).tolist()
    waiting: list[int] = []
    rest = sorted(times, key=lambda w: w.start)
    expected = [PAD] * 32
    for t in range(32):
        while rest and rest[0].start * 12.5 < t + 1:
            new = LETTERS[rest.pop(0).text]
            waiting = [*waiting, *new] if shift else list(new)
        if waiting:
            if t > 0 and expected[t - 1] == PAD:
                expected[t - 1] = EPAD
            expected[t] = waiting.pop(0)
    assert laid == expected[:24]


@given(spoken=SPOKEN, start=st.integers(0, 20), shift=st.booleans())
def test_a_clip_s_stream_is_the_recording_s_there(spoken: list[tuple[str, int]], start: int, shift: bool) -> None:
    layout = TextLayout(keep_and_shift=shift)
    times = [Word(text, frame * 0.08, frame * 0.08) for text, frame in spoken]
    whole = lay_words(times, _fake(LETTERS), 40, layout)
    clip = lay_words([Word(t, a - start * 0.08, b - start * 0.08) for t, a, b in times], _fake(LETTERS), 20, layout)
    assert clip.tolist() == whole[start : start + 20].tolist()


def test_a_word_begins_in_its_frame_wherever_floats_round_to() -> None:
    tokenizer = _fake({"a": [10]})
    for frame in (29, 57, 113, 1400):  # frame / 12.5 * 12.5 is below frame for some of these
        laid = lay_words([Word("a", frame / 12.5, frame / 12.5)], tokenizer, frame + 1)
        assert laid[-2:].tolist() == [EPAD, 10]
    assert math.floor(29 / 12.5 * 12.5) == 28


@given(data=st.data(), delay=st.sampled_from([0.0, 0.5, 2.5]))
def test_words_laid_apart_come_back_with_text_and_start(
    moshi_like: TextTokenizer, data: st.DataObject, delay: float
) -> None:
    layout = TextLayout(delay=delay)
    texts = data.draw(st.lists(st.text("abehlotéñ😀日", min_size=1, max_size=6), max_size=5))
    frame, spoken = 0, []
    for text in texts:
        frame += data.draw(st.integers(0, 9))
        spoken.append(Word(text, frame / 12.5, frame / 12.5))
        frame += len(moshi_like.encode(text))
    found = words(lay_words(spoken, moshi_like, frame + 40, layout), moshi_like, layout)
    assert [w.text for w in found] == texts
    frames = [math.floor((w.start + delay) * 12.5 + 1e-6) for w in spoken]
    assert [round((w.start + delay) * 12.5, 6) for w in found] == frames


@pytest.mark.parametrize("kind", KINDS)
def test_words_without_room_between_them_stay_words(files: dict[str, Path], kind: str) -> None:
    tokenizer = load_text(files[kind])
    spoken = [Word(text, 0.0, 0.1) for text in ("hello", "😀", "olé", " well ", "")]
    assert [w.text for w in words(lay_words(spoken, tokenizer, 60), tokenizer)] == ["hello", "😀", "olé", "well"]


@given(tokens=st.lists(st.sampled_from([EPAD, BOS, EOS, PAD, PAD, PAD, -1, 20, 21, 30, 31, 40, 99]), max_size=40))
def test_the_word_stream_follows_its_rules(tokens: list[int]) -> None:
    """Against the rules said anew: cut the stream at what ends a word, then read each part by itself."""
    table = {20: b" a", 21: b" b", 30: b"c", 31: "é".encode()[:1], 40: b" "}
    tokenizer = _table(table)
    layout = TextLayout(bridge=2)
    spelled = [b"" if x < 4 else tokenizer.spell(x) for x in tokens]
    groups: list[list[int]] = []  # frames of the pieces of each word
    for t, letters in enumerate(spelled):
        if not letters:
            continue
        last = groups[-1][-1] if groups else None
        between = [] if last is None else tokens[last + 1 : t]
        joined = last is not None and len(between) <= 2 and not {EPAD, -1} & set(between) and letters[:1] != b" "
        if joined:
            groups[-1].append(t)
        else:
            groups.append([t])
    texts = [b"".join(spelled[t] for t in group).decode("utf-8", "replace").strip() for group in groups]
    expected = [
        Word(text, group[0] / 12.5, (group[-1] + 1) / 12.5) for text, group in zip(texts, groups, strict=True) if text
    ]
    assert words(tokens, tokenizer, layout) == expected
    assert words(torch.tensor(tokens, dtype=torch.long), tokenizer, layout) == expected


def test_a_word_is_given_as_soon_as_it_must_be_complete() -> None:
    stream = WordStream(_table({20: b" a", 21: b" b", 30: b"c"}), TextLayout(bridge=2))
    given = [stream.feed(x) for x in (20, 30, PAD, PAD, 30, PAD, PAD, PAD, 20, EPAD, 30, 21, -1, 20)]
    texts = [w and w.text for w in given]
    assert texts == [None] * 7 + ["acc", None, "a", None, "c", "b", None]
    last = stream.finish()
    assert last is not None
    assert last.text == "a"
    assert stream.finish() is None


def test_speech_recognition_is_late_by_its_delay(moshi_like: TextTokenizer) -> None:
    layout = TextLayout.of(LMConfig(audio_delay_seconds=0.5))
    assert (layout.pad, layout.epad) == (PAD, EPAD)
    laid = lay_words([Word("hello", 0.8, 1.1)], moshi_like, 20, layout).tolist()
    hello = moshi_like.encode("hello")
    assert laid == [-1] * 6 + [PAD] * 9 + [EPAD, *hello] + [PAD] * (4 - len(hello))
    found = words(laid, moshi_like, layout)[0]
    assert (found.start, found.end) == pytest.approx((16 / 12.5 - 0.5, (16 + len(hello)) / 12.5 - 0.5))


@pytest.mark.parametrize("wrong", [{"frame_rate": 0.0}, {"bridge": -1}, {"pad": 0}])
def test_a_layout_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError):
        TextLayout(**wrong)  # type: ignore[arg-type]


def _table(table: dict[int, bytes]) -> TextTokenizer:
    return TextTokenizer(lambda text: [], tuple(table.get(i, b"") for i in range(50)))


def _fake(pieces: dict[str, list[int]]) -> TextTokenizer:
    """A tokenizer of these words only, the first id of each with a space in front."""
    table = {}
    for text, ids in pieces.items():
        inner = len(text) - len(ids) + 1  # letters of the first id; each other one has one
        for i, x in enumerate(ids):
            table[x] = f" {text[:inner]}".encode() if i == 0 else text[inner + i - 1].encode()
    return TextTokenizer(lambda text: pieces[text], tuple(table.get(i, b"") for i in range(50)))


def _sentencepiece(path: Path) -> Path:
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    written = io.BytesIO()
    trainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=written, vocab_size=320, byte_fallback=True, model_type="bpe",
        normalization_rule_name="identity", unk_id=EPAD, bos_id=BOS, eos_id=EOS, pad_id=PAD, minloglevel=2,
    )  # fmt: skip
    path.write_bytes(written.getvalue())
    return path


def _byte_level(path: Path, *, add_prefix_space: bool) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<epad>", "<bos>", "<eos>", "<pad>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    model.train_from_iterator(SENTENCES, trainer)
    model.enable_truncation(2)  # settings for batches, which must not touch what is read here
    model.save(str(path))
    return path


def _llama_json(path: Path) -> Path:
    """SentencePiece's pieces as Llama 2 and Mistral ship them: a space in front, bytes for rare letters."""
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"<epad>": 0, "<bos>": 1, "<eos>": 2, "<pad>": 3}
    letters = sorted({c for text in SENTENCES for c in text.replace(" ", "▁")} | {"\t"})
    for piece in [f"<0x{b:02X}>" for b in range(256)] + letters + ["he", "ll", "hell", "hello"]:
        vocabulary.setdefault(piece, len(vocabulary))
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o")]
    model = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True, unk_token="<epad>")
    )
    space = tokenizers.normalizers
    model.normalizer = space.Sequence([space.Prepend("▁"), space.Replace(" ", "▁")])
    parts = tokenizers.decoders
    model.decoder = parts.Sequence(
        [parts.Replace("▁", " "), parts.ByteFallback(), parts.Fuse(), parts.Strip(" ", 1, 0)]
    )
    model.add_special_tokens(["<epad>", "<bos>", "<eos>", "<pad>"])
    model.save(str(path))
    return path


def _package(path: Path) -> tuple[Callable[[str], list[int]], Callable[[list[int]], str], int]:
    """Encoder, decoder and size of the vocabulary of the package itself."""
    if path.suffix == ".model":
        import sentencepiece

        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        return model.encode, model.decode, model.get_piece_size()
    import tokenizers

    fast = tokenizers.Tokenizer.from_file(str(path))
    fast.no_truncation()
    return lambda text: fast.encode(text, add_special_tokens=False).ids, fast.decode, fast.get_vocab_size()
