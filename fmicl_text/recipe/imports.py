"""The Python files that a recipe names under ``imports:``, which register objectives, divergences and kernels."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from fmicl_text.errors import InputError


def run_imports(files: Sequence[str]) -> None:
    """Run Python files, each once in a process unless it has changed.

    Args:
        files: Paths from the current working directory.

    Raises:
        InputError: If there is no such file, or it fails; with its own line.
    """
    for file in files:
        path = Path(file).absolute()
        if not path.is_file():
            raise InputError(f"imports: {file}: no such file (paths start at {Path.cwd()})")
        content = path.read_bytes()
        name = f"fmicl_imports_{path.stem}_{hashlib.sha256(content).hexdigest()[:12]}"
        if name not in sys.modules:
            _run(file, path, name)


def _run(file: str, path: Path, name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickle looks for what the file defines
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        where = f"{file}:{line}" if line else file
        raise InputError(f"imports: {where}: {type(error).__name__}: {error}") from error
