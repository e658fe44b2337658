"""What is published, its card, and what is found in it: without a Hub."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import ValidationError
from run_folders import HELDOUT, finished_run, write
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

from fmicl_text.encoders.section import ModelSection
from fmicl_text.errors import InputError
from fmicl_text.evaluation.results import read_result
from fmicl_text.hub.base_model import describe_base
from fmicl_text.hub.card import model_card
from fmicl_text.hub.check import check_contents, check_tokenizers, encoder_files
from fmicl_text.hub.links import cache_folders
from fmicl_text.hub.private import is_local, local_paths, redact, redacted_logs, shorten
from fmicl_text.hub.source import Source, find_source
from fmicl_text.hub.stage import stage
from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.schema import PublishSection

SAMPLES = [
    file
    for file in sorted(Path(__file__).parents[1].glob("evaluation/format_1/*.json"))
    if not file.stem.endswith(".items")
]
"""A result of each kind, as version 0.1 wrote it."""
TARGET = PublishSection(repo="me/tiny", license="apache-2.0", language=["en"])

# Local paths


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("trained on /home/alice/data/pairs.csv today", ["/home/alice/data/pairs.csv"]),
        ('{"path": "/scratch/x"}', ["/scratch/x"]),
        ("--output=/data/runs/a", ["/data/runs/a"]),
        ("~/runs and ~bob/runs/b", ["~/runs", "~bob/runs/b"]),
        ("file:///etc/hosts", ["file:///etc/hosts"]),
        (r"C:\Users\alice\pairs.csv", [r"C:\Users\alice\pairs.csv"]),
        (r'"C:\\Users\\alice"', [r"C:\\Users\\alice"]),
        ("D:/data/pairs.csv", ["D:/data/pairs.csv"]),
        (r"\\server\share\pairs.csv", [r"\\server\share\pairs.csv"]),
        ("https://huggingface.co/home/alice/x and hf://datasets/a/b/c.csv", []),
        ("data/pairs.csv, ./data/pairs.csv, ../data/pairs.csv", []),
        ("mean/sd and/or 1/2, </s>, a / b, //, 2026/01/02", []),
        ("ratio: 3, note: x", []),
    ],
)
def test_local_paths_are_told_from_what_looks_alike(text: str, found: list[str]):
    assert [path for _, path in local_paths(f"first\n{text}")] == found


NAMES = st.text(st.characters(categories=["L", "N"], include_characters=" -_."), min_size=1).filter(
    lambda name: name.strip(". ") == name and " -" not in name
)
PATHS = st.builds(
    lambda start, names: start + "/".join(names), st.sampled_from(["/", "~/", "C:/"]), st.lists(NAMES, min_size=2)
)


@given(path=PATHS, before=st.sampled_from(["", "see ", "--data=", "a\n"]))
def test_no_document_keeps_a_path_it_was_told_of(path: str, before: str):
    document = {"a": [path, {path: f"{before}{path}, and more"}]}
    name = path.rpartition("/")[2]
    assert shorten(document, [path]) == {"a": [name, {name: f"{before}{name}, and more"}]}


def test_relative_paths_hub_ids_and_numbers_stay():
    document = {"a": "data/pairs.csv", "b": "owner/name", "c": [1, 2.5, None, True], "d": "hf://datasets/a/b/c.csv"}
    assert shorten(document) == document
    assert not any(map(is_local, ("data/x.csv", "owner/name", "sample:minilm", "a..b/c")))
    assert all(map(is_local, ("/a", "~/a", "../a", r"C:\a", "a/../../b", "file:a")))


# Secrets


@pytest.mark.parametrize(
    ("what", "secret"),
    [
        ("a Hugging Face token", "hf_" + "aB3" * 12),
        ("a GitHub token", "ghp_" + "a1B2" * 9),
        ("an API key", "sk-proj-" + "x" * 40),
        ("an AWS key", "AKIA" + "ABCD1234" * 2),
        ("a private key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("a password in an address", "https://alice:geheim@example.org/x"),
        ("the value of MY_API_KEY", "correct horse battery"),
    ],
)
def test_secrets_are_found_anywhere_and_never_shown(tmp_path: Path, monkeypatch, what: str, secret: str):
    monkeypatch.setenv("MY_API_KEY", "correct horse battery")
    (tmp_path / "notes.txt").write_text(f"one\ntwo {secret}\n")
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors", {"note": secret})
    with pytest.raises(InputError) as error:
        check_contents(tmp_path)
    assert f"notes.txt:2: has {what} in it" in error.value.problems
    assert any(p.startswith("model.safetensors:") and what in p for p in error.value.problems)
    assert secret not in str(error.value)
    assert secret not in redact(f"refused: {secret}!") and redact("refused!") == "refused!"


@pytest.mark.parametrize("name", ["model.safetensors", "openvino_model.bin"])
def test_numbers_that_look_like_an_address_are_no_secret(tmp_path: Path, name: str):
    """As among the 22 million of MiniLM: a few bytes such as ``w:/...:...@`` come about by chance."""

    def put(numbers: bytes) -> None:
        if name.endswith(".bin"):
            (tmp_path / name).write_bytes(numbers)
        else:
            save_file({"a": torch.frombuffer(bytearray(numbers), dtype=torch.uint8)}, tmp_path / name)

    put(b" w:/1:2@")
    check_contents(tmp_path)
    put(b" w:/1:2@hf_" + b"aB3" * 12)
    with pytest.raises(InputError, match=rf"{name}:1: has a Hugging Face token in it"):
        check_contents(tmp_path)


def test_an_empty_file_ends_no_search(tmp_path: Path):
    """The search goes through the files by name; what comes after an empty one is looked into as well."""
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "b.txt").write_text("/home/alice/x and hf_" + "aB3" * 12)
    with pytest.raises(InputError) as error:
        check_contents(tmp_path)
    assert [problem for problem in error.value.problems if problem.startswith("b.txt:1: has a Hugging Face token")]
    assert [problem for problem in error.value.problems if problem.startswith("b.txt:1: has the local path")]


@pytest.mark.parametrize(
    "name", ["MY_TOKEN", "my_token", "Service_Api_Key", "APIKEY", "db_password", "DB_PASSWD", "secret"]
)
def test_a_value_of_twelve_characters_is_a_secret_whatever_the_case_of_its_name(tmp_path: Path, monkeypatch, name: str):
    monkeypatch.setenv(name, "abcdefghijkl")
    (tmp_path / "notes.txt").write_text("abcdefghijkl\n")
    with pytest.raises(InputError, match=rf"notes\.txt:1: has the value of {name} in it"):
        check_contents(tmp_path)
    monkeypatch.setenv(name, "abcdefghijk")  # shorter ones may be everyday words
    check_contents(tmp_path)


def test_known_secrets_have_their_own_case(tmp_path: Path):
    """Upper and lower case tell the known forms of tokens from words and identifiers."""
    (tmp_path / "notes.txt").write_text("akia" + "abcd1234" * 2 + "\nHF_" + "A" * 34 + "\nSK-" + "x" * 40 + "\n")
    check_contents(tmp_path)


def test_what_is_logged_is_redacted_and_signed_addresses_cut(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
    lines: list[str] = []
    handler = logging.StreamHandler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("huggingface_hub")
    logger.addHandler(handler)
    try:
        with redacted_logs():
            logging.getLogger("huggingface_hub.x").warning("PUT %s as %s", "https://s3/x?sig=1", "hf_" + "a" * 34)
    finally:
        logger.removeHandler(handler)
    assert lines == ["PUT https://s3/x as [secret]"]


# Files


def test_a_vocabulary_may_have_anything_but_secrets(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("/usr/bin/env\nC:\\Windows\n")
    write(tmp_path / "tokenizer.json", {"model": {"vocab": {"/home/user/": 1}}})
    check_contents(tmp_path)
    write(tmp_path / "config.json", {"a": "one\n/home/user/x"})
    with pytest.raises(InputError, match=r"config.json:1: has the local path /home/user/x"):
        check_contents(tmp_path)


def test_the_header_of_the_weights_is_looked_into(tmp_path: Path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors", {"from": "/home/alice/x.bin"})
    with pytest.raises(InputError, match=r"model.safetensors: header: has the local path /home/alice/x.bin"):
        check_contents(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x05 something else")
    with pytest.raises(InputError, match="is not safetensors"):
        check_contents(tmp_path)


def test_hidden_files_and_the_old_card_are_left_out(tmp_path: Path):
    wanted = ["1_Pooling/config.json", "LICENSE"]
    for name in (".gitattributes", ".cache/huggingface/x.lock", "README.md", *wanted):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert [file.as_posix() for file in encoder_files(tmp_path)] == [
        "1_Pooling/config.json",
        "LICENSE",
        "model.safetensors",
    ]


def test_an_encoder_without_weights_is_refused(tmp_path: Path):
    write(tmp_path / "modules.json", [])
    with pytest.raises(InputError, match=r"has no weights \(\*.safetensors\)"):
        encoder_files(tmp_path)


def staged(run: Path, folder: Path) -> Path:
    source = find_source(run)
    stage(source, encoder_files(source.model), folder)
    return folder


def test_figures_of_single_items_and_texts_of_the_data_stay_here(tiny_encoder_path: Path, tmp_path: Path):
    run = finished_run(tmp_path / "run", tiny_encoder_path)
    write(run / "results" / "stsb.items.json", {"items": {}})
    details = {"cosines": [0.5] * 1001, "few": [1, 2], "neighbours": [{"text": "private"}]}
    other = {"format": 2, "kind": "other", "name": "other", "protocol": "p", "model": "/home/alice/m", "scores": []}
    write(run / "results" / "other.json", other | {"details": details})
    results = staged(run, tmp_path / "staged") / "results"
    assert sorted(file.name for file in results.iterdir()) == ["before-stsb.json", "other.json", "stsb.json"]
    published = json.loads((results / "other.json").read_text())
    assert published["details"] == {"cosines": "1001 values, not published", "few": [1, 2]}
    assert published["model"] == "m"
    for file in results.iterdir():
        assert read_result(file).scores == read_result(run / "results" / file.name).scores


def test_the_published_recipe_loads_and_does_not_publish(tiny_encoder_path: Path, tmp_path: Path):
    publish = {"repo": "me/tiny", "license": "mit"}
    run = finished_run(tmp_path / "run", tiny_encoder_path, publish=publish)
    recipe = load_recipe(staged(run, tmp_path / "staged") / "recipe.yaml")
    original = load_recipe(run / "recipe.yaml")
    assert recipe.publish.repo is None and original.publish.repo == "me/tiny"
    assert recipe.data.train == "pairs.csv" and recipe.model.base == tiny_encoder_path.name
    assert (recipe.loss, recipe.train, recipe.seeds) == (original.loss, original.train, original.seeds)


def test_what_transformers_notes_about_the_machine_goes(tiny_encoder_path: Path, tmp_path: Path):
    run = finished_run(tmp_path / "run", tiny_encoder_path)
    config = json.loads((run / "model" / "config.json").read_text())
    write(run / "model" / "config.json", config | {"_name_or_path": "/home/alice/bert"})
    folder = staged(run, tmp_path / "staged")
    assert json.loads((folder / "config.json").read_text()) == config
    assert "is_local" not in json.loads((folder / "tokenizer_config.json").read_text())


# The card


def card_of(source: Source, model) -> ModelCard:
    card = model_card(source, TARGET, model, adapter=False)
    return ModelCard(str(card))  # as anyone reads it


def test_metadata(tiny_encoder_path: Path, tiny_encoder, tmp_path: Path):
    run = finished_run(
        tmp_path / "run",
        tiny_encoder_path,
        model={"base": "bert-base-uncased", "lora": {"r": 4, "merge": True}},
        data={"train": "sentence-transformers/all-nli"},
    )
    write(run / "results" / "heldout.json", HELDOUT)
    card = card_of(find_source(run), tiny_encoder)
    data = card.data
    assert re.search(r"\| adapter \| LoRA \(r: 4, lora.*\), merged into the weights \|", card.text)
    assert (data.base_model, data.base_model_relation) == ("bert-base-uncased", "finetune")
    assert data.datasets == ["sentence-transformers/all-nli"]
    assert (data.license, data.language) == ("apache-2.0", ["en"])
    assert (data.pipeline_tag, data.library_name) == ("sentence-similarity", "sentence-transformers")
    assert {"f-micl", "sentence-transformers"} <= set(data.tags)
    name, results = model_index_to_eval_results(data.to_dict()["model-index"])
    assert name == "tiny"
    heldout, stsb = "heldout held-out pairs", "STSBenchmark"
    found = [(r.metric_type, r.metric_name, r.metric_value, r.dataset_type, r.dataset_name) for r in results]
    assert found == [
        ("cosine_mrr@10", "MRR@10", 0.8625, "unknown", heldout),
        ("cosine_accuracy@1", "accuracy@1", 0.805, "unknown", heldout),
        ("spearman_cosine", "Spearman (stsb)", 0.82125, "mteb/stsbenchmark-sts", stsb),
    ]


def test_every_score_of_every_kind_is_named_by_its_own_metric(tiny_encoder_path: Path, tiny_encoder, tmp_path: Path):
    """Results are taken from the folder, also those that the recipe does not name."""
    run = finished_run(tmp_path / "run", tiny_encoder_path)
    for sample in SAMPLES:
        (run / "results" / sample.name).write_bytes(sample.read_bytes())
    card = card_of(find_source(run), tiny_encoder)
    _, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    found = {(r.dataset_name, r.metric_type, r.metric_name, r.metric_value, r.task_type) for r in results}
    for expected in (
        ("mteb MineSts", "spearman_cosine", "Spearman", 0.214894, "semantic-similarity"),
        ("mteb MineSearch", "ndcg@10", "nDCG@10", None, "information-retrieval"),
        ("mteb MineClusters", "v_measure", "V-measure", None, "clustering"),
        ("transfer MR", "accuracy", "accuracy", 0.58333, "classification"),
        ("transfer MRPC", "f1", "F1", 0.52632, "classification"),
        ("heldout held-out pairs", "cosine_mrr@10", "MRR@10", 0.17024, "information-retrieval"),
        ("pairs-score pairs.csv", "kendall_cosine", "Kendall tau-b", 0.16159, "semantic-similarity"),
        ("pairs-label pairs.csv", "cosine_roc_auc", "ROC AUC", 0.47222, "binary-classification"),
        ("pairs-label pairs.csv", "cosine_f1_threshold", "threshold of the best F1", 0.854306, "binary-classification"),
        ("geometry sentences", "uniformity", "uniformity", -0.359032, "feature-extraction"),
    ):
        name, metric_type, metric, value, task = expected
        (match,) = (f for f in found if (f[0], f[1]) == (name, metric_type))
        assert (match[2], match[4]) == (metric, task)
        assert value is None or match[3] == pytest.approx(value, abs=1e-5)
    assert len(results) == sum(len(read_result(file).scores) for file in (*SAMPLES, run / "results" / "stsb.json"))
    for line in (
        "| mteb | MineSts | Spearman (%) |  | 21.49 | -42.51 to 77.69 | 12 |",
        "| transfer | MR | accuracy (%) |  | 58.33 | 46.67 to 70.00 | 60 |",
        "| pairs-label | pairs.csv | threshold of the best F1 |  | 0.8543 | 0.8543 to 0.9611 | 12 |",
        "| geometry | sentences | uniformity |  | -0.359 | -0.397 to -0.3152 | 24 |",
        "- transfer, TREC: no file transfer/trec.parquet",
    ):
        assert line in card.text, card.text


@pytest.mark.parametrize(
    ("train", "datasets"),
    [
        ("sample:wikipedia", None),
        ("data/pairs.csv", None),
        ("/data/pairs.parquet", None),
        ("hf://datasets/a/b/c/d.csv", ["a/b"]),
        ("hf://datasets/a/b@main/d.csv", ["a/b"]),
        ("a/b", ["a/b"]),
    ],
)
def test_only_data_of_the_hub_is_linked(tiny_encoder_path: Path, tiny_encoder, tmp_path: Path, train: str, datasets):
    run = finished_run(tmp_path / "run", tiny_encoder_path, data={"train": train})
    data = card_of(find_source(run), tiny_encoder).data
    assert data.datasets == datasets and data.base_model is None


def test_the_text_says_how_it_was_trained_what_came_out_and_whom_to_cite(tiny_encoder_path, tiny_encoder, tmp_path):
    train = {"max_steps": 30, "num_train_epochs": 3, "bf16": True}  # two of which are without effect in this run
    run = finished_run(tmp_path / "run", tiny_encoder_path, model={"base": "sample:minilm"}, train=train)
    text = card_of(find_source(run), tiny_encoder).text
    for line in (
        "| settings | per\\_device\\_train\\_batch\\_size: 8, max\\_steps: 30 |",
        "| stsb | STSBenchmark | Spearman (%) | 70.50 | 82.12 | 80.00 to 84.25 | 1,379 |",
        "- **stsb**: STS-B test, Spearman x 100",
        "| base model | sentence-transformers/all-MiniLM-L6-v2 |",
        "| divergence | js |",
        "| kernel | gaussian |",
        "| sigma | 0.5 |",
        "| shift | row |",
        "| negatives | cross |",
        "| data | pairs.csv |",
        'model = SentenceTransformer("me/tiny")',
        "apache-2.0.",
        "- Only the first 32 tokens of a text are read; the rest is cut off.",
        "- The published weights are those of step 20, the best on the development set.",
        "| weights | step 20, the best on the development set |",
    ):
        assert line in text, text
    assert "@article{lu2023fmicl," in text and "\n\n\n" not in text.strip()


@pytest.mark.parametrize("recorded", [{}, {"weights_step": 30}])
def test_the_last_weights_are_not_called_the_best(tiny_encoder_path: Path, tiny_encoder, tmp_path: Path, recorded):
    evaluate = {"during": "stsb-dev", "data": "sample:stsb"}
    run = finished_run(tmp_path / "run", tiny_encoder_path, train={"load_best_model_at_end": False}, evaluate=evaluate)
    write(run / "manifest.json", json.loads((run / "manifest.json").read_text()) | recorded)
    text = card_of(find_source(run), tiny_encoder).text
    assert (
        "- The published weights are those of step 30 (the last); the best on the development set was step 20." in text
    )


def test_what_was_measured_is_told_with_its_value(tiny_encoder_path: Path, tiny_encoder, tmp_path: Path):
    run = finished_run(tmp_path / "run", tiny_encoder_path, loss={"objective": "fmicl", "shift": "none"})
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(
        json.dumps(manifest | {"measured": {"sigma": 0.2312, "balance_cosine": 0.45678}})
    )
    text = card_of(find_source(run), tiny_encoder).text
    assert "| sigma | 0.2312, measured on the first batches |" in text
    balance = "1 / u(s), where push and pull of a pair balance at the cosine s = 0.4568, measured on the first batches"
    assert f"| alpha | {balance} |" in text


def test_both_the_paper_and_the_loss_are_cited(tiny_encoder_path: Path, tiny_encoder, tmp_path: Path):
    run = finished_run(tmp_path / "run", tiny_encoder_path)
    recipe = json.loads(json.dumps(load_recipe(run / "recipe.yaml").model_dump(mode="json")))
    (run / "recipe.yaml").write_text(json.dumps(recipe | {"loss": {"objective": "infonce"}}))
    card = card_of(find_source(run), tiny_encoder)
    assert "lu2023fmicl" in card.text and "oord2018representation" in card.text
    assert "infonce" in card.data.tags and "f-micl" not in card.data.tags


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "a | b | c\n\n# Title\n\n---\nlicense: mit\n---\n",
    "\x1b[31mred\x1b[0m \x07 \u202e",
    "{{ 7 * 7 }} {% raw %} `code` $x$ ~~y~~",
    "- item\n```\nfence",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_recipes_and_results_is_harmless(tiny_encoder_path: Path, tiny_encoder, tmp_path: Path, text: str):
    def render(word: str) -> tuple[ModelCard, list[str]]:
        data = {"train": f"data/{word}.csv", "columns": {"anchor": word, "positive": "answer"}}
        run = finished_run(tmp_path / str(len(list(tmp_path.iterdir()))), tiny_encoder_path, data=data)
        score = {"name": word, "metric": word, "metric_type": word, "value": 1.0, "n": 3}
        document = {"format": 2, "kind": word, "name": word, "protocol": word, "model": word, "scores": [score]}
        write(run / "results" / "stsb.json", document | {"missing": {word: word}})
        manifest = json.loads((run / "manifest.json").read_text())
        manifest |= {"precision": word, "versions": {"fmicl-text": word}, "device": word}
        write(run / "manifest.json", manifest)
        card = card_of(find_source(run), tiny_encoder)
        return card, [token.type for token in MarkdownIt("commonmark").enable("table").parse(card.text)]

    (harmless, expected), (hostile, tokens) = render("word"), render(text)
    assert tokens == expected, "the same headings, tables and paragraphs as with a plain word"
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(hostile.text)
    assert "<script" not in html and "<img" not in html and 'href="javascript' not in html and "49" not in hostile.text
    assert all(character.isprintable() or character == "\n" for character in str(hostile))
    assert harmless.data.license == hostile.data.license == "apache-2.0"


def test_a_broken_card_of_the_base_model_only_says_less(tiny_encoder_path: Path, tiny_encoder, tmp_path: Path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\n[unclosed\n---\n")
    run = finished_run(tmp_path / "run", tiny_encoder_path, model={"base": str(base)})
    assert "| base model | base |" in card_of(find_source(run), tiny_encoder).text


# Links, and files that are damaged


def with_link(run: Path, link: str, target: Path) -> Path:
    path = run / link
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)
    return path


@pytest.mark.parametrize(
    "link", ["model/vocab.txt", "model/1_Pooling/notes.txt", "results/other.json", "manifest.json", "recipe.yaml"]
)
def test_a_link_out_of_the_run_is_refused_by_name(tiny_encoder_path: Path, tmp_path: Path, link: str):
    run = finished_run(tmp_path / "run", tiny_encoder_path)
    private = tmp_path / "netrc"
    private.write_bytes((run / link).read_bytes() if (run / link).exists() else b"{}")
    path = with_link(run, link, private)
    with pytest.raises(InputError) as error:
        find_source(run)
    assert error.value.problems[0] == f"{path}: is a link to {private}, which lies outside of what is published"


@pytest.mark.parametrize("link", ["model/notes.txt", "model/2_Dense"])
def test_links_that_lead_nowhere_or_to_folders_are_refused(tiny_encoder_path: Path, tmp_path: Path, link: str):
    run = finished_run(tmp_path / "run", tiny_encoder_path)
    path = with_link(run, link, tmp_path / "nothing")
    with pytest.raises(InputError, match="which does not exist"):
        find_source(run)
    path.unlink()
    path.symlink_to(run / "model" / "1_Pooling")
    with pytest.raises(InputError, match="is a link to the folder"):
        find_source(run)


def test_a_model_or_seed_that_is_elsewhere_is_refused(tiny_encoder_path: Path, tmp_path: Path):
    run = finished_run(tmp_path / "run", tiny_encoder_path, seeds=(1, 2))
    (run / "seed-1" / "model").rename(tmp_path / "model")
    (run / "seed-1" / "model").symlink_to(tmp_path / "model")
    with pytest.raises(InputError, match="seed-1/model: is a link to the folder"):
        find_source(run)


def test_links_within_a_run_are_read(tiny_encoder_path: Path, tmp_path: Path):
    run = finished_run(tmp_path / "run", tiny_encoder_path)
    (run / "results" / "stsb.json").rename(run / "kept.json")
    with_link(run, "results/stsb.json", run / "kept.json")
    assert find_source(run).results["stsb"].scores[0].value == 82.125


def test_an_encoder_of_the_hub_s_cache_is_made_of_links(tiny_encoder_path: Path, tmp_path: Path):
    """In the cache a snapshot has links to blobs beside it; to any other place they are refused."""
    snapshot, blobs = tmp_path / "models--me--x" / "snapshots" / "abc", tmp_path / "models--me--x" / "blobs"
    shutil.copytree(tiny_encoder_path, snapshot)
    blobs.mkdir()
    for number, file in enumerate([file for file in snapshot.rglob("*") if file.is_file()]):
        file.rename(blobs / str(number))
        file.symlink_to(blobs / str(number))
    source = find_source(snapshot)
    assert len(encoder_files(source.model, cache_folders(source.model))) > 5
    with pytest.raises(InputError, match="lies outside of what is published"):
        encoder_files(source.model)
    (snapshot / "notes.txt").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("private")
    with pytest.raises(InputError, match=r"notes\.txt: is a link to"):
        encoder_files(source.model, cache_folders(source.model))


@pytest.mark.parametrize("content", ["", "[]", "null", "{", "[" * 100_000, '{"seed": "x"}', '{"seed": NaN}', "\x00"])
@pytest.mark.parametrize("name", ["manifest.json", "results/stsb.json", "results/more.json"])
def test_damaged_and_foreign_documents_are_named(tiny_encoder_path: Path, tmp_path: Path, name: str, content: str):
    run = finished_run(tmp_path / "run", tiny_encoder_path)
    (run / name).write_text(content)
    with pytest.raises(InputError, match=name):
        find_source(run)


def test_a_pipe_is_not_waited_for(tiny_encoder_path: Path, tmp_path: Path):
    run = finished_run(tmp_path / "run", tiny_encoder_path)
    os.mkfifo(run / "results" / "pipe.json")
    with pytest.raises(InputError, match=r"pipe\.json: not a regular file"):
        find_source(run)


@pytest.mark.parametrize("content", ["", "[]", '{"x": NaN}'])
def test_a_damaged_summary_is_named(tiny_encoder_path: Path, tmp_path: Path, content: str):
    run = finished_run(tmp_path / "run", tiny_encoder_path, seeds=(1, 2))
    (run / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"summary\.json: not"):
        find_source(run)


def test_an_encoder_without_its_tokenizer_is_refused(tiny_encoder_path: Path, tmp_path: Path):
    """transformers loads it, and would make [UNK] of every word."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_encoder_path, folder)
    check_tokenizers(SentenceTransformer(str(folder), device="cpu"), folder, folder)
    (folder / "tokenizer.json").unlink()
    model = SentenceTransformer(str(folder), device="cpu")
    with pytest.raises(InputError, match=r"model: has no tokenizer: none of tokenizer\.json, vocab\.txt is there"):
        check_tokenizers(model, folder, folder)


# The recipe's section


@pytest.mark.parametrize("repo", ["me/x.git", "me/x--y", "me/x..y", f"me/{'x' * 120}", "me/x-"])
def test_repository_names_are_those_that_the_hub_takes(repo: str):
    with pytest.raises(ValidationError, match=r"is not a name that the Hub accepts|must be OWNER/NAME"):
        PublishSection(repo=repo, license="mit")


def test_publishing_needs_a_licence_and_a_whole_name(tmp_path: Path):
    recipe = {
        "name": "x",
        "model": {"base": "b"},
        "data": {"train": "a.csv", "columns": {"anchor": "a", "positive": "b"}},
        "loss": {"objective": "fmicl"},
    }
    path = tmp_path / "recipe.yaml"
    for section, message in (
        ({"repo": "me/x"}, "publish.license: is needed to publish"),
        ({"repo": "x", "license": "mit"}, 'publish.repo: must be OWNER/NAME, as in "me/my-encoder", got "x"'),
        ({"repo": "me/x", "license": "MIT"}, "publish.license: must be the Hub's name of one"),
        ({"language": ["english"]}, "must be an ISO 639 code such as en"),
    ):
        path.write_text(json.dumps(recipe | {"publish": section}))
        with pytest.raises(InputError) as error:
            load_recipe(path)
        assert message in str(error.value), str(error.value)
    path.write_text(json.dumps(recipe))
    assert load_recipe(path).publish == PublishSection(repo=None, private=True)


@pytest.mark.parametrize(
    ("base", "hub_id"),
    [
        ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("me/encoder", "me/encoder"),
        ("sample:minilm", "sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_the_base_has_the_id_by_which_it_was_loaded(base: str, hub_id: str):
    assert describe_base(ModelSection(base=base)).hub_id == hub_id
