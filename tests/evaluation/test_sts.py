import dataclasses
import math
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.spatial.distance import cosine
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from words import WORDS

from fmicl_text.encoders.text import load_model
from fmicl_text.errors import InputError
from fmicl_text.evaluation.embeddings import cpu_has_bfloat16
from fmicl_text.evaluation.sts import cosines, evaluate
from fmicl_text.evaluation.suites import FileSource, Suite, Task, load_pairs, load_suite

SUITE = Suite(
    "small",
    "two small tasks",
    (
        Task("A", 60, file=FileSource("a.parquet", ("test",))),
        Task("B", 40, file=FileSource("b.parquet", ("test",))),
    ),
)


@pytest.fixture
def small_data(tmp_path):
    """Pairs of sentences of 1 to 20 words that recur within and between the two tasks."""
    draw = random.Random(0)
    sentences = [" ".join(draw.choices(WORDS, k=draw.randint(1, 20))) for _ in range(70)]
    for task in SUITE.tasks:
        pairs = [draw.sample(sentences, 2) for _ in range(task.n)]
        columns = {
            "split": ["test"] * task.n,
            "sentence1": [first for first, _ in pairs],
            "sentence2": [second for _, second in pairs],
            "score": [draw.randint(0, 25) / 5 for _ in pairs],
        }
        pq.write_table(pa.table(columns), tmp_path / task.file.path)
    return str(tmp_path)


class Recorder(SentenceTransformer):
    """Keeps what it is given to encode, and the tensors of token ids that it runs on."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoded, self.masks = [], []

    def encode(self, inputs, **kwargs):
        self.encoded += inputs
        return super().encode(inputs, **kwargs)

    def forward(self, features, **kwargs):
        self.masks.append(features["attention_mask"])
        return super().forward(features, **kwargs)


def similarities(measured, task):
    (items,) = measured.items[f"{task} Spearman"]
    return items.values


def test_spearman_is_scipys_on_the_same_embeddings(tiny_encoder, small_data):
    result = evaluate(tiny_encoder, SUITE, small_data)
    for name, pairs in load_pairs(SUITE, small_data)[0].items():
        first, second = tiny_encoder.encode(pairs.sentences1), tiny_encoder.encode(pairs.sentences2)
        similarity = [1 - cosine(a, b) for a, b in zip(first.astype(float), second.astype(float), strict=True)]
        assert similarities(result, name) == pytest.approx(similarity, abs=1e-6)
        reference = spearmanr(pairs.scores, similarities(result, name)).statistic
        assert result.result.score(name).value == pytest.approx(100 * reference, abs=1e-9)
        (items,) = result.items[f"{name} Spearman"]
        assert np.array_equal(items.gold, pairs.scores)


def test_cosines_are_exact():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 8))
    expected = [1 - cosine(x, y) for x, y in zip(a, b, strict=True)]
    assert cosines(a, b) == pytest.approx(expected, abs=1e-14)
    assert cosines(a.astype(np.float32), b.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_rows_tie_at_one_and_a_zero_row_has_no_cosine(dtype):
    rows = np.random.default_rng(1).normal(size=(1000, 33)).astype(dtype)
    assert np.all(cosines(rows, rows) == 1)
    assert np.all(cosines(rows, 3 * rows) == 1)
    assert np.isnan(cosines(rows, 0 * rows)).all()


def test_each_sentence_is_encoded_once_in_batches_of_like_length(tiny_encoder_path, small_data):
    model = Recorder(str(tiny_encoder_path), device="cpu")
    evaluate(model, SUITE, small_data, batch_size=16)
    pairs, _ = load_pairs(SUITE, small_data)
    sentences = {text for task in pairs.values() for text in task.sentences1 + task.sentences2}
    assert len(model.encoded) == len(sentences) < 2 * (60 + 40)
    assert set(model.encoded) == sentences
    assert [len(mask) for mask in model.masks] == [16] * (len(sentences) // 16) + [len(sentences) % 16]
    lengths = [length for mask in model.masks for length in sorted(mask.sum(dim=1).tolist(), reverse=True)]
    assert lengths == sorted(lengths, reverse=True)
    assert all(mask.shape[1] == mask.sum(dim=1).max() for mask in model.masks)


def test_the_result(tiny_encoder_path, small_data):
    result = evaluate(str(tiny_encoder_path), SUITE, small_data).result
    assert result.model == str(tiny_encoder_path)
    assert (result.kind, result.name, result.protocol) == ("sts", "small", "two small tasks")
    assert (result.data, result.facts) == (small_data, {"max_seq_length": 32, "precision": "float32"})
    average, *tasks = result.scores
    assert [(score.key, score.metric_type, score.unit, score.n) for score in result.scores] == [
        ("average Spearman", "spearman_cosine", "%", None),
        ("A Spearman", "spearman_cosine", "%", 60),
        ("B Spearman", "spearman_cosine", "%", 40),
    ]
    for score in tasks:
        low, high = score.ci95
        assert -100 <= low < score.value < high <= 100
    assert average.value == pytest.approx((tasks[0].value + tasks[1].value) / 2)
    low, high = average.ci95
    assert low < average.value < high
    assert high - low < max(score.ci95[1] - score.ci95[0] for score in tasks)
    assert result.missing == {}
    assert {"python", "torch", "sentence-transformers", "fmicl-text"} <= result.versions.keys()


def test_with_a_task_missing_there_is_no_average(tiny_encoder, small_data, tmp_path):
    (tmp_path / "b.parquet").unlink()
    result = evaluate(tiny_encoder, SUITE, small_data, name="tiny").result
    assert [score.key for score in result.scores] == ["A Spearman"]
    assert list(result.missing) == ["B"]
    assert "no file" in result.missing["B"]
    assert result.model == "tiny"


def test_the_models_own_precision_and_length_are_kept(tiny_encoder, small_data):
    usual = similarities(evaluate(tiny_encoder, SUITE, small_data), "A")
    coarse = similarities(evaluate(tiny_encoder.bfloat16(), SUITE, small_data), "A")
    assert coarse != pytest.approx(usual, abs=1e-5)
    assert coarse == pytest.approx(usual, abs=0.05)
    short = tiny_encoder.float()
    short.max_seq_length = 4
    assert evaluate(short, SUITE, small_data).result.facts["max_seq_length"] == 4


def test_bf16_multiplies_in_bfloat16_and_is_recorded(tiny_encoder, small_data):
    if not cpu_has_bfloat16():
        pytest.skip("this CPU has no bfloat16 instructions")
    usual, coarse = (evaluate(tiny_encoder, SUITE, small_data, bf16=bf16) for bf16 in (False, True))
    assert (usual.result.facts["precision"], coarse.result.facts["precision"]) == ("float32", "bfloat16 autocast")
    assert {parameter.dtype for parameter in tiny_encoder.parameters()} == {torch.float32}
    for name in ("A", "B"):
        assert similarities(coarse, name) != pytest.approx(similarities(usual, name), abs=1e-6)
        assert similarities(coarse, name) == pytest.approx(similarities(usual, name), abs=0.02)


def test_bf16_without_instructions_for_it_is_refused(tiny_encoder, small_data, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    with pytest.raises(InputError, match="this CPU has no bfloat16 instructions"):
        evaluate(tiny_encoder, SUITE, small_data, bf16=True)


def test_a_static_model_is_scored_too(small_data):
    tokens = {token: i for i, token in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu")
    result = evaluate(model, SUITE, small_data)
    pairs = load_pairs(SUITE, small_data)[0]["A"]
    expected = cosines(model.encode(pairs.sentences1), model.encode(pairs.sentences2))
    assert similarities(result, "A") == pytest.approx(expected, abs=1e-6)


def test_the_same_model_gives_the_same_result_in_other_batches(tiny_encoder, small_data):
    one, other = (evaluate(tiny_encoder, SUITE, small_data, batch_size=size).result for size in (3, 128))
    assert one.score("average").value == pytest.approx(other.score("average").value, abs=1e-2)


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan])
def test_a_collapsed_model_is_refused(tiny_encoder, small_data, value):
    for parameter in tiny_encoder.parameters():
        parameter.data.fill_(value)
    with pytest.raises(InputError, match="tiny gives all pairs of A, B the same similarity"):
        evaluate(tiny_encoder, SUITE, small_data, name="tiny")


def test_a_run_folder_stands_for_its_model(tiny_encoder, tmp_path, small_data):
    tiny_encoder.save_pretrained(str(tmp_path / "run" / "model"), create_model_card=False)
    of_run = evaluate(str(tmp_path / "run"), SUITE, small_data)
    of_model = evaluate(tiny_encoder, SUITE, small_data)
    assert of_run.result.model == str(tmp_path / "run")
    assert np.array_equal(similarities(of_run, "A"), similarities(of_model, "A"))


def test_a_model_that_does_not_load_is_an_input_error(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no model folder '.*nowhere'"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="the folder holds none"):
        load_model(str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="not a folder here: HF_HUB_OFFLINE is set") as caught:
        load_model("no-such-owner/no-such-model")
    assert "\n" not in str(caught.value)


# Against mteb


@pytest.fixture(scope="module")
def wordy_encoder(data_folder, tmp_path_factory):
    """A random encoder over BERT's vocabulary: with fewer words, sentences would be the same to it and tie."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = str(tmp_path_factory.mktemp("wordy-bert"))
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(**size, max_position_embeddings=64), add_pooling_layer=False).save_pretrained(folder)
    BertTokenizerFast(vocab=str(data_folder / "vocab" / "bert-base-uncased-vocab.txt")).save_pretrained(folder)
    modules = [Transformer(folder, max_seq_length=64), Pooling(32, pooling_mode="mean")]
    return SentenceTransformer(modules=modules, device="cpu")


def test_sts7_mteb_agrees_with_mtebs_own_tasks(wordy_encoder, data_folder):
    mteb = pytest.importorskip("mteb")
    from datasets import Dataset, DatasetDict

    suite = load_suite("sts7-mteb")
    some = tuple(task for task in suite.tasks if task.name in ("STS16", "STSBenchmark"))
    suite = dataclasses.replace(suite, tasks=some)
    ours = evaluate(wordy_encoder, suite, str(data_folder)).result
    tasks = []
    for name, pairs in load_pairs(suite, str(data_folder))[0].items():
        task = mteb.get_task(name)
        columns = {"sentence1": pairs.sentences1, "sentence2": pairs.sentences2, "score": pairs.scores}
        task.dataset = DatasetDict(test=Dataset.from_dict(columns))
        task.data_loaded = True
        tasks.append(task)
    theirs = mteb.evaluate(wordy_encoder, tasks, cache=None, encode_kwargs={"batch_size": 128}, show_progress_bar=False)
    main_scores = {result.task_name: result.scores["test"][0]["cosine_spearman"] for result in theirs.task_results}
    assert len(main_scores) == 2
    assert {score.name: score.value / 100 for score in ours.scores[1:]} == pytest.approx(main_scores, abs=1e-6)
    assert ours.score("average").value / 100 == pytest.approx(np.mean(list(main_scores.values())), abs=1e-6)
