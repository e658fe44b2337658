"""What stands in place of a Hub revision for local files: a digest of what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def local_revision(files: Iterable[Path], about: str = "") -> str:
    """Return ``local-`` and 16 hexadecimal digits of the SHA-256 of the contents of ``files``, in this order.

    Args:
        files: What is read.
        about: What else decides how they are read.
    """
    digest = hashlib.sha256(about.encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"local-{digest.hexdigest()[:16]}"


def folder_revision(folder: Path, ignored: Iterable[str] = ()) -> str:
    """Return the :func:`local_revision` of all files of a folder, by name and contents.

    Args:
        folder: The folder; hidden files and folders, as downloaders leave, do not count.
        ignored: Suffixes of files that do not count either.
    """
    named = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    counted = {
        name: path
        for name, path in named.items()
        if name.suffix not in ignored and not any(part.startswith(".") for part in name.parts)
    }
    return local_revision(counted.values(), repr([name.as_posix() for name in counted]))
