"""Weights in pickles, which can run code on the machine that loads them: how they are known, and made safe."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from fmicl_text.errors import InputError

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")
# What the libraries load weights from; other pickles, such as an optimizer's state, they leave alone.
_WEIGHTS = re.compile(r"(pytorch_model|adapter_model|model)(-\d+-of-\d+)?\.(bin|pt|pth)")


def files_of(folder: Path) -> list[str]:
    """Return the names of all files under a folder, relative to it."""
    return [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]


def refuse_pickles(name: str, place: str, files: Iterable[str]) -> None:
    """Raise an InputError if a folder of a model has weights in a pickle and none in safetensors, which come first.

    Args:
        name: What the model is called.
        place: Its folder, or its id on the Hub.
        files: The names of its files, relative to that.
    """
    paths = [PurePosixPath(file) for file in files]
    safe = {path.parent for path in paths if path.suffix == ".safetensors"}
    pickles = [str(path) for path in paths if _WEIGHTS.fullmatch(path.name) and path.parent not in safe]
    if pickles:
        raise InputError(
            f"the model {name!r} has its weights in a pickle ({', '.join(pickles)}), which can run code on the machine "
            f"that loads it; convert them, if you trust them, and take the folder that comes out:\n    {convert(place)}"
        )


def convert(place: str) -> str:
    """Return the command that saves a model (folder or Hub id) with its weights in safetensors to a folder."""
    safe = f"{place}-safetensors" if Path(place).is_dir() else f"{place.replace('/', '-')}-safetensors"
    code = (
        "from sentence_transformers import SentenceTransformer; "
        f"SentenceTransformer({json.dumps(place)}).save_pretrained({json.dumps(safe)})"
    )
    return f"python -c {shlex.quote(code)}"
