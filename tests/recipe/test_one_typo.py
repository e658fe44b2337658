"""One misspelt key is one problem, whatever hangs on it: every key of the shipped recipes, and those of each union."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fmicl_text.data.yaml_tree import Tree
from fmicl_text.errors import InputError
from fmicl_text.recipe.file import load_recipe, shipped_recipes
from fmicl_text.section import KeyPath

BLUR = {"blur": 0.2, "jitter": [0.1, 0.1, 0.1, 0.1]}
OF_IMAGES = {
    "name": "images",
    "model": {
        "scratch": {"type": "vit"},
        "image_size": 16,
        "projector": {"widths": [4, 4], "batch_norm": "all"},
        "predictor": {"widths": [4, 4], "batch_norm": "all"},
    },
    "data": {
        "train": "photos",
        "columns": {"anchor": "image", "group": "label"},
        "views": "augment",
        "augment": {**BLUR, "crop": [0.2, 1], "scale": [0.8, 1.2], "second": BLUR},
        "broken": "skip",
    },
    "loss": {"objective": "infonce", "momentum": {"start": 0.9, "schedule": "cosine"}, "factor": 0.8},
    "evaluate": {
        "during": {"name": "knn", "train": "a.csv", "test": "b.csv", "k": 3},
        "after": [{"name": "geometry", "images": "a.csv", "augment": BLUR, "rows": 5}],
    },
}
MIXTURE = {
    "name": "mixture",
    "model": {"base": "some/encoder", "prompts": {"query": "q: ", "document": "d: "}, "lora": {"r": 4, "merge": True}},
    "data": {
        "train": [
            {
                "name": "a",
                "train": "a.csv",
                "columns": {"anchor": "x", "positive": "y", "negatives": ["z"], "group": "g"},
                "weight": 1.0,
                "prompts": {"query": "u"},
                "loss": {"objective": "fmicl", "divergence": "tsallis", "order": 1.5, "sigma": 0.3},
                "heldout": 0.1,
            },
            {
                "train": "b.csv",
                "columns": {"anchor": "x", "positive": "y"},
                "weight": 2.0,
                "mine": {"num_negatives": 2, "range_min": 1},
            },
        ]
    },
    "loss": {
        "objective": "infonce",
        "queue": {"size": 8, "momentum": 0.9},
        "negatives": {"region": "ring", "outer": 0.5, "inner": 0.1, "anneal": {"schedule": "linear", "steps": 9}},
    },
    "evaluate": {
        "during": {"name": "heldout", "metric": "mrr@10"},
        "before": True,
        "after": [{"name": "pairs.csv", "label": "x"}, {"name": "mteb", "tasks": ["STS12"]}],
    },
    "publish": {"repo": "me/x", "license": "mit", "private": False, "language": ["en"]},
    "seeds": [1],
}
FREE = ("model", "scratch")
"""A section whose other keys are those of a library's configuration."""


def keys(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        if isinstance(key, str) and (path != FREE or key == "type"):
            yield (*path, key)
        yield from keys(inner, (*path, key))


def misspelt(value: Any, path: KeyPath) -> Any:
    """Return the value with a letter left out of the key at a path, or one too many in a short key."""
    first, *rest = path
    if rest:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        changed = [(key, misspelt(inner, tuple(rest)) if key == first else inner) for key, inner in items]
        return dict(changed) if isinstance(value, dict) else [inner for _, inner in changed]
    typo = first[:2] + first[3:] if len(first) > 3 else f"{first}x"
    return {typo if key == first else key: inner for key, inner in value.items()}


def cases() -> list[tuple[str, dict[str, Any], KeyPath]]:
    """Return each key of the recipes once, those of the loss once for each objective."""
    trees = {name: Tree(file).value for name, file in shipped_recipes().items()}
    found = {}
    for name, tree in {"images": OF_IMAGES, "mixture of all": MIXTURE, **trees}.items():
        for path in keys(tree):
            about = tree["loss"]["objective"] if path[0] == "loss" else isinstance(tree["data"]["train"], list)
            found.setdefault((path, about), (name, tree, path))
    return [*found.values()]


def test_the_recipes_are_right_without_typos(tmp_path: Path):
    for recipe in (OF_IMAGES, MIXTURE):
        (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
        load_recipe(tmp_path / "recipe.yaml")


def test_one_typo_is_one_problem(tmp_path: Path):
    file = tmp_path / "recipe.yaml"
    wrong = []
    for name, tree, path in cases():
        file.write_text(json.dumps(misspelt(tree, path)))
        with pytest.raises(InputError) as caught:
            load_recipe(file)
        if len(caught.value.problems) != 1:
            wrong.append((name, path, caught.value.problems))
    assert not wrong


@pytest.mark.parametrize(
    ("augment", "problem"),
    [
        ("jitter: [0.4]", "jitter: must have 4 items, got [0.4]"),
        ("jitter: [1, 1, 1, 0.1, 5]", "jitter: must have 4 items at most, got [1, 1, 1, 0.1, 5]"),
        ("crop: 0.2", "crop: must be a list, got 0.2"),
        ("second: {jitter: [0.1]}", "second.jitter: must have 4 items, got [0.1]"),
        ("second: {jiter: [0.1]}", 'second.jiter: unknown key (did you mean "jitter"?)'),
        ("second: {blur: 3}", "second.blur: must be less than or equal to 1, got 3"),
    ],
)
def test_a_range_with_too_few_numbers_is_one_problem(augment: str, problem: str, tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(json.dumps(OF_IMAGES))
    with pytest.raises(InputError) as caught:
        load_recipe(tmp_path / "recipe.yaml", [f"data.augment={{{augment}}}"])
    [found] = caught.value.problems
    assert found.endswith(f": data.augment.{problem}")
