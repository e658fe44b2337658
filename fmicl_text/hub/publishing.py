"""Publishing: from a run or an encoder to a checked repository on the Hub."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fmicl_text.encoders.images import reads_images
from fmicl_text.encoders.lora import ADAPTER_CONFIG
from fmicl_text.encoders.text import load_model
from fmicl_text.errors import InputError, RunFailedError
from fmicl_text.files import cannot_write
from fmicl_text.hub.base_model import describe_base
from fmicl_text.hub.card import model_card
from fmicl_text.hub.check import check_contents, check_tokenizers, encoder_files
from fmicl_text.hub.exports import stage_exports
from fmicl_text.hub.links import cache_folders, files_under
from fmicl_text.hub.own_code import refusing_own_code
from fmicl_text.hub.remote import Published, check_download, check_place, commit, download
from fmicl_text.hub.source import Source, find_source
from fmicl_text.hub.stage import stage
from fmicl_text.recipe.schema import PublishSection

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

_PROBES = ["A man is playing a guitar.", "¿Dónde está la biblioteca?", "東京は日本の首都です。", "dog " * 600]
"""Texts on which the published encoder must give the same embeddings: short and long, ASCII and not."""
_SAME = 1e-5  # largest difference of an element of unit vectors; merging an adapter rounds


def publish(
    source: str | Path,
    repo: str,
    *,
    license: str | None = None,
    language: Sequence[str] = (),
    private: bool = False,
    revision: str | None = None,
    dry_run: Path | None = None,
    merge_adapter: bool = False,
    create_pr: bool = False,
    overwrite: bool = False,
    exports: bool = False,
) -> Published | None:
    """Publish a finished run, or an encoder, in one commit, and verify what the Hub has.

    The commit has the encoder in safetensors, its card, and the run's recipe, manifest and results; local paths in
    those three are reduced to file names. The commit is then downloaded and compared with the local encoder. The same
    command can be repeated: what was uploaded before is not uploaded again.

    Args:
        source: A run folder (of several seeds the first one is published), that of one seed, or an encoder's.
        repo: ``OWNER/NAME``; created if it does not exist.
        license: The Hub's identifier of the licence; default what the run's recipe says.
        language: ISO 639 codes; default what the run's recipe says, or else the base model's card.
        private: Make a new repository private. An existing one must be private already.
        revision: Branch to commit to, default ``main``; created if it does not exist.
        dry_run: Write everything to this folder instead, without a request to the Hub.
        merge_adapter: Publish the sum of an adapter and its base model, as one encoder.
        create_pr: Open a pull request instead of committing.
        overwrite: Replace whatever the branch, or the folder of a dry run, holds.
        exports: Publish too what ``fmicl export`` has made of the run, with what it costs on the card.

    Returns:
        Where it is; None for a dry run.

    Raises:
        InputError: The run is not finished, there is no licence, a file is damaged, a pickle, a link to elsewhere, or
            contains a local path or a secret, or the repository holds something else. Nothing has been changed.
        RunFailedError: The Hub refuses or does not answer, or its files differ from what was sent.
    """
    found = find_source(source)
    target = _target(found, repo, license, language, private)
    if create_pr and revision not in (None, "main"):
        raise InputError("--create-pr opens a pull request on main; leave --revision out")
    if dry_run is not None:
        _check_room(dry_run, overwrite)
    with tempfile.TemporaryDirectory() as scratch:
        folder, copy = Path(scratch) / "publish", Path(scratch) / "download"
        expected = _prepare(found, target, folder, merge_adapter, exports)
        if dry_run is not None:
            if dry_run.is_symlink():
                dry_run.unlink()
            elif dry_run.exists():
                shutil.rmtree(dry_run)
            _put(folder, dry_run)
            return None
        place = check_place(folder, repo, private, revision or "main", create_pr, overwrite)
        published = commit(folder, place, f"Publish {found.recipe.name if found.recipe else repo} with fmicl-text")
        download(published, copy)
        check_download(folder, copy, published)
        if _distance(_embed(copy), expected) > _SAME:
            raise RunFailedError(f"{published.url} has the files that were sent, but they give other embeddings here")
    return published


def _target(source: Source, repo: str, license: str | None, language: Sequence[str], private: bool) -> PublishSection:
    """Return where and how to publish: what was asked for, then what the run's recipe says."""
    section = source.recipe.publish if source.recipe else PublishSection()
    license = license or section.license
    if license is None:
        base = describe_base(source.recipe.model) if source.recipe else None
        hint = f"; {base.name}, its base model, is under {base.license}" if base and base.license else ""
        raise InputError(f"no licence: give --license, or publish.license in the recipe{hint}")
    try:
        return PublishSection(repo=repo, private=private, license=license, language=list(language) or section.language)
    except ValidationError as error:
        raise InputError([f"{error['loc'][0]}: {error['msg']}" for error in error.errors()]) from error


def _prepare(
    source: Source, target: PublishSection, folder: Path, merge_adapter: bool, with_exports: bool
) -> np.ndarray:
    """Write what is published to a folder, check it, and return the encoder's embeddings of the probes, ``(n, D)``."""
    files = encoder_files(source.model, () if source.recipe else cache_folders(source.model))
    with refusing_own_code(source.model):
        expected = _embed(source.model)
    stage(source, files, folder, merge_adapter)
    model = load_model(str(folder))
    check_tokenizers(model, folder, source.model)
    exports = stage_exports(source, folder) if with_exports else []
    adapter = (folder / ADAPTER_CONFIG).is_file()
    model_card(source, target, model, adapter, exports).save(folder / "README.md")
    check_contents(folder)
    if _distance(actual := _embed(folder), expected) > _SAME:
        raise InputError(
            f"the files of {source.model} that can be published give other embeddings than all of it; "
            "save it again by SentenceTransformer.save_pretrained"
        )
    return actual


def _embed(folder: Path) -> np.ndarray:
    model = load_model(str(folder))
    probes = _image_probes() if reads_images(model) else _PROBES
    return model.encode(probes, normalize_embeddings=True, show_progress_bar=False)  # (n, D)


def _image_probes() -> list[Image]:
    """Return images on which the published encoder must give the same embeddings: of noise, in several forms."""
    import numpy
    from PIL import Image as images

    colours = images.fromarray(numpy.random.default_rng(0).integers(0, 256, (60, 80, 3), numpy.uint8))
    return [colours, colours.convert("L"), colours.resize((300, 40)), images.new("RGB", (8, 8), "white")]


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest difference of an element; infinite if the shapes differ or anything is NaN."""
    difference = float(abs(first - second).max()) if first.shape == second.shape else math.inf
    return math.inf if math.isnan(difference) else difference


def _put(folder: Path, place: Path) -> None:
    """Move what is published to its place, whole or not at all: another disk may be full half-way.

    Raises:
        OSError: If it cannot be written.
    """
    try:
        shutil.move(folder, place)
    except OSError as error:  # of several files, a list of each file's problem
        shutil.rmtree(place, ignore_errors=True)
        first = error.args[0][0][-1] if isinstance(error, shutil.Error) else error
        raise cannot_write("what is published", place, OSError(first)) from error


def _check_room(folder: Path, overwrite: bool) -> None:
    """Refuse to overwrite anything but an earlier dry run; a link is replaced, never followed."""
    if (folder.exists() or folder.is_symlink()) and not overwrite:
        raise InputError(f"{folder} already exists; --overwrite replaces it")
    if folder.is_symlink() or not folder.exists():
        return
    if not (folder / "modules.json").is_file() or not (folder / "README.md").is_file():
        raise InputError(f"{folder} holds something other than an earlier dry run; move it away")
    names = {file.relative_to(folder).as_posix() for file in files_under(folder)}
    known = {file.as_posix() for file in encoder_files(folder, links_into=None)} | {"README.md"}
    if foreign := sorted(names - known):
        raise InputError(f"{folder} holds files that no dry run writes: {', '.join(foreign[:5])}; move it away")
