"""Rows of one group are never each other's negatives: in a batch, among explicit negatives, and in a queue."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from fmicl_text import ContrastiveTrainer, InfoNCELoss
from fmicl_text.cli import main
from fmicl_text.losses.contrastive import ContrastiveLoss
from fmicl_text.losses.identities import IDENTITY, IdentityCollator
from fmicl_text.losses.papers.infonce import InfoNCE
from fmicl_text.losses.queue import MomentumQueue

pytestmark = pytest.mark.usefixtures("blank_pictures")

TEMPERATURE = 0.5


def collated(rows: list[dict]) -> dict:
    seen: list[list[str]] = []
    batch = IdentityCollator(lambda given: seen.append([*given[0]]) or {})(rows)
    return batch | {"seen": seen[0]}


def test_groups_are_further_identities_and_no_input():
    rows = [
        {"anchor": "a", "positive": "p", "negative_1": "n", "group": g, "group_negative_1": h} for g, h in ("xy", "yy")
    ]
    batch = collated(rows)
    assert batch["seen"] == ["anchor", "positive", "negative_1"]
    anchor, positive, negative = (batch[f"{name}_{IDENTITY}"] for name in batch["seen"])
    assert anchor.shape == (2, 2) and torch.equal(anchor[:, 1], positive[:, 1])
    assert anchor[0, 1] != anchor[1, 1] == negative[0, 1] == negative[1, 1]
    plain = collated([{name: row[name] for name in ("anchor", "positive", "negative_1", "group")} for row in rows])
    assert plain[f"negative_1_{IDENTITY}"].shape == (2,), "an explicit negative has no group unless it is given one"


def test_a_group_is_not_the_text_of_the_same_name():
    batch = collated(
        [{"anchor": "dog", "positive": "p", "group": "cat"}, {"anchor": "cat", "positive": "q", "group": "dog"}]
    )
    identities = torch.cat([batch[f"anchor_{IDENTITY}"], batch[f"positive_{IDENTITY}"][:, :1]], dim=1)
    assert len(identities.unique()) == 6


@pytest.mark.parametrize("missing", [None, math.nan])
def test_rows_without_a_group_are_not_of_one_group(missing: float | None):
    rows = [
        {"anchor": a, "positive": p, "group": g}
        for a, p, g in [("a", "p", missing), ("b", "q", missing), ("c", "r", "g")]
    ]
    batch = collated(rows)
    both = torch.cat([batch[f"anchor_{IDENTITY}"], batch[f"positive_{IDENTITY}"]], dim=1)  # (3, 4)
    assert not any(set(both[i].tolist()) & set(both[j].tolist()) for i in range(3) for j in range(i))


def reference(x, y, groups, extra=None, extra_groups=None):
    """InfoNCE in float64 over the pairs of different groups, one by one."""
    x, y = (torch.nn.functional.normalize(v.double(), dim=1) for v in (x, y))
    losses = []
    for i in range(len(x)):
        kept = [y[j] for j in range(len(y)) if j == i or groups[i] != groups[j]]
        if extra is not None:
            e = torch.nn.functional.normalize(extra.double(), dim=1)
            kept += [e[j] for j in range(len(e)) if extra_groups[j] != groups[i]]
        logits = torch.stack(kept) @ x[i] / TEMPERATURE
        losses.append(torch.logsumexp(logits, 0) - x[i] @ y[i] / TEMPERATURE)
    return torch.stack(losses).mean()


def ids(texts: list[int], groups: list[int]) -> torch.Tensor:
    return torch.stack([torch.tensor(texts), torch.tensor(groups) + 1000], dim=1)  # (B, 2)


@pytest.mark.parametrize("explicit", [False, True])
def test_the_loss_over_pairs_of_different_groups(explicit: bool):
    torch.manual_seed(0)
    x, y, extra = (torch.randn(6, 8) for _ in range(3))
    groups, of_extra = [0, 0, 1, 2, 2, 3], [0, 1, 2, 3, 4, 0]
    columns = [ids(list(range(6)), groups), ids(list(range(10, 16)), groups)]
    vectors = [x, y]
    if explicit:
        vectors.append(extra)
        columns.append(ids(list(range(20, 26)), of_extra))
    loss = ContrastiveLoss(InfoNCE(temperature=TEMPERATURE))
    found = sum(loss(vectors, identities=columns).values())
    expected = reference(x, y, groups, *((extra, of_extra) if explicit else ()))
    constant = found - expected
    assert constant.item() == pytest.approx(0.0, abs=1e-5)


def test_a_queue_knows_the_groups_of_its_rows():
    queue = MomentumQueue(torch.nn.Linear(4, 4), None, size=8, momentum=0.9, dimensions=4)
    queue.push(
        [torch.eye(4), torch.eye(4)], torch.cat([ids([1, 2, 3, 4], [0, 0, 1, 1]), ids([5, 6, 7, 8], [0, 0, 1, 1])], 1)
    )
    vectors, texts = queue.rows(like=torch.eye(4))
    assert vectors.shape == (8, 4) and texts.shape == (8, 4)
    assert (
        texts[4:].tolist()
        == texts[:4].tolist()
        == [[i, 1000 + g, i + 4, 1000 + g] for i, g in zip([1, 2, 3, 4], [0, 0, 1, 1], strict=True)]
    )
    again = MomentumQueue(torch.nn.Linear(4, 4), None, size=8, momentum=0.9, dimensions=4)
    again.load_waiting(queue.waiting())
    assert torch.equal(again.rows(like=torch.eye(4))[1], texts)
    queue.push([torch.eye(4)[:1]], torch.tensor([[9, 10]]))  # rows without groups
    assert queue.rows(like=torch.eye(4))[1][0].tolist() == [9, 10, 10, 10]


@pytest.mark.parametrize("settings", [{}, {"queue": 8}, {"mini_batch_size": 2}])
def test_training_with_groups(tiny_encoder, tmp_path: Path, settings: dict):
    """All rows are of one group: there is no negative, so InfoNCE without any is zero."""
    from sentence_transformers import SentenceTransformerTrainingArguments

    rows = {"anchor": ["the dog", "a cat", "big", "the man"], "positive": ["dog runs", "cat eats", "small", "woman"]}
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=4, report_to="none", logging_steps=1, use_cpu=True
    )
    losses = {}
    some: list[Any] = ["x", None, None, None]
    for name, groups in (("one", [7] * 4), ("all", [1, 2, 3, 4]), ("none", some), ("numbers", [3, None, None, None])):
        data = Dataset.from_dict(rows | {"group": groups})
        loss = InfoNCELoss(tiny_encoder, temperature=0.1, **settings)
        trainer = ContrastiveTrainer(model=tiny_encoder, args=arguments, train_dataset=data, loss=loss)
        trainer.train()
        losses[name] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses["one"] == pytest.approx([0.0, 0.0], abs=1e-5) and min(losses["all"]) > 0.01
    assert min(losses["none"]) > 0.01 and min(losses["numbers"]) > 0.01


def test_labelled_texts_train_and_are_measured(
    tiny_encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    nouns, verbs = ("dog", "cat", "horse", "man"), ("runs", "sleeps", "eats", "sings", "plays", "rides")
    rows = [{"text": f"the {n} {v} {i}", "label": n} for n in nouns for v in verbs for i in range(4)]
    Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "labels",
        "model": {"base": str(tiny_encoder_path)},
        "data": {
            "train": "texts.jsonl",
            "columns": {"anchor": "text", "group": "label"},
            "views": "group",
            "heldout": 0.2,
        },
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 16, "max_steps": 2},
        "evaluate": {"after": ["heldout"]},
    }
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["train", "r.yaml", "--output", "run"]) == 0
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["data"]["training"]["columns"] == ["anchor", "positive", "group"]
    assert manifest["data"]["training"]["rows"] + manifest["data"]["held-out"]["rows"] == 96
    for extra in ({"mine": {"num_negatives": 2, "relative_margin": None}}, {"views": "columns"}):
        data = recipe["data"] | extra
        if "views" in extra:
            pairs = [{"text": row["text"], "pair": row["text"] + " fast", "label": row["label"]} for row in rows]
            Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
            data = data | {"columns": {"anchor": "text", "positive": "pair", "group": "label"}, "streaming": True}
            del data["heldout"]
        Path("r.yaml").write_text(json.dumps(recipe | {"data": data, "evaluate": {"during": None}}))
        assert main(["train", "r.yaml", "--output", "run", "--overwrite"]) == 0
