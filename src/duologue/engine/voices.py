"""Voice prompts that come with a model: files by name, unpacked when one is first asked for."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from duologue.base.errors import UserError
from duologue.base.files import atomic_path
from duologue.model.hub import Source, cache_folder

ARCHIVE, FOLDER = "voices.tgz", "voices"


class Voices(Mapping[str, Path]):
    """Names of voices ("NATF0") to files. Nothing is downloaded or unpacked before the first look."""

    def __init__(self, source: Source | None = None) -> None:
        self._source = source
        self._found: dict[str, Path] | None = None

    def __getitem__(self, name: str) -> Path:
        return self._files()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files())

    def __len__(self) -> int:
        return len(self._files())

    def pick(self, name: str) -> Path:
        """The file of a voice. Errors: UserError, there is none of that name."""
        files = self._files()
        if name not in files:
            mend = f"use one of {', '.join(files)}" if files else "name an audio file instead"
            raise UserError(f"{name!r} is no voice of this model", place="voice", mend=mend)
        return files[name]

    def _files(self) -> dict[str, Path]:
        if self._found is None:
            folder = None if self._source is None else find_voices(self._source)
            paths = [] if folder is None else [p for p in folder.rglob("*") if p.is_file() and p.name[0] != "."]
            self._found = {path.stem: path for path in sorted(paths)}
        return self._found


def find_voices(source: Source) -> Path | None:
    """The folder of a source's voices, unpacked if it is an archive; None if there is none.

    Raises:
        UserError: an archive that is broken, or that would write outside its folder.
    """
    if source.folder is not None and (source.folder / FOLDER).is_dir():
        return source.folder / FOLDER
    archive = source.find(ARCHIVE)
    return None if archive is None else unpack(archive)


def copy_voices(source: Source, folder: Path) -> None:
    """Copy a source's voices as they are, the folder or the archive."""
    if source.folder is not None and (source.folder / FOLDER).is_dir():
        shutil.copytree(source.folder / FOLDER, folder / FOLDER)
        return
    archive = source.find(ARCHIVE)
    if archive is not None:
        shutil.copyfile(archive, folder / ARCHIVE)


def unpack(archive: Path) -> Path:
    """Unpack into the cache, once: the folder is named by the archive's content."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()[:16]
    folder = cache_folder() / FOLDER / digest
    if folder.is_dir():
        return folder
    try:
        with atomic_path(folder, durable=False) as aside, tarfile.open(archive, "r:gz") as packed:
            aside.mkdir()
            packed.extractall(aside, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        if folder.is_dir():  # another process was faster
            return folder
        raise UserError(f"cannot be unpacked: {error}", place=archive, mend="download it again") from None
    return folder
