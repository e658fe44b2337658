"""Embeddings in fewer bits: what is stored, its size, and what the run's evaluations say of it."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import quantize_embeddings
from words import WORDS

from fmicl_text.cli import main
from fmicl_text.encoders.openvino import convert, loaded_by
from fmicl_text.errors import InputError
from fmicl_text.evaluation.results import read_result
from fmicl_text.recipe.file import load_recipe
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")

PAIRS = [(f"{word} dog runs", f"water is {word}") for word in WORDS[:32]]
SCORED = [(a, PAIRS[-i][1], i * i % 7) for i, (a, _) in enumerate(PAIRS)]


@pytest.fixture(scope="module")
def run(tiny_long_encoder_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    pairs = [{"anchor": a, "positive": b} for a, b in PAIRS[:16]]
    scored = [{"sentence1": a, "sentence2": b, "score": score} for a, b, score in SCORED]
    for name, rows in (("train", pairs), ("scored", scored)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "tiny",
        "model": {"base": str(tiny_long_encoder_path), "prompts": {"query": "the big ", "document": "near a "}},
        "data": {
            "train": str(folder / "train.jsonl"),
            "columns": {"anchor": "anchor", "positive": "positive"},
        },
        "loss": {"objective": "infonce"},
        "train": {"per_device_train_batch_size": 8, "max_steps": 2},
        "evaluate": {"during": None, "after": [str(folder / "scored.jsonl")], "dims": [8]},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    train(load_recipe(folder / "recipe.yaml"), folder / "run")
    return folder / "run"


def int8(vectors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """256 steps from the least to the most of each dimension, by hand."""
    least, most = known.min(axis=0), known.max(axis=0)
    return np.clip(np.floor((vectors - least) / ((most - least) / 255)), 0, 255) - 128


def binary(vectors: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.where(vectors > 0, 1.0, -1.0)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rho of cosines and scores, x 100; cosines that differ by rounding are the same."""
    cosine = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return 100 * spearmanr(cosine.round(6), [score for *_, score in SCORED]).statistic


@pytest.mark.parametrize(("precision", "store", "size"), [("int8", int8, 32), ("binary", binary, 4)])
def test_sizes_and_scores(run: Path, precision: str, store, size: int, capsys):
    """The scores are those of vectors that are stored by hand, for whole embeddings and their first numbers."""
    assert main(["export", str(run), "--embeddings", precision, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    model = SentenceTransformer(str(run / "model"), device="cpu")
    anchors, positives, texts = (list(column) for column in (*zip(*PAIRS[:16], strict=True), [b for _, b, _ in SCORED]))
    known = np.concatenate([model.encode_query(anchors), model.encode_document(positives)])
    vectors = [model.encode([a for a, *_ in SCORED]), model.encode(texts)]
    first, second = (store(of_column, known) for of_column in vectors)
    whole, fewer = table["forms"]
    assert (whole["name"], whole["bytes"], fewer["name"], fewer["bytes"]) == ("float32", 128, precision, size)
    assert whole["rows_per_second"] > 0 and fewer["rows_per_second"] > 0
    spearman = {s["before"]["name"]: s for s in table["scores"] if s["before"]["metric"] == "Spearman"}
    before = read_result(run / "results" / "scored.json")
    for at, dim in (("", 32), (" at 8 dimensions", 8)):
        found = spearman[f"scored.jsonl{at}"]
        score, stored = found["before"]["value"], found["after"]["value"]
        assert score == before.score(f"scored.jsonl{at} Spearman").value
        assert stored == pytest.approx(correlation(first[:, :dim], second[:, :dim]))
        assert stored != score
    after = read_result(run / "embeddings" / precision / "results" / "scored.json")
    assert after.facts["embeddings"] == precision and after.model == before.model
    if precision == "int8":
        ranges = load_file(run / "embeddings" / "int8" / "ranges.safetensors")["ranges"]
        again = quantize_embeddings(vectors[0], "int8", ranges=ranges)
        assert np.abs(again - first).max() <= 1, "a user stores the same; a number at a step's edge may be rounded"


def test_the_table_on_the_terminal_and_an_earlier_export(run: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copytree(run, tmp_path / "run")
    command = ["export", str(tmp_path / "run"), "--embeddings", "binary"]
    assert main([*command, "--overwrite"]) == 0
    shown = capsys.readouterr().out
    assert "bytes of a vector" in shown and "rows a second" in shown and "scored: scored.jsonl Spearman (%)" in shown
    assert main(command) == 2
    assert "already exists; --overwrite replaces it" in capsys.readouterr().err


def test_what_is_no_run_of_texts_with_evaluations(run: Path, tiny_encoder_path: Path, tmp_path: Path, capsys):
    shutil.copytree(run, tmp_path / "run")
    text = (tmp_path / "run" / "recipe.yaml").read_text()
    (tmp_path / "run" / "recipe.yaml").write_text(text.split("evaluate:")[0])
    for place, problem in (
        (tmp_path / "run", "it has no evaluations (evaluate.after) that would say what an export costs"),
        (tiny_encoder_path, "is an encoder, not a run, whose data and evaluations this needs"),
        (tmp_path / "none", "no folder"),
    ):
        assert main(["export", str(place), "--embeddings", "int8"]) == 2
        assert problem in capsys.readouterr().err


def test_a_stream_that_breaks_off_is_said_in_a_line(run: Path, tmp_path: Path, monkeypatch, capsys):
    """Its first rows were checked; a row after them has become one that cannot be trained on."""
    shutil.copytree(run, tmp_path / "run")
    rows = [{"anchor": a, "positive": b} for a, b in PAIRS[:16]] + [{"anchor": "", "positive": ""}]
    (tmp_path / "stream.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    recipe["data"] |= {"train": str(tmp_path / "stream.jsonl"), "streaming": True}
    (tmp_path / "run" / "recipe.yaml").write_text(json.dumps(recipe))
    monkeypatch.setattr("fmicl_text.data.streams.CHECKED_ROWS", 16)
    assert main(["export", str(tmp_path / "run"), "--embeddings", "int8", "--overwrite"]) == 2
    assert 'stream.jsonl: its first rows cannot be read: a row of which column "anchor"' in capsys.readouterr().err


def test_onnx_says_what_it_lacks(run: Path, capsys):
    assert main(["export", str(run), "--to", "onnx"]) == 2
    assert "optimum-onnx" in capsys.readouterr().err


def test_openvino_scores_as_the_run_does_and_is_loaded_by_the_line_that_is_printed(run: Path, tmp_path: Path, capsys):
    if not find_spec("openvino"):  # nncf, imported here, would log on standard output
        pytest.skip('needs pip install "fmicl-text[openvino]"')
    model = SentenceTransformer(str(run / "model"), device="cpu")
    texts = [f"the big {a}" for a, _ in PAIRS]
    for arguments, tolerance in (([], 1e-5), (["--quantize", "int8"], 0.2)):
        assert main(["export", str(run), "--to", "openvino", "--json", *arguments]) == 0
        table = json.loads(capsys.readouterr().out)
        before, after = table["forms"]
        assert before["bytes"] == sum(4 * weights.numel() for weights in model.parameters())
        assert after["bytes"] < before["bytes"] * (0.5 if arguments else 1.1)
        folder = run / "openvino" / table["precision"] / "model"
        loaded = eval(loaded_by(str(folder), table["precision"]), {"SentenceTransformer": SentenceTransformer})
        vectors = loaded.encode(texts, prompt="")
        assert np.abs(vectors - model.encode(texts, prompt="")).max() < tolerance * np.abs(vectors).max()
        spearman = next(s for s in table["scores"] if s["before"]["metric"] == "Spearman")
        assert spearman["before"]["value"] == read_result(run / "results" / "scored.json").scores[0].value
        stored = [loaded.encode([row[i] for row in SCORED]) for i in (0, 1)]
        assert spearman["after"]["value"] == pytest.approx(correlation(*stored), abs=0.5)
        if not arguments:
            assert spearman["after"]["value"] == pytest.approx(spearman["before"]["value"], abs=0.01)
    capsys.readouterr()
    publish = ["publish", str(run), "me/tiny", "--license", "mit", "--dry-run", "--exports", "--overwrite"]
    assert main(publish) == main(publish) == 0, "and an earlier one may be replaced"
    published = run.with_name("run-publish")
    assert len(list((published / "openvino").iterdir())) == 4
    by_torch = SentenceTransformer(str(published), device="cpu").encode(texts, prompt="")
    assert np.abs(by_torch - model.encode(texts, prompt="")).max() < 1e-6
    from_the_hub = {"file_name": "openvino_model_qint8_quantized.xml"}
    again = SentenceTransformer(str(published), device="cpu", backend="openvino", model_kwargs=from_the_hub)
    assert np.abs(again.encode(texts, prompt="") - vectors).max() < 1e-5


def test_an_architecture_that_openvino_does_not_know_is_an_error_in_words(tmp_path: Path):
    if not find_spec("openvino"):
        pytest.skip('needs pip install "fmicl-text[openvino]"')
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertTokenizerFast, ModernBertConfig, ModernBertModel

    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    config = ModernBertConfig(**sizes, num_attention_heads=1, pad_token_id=0)
    ModernBertModel(config).save_pretrained(tmp_path / "base")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog"]
    BertTokenizerFast(vocab={word: n for n, word in enumerate(words)}).save_pretrained(tmp_path / "base")
    modules = [Transformer(str(tmp_path / "base")), Pooling(8, pooling_mode="mean")]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(tmp_path / "encoder"))
    with pytest.raises(InputError, match="optimum-intel does not convert this encoder"):
        convert(tmp_path / "encoder", tmp_path / "converted", "float32", [])


def test_embeddings_are_published_if_asked(run: Path, tmp_path: Path, capsys):
    """The ranges lie where the card says, and the table has what was exported."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("embeddings", "openvino"))
    publish = ["publish", str(tmp_path / "run"), "me/tiny", "--license", "mit", "--dry-run", "--overwrite"]
    assert main([*publish, "--exports"]) == 2
    assert "`fmicl export` has made nothing of" in capsys.readouterr().err
    for precision in ("int8", "binary"):
        assert main(["export", str(tmp_path / "run"), "--embeddings", precision]) == 0
    assert main(publish) == 0
    assert not (tmp_path / "run-publish" / "embeddings").exists(), "only if asked"
    assert main([*publish, "--exports"]) == 0
    folder = tmp_path / "run-publish"
    assert load_file(folder / "embeddings" / "int8" / "ranges.safetensors")["ranges"].shape == (2, 32)
    card = (folder / "README.md").read_text()
    assert "| bytes of a vector | 128 | 32 |" in card and "| bytes of a vector | 128 | 4 |" in card
    record = json.loads((tmp_path / "run" / "embeddings" / "int8" / "export.json").read_text())
    spearman = next(s for s in record["scores"] if s["before"]["metric"] == "Spearman")
    before, after = (f"{spearman[at]['value']:.2f}" for at in ("before", "after"))
    assert f"| scored: scored.jsonl Spearman (%) | {before} | {after} |" in card
