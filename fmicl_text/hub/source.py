"""What is published: a finished run with its records, or a lone encoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmicl_text.errors import InputError
from fmicl_text.evaluation.results import Result, read_result
from fmicl_text.files import read_json, user_path
from fmicl_text.hub.links import files_under, refuse_links
from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.runs.manifest import Manifest, read_manifest

_ITEMS = ".items"
"""End of the names of files with a value for each item; they may have megabytes and are not published."""
_BEFORE = "before-"
"""Start of the names of results from before training."""


@dataclass(frozen=True)
class Source:
    """An encoder and the records of its run; a lone encoder has none.

    Attributes:
        model: The encoder's folder.
        recipe: The resolved recipe.
        manifest: Versions, machine and times, as written and checked; ``None`` without a run.
        results: The results after training, by the name of their file.
        before: Those from before training, by the names of the results they belong to.
        seeds: The results after training of each seed of the run, the published one's included.
        summary: Mean and deviation of each score over the seeds, as written; empty with one seed.
    """

    model: Path
    recipe: Recipe | None = None
    manifest: tuple[dict[str, Any], Manifest] | None = None
    results: dict[str, Result] = field(default_factory=dict)
    before: dict[str, Result] = field(default_factory=dict)
    seeds: list[dict[str, Result]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)


def find_source(name: str | Path) -> Source:
    """Read a run folder, the folder of one of its seeds or encoders, or an encoder's folder.

    Of a run with several seeds the first one's encoder is taken: any choice by results would make them look better
    than they are.

    Raises:
        InputError: There is no such folder, it holds neither, the run is not finished, a file in it is damaged, or a
            link leads out of it.
    """
    path = user_path(str(name))
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
    file = RunFolder(root).recipe
    refuse_links([file], [root])
    recipe = load_recipe(file)
    several = len(recipe.seeds) > 1
    seeds = [RunFolder(root / f"seed-{seed}") for seed in recipe.seeds] if several else [RunFolder(root)]
    run = RunFolder(path) if path != root else seeds[0]
    folders = list(dict.fromkeys([run, *seeds]))
    summary = root / "summary.json"
    read = [*(folder.manifest for folder in folders), *_documents(root, *(folder.path for folder in folders))]
    refuse_links([*read, summary, *files_under(run.model)], [root])
    manifests = {folder: read_manifest(folder.manifest) for folder in folders if folder.manifest.is_file()}
    wanted = [folder.result(asked.result_name) for folder in folders for asked in recipe.evaluate.after]
    wanted += [summary] if several else []
    unfinished = [f.path for f in folders if f not in manifests or manifests[f][1].state != "done"]
    unfinished += [file for file in wanted if not file.is_file()]
    if unfinished:
        raise InputError(f"the run in {root} is not finished ({unfinished[0]}); finish it by `fmicl train --resume`")
    results = _results(_documents(root, run.path))
    return Source(
        model=run.model,
        recipe=recipe,
        manifest=manifests[run],
        results={name: result for name, result in results.items() if not name.startswith(_BEFORE)},
        before={name.removeprefix(_BEFORE): r for name, r in results.items() if name.startswith(_BEFORE)},
        seeds=[_results(_documents(seed.path)) for seed in seeds] if several else [],
        summary=_object(summary) if several else {},
    )


def _documents(*folders: Path) -> list[Path]:
    """Return the files of results in the ``results`` folders of these folders."""
    files = [file for folder in dict.fromkeys(folders) for file in sorted((folder / "results").glob("*.json"))]
    return [file for file in files if not file.stem.endswith(_ITEMS)]


def _results(files: Iterable[Path]) -> dict[str, Result]:
    """Read results by name; the later of two files with one name, which is a seed's own, counts."""
    return {name: read_result(file) for name, file in {file.stem: file for file in files}.items()}


def _object(file: Path) -> dict[str, Any]:
    document = read_json(file)
    if not isinstance(document, dict):
        raise InputError(f"{file}: not a summary that fmicl wrote: it must be an object")
    return document
