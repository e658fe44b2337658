"""What a worker loads once: its trials are what training each recipe by itself is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from sweep_recipes import write_sweep_recipe

from fmicl_text.encoders.text import load_encoder
from fmicl_text.errors import RunFailedError
from fmicl_text.recipe.file import load_recipe
from fmicl_text.sweep.arms import arms_of
from fmicl_text.sweep.board import Board
from fmicl_text.sweep.plan import Plan, judged
from fmicl_text.sweep.space import read_grid, read_space
from fmicl_text.sweep.worker import Worker
from fmicl_text.training.inputs import load_inputs
from fmicl_text.training.train import train, train_on

pytestmark = pytest.mark.usefixtures("blank_pictures")


def test_trials_are_trainings_of_their_own_and_read_the_encoder_once(tmp_path: Path, tiny_encoder_path: Path):
    encoder = shutil.copytree(tiny_encoder_path, tmp_path / "encoder")
    grid, _ = read_grid(["loss.divergence=kl"])
    recipe = load_recipe(write_sweep_recipe(tmp_path, encoder), ["model.head=mlp"])  # which the seed draws
    recipe, criterion, _ = judged(recipe, load_inputs(recipe))
    plan = Plan(recipe, arms_of(recipe, [grid]), tmp_path / "sweep", "", keep=9)
    names = [arm.name for arm in plan.arms]
    board = Board("sweep", f"sqlite:///{tmp_path / 'sweep.db'}", plan.folder, names, True, "plan")
    worker = Worker(plan, board, criterion)
    board.plan(names[0], [{}])
    worker.work()
    moved = encoder.rename(tmp_path / "elsewhere")
    board.plan(names[1], [{}])
    worker.work()
    board.close()
    moved.rename(encoder)
    folders = sorted((plan.folder / "trials").iterdir())
    assert len(folders) == 2
    for folder in folders:
        alone = train(load_recipe(folder / "recipe.yaml"), tmp_path / "alone" / folder.name).folder
        for file in ("model/model.safetensors", "metrics.jsonl"):
            assert (folder / file).read_bytes() == (alone / file).read_bytes(), file


def test_the_first_trial_is_the_default_and_the_next_are_drawn(tmp_path: Path, tiny_encoder_path: Path):
    """A default that is no value of its range, ``sigma: adaptive``, is left as it is."""
    space = tmp_path / "space.yaml"
    space.write_text("loss.divergence: kl\nloss.shift: [row, none]\nloss.sigma: {low: 0.2, high: 0.4}")
    recipe = load_recipe(write_sweep_recipe(tmp_path, tiny_encoder_path))
    recipe, criterion, _ = judged(recipe, load_inputs(recipe))
    plan = Plan(recipe, arms_of(recipe, read_space(str(space))), tmp_path / "sweep", "", keep=9)
    arm = plan.arm("fmicl-kl")
    board = Board("sweep", f"sqlite:///{tmp_path / 'sweep.db'}", plan.folder, [arm.name], True, "plan")
    board.plan(arm.name, plan.planned(arm, 2))
    Worker(plan, board, criterion).work()
    first, second = (trial.settings for trial in board.trials())
    board.close()
    assert first == {"loss.shift": "row"} and 0.2 <= second["loss.sigma"] <= 0.4
    folders = sorted((plan.folder / "trials").iterdir())
    assert [load_recipe(folder / "recipe.yaml").loss.sigma for folder in folders] == ["adaptive", second["loss.sigma"]]


def test_a_worker_stays_without_the_process_that_started_it_unless_that_leads(tmp_path: Path):
    """`nohup fmicl sweep ... --worker &` goes on when the shell ends; a worker of --workers ends with its leader."""
    plan = SimpleNamespace()
    facts = iter([{}, {}, {"done": True}])
    looked: list[int] = []

    class Idle:
        def next_arm(self) -> None:
            looked.append(1)

        @property
        def facts(self) -> dict[str, bool]:
            return next(facts)

    worker = Worker(plan, Idle(), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fmicl_text.sweep.worker._PAUSE", 0.0)
        parents = iter([10, 1, 1, 1, 1])
        patch.setattr("os.getppid", lambda: next(parents))
        worker.work(until_done=True)
        assert len(looked) == 3
        parents = iter([10, 1])
        facts = iter([{}, {}])
        worker.work(until_done=True, leader=10)
    assert len(looked) == 4


@pytest.mark.parametrize("changed", ["pairs", "chooses", "judges"])
def test_a_file_that_has_changed_since_is_told(tmp_path: Path, tiny_encoder_path: Path, changed: str):
    """Whether a trial read it or a finalist; of scored pairs one score is enough."""
    (tmp_path / "own").mkdir()
    own = write_sweep_recipe(tmp_path / "own", tiny_encoder_path).parent / "chooses.jsonl"
    recipe = load_recipe(write_sweep_recipe(tmp_path, tiny_encoder_path), [f"evaluate.after=[{own}]"])
    plan = Plan(recipe, arms_of(recipe, [read_grid([])[0]]), tmp_path / "sweep", "")
    noted: dict[str, object] = {}
    board = SimpleNamespace(facts=noted, note=lambda **facts: noted.update(facts))
    arm = plan.arms[0]
    trial, final = plan.trial_recipe(arm, {}), plan.final_recipe(arm, {}, 8)
    begun = final if changed == "judges" else trial
    Worker(plan, board, None)._inputs(begun)
    Worker(plan, board, None)._inputs(begun)
    file = own if changed == "judges" else tmp_path / f"{changed}.jsonl"
    [first, *others] = [json.loads(line) for line in file.read_text().splitlines()]
    first |= {"answer": "other"} if changed == "pairs" else {"score": first["score"] + 1}
    file.write_text("".join(json.dumps(row) + "\n" for row in [first, *others]))
    name = {"pairs": "training", "judges": "evaluate.after chooses"}.get(changed, changed)
    with pytest.raises(RunFailedError, match=f"the {name} data has changed since .*begin another sweep"):
        Worker(plan, board, None)._inputs(final)


def test_a_base_on_the_hub_stays_at_its_commit_and_is_loaded_once_more(
    tmp_path: Path, tiny_encoder_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As loading leaves it in the cache: first by its name, then, for all runs of the sweep, by its commit."""
    repo, commits = tmp_path / "cache" / "models--me--encoder", ["0123456789" * 4, "9876543210" * 4]
    (repo / "refs").mkdir(parents=True)
    for commit in commits:
        shutil.copytree(tiny_encoder_path, repo / "snapshots" / commit)
    (repo / "refs" / "main").write_text(commits[0])
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    loaded: list[str | None] = []
    monkeypatch.setattr(
        "fmicl_text.encoders.kept.load_encoder", lambda of: loaded.append(of.revision) or load_encoder(of)
    )
    recipe = load_recipe(write_sweep_recipe(tmp_path, tiny_encoder_path), ["model.base=me/encoder"])
    plan = Plan(recipe, arms_of(recipe, [read_grid([])[0]]), tmp_path / "sweep", "")
    noted: dict[str, object] = {}
    board = SimpleNamespace(facts=noted, note=lambda **facts: noted.update(facts))
    trial, final = plan.trial_recipe(plan.arms[0], {}), plan.final_recipe(plan.arms[0], {}, 8)
    first = Worker(plan, board, None)
    train_on(first._inputs(trial), trial, tmp_path / "trial")
    first._inputs(final)
    assert loaded == [None, commits[0]]
    (repo / "refs" / "main").write_text(commits[1])  # somebody commits while the sweep runs
    assert Worker(plan, board, None)._inputs(final).origin["base_model"] == {"revision": commits[0]}
    assert loaded[2:] == commits[:1]


def test_trials_on_other_data_are_not_put_with_those_before(tmp_path: Path):
    noted: dict[str, object] = {}
    board = SimpleNamespace(facts=noted, note=lambda **facts: noted.update(facts))
    worker = Worker(SimpleNamespace(), board, None)
    before = {"data": {"training": {"rows": 3, "sha256": "a"}}, "base_model": {}}
    worker._refuse_other_data("origin", before)
    worker._refuse_other_data("origin", before)
    now = {"data": {"training": {"rows": 2, "sha256": "b"}}, "base_model": {}}
    with pytest.raises(RunFailedError, match=r"3 rows then, 2 rows now.*begin another sweep"):
        worker._refuse_other_data("origin", now)
