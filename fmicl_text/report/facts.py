"""What the page says about how a run was made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fmicl_text.report.runs import Run

Rows = list[tuple[str, list[str]]]
"""Heading of a row, and a cell for each run."""


def facts(run: Run) -> dict[str, str]:
    """Return what was run; settings without a value are left out."""
    model, data, train = (run.section(key) for key in ("model", "data", "train"))
    manifests = [seed.manifest for seed in run.seeds.values() if seed.manifest is not None]
    facts = {
        "state": _joined(dict.fromkeys(manifest.state for manifest in manifests)) or "as it was before training",
        "encoder": model.get("base") or _plain(model.get("scratch", "")),
        "image size": model.get("image_size"),
        "pooling": model.get("pooling"),
        "prompts": _plain(model.get("prompts", "")),
        "tokens": model.get("max_seq_length"),
        "head": model.get("head"),
        "projector": _plain(model.get("projector", "")),
        "predictor": _plain(model.get("predictor", "")),
        "augmentation": _plain(data.get("augment", "")),
        "data": _sources(data.get("train")),
        "rows": data.get("rows"),
        "views": data.get("views"),
        "loss": _plain(run.section("loss")),
        "training": _plain(manifests[0].in_effect(train) if manifests else train),
    }
    if manifests:
        facts |= {
            "steps": manifests[0].steps,
            "seeds": _joined(run.seeds),
            "best on the development set": _joined(m.best.written for m in manifests if m.best is not None),
            "measured": "; ".join(dict.fromkeys(_plain(m.measured) for m in manifests)),
            "weights": "; ".join(dict.fromkeys(filter(None, (m.weights(train) for m in manifests)))),
            "device": _joined([manifests[0].device, manifests[0].precision]),
            "minutes": _joined(f"{m.minutes:.1f}" for m in manifests if m.minutes is not None),
        }
    return {name: str(value) for name, value in facts.items() if value not in (None, "", "none")}


def _sources(train: Any) -> Any:
    """Write the sources of a mixture one after the other."""
    return "; ".join(map(_plain, train)) if isinstance(train, list) else train


def machine(run: Run) -> dict[str, str]:
    """Return the machine and the library versions of a run."""
    manifest = run.first.manifest
    if manifest is None:
        return {}
    others = manifest.model_extra or {}
    facts = {"machine": others.get("platform"), "threads": others.get("threads"), **manifest.versions}
    return {name: str(value) for name, value in facts.items() if value is not None}


def side_by_side(columns: list[dict[str, str]]) -> Rows:
    """Return the facts of each run as rows of one table."""
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, [column.get(name, "") for column in columns]) for name in names]


def _plain(section: Any) -> str:
    """Write a mapping as ``key value, key value``."""
    if not isinstance(section, dict):
        return str(section)
    return ", ".join(f"{key} {v if isinstance(v, str) else json.dumps(v)}" for key, v in section.items())


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values if value is not None)
