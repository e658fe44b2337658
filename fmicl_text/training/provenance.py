"""The origin of a run: its command, its code, and fingerprints of its data and of its base model."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fmicl_text.data.fingerprints import fingerprint, tuples
from fmicl_text.data.streams import Stream
from fmicl_text.encoders.revisions import cached_snapshot, visible_files
from fmicl_text.encoders.section import ModelSection
from fmicl_text.encoders.text import locate
from fmicl_text.files import sha256
from fmicl_text.hub.private import redact
from fmicl_text.recipe.schema import Recipe
from fmicl_text.training.inputs import Inputs

_SECRET_OPTION = re.compile(r"(--?[\w-]*(?:token|key|secret|password)[\w-]*)(=.*)?", re.IGNORECASE)


def provenance(recipe: Recipe, inputs: Inputs) -> dict[str, Any]:
    """Return the record of a run's origin in its manifest, JSON-ready.

    Args:
        recipe: The recipe.
        inputs: Its inputs, loaded.
    """
    return {
        "command": command_line(),
        "git_commit": _git_commit(),
        "data": _streams(inputs)
        | {name: fingerprint(*table) for name, table in _tables(inputs).items()}
        | _of_evaluations(inputs),
        "base_model": model_fingerprint(recipe.model),
        **({"broken_images_left_out": inputs.skipped} if recipe.trains_on_images else {}),
    }


def pinned(recipe: Recipe, origin: Mapping[str, Any]) -> Recipe:
    """Return a recipe at the commits that its names on the Hub stood for, which may change.

    Args:
        recipe: The recipe.
        origin: What :func:`provenance` said of it; empty if it has not.
    """
    data = origin.get("data", {})
    revisions = {name: data.get(training_data(name), {}).get("revision") for name in recipe.data.sources}
    return recipe.pinned(origin.get("base_model", {}).get("revision"), revisions)


def command_line() -> str:
    """Return the command that started this process, without secrets."""
    words, hide = [], False
    for word in sys.argv:
        option = _SECRET_OPTION.fullmatch(word)
        if hide or (option and option[2]):
            word = "[secret]" if hide or not option else f"{option[1]}=[secret]"
        hide = bool(option) and not (option and option[2]) and not hide
        words.append(redact(word))
    return shlex.join(words)


def stream_fingerprint(stream: Stream) -> dict[str, Any]:
    """Return the fingerprint of a stream, without parsing its rows: the Hub's commit, or the content of its files.

    ``sha256`` is the hash of a list with one line per file, in order: the SHA-256 of its content in hexadecimal digits.
    Every file is read for it.
    """
    known: dict[str, Any] = {"rows": None, "columns": list(stream.columns.used)}
    if stream.revision is not None:
        return known | {"revision": stream.revision}
    files = [Path(file) for file in stream.files]
    digests = "".join(f"{sha256(file)}\n" for file in files)
    size = sum(file.stat().st_size for file in files)
    return known | {"files": len(files), "bytes": size, "sha256": hashlib.sha256(digests.encode()).hexdigest()}


def model_fingerprint(section: ModelSection) -> dict[str, Any]:
    """Return the SHA-256 of each file of a base model's folder, or the Hub's commit that a name stands for.

    Of a new static embedding these are its tokenizer's. A new encoder of images has neither: its recipe and the seed
    say all there is.
    """
    if section.base is None:
        return {}
    place = locate(section.tokenizer or section.base)
    if not Path(place).is_dir():
        return {"revision": cached_snapshot(place, section.revision).name}
    return {"sha256": {name: sha256(file) for name, file in visible_files(Path(place)).items()}}


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a sentence for each input that differs from an earlier manifest; what that lacks is not compared.

    Args:
        before: The earlier manifest, as :func:`fmicl_text.runs.manifest.read_manifest` accepts it.
        now: What :func:`provenance` says.
    """
    found = []
    for name, table in now["data"].items():
        then = before.get("data", {}).get(name, table)
        if then != table:
            size = f"{_size(then)} then, {_size(table)} now"
            found.append(f"the {name} data has changed since ({size}): the results will differ")
    then, base = before.get("base_model") or now["base_model"], now["base_model"]
    if then != base:
        files = {**then.get("sha256", {}), **base.get("sha256", {})}
        differing = [f for f in sorted(files) if then.get("sha256", {}).get(f) != base.get("sha256", {}).get(f)]
        what = ", ".join(differing) or f"revision {then.get('revision')} then, {base.get('revision')} now"
        found.append(f"the base model has changed since ({what}): the results will differ")
    return found


def _size(data: dict[str, Any]) -> str:
    if data.get("rows") is not None:
        return f"{data['rows']:,} rows"
    return f"{data['bytes']:,} bytes" if data.get("bytes") is not None else f"revision {data.get('revision')}"


def training_data(source: str) -> str:
    """Return what the record calls the training data of a source."""
    return f"training {source}".strip()


def _streams(inputs: Inputs) -> dict[str, dict[str, Any]]:
    streams = {name: rows for name, rows in inputs.train.items() if isinstance(rows, Stream)}
    return {training_data(name): stream_fingerprint(stream) for name, stream in streams.items()}


def _tables(inputs: Inputs) -> dict[str, tuple[list[str], Iterator[tuple[Any, ...]]]]:
    tables = {}
    for name, rows in inputs.train.items():
        if not isinstance(rows, Stream):
            tables[training_data(name)] = rows.column_names, tuples(rows)
    for name, pairs in inputs.heldout.items():
        tables[f"held-out {name}".strip()] = pairs.column_names, tuples(pairs)
    return tables


def _of_evaluations(inputs: Inputs) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if inputs.during is not None:
        for part, known in inputs.during.loaded.record().items():
            name = "STS-B dev" if inputs.during.name == "stsb-dev" else f"{inputs.during.name} {part}".strip()
            found[name] = known
    for name, loaded in inputs.after.items():
        found |= {f"evaluate.after {name} {part}".strip(): known for part, known in loaded.record().items()}
    return found


def _git_commit() -> str | None:
    """Return the commit that the working directory is at, if git knows; ``-dirty`` means it had changes."""
    describe = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
