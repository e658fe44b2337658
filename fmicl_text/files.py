"""Files: written whole or not at all, and where the shipped ones lie."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent
_CHECKOUT = {"recipes": "recipes", "suites": "eval/suites", "published": "eval/published"}


def resource_folder(name: str) -> Path:
    """Return the folder of shipped ``recipes``, ``suites`` or ``published`` tables.

    A wheel carries them as ``fmicl_text/_recipes`` and so on (see ``pyproject.toml``);
    an editable install reads them from the checkout.
    """
    packaged = _PACKAGE / f"_{name}"
    return packaged if packaged.is_dir() else _PACKAGE.parent / _CHECKOUT[name]


def user_path(name: str) -> Path:
    """Return the path that a user wrote, with ``~`` as the home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # ~someone who is not known here: a name like any other
        return Path(name)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that no reader ever sees half of it.

    The text goes to a temporary file in the same folder, is flushed to disk and renamed over ``path``.
    Missing parent folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: Path, document: Any, indent: int | None = 2) -> None:
    """Write ``document`` as JSON, in one line if ``indent`` is None; NaN and infinity are refused: JSON has neither."""
    write_text(path, json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON document written by :func:`write_json`."""
    return json.loads(path.read_text(encoding="utf-8"))
