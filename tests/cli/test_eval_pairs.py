import gzip
import json
import random

import pytest
from words import WORDS

from fmicl_text.cli import main
from fmicl_text.evaluation.registry import evaluation


@pytest.fixture
def pairs(tmp_path):
    draw = random.Random(0)
    lines = [
        f"{' '.join(draw.choices(WORDS, k=5))},{' '.join(draw.choices(WORDS, k=5))},{draw.randint(0, 5)},{index % 2}"
        for index in range(40)
    ]
    path = tmp_path / "[mine].csv"
    path.write_text("sentence1,sentence2,score,label\n" + "\n".join(lines))
    return path


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main(["eval", "pairs", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("options", "headings"),
    [
        ((), ("Spearman (%)", "Pearson (%)", "Kendall tau-b (%)")),
        (("--label", "label"), ("ROC AUC (%)", "average precision (%)", "best F1 (%)", "threshold of the best F1")),
    ],
)
def test_the_table_has_every_figure_of_the_json(run, tiny_encoder_path, pairs, options, headings):
    code, table, _ = run(tiny_encoder_path, pairs, *options)
    document = json.loads(run(tiny_encoder_path, pairs, *options, "--json")[1])
    assert code == 0
    assert "on [mine].csv" in table
    for heading, score in zip(headings, document["scores"], strict=True):
        digits = ".2f" if score["unit"] == "%" else ".4g"
        low, high = (f"{bound:{digits}}" for bound in score["ci95"])
        row = next(line for line in table.splitlines() if f" {heading} " in line)
        assert f" {score['value']:{digits}} " in row and f" {low} to {high} " in row and " 40 " in row


def test_other_columns(run, tiny_encoder_path, pairs):
    turned = run(tiny_encoder_path, pairs, "--sentences", "sentence2", "sentence1", "--score", "score", "--json")[1]
    straight = run(tiny_encoder_path, pairs, "--json")[1]
    assert json.loads(turned)["scores"] == json.loads(straight)["scores"]


def test_the_result_is_written_and_not_overwritten_unasked(run, tiny_encoder_path, pairs, tmp_path):
    printed = run(tiny_encoder_path, pairs, "--output", tmp_path / "out", "--json")[1]
    (file,) = (path for path in (tmp_path / "out").iterdir() if ".items." not in path.name)
    assert file.name.startswith("pairs-mine-")
    assert json.loads(file.read_text()) == json.loads(printed)
    code, _, err = run(tiny_encoder_path, pairs, "--output", tmp_path / "out")
    assert (code, "--overwrite replaces it" in err) == (2, True)
    assert run(tiny_encoder_path, pairs, "--output", tmp_path / "out", "--overwrite")[0] == 0


def test_wrong_input_ends_in_two_and_sentences(run, tiny_encoder_path, pairs):
    pairs.write_text(pairs.read_text() + "\na,,1,1\n")
    code, out, err = run(tiny_encoder_path, pairs)
    assert (code, out) == (2, "")
    assert f"error: {pairs}, line 42: column \"sentence2\" must be text, found ''" in err
    assert run(tiny_encoder_path, pairs.with_name("none.csv"))[0] == 2
    assert run(pairs.with_name("no-model"), pairs)[0] == 2


def test_several_models_and_the_file_last(run, tiny_encoder_path, pairs):
    code, out, _ = run(tiny_encoder_path, tiny_encoder_path, pairs, "--json")
    assert code == 0 and len(json.loads(out)) == 2
    code, _, err = run(pairs, tiny_encoder_path)
    assert code == 2 and f"{pairs} is a file of pairs, which comes last: fmicl eval pairs MODEL... FILE" in err
    code, _, err = run(tiny_encoder_path, tiny_encoder_path)
    assert code == 2 and f"{tiny_encoder_path} is no file of pairs, which comes last" in err


def test_the_file_may_be_compressed(run, tiny_encoder_path, pairs):
    compressed = pairs.with_name("pairs.csv.gz")
    compressed.write_bytes(gzip.compress(pairs.read_bytes()))
    scores = [json.loads(run(tiny_encoder_path, file, "--json")[1])["scores"] for file in (pairs, compressed)]
    assert [score["value"] for score in scores[0]] == [score["value"] for score in scores[1]]
    assert evaluation(str(compressed)).kind == "pairs"


def test_scores_or_labels_not_both(tiny_encoder_path, pairs, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["eval", "pairs", str(tiny_encoder_path), str(pairs), "--score", "score", "--label", "label"])
    assert caught.value.code == 2
