"""Recipes with several sources: one a batch, drawn as asked, by its own loss; resumed bit by bit; scored by source."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.utils.data import ConcatDataset, RandomSampler

from fmicl_text.cli import main
from fmicl_text.data.drawing import by_weight
from fmicl_text.encoders.text import load_model
from fmicl_text.errors import InputError
from fmicl_text.evaluation.results import read_result
from fmicl_text.evaluation.retrieval import retrieve
from fmicl_text.hub.card import model_card
from fmicl_text.hub.source import find_source
from fmicl_text.losses.columns import SOURCE
from fmicl_text.losses.identities import identities
from fmicl_text.recipe.file import dump_recipe, load_recipe
from fmicl_text.recipe.schema import PublishSection, Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.build import check_build
from fmicl_text.training.callbacks import MetricsFile
from fmicl_text.training.inputs import load_heldouts, load_inputs
from fmicl_text.training.mixed_batches import OwnRows, WeightedBatchSampler
from fmicl_text.training.numbered_rows import ROWS
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")

PLACES = ("park", "house", "river", "mountain", "city", "street")
ANIMALS = ("dog", "cat", "horse", "man", "woman", "child")
RECIPE = """\
name: mixed
model: {base: BASE}
data:
  train:
    - train: questions.jsonl
      columns: {anchor: question, positive: answer}
      heldout: 0.3
      prompts: {query: "the ", document: "a "}
      weight: 2
    - name: labels
      train: labelled.jsonl
      columns: {anchor: text, group: label}
      views: group
      heldout: 0.3
      weight: 1
      loss: {objective: infonce, temperature: 0.2, learn_kernel: true, queue: 8}
loss: {objective: fmicl, alpha: auto}
train: {per_device_train_batch_size: 4, max_steps: 8, logging_steps: 1, learning_rate: 1.0e-3, bf16: false}
evaluate: {during: heldout, every_steps: 3, after: [heldout]}
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_encoder_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with two sources in the current folder: pairs, and texts with labels."""
    monkeypatch.chdir(tmp_path)
    pairs = [{"question": f"{a} in {p}", "answer": f"{p} with {a}"} for a in ANIMALS for p in PLACES]
    texts = [{"text": f"{a} on {p}", "label": a} for a in ANIMALS[:4] for p in PLACES]
    for name, rows in (("questions", pairs), ("labelled", texts)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = Path("mixed.yaml")
    file.write_text(RECIPE.replace("BASE", str(tiny_encoder_path)))
    return file


class Interrupted(Exception):
    """Stands for a crash."""


def whole_and_resumed(settings: Recipe, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Train without a stop, and again with a crash at step 5; both must be the same. Return the former."""
    whole = train(settings, Path("whole")).seeds[0].folder
    original = MetricsFile.on_log

    def crash_at_five(self: MetricsFile, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        original(self, args, state, control, **kwargs)
        if state.global_step == 5:  # after the checkpoint of step 3
            raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(MetricsFile, "on_log", crash_at_five)
        train(settings, Path("again"))
    again = train(settings, Path("again"), resume=True).seeds[0].folder
    expected, actual = (load_file(run.model / "model.safetensors") for run in (whole, again))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert whole.metrics.read_text() == again.metrics.read_text()
    return whole


def test_resumed_streams_are_the_uninterrupted_ones(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    pairs = "train: questions.jsonl, columns: {anchor: question, positive: answer}"
    texts = "name: texts, train: labelled.jsonl, columns: {anchor: text}, views: dropout"
    data = f"data={{train: [{{{pairs}, streaming: true}}, {{{texts}, streaming: true}}]}}"
    with pytest.raises(InputError, match=r"data.train\[0\].weight: is needed: a stream has no size"):
        load_recipe(recipe, [data])
    in_turn = "train.multi_dataset_batch_sampler=round_robin"
    whole = whole_and_resumed(
        load_recipe(recipe, [data, in_turn, "evaluate={during: null, every_steps: 3}", "loss={objective: fmicl}"]),
        monkeypatch,
    )
    logged = [json.loads(line) for line in whole.metrics.read_text().splitlines()]
    assert [key for entry in logged for key in entry if key.endswith("/positive")] == [
        "questions/positive",
        "texts/positive",
    ] * 4
    temperatures = [key for entry in logged for key in entry if key.endswith("temperature")]
    assert temperatures == ["questions/temperature", "texts/temperature"] * 4  # of each batch's own data


def test_a_resumed_mixture_is_the_uninterrupted_one(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    settings = load_recipe(recipe)
    whole = whole_and_resumed(settings, monkeypatch)
    logged = [json.loads(line) for line in whole.metrics.read_text().splitlines()]
    sources = [{key.partition("/")[0] for key in entry if key.endswith("/positive")} for entry in logged]
    drawn = [of_step.pop() for of_step in sources if len(of_step) == 1]
    assert drawn == [("questions", "labels")[number] for number in islice(by_weight([2, 1]), 8)]
    scores = {key for entry in logged for key in entry if key.startswith("eval_heldout") and "mrr" in key}
    assert scores == {f"eval_heldout_{of}cosine_mrr@10" for of in ("", "questions_", "labels_")}
    facts = json.loads(whole.manifest.read_text())
    assert facts["data"].keys() == {
        f"{part} {of}" for part in ("training", "held-out") for of in ("questions", "labels")
    }

    pairs = load_heldouts(settings)["questions"]
    prompted = [
        [prompt + text for text in pairs[column][:]] for prompt, column in (("the ", "anchor"), ("a ", "positive"))
    ]
    alone = retrieve(SentenceTransformer(str(whole.model)), *prompted).result
    score = read_result(whole.result("heldout")).score("questions MRR@10")
    assert score.value == pytest.approx(alone.scores[0].value), "with the source's prompts, among its own documents"

    card = str(
        model_card(
            find_source(whole.path),
            PublishSection(repo="me/tiny", license="mit"),
            load_model(str(whole.model)),
            adapter=False,
        )
    )
    assert "by f-MICL and InfoNCE with fmicl-text" in card
    for row in (
        "questions: data | questions.jsonl",
        'questions: prompts | query: "the ", document: "a "',
        "questions: weight | 2.0",
        "labels: temperature | 0.2",
        "labels: data | labelled.jsonl",
        "labels: columns | anchor: text, group: label",
    ):
        assert f"| {row} |" in card, card


def test_a_source_may_have_its_own_matryoshka_and_an_override_leads_into_the_list(recipe: Path):
    own = "data.train.1.loss={objective: infonce, matryoshka: {dims: [32, 8]}}"
    settings = load_recipe(recipe, [own, "data.train.0.rows=20", "loss={objective: fmicl}"])
    assert [source.rows for source in settings.data.train] == [20, None]
    losses = check_build(settings, load_inputs(settings)).loss
    assert [type(losses[name]).__name__ for name in ("questions", "labels")] == ["FMICLLoss", "MatryoshkaLoss"]
    shared = load_recipe(
        recipe, ["data.train.1.loss={objective: infonce}", "loss={objective: fmicl, matryoshka: {dims: [32, 4]}}"]
    )
    assert {shared.matryoshka_of(name).dims[1] for name in ("questions", "labels")} == {4}, "the recipe's holds for all"
    for override, problem in (
        ("data.train.2.rows=20", "data.train is a list of 2, whose items are numbered from 0"),
        ("data.train.labels.rows=20", "data.train is a list of 2, whose items are numbered from 0"),
        ("data.train.1.weight=0", "data.train[1].weight: must be greater than 0, got 0"),
        ("data.train.1.weight.x=0", "data.train[1].weight is a value, it has no keys"),
    ):
        with pytest.raises(InputError) as caught:
            load_recipe(recipe, [override])
        assert caught.value.problems == [f"--set {override}: {problem}"]


def test_a_dry_run_shows_every_source(recipe: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", str(recipe), "--dry-run", "--set", "evaluate.after=[]"]) == 0
    printed = capsys.readouterr().out
    assert "2 sources; each batch is of one, drawn by weight" in printed
    of_labels = next(line for line in printed.splitlines() if line.split()[:1] == ["labels"])
    assert "rows of anchor, positive, group" in of_labels and "InfoNCELoss(" in of_labels and "weight 1" in of_labels


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("weight: 1\n", "wieght: 1\n", '15: data.train[1].wieght: unknown key (did you mean "weight"?)'),
        ("weight: 1\n", "rows: 20\n", "10: data.train[1].weight: is missing: give all sources a weight, or none"),
        ("weight: 1\n", "weight: 0\n", "15: data.train[1].weight: must be greater than 0, got 0"),
        (
            "name: labels",
            "name: questions",
            '10: data.train[1].name: must differ from that of other sources, got "quest',
        ),
        ("name: labels", "name: a/b", "10: data.train[1].name: must be letters, digits"),
        ("views: group", "views: augment", "13: data.train[1].views: augment is for images, which train alone"),
        ("text, group: label}", "text}", "12: data.train[1].columns.group: is the column of the label"),
        ("infonce, temp", "infonc, temp", "16: data.train[1].loss.objective: must be"),
        ("temperature: 0.2", "temperature: -1", "16: data.train[1].loss.temperature: must be greater than 0, got -1"),
        ("query:", "qery:", '8: data.train[0].prompts.qery: unknown key (did you mean "query"?)'),
        ("max_steps: 8", "multi_dataset_batch_sampler: round_robin", "18: train.multi_dataset_batch_sampler: is given"),
    ],
)
def test_a_mistake_in_a_source_is_told_with_its_line(recipe: Path, before: str, after: str, problem: str):
    text = recipe.read_text()
    assert before in text
    recipe.write_text(text.replace(before, after))
    with pytest.raises(InputError) as caught:
        load_recipe(recipe)
    assert any(found.startswith(f"mixed.yaml:{problem}") for found in caught.value.problems), caught.value.problems


def test_a_list_of_one_source_and_a_way_to_draw_from_one_are_refused(recipe: Path):
    one = "{train: a.csv, columns: {anchor: a, positive: b}}"
    with pytest.raises(InputError, match=r"data.train: must have 2 items or more"):
        load_recipe(recipe, [f"data.train=[{one}]"])
    with pytest.raises(InputError, match=r"train.multi_dataset_batch_sampler: draws from several sources"):
        load_recipe(recipe, [f"data={one}", "train={multi_dataset_batch_sampler: round_robin}"])


def test_a_resolved_mixture_loads_as_it_is(recipe: Path):
    settings = load_recipe(recipe)
    Path("again.yaml").write_text(dump_recipe(settings))
    assert load_recipe("again.yaml") == settings
    assert settings.pinned(None, {"labels": "abc"}).data.train[1].revision == "abc"


def weighted(sizes: list[int], weights: list[float], batch: int = 4) -> WeightedBatchSampler:
    datasets = [Dataset.from_dict({"n": list(range(size))}) for size in sizes]
    generator = torch.Generator()
    samplers = [
        DefaultBatchSampler(RandomSampler(rows, generator=generator), batch_size=batch, drop_last=False)
        for rows in datasets
    ]
    joined = ConcatDataset(datasets)
    return WeightedBatchSampler(joined, batch_samplers=samplers, generator=generator, seed=3, weights=weights)


def test_weighted_batches():
    """Of one source each, in their proportions, every row of a source as often as any other over the epochs."""
    sampler = weighted([12, 40], [3, 1])
    drawn: Counter[int] = Counter()
    epochs = []
    for epoch in range(8):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == 13 and all(len({row < 12 for row in batch}) == 1 for batch in batches)
        assert sum(batch[0] < 12 for batch in batches) == 10
        drawn.update(row for batch in batches for row in batch)
        epochs.append(batches)
    assert {drawn[row] for row in range(12)} <= {26, 27} and {drawn[row] for row in range(12, 52)} <= {2, 3}
    passes = [row for batch in epochs[0] for row in batch if row < 12]
    assert sorted(passes[:12]) == sorted(passes[12:24]) == list(range(12)) and passes[:12] != passes[12:24]
    sampler.set_epoch(5)
    assert list(sampler) == epochs[5], "an epoch that is resumed is the same"


def test_equal_weights_draw_in_turn_and_any_stretch_has_the_shares():
    assert list(islice(by_weight([1, 1, 1]), 7)) == [0, 1, 2, 0, 1, 2, 0]
    weights = [5.0, 2.5, 0.5]
    order = list(islice(by_weight(weights), 960))
    for start in range(0, 960, 96):
        counts = Counter(order[start : start + 96])
        assert [counts[source] for source in range(3)] == [60, 30, 6]


def test_processes_have_parts_of_the_same_batch():
    sampler = weighted([16, 32], [1, 1], batch=8)
    parts = [list(OwnRows(sampler, process, 2)) for process in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == list(sampler) and len(parts[0][0]) == 4


@pytest.mark.parametrize("drawn", ["proportional", "round_robin"])
def test_a_batch_has_the_rows_of_one_source(recipe: Path, drawn: str):
    """In the library's own ways of drawing too; each batch has the name of its source, and row numbers within it."""
    changes = {"weight:": "rows: 18 #", "heldout: 0.3": "", "max_steps: 8": f"multi_dataset_batch_sampler: {drawn}"}
    text = recipe.read_text()
    for before, after in changes.items():
        text = text.replace(before, after)
    recipe.write_text(text)
    settings = load_recipe(recipe, ["evaluate={during: null}", "seeds=[43]"])
    inputs = load_inputs(settings)
    trainer = check_build(settings, inputs)
    seen: dict[str, list[int]] = {"questions": [], "labels": []}
    order = []
    for batch in trainer.get_train_dataloader():
        order.append(batch[SOURCE])
        seen[batch[SOURCE]] += batch[ROWS].tolist()
        texts = inputs.train[batch[SOURCE]]["anchor"][:]
        found = batch["anchor_identity"].reshape(len(batch[ROWS]), -1)[:, 0]
        assert torch.equal(found, identities([texts[row] for row in batch[ROWS]]))
    whole = {name: list(range(len(rows))) for name, rows in inputs.train.items()}
    assert {name: sorted(rows) for name, rows in seen.items()} == whole, "five batches of each, the last of two rows"
    assert (order == ["questions", "labels"] * 5) == (drawn == "round_robin")
