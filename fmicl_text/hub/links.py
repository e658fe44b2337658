"""Symbolic links among the files to publish: their targets would become public, so they must not lead elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fmicl_text.errors import InputError


def refuse_links(paths: Iterable[Path], roots: Iterable[Path]) -> None:
    """Raise an InputError that names every link that leads to a folder, nowhere, or out of all ``roots``.

    Args:
        paths: Files that would be read; the folders between a root and the file are checked too.
        roots: The folder to publish and others that links may lead into; all resolved.
    """
    allowed = list(roots)
    problems = [problem for path in dict.fromkeys(paths) for problem in _problems(path, allowed)]
    if problems:
        raise InputError([*dict.fromkeys(problems), "nothing was published; replace the links by the files themselves"])


def files_under(folder: Path) -> list[Path]:
    """Return everything in a folder that is not a folder itself; links count as files, wherever they lead."""
    return [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]


def cache_folders(model: Path) -> list[Path]:
    """Return the folders that links of a cached encoder may lead into: the Hub's caches, and its own ``blobs``."""
    from huggingface_hub import constants

    caches = [Path(constants.HF_HUB_CACHE)]
    if own := os.environ.get("SENTENCE_TRANSFORMERS_HOME"):
        caches.append(Path(own))
    if model.parent.name == "snapshots":
        caches.append(model.parent.parent / "blobs")
    return [cache.expanduser().resolve() for cache in caches]


def _problems(path: Path, roots: list[Path]) -> Iterator[str]:
    root = next(root for root in roots if path.is_relative_to(root))
    steps = path.relative_to(root).parts
    for link in (root.joinpath(*steps[: depth + 1]) for depth in range(len(steps))):
        if not link.is_symlink():
            continue
        target = Path(os.path.realpath(link))
        if not target.exists():
            yield f"{link}: is a link to {target}, which does not exist"
        elif target.is_dir():
            yield f"{link}: is a link to the folder {target}"
        elif not any(target.is_relative_to(allowed) for allowed in roots):
            yield f"{link}: is a link to {target}, which lies outside of what is published"
