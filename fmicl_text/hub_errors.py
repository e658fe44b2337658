"""What errors of the Hub's client mean for the one who named a model or a data set: gated, private, out of reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

from fmicl_text.errors import InputError
from fmicl_text.text import one_line

Kind = Literal["model", "data set"]

_LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"


@contextmanager
def explained(
    what: str, repo: str, kind: Kind, revision: str | None = None, refusal: type[InputError] = InputError
) -> Iterator[None]:
    """Turn errors of loading from the Hub into input errors of one line.

    Args:
        what: What is said first: what was wanted, and that it is not to be had.
        repo: The id on the Hub.
        kind: What it is the id of.
        revision: Branch, tag or commit; default the main branch.
        refusal: The class of the input error.

    Raises:
        InputError: For any error that is not one already; one that is no fault of the Hub's is quoted.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # datasets, its readers, the Hub's client and httpx each have their own
        raise refusal(f"{what}: {hub_problem(error, repo, kind, revision) or one_line(error)}") from error


def hub_problem(error: Exception, repo: str, kind: Kind, revision: str | None = None) -> str | None:
    """Return what an error says of the Hub, with what to do about it; ``None`` if it is about something else.

    Args:
        error: As a library raised it, which may wrap what the Hub's client raised.
        repo: The id on the Hub.
        kind: What it is the id of.
        revision: Branch, tag or commit; default the main branch.
    """
    from huggingface_hub import constants, errors

    chain = list(_chain(error))
    answer = next((one.response for one in chain if isinstance(one, errors.HfHubHTTPError)), None)
    status = None if answer is None else answer.status_code

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    said = one_line(error)  # datasets drops causes, so its words must do
    if among(errors.GatedRepoError) or "is a gated dataset on the Hub" in said:
        folder = "datasets/" if kind == "data set" else ""
        return f"{repo} is gated: accept its terms at {constants.ENDPOINT}/{folder}{repo}, then {_LOG_IN}"
    if among(errors.DisabledRepoError):
        return f"the Hub has disabled access to {repo}"
    if among(errors.RepositoryNotFoundError) or "doesn't exist on the Hub or cannot be accessed" in said:
        return f"the Hub has no {kind} {repo}, or it is private: if you may read it, {_LOG_IN}"
    if among(errors.RevisionNotFoundError):
        return f'{repo} has no revision "{revision or "main"}" on the Hub'
    if answer is not None and status in (401, 403) and answer.request.url.host != urlsplit(constants.ENDPOINT).hostname:
        host = answer.request.url.host
        return f"the storage for large files, {host}, refused (status {status}): a proxy may be in the way; try again"
    if status == 401:
        return f"the Hub does not accept the token: {_LOG_IN}"
    if status == 403:
        return f"the token may not read {repo}: {_LOG_IN}"
    if status == 429:
        return f"the Hub takes no more requests for now: try again in some minutes; for a higher limit, {_LOG_IN}"
    if status is not None and (status == 408 or status >= 500):
        return f"the Hub cannot be reached now, it answers with status {status}: try again later"
    if among(errors.OfflineModeIsEnabled) or (constants.HF_HUB_OFFLINE and among(errors.LocalEntryNotFoundError)):
        return f"HF_HUB_OFFLINE is set, and {repo} is not, or not as a whole, in the cache: unset it to download"
    if lost := [one for one in chain if _is_of_network(one)]:
        return f"the Hub cannot be reached now: {type(lost[-1]).__name__}: {one_line(lost[-1])}"
    if "scripts are no longer supported" in said:
        return f"{said}; the Hub has some such data sets in Parquet too, as revision refs/convert/parquet"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, as a traceback would show them."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_of_network(error: BaseException) -> bool:
    """Whether no answer came; the error of an answer has the answer as ``response``."""
    from huggingface_hub.errors import HfHubHTTPError

    of_httpx = HfHubHTTPError.__bases__[0]  # HTTPError, of httpx or httpx2: that depends on the client's version
    return isinstance(error, (of_httpx, ConnectionError, TimeoutError)) and not hasattr(error, "response")
