"""Checkpoints that are whole: how one is sealed, and which of a run's checkpoints training can go on from.

A checkpoint is written in a folder beside its place, sealed, and only then moved to its place, so that a process that
is killed leaves nothing behind that looks like one. The seal, a file that is written last, has the size and the SHA-256
of every other file: what a full disk, a lost power supply or an interrupted copy did to a checkpoint shows there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from fmicl_text.files import read_json, write_json

logger = logging.getLogger(__name__)

PREFIX = "checkpoint-"
UNFINISHED = ".unfinished"
"""Folder beside the checkpoints, in which one is written."""
SEAL = "seal.json"
_SET_ASIDE = "damaged-"


def place(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step belongs in a run's folder of checkpoints."""
    return folder / f"{PREFIX}{step}"


def seal(checkpoint: Path, best: int | None) -> None:
    """Write down what a complete checkpoint consists of, when all of it is on the disk.

    Args:
        checkpoint: Its folder.
        best: Step of the best checkpoint so far, without which this one does not lead to the same end.
    """
    files = {}
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        _to_disk(file)
        files[file.relative_to(checkpoint).as_posix()] = _fingerprint(file)
    write_json(checkpoint / SEAL, {"best": best, "files": files})
    _to_disk(checkpoint)


def settle(unfinished: Path, checkpoint: Path) -> None:
    """Move a sealed checkpoint to its place, and away what is there."""
    if checkpoint.exists():
        os.replace(checkpoint, unfinished.with_name("replaced"))
    os.replace(unfinished, checkpoint)
    _to_disk(checkpoint.parent)
    shutil.rmtree(unfinished.parent)


def best_of(checkpoint: Path) -> int | None:
    """Return the step of the best checkpoint at the time of a sealed one; None of one that is not sealed."""
    file = checkpoint / SEAL
    best: int | None = read_json(file)["best"] if file.is_file() else None
    return best


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None if it is whole; every file is read."""
    file = checkpoint / SEAL
    if not file.is_file():
        return f"has no {SEAL}"
    try:
        files: dict[str, Any] = read_json(file)["files"]
    except (ValueError, KeyError, TypeError):
        return f"has a broken {SEAL}"
    for name, expected in files.items():
        if not (checkpoint / name).is_file():
            return f"lacks {name}"
        if _fingerprint(checkpoint / name) != expected:
            return f"has a damaged {name}"
    return None


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint to go on from, or None if there is none; what stands before it is set aside.

    That is one that is whole, and whose best checkpoint so far is whole too: without that the run might end in another
    model. Newer ones are damaged; a warning names each, with what is wrong, and it is renamed.

    Args:
        folder: A run's folder of checkpoints.
    """
    for checkpoint in reversed(_in_order(folder)):
        wrong = damage(checkpoint)
        if wrong is None and (best := best_of(checkpoint)) is not None:
            wrong = (lost := damage(place(folder, best))) and f"needs {PREFIX}{best}, the best so far, which {lost}"
        if wrong is None:
            return checkpoint
        aside = folder / f"{_SET_ASIDE}{checkpoint.name}"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(checkpoint, aside)
        logger.warning("%s %s; it is set aside as %s", checkpoint, wrong, aside.name)
    return None


def _in_order(folder: Path) -> list[Path]:
    """Return the checkpoints by step."""
    numbers = {path: path.name.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*") if path.is_dir()}
    return sorted((path for path in numbers if numbers[path].isdecimal()), key=lambda path: int(numbers[path]))


def _fingerprint(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def _to_disk(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
