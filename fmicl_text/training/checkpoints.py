"""Sealed checkpoints: which of a run's checkpoints are complete, and which one training resumes from.

The library writes a checkpoint file by file into its folder. The seal is written last: a file with the size and the
SHA-256 of every other one. A folder without a seal is what a killed process left behind; it does not count, and
resuming deletes it. The seal also shows what a full disk, a power failure or an interrupted copy did to a checkpoint.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

from fmicl_text.errors import InputError
from fmicl_text.files import read_json, sha256, sync, write_json

logger = logging.getLogger(__name__)

PREFIX = "checkpoint-"
SEAL = "seal.json"
_SET_ASIDE = "damaged-"
_UNFINISHED = ".unfinished"
"""Where version 0.1.0 wrote a checkpoint before it moved it to its place."""


def place(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step belongs in a run's folder of checkpoints."""
    return folder / f"{PREFIX}{step}"


def step_of(checkpoint: Path) -> int:
    """Return the training step of a checkpoint, from its name."""
    return int(checkpoint.name.removeprefix(PREFIX))


def seal(checkpoint: Path, best: int | None = None) -> None:
    """Record what a complete checkpoint consists of, once all of it is on the disk.

    Args:
        checkpoint: Its folder.
        best: Step of the best checkpoint so far, which a resumed run needs as well.
    """
    write_json(checkpoint / SEAL, {"best": best, "files": fingerprints(checkpoint)})
    sync(checkpoint)
    sync(checkpoint.parent)


def fingerprints(folder: Path) -> dict[str, Any]:
    """Return the size and the SHA-256 of each file in a folder, by name, when all of them are on the disk."""
    entries = sorted(folder.rglob("*"))
    for entry in (*entries, folder):
        sync(entry)
    return {file.relative_to(folder).as_posix(): _fingerprint(file) for file in entries if file.is_file()}


def is_sealed(checkpoint: Path) -> bool:
    """Return whether a checkpoint was written to its end."""
    return (checkpoint / SEAL).is_file()


def best_of(checkpoint: Path) -> int | None:
    """Return the step of the best checkpoint at the time of a sealed one; None of one that is not sealed.

    Raises:
        InputError: If the seal is broken.
    """
    return _read_seal(checkpoint)[0] if is_sealed(checkpoint) else None


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a sealed checkpoint, or None if nothing is; every file is read."""
    if not is_sealed(checkpoint):
        return f"has no {SEAL}"
    try:
        return differences(checkpoint, _read_seal(checkpoint)[1])
    except InputError:
        return f"has a broken {SEAL}"


def _read_seal(checkpoint: Path) -> tuple[int | None, dict[str, Any]]:
    """Return the step of the best checkpoint, and the fingerprints of the files."""
    file = checkpoint / SEAL
    match read_json(file):
        case {"best": int() | None as best, "files": dict(files)}:
            return best, files
    raise InputError(f"{file}: not a seal of fmicl: it must have a step or null as best, and an object as files")


def differences(folder: Path, files: dict[str, Any]) -> str | None:
    """Return what is wrong with the files of a folder whose fingerprints were recorded, or None if nothing is."""
    for name, fingerprint in files.items():
        if not (folder / name).is_file():
            return f"lacks {name}"
        if _fingerprint(folder / name) != fingerprint:
            return f"has a damaged {name}"
    return None


def newest_sealed(folder: Path) -> Path | None:
    """Return the newest sealed checkpoint in a folder, or None if there is none; its files are not read."""
    return next((checkpoint for checkpoint in reversed(in_order(folder)) if is_sealed(checkpoint)), None)


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint to resume from, or None if there is none, and clear away the unusable newer ones.

    A checkpoint can be resumed from if it is undamaged and its best checkpoint so far is undamaged too: without that,
    the run might end in another model. A newer one that was never sealed is deleted, since it was not finished; a
    damaged one is renamed, with a warning that says what is wrong.

    Args:
        folder: A run's folder of checkpoints.
    """
    shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)
    for checkpoint in in_order(folder):
        if not is_sealed(checkpoint):
            logger.warning("%s has no %s: it was not finished, and is deleted", checkpoint, SEAL)
            delete(checkpoint)
    for checkpoint in reversed(in_order(folder)):
        wrong = damage(checkpoint)
        if wrong is None and (best := best_of(checkpoint)) is not None and (lost := damage(place(folder, best))):
            wrong = f"needs {PREFIX}{best}, the best so far, which {lost}"
        if wrong is None:
            return checkpoint
        aside = folder / f"{_SET_ASIDE}{checkpoint.name}"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(checkpoint, aside)
        logger.warning("%s %s; it is set aside as %s", checkpoint, wrong, aside.name)
    return None


def rotate(folder: Path, limit: int | None, best: int | None) -> None:
    """Delete the oldest sealed checkpoints above a limit, but never the newest one and never the best.

    Args:
        folder: A run's folder of checkpoints.
        limit: How many to keep, as ``save_total_limit``; None or 0 keeps all. The best is kept beside the newest even
            if that makes two.
        best: The step of the best checkpoint, if any.
    """
    sealed = [checkpoint for checkpoint in in_order(folder) if is_sealed(checkpoint)]
    kept = [checkpoint for checkpoint in sealed if checkpoint == sealed[-1] or step_of(checkpoint) == best]
    spare = [checkpoint for checkpoint in sealed if checkpoint not in kept]
    if limit:
        for checkpoint in spare[: max(0, len(sealed) - max(limit, len(kept)))]:
            delete(checkpoint)


def delete(checkpoint: Path) -> None:
    """Delete a checkpoint, its seal first, so that half of it never counts as one."""
    (checkpoint / SEAL).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def in_order(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder by step, sealed or not."""
    numbers = {path: path.name.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*") if path.is_dir()}
    return sorted((path for path in numbers if numbers[path].isdecimal()), key=step_of)


def _fingerprint(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256(file)}
