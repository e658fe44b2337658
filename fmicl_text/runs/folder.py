"""The run folder: what lies where, and the manifest that says how it came about."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fmicl_text.errors import InputError
from fmicl_text.files import read_json, write_json, write_text
from fmicl_text.recipe.schema import Recipe
from fmicl_text.recipe.file import dump_recipe, load_recipe
from fmicl_text.versions import versions

LOCK = ".lock"


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
    def tensorboard(self) -> Path:
        """What TensorBoard shows, if the recipe reports to it."""
        return self.path / "tensorboard"

    @property
    def picture(self) -> Path:
        """Loss terms and development score over the steps."""
        return self.path / "training.png"

    def result(self, name: str) -> Path:
        """The JSON document of one evaluation."""
        return self.path / "results" / f"{name}.json"

    def is_done(self) -> bool:
        """Whether training ended and the model is there."""
        return self.manifest.is_file() and read_json(self.manifest).get("state") == "done"

    def write_manifest(self, state: str, **facts: Any) -> None:
        """Write the manifest, keeping what an earlier call wrote.

        Args:
            state: ``running``, ``done``, ``interrupted`` or ``failed``.
            facts: Anything else to record, JSON-ready.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = read_json(self.manifest) if self.manifest.is_file() else {"started": now}
        manifest |= {"state": state, "versions": versions(), "platform": platform.platform(), **facts}
        if state == "running":
            manifest.pop("ended", None)
        else:
            manifest["ended"] = now
        write_json(self.manifest, manifest)


@contextmanager
def open_run(path: Path, recipe: Recipe, resume: bool, overwrite: bool) -> Iterator[None]:
    """Make the run folder, or check that the one there may be gone on with; no other process may have it meanwhile.

    Args:
        path: The folder.
        recipe: The recipe.
        resume: Go on with a run that is there.
        overwrite: Delete a run that is there.

    Raises:
        InputError: If a run is there and neither is set; if there is none to resume, or it had another
            recipe; if the folder holds something else than a run; if another process works in it.
    """
    file = RunFolder(path).recipe
    _check(path, recipe, resume, overwrite)
    path.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path / LOCK, timeout=0).acquire()  # given back by the system if the process is killed
    except Timeout:
        raise InputError(
            f"another process is at work in {path}: wait for it, or give another folder with --output"
        ) from None
    with lock:
        _check(path, recipe, resume, overwrite)  # it may have been made in between
        if not resume:
            for old in _contents(path):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            write_text(file, dump_recipe(recipe))
        yield


def _check(path: Path, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    file = RunFolder(path).recipe
    if _contents(path) and not file.is_file():
        raise InputError(f"{path} holds something that is not a run; choose another folder with --output")
    if resume and not file.is_file():
        raise InputError(f"no run to resume in {path}; leave --resume out to start one")
    if resume and load_recipe(file).pinned(recipe.model.revision, recipe.data.revision) != recipe:
        raise InputError(f"{path} was started from another recipe, see {file}; repeat its settings to resume it")
    if file.is_file() and not (resume or overwrite):
        raise InputError(
            f"{path} holds a run already: --resume goes on with it, --overwrite deletes it, "
            "--output FOLDER puts the new one elsewhere"
        )


def _contents(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.name != LOCK] if path.is_dir() else []
