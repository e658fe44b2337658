"""The revision that results keep: which state of a model's weights a number is of."""

from __future__ import annotations

import csv
import shutil

import pytest
from sentence_transformers import SentenceTransformer
from words import WORDS

from fmicl_text.data.section import Columns
from fmicl_text.evaluation import pairs, sts
from fmicl_text.evaluation.geometry import measure_geometry
from fmicl_text.evaluation.pair_sets import own_pair_set
from fmicl_text.evaluation.scored_model import model_revision, scored_model


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["sentence1", "sentence2", "score"])
        writer.writerows([a, b, i % 4] for i, (a, b) in enumerate(zip(WORDS, WORDS[3:], strict=False)))
    return str(path)


def by_pairs(model, file):
    return pairs.evaluate(model, file)


def by_sts(model, file):
    suite = sts.load_suite("stsb-dev")
    return sts.evaluate(model, suite, "sample:stsb")


def by_geometry(model, file):
    return measure_geometry(model, own_pair_set(file, Columns(anchor="sentence1", positive="sentence2")))


@pytest.mark.parametrize("measure", [by_pairs, by_sts, by_geometry])
def test_a_result_keeps_the_state_of_a_model_given_by_name(measure, tiny_encoder_path, tiny_encoder, file):
    named = measure(str(tiny_encoder_path), file).result
    assert named.revision == model_revision(str(tiny_encoder_path))
    loaded = measure(tiny_encoder, file).result
    assert (loaded.model, loaded.revision) == ("SentenceTransformer", None)


def test_the_revision_follows_the_weights_and_not_the_card(tiny_encoder_path, tiny_encoder, tmp_path):
    folder = tmp_path / "run" / "model"
    shutil.copytree(tiny_encoder_path, folder)
    first = model_revision(str(tmp_path / "run"))
    assert first == model_revision(str(tiny_encoder_path))
    (folder / "README.md").write_text("a card is no weight")
    assert model_revision(str(tmp_path / "run")) == first
    next(tiny_encoder.parameters()).data += 1e-3
    tiny_encoder.save_pretrained(str(folder), create_model_card=False)
    assert model_revision(str(tmp_path / "run")) != first


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "SENTENCE_TRANSFORMERS_HOME"])
def test_of_a_model_of_the_hub_it_is_the_commit_that_was_loaded(variable, tiny_encoder_path, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny_encoder_path, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    if variable == "HF_HUB_CACHE":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    else:
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    encoder, name, revision = scored_model("someone/tiny")
    assert isinstance(encoder, SentenceTransformer)
    assert (name, revision) == ("someone/tiny", commit)
