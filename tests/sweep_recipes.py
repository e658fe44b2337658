"""A small recipe to sweep: pairs of short sentences, a tiny encoder, two files of scored pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

SENTENCES = [
    f"the {size} {animal} {verb} in the {place}"
    for size in ("big", "small", "old")
    for animal in ("dog", "cat", "horse")
    for verb in ("runs", "sleeps")
    for place in ("park", "house")
]


def write_sweep_recipe(folder: Path, encoder: Path) -> Path:
    """Write a recipe of four small steps, and its data."""
    rows = [{"question": s, "answer": s.replace("the", "a")} for s in SENTENCES]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rng = np.random.default_rng(0)
    scored = [
        {"sentence1": SENTENCES[a], "sentence2": SENTENCES[b], "score": float(a % 6 == b % 6) + rng.random()}
        for a, b in rng.integers(len(SENTENCES), size=(60, 2))
    ]
    (folder / "chooses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
    rows = [{"question": s.replace("the", "no"), "answer": s.replace("the", "a")} for s in SENTENCES]
    (folder / "judges.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "tiny",
        "model": {"base": str(encoder)},
        "data": {
            "train": str(folder / "pairs.jsonl"),
            "heldout": str(folder / "judges.jsonl"),
            "columns": {"anchor": "question", "positive": "answer"},
        },
        "loss": {"objective": "fmicl", "divergence": "tsallis", "order": 1.5},
        "train": {"per_device_train_batch_size": 12, "max_steps": 4, "learning_rate": 1e-3, "use_cpu": True},
        "evaluate": {
            "during": str(folder / "chooses.jsonl"),
            "every_steps": 4,
            "after": ["heldout"],
        },
        "seeds": [7],
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return path
