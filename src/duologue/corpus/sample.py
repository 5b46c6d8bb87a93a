"""The sample corpus that comes with the package: half an hour of synthetic two-channel talk, in two parts.

Made by `tools/make_sample.py`, whose recipe stands in `sample/sample.json` with the licences of text and voices. Both
parts are read as any folder (`corpus.readers.files`): an Ogg Opus file of each side, NAME_agent and NAME_user, and its
words in JSON beside it. The voices are synthetic (Pico), the texts people's chats; timing is drawn from human
statistics.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias

from duologue.base.errors import UserError
from duologue.base.files import read_json

Part: TypeAlias = Literal["train", "heldout"]
SegmentPart: TypeAlias = Literal["train", "dev", "test"]
"""Parts of the shipped segments: to learn from, to tune by, and to report on, once a release."""
FOLDER = "sample"


def sample_folder(part: Part | None = None) -> Path:
    """The folder of the sample corpus, or of one part of it.

    Raises:
        UserError: this installation lacks it.
    """
    folder = Path(str(files("duologue.corpus").joinpath(FOLDER)))
    if not (folder / "sample.json").is_file():
        raise UserError("is not installed", place="the sample corpus", mend="install the package whole")
    return folder if part is None else folder / part


def sample_segments(part: SegmentPart) -> Path:
    """The folder of segments that come with the package, with `nano`'s tokens beside them and without sound.

    Made by `tools/make_segments.py`; `segments/segments.json` says what each part holds. No two parts share a chat or a
    conversation, the users of the test part have voices that no other part has, and its chats and voices are new to
    `nano` too.

    Raises:
        UserError: this installation lacks them.
    """
    folder = Path(str(files("duologue.corpus").joinpath("segments", part)))
    if not (folder / "index.parquet").is_file():
        raise UserError("are not installed", place="the sample segments", mend="install the package whole")
    return folder


def sample_record() -> dict[str, Any]:
    """What is known of it: recipe, hours, licences, and the hash of its content."""
    record = read_json(sample_folder() / "sample.json")
    assert isinstance(record, dict)
    return record


def content_hash(folder: Path) -> str:
    """A hash of all files of both parts, by name and content: 16 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(p for part in ("heldout", "train") for p in (folder / part).rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
