import json
import random
import shutil
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sklearn.metrics import average_precision_score
from words import WORDS

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import score
from fmicl_text.evaluation.scored_model import ScoredModel, scored_model
from fmicl_text.evaluation.statistics import bootstrap_interval
from fmicl_text.evaluation.sts import cosines
from fmicl_text.evaluation.sts import evaluate as evaluate_sts

mteb = pytest.importorskip("mteb")

from fmicl_text.evaluation.mteb.cache import Kept  # noqa: E402
from fmicl_text.evaluation.mteb.model import wrapped  # noqa: E402
from fmicl_text.evaluation.mteb.plan import Load, Speed, Texts, plan, task_load  # noqa: E402
from fmicl_text.evaluation.mteb.run import evaluate  # noqa: E402
from fmicl_text.evaluation.mteb.selection import (  # noqa: E402
    Selection,
    select_benchmark,
    select_suite,
    select_tasks,
)
from fmicl_text.evaluation.mteb.submission import check_submittable, write_submission  # noqa: E402

PUBLIC = ["STSBenchmark", "TwitterSemEval2015", "Banking77Classification", "SciFact"]
FOLDERS = {
    "STSBenchmark": "mteb/stsbenchmark-sts",
    "TwitterSemEval2015": "mteb/twittersemeval2015-pairclassification",
    "Banking77Classification": "mteb/banking77",
    "SciFact": "mteb/scifact",
}
SCIFACT_CARD = """\
---
configs:
- {config_name: default, data_files: [{split: test, path: qrels/test.jsonl}]}
- {config_name: corpus, data_files: [{split: corpus, path: corpus.jsonl}]}
- {config_name: queries, data_files: [{split: queries, path: queries.jsonl}]}
---
"""
OWN = """\
name: own
tasks:
  - {name: Pairs, type: sts, file: pairs.csv}
  - {name: Duplicates, type: pair-classification, file: pairs.csv}
  - {name: Moods, type: classification, train: train.csv, test: test.csv}
  - {name: Groups, type: clustering, file: test.csv}
  - {name: Search, type: retrieval, queries: queries.jsonl, corpus: corpus.jsonl, relevant: relevant.tsv}
"""


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Keeps the caches of mteb and datasets to the test, and fails whatever reaches for the network."""
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")

    def refuse(*_):
        pytest.fail("reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def rows():
    """Rows of tiny data sets of each kind, as plain values."""
    draw = random.Random(0)

    def sentence():
        return " ".join(draw.choices(WORDS, k=draw.randint(3, 12)))

    pairs = [(sentence(), sentence(), draw.randint(0, 25) / 5, draw.randint(0, 1)) for _ in range(60)]
    texts = [(sentence(), draw.randint(0, 2)) for _ in range(90)]
    corpus = {str(index): sentence() for index in range(40)}
    queries = {f"q{index}": sentence() for index in range(10)}
    relevant = [(query, draw.choice(list(corpus)), 1) for query in queries]
    return {
        "pairs": pairs,
        "train": texts[:60],
        "test": texts[60:],
        "corpus": corpus,
        "queries": queries,
        "relevant": relevant,
    }


def write_jsonl(path: Path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def hub(rows, tmp_path):
    """A folder that holds four of mteb's data sets, tiny, with the files and columns that the Hub has."""
    folder = tmp_path / "hub"
    firsts, seconds, scores, labels = (list(column) for column in zip(*rows["pairs"], strict=True))
    for task, split, columns in (
        ("STSBenchmark", "test", {"sentence1": firsts, "sentence2": seconds, "score": scores}),
        ("TwitterSemEval2015", "test", {"sent1": [firsts], "sent2": [seconds], "labels": [labels]}),  # one row of lists
    ):
        path = folder / FOLDERS[task] / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(columns), path)
    for split in ("train", "test"):
        records = [{"text": text, "label": label} for text, label in rows[split]]
        write_jsonl(folder / FOLDERS["Banking77Classification"] / f"{split}.jsonl", records)
    scifact = folder / FOLDERS["SciFact"]
    write_jsonl(scifact / "corpus.jsonl", [{"_id": key, "text": text} for key, text in rows["corpus"].items()])
    write_jsonl(scifact / "queries.jsonl", [{"_id": key, "text": text} for key, text in rows["queries"].items()])
    names = ("query-id", "corpus-id", "score")
    write_jsonl(scifact / "qrels" / "test.jsonl", [dict(zip(names, row, strict=True)) for row in rows["relevant"]])
    (scifact / "README.md").write_text(SCIFACT_CARD)
    return folder


@pytest.fixture
def own(rows, tmp_path):
    """The path of a suite of the same data as a user may have it."""
    folder = tmp_path / "own"
    folder.mkdir()
    lines = [f"{first},{second},{score},{label}" for first, second, score, label in rows["pairs"]]
    (folder / "pairs.csv").write_text("sentence1,sentence2,score,label\n" + "\n".join(lines))
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("text,label\n" + "\n".join(f"{text},c{n}" for text, n in rows[split]))
    for name in ("queries", "corpus"):
        write_jsonl(folder / f"{name}.jsonl", [{"id": key, "text": text} for key, text in rows[name].items()])
    lines = ["\t".join(map(str, row)) for row in rows["relevant"]]
    (folder / "relevant.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines))
    (folder / "own.yaml").write_text(OWN)
    return folder / "own.yaml"


def for_mteb(place: Path | str):
    """Load the encoder of a place for mteb."""
    return wrapped(scored_model(str(place)))


@pytest.fixture
def model(tiny_encoder_path):
    return for_mteb(tiny_encoder_path)


@pytest.fixture
def encoded(monkeypatch):
    """Every text that is encoded, with the prompt before it."""
    texts = []
    encode = SentenceTransformer.encode

    def recorded(self, inputs, *args, prompt=None, **kwargs):
        texts.extend((text, prompt) for text in inputs)
        return encode(self, inputs, *args, prompt=prompt, **kwargs)

    monkeypatch.setattr(SentenceTransformer, "encode", recorded)
    return texts


def scores(result, task):
    """All that mteb scored, as text: some of its metrics are NaN on data this small."""
    return json.dumps(result.results[task].scores, sort_keys=True)


# Scores


def test_a_public_task_on_local_files_has_scipys_score(model, hub, rows):
    result = evaluate(model, select_tasks(["STSBenchmark"], hub))
    firsts, seconds, gold, _ = zip(*rows["pairs"], strict=True)
    similarity = cosines(model.model.encode(list(firsts)), model.model.encode(list(seconds)))
    expected = spearmanr(gold, similarity).statistic
    assert result.missing == {}
    assert result.main_score("STSBenchmark") == pytest.approx(expected, abs=5.1e-7)  # mteb keeps six decimals
    assert result.average == result.main_score("STSBenchmark")


def test_own_tasks_are_scored_exactly_as_public_ones(model, hub, own):
    public, mine = evaluate(model, select_tasks(PUBLIC, hub)), evaluate(model, select_suite(own))
    assert public.missing == mine.missing == {}
    assert list(mine.results) == ["Pairs", "Duplicates", "Moods", "Groups", "Search"]
    for name, same in zip(["Pairs", "Duplicates", "Moods", "Search"], PUBLIC, strict=True):
        assert scores(mine, name) == scores(public, same)
        metric = mine.measured().result.score(name).metric
        assert metric == public.measured().result.score(same).metric and 0 < abs(mine.main_score(name)) < 1


def test_own_clusters_are_those_of_mtebs_task_on_all_texts(model, own, rows):
    from datasets import Dataset
    from mteb.abstasks import AbsTaskClustering

    texts, labels = zip(*rows["test"], strict=True)

    class Clusters(AbsTaskClustering):
        metadata = mteb.get_task("TwentyNewsgroupsClustering.v2").metadata
        max_fraction_of_documents_to_embed = None

    task = Clusters()
    task.dataset, task.data_loaded = {"test": Dataset.from_dict({"sentences": texts, "labels": labels})}, True
    theirs = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    mine = evaluate(model, select_suite(own))
    assert mine.main_score("Groups") == pytest.approx(theirs.get_score(), abs=5.1e-7)


def test_a_second_evaluation_in_the_same_process_gives_the_same(model, own, tmp_path, monkeypatch):
    """Clustering draws at random: the state of the draws must not go on from one model to the next."""
    selection = select_suite(own)
    first = evaluate(model, selection)
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "another"))
    again = evaluate(model, selection)
    assert all(scores(first, name) == scores(again, name) for name in first.results)


@pytest.mark.slow
def test_real_tasks_agree_with_the_suite_of_the_same_protocol(model, data_folder, tmp_path):
    (tmp_path / "sts").mkdir()
    for name, source in (("sts16", "sts16-sts"), ("stsb", "stsbenchmark-sts")):
        shutil.copy(data_folder / "sts" / f"{name}.parquet", tmp_path / "sts")
        table = pq.read_table(data_folder / "sts" / f"{name}.parquet")
        kept = [row for row in table.to_pylist() if row["split"] == "test" and row["score"] is not None]
        folder = tmp_path / "hub" / "mteb" / source
        folder.mkdir(parents=True)
        columns = {column: [row[column] for row in kept] for column in ("sentence1", "sentence2", "score")}
        pq.write_table(pa.table(columns), folder / "test.parquet")
    theirs = evaluate(model, select_tasks(["STS16", "STSBenchmark"], tmp_path / "hub"))
    ours = evaluate_sts(model.model, "sts7-mteb", str(tmp_path)).result
    assert {task.name for task in ours.scores} == set(theirs.results)
    for task in ours.scores:
        assert theirs.main_score(task.name) == pytest.approx(task.value / 100, abs=1e-4)


# Intervals, of what each item scored


def test_each_score_has_the_interval_of_its_own_items_or_a_reason(model, own, rows):
    result = evaluate(model, select_suite(own))
    embed = model.model.encode
    assert result.ci95.keys() == {"Pairs", "Duplicates", "Moods", "Search"}
    firsts, seconds, gold, labels = (list(column) for column in zip(*rows["pairs"], strict=True))
    similarity = cosines(embed(firsts), embed(seconds))
    expected = np.array(bootstrap_interval(np.array(gold), similarity)) / 100
    assert result.ci95["Pairs"] == pytest.approx(tuple(expected), abs=1e-6)
    (duplicates,) = result.items["Duplicates"]
    assert duplicates.gold.tolist() == labels
    assert average_precision_score(labels, duplicates.values) == pytest.approx(
        result.main_score("Duplicates"), abs=1e-6
    )
    (moods,) = result.items["Moods"]
    assert set(np.round(10 * moods.values, 9)) <= set(range(11)), "of mteb's ten classifiers"
    corpus, queries = list(rows["corpus"]), list(rows["queries"])
    unit = {name: embed(list(rows[name].values()), normalize_embeddings=True) for name in ("queries", "corpus")}
    ranked = np.argsort(-(unit["queries"] @ unit["corpus"].T), axis=1)
    gains = {}
    for query, document, _ in rows["relevant"]:  # one for each query
        rank = list(ranked[queries.index(query)]).index(corpus.index(document))
        gains[query] = 1 / np.log2(rank + 2) if rank < 10 else 0
    (search,) = result.items["Search"]
    assert search.values == pytest.approx([gains[query] for query in sorted(queries)])
    measured = result.measured().result
    assert [measured.score(name).n for name in result.results] == [60, 60, 30, None, 10]
    groups, search = measured.score("Groups"), measured.score("Search")
    assert groups.ci95 is None and "clustering is scored as a whole" in groups.no_interval
    assert search.value == 100 * result.main_score("Search") and search.ci95[0] < search.value < search.ci95[1]
    assert measured.score("Duplicates").metric == "average precision by the best of five similarities"
    assert "grade 1 or more" in measured.protocol


def mock_tasks():
    """Tasks of mteb's own tests: other types, several languages and splits."""
    from mteb import mocks

    names = (
        "MockMultilingualClassificationTask MockMultilingualPairClassificationTask MockMultilingualSTSTask "
        "MockMultilingualSummarizationTask MockMultilingualRerankingTask MockRetrievalDialogTask "
        "MockMultilingualBitextMiningTask"
    )
    tasks = [getattr(mocks, name)() for name in names.split()]
    translated = mocks.MockBitextMiningTask()
    translated.metadata = translated.metadata.model_copy(update={"name": "Translated", "main_score": "f1"})
    return [*tasks, translated]


def test_items_give_mtebs_main_score_whatever_the_type(model):
    tasks = mock_tasks()
    result = evaluate(model, Selection("mocks", tuple(tasks), "memory", {}))
    assert (result.missing, result.no_interval) == ({}, {})
    for task in tasks:
        parts = result.items[task.metadata.name]
        assert len(parts) == len(task.hf_subsets) * len(task.eval_splits)
        assert score(parts) / 100 == pytest.approx(result.main_score(task.metadata.name), abs=5.6e-6)


@pytest.mark.parametrize("option", ["ignore_identical_ids", "skip_first_result"])
def test_hits_that_mteb_leaves_out_are_left_out(model, own, rows, option):
    """As in ArguAna and in sets of duplicates, where a query is among the documents and finds itself first."""
    asked = {key: text for key, text in rows["corpus"].items() if int(key) < 12}
    write_jsonl(own.parent / "queries.jsonl", [{"id": key, "text": text} for key, text in asked.items()])
    lines = [f"{key}\t{int(key) + 1}\t1" for key in asked]
    (own.parent / "relevant.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines))
    search = select_suite(own).tasks[-1]
    plain = evaluate(model, Selection("own", (search,), "memory", {})).main_score("Search")
    other = type("Other", (type(search),), {option: True})()
    other.metadata = search.metadata.model_copy(update={"name": "Other"})
    other.dataset, other.data_loaded = search.dataset, True
    found = evaluate(model, Selection("own", (other,), "memory", {}))
    assert found.main_score("Other") > plain
    assert found.no_interval == {} and score(found.items["Other"]) / 100 == pytest.approx(
        found.main_score("Other"), abs=5.6e-6
    )


def test_types_that_have_no_items_say_so(model):
    from mteb import mocks

    for task in (mocks.MockMultilabelClassification(), mocks.MockRegressionTask()):
        result = evaluate(model, Selection("mocks", (task,), "memory", {}))
        (why,) = result.no_interval.values()
        assert why.startswith(task.metadata.main_score) and result.ci95 == {}


def test_items_that_do_not_give_the_main_score_are_none(model, own, tmp_path):
    evaluate(model, select_suite(own))
    (file,) = (tmp_path / "cache" / "items").rglob("Search.json")
    document = json.loads(file.read_text())
    document["parts"]["test"]["default"]["values"][0] += 0.001
    file.write_text(json.dumps(document))
    result = evaluate(model, select_suite(own))
    assert "Search" not in result.ci95
    assert "and not its main score" in result.no_interval["Search"]


def test_a_result_that_mteb_had_already_has_no_interval_and_says_what_to_do(model, own, tmp_path, encoded):
    first = evaluate(model, select_suite(own))
    shutil.rmtree(tmp_path / "cache" / "items")
    encoded.clear()
    again = evaluate(model, select_suite(own))
    assert again.ci95 == {} and not encoded
    (file,) = (tmp_path / "cache" / "results").rglob("Pairs.json")
    assert f"delete {file} to score it again" in again.no_interval["Pairs"]
    file.unlink()
    assert evaluate(model, select_suite(own)).ci95 == {"Pairs": first.ci95["Pairs"]}


def test_an_interruption_between_mtebs_result_and_the_items_loses_nothing(model, hub, monkeypatch, encoded, tmp_path):
    selection = select_tasks(["STSBenchmark"], hub)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Kept, "keep_items", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, selection)
    encoded.clear()
    assert evaluate(model, selection).ci95.keys() == {"STSBenchmark"}
    assert not encoded and not list((tmp_path / "cache").rglob("*_predictions.json"))


def test_predictions_cut_in_two_are_no_obstacle(model, hub, tmp_path):
    selection = select_tasks(["STSBenchmark"], hub)
    file = Kept(model.mteb_model_meta, mteb.ResultCache()).predictions(selection.tasks[0])
    file.parent.mkdir(parents=True)
    file.write_text('{"default": {"test": {"cosine_scores": [0.1, 0.')
    assert evaluate(model, selection).ci95.keys() == {"STSBenchmark"}


# What is recorded


def test_the_result(model, hub, tiny_encoder_path):
    measured = evaluate(model, select_tasks(["STSBenchmark"], hub), batch_size=16, name="tiny").measured()
    result = measured.result
    assert (result.kind, result.model, result.name, result.data) == ("mteb", "tiny", "mteb", str(hub))
    assert result.facts == {
        "max_seq_length": 32,
        "precision": "float32",
        "batch_size": 16,
        "mteb_name": f"local/{tiny_encoder_path.name}",
    }
    assert result.revision.startswith("local-")
    assert result.versions["mteb"] == mteb.__version__ and mteb.__version__ in result.protocol
    (score,) = result.scores
    assert (score.key, score.metric_type, score.n) == ("STSBenchmark Spearman", "spearman_cosine", 60)
    assert measured.items.keys() == {"STSBenchmark Spearman"}
    task = result.details["tasks"]["STSBenchmark"]
    assert task["mteb_version"] == mteb.__version__
    assert task["dataset"] == str(hub / FOLDERS["STSBenchmark"])
    assert task["dataset_revision"].startswith("local-")


def test_queries_without_a_relevant_document_are_left_out_and_copies_of_a_document_are_one(model, own, rows):
    plain = evaluate(model, select_suite(own))
    relevant, corpus = own.parent / "relevant.tsv", own.parent / "corpus.jsonl"
    lines = relevant.read_text().splitlines()
    judged = {line.split("\t")[0]: line.split("\t")[1] for line in lines[1:]}
    write_jsonl(
        own.parent / "queries.jsonl",
        [{"id": key, "text": text} for key, text in rows["queries"].items()] + [{"id": "q-none", "text": "a cat"}],
    )
    lines.append("q-none\t0\t0")
    # Of every document that is right there is a copy before it, which is found first and is not judged.
    copies = [{"id": f"copy-{key}", "text": rows["corpus"][key]} for key in dict.fromkeys(judged.values())]
    write_jsonl(corpus, copies + [{"id": key, "text": text} for key, text in rows["corpus"].items()])
    relevant.write_text("\n".join(lines))
    changed = evaluate(model, select_suite(own))
    assert len(changed.items["Search"][0].values) == len(rows["queries"])
    assert changed.main_score("Search") == pytest.approx(plain.main_score("Search"), abs=1e-6)
    relevant.write_text(lines[0] + "\nq-none\t0\t0\n")
    with pytest.raises(InputError, match="no query has a relevant document"):
        select_suite(own)


def test_the_state_of_a_model_in_training_is_never_taken_for_a_later_one(tiny_encoder, own, tmp_path):
    from fmicl_text.evaluation.kind import Effort
    from fmicl_text.evaluation.mteb.run import measure_selection

    selection = select_suite(own)
    scored = ScoredModel(tiny_encoder, "in training", None)
    first = measure_selection(scored, Effort(intervals=False), selection).result
    for parameter in tiny_encoder.parameters():
        parameter.data += 0.1 * parameter.data.sign()
    later = measure_selection(scored, Effort(intervals=False), selection).result
    assert first.score("Pairs").value != later.score("Pairs").value
    assert first.revision is None and first.score("Pairs").ci95 is None
    assert not (tmp_path / "cache").exists()


def test_a_static_encoder_is_wrapped_without_alarm(tiny_encoder, caplog):
    words = StaticEmbedding(tiny_encoder.tokenizer.backend_tokenizer, embedding_dim=8)
    wrapped(ScoredModel(SentenceTransformer(modules=[words], device="cpu"), "words", None))
    assert not caplog.records


def test_the_prompts_recorded_are_those_used(tiny_encoder, hub, tmp_path, encoded):
    tiny_encoder.prompts = {"query": "a big dog ", "STS": "the cat ", "document": ""}
    tiny_encoder.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    result = evaluate(for_mteb(tmp_path / "prompted"), select_tasks(["STSBenchmark", "SciFact"], hub))
    recorded = result.measured().result.details["tasks"]
    assert recorded["STSBenchmark"]["prompts"]["text"] == "the cat "
    assert recorded["SciFact"]["prompts"]["query"] == "a big dog "
    assert recorded["SciFact"]["prompts"]["document"] == ""
    used = {prompt for _, prompt in encoded}
    assert used == {"the cat ", "a big dog ", ""}


def test_a_default_prompt_that_mteb_does_not_know_is_recorded_too(tiny_encoder, hub, tmp_path):
    plain = evaluate(wrapped(ScoredModel(tiny_encoder, "plain", None)), select_tasks(["STSBenchmark"], hub))
    tiny_encoder.prompts, tiny_encoder.default_prompt_name = {"general": "the cat "}, "general"
    prompted = evaluate(wrapped(ScoredModel(tiny_encoder, "prompted", None)), select_tasks(["STSBenchmark"], hub))
    assert prompted.main_score("STSBenchmark") != plain.main_score("STSBenchmark")
    assert prompted.measured().result.details["tasks"]["STSBenchmark"]["prompts"]["text"] == "the cat "


def test_a_model_that_gives_nan_is_missing(tiny_encoder, hub, tmp_path):
    for parameter in tiny_encoder.parameters():
        parameter.data.fill_(float("nan"))
    tiny_encoder.save_pretrained(str(tmp_path / "broken"), create_model_card=False)
    for _ in range(2):  # the second from what the first left in mteb's cache
        result = evaluate(for_mteb(tmp_path / "broken"), select_tasks(["STSBenchmark", "SciFact"], hub))
        assert result.missing.keys() == {"STSBenchmark", "SciFact"}
        assert result.missing["SciFact"] == "failed: what the model gives is not a number; has it collapsed?"


# The cache: what is there is not done again, and nothing else is taken for it


def test_an_interrupted_evaluation_goes_on_where_it_was(model, hub, encoded, tmp_path, monkeypatch):
    selection = select_tasks(PUBLIC, hub)
    load = mteb.abstasks.AbsTaskClassification.load_data

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(mteb.abstasks.AbsTaskClassification, "load_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, selection)
    monkeypatch.setattr(mteb.abstasks.AbsTaskClassification, "load_data", load)
    assert [task.finished for task in plan(model, selection)] == [True, True, False, False]
    encoded.clear()
    resumed = evaluate(model, selection)
    assert resumed.missing == {} and encoded
    texts = {text for text, _ in encoded}
    encoded.clear()
    assert evaluate(model, selection).measured().result == resumed.measured().result
    assert [task.minutes for task in plan(model, selection)] == [0, 0, 0, 0]
    assert not encoded  # not even to be timed
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "another"))
    anew = evaluate(model, selection)
    assert texts < {text for text, _ in encoded}
    assert anew.average == resumed.average


def test_other_data_is_another_result(model, hub, own):
    before = evaluate(model, select_tasks(["STSBenchmark"], hub)), evaluate(model, select_suite(own))
    (file,) = (hub / FOLDERS["STSBenchmark"]).rglob("*.parquet")
    rows = pq.read_table(file).to_pylist()
    pq.write_table(pa.Table.from_pylist([row | {"score": 5 - row["score"]} for row in rows]), file)
    pairs = own.parent / "pairs.csv"
    pairs.write_text("\n".join(pairs.read_text().splitlines()[:-5]))
    after = evaluate(model, select_tasks(["STSBenchmark"], hub)), evaluate(model, select_suite(own))
    assert after[0].main_score("STSBenchmark") == pytest.approx(-before[0].main_score("STSBenchmark"))
    assert after[1].main_score("Pairs") != before[1].main_score("Pairs")
    assert after[1].results["Search"].date == before[1].results["Search"].date


def test_other_weights_are_another_model(model, tiny_encoder, tiny_encoder_path, tmp_path):
    revision = model.mteb_model_meta.revision
    assert for_mteb(tiny_encoder_path).mteb_model_meta.revision == revision
    folder = tmp_path / "run" / "model"
    tiny_encoder.save_pretrained(str(folder), create_model_card=False)
    saved = for_mteb(tmp_path / "run").mteb_model_meta
    assert (saved.name, saved.n_parameters) == ("local/run", sum(p.numel() for p in tiny_encoder.parameters()))
    (folder / "README.md").write_text("a card is no weight")
    assert for_mteb(tmp_path / "run").mteb_model_meta.revision == saved.revision
    tiny_encoder.max_seq_length = 8
    tiny_encoder.save_pretrained(str(folder), create_model_card=False)
    shorter = for_mteb(tmp_path / "run").mteb_model_meta.revision
    next(tiny_encoder.parameters()).data += 1e-3
    tiny_encoder.save_pretrained(str(folder), create_model_card=False)
    assert len({saved.revision, shorter, for_mteb(tmp_path / "run").mteb_model_meta.revision}) == 3


def test_mteb_reads_what_is_kept(model, hub, tmp_path):
    result = evaluate(model, select_tasks(["STSBenchmark"], hub))
    kept = mteb.ResultCache(tmp_path / "cache").load_task_result("STSBenchmark", model.mteb_model_meta)
    assert kept.get_score() == result.main_score("STSBenchmark")


# Selections: of a task that several share, each has its own splits and subsets


def pairs_task(languages=("en", "de", "fr"), splits=("dev", "test"), seed=0):
    """A task of mteb with a subset for each of three languages, and two splits; the data of each part is its own."""
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    draw = random.Random(seed)
    dataset = {}
    for language in ("en", "de", "fr"):
        columns = {split: [[], [], []] for split in ("dev", "test")}
        for first, second, gold in columns.values():
            for _ in range(20):
                first.append(" ".join(draw.choices(WORDS, k=4)))
                second.append(" ".join(draw.choices(WORDS, k=4)))
                gold.append(draw.randint(0, 25) / 5)
        names = ("sentence1", "sentence2", "score")
        dataset[language] = DatasetDict(
            {split: Dataset.from_dict(dict(zip(names, found, strict=True))) for split, found in columns.items()}
        )

    class Shared(AbsTaskSTS):
        metadata = TaskMetadata(
            name="Shared",
            description="of several languages",
            type="STS",
            main_score="cosine_spearman",
            eval_langs={"en": ["eng-Latn"], "de": ["deu-Latn"], "fr": ["fra-Latn"]},
            eval_splits=["dev", "test"],
            dataset={"path": "some/where", "revision": f"of-{seed}"},
        )

    task = Shared().filter_languages(None, hf_subsets=languages).filter_eval_splits(splits)
    task.dataset, task.data_loaded = dataset, True
    return task


def evaluate_part(model, **selected):
    return evaluate(model, Selection("some", (pairs_task(**selected),), "memory", {}))


PARTS = [{}, {"languages": ("en",)}, {"splits": ("test",)}, {"languages": ("fr", "de"), "splits": ("dev",)}]


def without_time(result):
    """The document of a result; the time that a part took alone is not known once others are kept with it."""
    document = result.measured().result.document()
    for task in document["details"]["tasks"].values():
        task.pop("seconds")
    return document


@pytest.fixture
def alone(model, tmp_path, monkeypatch):
    """The result of each part in a cache of its own."""
    results = []
    for number, part in enumerate(PARTS):
        with monkeypatch.context() as patch:
            patch.setenv("MTEB_CACHE", str(tmp_path / f"alone-{number}"))
            results.append(evaluate_part(model, **part))
    return results


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 2, 0)])
def test_each_selection_of_a_task_has_its_own_scores_in_any_order(model, alone, order, encoded):
    assert len({result.main_score("Shared") for result in alone}) == len(PARTS)
    for number in order:
        found = evaluate_part(model, **PARTS[number])
        assert found.no_interval == {} and found.ci95 == alone[number].ci95
        assert without_time(found) == without_time(alone[number])
    encoded.clear()
    for number in order:
        assert without_time(evaluate_part(model, **PARTS[number])) == without_time(alone[number])
    assert not encoded
    (task,) = evaluate_part(model, languages=("en",)).measured().result.details["tasks"].values()
    assert (task["splits"], task["subsets"], task["seconds"]) == (["dev", "test"], ["en"], None)


def test_a_selection_goes_on_where_another_was_interrupted(model, alone, monkeypatch, encoded):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Kept, "keep_items", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate_part(model)
    encoded.clear()
    for number in (1, 3, 0, 2):  # what the first reads of the predictions leaves those of the others
        found = evaluate_part(model, **PARTS[number])
        assert found.no_interval == {} and without_time(found) == without_time(alone[number])
    assert not encoded


def test_other_data_drops_what_was_kept_of_other_selections(model, tmp_path, monkeypatch):
    evaluate_part(model)
    evaluate_part(model, languages=("en",), seed=1)
    found = evaluate_part(model, seed=1)
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "another"))
    assert found.no_interval == {} and without_time(found) == without_time(evaluate_part(model, seed=1))


def written_before(tmp_path, task, parts):
    """Write items as earlier versions did, without the splits and subsets that they are of."""
    (file,) = (tmp_path / "cache" / "items").rglob(f"{task.metadata.name}.json")
    file.write_text(
        json.dumps({"dataset_revision": task.metadata.revision, "items": [part.document() for part in parts]})
    )


def test_items_that_do_not_say_what_they_are_of_are_read_only_where_that_is_clear(model, own, tmp_path):
    selection = select_suite(own)
    result = evaluate(model, selection)
    written_before(tmp_path, selection.tasks[0], result.items["Pairs"])
    assert evaluate(model, selection).ci95["Pairs"] == result.ci95["Pairs"]
    part = evaluate_part(model, languages=("en",), splits=("test",))
    written_before(tmp_path, pairs_task(), part.items["Shared"])
    again = evaluate_part(model, languages=("en",), splits=("test",))
    assert again.items == {} and "without what each item scored" in again.no_interval["Shared"]


def test_a_benchmark_takes_of_a_task_what_it_asks_for(model, rows, tmp_path):
    from dataclasses import replace

    subsets = mteb.get_task("STS17").metadata.hf_subsets
    folder = tmp_path / "hub" / mteb.get_task("STS17").metadata.dataset["path"]
    names = ("sentence1", "sentence2", "score")
    records = [
        {"lang": subset, **dict(zip(names, row, strict=False))}
        for number, subset in enumerate(subsets)
        for row in rows["pairs"][number : number + 20]
    ]
    write_jsonl(folder / "test.jsonl", records)
    benchmark = select_benchmark("MTEB(eng, v2)", tmp_path / "hub")
    (task,) = (task for task in benchmark.tasks if task.metadata.name == "STS17")
    benchmark = replace(benchmark, tasks=(task,), absent={})
    whole = evaluate(model, select_tasks(["STS17"], tmp_path / "hub"))
    firsts, seconds, gold, _ = zip(*rows["pairs"][(at := subsets.index("en-en")) : at + 20], strict=True)
    similarity = cosines(model.model.encode(list(firsts)), model.model.encode(list(seconds)))
    result = evaluate(model, benchmark)
    assert result.main_score("STS17") == pytest.approx(spearmanr(gold, similarity).statistic, abs=1e-6)
    assert result.benchmark_scores["Mean(Task)"] == result.average == result.main_score("STS17")
    assert result.main_score("STS17") != whole.main_score("STS17")
    assert len(whole.items["STS17"]) == len(subsets) and len(result.items["STS17"]) == 1
    assert evaluate(model, select_tasks(["STS17"], tmp_path / "hub")).measured().result == whole.measured().result


# What is missing


def test_a_task_without_data_is_reported_and_the_others_are_scored(model, hub):
    selection = select_tasks(["STS12", "STSBenchmark", "CQADupstackRetrieval"], hub)
    result = evaluate(model, selection)
    assert list(result.results) == ["STSBenchmark"]
    assert result.average is None
    missing = result.measured().result.missing
    assert list(missing) == ["STS12", "CQADupstackRetrieval"]
    revision = mteb.get_task("STS12").metadata.revision
    assert missing["STS12"] == (
        f"no data: no folder {hub}/mteb/sts12-sts; where there is a network, get it by hf download mteb/sts12-sts "
        f"--repo-type dataset --revision {revision} --local-dir {hub}/mteb/sts12-sts"
    )
    assert "CQADupstackAndroidRetrieval" in missing["CQADupstackRetrieval"]


def test_data_of_another_shape_is_reported(model, hub):
    (file,) = (hub / FOLDERS["STSBenchmark"]).rglob("*.parquet")
    file.write_text("no Parquet")
    shutil.rmtree(hub / FOLDERS["SciFact"])
    (hub / FOLDERS["SciFact"]).mkdir()
    (file,) = (hub / FOLDERS["TwitterSemEval2015"]).rglob("*.parquet")
    pq.write_table(pq.read_table(file).drop_columns("labels"), file)
    result = evaluate(model, select_tasks(["STSBenchmark", "SciFact", "TwitterSemEval2015"], hub))
    assert result.results == {}
    reasons = list(result.missing.values())
    assert [reason.partition(":")[0] for reason in reasons] == ["no data", "no data", "failed"]
    assert "labels" in reasons[2]


def test_a_collapsed_model_has_no_score(tiny_encoder, hub, tmp_path):
    for parameter in tiny_encoder.parameters():
        parameter.data.fill_(1.0)
    tiny_encoder.save_pretrained(str(tmp_path / "flat"), create_model_card=False)
    result = evaluate(for_mteb(tmp_path / "flat"), select_tasks(["STSBenchmark"], hub))
    assert "not a number; has the model collapsed?" in result.missing["STSBenchmark"]
    assert result.measured().result.scores == []


def test_without_the_hub_its_data_is_missing(model, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    result = evaluate(model, select_tasks(["STS12"]))
    assert result.missing["STS12"].startswith("no data: ConnectionError: Couldn't reach 'mteb/sts12-sts'")


def test_a_mean_of_tasks_is_made_of_their_results(model, hub, tmp_path):
    aggregate = mteb.get_task("CQADupstackRetrieval")
    parts = [part.metadata for part in aggregate.metadata.tasks]
    for index, part in enumerate(parts):
        folder = hub / part.dataset["path"]
        shutil.copytree(hub / FOLDERS["SciFact"], folder)
        if index % 2:
            write_jsonl(folder / "qrels" / "test.jsonl", [{"query-id": "q0", "corpus-id": "0", "score": 1}])
    result = evaluate(model, select_tasks(["CQADupstackRetrieval"], hub))
    each = evaluate(model, select_tasks([part.name for part in parts], hub))
    assert result.main_score("CQADupstackRetrieval") == pytest.approx(each.average, abs=1e-6)
    (file,) = (tmp_path / "cache" / "results").rglob(f"{parts[0].name}.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"evaluation_time": None}))  # as old results of mteb
    untimed = evaluate(model, select_tasks(["CQADupstackRetrieval"], hub)).measured().result
    assert untimed.details["tasks"]["CQADupstackRetrieval"]["seconds"] is None
    shutil.rmtree(hub / parts[-1].dataset["path"] / "qrels")
    reason = evaluate(model, select_tasks(["CQADupstackRetrieval"], hub)).missing["CQADupstackRetrieval"]
    assert reason.startswith(f"{parts[-1].name}, a part of it, has no result: no data")
    assert mteb.get_task("CQADupstackRetrieval").metadata.tasks[0].metadata.dataset == parts[0].dataset


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda hub: select_tasks(["STS-Benchmark"], hub), 'no task "STS-Benchmark" (did you mean "STSBenchmark"?)'),
        (lambda hub: select_benchmark("MTEB(eng,v2)", hub), '(did you mean "MTEB(eng, v2)"?)'),
        (lambda hub: select_tasks(["STS12"], hub / "none"), "no such data folder"),
    ],
)
def test_what_does_not_exist_is_named(hub, call, message):
    with pytest.raises(InputError) as caught:
        call(hub)
    assert message in str(caught.value)


# Own suites


@pytest.fixture
def refused(own):
    """What is said of the suite after a change of one of its files."""

    def refused(file, old, new):
        path = own.parent / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
        with pytest.raises(InputError) as caught:
            select_suite(own)
        return [problem.replace(f"{own.parent}/", "") for problem in caught.value.problems]

    return refused


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("file: pairs", "fil: pairs", 'own.yaml:3: tasks[0].fil: unknown key (did you mean "file"?)'),
        ("file: pairs.csv", "fiel: pairs.csv", "own.yaml:3: tasks[0].file: is missing"),
        ("type: clustering", "type: clusters", "own.yaml:6: tasks[3]: type must be one of sts, pair-classification"),
        ("type: sts, ", "", "own.yaml:3: tasks[0]: the key type is missing"),
        ("name: Moods", "name: Pairs", "own.yaml:5: tasks[2].name: Pairs is the name of the task at own.yaml:3"),
        ("name: Moods", "name: a/b", "own.yaml:5: tasks[2].name: must be letters"),
        ("csv}", "csv, columns: {txt: a}}", "columns.txt: unknown key; known here are sentence1, sentence2, score"),
        ("name: own", "name: own\nlanguage: english", "language: english is not a language; write it as eng-Latn"),
        ("name: Moods", "name: STS12", "STS12 is the name of a public task of mteb"),
        ("pairs.csv", "none.csv", "none.csv: no such file"),
    ],
)
def test_a_suite_is_checked(refused, old, new, problem):
    assert any(found.startswith(problem) or problem in found for found in refused("own.yaml", old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("test.csv", ",c1\n", ",c9\n", "no text of train.csv is of the class 'c9'"),
        ("relevant.tsv", "q3\t", "q77\t", "relevant.tsv, line 5: no query of queries.jsonl has the id 'q77'"),
        ("relevant.tsv", "q1\t", "q1\tno", "relevant.tsv, line 3: no document of corpus.jsonl has the id 'no"),
        ("relevant.tsv", "\t1\n", "\thalf\n", 'relevant.tsv, line 2: column "score" must be a number'),
        ("relevant.tsv", "\t1\n", "\t-1\n", 'relevant.tsv, line 2: column "score" must be a whole number from 0'),
        ("corpus.jsonl", '"id": "5"', '"id": "4"', "corpus.jsonl, line 6: the id '4' appears twice"),
        ("queries.jsonl", '"id": "q2"', '"id": 2.5', 'queries.jsonl, line 3: column "id" must be text or a whole'),
    ],
)
def test_the_rows_of_own_tasks_are_checked(refused, file, old, new, problem):
    assert any(found.startswith(problem) or problem in found for found in refused(file, old, new))


# The plan


def test_the_load_of_public_tasks_is_what_mteb_publishes():
    load = task_load(mteb.get_task("STS12"))
    assert load.size == "3,108 pairs"
    assert sum(texts.count for texts in load.texts) == pytest.approx(2 * 3108)
    assert sum(texts.count * texts.characters for texts in load.texts) == pytest.approx(402118)
    load = task_load(mteb.get_task("SciFact"))
    assert load.size == "5,183 documents, 300 queries"
    assert sum(texts.count for texts in load.texts) == pytest.approx(5183 + 300)
    banking = task_load(mteb.get_task("Banking77Classification"))  # 77 classes, 8 texts of each, 10 draws
    assert [texts.count for texts in banking.texts] == pytest.approx([3080, 77 * 8 * 10])
    clustering = mteb.get_task("BiorxivClusteringP2P.v2")
    assert task_load(clustering).texts[0].count == pytest.approx(53787 * clustering.max_fraction_of_documents_to_embed)
    assert task_load(mteb.get_task("STS17", hf_subsets=["en-en"])).size == "250 pairs"


def test_the_load_of_own_tasks_is_counted(model, own, rows):
    planned = {task.name: task.load for task in plan(model, select_suite(own))}
    assert planned["Pairs"].size == "60 pairs"
    characters = sum(len(first) + len(second) for first, second, *_ in rows["pairs"])
    assert sum(texts.count * texts.characters for texts in planned["Pairs"].texts) == pytest.approx(characters)
    assert planned["Moods"].size == planned["Groups"].size == "30 texts"
    assert planned["Search"].size == "40 documents, 10 queries"


def test_minutes_grow_with_what_there_is_to_encode(tiny_encoder):
    tiny_encoder.max_seq_length = 60
    speed = Speed(tiny_encoder, 32)
    one, ten = (speed.minutes(Load("", (Texts(count, 100),))) for count in (1000, 10_000))
    assert one > 0 and ten == pytest.approx(10 * one)
    assert speed.minutes(Load("", (Texts(1, 1e6),))) == speed.minutes(Load("", (Texts(1, 300),)))  # cut off


def test_a_benchmark_is_planned_without_its_data(model, hub):
    selection = select_benchmark("MTEB(eng, v2)", hub)
    planned = plan(model, selection)
    assert len(planned) == len(mteb.get_benchmark("MTEB(eng, v2)").tasks)
    assert all(task.load for task in planned)
    assert {task.name for task in planned if task.minutes} == set(PUBLIC) & {task.name for task in planned}


def test_a_benchmarks_own_means(model, hub):
    from dataclasses import replace

    selection = select_tasks(PUBLIC, hub)
    result = evaluate(model, replace(selection, benchmark=mteb.get_benchmark("MTEB(eng, v2)")))
    means = result.benchmark_scores
    assert means["Mean(Task)"] == pytest.approx(result.average)
    assert means["Mean(TaskType)"] == pytest.approx(np.mean([result.main_score(task) for task in PUBLIC]))
    assert means["Retrieval"] == pytest.approx(result.main_score("SciFact"))


# Submission


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def published(tiny_encoder, tmp_path, monkeypatch):
    """Puts the tiny encoder in the cache of the Hub, under an id and with prompts in its files, and loads it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def published(name, **prompts):
        repository = tmp_path / "hf" / f"models--{name.replace('/', '--')}"
        tiny_encoder.prompts = prompts
        tiny_encoder.save_pretrained(str(repository / "snapshots" / COMMIT), create_model_card=False)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(COMMIT)
        return for_mteb(name)

    return published


def test_a_published_models_files_are_those_mteb_submits(published, hub, tmp_path):
    published = published("someone/tiny")
    assert (published.mteb_model_meta.name, published.mteb_model_meta.revision) == ("someone/tiny", COMMIT)
    check_submittable([published], select_tasks(["STSBenchmark"]))
    result = evaluate(published, select_tasks(["STSBenchmark"], hub))
    write_submission(result, tmp_path / "submission")
    folder = tmp_path / "submission" / "results" / "someone__tiny" / COMMIT
    assert {path.name for path in folder.iterdir()} == {"STSBenchmark.json", "model_meta.json", "run_settings.jsonl"}
    meta = json.loads((folder / "model_meta.json").read_text())
    assert (meta["name"], meta["revision"], meta["max_tokens"]) == ("someone/tiny", COMMIT, 32)
    read = mteb.results.TaskResult.from_disk(folder / "STSBenchmark.json")
    assert read.get_score() == result.main_score("STSBenchmark")
    for part in PARTS[1:3]:  # a later one of the same task takes nothing from what is there
        write_submission(evaluate_part(published, **part), tmp_path / "submission")
    read = mteb.results.TaskResult.from_disk(folder / "Shared.json")
    assert {split: len(scores) for split, scores in read.scores.items()} == {"dev": 1, "test": 3}


def test_what_cannot_be_submitted_is_said_before(model, hub):
    with pytest.raises(InputError) as caught:
        check_submittable([model], select_tasks(["STSBenchmark"], hub))
    assert len(caught.value.problems) == 2


E5 = {"query": "query: ", "document": "passage: "}
"""The prompts with which mteb evaluates E5; the files of the models on the Hub have none."""


def test_results_that_are_not_those_of_mtebs_own_loader_are_kept_apart(published, tmp_path, caplog):
    name = "intfloat/e5-base-v2"
    plain = published(name)
    assert f"mteb itself evaluates {name} with prompts of its own" in caplog.text
    result = evaluate_part(plain)
    assert result.measured().result.facts["mteb_name"] == f"{name} (loaded_by=fmicl-text)"
    folder = tmp_path / "cache" / "results" / "intfloat__e5-base-v2" / COMMIT
    (file,) = folder.rglob("Shared.json")
    assert file == folder / "experiments" / "loaded_by_fmicl-text" / "Shared.json"
    theirs = mteb.get_model_meta(name).model_copy(update={"revision": COMMIT})
    cache = mteb.ResultCache()
    assert cache.load_task_result("Shared", theirs) is None
    cache.save_to_cache(mteb.results.TaskResult.from_disk(file).model_copy(update={"scores": {}}), theirs)
    assert evaluate_part(plain).measured().result == result.measured().result, (
        "mteb's own result is not taken for this one"
    )
    caplog.clear()
    assert published(name, **E5).mteb_model_meta.experiment_name is None
    assert "mteb itself evaluates" not in caplog.text


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("intfloat/e5-base-v2", "with prompts of its own"),
        ("jinaai/jina-embeddings-v2-small-en", "with options of its own (trust_remote_code)"),
        ("intfloat/multilingual-e5-large-instruct", "with a loader of its own"),
    ],
)
def test_they_are_not_submitted(published, name, how):
    with pytest.raises(InputError, match="have mteb run it: mteb run -m") as caught:
        check_submittable([published(name)], select_tasks(["STSBenchmark"]))
    assert caught.value.problems[0].startswith(f"{name}: mteb evaluates it {how}")


@pytest.mark.parametrize(
    ("name", "prompts"), [("sentence-transformers/all-MiniLM-L6-v2", {"query": "a "}), ("intfloat/e5-base-v2", E5)]
)
def test_what_mteb_loads_in_the_same_way_is_submitted(published, name, prompts):
    check_submittable([published(name, **prompts)], select_tasks(["STSBenchmark"]))
