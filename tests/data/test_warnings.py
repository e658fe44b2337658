"""Data that will not train well is told before training, and so are texts of which an encoder sees nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import Dataset

from fmicl_text.cli import main
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.data.warnings import data_warnings, leak_warning, require_tokens
from fmicl_text.encoders.tokens import token_counts
from fmicl_text.errors import InputError
from fmicl_text.losses.columns import GROUP

pytestmark = pytest.mark.usefixtures("blank_pictures")


def rows(anchors: str, positives: str, **more: list) -> Dataset:
    return Dataset.from_dict({"anchor": list(anchors), "positive": list(positives), **more})


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (rows("abcd", "wxyz"), []),
        (rows("abcd", "abyz"), ["2 rows have the anchor as positive too, from which nothing is learned"]),
        (rows("abca", "wxyw"), ["1 row has the texts of an earlier row"]),
        (rows("abca", "wxyz"), []),
        (rows("abc", "wxy"), ["there are fewer rows (3) than a batch takes (4): every batch is the same"]),
        (rows("aaaa", "wxyz"), ["all rows have the same anchor: nothing tells positives from negatives"]),
        (rows("abcd", "wxyz", **{GROUP: [1, 1, 2, 2]}), []),
        (rows("abcd", "wxyz", **{GROUP: [1] * 4}), ["all rows are of one group, so there are no negatives"]),
        (
            rows(["7", "8.5", "-1"] * 2, "uvwxyz"),
            ['anchor: all texts are numbers, such as "7"; is it the right column?'],
        ),
        (
            Dataset.from_dict({"anchor": ["a\tb", "c\td", "e\tf", "g\th"]}),
            ["anchor: all texts have a tab; a file of columns with tabs between them ends in .tsv"],
        ),
        (Dataset.from_dict({"anchor": ["a\tb", "c", "d", "e"]}), []),
        (Dataset.from_dict({"anchor": list("abca")}), ["1 row has the texts of an earlier row"]),
    ],
)
def test_warnings(dataset: Dataset, expected: list[str]):
    assert data_warnings(dataset, 4) == expected


@pytest.mark.parametrize(
    ("heldout", "labelled", "leaks"),
    [
        (rows("abe", "wvu"), False, 1),
        (rows("wxe", "abu"), False, 2),
        (rows("abc", "xyw"), False, 0),  # known questions, with answers that are not
        (rows("abe", "xyu"), True, 2),
        (rows("xfe", "sut"), True, 1),
    ],
)
def test_held_out_rows_that_are_trained_on(heldout: Dataset, labelled: bool, leaks: int):
    found = leak_warning(rows("abcd", "wxyz"), heldout, labelled)
    said = f"{leaks} of 3 held-out rows are among those that are trained on: their scores are too good"
    assert found == (said if leaks else None)


def test_a_file_of_held_out_rows_that_are_trained_on_is_told(
    tiny_encoder_path: Path, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("q,a\nthe dog runs,a dog\na cat sleeps,the cat\n")
    (tmp_path / "b.csv").write_text("q,a\nthe dog runs,a dog\nthe cat runs,a cat\n")
    settings = {
        "name": "r",
        "model": {"base": str(tiny_encoder_path)},
        "data": {"train": "a.csv", "columns": {"anchor": "q", "positive": "a"}, "heldout": "b.csv"},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 2, "max_steps": 1},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(settings))
    assert main(["train", "r.yaml", "--dry-run"]) == 0
    assert "b.csv: 1 of 2 held-out rows are among those that are trained on" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.fixture
def static_path(tmp_path: Path) -> Path:
    """A static embedding whose tokeniser drops what it does not know, as those of model2vec do."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {"the": 0, "dog": 1, "cat": 2, "runs": 3, "sleeps": 4, "[UNK]": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu")
    model.save_pretrained(str(tmp_path / "static"), create_model_card=False)
    return tmp_path / "static"


def test_token_counts(tiny_encoder, static_path: Path):
    from sentence_transformers import SentenceTransformer

    long = "the dog " * 100
    assert token_counts(tiny_encoder, ["the dog", long, "\u200b"]) == [4, 202, 2]
    static = SentenceTransformer(str(static_path), device="cpu")
    assert token_counts(static, ["the dog runs", "xyz", "\u200b"]) == [3, 1, 0]


@pytest.mark.parametrize("command", [["--dry-run"], ["--output", "run"]])
def test_a_text_without_tokens_is_named_before_training(
    static_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, command: list[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.csv").write_text(
        'question,answer\n"the\ndog",runs\ncat,\u200b\u200b\ndog,the cat\n', encoding="utf-8"
    )
    settings = {
        "name": "r",
        "model": {"base": str(static_path)},
        "data": {"train": "pairs.csv", "columns": {"anchor": "question", "positive": "answer"}},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 2, "max_steps": 1},
        "evaluate": {"during": None},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(settings))
    assert main(["train", "r.yaml", *command]) == 2
    said = capsys.readouterr().err
    assert "error: pairs.csv, line 4: column \"answer\" has '\\u200b\\u200b', of which the model's tokeniser" in said
    assert not (tmp_path / "run").exists()


def test_a_mined_negative_without_tokens_is_named_where_it_was_a_positive(tmp_path: Path):
    """Mining leaves out pairs without enough negatives, whose positives may be those of others."""
    path = tmp_path / "pairs.csv"
    path.write_text("question,answer\ndog,runs\ncat,\u200b\n", encoding="utf-8")
    rows = Dataset.from_dict({"anchor": ["dog"], "positive": ["runs"], "negative_1": ["\u200b"]})
    section = DataSection(train=str(path), columns=Columns(anchor="question", positive="answer"))
    with pytest.raises(InputError, match=r"pairs.csv, line 3: column \"answer\" has '.u200b', of which"):
        require_tokens(rows, lambda texts: [len(text.strip("\u200b")) for text in texts], section)


def test_an_encoder_with_special_tokens_has_some_for_any_text(tiny_encoder):
    dataset = rows(["\u200b", "a"], ["b", "c"])
    section = DataSection(train="a.csv", columns=Columns(anchor="a", positive="b"))
    require_tokens(dataset, lambda texts: token_counts(tiny_encoder, texts), section)
    with pytest.raises(InputError, match='owner/name: column "a" has'):
        hub = section.model_copy(update={"train": "owner/name"})
        require_tokens(dataset, lambda texts: [len(text.strip("\u200b")) for text in texts], hub)


def test_plan_and_training_say_them(tiny_encoder_path: Path, tmp_path: Path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    lines = [{"text": "the dog runs"}, {"text": "a cat sleeps"}, {"text": "a cat sleeps"}]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {
        "name": "r",
        "model": {"base": str(tiny_encoder_path)},
        "data": {"train": "texts.jsonl", "columns": {"anchor": "text"}, "views": "dropout"},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 4, "max_steps": 1},
        "evaluate": {"during": None},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(settings))
    expected = ["1 row has the texts of an earlier row", "there are fewer rows (3) than a batch takes (4)"]
    assert main(["train", "r.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert all(warning in said for warning in expected)
    assert main(["train", "r.yaml"]) == 0
    assert all(f"texts.jsonl: {warning}" in caplog.text for warning in expected)
