"""``fmicl_text.evaluate``: any evaluation by its name, from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from words import WORDS

from fmicl_text import evaluate
from fmicl_text.errors import InputError
from fmicl_text.evaluation.pairs import read_pairs
from fmicl_text.evaluation.sts import cosines


def test_a_file_of_pairs_by_its_name_with_an_option(tiny_encoder, tmp_path: Path):
    from sklearn.metrics import roc_auc_score

    rows = [
        (f"the {a} runs", f"a {b} sings", i % 2) for i, (a, b) in enumerate(zip(WORDS[:12], WORDS[6:18], strict=True))
    ]
    file = tmp_path / "pairs.csv"
    file.write_text("sentence1,sentence2,same\n" + "".join(f"{a},{b},{same}\n" for a, b, same in rows))
    measured = evaluate(tiny_encoder, str(file), label="same", name="tiny")
    pairs = read_pairs(file, "label", "same", ("sentence1", "sentence2"))
    cosine = cosines(tiny_encoder.encode(pairs.sentences1), tiny_encoder.encode(pairs.sentences2))
    expected = 100 * roc_auc_score([same for *_, same in rows], cosine)
    assert measured.result.score("pairs.csv ROC AUC").value == pytest.approx(expected)
    assert measured.result.model == "tiny"


@pytest.mark.parametrize(
    ("asked", "options", "problem"),
    [
        ("geomtry", {}, r'no suite "geomtry" \(did you mean "geometry"\?\)'),
        ("pairs.csv", {"lable": "x"}, r'has no option lable \(did you mean "label"\?\)'),
        ("pairs.csv", {"label": "x", "score": "y"}, "and score exclude each other"),
        ("heldout", {}, "heldout needs data.heldout"),
    ],
)
def test_what_there_is_not(tiny_encoder, asked: str, options: dict, problem: str):
    with pytest.raises(InputError, match=problem):
        evaluate(tiny_encoder, asked, **options)
