"""``fmicl env``: what a report of a problem should say of the machine. It reads no token and prints no variable."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from fmicl_text.encoders.revisions import models_cache
from fmicl_text.files import user_path
from fmicl_text.versions import versions

_EXTRAS = ("mteb", "peft", "optuna", "kornia", "pytorch_optimizer", "optimum-intel")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def run(args: argparse.Namespace) -> int:
    """Print versions, device and caches."""
    described = environment()
    if args.json:
        print(json.dumps(described, indent=2))
        return 0
    caches = {name: f"{cache['path']}, {cache['bytes'] / 1e6:,.1f} MB" for name, cache in described["caches"].items()}
    chapters = {
        "versions": described["versions"],
        "machine": {"platform": described["platform"], **described["device"], "number formats": described["formats"]},
        "caches": caches,
    }
    width = max(len(name) for chapter in chapters.values() for name in chapter)
    for title, chapter in chapters.items():
        print(title)
        for name, value in chapter.items():
            said = ", ".join(value) if isinstance(value, list) else value
            print(f"  {name:{width}}  {'not installed' if said is None else said}")
    return 0


def environment() -> dict[str, Any]:
    """Return versions, platform, device, the number formats it computes in, and caches with their bytes; JSON-ready."""
    device, formats = _device()
    return {
        "versions": {**versions(), **{name: _version(name) for name in _EXTRAS}},
        "platform": platform.platform(),
        "device": device,
        "formats": formats,
        "caches": {name: {"path": _at_home(path), "bytes": _size(path)} for name, path in cache_folders().items()},
    }


def cache_folders() -> dict[str, Path]:
    """Return where the libraries keep what they download and compute, by their documented environment variables."""
    from huggingface_hub import constants  # datasets and mteb have such constants too, and take seconds to import

    return {
        "models": user_path(models_cache() or constants.HF_HUB_CACHE),
        "rows": user_path(os.environ.get("HF_DATASETS_CACHE") or str(Path(constants.HF_HOME) / "datasets")),
        "mteb": user_path(os.environ.get("MTEB_CACHE") or "~/.cache/mteb"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device() -> tuple[dict[str, str | int], list[str]]:
    """Return the device that training would use, and the types in which it multiplies without emulation."""
    import torch

    from fmicl_text.evaluation.embeddings import cpu_has_bfloat16

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        kind: dict[str, str | int] = {"device": "cpu", "instructions": torch.backends.cpu.get_cpu_capability()}
        return kind | {"threads": torch.get_num_threads()}, ["float32", *["bfloat16"] * cpu_has_bfloat16()]
    kind = {"device": accelerator.type, "devices": torch.accelerator.device_count()}
    if accelerator.type != "cuda":
        return kind, ["float32"]
    memory = torch.cuda.get_device_properties(0).total_memory
    kind |= {
        "name": torch.cuda.get_device_name(0),
        "memory": f"{memory / 2**30:.1f} GiB",
        "CUDA": str(torch.version.cuda),
    }
    of_half = ["bfloat16"] * torch.cuda.is_bf16_supported(including_emulation=False)
    return kind, ["float32", "float16", *of_half]


def _size(folder: Path) -> int:
    """Return the bytes of the files in a folder; a link has none, as the file it leads to is counted where it lies."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += 0 if os.path.islink(file := os.path.join(place, name)) else os.path.getsize(file)
            except OSError:  # deleted meanwhile
                continue
    return total


def _at_home(path: Path) -> str:
    """Return a path with ``~`` for the home folder, so that a report does not have to name the user."""
    home = Path.home()
    return str(Path("~") / path.relative_to(home)) if path.is_relative_to(home) else str(path)
