"""The run folder: where each file is, the lock, and the manifest that records how the run was made."""

from __future__ import annotations

import json
import logging
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fmicl_text.data.yaml_tree import dotted
from fmicl_text.errors import InputError
from fmicl_text.files import read_json, sync, write_json, write_text
from fmicl_text.recipe.file import dump_recipe, load_recipe
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.manifest import Manifest, read_manifest
from fmicl_text.section import KeyPath
from fmicl_text.versions import versions

logger = logging.getLogger(__name__)

LOCK = ".lock"
MARKER = ".fmicl-run"
"""A file that is written before all others: only a folder with it, or with a manifest, may be overwritten."""
_MARKER_TEXT = "This folder is a run of fmicl-text: `fmicl train --overwrite` may delete what the run wrote here.\n"
_TEMPORARY = "." + "[A-Za-z0-9_]" * 8  # end of the names of files that are being written; see files.write_text


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run (one seed)."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, machine, times and state."""
        return self.path / "manifest.json"

    @property
    def metrics(self) -> Path:
        """One JSON line a logging or evaluation step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints to resume from."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The finished encoder."""
        return self.path / "model"

    @property
    def unfinished_model(self) -> Path:
        """Where the encoder is written before it is moved to its place."""
        return self.path / ".model.unfinished"

    @property
    def tensorboard(self) -> Path:
        """What TensorBoard shows, if the recipe reports to it."""
        return self.path / "tensorboard"

    @property
    def picture(self) -> Path:
        """Loss terms and development score over the steps."""
        return self.path / "training.png"

    @property
    def views(self) -> Path:
        """Images and two views of each, of a run on images."""
        return self.path / "views.png"

    @property
    def embeddings(self) -> Path:
        """What `fmicl export --embeddings` writes, a folder for each precision."""
        return self.path / "embeddings"

    @property
    def openvino(self) -> Path:
        """What `fmicl export --to openvino` writes, a folder for each precision."""
        return self.path / "openvino"

    def result(self, name: str) -> Path:
        """The JSON document of one evaluation."""
        return self.path / "results" / f"{name}.json"

    def is_done(self) -> bool:
        """Whether training ended and the model is there.

        Raises:
            InputError: If the manifest is damaged.
        """
        return self.manifest.is_file() and self.read_manifest()[1].state == "done"

    def read_manifest(self) -> tuple[dict[str, Any], Manifest]:
        """Read the manifest of a run that goes on, as it is written, and checked.

        Raises:
            InputError: If it is damaged, naming the file and the key, and how to go on without it.
        """
        try:
            return read_manifest(self.manifest)
        except InputError as error:
            raise InputError(f"{error}; delete the file to resume the run from its newest checkpoint") from None

    def write_manifest(self, state: str, **facts: Any) -> None:
        """Write the manifest, keeping what an earlier call wrote.

        Args:
            state: ``running``, ``done``, ``interrupted`` or ``failed``.
            facts: Anything else to record, JSON-ready.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = self.read_manifest()[0] if self.manifest.is_file() else {"started": now}
        manifest |= {"state": state, "versions": versions(), "platform": platform.platform(), **facts}
        if state == "running":
            manifest.pop("ended", None)
        else:
            manifest["ended"] = now
        write_json(self.manifest, manifest)


@contextmanager
def open_run(path: Path, recipe: Recipe, resume: bool, overwrite: bool) -> Iterator[None]:
    """Make the run folder, or check that an existing one may be used, and lock it against other processes.

    Args:
        path: The folder.
        recipe: The recipe.
        resume: Continue a run that is there.
        overwrite: Delete what a run that is there wrote, and nothing else.

    Raises:
        InputError: If a run is there and neither is set; if there is none to resume, or it had another
            recipe; if the folder holds something other than a run; if another process uses it.
    """
    check_run(path, recipe, resume, overwrite)
    path.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path / LOCK, timeout=0).acquire()  # released by the system if the process is killed
    except Timeout:
        raise InputError(
            f"another process is using {path}: wait for it, or give another folder with --output"
        ) from None
    with lock:
        check_run(path, recipe, resume, overwrite)  # it may have been made in between
        _delete_temporary(path)
        write_text(path / MARKER, _MARKER_TEXT)
        if not resume:
            _delete_run(path)
            write_text(RunFolder(path).recipe, dump_recipe(recipe))
        sync(path)
        sync(path.absolute().parent)
        yield


def is_run(path: Path) -> bool:
    """Return whether a folder is a run: by its marker, or the manifest of a run of version 0.1.0.

    Raises:
        InputError: If it has a manifest that is damaged.
    """
    if (path / MARKER).is_file():
        return True
    manifests = [file for file in (path / "manifest.json", *path.glob("seed-*/manifest.json")) if file.is_file()]
    documents = map(read_json, manifests)
    return any(isinstance(document, dict) and {"state", "versions"} <= document.keys() for document in documents)


def check_run(path: Path, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    """Check that a folder may be used for a run, or that there is none yet; nothing is written.

    Raises:
        InputError: As :func:`open_run`, but that another process uses it.
    """
    file = RunFolder(path).recipe
    begun = file.is_file()
    # A run of version 0.1.0 that was killed in its first moments has a lock and a recipe; resuming deletes nothing.
    known = (resume and begun and (path / LOCK).exists()) or (path.is_dir() and is_run(path))
    if _contents(path) and not known:
        raise InputError(f"{path} holds something that is not a run; choose another folder with --output")
    if resume and not begun:
        raise InputError(f"no run to resume in {path}; leave --resume out to start one")
    if resume and (begun_from := load_recipe(file).pinned_as(recipe)) != recipe:
        was, now = (dict(_leaves(one.model_dump(mode="json"), ())) for one in (begun_from, recipe))
        changed = [key for key in {**was, **now} if was.get(key) != now.get(key)]
        raise InputError(
            [
                *(
                    f"{key}: is {now.get(key, 'not set')} here, and {file} has {was.get(key, 'none')}"
                    for key in changed
                ),
                f"{path} was started from another recipe: repeat its settings to resume it, or give a run with the new "
                "ones a folder of its own with --output",
            ]
        )
    if begun and not (resume or overwrite):
        raise InputError(
            f"{path} holds a run already: --resume continues it, --overwrite deletes it, "
            "--output FOLDER puts the new one elsewhere"
        )


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[str, str]]:
    """Yield the key and the value of each setting of a recipe, as YAML on one line."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield dotted(path), json.dumps(value, ensure_ascii=False)


def _contents(path: Path) -> list[Path]:
    """Return what is in a folder except the lock, the marker, and a marker that was being written."""
    entries = path.iterdir() if path.is_dir() else ()
    ours = (LOCK, MARKER, f".{MARKER}{_TEMPORARY}")
    return [entry for entry in entries if not any(entry.match(pattern) for pattern in ours)]


def _delete_temporary(path: Path) -> None:
    """Delete what a killed process was writing."""
    names = (MARKER, "recipe.yaml", "manifest.json", "metrics.jsonl", "summary.json", "results/*.json")
    for folder in (path, *path.glob("seed-*")):
        for name in map(Path, names):
            for file in folder.glob(str(name.parent / f".{name.name}{_TEMPORARY}")):
                file.unlink()


def _delete_run(path: Path) -> None:
    """Delete what a run wrote, of one seed or several; folders that hold anything else stay, with that in them."""
    for seed in path.glob("seed-*"):
        if seed.name.removeprefix("seed-").isdecimal() and not seed.is_symlink() and RunFolder(seed).manifest.is_file():
            _delete_run(seed)
            _remove_if_empty(seed)
    run = RunFolder(path)
    if (report := path / "report.html").exists():
        logger.warning("%s stays and describes the old run; `fmicl report --overwrite` makes it anew", report)
    _delete([run.recipe, run.manifest, run.metrics, run.picture, run.views, path / "summary.json"])
    _delete([run.model, run.unfinished_model, run.tensorboard, run.embeddings, run.openvino])
    # A link to a folder, perhaps on a larger disk, is treated as a folder.
    written = ("checkpoint-*", "damaged-checkpoint-*", ".unfinished", "eval")
    _delete(entry for pattern in written for entry in run.checkpoints.glob(pattern))
    results = path / "results"
    if not results.is_symlink():
        _delete(results.glob("*.json"))
        _delete(file for what in ("neighbours", "map") for file in results.glob(f"*.{what}.png"))
    for folder in (run.checkpoints, results):
        _remove_if_empty(folder)


def _delete(entries: Iterable[Path]) -> None:
    """Delete files and folders; of a link, the link."""
    for entry in list(entries):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()
