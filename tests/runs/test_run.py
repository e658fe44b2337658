"""The run folder: one process at a time, whole checkpoints, a manifest that says where a run comes from."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset

from fmicl_text.cli import main
from fmicl_text.encoders.section import ModelSection
from fmicl_text.errors import InputError, RunFailedError, RunInterrupted
from fmicl_text.recipe.file import load_recipe
from fmicl_text.runs.folder import LOCK, open_run
from fmicl_text.training import checkpoints
from fmicl_text.training.callbacks import MetricsFile
from fmicl_text.training.criterion import Choice
from fmicl_text.training.inputs import Inputs
from fmicl_text.training.provenance import changes, command_line, fingerprint, provenance
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")

ROWS = [f"the {size} {animal} runs" for size in ("big", "small", "old", "young") for animal in ("dog", "cat", "horse")]


@pytest.fixture
def path(tiny_encoder_path: Path, tmp_path: Path) -> Path:
    """A recipe of six steps in two epochs, a checkpoint each second one, with data and base model of its own."""
    shutil.copytree(tiny_encoder_path, tmp_path / "base")
    (tmp_path / "rows.txt").write_text("\n".join(ROWS) + "\n")
    recipe = {
        "name": "tiny",
        "model": {"base": str(tmp_path / "base")},
        "data": {"train": str(tmp_path / "rows.txt"), "columns": {"anchor": "text"}, "views": "dropout"},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 4, "num_train_epochs": 2, "logging_steps": 1},
        "evaluate": {"during": None, "every_steps": 2},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    return tmp_path / "recipe.yaml"


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch):
    """Have something happen when a step has been logged."""

    def arrange(step: int, action) -> None:
        log = MetricsFile.on_log

        def log_and_act(self, args, state, control, **kwargs):
            log(self, args, state, control, **kwargs)
            if state.global_step == step:
                action()

        monkeypatch.setattr(MetricsFile, "on_log", log_and_act)

    yield arrange
    monkeypatch.undo()


def state(run: Path) -> str:
    return json.loads((run / "manifest.json").read_text())["state"]


def names(run: Path) -> list[str]:
    return sorted(file.name for file in (run / "checkpoints").glob("*checkpoint*"))


def test_sigterm_writes_a_checkpoint_and_the_run_goes_on_elsewhere(path, tmp_path, at_step, monkeypatch, capfd, caplog):
    """In a folder that was moved, by its name alone, with a newest checkpoint that is damaged."""
    run, moved = tmp_path / "run", tmp_path / "moved" / "there"
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))  # a step's log comes after its end
    assert main(["train", str(path), "--output", str(run)]) == 128 + signal.SIGTERM
    said = capfd.readouterr().err
    assert "SIGTERM: finishing this step and writing a checkpoint" in said
    assert f"the checkpoint of step 3 is written; to continue: fmicl train --resume {run}" in said
    assert state(run) == "interrupted" and names(run) == ["checkpoint-2", "checkpoint-3"]
    assert checkpoints.damage(run / "checkpoints" / "checkpoint-3") is None
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    weights = run / "checkpoints" / "checkpoint-3" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    moved.parent.mkdir()
    shutil.move(run, moved)
    monkeypatch.undo()
    assert main(["train", "--resume", str(moved)]) == 0
    said = caplog.text
    assert "checkpoint-3 has a damaged model.safetensors; it is set aside as damaged-checkpoint-3" in said
    assert f"{moved}: continues from checkpoint-2" in said
    assert state(moved) == "done" and names(moved) == ["checkpoint-4", "checkpoint-6", "damaged-checkpoint-3"]
    steps = [json.loads(line)["step"] for line in (moved / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 6]

    before = (moved / "model" / "model.safetensors").stat().st_mtime_ns
    assert main(["train", "--resume", str(moved)]) == 0, "what is complete is not done again"
    assert (moved / "model" / "model.safetensors").stat().st_mtime_ns == before
    for form in (str(moved), str(moved / "recipe.yaml"), str(path)):
        assert main(["train", form, "--output", str(moved)]) == 2
    assert "--overwrite deletes it" in capfd.readouterr().err


def test_second_sigint_leaves_at_once(path, tmp_path, at_step):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(3, twice)
    with pytest.raises(RunInterrupted, match="SIGINT: nothing more was written; to continue: fmicl train --resume"):
        train(load_recipe(path), tmp_path / "run")
    assert state(tmp_path / "run") == "interrupted" and names(tmp_path / "run") == ["checkpoint-2"]


def test_full_disk_leaves_what_is_there(path, tmp_path, at_step):
    """The system refuses files above a size, as it does on a full disk."""
    recipe, run, limits = load_recipe(path), tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    at_step(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1])))
    try:
        with pytest.raises(RunFailedError, match=r"checkpoint of step 4 cannot be written .* --resume"):
            train(recipe, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert state(run) == "failed" and names(run) == ["checkpoint-2"]
    assert not (run / "checkpoints" / "checkpoint-4").exists(), "makes room again"
    assert checkpoints.damage(run / "checkpoints" / "checkpoint-2") is None


class Crash(Exception):
    """Stands for one."""


def test_a_change_of_data_or_model_is_said(path, tmp_path, at_step, caplog):
    """When a run is gone on with (here from the beginning: it has no checkpoint yet), and when it is repeated."""
    run = tmp_path / "run"

    def crash() -> None:
        raise Crash

    at_step(1, crash)
    with pytest.raises(Crash):
        train(load_recipe(path), run)
    assert "changed" not in caplog.text
    (tmp_path / "rows.txt").write_text("\n".join(ROWS[:-1]) + "\n")
    with pytest.raises(Crash):
        main(["train", "--resume", str(run)])
    assert f"{run}: the training data has changed since (12 rows then, 11 rows now)" in caplog.text
    assert "the base model" not in caplog.text and "starts from the beginning" in caplog.text
    caplog.clear()
    (tmp_path / "base" / "README.md").write_text("another")
    with pytest.raises(Crash):
        main(["train", str(run / "recipe.yaml"), "--output", str(tmp_path / "again")])
    assert f"{run}: the base model has changed since (README.md)" in caplog.text
    assert "the training data" not in caplog.text


def sealed(folder: Path, step: int, best: int | None = None) -> Path:
    checkpoint = checkpoints.place(folder, step)
    (checkpoint / "1_Pooling").mkdir(parents=True)
    (checkpoint / "weights").write_bytes(bytes(100))
    (checkpoint / "1_Pooling" / "config.json").write_text("{}")
    checkpoints.seal(checkpoint, best)
    return checkpoint


@pytest.mark.parametrize(
    ("harm", "wrong"),
    [
        (lambda c: (c / "weights").write_bytes(bytes(99) + b"\1"), "has a damaged weights"),
        (lambda c: (c / "weights").write_bytes(bytes(99)), "has a damaged weights"),
        (lambda c: (c / "1_Pooling" / "config.json").unlink(), "lacks 1_Pooling/config.json"),
        (lambda c: (c / "seal.json").write_text('{"best": nu'), "has a broken seal.json"),
        (lambda c: (c / "seal.json").write_text("[]"), "has a broken seal.json"),
    ],
    ids=["a bit", "cut", "lost", "seal cut", "another seal"],
)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before_it(tmp_path: Path, caplog, harm, wrong: str):
    older, newer = sealed(tmp_path, 9), sealed(tmp_path, 10)
    assert checkpoints.newest_whole(tmp_path) == newer
    harm(newer)
    assert checkpoints.newest_whole(tmp_path) == older
    assert wrong in caplog.text and not newer.exists() and (tmp_path / "damaged-checkpoint-10").is_dir()


def test_a_checkpoint_that_was_never_sealed_is_deleted(tmp_path: Path, caplog):
    """A process was killed while it wrote it; version 0.1.0 wrote in a folder beside the checkpoints."""
    older, newer = sealed(tmp_path, 9), sealed(tmp_path, 10)
    (newer / "seal.json").unlink()
    (tmp_path / ".unfinished" / "checkpoint-11").mkdir(parents=True)
    assert checkpoints.newest_sealed(tmp_path) == older
    assert checkpoints.newest_whole(tmp_path) == older
    assert "has no seal.json: it was not finished, and is deleted" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-9"]


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, 2, [2, 4, 6, 8, 10]),
        (0, None, [2, 4, 6, 8, 10]),
        (3, None, [6, 8, 10]),
        (2, 2, [2, 10]),
        (1, 4, [4, 10]),
        (1, 8, [8, 10]),
        (1, 10, [10]),
        (9, 2, [2, 4, 6, 8, 10]),
    ],
)
def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path, limit, best, kept):
    """And leaves what is not sealed, which another process may be writing."""
    for step in (2, 4, 6, 8, 10):
        sealed(tmp_path, step)
    checkpoints.place(tmp_path, 12).mkdir()
    checkpoints.rotate(tmp_path, limit, best)
    assert [checkpoints.step_of(path) for path in checkpoints.in_order(tmp_path)] == [*kept, 12]


def test_a_checkpoint_needs_the_best_one(tmp_path: Path, caplog):
    """Without it the run might end in another model than it should."""
    sealed(tmp_path, 2, best=2), sealed(tmp_path, 4, best=4), sealed(tmp_path, 6, best=4)
    assert checkpoints.newest_whole(tmp_path) == tmp_path / "checkpoint-6"
    (tmp_path / "checkpoint-4" / "weights").unlink()
    assert checkpoints.newest_whole(tmp_path) == tmp_path / "checkpoint-2"
    assert "needs checkpoint-4, the best so far, which lacks weights" in caplog.text
    shutil.rmtree(tmp_path / "checkpoint-2")
    assert checkpoints.newest_whole(tmp_path) is None


def test_the_second_process_in_a_run_folder_is_refused(path: Path, tmp_path: Path):
    recipe, run = load_recipe(path), tmp_path / "run"
    run.mkdir()
    hold = "lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('mine', flush=True); time.sleep(99)"
    code = f"import sys, time, filelock; {hold}"
    with subprocess.Popen([sys.executable, "-c", code, str(run / LOCK)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"mine\n"
        with pytest.raises(InputError, match="another process is using"), open_run(run, recipe, False, True):
            pass
        other.kill()
    with open_run(run, recipe, False, False):
        assert load_recipe(run / "recipe.yaml") == recipe
        with pytest.raises(InputError, match="another process is using"), open_run(run, recipe, True, False):
            pass


@pytest.mark.parametrize(
    ("words", "recorded"),
    [
        (["fmicl", "train", "my recipe.yaml"], "fmicl train 'my recipe.yaml'"),
        (["fmicl", "--token", "abc", "x"], "fmicl --token '[secret]' x"),
        (["fmicl", "--hub-token=abc", "x"], "fmicl '--hub-token=[secret]' x"),
        (["fmicl", "--api_key", "--token"], "fmicl --api_key '[secret]'"),
        (["fmicl", "--set", f"train.hub_token=hf_{'a' * 34}"], "fmicl --set 'train.hub_token=[secret]'"),
        (["fmicl", "--set", "data.train=https://me:pass@host/x"], None),
    ],
)
def test_the_command_is_recorded_without_secrets(monkeypatch: pytest.MonkeyPatch, words, recorded):
    monkeypatch.setattr(sys, "argv", words)
    said = command_line()
    assert said == recorded or recorded is None
    assert not any(secret in said for secret in ("abc", "hf_", "pass@"))


def test_fingerprints_are_of_the_content(path: Path, tiny_encoder_path: Path):
    rows = [("a dog", "ein Hund"), ("straße", "\u2028")]
    expected = hashlib.sha256('["a dog", "ein Hund"]\n["straße", "\u2028"]\n'.encode()).hexdigest()
    assert fingerprint(["anchor", "positive"], rows) == {
        "rows": 2,
        "columns": ["anchor", "positive"],
        "sha256": expected,
    }
    recipe = load_recipe(path)
    table = Dataset.from_dict({"anchor": [row[0] for row in rows], "positive": [row[1] for row in rows]})
    origin = provenance(recipe, Inputs({"": table}, {}, Choice(None, "asked"), {}))
    assert origin["data"] == {"training": fingerprint(["anchor", "positive"], rows)}
    weights = (tiny_encoder_path / "model.safetensors").read_bytes()
    assert origin["base_model"]["sha256"]["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert changes(origin, origin) == changes({}, origin) == []
    other = provenance(recipe, Inputs({"": table.select([1, 0])}, {}, Choice(None, "asked"), {}))
    assert len(changes(origin, other)) == 1, "the order of rows is part of it"


def test_a_model_of_the_hub_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As loading leaves it in the cache: a name, main, and the commit it stood for."""
    from huggingface_hub import constants

    from fmicl_text.training.provenance import model_fingerprint

    commit, repo = "0123456789abcdef" * 2 + "01234567", tmp_path / "models--me--encoder"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "snapshots" / commit / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert model_fingerprint(ModelSection(base="me/encoder")) == {"revision": commit}


def test_every_sampler_knows_the_epoch_it_is_in():
    """As accelerate nests them where a second epoch is resumed in one of two processes."""
    from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler, SkipBatchSampler
    from torch.utils.data import BatchSampler, DataLoader

    from fmicl_text.training.loaders import set_epoch

    rows = list(range(64))
    order = SeedableRandomSampler(rows, data_seed=1)
    shard = BatchSamplerShard(BatchSampler(order, 4, drop_last=True), num_processes=2, process_index=1)
    first = list(shard)
    loader = DataLoader(rows, batch_sampler=SkipBatchSampler(shard, skip_batches=3))
    set_epoch(loader, 1)
    second = list(loader.batch_sampler)
    set_epoch(loader, 0)
    assert list(loader.batch_sampler) == first[3:] and len(second) == len(first) - 3 and second != first[3:]
