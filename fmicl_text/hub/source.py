"""What there is to publish: a finished run with all it recorded, or an encoder by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import Document
from fmicl_text.files import read_json
from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder

_ITEMS = ".items"
"""End of the name of a document that has a figure for each item: what a study needs, and megabytes."""


@dataclass(frozen=True)
class Source:
    """An encoder, and what its run recorded; an encoder by itself has no record.

    Attributes:
        model: The encoder's folder.
        recipe: The resolved recipe.
        manifest: Versions, machine and times.
        results: The documents of all evaluations, by name; those made before training begin with ``before-``.
        summary: Mean and deviation of each score over the seeds of the run, if there are several.
    """

    model: Path
    recipe: Recipe | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Document] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def find_source(name: str | Path) -> Source:
    """Find what a run folder, the folder of one of its seeds or encoders, or an encoder's folder holds.

    Of a run with several seeds the first one's encoder is taken: any choice by results would make them look better
    than they are.

    Raises:
        InputError: If there is no such folder, it holds neither, or the run is not finished.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        raise InputError(f"no folder {str(name)!r}; what is published is a run folder, or the folder of an encoder")
    path = path.resolve()
    if path.name == "model" and RunFolder(path.parent).manifest.is_file():
        path = path.parent
    for root in (path, path.parent):  # a seed's folder is in the run's
        if RunFolder(root).recipe.is_file() and (root == path or RunFolder(path).manifest.is_file()):
            return _run(root, path)
    if (path / "modules.json").is_file():
        return Source(path)
    if (path / "config.json").is_file():
        raise InputError(
            f"{path} has no modules.json: it is a transformer, not yet a sentence encoder; make it one by "
            f"SentenceTransformer({str(path)!r}).save_pretrained(FOLDER)"
        )
    raise InputError(f"{path} is neither a run (no recipe.yaml) nor an encoder (no modules.json)")


def _run(root: Path, path: Path) -> Source:
    recipe = load_recipe(RunFolder(root).recipe)
    several = len(recipe.seeds) > 1
    seeds = [RunFolder(root / f"seed-{seed}") for seed in recipe.seeds] if several else [RunFolder(root)]
    run = RunFolder(path) if path != root else seeds[0]
    wanted = [folder.result(asked.result_name) for folder in {run, *seeds} for asked in recipe.evaluate.after]
    unfinished = [str(folder.path) for folder in seeds if not folder.is_done()]
    unfinished += [str(file) for file in wanted if not file.is_file()]
    if unfinished:
        raise InputError(f"the run in {root} is not finished ({unfinished[0]}); finish it by `fmicl train --resume`")
    files = {file.stem: file for folder in (root, run.path) for file in sorted((folder / "results").glob("*.json"))}
    files = {name: file for name, file in files.items() if not name.endswith(_ITEMS)}
    return Source(
        model=run.model,
        recipe=recipe,
        manifest=read_json(run.manifest),
        results={name: read_json(file) for name, file in files.items()},
        summary=read_json(root / "summary.json") if several else {},
    )
