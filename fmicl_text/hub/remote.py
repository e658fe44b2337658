"""Everything that talks to the Hub: what a repository holds, the commit, and its verification.

The Hub's own client sends the requests, retries them, and handles tokens.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fmicl_text.errors import InputError, RunFailedError
from fmicl_text.files import sha256
from fmicl_text.hub.private import redact, redacted_logs
from fmicl_text.recipe.schema import PublishSection
from fmicl_text.text import one_line

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoSibling

_OF_THE_HUB = {".gitattributes"}
"""Files that the Hub itself puts into a new repository."""


@dataclass(frozen=True)
class Place:
    """A branch to commit to.

    Attributes:
        repo: ``OWNER/NAME``.
        private: Whether the repository is made private, if it does not exist.
        revision: The branch.
        create_pr: Open a pull request on it.
        parent: The commit that was checked; None if the repository does not exist.
        new_branch: Whether the branch does not exist.
        unwanted: Files there that are not part of what is published, and are deleted.
    """

    repo: str
    private: bool
    revision: str
    create_pr: bool
    parent: str | None
    new_branch: bool = False
    unwanted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """What was published: the repository, the commit's SHA, and the URL of the repository or the pull request."""

    repo: str
    commit: str
    url: str


def check_access(repo: str) -> None:
    """Check that the Hub can be reached and accepts the token.

    Raises:
        InputError: If the client is offline, there is no token, or it may only read.
        RunFailedError: If the Hub does not answer, or does not accept the token.
    """
    from huggingface_hub import HfApi, constants, get_token

    if constants.is_offline_mode():
        raise InputError(f"HF_HUB_OFFLINE is set, and {repo} is on the Hub: unset it to publish")
    with _explained(repo, "nothing was changed"):
        token = get_token()
        if token is not None:
            about = HfApi(token=token).whoami()
    if token is None:
        raise InputError("no token for the Hub: log in by `hf auth login`, or set HF_TOKEN")
    if ((about.get("auth") or {}).get("accessToken") or {}).get("role") == "read":
        raise InputError(
            f"the token for the Hub may only read, and publishing writes to {repo}: make one with write permission on "
            "the Hub, then log in by `hf auth login`, or set HF_TOKEN"
        )


def check_target(target: PublishSection) -> None:
    """Check what of a publication can be checked without writing; before training, this saves hours.

    Whether the token may write to this repository, the Hub says only when something is written.

    Args:
        target: The repository, the licence, the languages.

    Raises:
        InputError: As :func:`check_access`; if the repository holds something already, or is public and should be
            private; if the Hub does not know the licence or a language.
        RunFailedError: If the Hub does not answer, or does not accept the token.
    """
    repo = target.repo
    assert repo is not None
    check_access(repo)
    info, _ = _look(repo, "main")
    if info is not None:
        _check_private(repo, info, target.private, "set publish.private: false")
        if held := _held(info):
            raise InputError(
                f"publish.repo: {repo} holds something already: {_shown(held)}; name another one, or leave it out and "
                "publish the finished run by `fmicl publish --overwrite`, which replaces all of it"
            )
    _check_metadata(target)


def _check_metadata(target: PublishSection) -> None:
    """Let the Hub check the licence and the languages, as it does before a commit; it has the list of both."""
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(license=target.license, language=list(target.language) or None)
    try:
        ModelCard(f"---\n{data.to_yaml()}\n---\n").validate()
    except ValueError as error:
        raise InputError(f"publish: the Hub does not accept its settings: {_metadata_problems(str(error))}") from None
    except Exception:  # older clients ask huggingface.co even if HF_ENDPOINT is another; the commit is checked again
        return


def _metadata_problems(answer: str) -> str:
    """Return the messages of the Hub's answer, on one line; the answer itself if it has another form."""
    try:
        return one_line("; ".join(error["message"] for error in json.loads(answer)["errors"]))
    except (ValueError, TypeError, KeyError):
        return one_line(answer)


def check_place(folder: Path, repo: str, private: bool, revision: str, create_pr: bool, overwrite: bool) -> Place:
    """Check what the branch holds; nothing is changed.

    Raises:
        InputError: If it holds something other than an earlier publication of the same weights, and ``overwrite`` is
            not set; if it is public and should be private; if a pull request has nothing to be opened on.
        RunFailedError: If the Hub does not answer, or does not show the repository to the token's owner.
    """
    check_access(repo)
    info, new_branch = _look(repo, revision)
    if info is None:
        if create_pr:
            raise InputError(f"{repo} does not exist, or you cannot see it; a pull request needs it")
        return Place(repo, private, revision, create_pr, parent=None, new_branch=new_branch)
    _check_private(repo, info, private, "leave --private out")
    siblings = _held(info)
    ours = _files(folder)
    theirs = {name: file.lfs.sha256 if file.lfs else None for name, file in siblings.items() if _is_weight(name)}
    same = theirs == {name: sha256(file) for name, file in ours.items() if _is_weight(name)}
    if siblings and not (same or new_branch or overwrite):
        raise InputError(
            f"{repo} ({revision}) holds something else: {_shown(siblings)}; --overwrite replaces all of it"
        )
    unwanted = () if same else tuple(sorted(siblings.keys() - ours.keys()))
    return Place(repo, private, revision, create_pr, info.sha, new_branch, unwanted)


def _check_private(repo: str, info: ModelInfo, private: bool, otherwise: str) -> None:
    if private and not info.private:
        raise InputError(f"{repo} already exists and is public; make it private on the Hub, or {otherwise}")


def _held(info: ModelInfo) -> dict[str, RepoSibling]:
    """Return the files of a repository by name, without those that the Hub itself has put there."""
    return {file.rfilename: file for file in info.siblings or [] if file.rfilename not in _OF_THE_HUB}


def _shown(names: Iterable[str]) -> str:
    first = sorted(names)
    return ", ".join(first[:5]) + (", ..." if len(first) > 5 else "")


def commit(folder: Path, place: Place, message: str) -> Published:
    """Put a folder on a branch in one commit: all of it or nothing.

    Raises:
        RunFailedError: If the Hub refuses or does not answer.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(name, file) for name, file in _files(folder).items()
    ]
    operations += [CommitOperationDelete(name) for name in place.unwanted]
    with _explained(place.repo, "nothing was published; the same command tries again, and sends only what is missing"):
        parent = place.parent
        if parent is None:
            api.create_repo(place.repo, private=place.private, exist_ok=True)
            parent = api.model_info(place.repo).sha
        if place.new_branch:
            api.create_branch(place.repo, branch=place.revision, revision=parent, exist_ok=True)
        try:
            made = api.create_commit(
                place.repo,
                operations,
                commit_message=message,
                revision=place.revision,
                create_pr=place.create_pr,
                parent_commit=parent,  # if anyone has committed since the check, the Hub refuses
            )
        except Exception as error:
            refused = (answer := _answer(error)) is not None and answer.response.status_code < 500
            if refused or (arrived := _arrived(folder, place, message)) is None:
                raise
            return arrived
    return Published(place.repo, made.oid, made.pr_url or f"{api.endpoint}/{place.repo}")


def _arrived(folder: Path, place: Place, message: str) -> Published | None:
    """Look for a commit that the Hub may have made although its reply was lost.

    Raises:
        RunFailedError: If the Hub does not answer this either.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    url = f"{api.endpoint}/{place.repo}"
    with _explained(place.repo, f"it is not known whether anything was published: see {url} before trying again"):
        places = {place.revision: url}
        if place.create_pr:
            opened = api.get_repo_discussions(place.repo, discussion_type="pull_request", discussion_status="open")
            places = {f"refs/pr/{found.num}": found.url for found in opened if found.title == message}
        for revision, page in places.items():
            info = api.model_info(place.repo, revision=revision, files_metadata=True)
            if info.sha is not None and _holds(info, folder):
                return Published(place.repo, info.sha, page)
    return None


def _holds(info: ModelInfo, folder: Path) -> bool:
    """Whether the Hub has every file of a folder, by the hashes it lists."""
    listed = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings or []}
    return all(listed.get(name) in (sha256(file), _git_blob(file)) for name, file in _files(folder).items())


def download(published: Published, folder: Path) -> None:
    """Download what a commit holds.

    Raises:
        RunFailedError: If the Hub refuses or does not answer.
    """
    from huggingface_hub import snapshot_download

    with _explained(
        published.repo, f"it is published at {published.url}, but was not checked; the command can be repeated"
    ):
        snapshot_download(published.repo, revision=published.commit, local_dir=folder)


def check_download(folder: Path, copy: Path, published: Published) -> None:
    """Compare what was sent with what was downloaded, byte by byte.

    Raises:
        RunFailedError: If any file is missing or differs.
    """
    _, different, missing = filecmp.cmpfiles(folder, copy, list(_files(folder)), shallow=False)
    if different or missing:
        raise RunFailedError(f"{published.url} differs from what was sent: {', '.join(different + missing)}")


def _look(repo: str, revision: str) -> tuple[ModelInfo | None, bool]:
    """Return the state of a branch, or of ``main`` if there is no such branch, and whether the branch is new.

    A branch without a commit of its own counts as new: an earlier attempt may have failed after making it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi()
    with _explained(repo, "nothing was changed"):
        try:
            main = api.model_info(repo, files_metadata=True)
            if revision == "main":
                return main, False
            branch = api.model_info(repo, revision=revision, files_metadata=True)
            return branch, branch.sha == main.sha
        except RevisionNotFoundError:
            return main, True
        except RepositoryNotFoundError:
            return None, revision != "main"


def _files(folder: Path) -> dict[str, Path]:
    """Return the files under a folder by the names they have on the Hub."""
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def _is_weight(name: str) -> bool:
    return name.endswith(".safetensors")


def _git_blob(file: Path) -> str:
    """Return the hash by which git, and so the Hub, knows the content of a file that is not large."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def _explained(repo: str, state: str) -> Iterator[None]:
    """Turn a failure into a RunFailedError that says what it means and what has been changed so far.

    Secrets are kept out of the error, and out of the logs meanwhile.
    """
    with redacted_logs():
        try:
            yield
        except RunFailedError:  # explained already
            raise
        except Exception as error:  # the client, its transport and hf_xet each have their own
            raise RunFailedError(redact(one_line(f"{_reason(repo, error)}; {state}"))) from None


def _answer(error: BaseException) -> HfHubHTTPError | None:
    """Return the error status that a server answered with; ``None`` if a failure is of another kind."""
    from huggingface_hub.errors import HfHubHTTPError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HfHubHTTPError):
        cause = cause.__cause__  # a failed upload is wrapped
    return cause


def _reason(repo: str, error: BaseException) -> str:
    answer = _answer(error)
    if answer is None:
        while error.__cause__ is not None:
            error = error.__cause__
        invalid = isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError)
        what = "the Hub does not accept it" if invalid else "the Hub could not be reached, or the connection broke off"
        return f"{what}: {type(error).__name__}: {error}"
    message = f": {answer.server_message}" if answer.server_message else ""
    return f"{_meaning(repo, answer)} (status {answer.response.status_code}{message})"


def _meaning(repo: str, answer: HfHubHTTPError) -> str:
    """Say what an error status means; from the storage for large files it says nothing about token or repository."""
    from huggingface_hub import constants

    status, request = answer.response.status_code, answer.response.request
    server = urlsplit(str(request.url)).hostname
    if server != urlsplit(constants.ENDPOINT).hostname:
        hint = ": its addresses expire, and a proxy may be in the way" if status == 403 else ""
        return f"the storage for large files, {server}, {'failed' if status >= 500 else f'refused{hint}'}"
    wait = answer.response.headers.get("Retry-After", "")
    return {
        401: "the Hub does not accept the token: log in by `hf auth login`, or set HF_TOKEN",
        403: f"the token may not read {repo}"
        if request.method in ("GET", "HEAD")
        else f"the token may not write to {repo}: it needs write permission, from its owner",
        404: f"the Hub has no {repo}, or does not show it to you",
        409: f"{repo} is being changed by someone else",
        412: f"{repo} was changed by someone else in the meantime",
        413: "the files are too large for the Hub",
        429: "you have sent the Hub too many requests" + (f": wait {wait} seconds" if wait.isdigit() else ""),
    }.get(status, "the Hub failed" if status >= 500 else "the Hub refused")
