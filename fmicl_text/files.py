"""Files written whole or not at all, JSON documents, and the place of shipped files."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from fmicl_text.errors import InputError

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
    except RuntimeError:  # an unknown user's home: a name like any other
        return Path(name)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8; see :func:`write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that no reader ever sees half of it.

    The content goes to a temporary file in the same folder, is flushed to disk and renamed over ``path``; a link there
    is replaced, not followed. Missing parent folders are made.

    Raises:
        OSError: If it cannot be written, with the place and the free space there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise cannot_write(path.name, path.parent, error) from error


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    windows = os.name == "nt"  # which opens no folder, and flushes what may be written alone
    if windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(what: str, path: Path, error: Exception) -> OSError:
    """Return the error to raise when something cannot be written: what, where, why, and how much space is left.

    Args:
        what: What was to be written, such as "the model".
        path: Where; the folder or file need not exist.
        error: What the system or a library raised.
    """
    folder = next(place for place in (path, *path.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(folder).free
    return OSError(
        f"{what} cannot be written to {path}: {' '.join(str(error).split())} ({free / 1e6:,.1f} MB free there)"
    )


def write_json(path: Path, document: Any, indent: int | None = 2) -> None:
    """Write ``document`` as JSON, in one line if ``indent`` is None; NaN and infinity are refused: JSON has neither."""
    write_text(path, json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON document.

    Raises:
        InputError: The path is not a regular file that can be read, or its text is not a JSON document: not UTF-8,
            broken, nested too deeply, or with NaN or infinity, which JSON does not have.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for someone to write to it
            raise InputError(f"{path}: not a regular file, so it cannot be read as JSON")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not JSON: byte {error.start:,} is not UTF-8") from None
    if not text.strip():
        raise InputError(f"{path}: not JSON: the file is empty")
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except ValueError as error:  # also of whole numbers with too many digits
        raise InputError(f"{path}: not JSON: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: not a JSON document that fmicl wrote: nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number
