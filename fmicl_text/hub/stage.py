"""Collects what is published: the encoder's files and the records of its run, without local paths."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fmicl_text.data import yaml_tree
from fmicl_text.encoders.lora import ADAPTER_CONFIG, base_of, merge_adapter
from fmicl_text.encoders.section import ModelSection
from fmicl_text.encoders.text import load_model, locate
from fmicl_text.errors import InputError
from fmicl_text.files import cannot_write, read_json, write_json, write_text
from fmicl_text.hub.private import is_local, shorten
from fmicl_text.hub.source import Source
from fmicl_text.recipe.schema import Recipe

_MACHINE_KEYS = ("_name_or_path", "name_or_path", "is_local", "local_files_only")
"""Keys of transformers' configurations that say something about the machine it ran on."""
_TEXTS_OF_DATA = ("neighbours",)
"""Parts of a result that show texts of the data, which may be private."""
_MOST_VALUES = 1000
"""A longer list in a result has a value for each pair; it would be most of the download of a small encoder."""
_RECIPE_NOTE = """\
# The recipe of this model; local paths are reduced to the names of files and folders. To repeat the run, put the
# files beside this one and run `fmicl train recipe.yaml`.
"""


def stage(source: Source, files: Iterable[Path], folder: Path, merge_adapter: bool = False) -> None:
    """Write everything except the card to an empty folder.

    Args:
        source: What is published.
        files: The encoder's files, from :func:`fmicl_text.hub.check.encoder_files`.
        folder: Where it goes.
        merge_adapter: Write the sum of the adapter and its base model.

    Raises:
        InputError: If the encoder is an adapter on a model that others do not have; if there is none to merge.
    """
    adapter = source.model / ADAPTER_CONFIG
    if merge_adapter:
        if not adapter.is_file():
            raise InputError(f"--merge-adapter: {source.model} has no adapter ({ADAPTER_CONFIG})")
        _save_merged(source.model, folder)
    else:
        if adapter.is_file() and _is_here(base := base_of(source.model)):
            raise InputError(
                f"{source.model} is an adapter on {base}, which others do not have; --merge-adapter publishes the "
                "two as one encoder"
            )
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            _copy(source.model / file, folder / file)
    for config in (*folder.rglob("config.json"), *folder.rglob("tokenizer_config.json")):
        _forget_machine(config)
    if source.recipe is not None:
        write_text(folder / "recipe.yaml", _RECIPE_NOTE + yaml_tree.dump(public_recipe(source.recipe)))
        assert source.manifest is not None
        paths = _paths(source.recipe)
        write_json(folder / "manifest.json", shorten(source.manifest[0], paths))
        before = {f"before-{name}": result for name, result in source.before.items()}
        for name, result in (source.results | before).items():
            write_json(folder / "results" / f"{name}.json", shorten(_figures_only(result.document()), paths))
        if source.summary:
            write_json(folder / "results" / "summary.json", shorten(source.summary, paths))


def _copy(file: Path, place: Path) -> None:
    try:
        shutil.copyfile(file, place)
    except OSError as error:
        raise cannot_write(file.name, place.parent, error) from error


def public_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's sections without local paths and without its ``publish`` section."""
    return shorten(recipe.model_dump(mode="json", exclude={"publish"}))


def _paths(recipe: Recipe) -> list[str]:
    named = (
        recipe.model.base,
        *(path for source in recipe.data.sources.values() for path in (source.train, source.heldout)),
        recipe.evaluate.data,
        *(asked.name for asked in recipe.evaluate.after),
    )
    return [path for path in named if isinstance(path, str)]


def check_adapted_base(section: ModelSection) -> None:
    """Refuse, before training, to publish an adapter on a base model that others do not have.

    Raises:
        InputError: If the base is a folder, and the adapter is not merged into it.
    """
    adapter = section.lora is not None and not section.lora.merge
    if adapter and section.base is not None and _is_here(locate(section.base)):
        raise InputError(
            f"model.lora: {section.base}, the base of the adapter, is on this machine alone: to publish the model "
            "(publish.repo), set merge: true there, or take a base from the Hub"
        )


def _is_here(model: str) -> bool:
    """Whether the name of a model is a folder of this machine."""
    return is_local(model) or Path(model).exists()


def _settings(file: Path) -> dict[str, Any]:
    settings = read_json(file)
    if not isinstance(settings, dict):
        raise InputError(f"{file}: not the settings of a model: it must be an object")
    return settings


def _forget_machine(config: Path) -> None:
    settings = _settings(config)
    kept = {key: value for key, value in settings.items() if key not in _MACHINE_KEYS}
    if kept != settings:
        write_json(config, kept)


def _figures_only(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _figures_only(item) for key, item in value.items() if key not in _TEXTS_OF_DATA}
    if isinstance(value, list):
        return f"{len(value)} values, not published" if len(value) > _MOST_VALUES else list(map(_figures_only, value))
    return value


def _save_merged(model: Path, folder: Path) -> None:
    """Save an encoder with its adapter's weights merged into its transformer."""
    encoder = load_model(str(model))
    merge_adapter(encoder)
    encoder.save_pretrained(str(folder), create_model_card=False)
