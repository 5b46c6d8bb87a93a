"""Text tokenizers: text to ids, and ids to the text that is shown, also one id at a time.

A tokenizer here is an encoder and a table of what each id spells, as bytes: pieces of bytes (byte fallback, byte-level
BPE) may hold a part of a character, and only their concatenation is text. Two kinds of file are read: SentencePiece
models, as Kyutai and NVIDIA ship them, and `tokenizer.json` of Hugging Face's `tokenizers`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duologue.base.errors import UserError

SILENT = frozenset({0, 3})
"""EPAD and PAD of Moshi and PersonaPlex: ids of the text stream that are no text."""
SPACE = "▁"
"""What stands for a space in pieces of SentencePiece."""
UNKNOWN = "\ufffd".encode()
BLANKS = (b" ", b"\t", b"\n", b"\r")
SYSTEM = "<system>"


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """Text to ids and back. Made by `load_text`."""

    encoder: Callable[[str], list[int]] = field(repr=False)
    """Ids of a text, without any that begin or end a sequence."""
    table: tuple[bytes, ...] = field(repr=False)
    """What each id spells; nothing for ids that only control."""
    silent: frozenset[int] = SILENT
    """Ids that are never shown, whatever they spell."""
    prefix: bool = False
    """Whether `encoder` puts a space before the text."""

    @property
    def vocab_size(self) -> int:
        """Ids that the tokenizer knows."""
        return len(self.table)

    def encode(self, text: str) -> list[int]:
        """Ids of a text; none for an empty one. What is no Unicode text (a lone surrogate) becomes a question mark."""
        return self.encoder(text.encode("utf-8", "replace").decode()) if text else []

    def spell(self, token: int) -> bytes:
        """The bytes that an id adds to the text: none if silent or absent (below 0), U+FFFD's beyond the vocabulary."""
        if token < 0 or token in self.silent:
            return b""
        return self.table[token] if token < len(self.table) else UNKNOWN

    def piece(self, token: int) -> str:
        """One id alone as text; a part of a character is shown as U+FFFD. For a stream: `pieces` or `TextStream`."""
        return self.spell(token).decode("utf-8", "replace")

    def pieces(self, tokens: Iterable[int]) -> list[str]:
        """What each id adds to the text that is shown: a character comes with the id that completes it."""
        stream = TextStream(self)
        shown = [stream.feed(token) for token in tokens]
        if shown:
            shown[-1] += stream.finish()
        return shown

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of ids, without the space that `encode` puts before it."""
        text = "".join(self.pieces(tokens))
        return text.removeprefix(" ") if self.prefix else text

    def begins_word(self, token: int) -> bool:
        """Whether an id spells something that begins with white space."""
        return self.spell(token)[:1] in BLANKS


class TextStream:
    """The text of a stream of ids, as it is shown while it comes."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The characters that this id completes; often "". Silent ids do not come between the parts of a character."""
        return self._decoder.decode(self._tokenizer.spell(token))

    def finish(self) -> str:
        """What was left incomplete, as U+FFFD, or ""."""
        return self._decoder.decode(b"", final=True)


def system_prompt(text: str) -> str:
    """A text prompt as PersonaPlex was trained with; "" stays "", and what is wrapped already stays as it is.

    Matched: PersonaPlex, `wrap_with_system_tags`. The tags are plain text to the tokenizer.
    """
    bare = text.strip()
    if not bare or (bare.startswith(SYSTEM) and bare.endswith(SYSTEM)):
        return bare
    return f"{SYSTEM} {bare} {SYSTEM}"


def load_text(path: str | Path, *, silent: frozenset[int] = SILENT) -> TextTokenizer:
    """Read a tokenizer: JSON is taken for a `tokenizer.json`, anything else for a SentencePiece model.

    Args:
        path: the file.
        silent: ids that are not shown: the model's PAD and EPAD.

    Raises:
        UserError: no such file, a broken one, a `tokenizer.json` of a kind that is not supported, or the package that
            reads it is not installed.
    """
    place = Path(path)
    try:
        data = place.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", place=place, mend="name a tokenizer's file") from None
    if not data.strip():
        raise UserError("is empty, no tokenizer", place=place, mend="download it again")
    read = _read_json if data.lstrip()[:1] == b"{" else _read_sentencepiece
    encoder, table = read(data, place)
    letter = encoder("a")
    prefix = bool(letter) and table[letter[0]].startswith(b" ")
    return TextTokenizer(encoder, table, silent, prefix)


Read = tuple[Callable[[str], list[int]], tuple[bytes, ...]]
"""An encoder and its table."""


def _read_sentencepiece(data: bytes, place: Path) -> Read:
    try:
        import sentencepiece
    except ImportError:
        raise _not_installed("sentencepiece", place) from None
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=data)
    except RuntimeError:
        raise UserError("is no SentencePiece model", place=place, mend="download it again") from None

    def spelled(token: int) -> bytes:
        if model.is_control(token) or model.is_unused(token):
            return b""
        if model.is_unknown(token):
            return UNKNOWN
        piece = model.id_to_piece(token)
        return _byte(piece) if model.is_byte(token) else piece.replace(SPACE, " ").encode()

    def encode(text: str) -> list[int]:
        return list(model.encode(text))

    return encode, tuple(spelled(token) for token in range(model.get_piece_size()))


def _read_json(data: bytes, place: Path) -> Read:
    try:
        import tokenizers
    except ImportError:
        raise _not_installed("tokenizers", place) from None
    try:
        model = tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:  # the package raises nothing narrower
        raise UserError(f"is no tokenizer.json: {error}", place=place, mend="download it again") from None
    model.no_truncation()
    model.no_padding()
    spelled = _speller(json.loads(data).get("decoder"), place)
    vocabulary = model.get_vocab(with_added_tokens=True)
    table = [b""] * (1 + max(vocabulary.values(), default=-1))
    for piece, token in vocabulary.items():
        table[token] = spelled(piece)
    for token, added in model.get_added_tokens_decoder().items():  # literal text, or nothing that is shown
        table[token] = b"" if added.special else added.content.encode()

    def encode(text: str) -> list[int]:
        return list(model.encode(text, add_special_tokens=False).ids)

    return encode, tuple(table)


def _speller(decoder: Mapping[str, Any] | None, place: Path) -> Callable[[str], bytes]:
    """How a `tokenizer.json` with this decoder spells its pieces.

    Raises:
        UserError: it is neither byte-level BPE nor SentencePiece's pieces.
    """
    parts = [] if decoder is None else decoder.get("decoders", [decoder])
    kinds = {part.get("type") for part in parts}
    if kinds == {"ByteLevel"}:
        return _from_byte_letters
    replaced = [(part.get("pattern"), part.get("content")) for part in parts if part.get("type") == "Replace"]
    marked = "Metaspace" in kinds or replaced == [({"String": SPACE}, " ")]
    if not marked or kinds - {"Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"}:
        mend = "use one of byte-level BPE, or of SentencePiece's pieces"
        raise UserError(f"decoder {'+'.join(sorted(map(str, kinds))) or None} is not supported", place=place, mend=mend)
    bytes_fall_back = "ByteFallback" in kinds

    def spelled(piece: str) -> bytes:
        whole = bytes_fall_back and re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", piece)
        return _byte(piece) if whole else piece.replace(SPACE, " ").encode()

    return spelled


def _byte(piece: str) -> bytes:
    """The byte of a piece such as <0xF0>."""
    return bytes([int(piece[3:5], 16)])


def _byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in byte-level BPE (GPT-2): itself if it can be printed, else 256 and on."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(b): b for b in printed} | {chr(256 + i): b for i, b in enumerate(others)}


BYTE_LETTERS = _byte_letters()


def _from_byte_letters(piece: str) -> bytes:
    return b"".join(bytes([BYTE_LETTERS[c]]) if c in BYTE_LETTERS else c.encode() for c in piece)


def _not_installed(package: str, place: Path) -> UserError:
    return UserError(f"needs the package {package}", place=place, mend=f"pip install {package}")
