"""A run on images is published like any other, and its card shows how images are encoded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer
from test_image_encoder import RESNET
from transformers import AutoImageProcessor, AutoModel

from fmicl_text.cli import main

pytest.importorskip("kornia")


def test_the_card_and_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    recipe = {
        "name": "digits",
        "model": {"scratch": RESNET, "image_size": 32, "projector": {"widths": [8]}},
        "data": {"train": "sample:digits", "columns": {"anchor": "image"}, "views": "augment", "rows": 40},
        "loss": {"objective": "infonce"},
        "train": {"per_device_train_batch_size": 10, "max_steps": 2},
        "evaluate": {
            "during": None,
            "after": [{"name": "knn", "train": "sample:digits", "rows": 50, "k": 3, "baselines": True}],
        },
    }
    Path("recipe.yaml").write_text(json.dumps(recipe))
    assert main(["train", "recipe.yaml", "--output", "run", "-q"]) == 0
    assert main(["publish", "run", "me/digits", "--license", "mit", "--dry-run"]) == 0
    folder = tmp_path / "run-publish"
    card = (folder / "README.md").read_text()
    assert "maps an image to a vector of 16 numbers" in card and "from PIL import Image" in card
    assert 'model.encode([Image.open("one.png")' in card and 'AutoModel.from_pretrained("me/digits")' in card
    assert "two random changes of an image" in card and "scaled to 32 by 32 pixels" in card
    assert "trained from a new resnet" in card and "image-feature-extraction" in card
    assert "kNN" in card and "sentence-similarity" not in card and not (folder / "assets").exists()
    assert "| kNN, raw pixels |" in card and "seed 42, and of what it is compared with, with 95%" in card
    metadata = ModelCard(card).data
    assert [result.dataset_name for result in metadata.eval_results] == ["knn kNN"], "no baseline is a score of it"
    assert "It has learned from its training data, biases included." in card and "texts" not in card
    assert AutoModel.from_pretrained(folder) and AutoImageProcessor.from_pretrained(folder)
    assert SentenceTransformer(str(folder)).get_embedding_dimension() == 16
