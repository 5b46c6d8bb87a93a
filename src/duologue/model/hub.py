"""Where a model's files come from: a folder, a single file, or a repository on the Hugging Face hub.

`resolve` reads a name, `Source.find` gives one file of it and downloads no other. File names in a config.json may also
be `hf://owner/name/file` and `file://path`. Matched: moshi 0.2.13, loaders.hf_get.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from duologue.base.errors import UserError

REPO = re.compile(r"(?:hf://)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@\s]+))?")
HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a name stands for: files in a folder, or in a repository."""

    name: str
    """What was asked for."""
    folder: Path | None = None
    """The folder, if it is one."""
    weights: Path | None = None
    """The language model's weights, where a single file was named."""
    repo: str | None = None
    """Else the repository, owner/name."""
    revision: str | None = None
    """Its branch, tag or commit; the newest if None."""

    @property
    def short(self) -> str:
        """The name without the places on this machine."""
        return self.name if self.folder is None else (self.weights or self.folder.resolve()).name

    def find(self, name: str) -> Path | None:
        """The path of one file, downloaded if need be; None if the source has no such file.

        Raises:
            UserError: it cannot be downloaded.
        """
        if name.startswith("hf://"):
            owner, repo, *rest = name.removeprefix("hf://").split("/")
            return download(f"{owner}/{repo}", "/".join(rest), None)
        if name.startswith("file://"):
            path = Path(name.removeprefix("file://"))
        elif self.folder is not None:
            path = self.folder / name
        else:
            assert self.repo is not None
            return download(self.repo, name, self.revision)
        return path if path.is_file() else None

    def need(self, name: str, mend: str = "") -> Path:
        """As `find`, for a file that has to be there. Errors: UserError, it is not."""
        found = self.find(name)
        if found is None:
            place = self.repo if self.folder is None else self.folder / name
            problem = f"has no file {name}" if self.folder is None else "no such file"
            raise UserError(problem, place=place or "", mend=mend or "name a folder or repository that holds it")
        return found


def resolve(name: str | Path) -> Source:
    """What a name stands for: an existing folder or file, else owner/name[@revision] on the Hugging Face hub.

    Raises:
        UserError: none of them.
    """
    path, text = Path(name).expanduser(), str(name)
    if text and path.is_dir():
        return Source(name=text, folder=path)
    if path.is_file():
        return Source(name=text, folder=path.parent, weights=path)
    match = REPO.fullmatch(text)
    if match is None or isinstance(name, Path) or text.startswith((".", "~")):
        mend = "name a folder, a file, or owner/name on the Hugging Face hub"
        raise UserError("no such file or folder", place=text or "''", mend=mend)
    return Source(name=text, repo=match["repo"], revision=match["revision"])


def download(repo: str, file: str, revision: str | None) -> Path | None:
    """One file of a repository, from the cache if it is there; None if the repository has no such file.

    Raises:
        UserError: no such repository or revision, a gated one without a token, no network, a full disk.
    """
    from huggingface_hub import errors, hf_hub_download

    # The hub's errors derive from those of its HTTP library, which differs between its versions.
    other: tuple[type[Exception], ...] = (
        OSError, *(kind for kind in errors.HfHubHTTPError.__bases__ if issubclass(kind, Exception))
    )  # fmt: skip
    try:
        with _without_retries_told():
            return Path(hf_hub_download(repo, file, revision=revision))
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        _check_absence(repo, file, revision, error)
        return None
    except errors.EntryNotFoundError:
        return None
    except (errors.GatedRepoError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        _refused(repo, revision, error)
    except errors.HFValidationError as error:
        raise UserError(f"is no name on the hub: {error}", place=repo, mend="use owner/name") from None
    except other as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        mend = "try again; what is here already is kept"
        raise UserError(f"{file} cannot be downloaded: {reason}", place=repo, mend=mend) from None


@contextmanager
def _without_retries_told() -> Iterator[None]:
    """The hub's library warns of each of its retries; what comes of them is said once, here."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check_absence(repo: str, file: str, revision: str | None, error: Exception) -> None:
    """Without a network and a copy in the cache, the cache may still know that the repository has no such file."""
    from huggingface_hub import constants, errors, try_to_load_from_cache

    known = try_to_load_from_cache(repo, file, revision=revision)
    if known is not None and not isinstance(known, str):
        return
    mend = "connect once (what has been downloaded is used without a network), or name a folder that holds the files"
    why = "the Hugging Face hub cannot be reached"
    if constants.HF_HUB_OFFLINE or isinstance(error, errors.OfflineModeIsEnabled):
        why, mend = "HF_HUB_OFFLINE is set", "unset it to download, or name a folder that holds the files"
    raise UserError(f"{file} is not in the cache, and {why}", place=repo, mend=mend) from None


def _refused(repo: str, revision: str | None, error: Exception) -> NoReturn:
    from huggingface_hub import errors, get_token

    token = get_token() is not None
    if isinstance(error, errors.GatedRepoError):
        page = f"accept its licence at {HUB}/{repo}"
        if token:
            raise UserError("is gated, and your token has no access", place=repo, mend=page) from None
        mend = f"{page}, then `hf auth login` or set HF_TOKEN"
        raise UserError("is gated and needs a token", place=repo, mend=mend) from None
    if isinstance(error, errors.RevisionNotFoundError):
        raise UserError(f"has no revision {revision!r}", place=repo, mend=f"see {HUB}/{repo}/commits") from None
    problem = "is no folder here and no repository on the Hugging Face hub" + ("" if token else ", or a private one")
    mend = "check the name" if token else "check the name; for a private one `hf auth login` or set HF_TOKEN"
    raise UserError(problem, place=repo, mend=mend) from None


def cache_folder() -> Path:
    """Where what is made from downloads is kept: DUOLOGUE_CACHE, else duologue/ in the user's cache folder."""
    given = os.environ.get("DUOLOGUE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duologue"
