"""Local paths and secrets, which must not leave the machine: how they are found and removed."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

# The start of an absolute path, not in the middle of a word, a relative path or an address.
_START = r"(?<![\w.~/:\\-])"
_PART = r"[^\s/\\\"'`<>|:;,()\[\]{}]+"
_LOCAL_PATH = re.compile(
    rf"file://[^\s\"'`<>]+"
    rf"|{_START}(?:/|~[\w.-]*/){_PART}(?:/{_PART})+/?"
    rf"|{_START}~/{_PART}"
    rf"|{_START}[A-Za-z]:(?:/|\\{{1,2}})(?:{_PART}(?:/|\\{{1,2}}))*{_PART}"
    rf"|{_START}\\{{2,4}}{_PART}(?:\\{{1,2}}{_PART})+"
)

ADDRESS = "a password in an address"
"""The one form of a secret that is so short that numbers may have it by chance."""
_SECRETS = {
    "a Hugging Face token": rb"hf_[A-Za-z0-9]{30,}|hf_oauth_[\w.-]{20,}|api_org_[A-Za-z0-9]{30,}",
    "a GitHub token": rb"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{50,}",
    "an API key": rb"\bsk-[\w-]{32,}",
    "an AWS key": rb"\bAKIA[0-9A-Z]{16}\b",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    ADDRESS: rb"\b[a-z]+:/{1,2}[^\s/:@\"']+:[^\s/@\"']+@",
}
_SECRET_NAME = re.compile(r"TOKEN|API_?KEY|SECRET|PASSWORD|PASSWD", re.IGNORECASE)
_SHORTEST_SECRET = 12  # characters; a shorter value of a variable may be an everyday word


def is_local(path: str) -> bool:
    """Whether a string is a path that is absolute or leads out of the working directory; Hub ids are not."""
    absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    return absolute or path.startswith(("~", "file:", "\\\\")) or ".." in Path(path).parts


def last_part(path: str) -> str:
    """Return the last part of a path, POSIX or Windows."""
    return PureWindowsPath(path).name or path


def shorten(value: Any, known: Iterable[str] = ()) -> Any:
    """Return a JSON value with every local path cut down to the name at its end, keys too.

    Args:
        value: What :func:`json.loads` gives.
        known: Paths that may contain spaces, and so cannot be recognised within a sentence.
    """
    if isinstance(value, dict):
        return {shorten(key, known): shorten(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [shorten(item, known) for item in value]
    if not isinstance(value, str):
        return value
    if is_local(value) and len(_LOCAL_PATH.findall(value)) <= 1 and " -" not in value and "\n" not in value:
        return last_part(value)  # a single path, perhaps with spaces; not a command or a sentence
    for path in sorted(filter(is_local, known), key=len, reverse=True):
        value = value.replace(path, last_part(path))
    return _LOCAL_PATH.sub(lambda match: last_part(match[0]), value)


def local_paths(text: str) -> Iterator[tuple[int, str]]:
    """Yield each local absolute path in a text with the number of its line."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in _LOCAL_PATH.finditer(line):
            yield number, match[0]


def secrets() -> dict[str, re.Pattern[bytes]]:
    """Return patterns of secrets by description: known forms of tokens, and the secrets of this process.

    The latter are the Hub token and environment variables with a name like ``WANDB_API_KEY``.
    """
    held = {
        f"the value of {name}": value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
    }
    if token := _token():
        held["your token of the Hub"] = token
    own = {what: re.escape(value.encode()) for what, value in held.items()}
    return {what: re.compile(pattern) for what, pattern in (_SECRETS | own).items()}


def redact(text: str) -> str:
    """Return a text without secrets and without the query strings of URLs, which may carry signatures."""
    encoded = text.encode(errors="replace")
    for pattern in secrets().values():
        encoded = pattern.sub(b"[secret]", encoded)
    return re.sub(r"(https?://[^\s?\"']+)\?[^\s\"']*", r"\1", encoded.decode())


@contextmanager
def redacted_logs() -> Iterator[None]:
    """Keep secrets out of what the Hub's client logs, such as the signed URLs of uploads that it retries."""

    def clean(record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True

    handlers = logging.getLogger("huggingface_hub").handlers
    for handler in handlers:
        handler.addFilter(clean)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(clean)


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()
