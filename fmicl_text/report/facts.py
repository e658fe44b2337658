"""What the page says of how a run was made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fmicl_text.report.runs import Run

Rows = list[tuple[str, list[str]]]
"""Heading of a row, and a cell for each run."""


def facts(run: Run) -> dict[str, str]:
    """Return what was run; what has no value is left out."""
    manifest, model, data, train = run.first.manifest, *(section(run, key) for key in ("model", "data", "train"))
    facts = {
        "state": ", ".join(dict.fromkeys(str(seed.manifest.get("state", "")) for seed in run.seeds.values())),
        "encoder": model.get("base"),
        "pooling, tokens, head": _joined(model.get(key) for key in ("pooling", "max_seq_length", "head")),
        "data": data.get("train"),
        "rows": data.get("rows"),
        "views": data.get("views"),
        "loss": _plain(section(run, "loss")),
        "training": _plain(train),
        "steps": manifest.get("steps"),
        "seeds": _joined(run.seeds),
        "best STS-B dev": _joined(_best(seed.manifest.get("best")) for seed in run.seeds.values()),
        "device": _joined([manifest.get("device"), manifest.get("precision")]),
        "minutes": _joined(f"{seed.minutes:.1f}" for seed in run.seeds.values() if seed.minutes is not None),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def machine(run: Run) -> dict[str, str]:
    """Return with what a run was made, and on what."""
    manifest = run.first.manifest
    versions = manifest.get("versions")
    facts = {
        "machine": manifest.get("platform"),
        "threads": manifest.get("threads"),
        **(versions if isinstance(versions, dict) else {}),
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def section(run: Run, name: str) -> dict[str, Any]:
    """Return a section of the recipe, empty if it has none."""
    section = run.recipe.get(name)
    return section if isinstance(section, dict) else {}


def side_by_side(columns: list[dict[str, str]]) -> Rows:
    """Return rows of what is said of each run."""
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, [column.get(name, "") for column in columns]) for name in names]


def _best(best: Any) -> str | None:
    if not isinstance(best, dict) or "stsb-dev spearman" not in best:
        return None
    return f"{best['stsb-dev spearman']:.2f} at step {best.get('step')}"


def _plain(section: Any) -> str:
    """Write a mapping as ``key value, key value``."""
    if not isinstance(section, dict):
        return str(section)
    return ", ".join(f"{key} {v if isinstance(v, str) else json.dumps(v)}" for key, v in section.items())


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values if value is not None)
