"""Check fmicl-text on a GPU: is it right there, does it train there, how fast is it, and what does a large batch cost.

    python eval/benchmarks/gpu_check.py
    python eval/benchmarks/gpu_check.py --parts objectives throughput --output gpu.json

It needs this repository, torch, transformers and sentence-transformers (6.0 or newer), but no network and no weights:
encoders come from a configuration, their tokenizer from a list of words. A part that needs more, such as accelerate,
datasets and pydantic for training, says what is missing and is left out; a folder on ``PYTHONPATH`` with these packages
will do (``pip install --target FOLDER``). All of it takes under seven minutes on an H100. Without a GPU the same code
runs at small sizes, which shows that it works and nothing else.

Every part has a time of its own and is printed and written when it ends, so that one that fails, or runs out of time,
takes nothing of the others. The exit status is 1 if a part failed or found something wrong.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from eval.benchmarks.gpu import machine  # noqa: E402  # the repository need not be installed

NO_SPEED = "Small sizes on a CPU: that all of it works is shown, and nothing of speed."
LIBRARIES = ("torch", "transformers", "sentence-transformers", "accelerate", "datasets", "pydantic", "triton")
TRAINING = ("transformers", "sentence_transformers", "accelerate", "datasets", "pydantic")


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        module: Its module in ``eval.benchmarks.gpu``, with ``run`` and ``shown``.
        seconds: Its time on a GPU.
        needs: What it imports beyond torch.
    """

    module: str
    seconds: float
    needs: tuple[str, ...] = ()


PARTS = {
    "objectives": Part("objectives", 70),
    "large batches": Part("large_batches", 80),
    "small batches": Part("small_batches", 30),
    "training": Part("training", 60, TRAINING),
    "throughput": Part("throughput", 110, TRAINING),
}
"""Name -> part, in their order; what needs least is first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, print and write what they find; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument(
        "--output", type=Path, help="JSON file, beside which goes a page; default eval/results/gpu_check_CARD.json"
    )
    args = parser.parse_args(arguments)
    device = machine.this_device()
    output = args.output or ROOT / "eval" / "results" / f"gpu_check_{_file_name(machine.name_of(device))}.json"
    document = check(device, args.parts, output)
    print(f"written to {output}", flush=True)
    return int(any("error" in part or part.get("wrong") for part in document["parts"].values()))


def check(device: torch.device, names: Sequence[str], output: Path) -> dict[str, Any]:
    """Run parts by name, and write the document after each of them.

    Other parts of it stay, if they are of this machine, of these versions and of this commit.

    Returns:
        The document: ``machine``, and in ``parts`` what each part found, with ``seconds``; ``error`` if it failed,
        ``left out`` if it lacks a library.
    """
    document: dict[str, Any] = {
        "command": "python eval/benchmarks/gpu_check.py",
        "machine": machine.described(device) | {"versions": _versions(), "commit": _commit()},
        "parts": {},
    }
    if output.is_file() and (before := json.loads(output.read_text()))["machine"] == document["machine"]:
        document["parts"] = before["parts"]
    print(", ".join(f"{key} {value}" for key, value in document["machine"].items()), flush=True)
    if device.type == "cpu":
        print(NO_SPEED, flush=True)
    for name in names:
        document["parts"][name] = found = run_part(PARTS[name], device)
        print(
            f"\n== {name}: {found.get('seconds', 0):.0f} s ({PARTS[name].seconds:.0f} s on a GPU at most)", flush=True
        )
        for line in _lines(PARTS[name], found):
            print(line, flush=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        output.with_suffix(".md").write_text(_page(document), encoding="utf-8")
    return document


def _page(document: dict[str, Any]) -> str:
    """Return a document in Markdown: the lines of each part."""
    machine_ = document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine_["versions"].items() if number)
    lines = [f"# fmicl-text on {machine_['name']}", "", f"`{document['command']}`", ""]
    commit = f", commit {machine_['commit']}" if machine_["commit"] else ""
    lines += [f"Python {machine_['python']}, {versions}{commit}.", ""]
    lines += [NO_SPEED, ""] if machine_["device"] == "cpu" else []
    for name, found in document["parts"].items():
        lines += [f"## {name.capitalize()}", "", *(f"- {line}" for line in _lines(PARTS[name], found)), ""]
    return "\n".join(lines[:-1]) + "\n"


def run_part(part: Part, device: torch.device) -> dict[str, Any]:
    """Run a part and return what it found, also if it fails on the way."""
    if missing := [name for name in part.needs if importlib.util.find_spec(name) is None]:
        return {"left out": f"needs {', '.join(missing)}, which this Python does not have"}
    machine.forget_compiled()
    budget = machine.Budget(part.seconds if device.type == "cuda" else float("inf"))
    found: dict[str, Any] = {}
    try:
        importlib.import_module(f"eval.benchmarks.gpu.{part.module}").run(device, budget, found)
    except machine.OverBudgetError as error:
        found["stopped"] = str(error)
    except Exception:
        found["error"] = traceback.format_exc()
    found["seconds"] = budget.spent()
    return found


def _lines(part: Part, found: dict[str, Any]) -> list[str]:
    """Return what a part found for a reader, what it is wrong about last."""
    lines = []
    if len(found) > 1:
        try:
            lines += importlib.import_module(f"eval.benchmarks.gpu.{part.module}").shown(found)
        except Exception:  # of a part that failed there may be anything
            lines += [json.dumps(found, indent=1)[:2000]]
    lines += [f"WRONG: {sentence}" for sentence in found.get("wrong", [])]
    return lines + [f"{key}: {found[key]}" for key in ("left out", "stopped", "error") if key in found]


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _commit() -> str | None:
    """Return the repository's commit; ``None`` where that is not known."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
