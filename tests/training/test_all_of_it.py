"""The recipe of docs/encoders.md that has everything: the dry run explains it, and every mistake has its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fmicl_text
from fmicl_text.cli import main

DOCS = Path(fmicl_text.__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def text() -> str:
    if not DOCS.is_dir():
        pytest.skip("the documentation is not here")
    (found,) = re.findall(r"```yaml\n(name: all-of-it\n.*?)```", (DOCS / "encoders.md").read_text(), re.DOTALL)
    return found


def test_the_dry_run_explains_it(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert len(text.splitlines()) < 25
    (tmp_path / "all.yaml").write_text(text)
    assert main(["train", str(tmp_path / "all.yaml"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "of which 147,456 train, 384 dimensions, 64 tokens\n",
        "adapter   LoRA (r: 16, lora_alpha: 32, lora_dropout: 0.0, target_modules: ['query', 'value']), merged into",
        "data      2 sources; each batch is of one, drawn by weight\n",
        'on the first 384, 128, 32 numbers of each vector; weight 3; prompts: "query: " before anchor, "passage: " be',
        "7,547 rows of anchor; InfoNCELoss(",
        "training  100 steps of 64 rows",
        "results   heldout, also at 128, 32 dimensions\n",
        "publish   me/all-of-it, private, apache-2.0, with embeddings/int8, embeddings/binary\n",
    ):
        assert line in shown, shown


@pytest.mark.parametrize(
    ("right", "wrong", "key"),
    [
        ("passage: ", 'passage: ", queries: "', "model.prompts.queries: unknown key"),
        ("r: 16", "r: 0", "model.lora.r: must be greater than 0"),
        ("lora_alpha: 32", "alpha: 32", 'model.lora.alpha: unknown key (did you mean "lora_alpha"?)'),
        ("[query, value]", "[query, valeu]", 'model.lora.target_modules: no layer "valeu" (did you mean "value"?)'),
        ("weight: 3", "weight: 0", "data.train[0].weight: must be greater than 0"),
        ("views: dropout", "views: dropuot", "data.train[1].views: must be "),
        ("temperature: 0.05", "temprature: 0.05", "data.train[1].loss.temprature: unknown key"),
        ("dims: [384", "dims: [385", "loss.matryoshka.dims: the encoder has 384 dimensions, got 385"),
        ("gradient_checkpointing: true", "gradient_checkpointing: 2", "train.gradient_checkpointing: must be true or"),
        ("dims: [128, 32]", "dims: [128, 400]", "evaluate.dims: the encoder has 384 dimensions, got 400"),
        ("embeddings/binary", "embeddings/bits", "publish.exports[1]: must be "),
    ],
)
def test_a_mistake_is_an_error_with_its_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], right: str, wrong: str, key: str
):
    assert text.count(right) == 1
    line = text[: text.index(right)].count("\n") + 1
    (tmp_path / "all.yaml").write_text(text.replace(right, wrong))
    assert main(["train", str(tmp_path / "all.yaml"), "--dry-run"]) == 2
    assert f"all.yaml:{line}: {key}" in capsys.readouterr().err
