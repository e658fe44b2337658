"""What is in a run folder is the run's or the user's: only the run's is ever deleted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_folders import finished_run
from words import WORDS

from fmicl_text.cli import main
from fmicl_text.errors import InputError, RunFailedError
from fmicl_text.recipe.file import dump_recipe, load_recipe
from fmicl_text.runs.folder import LOCK, MARKER, RunFolder, open_run
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")


def write_recipe(folder: Path, encoder: Path) -> Path:
    folder.mkdir()
    (folder / "rows.txt").write_text("".join(f"the {animal} runs\n" for animal in ("dog", "cat", "horse", "man")))
    recipe = {
        "name": "tiny",
        "model": {"base": str(encoder)},
        "data": {"train": str(folder / "rows.txt"), "columns": {"anchor": "text"}, "views": "dropout"},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 2, "max_steps": 2, "logging_steps": 1},
        "evaluate": {"during": None, "every_steps": 1},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    return folder / "recipe.yaml"


@pytest.fixture
def recipe_file(tiny_encoder_path: Path, tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "inputs", tiny_encoder_path)


@pytest.fixture(scope="module")
def trained_once(tiny_encoder_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(load_recipe(write_recipe(folder / "inputs", tiny_encoder_path)), folder / "run")
    return folder / "run"


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A finished run, to be harmed."""
    return shutil.copytree(trained_once, tmp_path / "run")


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """Everything in a folder: contents of files, targets of links."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def test_a_folder_with_the_users_own_recipe_is_not_a_run(recipe_file, monkeypatch, capsys):
    """`fmicl train recipe.yaml --output . --overwrite`, in a folder of other work."""
    folder = recipe_file.parent
    for name in (".git/HEAD", "thesis.tex", "model/mine.bin", "checkpoints/mine", "results/mine.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    (folder / "manifest.json").write_text('{"name": "a web app", "icons": []}')
    before = tree(folder)
    monkeypatch.chdir(folder)
    assert main(["train", "recipe.yaml", "--output", ".", "--overwrite"]) == 2
    assert "holds something that is not a run" in capsys.readouterr().err
    assert tree(folder) == before


@pytest.mark.parametrize("old", [False, True], ids=["marker", "manifest of version 0.1.0"])
def test_overwriting_deletes_what_a_run_wrote_and_nothing_else(recipe_file, tmp_path, caplog, old):
    recipe, run = load_recipe(recipe_file), tmp_path / "run"
    train(recipe, run)
    if old:
        (run / MARKER).unlink()
    mine = {"thesis.tex", "report.html", "results/notes.txt", "checkpoints/mine.txt", ".git/HEAD", "seed-7/mine.txt"}
    for name in mine:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (run / "tensorboard").symlink_to(outside)
    (run / "checkpoints" / "checkpoint-9").symlink_to(outside)
    (run / "results" / "old.json").symlink_to(outside / "precious")
    with open_run(run, recipe, resume=False, overwrite=True):
        left = set(tree(run))
    folders = {"results", "checkpoints", ".git", "seed-7"}
    assert left == mine | folders | {LOCK, MARKER, "recipe.yaml"}
    assert tree(outside) == {"precious": b"mine"}
    assert "report.html stays and describes the old run" in caplog.text


def test_checkpoints_on_another_disk_are_emptied(recipe_file, tmp_path):
    recipe, run, disk = load_recipe(recipe_file), tmp_path / "run", tmp_path / "disk"
    with open_run(run, recipe, resume=False, overwrite=False):
        pass
    disk.mkdir()
    (run / "checkpoints").symlink_to(disk)
    train(recipe, run, overwrite=True)
    assert (run / "checkpoints").is_symlink() and (disk / "checkpoint-2" / "seal.json").is_file()
    (disk / "other").write_text("mine")
    with open_run(run, recipe, resume=False, overwrite=True):
        assert (run / "checkpoints").is_symlink() and [path.name for path in disk.iterdir()] == ["other"]


@pytest.mark.parametrize(
    "found", [[], [LOCK], [LOCK, f".{MARKER}.abcd_123"], [LOCK, MARKER], [LOCK, MARKER, ".recipe.yaml.abcdefgh"]]
)
def test_a_run_killed_before_it_had_a_recipe_leaves_a_usable_folder(recipe_file, tmp_path, found):
    run = tmp_path / "run"
    run.mkdir()
    for name in found:
        (run / name).write_text("")
    with open_run(run, load_recipe(recipe_file), resume=False, overwrite=False):
        assert {path.name for path in run.iterdir()} == {LOCK, MARKER, "recipe.yaml"}


def test_a_run_of_version_0_1_that_was_killed_early_is_resumed_but_not_overwritten(recipe_file, tmp_path):
    recipe, run = load_recipe(recipe_file), tmp_path / "run"
    run.mkdir()
    (run / LOCK).write_text("")
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    with pytest.raises(InputError, match="not a run"), open_run(run, recipe, resume=False, overwrite=True):
        pass
    with open_run(run, recipe, resume=True, overwrite=False):
        assert (run / MARKER).is_file()


def test_temporary_files_of_a_killed_run_are_deleted(recipe_file, tmp_path):
    recipe, run = load_recipe(recipe_file), tmp_path / "run"
    train(recipe, run)
    (run / "results").mkdir(exist_ok=True)
    left = [run / ".manifest.json.abcdefgh", run / "results" / ".heldout.json.a_c3EfgH"]
    mine = [run / ".bashrc", run / ".manifest.json.mine"]
    for file in left + mine:
        file.write_text("{")
    with open_run(run, recipe, resume=True, overwrite=False):
        assert not any(file.exists() for file in left) and all(file.exists() for file in mine)


# A finished model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["cut", "bit", "lost", "folder"])
def test_a_damaged_model_is_restored_from_the_last_checkpoint(trained, tmp_path, caplog, harm):
    run = RunFolder(trained)
    weights = run.model / "model.safetensors"
    before, content = tree(run.model), weights.read_bytes()
    if harm == "cut":
        weights.write_bytes(content[:1000])
    elif harm == "bit":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "lost":
        weights.unlink()
    else:
        os.rename(run.model, tmp_path / "elsewhere")
    assert main(["train", "--resume", str(run.path)]) == 0
    assert "it is restored from the newest checkpoint" in caplog.text and "continues from checkpoint-2" in caplog.text
    assert weights.read_bytes() == content and tree(run.model).keys() == before.keys()
    caplog.clear()
    assert main(["train", "--resume", str(run.path)]) == 0
    assert caplog.messages == [f"{run.path} is finished: nothing is trained"]


def test_the_model_is_on_the_disk_before_the_manifest_says_done(recipe_file, tmp_path, monkeypatch):
    run, synced, fsync = RunFolder(tmp_path / "run"), set(), os.fsync

    def recorded(handle: int) -> None:
        state = json.loads(run.manifest.read_text())["state"] if run.manifest.is_file() else None
        synced.add((os.readlink(f"/proc/self/fd/{handle}"), state))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    train(load_recipe(recipe_file), run.path)
    before_done = {path for path, state in synced if state == "running"}
    expected = {run.unfinished_model / file.relative_to(run.model) for file in run.model.rglob("*")}
    assert len(expected) > 5 and before_done >= {str(path) for path in (*expected, run.unfinished_model, run.path)}


# Damaged manifests ---------------------------------------------------------------------------------------------------

DAMAGED = {
    "empty": ("", "manifest.json: not JSON: the file is empty"),
    "a list": ("[]", "manifest.json: not the manifest of a run: it must be an object, got list"),
    "no seed": ("{}", "manifest.json: not the manifest of a run: seed: Field required"),
    "NaN": ('{"state": NaN}', "manifest.json: not JSON: NaN"),
    "a number": ('{"seed": 42, "data": 1}', "manifest.json: not the manifest of a run: data: "),
    "rows in words": ('{"seed": 42, "data": {"training": {"rows": "many"}}}', "a run: data.training.rows: "),
    "a file's size": ('{"seed": 42, "state": "done", "model_files": {"config.json": 7}}', "model_files.config.json: "),
    "deep": ("[" * 100_000, "manifest.json: not"),
}


@pytest.mark.parametrize(("text", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_manifest_is_named(trained, capsys, text, message):
    (trained / "manifest.json").write_text(text)
    assert main(["train", "--resume", str(trained)]) == 2
    said = capsys.readouterr().err
    assert message in said and "delete the file to resume" in said and "Traceback" not in said
    (trained / "manifest.json").unlink()
    assert main(["train", "--resume", str(trained)]) == 0


def test_a_manifest_that_is_a_pipe_does_not_hang(trained):
    (trained / "manifest.json").unlink()
    os.mkfifo(trained / "manifest.json")
    assert main(["train", "--resume", str(trained)]) == 0


# Full disks and permissions ------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 900 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a small file system needs privileges that are missing here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("room", [20_000, 250_000, 600_000])
def test_a_full_disk_is_named_with_what_to_do(recipe_file, small_disk, room):
    """Wherever it fills up: a checkpoint's weights, the optimizer, the model."""
    (small_disk / "other").write_bytes(bytes(900 * 1024 - room))
    run = small_disk / "run"
    with pytest.raises(RunFailedError, match=rf"cannot be written to {run}.*MB free there.*to continue.*--resume"):
        train(load_recipe(recipe_file), run)
    (small_disk / "other").unlink()


@pytest.mark.parametrize("room", [0, 50_000])
def test_every_writer_names_a_full_disk(tiny_encoder_path, small_disk, capsys, room):
    """Those that are not of training: recipes, reports, results, and the dry run of publishing."""
    run = finished_run(small_disk / "run", tiny_encoder_path)
    pairs = small_disk / "pairs.csv"
    pairs.write_text("a,b\n" + "".join(f"the {word},a {word}\n" for word in WORDS[:20]))
    fill(small_disk, room)
    before = tree(small_disk).keys()
    geometry = ["eval", "geometry", str(run), "--pairs", str(pairs), "--columns", "a", "b"]
    commands = [["publish", str(run), "me/tiny", "--license", "mit", "--dry-run"]]
    if room == 0:
        commands += [
            ["recipe", "copy", "quickstart", str(small_disk)],
            ["report", str(run)],
            [*geometry, "--output", str(small_disk / "geometry.json")],
        ]
    for command in commands:
        assert main(command) == 1, command
        said = capsys.readouterr().err
        assert re.search(rf"cannot be written to {small_disk}\S*: .*No space left.*MB free there", said), said
        assert tree(small_disk).keys() == before


def fill(disk: Path, room: int) -> None:
    """Fill a disk, except for some bytes."""
    (disk / "room").write_bytes(bytes(room))
    with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    (disk / "room").unlink()


def test_files_respect_the_umask(recipe_file, tmp_path):
    before = os.umask(0o077)
    try:
        train(load_recipe(recipe_file), tmp_path / "run")
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 10 and {path.stat().st_mode & 0o077 for path in files} == {0}
