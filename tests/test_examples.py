"""The examples run, at a small size, and what they print is real."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from fmicl_text.data.samples import INSTALL, minilm_path, stsb_rows, wikipedia_rows
from fmicl_text.errors import InputError

EXAMPLES = Path(__file__).parents[1] / "examples"
SIZES = {"EXAMPLE_ROWS": "60", "EXAMPLE_SEEDS": "2", "EXAMPLE_STEPS": "3", "EXAMPLE_EPOCHS": "1"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run an example in an empty folder, and return what it prints."""
    try:
        minilm_path(), stsb_rows("dev"), wikipedia_rows("train")
    except InputError:
        pytest.skip(f"the sample data is not installed: {INSTALL}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name, value in SIZES.items():
        monkeypatch.setenv(name, value)

    def run(name: str) -> str:
        runpy.run_path(str(EXAMPLES / f"{name}.py"))
        return capsys.readouterr().out

    return run


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def test_each_is_a_notebook_with_a_test():
    """In jupytext's percent format: a title in the first cell, text in comments, and every cell is begun by a mark."""
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    names = {file.stem for file in EXAMPLES.glob("*.py")}
    assert names and names <= tests
    for name in names:
        first, *cells = re.split(r"^# %%", (EXAMPLES / f"{name}.py").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert first == "" and cells[0].startswith(" [markdown]\n# # "), name
        for cell in cells:
            mark, _, body = cell.partition("\n")
            assert mark in ("", " [markdown]")
            is_text = all(line.startswith("#") for line in body.splitlines() if line)
            assert is_text == (mark != ""), f"{name}: {body}"


@pytest.mark.slow
def test_own_pairs(run):
    said = run("own_pairs")
    assert "name: pairs\n" in said and "heldout: 0.1" in said
    before, after, low, high = numbers(next(line for line in said.splitlines() if "MRR" in line))
    assert 0 < before <= 100 and low <= after <= high
    found = re.search(r"found first: (\d+) of 20 before, (\d+) after", said)
    assert found and 0 < int(found[1]) <= 20 and 0 < int(found[2]) <= 20


@pytest.mark.slow
def test_compare_objectives(run):
    """f-MICL with KL and a shift for each anchor is InfoNCE, whose difference from itself is nothing."""
    said = run("compare_objectives")
    of_kl = [line for line in said.splitlines() if line.startswith("fmicl-kl minus infonce")]
    assert len(of_kl) == 2 and all("inside the noise" in line for line in of_kl)
    assert all(abs(numbers(line)[0]) < 0.2 for line in of_kl)
    of_pearson = next(line for line in said.splitlines() if line.startswith("fmicl-pearson minus infonce, MRR"))
    assert numbers(of_pearson)[0] != 0
    assert Path(said.splitlines()[-1]).read_text().startswith("<!DOCTYPE html>")


@pytest.mark.slow
def test_geometry(run):
    said = run("geometry")
    alignment, uniformity = (
        numbers(next(line for line in said.splitlines() if line.startswith(name)))
        for name in ("alignment", "uniformity")
    )
    assert alignment[0] < min(alignment[1:]) and uniformity[0] < min(uniformity[1:]), "MiniLM has learned the most"
    pictures = [Path(line) for line in said.splitlines() if line.endswith(".png")]
    assert len(pictures) == 3 and all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


@pytest.mark.slow
def test_images(run):
    pytest.importorskip("kornia", reason="the extra vision is not installed")
    said = run("images")
    nearest = numbers(next(line for line in said.splitlines() if line.startswith("of the five nearest")))[0]
    assert 30 < nearest <= 100, "ten classes: chance would be 10"
    assert Path("runs/images/neighbours.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_from_multiple_negatives_ranking(run):
    said = run("from_multiple_negatives_ranking")
    assert "negative" in said
    lines = [line for line in said.splitlines() if "at 32 dimensions" in line]
    assert len(lines) == 2 and all(0 < number <= 1 for line in lines for number in numbers(line))
    assert Path("runs/from-mnrl/model/model.safetensors").is_file()
