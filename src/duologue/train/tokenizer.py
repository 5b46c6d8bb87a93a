"""`duologue train tokenizer`: a text tokenizer from the words of corpora."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from duologue.base.errors import UserError
from duologue.base.files import read_text
from duologue.corpus.script import CHATS, load_scripts


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTokenizerConfig:
    """Train a SentencePiece model on the words of corpora, with the special ids of Moshi: EPAD 0, PAD 3."""

    corpora: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CORPORA")]
    """Folders of corpora with words, as duologue mine reads them, or text files, one sentence a line, or chitchat:
    people's chats (from the package chitchat-dataset), without those that are held out for measuring."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """The file to write, such as text.model."""
    size: int = 2048
    """Pieces in all."""
    json: Path | None = None
    """Also write what it was made of to this file."""


def main(config: TrainTokenizerConfig) -> int:
    """Train a SentencePiece model on the words of corpora, with the special ids of Moshi: EPAD 0, PAD 3."""
    from duologue.base.files import write_bytes, write_json
    from duologue.model.text import load_text

    lines = [line for corpus in config.corpora for line in sentences(corpus)]
    if not lines:
        raise UserError("holds no words", place=config.corpora[0], mend="name a corpus that has a transcript")
    write_bytes(config.out, trained(lines, config.size))
    tokenizer = load_text(config.out)
    words = sum(len(line.split()) for line in lines)
    pieces = sum(len(tokenizer.encode(line)) for line in lines)
    print(f"{config.out}: {tokenizer.vocab_size} pieces from {words} words, {pieces / words:.3f} pieces a word")
    if config.json is not None:
        write_json(config.json, {"words": words, "pieces": pieces, "size": tokenizer.vocab_size})
    return 0


def trained(lines: list[str], size: int) -> bytes:
    """A SentencePiece model of `size` pieces. Errors: UserError, the text has too few different pieces."""
    import sentencepiece

    from duologue.model.text import SYSTEM

    written = io.BytesIO()  # a file's name would stand in the model
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=written, vocab_size=size, model_type="unigram",
            character_coverage=1.0, unk_id=0, bos_id=1, eos_id=2, pad_id=3, user_defined_symbols=[SYSTEM],
            required_chars="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!'-", num_threads=1,
            input_sentence_size=200_000, shuffle_input_sentence=False, minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        raise _refused(str(error), size) from None
    return written.getvalue()


def _refused(reason: str, size: int) -> UserError:
    """SentencePiece's words in one line: what it says of a size that does not fit, or all that it says."""
    if most := re.search(r"value <= (\d+)", reason):
        problem, mend = f"the text has too few different words for {size} pieces", f"use {most[1]} or less"
    elif least := re.search(r"\d+ vs (\d+)", reason):
        problem, mend = f"{size} pieces are fewer than the letters", f"use {least[1]} or more"
    else:
        problem, mend = f"no tokenizer came of it: {reason}", "choose another size, or name more text"
    return UserError(problem, place="--size", mend=mend)


def sentences(corpus: Path) -> Iterator[str]:
    """What each side of each conversation says, in stretches of 50 words; the turns of chats; the lines of a file."""
    if str(corpus) == CHATS:
        yield from (line.text for script in load_scripts(CHATS, 0, "training") for line in script.turns)
        return
    if corpus.is_file():
        yield from (line.strip() for line in read_text(corpus).splitlines() if line.strip())
        return
    from duologue.corpus.conversation import Conversation
    from duologue.corpus.mine import read_corpus

    for read in read_corpus(corpus, None):
        if isinstance(read, Conversation):
            for side in read.sides:
                said = [word.text.strip() for word in side.words or () if word.text.strip()]
                for first in range(0, len(said), 50):
                    yield " ".join(said[first : first + 50])
