"""kNN and the linear probe of images, against independent references; what evaluation must leave alone."""

from __future__ import annotations

import tracemalloc
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from test_image_encoder import RESNET, encoder

from fmicl_text.cli import main
from fmicl_text.errors import InputError
from fmicl_text.evaluation.dimensions import measure_at
from fmicl_text.evaluation.images import LabelledImages, check_classes, embed_images, linear, measure_images, nearest
from fmicl_text.evaluation.kind import Effort, Given, Loaded
from fmicl_text.evaluation.kinds.images import OfImages
from fmicl_text.evaluation.registry import evaluation
from fmicl_text.evaluation.scored_model import ScoredModel

SIZE, CLASSES = 8, 4


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache")


def a_file() -> bytes:
    """Return an image as it lies in a file."""
    Image.new("RGB", (SIZE, SIZE)).save(content := BytesIO(), "png")
    return content.getvalue()


def clouds(n: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    centres = np.random.default_rng(99).normal(size=(CLASSES, 6))
    return (centres[labels] + spread * rng.normal(size=(n, 6))).astype(np.float32), labels


def test_knn_against_scikit_learn():
    bank, classes = clouds(200, 0)
    test, _ = clouds(100, 1)
    reference = KNeighborsClassifier(7, metric="cosine", weights=lambda far: np.exp((1 - far) / 0.07))
    expected = reference.fit(bank, classes).predict(test)
    assert (nearest(bank, classes, test, [[]] * len(test), k=7) == expected).all()


def test_knn_by_hand():
    """One near neighbour outvotes two farther ones if the temperature is low, and not if it is high."""
    bank = np.array([[1, 0.1], [1, 0.5], [1, -0.5]], np.float32)
    classes, test = np.array([0, 1, 1]), np.array([[1, 0.0]], np.float32)
    assert nearest(bank, classes, test, [[]] * len(test), k=3, temperature=0.01).tolist() == [0]
    assert nearest(bank, classes, test, [[]] * len(test), k=3, temperature=10).tolist() == [1]
    assert nearest(bank, classes, test, [[]] * len(test), k=200, temperature=10).tolist() == [1], "of fewer all vote"


def test_knn_of_many_classes_takes_little_memory():
    bank, test = np.eye(1000, dtype=np.float32), np.eye(1000, dtype=np.float32)[:64]
    tracemalloc.start()
    predicted = nearest(bank, np.arange(1000), test, [[]] * len(test))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (predicted == np.arange(64)).all() and peak < 10e6  # a vote of each neighbour for each class takes 100 MB


def test_linear_against_scikit_learn_in_more_dimensions_than_rows():
    """The rotation into the span of the rows changes nothing."""
    rng = np.random.default_rng(0)
    bank, classes = clouds(40, 0)
    lift = rng.normal(size=(6, 300)).astype(np.float32)
    noise = rng.normal(size=(40, 300)).astype(np.float32)
    wide, asked = bank @ lift + noise, clouds(100, 1)[0] @ lift
    predicted, c = linear(wide, classes, asked)
    mean, sd = wide.mean(axis=0), wide.std(axis=0)
    plain = LogisticRegression(C=c, tol=1e-6, max_iter=5000).fit((wide - mean) / sd, classes)
    assert (plain.predict((asked - mean) / sd) == predicted).mean() > 0.97
    assert c in (0.001, 0.01, 0.1, 1.0, 10.0)


def test_linear_with_more_classes_than_a_fifth_of_many_images():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(1700), 3)
    bank = rng.normal(size=(len(classes), 2)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fmicl_text.evaluation.images._MANY", 90)
        predicted, _ = linear(bank[:90], classes[:90], bank[:10])
    assert predicted.shape == (10,)


def images(n: int, seed: int, shuffled: bool = False) -> Dataset:
    """Noisy images of a brightness that depends on the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    noise = rng.integers(0, 20, (n, SIZE, SIZE, 3))
    pixels = (noise + 55 * labels[:, None, None, None]).astype(np.uint8)
    named = rng.permutation(labels) if shuffled else labels
    return Dataset.from_dict({"image": [p.tobytes() for p in pixels], "label": list(map(str, named))})


def measured(bank: Dataset, test: Dataset, model=None, **options):
    asked = OfImages.model_validate({"name": "images", "train": "x", "k": 5} | options)
    model = model or encoder(RESNET, image_size=SIZE)
    data = LabelledImages(bank, test, SIZE)
    return measure_images(ScoredModel(model, "m", None), Effort(16), lambda _: data, data, asked, "x")


def values(found) -> dict[str, float]:
    return {score.key: score.value for score in found.result.scores}


def test_classes_are_found_and_shuffled_labels_give_chance():
    found = values(measured(images(80, 0), images(60, 1), baselines=True))
    assert found["kNN accuracy"] > 50 and found["linear accuracy"] > 90 and found["linear, raw pixels accuracy"] > 90
    chance = values(measured(images(400, 0, shuffled=True), images(400, 1), baselines=True))
    accuracies = [value for key, value in chance.items() if key.endswith("accuracy")]
    assert len(accuracies) == 6 and all(abs(value - 100 / CLASSES) < 10 for value in accuracies), chance


def test_fewer_dimensions_are_measured_of_the_encoder_alone():
    data = LabelledImages(images(40, 0), images(20, 1), SIZE)
    asked = OfImages(name="knn", train="x", k=5, baselines=True)
    measure = partial(measure_images, load=lambda _: data, at_hand=data, options=asked, source="x")
    model = ScoredModel(encoder(RESNET, image_size=SIZE), "m", None)
    found = measure_at(Loaded(measure, {}), model, Effort(16), [4])
    names = [score.name for score in found.result.scores]
    assert names == ["kNN", "kNN, raw pixels", "kNN, random encoder", "kNN at 4 dimensions"]


def test_a_query_never_votes_for_itself():
    """Test images are those of the bank: with labels at random, each would find itself and be right."""
    rows = images(200, 0, shuffled=True)
    found = measured(rows, rows, name="knn", k=1)
    assert values(found)["kNN accuracy"] < 40
    bank, classes = clouds(50, 0)
    same = nearest(bank, classes, bank, [[row] for row in range(50)], k=1)
    reference = [classes[np.argsort(-(one @ bank.T) / np.linalg.norm(bank, axis=1))] for one in bank]
    assert (same == [order[1] for order in reference]).all()


def test_evaluation_leaves_the_encoder_as_it_was():
    model = encoder(RESNET, image_size=SIZE).train()
    model[0].eval()  # parts may be in different modes
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    measured(images(40, 0), images(20, 1), model, baselines=True)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes


def test_embeddings_are_those_of_eval_mode_in_batches_of_any_size():
    model = encoder(RESNET, image_size=SIZE).train()
    rows = images(10, 0)
    one, many = (embed_images(model, rows, SIZE, Effort(size)) for size in (1, 7))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_draws_of_labels():
    found = measured(images(200, 0), images(60, 1), labels_per_class=5, draws=4)
    scores = {score.key: score for score in found.result.scores}
    assert scores["kNN sd over draws of the labels"].n == 4
    (part,) = found.items["kNN accuracy"]
    assert set(np.unique(part.values * 4)) <= {0, 1, 2, 3, 4}, "the share of the draws in which an image is right"
    assert scores["kNN accuracy"].value == pytest.approx(100 * part.values.mean())
    assert scores["kNN accuracy"].ci95[0] <= scores["kNN accuracy"].value <= scores["kNN accuracy"].ci95[1]
    assert len(found.result.details["C"]["linear"]) == 4


def test_what_an_encoder_adds_is_tested_in_pairs():
    above = measured(images(80, 0), images(60, 1), baselines=True).result.details["above"]
    assert set(above) == {f"{m}, {s}" for m in ("kNN", "linear") for s in ("raw pixels", "random encoder")}
    assert all(one["ci95"][0] <= one["difference"] <= one["ci95"][1] for one in above.values())
    # The encoder is random here, so it is no better than another random one.
    assert above["kNN, random encoder"]["p_value"] > 0.01


def test_the_names_of_the_kind():
    assert evaluation("knn").methods == ("kNN",) and evaluation("linear").methods == ("linear",)
    assert evaluation("images").methods == ("kNN", "linear")
    loaded = evaluation({"name": "knn", "train": "sample:digits"}).load(Given(image_size=8))
    assert list(loaded.offers) == ["kNN accuracy"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"name": "knn"}, "needs images with labels"),
        ({"name": "knn", "train": "a.parquet"}, "a.parquet: no such file"),
        ({"name": "knn", "train": __file__}, "has no splits; name other images"),
        ({"name": "knn", "train": __file__, "test": __file__}, "cannot be train and test"),
    ],
)
def test_evaluations_that_lack_something(asked: dict, why: str):
    with pytest.raises(InputError, match=why):
        evaluation(asked).load(Given())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture):
    encoder(RESNET, image_size=8).save_pretrained(str(tmp_path / "model"))
    command = [
        "eval",
        "images",
        str(tmp_path / "model"),
        "--train",
        "sample:digits",
        "--rows",
        "100",
        "--method",
        "knn",
    ]
    assert main([*command, "--k", "5", "--baselines", "--output", str(tmp_path / "result.json")]) == 0
    assert "raw pixels" in capsys.readouterr().out
    assert (tmp_path / "result.neighbours.png").is_file() and (tmp_path / "result.map.png").is_file()


def test_an_encoder_of_texts_is_told_so(tiny_encoder, tmp_path: Path):
    data = LabelledImages(images(8, 0), images(8, 1), SIZE)
    asked = OfImages(name="knn", train="x")
    with pytest.raises(InputError, match="does not read images"):
        measure_images(ScoredModel(tiny_encoder, "m", None), Effort(), lambda _: data, data, asked, "x")


@pytest.mark.parametrize(
    ("labels", "asked", "why"),
    [
        ("aaa", {"name": "knn"}, 'all 3 images are of the class "a"'),
        ("aaab", {}, 'the class "b" has 1 image; a linear classifier needs 3 .*--method knn'),
        ("aaabbb", {"labels_per_class": 2}, "has 3 images, of which labels_per_class takes 2; a linear"),
        ("aaabbb", {"name": "knn", "labels_per_class": 4}, "has 3 images, and labels_per_class asks for 4"),
    ],
)
def test_classes_that_cannot_be_told_apart_as_asked(labels: str, asked: dict, why: str):
    with pytest.raises(InputError, match=f"^b.parquet: .*{why}"):
        check_classes(list(labels), OfImages.model_validate({"name": "images"} | asked), "b.parquet")
    check_classes(list("aaabbb"), OfImages(name="images", labels_per_class=3), "b.parquet")
    check_classes(list("aab"), OfImages(name="knn"), "b.parquet")


def test_classes_that_no_labelled_image_has_are_named(tmp_path: Path):
    files = {"bank": [2.0, 2.0, 3.0, 3.0], "test": ["2", "3", "4", "4", "5"]}
    for name, labels in files.items():
        table = pa.table({"image": [a_file()] * len(labels), "label": labels})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    bank, test = (str(tmp_path / f"{name}.parquet") for name in files)
    with pytest.raises(InputError, match=r'test.parquet: has classes .*bank.parquet .*: "4" \(2\), "5" \(1\)$'):
        evaluation({"name": "knn", "train": bank, "test": test}).load(Given(image_size=8))


def test_the_record_has_the_neighbours_that_voted():
    few = measured(images(80, 0), images(8, 1), name="knn", k=1000, labels_per_class=2)
    assert few.result.facts["k"] == 2 * CLASSES
    with pytest.raises(ValueError, match="needs labels_per_class"):
        OfImages(name="knn", draws=3)


def test_a_broken_image_to_classify_is_no_matter_of_a_recipe(tmp_path: Path):
    file = tmp_path / "broken.parquet"
    Dataset.from_dict({"image": [b"no image", a_file()], "label": ["a", "b"]}).to_parquet(file)
    with pytest.raises(InputError, match=r"is no image[\s\S]*replace such images, .* of what knn reads") as error:
        evaluation({"name": "knn", "train": str(file), "test": "sample:digits"}).load(Given(image_size=8))
    assert "data.broken" not in str(error.value)


def test_an_encoder_of_images_is_told_so_by_evaluations_of_texts():
    from fmicl_text.evaluation.embeddings import embed
    from fmicl_text.evaluation.geometry import measure_pair_set
    from fmicl_text.evaluation.mteb.model import wrapped
    from fmicl_text.evaluation.pair_sets import stsb_pair_set
    from fmicl_text.evaluation.retrieval import Search, measure_retrieval

    scored = ScoredModel(encoder(RESNET, image_size=8), "m", None)
    pairs = stsb_pair_set("sample:stsb")
    search = {"": Search(queries=["a"], documents=["b"])}
    for ask in (
        lambda: embed(scored.encoder, ["a text"]),
        lambda: measure_pair_set(scored, Effort(), pairs),
        lambda: measure_retrieval(scored, Effort(), search),
        lambda: wrapped(scored),
    ):
        with pytest.raises(InputError, match="the encoder reads images, and this evaluation is of texts"):
            ask()
