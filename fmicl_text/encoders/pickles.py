"""Weights in pickles, which can run code on the machine that loads them: recognised, refused, and converted."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from fmicl_text.errors import InputError

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")
# Files from which the libraries load weights; they do not read other pickles, such as an optimizer's state.
_WEIGHTS = re.compile(r"(pytorch_model|adapter_model|model)(-\d+-of-\d+)?\.(bin|pt|pth)")


def files_of(folder: Path) -> list[str]:
    """Return the names of all files under a folder, relative to it."""
    return [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]


def refuse_pickles(name: str, place: str, files: Iterable[str]) -> None:
    """Refuse a model that has weights in a pickle and not in safetensors too, which libraries prefer.

    Args:
        name: What the user calls the model.
        place: Its folder, or its id on the Hub.
        files: The names of its files, relative to that.

    Raises:
        InputError: With the command that converts them.
    """
    paths = [PurePosixPath(file) for file in files]
    safe = {path.parent for path in paths if path.suffix == ".safetensors"}
    pickles = [str(path) for path in paths if _WEIGHTS.fullmatch(path.name) and path.parent not in safe]
    if pickles:
        raise InputError(
            f"the model {name!r} has its weights in a pickle ({', '.join(pickles)}), which can run code on the machine "
            f"that loads it; if you trust it, convert it and use the new folder:\n    {convert(place)}"
        )


def convert(place: str) -> str:
    """Return the command that saves a model (folder or Hub id) with its weights in safetensors to a folder."""
    safe = f"{place}-safetensors" if Path(place).is_dir() else f"{place.replace('/', '-')}-safetensors"
    code = (
        "from sentence_transformers import SentenceTransformer; "
        f"SentenceTransformer({json.dumps(place)}).save_pretrained({json.dumps(safe)})"
    )
    return f"python -c {shlex.quote(code)}"
