"""Recipes of images run end to end on tiny encoders: what is trained, kept, resumed and left alone."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import forked
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from test_image_encoder import RESNET, VIT
from transformers import AutoModel

from fmicl_text.cli import main
from fmicl_text.errors import InputError
from fmicl_text.evaluation.results import read_result
from fmicl_text.recipe.file import load_recipe, shipped_recipes
from fmicl_text.report import read_report, write_report
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.build import build_trainer
from fmicl_text.training.inputs import load_inputs
from fmicl_text.training.plan import plan
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")

STEPS = 6
MOCO_V3 = {"momentum": {"start": 0.9, "schedule": "cosine"}, "factor": 0.8}
LAYERS = {"projector": {"widths": [12, 8], "batch_norm": "all"}}
PREDICTOR = {"predictor": {"widths": [12, 8], "batch_norm": "hidden"}}
WAYS = {
    "SimCLR": ({}, {}),
    "MoCo": ({}, {"queue": 40, "momentum": 0.9}),
    "MoCo v3": (PREDICTOR, MOCO_V3),
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture
def write(tmp_path: Path):
    def write(**sections: dict) -> Path:
        recipe = {
            "name": "tiny",
            "model": {"scratch": RESNET, "image_size": 32, **LAYERS},
            "data": {"train": "sample:digits", "columns": {"anchor": "image"}, "views": "augment", "rows": 60},
            "loss": {"objective": "infonce", "temperature": 0.2},
            "train": {
                "per_device_train_batch_size": 10,
                "max_steps": STEPS,
                "logging_steps": 1,
                "learning_rate": 1e-2,
                "weight_decay": 0.1,
                "report_to": "none",
            },
            "evaluate": {"during": None, "every_steps": 2},
        }
        for name, section in sections.items():
            recipe[name] = recipe.get(name, {}) | section
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps(recipe))
        return path

    return write


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def trainer_of(write, folder: Path, **sections):
    recipe = load_recipe(write(**sections))
    return build_trainer(recipe, load_inputs(recipe), 42, RunFolder(folder))


@pytest.mark.parametrize("way", WAYS)
def test_every_way_trains_and_leaves_a_plain_encoder(way: str, write, tmp_path: Path):
    model, loss = WAYS[way]
    evaluate = {"during": {"name": "knn", "k": 5, "rows": 100}, "data": "sample:digits"}
    result = train(load_recipe(write(model=model, loss=loss, evaluate=evaluate)), tmp_path / "run")
    folder = tmp_path / "run"
    kept = weights(folder)
    assert not [key for key in kept if "head" in key or "projector" in key or "predictor" in key or "queue" in key]
    assert set(kept) == set(AutoModel.from_pretrained(folder / "model").state_dict())
    assert SentenceTransformer(str(folder / "model")).get_embedding_dimension() == 16
    assert result.of_images and (folder / "views.png").is_file()
    assert not (folder / "model" / "assets").exists(), "images of the training data"
    assert not (folder / "model" / "README.md").exists(), "the library's card, which is of texts"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["broken_images_left_out"] == 0 and 0 <= manifest["waited_for_data"] < 1
    assert 0 < manifest["evaluated"] < 1
    assert any(key.startswith("knn") for key in manifest["best"] if key != "step")
    assert all(parameter.isfinite().all() for parameter in kept.values())


@pytest.mark.parametrize(("way", "accumulated"), [("SimCLR", 2), ("MoCo", 2), ("MoCo v3", 1)])
def test_resumed_is_uninterrupted_bit_by_bit(way: str, accumulated: int, write, tmp_path: Path):
    """Augmentations, BatchNorm, moving average, its schedule and the queue, with workers that load data."""
    model, loss = WAYS[way]
    settings = {"gradient_accumulation_steps": accumulated, "dataloader_num_workers": 2}
    recipe = load_recipe(write(model=model, loss=loss, train=settings))
    train(recipe, tmp_path / "whole")
    folder = shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(folder / "model")
    shutil.rmtree(folder / "checkpoints" / f"checkpoint-{STEPS}")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"state": "interrupted"}))
    train(recipe, folder, resume=True)
    assert same(weights(folder), weights(tmp_path / "whole"))
    assert (folder / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_killed_run_goes_on(write, tmp_path: Path):
    file = write(train={"max_steps": 8, "dataloader_num_workers": 1})
    train(load_recipe(file), tmp_path / "whole")
    process = forked.fmicl("train", file, "--output", tmp_path / "run", output=tmp_path / "log")
    while not list((tmp_path / "run").glob("checkpoints/checkpoint-[24]")) and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert main(["train", str(file), "--output", str(tmp_path / "run"), "--resume", "-q"]) == 0
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_workers_change_nothing(write, tmp_path: Path):
    train(load_recipe(write()), tmp_path / "none")
    train(load_recipe(write(train={"dataloader_num_workers": 2})), tmp_path / "two")
    assert same(weights(tmp_path / "none"), weights(tmp_path / "two"))


def test_accumulation_moves_the_average_once_a_step(write, tmp_path: Path):
    trainer = trainer_of(
        write, tmp_path, loss={"momentum": 0.5}, train={"gradient_accumulation_steps": 3, "max_steps": 2}
    )
    moves = []
    follow = trainer.loss.queue.follow
    trainer.loss.queue.follow = lambda *args: (moves.append(1), follow(*args))
    trainer.train()
    assert len(moves) == 2


def test_nothing_of_one_dimension_decays_and_frozen_weights_stay(write, tmp_path: Path):
    frozen = {"scratch": VIT, "freeze": ["embeddings.patch_embeddings"]}
    trainer = trainer_of(write, tmp_path, model=frozen, train={"weight_decay": 0.5, "optim": "adamw_torch"})
    optimizer = trainer.create_optimizer()
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    for name, parameter in trainer.loss.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim > 1 and parameter.requires_grad), name
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        stays = "patch_embeddings" in name or "pooler" in name  # whose output nothing reads
        assert torch.equal(parameter, before[name]) == stays, name


def test_batch_norm_of_an_encoder_does_not_decay(write, tmp_path: Path):
    trainer = trainer_of(write, tmp_path)
    names = trainer.get_decay_parameter_names(trainer.loss)
    assert names and not [name for name in names if "normalization" in name or "bias" in name]


def test_a_lone_last_image_is_left_out_as_batch_norm_cannot_normalise_it(write, tmp_path: Path):
    settings = {"max_steps": -1, "num_train_epochs": 1}
    trainer = trainer_of(write, tmp_path, data={"rows": 21}, train=settings)
    assert trainer.args.dataloader_drop_last and len(trainer.get_train_dataloader()) == 2


@pytest.mark.parametrize("optim", ["sgd", "lars"])
def test_optimisers(optim: str, write, tmp_path: Path):
    trainer = trainer_of(write, tmp_path, train={"optim": optim, "optim_args": "momentum=0.9", "learning_rate": 0.1})
    optimizer = trainer.create_optimizer()
    assert type(optimizer).__name__.lower() == optim and optimizer.param_groups[0]["momentum"] == 0.9
    trainer.train()
    assert trainer.state.global_step == STEPS


def test_lars_leaves_out_what_has_one_dimension():
    """With a gradient equal to the weight, the layer-wise rate shows in matrices alone."""
    from pytorch_optimizer import LARS

    matrix, vector = (torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,)))
    for parameter in (matrix, vector):
        parameter.grad = torch.full_like(parameter, 5.0)
    LARS([matrix, vector], lr=1.0, momentum=0.0, weight_decay=0.1, trust_coefficient=0.001).step()
    trust = 0.001 * 2 / (10 + 0.1 * 2)
    torch.testing.assert_close(matrix.data, torch.full((2, 2), 1 - trust * (5 + 0.1)))
    torch.testing.assert_close(vector.data, torch.full((2,), 1 - 5.0))


def test_the_plan_and_the_command(write, tmp_path: Path, capsys: pytest.CaptureFixture):
    file = write(data={"rows": 8})
    planned = plan(load_recipe(file))
    assert (planned.image_size, planned.max_seq_length, planned.sources[""].rows) == (32, None, 8)
    assert any("fewer images (8) than a batch" in warning for warning in planned.warnings)
    queues = {90: "loss.queue: holds 90 keys, and an epoch has 80", 20: "loss.queue: holds 20 keys, no more than"}
    for size, said in queues.items():
        [warning] = plan(load_recipe(write(data={"rows": 40}, loss={"queue": size}))).warnings
        assert warning.startswith(said)
    assert not plan(load_recipe(write(data={"rows": 40}, loss={"queue": 80}))).warnings
    write(data={"rows": 8})
    assert main(["train", str(file), "--dry-run"]) == 0
    assert "images of 32 pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"loss": {"mini_batch_size": 2}}, "mini_batch_size must be None with BatchNorm"),
        ({"loss": {"objective": "contextual-infonce"}}, "needs explicit negatives: views of images have none"),
        (
            {"data": {"rows": 8}, "train": {"dataloader_drop_last": True}},
            "data.train: 8 rows, fewer than a batch of 10, and by train.dataloader_drop_last",
        ),
        (
            {"data": {"rows": 21}, "train": {"dataloader_drop_last": False}},
            "train.dataloader_drop_last: false leaves a last batch of one row in an epoch, and BatchNorm cannot",
        ),
        ({"train": {"optim": "lars", "optim_args": "trust=1"}}, "train.optim_args: lars is not given trust; there are"),
        ({"data": {"views": "dropout"}}, "model.scratch: is an encoder of images"),
        ({"model": {"image_size": None}}, "model.image_size: is needed with scratch"),
        ({"model": {"scratch": None}}, "model.base: is missing"),
        ({"data": {"broken": "skip", "views": "columns"}}, "data.broken: is for images"),
        ({"data": {"augment": {"crop": [0.5, 0.1]}}}, "augment.crop: must begin with the smaller number"),
        ({"data": {"augment": {"second": {"blurr": 1}}}}, "augment.second.blurr"),
        ({"data": {"augment": {"rotations": 5}}}, 'unknown key .did you mean "rotation"'),
        ({"data": {"streaming": True}}, "is for texts; images are decoded once"),
        ({"model": PREDICTOR}, "predictor is for a loss whose positives"),
    ],
)
def test_recipes_that_cannot_run(sections: dict, why: str, write, tmp_path: Path):
    with pytest.raises(InputError, match=why):
        train(load_recipe(write(**sections)), tmp_path / "run")


def test_text_encoders_do_not_read_images(write, tiny_encoder_path: Path, tmp_path: Path):
    text = {"scratch": None, "image_size": None, "base": str(tiny_encoder_path)}
    with pytest.raises(InputError, match="the encoder does not read images"):
        train(load_recipe(write(model=text)), tmp_path / "run")


def test_a_report_shows_views_neighbours_and_a_map(write, tmp_path: Path):
    after = [{"name": "images", "train": "sample:digits", "rows": 100, "k": 5, "baselines": True}]
    train(load_recipe(write(evaluate={"after": after}, train={"max_steps": 2})), tmp_path / "run")
    result = read_result(tmp_path / "run" / "results" / "images.json")
    assert {score.name for score in result.scores} >= {"kNN", "linear", "kNN, raw pixels", "linear, random encoder"}
    page = write_report(read_report([tmp_path / "run"]), tmp_path / "report").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "the two views of each" in page and "nearest neighbours" in page and "t-SNE" in page


SHIPPED = [name for name in shipped_recipes() if name.startswith(("vision/cifar10", "vision/imagenet", "vision-"))]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_trains_on_a_few_images(name: str, tmp_path: Path):
    """With model and data swapped for tiny ones, every loss, projector, augmentation and setting is used as shipped."""
    shipped = load_recipe(name)
    scratch = VIT if shipped.model.scratch.type == "vit" else RESNET
    overrides = {
        "model.scratch": json.dumps(scratch),
        "model.image_size": 32,
        "data.train": "sample:digits",
        "data.columns.anchor": "image",
        "data.rows": 32,
        "train.max_steps": 2,
        "train.per_device_train_batch_size": 8,
        "train.dataloader_num_workers": 0,
        "evaluate": "{during: null}",
    }
    recipe = load_recipe(name, [f"{key}={value}" for key, value in overrides.items()])
    run = train(recipe.model_copy(update={"seeds": [1]}), tmp_path / "run").seeds[0].folder
    losses = [json.loads(line)["train_loss"] for line in run.metrics.read_text().splitlines() if "train_loss" in line]
    assert len(losses) == 1 and torch.isfinite(torch.tensor(losses)).all()
